"""What PyTorch says of an NVIDIA GPU, by a double of `torch.cuda`: these tests need neither PyTorch nor a GPU."""

from __future__ import annotations

import json
import os
import sys
import time
from types import ModuleType, SimpleNamespace

import pytest

from epochcast.collect.run.devices import choose_devices, resolve_device
from epochcast.collect.run.measure import is_out_of_memory
from epochcast.machine.device_memory import peak_memory_bytes
from epochcast.machine.framework import framework_details, torch_tf32
from epochcast.machine.host.host import cpu_name


class Switch:
    """A setting of TF32 that raises, as PyTorch's older ones do where the newer were used."""

    def __init__(self, allow_tf32, fp32_precision="none"):
        self._allow_tf32, self.fp32_precision = allow_tf32, fp32_precision
        self.conv = SimpleNamespace(fp32_precision=fp32_precision)
        self.benchmark = False

    @property
    def allow_tf32(self):
        if self._allow_tf32 is None:
            raise RuntimeError("you have used a mix of the legacy and new APIs to set the TF32 status")
        return self._allow_tf32


def double(monkeypatch, device="cuda", *, convolutions=True, products=False, capability=(9, 0), **newer):
    """Put a `torch` with one GPU, and the Keras that trains on `device` by it, in place of the real ones."""
    cuda = SimpleNamespace(
        device_count=lambda: 1,
        get_device_name=lambda device: "NVIDIA H100 80GB HBM3",
        get_device_capability=lambda device: capability,
        is_initialized=lambda: device == "cuda",
        max_memory_allocated=lambda: 3 << 30,
        synchronize=lambda: time.sleep(0.05),
    )
    torch = ModuleType("torch")
    torch.__version__ = "2.13.0+cu130"
    torch.cuda, torch.version = cuda, SimpleNamespace(cuda="13.0")
    torch.get_num_threads, torch.get_num_interop_threads = (lambda: 8), (lambda: 4)
    matmul = Switch(products, newer.get("matmul", "none"))
    torch.backends = SimpleNamespace(
        cudnn=Switch(convolutions, newer.get("conv", "none")), cuda=SimpleNamespace(matmul=matmul)
    )
    keras = ModuleType("keras")
    keras.ops = SimpleNamespace(zeros=lambda shape: SimpleNamespace(device=SimpleNamespace(type=device)))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "keras", keras)
    return torch


def test_a_gpu_is_named_with_its_memory_its_versions_and_its_settings(monkeypatch):
    double(monkeypatch)
    assert resolve_device("torch", "auto") == ("NVIDIA H100 80GB HBM3", True)
    assert peak_memory_bytes("torch") == 3 << 30
    details = json.loads(json.dumps(framework_details("torch")))
    assert (details["torch_version"], details["cuda_build_version"]) == ("2.13.0+cu130", "13.0")
    assert details["gpus"] == [{"device_name": "NVIDIA H100 80GB HBM3", "compute_capability": "(9, 0)"}]
    assert details["visible_devices"] == ["cuda:0"]
    assert (details["tf32_allowed"], details["tf32_allowed_in_products"]) == (True, False)
    assert (details["intra_op_threads"], details["inter_op_threads"]) == (8, 4)


def test_tf32_is_in_force_where_gpu_environment_and_convolutions_have_it(monkeypatch):
    for given in ({"capability": (7, 5)}, {"convolutions": False}):
        double(monkeypatch, **given)
        assert resolve_device("torch", "gpu")[1] is False
    double(monkeypatch)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert resolve_device("torch", "gpu")[1] is False


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"convolutions": True, "products": False}, (True, False)),
        ({"convolutions": False, "products": True}, (False, True)),
        ({"convolutions": None, "conv": "tf32", "products": None, "matmul": "ieee"}, (True, False)),
        ({"convolutions": None, "conv": "ieee", "products": None, "matmul": "tf32"}, (False, True)),
    ],
)
def test_tf32_is_read_by_the_older_switches_and_by_the_newer(monkeypatch, settings, expected):
    found = torch_tf32(double(monkeypatch, **settings))
    assert (found["convolutions"], found["products"]) == expected


@pytest.mark.parametrize("device", ["mps", "xpu"])
def test_a_gpu_that_is_not_measured_is_refused_and_never_called_the_processor(monkeypatch, device):
    double(monkeypatch, device)
    with pytest.raises(ValueError, match=f"torch would train on {device}, which is not measured.* Use --device cpu"):
        resolve_device("torch", "auto")


def test_on_a_processor_keras_is_given_no_gpu_and_no_memory_is_known(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", "KERAS_TORCH_DEVICE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")  # put back afterwards
    choose_devices("cpu")
    assert os.environ["KERAS_TORCH_DEVICE"] == "cpu"
    double(monkeypatch, "cpu")
    assert resolve_device("torch", "cpu") == (cpu_name(), False)
    assert peak_memory_bytes("torch") is None


@pytest.mark.parametrize(
    ("device", "least_sec", "most_sec"), [("cuda", 0.05, 60.0), ("cpu", 0.0, 0.05)], ids=["gpu", "processor"]
)
def test_the_clock_stops_after_the_gpu_has_finished(monkeypatch, device, least_sec, most_sec):
    from epochcast.timing import EpochTimer

    with monkeypatch.context() as patch:
        double(patch, device)
        patch.setattr("epochcast.timing.keras.backend.backend", lambda: "torch")
        timer = EpochTimer()
        timer.on_train_begin()
        timer.on_epoch_begin(0)
        timer.on_epoch_end(0)
        assert least_sec <= timer.epoch_times_sec[0] < most_sec
        start, end = timer.epoch_edges_sec[0]
        assert end - start >= least_sec


@pytest.mark.parametrize(
    "message",
    [
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.25 GiB",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:125] err == 0. DefaultCPUAllocator: can't allocate memory: you",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you tried to",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "OSError: [Errno 12] Cannot allocate memory",
    ],
)
def test_torch_s_words_for_memory_that_ran_out_are_known(message):
    assert is_out_of_memory(message)


@pytest.mark.parametrize(
    "message",
    [
        "RuntimeError: CUDA error: device-side assert triggered",
        "RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
        "ValueError: `steps_per_execution` must be 1 with the PyTorch backend.",
    ],
)
def test_another_failure_of_torch_is_not_taken_for_it(message):
    assert not is_out_of_memory(message)
