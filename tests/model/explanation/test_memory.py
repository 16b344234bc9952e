"""`explain --network`: peak memory, whether it fits, and the largest batch."""

from __future__ import annotations

import json

import pytest

from epochcast.model import predict_perf
from epochcast.model.explanation.exact_memory import exact_memory
from epochcast.roofline.network_memory import MIB, MemoryLaw
from tests.support.cli import run_cli
from tests.support.models.explanations import ask
from tests.support.rows import assert_one_clear_error

pytestmark = pytest.mark.usefixtures("home")
GPU, HALF = "NVIDIA H100 80GB HBM3", "mixed_bfloat16"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    from epochcast.machine.framework import keras_on_cpu

    keras = keras_on_cpu()
    inputs = keras.Input((256, 256))
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
    model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
    path = tmp_path_factory.mktemp("networks") / "small.keras"
    model.save(path)
    return path


def answer_of(path, *flags):
    return json.loads(ask("--network", path, "--gpu", GPU, "--batch_size", 32, "--json", *flags).out)["memory"]


def test_the_arrays_are_those_of_the_network_and_its_own_optimizer(network):
    law, found = MemoryLaw.shipped(), answer_of(network)
    params, samples = 4 * (65536 * 4 + 4), 32 * 4 * 65536
    work = law.work * 32 * 4 * (65536 + 4)
    assert found["peak_memory_arrays_gib"] * 2**30 == pytest.approx(3 * params + law.slack * samples + work)
    assert found["peak_memory_gib"] == pytest.approx(law.base_bytes / 2**30 + found["peak_memory_arrays_gib"])
    assert found["peak_memory_gib_high"] == pytest.approx(law.spread * found["peak_memory_gib"])
    assert (found["memory_gb"], found["memory_fit"]) == (80, "fits")
    assert (found["max_batch"], found["exact"]) == (None, None)


def test_the_largest_batch_fits_surely_or_probably(network):
    sizes = answer_of(network, "--max_batch")["max_batch"]
    assert 32 < sizes["surely"] < sizes["probably"]
    screen = ask("--network", network, "--gpu", GPU, "--batch_size", 32, "--max_batch").out
    assert f"largest batch in 80 GB: {sizes['surely']:,} surely, {sizes['probably']:,} probably" in screen
    assert "by a GPU's driver" in screen
    assert "fits into 80 GB" in screen


def test_half_precision_takes_less_memory_for_many_samples(network):
    peaks = [
        answer_of(network, "--batch_size", 10**6, "--precision", precision)["peak_memory_gib"]
        for precision in ("float32", "mixed_float16")
    ]
    assert peaks[1] < peaks[0]


def test_what_nothing_was_measured_of_is_said_of_recurrent_networks_and_of_other_boards(network, tmp_path):
    from epochcast.machine.framework import keras_on_cpu

    keras = keras_on_cpu()
    inputs = keras.Input((16, 8))
    keras.Model(inputs, keras.layers.LSTM(4)(inputs)).save(recurrent := tmp_path / "recurrent.keras")

    def basis(path, gpu):
        return json.loads(ask("--network", path, "--gpu", gpu, "--precision", HALF, "--json").out)["memory"][
            "peak_memory_basis"
        ]

    begin, end = "by public measurements of other networks", ", plus the driver's context"
    assert basis(network, GPU).endswith(f"{begin}{end}")
    assert basis(recurrent, GPU).endswith(f"{begin} (none of them recurrent){end}")
    assert basis(network, "TPU v4").endswith(f"{begin} (none on any TPU){end}")
    assert basis(recurrent, "TPU v4").endswith(f"{begin} (none of them recurrent, none on any TPU){end}")
    screen = ask("--network", network, "--gpu", "TPU v4", "--precision", HALF).out
    assert "GiB) as a GPU's driver would count it, " in screen
    assert "by a GPU's driver" not in screen
    answer = run_cli(predict_perf.main, "--network", recurrent, "--gpu", "TPU v4", "--precision", HALF).out
    assert "(none of them recurrent, none on any TPU)" in answer


def test_our_own_cnn_has_its_memory_from_predict_perf():
    assert json.loads(ask("--json").out)["memory"] is None


@pytest.mark.slow
def test_the_compiler_s_account_counts_at_least_the_state_and_the_samples(network):
    found = exact_memory(network, 64, None, ())
    state = 4 * 2 * (65536 * 4 + 4)
    assert state + 64 * 4 * 65536 <= found.bytes < MIB * 100
    assert found.ask_sec > 0
    assert found.device


def test_without_jax_the_exact_memory_says_what_to_install(network, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    flags = ("--network", network, "--gpu", GPU, "--memory", "exact")
    assert_one_clear_error(ask(*flags, code=1), "JAX is not installed")
