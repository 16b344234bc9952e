"""Combinations of settings, and what each changes."""

from __future__ import annotations

import pytest

from epochcast.live.tuning.settings import NO, ORDER, ROUNDING, YES, Setting, changes, combinations, keeps_result

OWN = Setting("float32", "on", 1, "arrays", 32)


def test_what_changes_least_comes_first():
    values = {"jit_compile": ["off"], "steps_per_execution": [4, 16], "input": ["cached"]}
    found = combinations(OWN, values)
    assert len(found) == len(set(found)) == 2 * 3 * 2
    assert found[0] == OWN
    assert [sorted(each.name for each in changes(OWN, setting)) for setting in found[1:6]] == [
        ["steps_per_execution"],
        ["steps_per_execution"],
        ["jit_compile"],
        ["jit_compile", "steps_per_execution"],
        ["jit_compile", "steps_per_execution"],
    ]
    assert all(setting.input == "cached" for setting in found[6:])


def test_nothing_to_try_is_the_baseline_alone():
    assert combinations(OWN, {}) == [OWN]
    assert combinations(OWN, {"jit_compile": ["on"], "batch_size": [32]}) == [OWN]


@pytest.mark.parametrize(
    ("own", "other", "result", "words"),
    [
        (OWN, Setting("float32", "off", 1, "arrays", 32), ROUNDING, "by rounding only"),
        (OWN, Setting("float32", "on", 4, "arrays", 32), NO, "see batches once in 4 steps"),
        (OWN, Setting("mixed_float16", "on", 1, "arrays", 32), YES, "compute in float16. Check the accuracy"),
        (OWN, Setting("mixed_bfloat16", "on", 1, "arrays", 32), YES, "compute in bfloat16. Check the accuracy"),
        (OWN, Setting("float32", "on", 1, "tfdata", 32), ORDER, "as by another seed"),
        (OWN, Setting("float32", "on", 1, "cached", 32), YES, "the same batches, in another order"),
        (OWN, Setting("float32", "on", 1, "arrays", 64), YES, "time alone is no reason"),
        (
            Setting("float32", "on", 4, "tfdata", None),
            Setting("float32", "on", 4, "cached", None),
            YES,
            "what comes before the cache is random",
        ),
        (
            Setting("float32", "on", 4, "tfdata", None),
            Setting("float32", "on", 4, "prefetched", None),
            NO,
            "the result is the same",
        ),
        (Setting("float32", "on", 4, "arrays", 32), OWN, NO, "see batches at each step"),
    ],
)
def test_every_change_says_whether_it_changes_the_result(own, other, result, words):
    (change,) = changes(own, other)
    assert change.changes_result == result
    assert words in change.why
    assert keeps_result(own, other) == (result != YES)


def test_all_changes_are_named():
    other = Setting("mixed_float16", "off", 4, "cached", 64)
    assert [each.name for each in changes(OWN, other)] == [
        "precision",
        "jit_compile",
        "steps_per_execution",
        "input",
        "batch_size",
    ]
    assert changes(OWN, OWN) == ()
