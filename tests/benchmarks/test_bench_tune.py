"""What the benchmark of tuning makes of its runs."""

from __future__ import annotations

import pytest

from benchmarks.estimates.bench_tune import HEADER, judged, line, reach

SETTINGS = [
    {"precision": "float32", "jit_compile": "on", "steps_per_execution": steps, "input": "arrays", "batch_size": batch}
    for steps, batch in ((1, 64), (4, 64), (1, 256))
]


def run_of(secs, chosen, gain=(1.2, 1.1, 1.3), share=0.4):
    truth = {"epoch_secs": secs, "spreads": [0.03] * 3, "blocks": [[sec] * 8 for sec in secs], "sec": 10.0}
    value, low, high = gain
    halving = {
        "chosen": chosen,
        "n_blocks": [2, 2, 2],
        "n_pairs": 3,
        "gain": None if value is None else {"value": value, "low": low, "high": high},
        "sec": {"cpu": 10 * share, "wall": 10 * share},
    }
    return {
        "network": "mlp",
        "seed": 0,
        "settings": SETTINGS,
        "truth": {"cpu": truth, "wall": truth},
        "halving": {"cpu": halving, "wall": halving},
        "prepared_sec": {"cpu": 5.0, "wall": 6.0},
    }


def test_the_regret_is_of_the_chosen_and_of_the_answer():
    found = judged(run_of([1.2, 1.0, 1.05], 2), "cpu")
    assert found["chosen"] == "batch_size 256"
    assert (found["regret"], found["answer_regret"]) == pytest.approx((0.05, 0.05))
    assert found["true_gain"] == pytest.approx(1.2 / 1.05)
    assert found["held"] is True
    assert found["blocks_share"] == pytest.approx(12 / 24)
    assert found["same_batch_gain"] == pytest.approx(1.2)


@pytest.mark.parametrize("gain", [(None, None, None), (1.2, None, None), (1.2, 0.9, 1.6), (1.01, 1.005, 1.015)])
def test_without_a_supported_gain_the_answer_is_the_first(gain):
    found = judged(run_of([1.2, 1.0, 1.05], 1, gain), "wall")
    assert (found["regret"], found["answer_regret"]) == pytest.approx((0.0, 0.2))


def test_by_halves_the_fastest_of_one_half_is_compared_by_the_other():
    run = run_of([1.0, 1.0, 1.0], 2)
    odd, even = [0.8, 1.1], [1.3, 0.9]  # of the first and the second setting, by luck
    run["truth"]["cpu"]["blocks"] = [[odd[0], even[0]] * 4, [odd[1], even[1]] * 4, [1.0] * 8]
    # by odd rounds the first is fastest: 1 over its 1.3; by even rounds the second: 1 over its 1.1
    assert judged(run, "cpu")["regret_by_halves"] == pytest.approx((1 / 1.3 + 1 / 1.1) / 2 - 1)


def test_a_row_has_a_cell_for_each_column():
    assert len(line(run_of([1.2, 1.0, 1.05], 1), "cpu")) == len(HEADER)


@pytest.mark.parametrize(
    ("runs", "reached"),
    [
        ([run_of([1.2, 1.0, 1.02], 2)], [True] * 6),
        ([run_of([1.2, 1.0, 1.02], 2), run_of([1.2, 1.0, 1.05], 2)], [False, False, True] * 2),
        ([run_of([1.2, 1.0, 1.02], 1, share=0.6)], [True, True, False] * 2),
    ],
)
def test_each_claim_is_judged_by_the_worst_run(runs, reached):
    assert [claim.reached for claim in reach(runs)] == reached
