"""What the benchmark of estimates makes of its runs."""

from __future__ import annotations

import pytest

from benchmarks.estimates.bench_estimate import line, peer_line, reach


def run_of(estimate, true, half=0.1, network="cnn", **more):
    clock = {"estimate": estimate, "true": true, "later": 0.8 * true, "half": half, "green_love": 2 * true}
    whole = {
        "whole_sec": 12.0,
        "once_sec": 4.0,
        "step_sec": 0.1,
        "used_sec": 8.0,
        "others": 0.0,
        "green_love_sec": 120.0,
    }
    return {"backend": "jax", "network": network, "cpu": clock, "wall": clock, **whole, **more}


RUNS = [run_of(1.04, 1.0), run_of(0.98, 1.0), run_of(0.8, 1.0)]


def test_errors_and_ranges_that_hold_are_counted():
    _, _, _, n, mape, worst, unsteady, held, half, true_sec, beyond_sec = line("jax", "cnn", "cpu", RUNS)
    assert (n, held, half, true_sec, beyond_sec) == (3, "2 of 3", 10.0, 1.0, 8.0)
    assert (mape, worst, unsteady) == pytest.approx((26 / 3, -20.0, 25.0))


def test_an_estimate_without_a_range_holds_nothing():
    assert line("jax", "cnn", "cpu", [run_of(1.0, 1.0, half=None)])[7:9] == ["0 of 0", None]


def test_the_peer_is_judged_on_the_same_runs_by_the_seconds_of_the_whole_estimate():
    *_, n, own, peer, cheaper = peer_line("jax", "cnn", "cpu", RUNS)
    assert (n, cheaper) == (3, 10.0)
    assert (own, peer) == pytest.approx((26 / 3, 100.0))


@pytest.mark.parametrize(
    ("runs", "reached"),
    [
        ([run_of(1.04, 1.0), run_of(0.98, 1.0)], [True, True, True, True, True]),
        (RUNS, [False, False, True, True, True]),
        ([run_of(1.0, 1.0, whole_sec=14.0)], [True, True, False, True, False]),
        ([run_of(1.0, 1.0), run_of(0.5, 1.0, network="transformer")], [True, True, True, True, True]),
    ],
)
def test_each_claim_is_judged(runs, reached):
    assert [claim.reached for claim in reach(runs, 8.0)] == reached
