"""Energy, money and CO2 of a fit by a meter that this machine lacks: a double stands at its edge."""

from __future__ import annotations

import contextlib
import time

import pytest

from epochcast.footprint.rules import FootprintRules
from epochcast.interval import Interval
from epochcast.live.forecast import usage
from epochcast.live.forecast.history import FitHistory, Forecast
from epochcast.live.forecast.text import forecast_line
from epochcast.live.sampling.estimator import EpochTime
from epochcast.live.sampling.power import MeteredPower
from epochcast.machine.gpu.vendor import Device

GPU = Device("gpu", "NVIDIA A100 80GB PCIe")
WATTS = 180.0


class Meter:
    """Draws the same power all the time."""

    def __init__(self):
        self.windows = []

    def power(self, start, end):
        self.windows.append((start, end))
        return MeteredPower(WATTS, end - start, "nvml_counter")


@pytest.fixture
def meter(monkeypatch):
    meter = Meter()
    monkeypatch.setattr(usage, "metering", lambda is_gpu, period_sec: contextlib.nullcontext(meter))
    return meter


def test_energy_to_date_and_at_the_end_is_by_the_power_that_was_measured(meter, monkeypatch):
    monkeypatch.setattr(usage, "WINDOW_SEC", 0.0)
    used = usage.Usage(GPU, FootprintRules(usd_per_kwh=0.5, gco2_per_kwh=400.0))
    time.sleep(0.01)
    used.read()
    found = used.of(Interval(1000.0, 900.0, 1100.0))
    kwh = WATTS * 1000.0 / 3.6e6
    assert (found.kwh.value, found.kwh.high) == pytest.approx((kwh, 1.1 * kwh))
    assert (found.electricity_usd.value, found.kg_co2e.value) == pytest.approx((0.5 * kwh, 0.4 * kwh))
    assert "nvml_counter" in found.method and "of this fit" in found.method
    assert found.to_json()["kwh_low"] == pytest.approx(0.9 * kwh)


def test_windows_do_not_overlap_and_are_rare(meter):
    used = usage.Usage(GPU, FootprintRules())
    for _ in range(5):
        used.read()
    assert meter.windows == []  # ten seconds have not passed
    used.read(is_end=True)
    used.read(is_end=True)
    (_, end), (begin, _) = meter.windows
    assert begin == end


def test_without_a_meter_a_gpu_s_energy_is_modelled(monkeypatch):
    class Silent:
        def power(self, start, end):
            return None

    monkeypatch.setattr(usage, "metering", lambda is_gpu, period_sec: contextlib.nullcontext(Silent()))
    used = usage.Usage(GPU, FootprintRules())
    used.read(is_end=True)
    assert used.power is None
    assert "board-power model" in used.of(Interval(10.0)).method
    assert usage.Usage(Device("cpu", "Xeon"), FootprintRules()).of(Interval(10.0)).kwh is None


def test_a_line_says_energy_money_and_co2():
    from datetime import datetime

    used = usage.Used(Interval(0.0213), Interval(0.00315), None, Interval(0.00998), "a meter")
    fit = FitHistory("2026-01-01T00:00:00+00:00", "Sequential", 50, 100, done=[None])
    found = Forecast(3, 30.0, Interval(564.0, 532.0, 596.0), EpochTime(Interval(12.0), None, 3, 0), 9, used, used)
    line = forecast_line(fit, found, datetime(2026, 1, 1, 14, 22, 41))
    assert line == (
        "epoch 3 of 50: 9 min 24 s (8 min 52 s to 9 min 56 s) left if all epochs run (earliest stop: after epoch 9); "
        "ends 14:32:05; so far 21.3 Wh, 0.00315 USD, 9.98 g CO2; in all 21.3 Wh, 0.00315 USD, 9.98 g CO2"
    )
