"""Measuring under PyTorch, on a processor and with TensorFlow blocked; `make test-torch` runs these."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from statistics import fmean

import pytest

from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import run
from epochcast.paths import CODE_ROOT
from epochcast.schema import FailureRecord, RunConfig, RunRecord
from epochcast.storage.tables import read_table
from epochcast.workload.shape import count_params
from tests.support.fits.children import differing, left_by
from tests.support.light_child import light_spec
from tests.support.real_child import BLOCK_TENSORFLOW, LIMIT_MEMORY, real
from tests.support.small_cifar10 import make_npz

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None, reason="PyTorch is not installed: make test-torch installs it"
    ),
]


@pytest.fixture
def measure(monkeypatch, tmp_path):
    """Measure a spec by the real process and return its row; rows are appended to `tmp_path/runs.csv`."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # two wait for each other where cores are busy

    def measured(*before, **values):
        spec = light_spec(**{"train_n": 20, "batch_size": 8, "epochs": 3, "device": "cpu", **values})
        child = real(BLOCK_TENSORFLOW, *before)
        runs, log_dir = tmp_path / "runs.csv", tmp_path / "logs"
        return run(spec, "a", RunPlace(runs, log_dir, child=child), timeout_sec=200)

    return measured


def test_epochs_of_arrays_are_timed_and_torch_is_a_condition_of_the_row(measure, tmp_path):
    make_npz(tmp_path / "cifar10.npz")
    row = measure(dataset="cifar10", data_dir=str(tmp_path / "cifar10.npz"), pipeline="auto")
    assert isinstance(row, RunRecord), row
    assert read_table(tmp_path / "runs.csv", RunRecord) == [row]
    version = importlib.metadata.version("torch")
    assert (row.backend, row.backend_version, row.tf_version) == ("torch", version, None)
    assert (row.pipeline, row.jit_compile, row.steps_per_execution, row.tf32) == ("arrays", "off", 1, "off")
    assert row.compile_cache is row.peak_memory_bytes is None
    assert (row.epochs, row.n_timed, row.params) == (3, 2, count_params(RunConfig(1, 2)))
    assert row.avg_time_sec == pytest.approx(fmean(row.epoch_times_json[1:]), rel=1e-12)
    assert 0 <= row.test_acc <= 1
    assert row.conditions.backend_version == ".".join(version.split(".")[:2])
    assert row.conditions != replace(row, backend="tensorflow").conditions
    log = (tmp_path / "logs" / "a.txt").read_text()
    assert f"torch {version}, float32, pipeline arrays, torch.compile off;" in log
    sidecar = json.loads((tmp_path / "logs" / "a.json").read_text())
    details = sidecar["framework"]
    assert details["torch_version"] == version
    assert (details["intra_op_threads"], details["gpus"]) == (1, [])
    assert details["tf32_allowed"] in (True, False)
    assert {name: v for name, v in sidecar["problems"].items() if v} == {}


def test_windows_are_timed_with_the_images_on_the_device_in_half_precision(measure):
    row = measure(pipeline="device", window_steps=2, precision="mixed_bfloat16")
    assert isinstance(row, RunRecord), row
    assert (row.backend, row.pipeline, row.precision) == ("torch", "device", "mixed_bfloat16")
    assert (row.timing_mode, row.window_steps) == ("steps_extrapolated", 2)
    assert row.avg_time_sec == pytest.approx(fmean(row.epoch_times_json[1:]) * 3 / 2, rel=1e-12)


def test_a_training_step_that_runs_out_of_memory_is_oom_by_its_message(measure, tmp_path):
    failure = measure(LIMIT_MEMORY, base_filters=1024, batch_size=1024, train_n=1024, epochs=2)
    assert isinstance(failure, FailureRecord), failure
    assert (failure.status, failure.exit_code) == ("oom", 1), failure
    assert "can't allocate" in failure.message
    assert read_table(tmp_path / "failures.csv", FailureRecord) == [failure]


