"""Energy of an estimated training: what the user names, else what was metered, else a model."""

from __future__ import annotations

import pytest

from epochcast.energy.reading import EnergyReading
from epochcast.facts.regions import find_region
from epochcast.footprint.rules import FootprintRules
from epochcast.interval import Interval
from epochcast.live.footprints import footprints
from epochcast.live.sampling.power import RAPL, Meter, MeteredPower, metering

TOTAL = Interval(3600.0, 3000.0, 4200.0)
GPU, PROCESSOR = "NVIDIA A100 80GB PCIe", "AMD EPYC (2 cores)"
METERED = MeteredPower(200.0, 25.0, "nvml_counter", ("short_window",))


def energy(power, device, **rules):
    (found,) = footprints(TOTAL, power, device, FootprintRules(regions=(find_region("DE"),), **rules))
    return found.energy


@pytest.mark.parametrize("device", [GPU, PROCESSOR])
def test_metered_power_over_the_training_is_its_energy(device):
    found = energy(METERED, device)
    assert (found.joules.value, found.joules.low, found.joules.high) == (720_000.0, 600_000.0, 840_000.0)
    assert found.method == "200 W measured in 25 s of the estimate (nvml_counter, short_window)"


def test_what_the_user_names_goes_before_what_was_metered():
    assert energy(METERED, GPU, board_w=100.0).joules.value == 360_000.0


def test_the_power_of_a_whole_box_is_not_counted_twice():
    found = energy(METERED, PROCESSOR, host_w=80.0)
    assert found.is_in_host and found.joules.value == 0


def test_without_a_meter_a_gpu_has_a_model_and_a_processor_nothing():
    assert "board-power model" in energy(None, GPU).method
    assert energy(None, PROCESSOR) is None


class Reading:
    """Stands for the meter, whose readings are tested with a made-up driver."""

    def __init__(self, **columns):
        self.columns = columns

    def reading(self, start, end, n_epochs):
        return EnergyReading(**self.columns)


@pytest.mark.parametrize(
    ("is_gpu", "columns", "sec", "expected"),
    [
        (
            True,
            {"mean_power_w": 300.0, "energy_source": "nvml_counter", "energy_estimated": 0},
            10.0,
            (300.0, "nvml_counter"),
        ),
        (True, {"mean_power_w": 150.0, "energy_source": "board_power_model", "energy_estimated": 1}, 10.0, None),
        (True, {"cpu_energy_j": 500.0}, 10.0, None),
        (False, {"cpu_energy_j": 500.0}, 10.0, (50.0, RAPL)),
        (False, {}, 10.0, None),
        (True, {"mean_power_w": 300.0, "energy_source": "nvml_counter"}, 0.5, None),  # too short for a counter
    ],
)
def test_power_is_of_the_device_that_trains_and_measured(is_gpu, columns, sec, expected):
    found = Meter(Reading(**columns), is_gpu).power(100.0, 100.0 + sec)
    assert (None if found is None else (found.mean_w, found.source)) == expected


def test_metering_a_processor_needs_no_driver():
    with metering(is_gpu=False) as meter:
        assert meter.power(0.0, 0.5) is None
