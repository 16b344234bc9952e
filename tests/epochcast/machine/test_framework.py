"""What a framework tells of itself, with stand-ins for frameworks that lack things, and one that is real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from epochcast.machine import framework
from epochcast.machine.framework import framework_details
from epochcast.paths import CODE_ROOT


def stand_in(monkeypatch, name, **attributes):
    module = ModuleType(name)
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, name, module)


def test_a_framework_that_is_not_imported_is_not_imported_now(monkeypatch):
    for name in ("tensorflow", "jax", "keras"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for backend in ("tensorflow", "jax", "torch"):
        details = framework_details(backend)
        assert details["backend"] == backend
        assert details["keras_version"] is None
    assert not {"tensorflow", "jax", "keras", "torch"}.intersection(sys.modules)


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_what_a_version_of_a_framework_does_not_have_is_unknown(monkeypatch, backend):
    stand_in(monkeypatch, backend, __version__="99.0")
    details = json.loads(json.dumps(framework_details(backend)))
    assert details.pop(f"{backend}_version") == "99.0"
    assert details.pop("backend") == backend
    known = {name for name, value in details.items() if value not in (None, [])}
    loaded_before = {"numpy_version", "keras_version", "dtype_policy", "jaxlib_version"}  # by other tests
    assert known <= loaded_before


def test_a_tensorflow_on_a_gpu_tells_its_cuda_its_devices_and_its_threads(monkeypatch):
    gpu = SimpleNamespace(name="/physical_device:GPU:0")
    details_of = {gpu.name: {"device_name": "NVIDIA H200", "compute_capability": (9, 0)}}
    config = SimpleNamespace(
        list_physical_devices=lambda kind: [gpu],
        get_visible_devices=lambda: [gpu],
        experimental=SimpleNamespace(
            get_device_details=lambda device: details_of[device.name],
            tensor_float_32_execution_enabled=lambda: False,
        ),
        optimizer=SimpleNamespace(get_jit=lambda: "autoclustering"),
        threading=SimpleNamespace(
            get_intra_op_parallelism_threads=lambda: 8, get_inter_op_parallelism_threads=lambda: 2
        ),
    )
    build = {"cuda_version": "12.5.1", "cudnn_version": "9", "is_cuda_build": True}
    sysconfig = SimpleNamespace(get_build_info=lambda: build)
    test = SimpleNamespace(is_built_with_cuda=lambda: True)
    stand_in(monkeypatch, "tensorflow", __version__="2.21.0", config=config, sysconfig=sysconfig, test=test)
    details = json.loads(json.dumps(framework_details("tensorflow")))
    assert details["gpus"] == [{"device_name": "NVIDIA H200", "compute_capability": "(9, 0)"}]
    assert details["visible_devices"] == ["/physical_device:GPU:0"]
    assert (details["cuda_build_version"], details["cudnn_build_version"]) == ("12.5.1", "9")
    assert (details["tf32_allowed"], details["optimizer_jit"]) == (False, "autoclustering")
    assert (details["intra_op_threads"], details["inter_op_threads"]) == (8, 2)


LIBRARIES = """
#include <stddef.h>
size_t cudnnGetVersion(void) { return VERSION; }
int cudaRuntimeGetVersion(int *version) { *version = 12090; return 0; }
"""
LOAD = """
import ctypes, json, sys
from epochcast.machine.framework import framework_details
before = framework_details("torch")
for path in sys.argv[1:]:
    ctypes.CDLL(path)
print(json.dumps([before, framework_details("torch")]))
"""


@pytest.mark.parametrize(("number", "version"), [(91002, "9.10.2"), (90100, "9.1.0"), (8907, "8.9.7")])
def test_cuda_and_cudnn_are_those_that_the_process_has_loaded(tmp_path, number, version):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler to build stand-ins for the CUDA libraries with")
    (tmp_path / "libraries.c").write_text(LIBRARIES.replace("VERSION", str(number)))
    files = [str(tmp_path / name) for name in ("libcudnn.so.9", "libcudart.so.12")]
    for file in files:
        subprocess.run([compiler, "-shared", "-fPIC", "-o", file, str(tmp_path / "libraries.c")], check=True)
    environ = {**os.environ, "PYTHONPATH": str(CODE_ROOT)}
    told = subprocess.run([sys.executable, "-c", LOAD, *files], env=environ, capture_output=True, check=True, text=True)
    before, after = json.loads(told.stdout)
    assert before["cudnn_version"] is before["cuda_runtime_version"] is None
    assert (after["cudnn_version"], after["cuda_runtime_version"]) == (version, "12.9")


def test_without_the_kernel_s_list_of_libraries_their_versions_are_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(framework, "MAPS", tmp_path / "missing")
    details = framework_details("tensorflow")
    assert details["cudnn_version"] is details["cuda_runtime_version"] is None