IN_ONE_PROCESS = """
import sys
sys.modules["tensorflow"] = None  # as on a machine without it
import keras
import numpy as np
import torch
from tests.support import device_equality as equality
from epochcast.collect.run.devices import resolve_device
from epochcast.machine.device_memory import peak_memory_bytes
from epochcast.machine.environment import cpu_name
from epochcast.schema import RunConfig
from epochcast.workload.cnn import build_model, compile_model, seed_everything
from epochcast.workload.pipelines import as_float, model_for, prepare

assert keras.config.backend() == "torch"
assert resolve_device("torch", "cpu") == (cpu_name(), False)
assert peak_memory_bytes("torch") is None

equality.assert_same_training(equality.tiny, 300, 64)
equality.assert_same_training(equality.tiny, 256, 64, epochs=2)
equality.assert_same_training(equality.tiny, 300, 512, epochs=2)
equality.assert_same_training(equality.tiny, 300, 64, epochs=2, window_steps=7)
keras.config.set_dtype_policy("mixed_float16")
model, _ = equality.assert_same_training(equality.tiny, 300, 64, epochs=2)
assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
keras.config.set_dtype_policy("float32")
cnn = lambda: build_model(RunConfig(1, 8))
model, reference = equality.assert_same_training(cnn, 128, 64, epochs=2, loss_rtol=1e-3, n_differ=1)
x = as_float(equality.X)
ours, theirs = (m.evaluate(x, equality.Y, batch_size=150, verbose=0) for m in (model, reference))
assert abs(ours[0] - theirs[0]) < 1e-3, (ours, theirs)

y = np.arange(24, dtype=np.uint8) % 10
x = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)


def history(seed, pipeline, window_steps=None):
    seed_everything(seed)
    model = model_for(pipeline, build_model(RunConfig(1, 2)))
    assert compile_model(model) == "off"
    given = prepare(pipeline, x, y, model=model, batch_size=8, window_steps=window_steps, epochs=2, seed=seed)
    assert given.steps_per_entry == (window_steps or 3)
    loss = model.fit(**given.fit_kwargs, verbose=0).history["loss"]
    assert int(model.optimizer.iterations) == 2 * given.steps_per_entry
    return loss


for pipeline in ("arrays", "device"):  # orders and weights are the seed's, and each epoch has an order of its own
    torch.rand(3)  # whatever was drawn before
    assert history(1, pipeline) == history(1, pipeline) != history(2, pipeline)
    history(1, pipeline, 4)

for pipeline in ("tfdata", "indices"):
    try:
        prepare(pipeline, x, y, model=model, batch_size=8, window_steps=None, epochs=1, seed=1)
    except ValueError as error:
        assert "found torch: use --pipeline arrays" in str(error)
    else:
        raise AssertionError(f"{pipeline} was accepted")

from epochcast.model.training import time_ann  # a time model's network is trained by the same backend
time_ann.STEPS = 3 * time_ann.STEPS_PER_EXECUTION
features = np.random.default_rng(1).normal(size=(1, 30, 3))
target = 0.5 * features[:, :, 0]
(network,) = time_ann.fit_ensembles(features, target, np.ones((1, 30)), [1])
answers = keras.ops.convert_to_numpy(time_ann.keras_model(network)(features[0].astype(np.float32)))
assert np.abs(answers.mean(axis=1) - target[0]).mean() < 0.3 * np.abs(target).mean()
print("done")
"""


def test_the_images_on_the_device_train_as_arrays_do(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment |= {"CUDA_VISIBLE_DEVICES": "-1", "KERAS_TORCH_DEVICE": "cpu"}
    child = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS],
        cwd=CODE_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (child.returncode, child.stdout) == (0, "done\n"), child.stderr


# --- estimates of a user's own fit -----------------------------------------------------------------------------------

FITS = (
    "functional_network",
    "sequential_never_built",
    "subclass_with_its_own_step",
    "loader_with_its_own_generator",
    "loader_by_the_global_generator",
)


def test_a_fit_after_an_estimate_is_the_one_without_it_bit_for_bit(tmp_path):
    variants = ("estimated", "raised", "interrupted")
    words = [word for name in FITS for word in (name, "control", *variants)]
    left = left_by("torch", tmp_path, *words, "functional_network", "nothing put back", OMP_NUM_THREADS="1")
    differ = {(name, variant): differing(left, name, variant) for name in FITS for variant in variants}
    assert differ == {each: [] for each in differ}
    assert "variables" in differing(left, "functional_network", "nothing put back")


def test_a_script_with_a_data_loader_is_estimated(tmp_path):
    (tmp_path / "train.py").write_text(
        "from tests.support.fits.cases import CASES\n"
        "model, x, y, options = CASES['loader_by_the_global_generator']()\n"
        "model.fit(x, y, epochs=40, **options)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "epochcast", "estimate", "--json", "--budget_sec", "1", str(tmp_path / "train.py")],
        cwd=CODE_ROOT,
        env={
            **os.environ,
            "KERAS_BACKEND": "torch",
            "OMP_NUM_THREADS": "1",
            "EPOCHCAST_HOME": str(tmp_path),
            "PYTHONPATH": str(CODE_ROOT),
        },
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["backend"], found["batches"], found["epochs"]) == ("torch", 7, 40)
    assert found["training"]["pipeline"] == "dataloader"
    assert 0 < found["diagnostics"]["data_share"] < 1
    assert found["total"]["low"] < found["total"]["value"] < found["total"]["high"]
