"""Splits: what is judged was never learned from."""

from __future__ import annotations

import pytest

from epochcast.mlperf.records import round_number
from epochcast.mlperf.regressor.entries import family_of
from epochcast.mlperf.regressor.splits import FOLDS, GROUPED, folds_of, forward_folds
from tests.support.mlperf.entries import shipped_entries

KEYS = {
    "entry": lambda each: each.entry,
    "submitter": lambda each: (each.submitter, each.benchmark, each.device, each.n_accelerators),
    "configuration": lambda each: (each.benchmark, each.device, each.n_accelerators),
    "family": lambda each: family_of(each.device),
}


@pytest.mark.parametrize("split", GROUPED)
def test_no_group_is_on_both_sides_and_each_entry_is_judged_once(split):
    entries = shipped_entries()
    judged = []
    for learned, out in folds_of(split, entries, seed=3):
        assert len(learned) + len(out) == len(entries)
        assert {KEYS[split](each) for each in learned}.isdisjoint(KEYS[split](each) for each in out)
        judged += out
    assert sorted(judged, key=repr) == sorted(entries, key=repr)


def test_folds_are_drawn_by_the_seed_and_are_of_similar_size():
    entries = shipped_entries()
    sizes = [len(out) for _, out in folds_of("entry", entries, 0)]
    assert len(sizes) == FOLDS
    assert max(sizes) - min(sizes) <= 1
    assert list(folds_of("entry", entries, 0)) == list(folds_of("entry", entries, 0))
    assert next(folds_of("entry", entries, 0)) != next(folds_of("entry", entries, 1))


def test_each_round_is_judged_by_what_was_learned_from_all_before_it():
    names = []
    for name, (learned, out) in forward_folds(shipped_entries()):
        names.append(name)
        assert {each.round for each in out} == {name}
        assert max(round_number(each.round) for each in learned) < round_number(name)
    assert names == ["2.0", "2.1", "3.0", "3.1", "4.0", "4.1", "5.0"]
