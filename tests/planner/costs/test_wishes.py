"""Which runs are ruled out or insisted on: each rule counts, and says what it excluded."""

from __future__ import annotations

import itertools

import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.planner.costs.candidates import CostRules
from epochcast.planner.costs.make_candidates import make_candidates
from epochcast.planner.costs.values import ACC, VALUES
from epochcast.planner.costs.wishes import Wishes, select
from epochcast.storage.tables import read_runs
from tests.support.rows import run_costing

RUNS = [
    run_costing(10.0, config=(2, 16, 64), acc=0.5, acc_epochs=3, images_per_sec=100.0),
    run_costing(20.0, config=(2, 32, 64), acc=0.7, acc_epochs=3, images_per_sec=50.0),
    run_costing(30.0, config=(3, 32, 128), was_measured=False, images_per_sec=25.0),
    run_costing(40.0, config=(3, 64, 128), acc=0.1, acc_epochs=3, has_diverged=True, images_per_sec=10.0),
]


def kept_of(value="count", **wishes):
    """Which of RUNS are left, musts first, and what is said of the others."""
    must, kept, notes = select(RUNS, VALUES[value], Wishes(**wishes))
    numbers = {run.config: i for i, run in enumerate(RUNS)}
    return [numbers[c.config] for c in must], [numbers[c.config] for c in kept], notes


@pytest.mark.parametrize(
    ("wishes", "left", "words"),
    [
        ({}, [0, 1, 2], "1 of 4 candidates left out: diverged when measured (--include_diverged keeps them)"),
        ({"exclude": [{"depth": "2"}]}, [2], "2 of 4 candidates left out: excluded by --exclude"),
        ({"exclude": [{"depth": "2", "base_filters": "16"}, {"batch_size": "128"}]}, [1], "3 of 4"),
        ({"exclude_measured": True}, [2], "3 of 4 candidates left out: measured already"),
        ({"max_params": RUNS[0].params}, [0], "3 of 4 candidates left out: more than 280,218 parameters"),
        ({"min_acc": 0.7}, [1], "1 of 4 candidates left out: accuracy below 0.7"),
        ({"min_acc": 0.5}, [0, 1], "1 of 4 candidates left out: no accuracy was measured"),
    ],
)
def test_a_rule_leaves_out_what_it_names_and_counts_it(wishes, left, words):
    must, kept, notes = kept_of(**wishes)
    assert (must, kept) == ([], left)
    assert any(note.startswith(words) for note in notes)
    assert sum(int(note.split()[0]) for note in notes) == len(RUNS) - len(left)  # each is counted once


@pytest.mark.parametrize("value", VALUES)
def test_rules_together_leave_out_what_any_of_them_does(value):
    rules = {
        "exclude": ([{"base_filters": "16"}], {0}),
        "exclude_measured": (True, {0, 1, 3}),
        "min_acc": (0.6, {0, 2, 3}),
        "max_params": (RUNS[2].params, {i for i, run in enumerate(RUNS) if run.params > RUNS[2].params}),
    }
    for names in itertools.chain.from_iterable(itertools.combinations(rules, n) for n in range(3)):
        out = set().union({3}, {2} if "acc" in value else (), *(rules[name][1] for name in names))  # 3 has diverged
        if len(out) < len(RUNS):
            assert set(kept_of(value, **{name: rules[name][0] for name in names})[1]) == set(range(4)) - out


@pytest.mark.parametrize(
    ("must", "wishes"),
    [
        ({"base_filters": "16"}, {"min_acc": 0.6}),
        ({"base_filters": "16"}, {"exclude_measured": True}),
        ({"base_filters": "32", "depth": "3"}, {"max_params": 1}),
        ({"base_filters": "64"}, {}),
        ({"base_filters": "32", "depth": "3"}, {"min_acc": 0.1}),
    ],
)
def test_what_must_be_done_stays_whatever_else_rules_it_out(must, wishes):
    (number,), kept, notes = kept_of("count", must=[must], **wishes)
    assert number not in kept
    assert notes[0].startswith("1 of ")
    assert sum(int(note.split()[0]) for note in notes[1:]) == 3 - len(kept)


def test_what_must_be_done_counts_nothing_where_its_value_is_unknown():
    must, _, _ = select(RUNS, ACC, Wishes(must=[{"depth": "3"}]))
    assert [c.value for c in must] == [0.0, 0.1]


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"must": [{"depth": "4"}]}, r"--must depth=4: no candidate is like that\. There are depth 2, 3; base_filters"),
        ({"exclude": [{"depth": "2"}, {"depth": "2", "batch_size": "65"}]}, "--exclude depth=2,batch_size=65: no cand"),
        ({"must": [{"depth": "2"}], "exclude": [{"base_filters": "32"}]}, r"both name \(2,32,64\): narrow one"),
        ({"must": [{"colour": "red"}]}, "no column 'colour' to filter by; use one of depth"),
        (
            {"min_acc": 0.9},
            r"no candidate is left of 4: 1 of 4 .* diverged .*; 1 of 4 .*; 2 of 4 .* accuracy below 0\.9",
        ),
    ],
)
def test_wishes_that_match_nothing_or_contradict_each_other_are_errors(wishes, message):
    with pytest.raises(ValueError, match=message):
        kept_of(**wishes)


def test_the_runs_of_the_a100_that_learned_nothing_are_no_candidates_unless_asked(reference_data):
    rows = aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows
    candidates = make_candidates(rows, None, CostRules(50)).candidates
    _, kept, (note,) = select(candidates, ACC, Wishes())
    assert len(kept) == 126
    assert note.startswith("17 of 143 candidates left out: diverged when measured")
    assert min(c.acc for c in kept) > 0.11
    assert len(select(candidates, ACC, Wishes(include_diverged=True))[1]) == 143
