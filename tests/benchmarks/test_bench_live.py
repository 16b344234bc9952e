"""What the benchmark of LiveForecast makes of its runs."""

from __future__ import annotations

import pytest

from benchmarks.estimates.bench_live import error_after, reach


def run_of(after_1, after_3, hooks=0.001, sec=9.0):
    deadline = {"budget_sec": 10.0, "sec": sec, "epochs": 4, "ended": "stopped by its time budget"}
    return {"cpu": {"1": after_1, "3": after_3}, "hooks": hooks, "deadline": deadline}


def test_errors_count_by_their_size():
    assert error_after([run_of(0.02, 0), run_of(-0.04, 0)], "cpu", 1) == pytest.approx((3.0, 4.0))


@pytest.mark.parametrize(
    ("runs", "reached"),
    [
        ([run_of(0.07, 0.04), run_of(-0.06, 0.01)], [True, True, True, True]),
        ([run_of(0.09, 0.04), run_of(-0.06, 0.05)], [False, False, True, True]),
        ([run_of(0.0, 0.0, hooks=0.006), run_of(0.0, 0.0)], [True, True, False, True]),
        ([run_of(0.0, 0.0, sec=10.1), run_of(0.0, 0.0)], [True, True, True, False]),
    ],
)
def test_each_claim_is_judged(runs, reached):
    assert [claim.reached for claim in reach(runs)] == reached
