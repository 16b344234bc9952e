"""`explain --network --epochs`: seconds, energy, money and CO2 of a whole training."""

from __future__ import annotations

import pytest

from epochcast.footprint.rules import FootprintRules
from epochcast.footprint.text import footprint_json
from epochcast.gpus.board_power import board_power
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.rates import network_busy_share
from epochcast.interval import Interval
from epochcast.keras_files.read_file import known_file
from epochcast.model import explain as command
from epochcast.model import predict_perf
from epochcast.model.explanation.device import explained_device
from epochcast.model.explanation.epoch_time import time_of
from epochcast.model.explanation.training_footprint import training_footprints
from tests.support.cli import run_cli
from tests.support.models.explanations import ask, cpu_model
from tests.support.rows import assert_one_clear_error

pytestmark = pytest.mark.usefixtures("home")
GPU = "RTX 4090"
TRAINING = ("--batch_size", 128, "--train_n", 12_800, "--epochs", 3)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    from epochcast.machine.framework import keras_on_cpu

    keras = keras_on_cpu()
    inputs = keras.Input((64, 64, 3))
    x = keras.layers.Conv2D(256, 3, padding="same")(keras.layers.Conv2D(128, 3, padding="same")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))
    model.compile("adam", "mse")
    model.save(path := tmp_path_factory.mktemp("networks") / "convolutions.keras")
    return path


def answer_of(path, *flags):
    return ask("--network", path, *flags, "--json").json


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--region", "DE,FR", "--pue", 1.2, "--host_w", 200, "--embodied"),
        ("--board_w", 300, "--usd_per_gpu_hour", 2, "--usd_per_kwh", 0.3, "--gco2_per_kwh", 400),
        ("--energy_formula", "mlcost"),
    ],
    ids=["world", "regions", "given", "mlcost"],
)
def test_a_training_is_what_predict_perf_answers_for_the_network(network, flags):
    flags = ("--gpu", GPU, "--precision", "float32", *TRAINING, *flags)
    explained = answer_of(network, *flags)
    (predicted,) = run_cli(predict_perf.main, "--network", network, *flags, "--json").json["answers"]
    for key in ("training_sec", "training_sec_low", "training_sec_high"):
        assert explained[key] == pytest.approx(predicted[key])
    assert explained["training_sec"] == pytest.approx(3 * explained["predicted_avg_time_sec"])
    assert explained["epochs"] == 3
    assert explained["footprints"] == predicted["footprints"]
    assert explained["footprints"][0]["wall_kwh"] > 0


def test_the_power_is_by_how_busy_the_network_keeps_the_gpu(network):
    found = answer_of(network, "--gpu", GPU, *TRAINING)
    gpu = find_gpu(GPU)
    busy_share = network_busy_share(known_file(network).trained(128, 12_800, "float32"), gpu, "tf32")
    watts = found["footprints"][0]["board_kwh"] * 3.6e6 / found["training_sec"]
    assert watts == pytest.approx(board_power(gpu.tdp_w, busy_share).value)


def test_a_gpu_that_waits_for_its_input_takes_less_power(network):
    trained, device = known_file(network).trained(128, 12_800, "float32"), explained_device(None, GPU)
    sec = Interval(3600.0, 3000.0, 4000.0)
    time = time_of(device, trained, None, None)
    (busy,), (waiting,) = (
        training_footprints(trained, device, time, sec, FootprintRules(), device_share) for device_share in (1.0, 0.25)
    )
    share = network_busy_share(trained, device.gpu, device.arithmetic)
    assert waiting.energy.joules.value == pytest.approx(3600 * board_power(device.gpu.tdp_w, share / 4).value)
    assert waiting.energy.joules.value < busy.energy.joules.value
    assert footprint_json(busy)["cloud_usd"] == footprint_json(waiting)["cloud_usd"]


def test_the_screen_has_it_below_the_memory(network):
    lines = ask("--network", network, "--gpu", GPU, *TRAINING, "--region", "DE,FR").out.splitlines()
    (memory,) = (i for i, line in enumerate(lines) if line.startswith("peak memory: "))
    assert lines[memory + 1].startswith("training_sec: ")
    assert lines[memory + 1].endswith(", 3 epochs without start, input and host")
    below = "\n".join(lines[memory + 2 : lines.index("", memory)])
    for name in ("region", "board_energy", "wall_energy", "electricity", "cloud", "co2_operational"):
        assert f"{name}: " in below
    assert "Germany (DE)" in below and "France (FR)" in below  # the table of regions


def test_on_a_processor_the_energy_is_that_of_the_host_where_it_is_known(network):
    flags = ("--model", cpu_model(), *TRAINING)
    (unknown,) = answer_of(network, *flags)["footprints"]
    assert unknown["wall_kwh"] is unknown["cloud_usd"] is unknown["operational_kg_co2e"] is None
    found = answer_of(network, *flags, "--host_w", 100)
    assert found["footprints"][0]["wall_kwh"] == pytest.approx(100 * found["training_sec"] / 3.6e6)
    printed = ask("--network", network, *flags, "--energy_formula", "mlcost", code=1)
    assert_one_clear_error(printed, "energy_formula mlcost needs the TDP of the device")


def test_without_epochs_no_training_is_answered(network):
    for found in (answer_of(network, "--gpu", GPU), ask("--json").json):
        assert (found["epochs"], found["training_sec"], found["footprints"]) == (None, None, [])
    assert "training_sec" not in ask("--network", network, "--gpu", GPU).out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--epochs", 3), "--epochs go with --network"),
        (("--region", "DE"), "--region: energy, money and CO2 are of a whole training of --network; give --network"),
        (("--network", "x.keras", "--pue", 1.2, "--embodied"), "--pue, --embodied: energy, money and CO2"),
        (("--network", "x.keras", "--epochs", 0), "--epochs"),
    ],
)
def test_flags_that_do_not_go_together_are_a_wrong_command(capsys, flags, message):
    with pytest.raises(SystemExit) as end:
        command.main([str(word) for word in flags])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
