"""The factor between a node's power and the TDP of its GPUs, fitted to metered MLPerf trainings."""

from __future__ import annotations

import functools

import pytest

from benchmarks.mlperf.bench_energy import TARGET, fitted, judge, report_text
from benchmarks.mlperf.power_runs import PowerRun, power_runs

judged = functools.cache(lambda folder: judge(power_runs(folder)))  # three seconds


@pytest.fixture
def report(reference_data):
    return judged(reference_data / "mlperf")


def test_the_published_figures_come_out(report):
    nodes = report["nodes"]
    assert (report["runs"], nodes["runs"], nodes["groups"], nodes["systems"]) == (351, 198, 17, 6)
    assert nodes["left_out_error"] == pytest.approx(0.077, abs=5e-4)
    assert nodes["left_out_error"] <= TARGET < report["mlcost_error"]
    assert report["coverage_least"] > 0.97
    # smc, 8 H100, BERT: 319 s and 2,186 kJ
    assert (report["groups"][0]["sec"], report["groups"][0]["kj"]) == pytest.approx((319, 2186), rel=1e-3)


@pytest.mark.parametrize("fit, shipped", [("nodes", "shipped"), ("nodes_and_switches", "shipped_with_switches")])
def test_what_is_shipped_is_what_the_benchmark_fits(report, fit, shipped):
    own = report[fit]
    assert list(report[shipped].values()) == [round(own["k"], 2), round(own["low"], 2), round(own["high"], 2)]


def test_mlcosts_example_comes_out_by_its_formula_and_prices(report):
    example = {name: round(value, 3) for name, value in report["mlcost_example"].items()}
    assert example == {"kwh": 1.161, "usd_KR": 0.109, "usd_DE": 0.380}


def test_the_screen_says_runs_errors_and_targets(report):
    text = report_text(report)
    assert "mean error, system left out" in text
    assert "7.7%, worst 35%" in text
    assert "NO" not in text


def test_a_system_is_judged_by_the_others():
    def run(system, benchmark, k):
        return PowerRun(system, benchmark, False, 700.0, 8, 100.0, k * 700.0 * 8 * 100.0, None, 1.0)

    found = fitted([run("a", "bert", 1.0), run("a", "bert", 1.2), run("b", "bert", 2.0), run("b", "resnet", 2.2)])
    assert (found.k, found.low, found.high) == pytest.approx((2.0, 1.0, 2.2))  # of 1.1, 2.0, 2.2
    assert found.rest == pytest.approx({"a": 2.1, "b": 1.1})
    assert found.left_out_error == pytest.approx(((2.1 / 1.1 - 1) + (1 - 1.1 / 2) + (1 - 1.1 / 2.2)) / 3)
    assert (found.worst_group, found.held) == ("a bert", 0)
