import csv
from collections import defaultdict

import pytest

from epochcast.energy.samples import integral, longest_gap, time_weighted_mean, value_at

SETS = {"smc_h100x8_dc_bert_v4.0": 2157, "lenovo_b200x8_bert_v5.0": 2053}


def read_set(reference_data, name):
    """Readings (seconds, watts) of every run of a published power log, and its windows."""
    folder = reference_data / "mlperf_power" / "training_traces"
    readings = defaultdict(list)
    with (folder / f"{name}_readings.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            readings[row["run"]].append((float(row["t_ms_since_power_start"]) / 1000, float(row["watts"])))
    with (folder / f"{name}_windows.csv").open(encoding="utf-8") as file:
        windows = {row["run"]: row for row in csv.DictReader(file)}
    assert sum(map(len, readings.values())) == SETS[name]
    return {run: tuple(zip(*pairs, strict=True)) for run, pairs in readings.items()}, windows


def published_score(traces, windows, mean):
    """MLPerf's rule: mean power of the whole log x run time, fastest and slowest run dropped, x its scaling factor."""
    runs = []
    for run, (times, watts) in traces.items():
        seconds = (float(windows[run]["run_stop_ms"]) - float(windows[run]["run_start_ms"])) / 1000
        runs.append((seconds, mean(times, watts) * seconds / 1000))
    kept = sorted(runs)[1:-1]
    return 1.0106869564 * sum(kj for _, kj in kept) / len(kept)


def test_published_energy_is_the_time_weighted_one_and_not_the_plain_mean(reference_data):
    traces, windows = read_set(reference_data, "smc_h100x8_dc_bert_v4.0")
    by_time = published_score(traces, windows, lambda times, watts: time_weighted_mean(times, watts, since=0.0))
    assert by_time == pytest.approx(1793.34, abs=0.01)
    plain = published_score(traces, windows, lambda _, watts: sum(watts) / len(watts))
    assert plain == pytest.approx(1798.5, abs=0.1)


@pytest.mark.parametrize("name", SETS)
def test_integral_of_every_real_trace_agrees_with_its_published_window(reference_data, name):
    traces, windows = read_set(reference_data, name)
    for run, (times, watts) in traces.items():
        start, stop = (float(windows[run][key]) / 1000 for key in ("run_start_ms", "run_stop_ms"))
        # kJ of the window, printed with three decimals before the conversion from alternating current
        kilojoules = integral(times, watts, start, stop) * float(windows[run]["conversion_eff"]) / 1000
        assert kilojoules == pytest.approx(float(windows[run]["kj_window_trapezoid"]), abs=0.002)


def test_edges_between_readings_are_interpolated():
    times, watts = [0.0, 1.0, 2.0, 3.0], [0.0, 10.0, 20.0, 30.0]
    assert value_at(times, watts, 1.25) == pytest.approx(12.5)
    assert value_at(times, watts, 2.0) == 20.0
    assert integral(times, watts, 0.5, 2.5) == pytest.approx(5 * (2.5**2 - 0.5**2))
    assert integral(times, watts, 1.2, 1.4) == pytest.approx(5 * (1.4**2 - 1.2**2))  # both edges between two readings
    assert integral(times, watts, 0.0, 3.0) == pytest.approx(45.0)


def test_what_readings_do_not_reach_is_unknown():
    times, watts = [1.0, 2.0], [100.0, 100.0]
    assert value_at(times, watts, 0.999) is None
    assert value_at(times, watts, 2.001) is None
    assert integral(times, watts, 0.5, 1.5) is None
    assert integral(times, watts, 1.5, 2.5) is None
    assert integral([], [], 0.0, 1.0) is None


def test_integral_adds_up_over_any_division_of_the_window():
    times, watts = [0.0, 0.7, 1.1, 2.9, 4.0], [80.0, 300.0, 120.0, 90.0, 250.0]
    whole = integral(times, watts, 0.2, 3.8)
    parts = [integral(times, watts, a, b) for a, b in ((0.2, 0.7), (0.7, 1.5), (1.5, 3.8))]
    assert sum(parts) == pytest.approx(whole)


def test_two_readings_at_one_moment_are_no_division_by_zero():
    assert value_at([0.0, 1.0, 1.0, 2.0], [5.0, 6.0, 8.0, 9.0], 1.0) in (6.0, 8.0)
    assert integral([0.0, 1.0, 1.0, 2.0], [5.0, 5.0, 5.0, 5.0], 0.0, 2.0) == pytest.approx(10.0)


def test_time_weighted_mean_weighs_a_reading_by_the_time_before_it():
    assert time_weighted_mean([1.0, 4.0], [100.0, 20.0], since=0.0) == pytest.approx((100 + 3 * 20) / 4)
    with pytest.raises(ValueError, match="readings after"):
        time_weighted_mean([], [], since=0.0)


def test_longest_gap_counts_the_edges():
    times = [0.0, 1.0, 2.0, 5.0, 6.0]
    assert longest_gap(times, 0.5, 1.5) == 1.0
    assert longest_gap(times, 1.5, 3.0) == 3.0  # the gap that the window ends in
    assert longest_gap(times, 5.5, 9.0) == 3.0  # nothing after 6.0
    assert longest_gap([], 1.0, 3.0) == 2.0
    assert longest_gap(times, 2.0, 2.0) == 0.0  # a moment on a reading
    assert longest_gap(times, 2.5, 2.5) == 3.0
