"""Candidates: what a run would cost in wall seconds, and from where each part of that is known."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from rows import agg_row

from aggregate.runs_agg import aggregate
from epochcast.assumptions import assumption
from epochcast.paths import pretrained_dir
from epochcast.schema import RunConfig
from epochcast.tables import read_runs
from model.design import DEFAULT_GRID
from model.intervals import Widths
from model.predictor import load_model
from model.startup import Excess
from planner.candidates import Candidate, CostRules, choose_value, make_candidates, with_values
from workload.shape import count_params

CPU = "AMD EPYC 9B14 (2 cores)"
GPU = "NVIDIA A100 80GB PCIe"


@pytest.fixture(scope="module")
def pretrained():
    return load_model(pretrained_dir() / "a100.keras")


def measured_row(batch_size=64, **more):
    known = {"overhead_sec_mean": 6.0, "first_epoch_sec_mean": 11.0, "device_name": CPU, "acc_mean": 0.6}
    return agg_row(batch_size=batch_size, **{**known, **more})


# --- cost ------------------------------------------------------------------------------------------------------------


def test_a_run_costs_overhead_first_epoch_and_the_other_epochs_rounded_up_to_milliseconds():
    candidate = Candidate(
        RunConfig(), 1, 50, overhead_sec=6.2, first_epoch_sec=11.0004, steady_sec=2.5, acc=None, images_per_sec=1.0
    )
    assert candidate.total_sec == pytest.approx(6.2 + 11.0004 + 49 * 2.5, rel=1e-12)
    assert candidate.cost_ms == 139_701


def test_a_measured_row_is_priced_by_its_own_parts_without_a_note():
    (candidate,), notes = make_candidates([measured_row()], None, CostRules(10))
    assert notes == []
    assert (candidate.overhead_sec, candidate.first_epoch_sec, candidate.steady_sec) == (6.0, 11.0, 2.0)
    assert candidate.total_sec == 6 + 11 + 9 * 2
    assert (candidate.acc, candidate.images_per_sec, candidate.epochs) == (0.6, 25_000.0, 10)
    assert candidate.params == count_params(2, 16)


@pytest.mark.parametrize(("first_epoch", "seconds"), [("measured", 11.0), ("none", 2.0), (30.0, 30.0), (0.5, 0.5)])
def test_the_first_epoch_is_as_measured_like_any_other_or_as_given(first_epoch, seconds):
    (candidate,), notes = make_candidates([measured_row()], None, CostRules(10, 0.0, first_epoch))
    assert (candidate.first_epoch_sec, candidate.overhead_sec, notes) == (seconds, 0.0, [])


def test_a_first_epoch_quicker_than_the_others_costs_no_less_than_one_of_them():
    quick = measured_row(first_epoch_sec_mean=1.5)
    rows = [quick, measured_row(128, first_epoch_sec_mean=None)]
    candidates, (note,) = make_candidates(rows, None, CostRules(2))
    assert [c.first_epoch_sec for c in candidates] == [2.0, 2.0]
    assert "assumed 0 s, the median of 1 measured rows" in note


def test_a_run_has_at_least_one_timed_epoch():
    with pytest.raises(ValueError, match="epochs must be at least 2, got 1"):
        CostRules(1)


def test_an_unknown_part_is_the_median_of_the_rows_that_know_it_and_said():
    rows = [
        measured_row(32, overhead_sec_mean=5.0),
        measured_row(64, overhead_sec_mean=7.0),
        measured_row(128, overhead_sec_mean=30.0, first_epoch_sec_mean=None),
        measured_row(256, overhead_sec_mean=None, first_epoch_sec_mean=None),
    ]
    candidates, notes = make_candidates(rows, None, CostRules(2))
    assert [c.overhead_sec for c in candidates] == [5, 7, 30, 7]
    assert [c.first_epoch_sec for c in candidates] == [11.0] * 4  # 9 s beyond a steady epoch
    assert notes == [
        "first epoch beyond a steady one unknown for 2 of 4 candidates: assumed 9.00 s, the median of 2 measured rows",
        "overhead unknown for 1 of 4 candidates: assumed 7.00 s, the median of 3 measured rows",
    ]


@pytest.mark.parametrize(("device", "kind"), [(CPU, "cpu"), (GPU, "gpu"), (None, "gpu")])
def test_what_no_row_knows_is_an_assumption_for_the_device_with_its_source(device, kind):
    row = measured_row(overhead_sec_mean=None, first_epoch_sec_mean=None, device_name=device)
    (candidate,), notes = make_candidates([row], None, CostRules(2))
    overhead, excess = assumption("overhead_sec", kind), assumption("first_epoch_excess_sec", kind)
    assert candidate.overhead_sec == overhead.value > 0
    assert candidate.first_epoch_sec == excess.value + 2.0
    assert len(notes) == 2
    for note, fact in zip(notes, (overhead, excess), strict=True):
        assert "unknown for 1 of 1 candidates" in note
        assert note.endswith(f"an assumption for a {kind}: {fact.source} ({fact.date})")


def test_what_is_given_needs_no_assumption():
    row = measured_row(overhead_sec_mean=None, first_epoch_sec_mean=None)
    assert make_candidates([row], None, CostRules(2, 1.0, 4.0))[1] == []


def test_the_cost_formula_holds_for_every_a100_row(reference_data):
    rows = aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows
    candidates, notes = make_candidates(rows, None, CostRules(50))
    assert len(notes) == 1  # the published columns know no overhead
    for row, candidate in zip(rows, candidates, strict=True):
        seconds = 16.2 + row.first_epoch_sec_mean + 49 * row.avg_time_mean
        assert candidate.config == row.config
        assert candidate.total_sec == pytest.approx(seconds, rel=1e-12)
        assert 0 <= Fraction(candidate.cost_ms, 1000) - Fraction(repr(candidate.total_sec)) < Fraction(1, 1000)


# --- predictions -----------------------------------------------------------------------------------------------------


def test_without_rows_the_default_grid_is_predicted_and_its_costs_come_from_the_card(pretrained):
    candidates, notes = make_candidates([], pretrained, CostRules(50))
    assert len(candidates) == 96 == len({c.config for c in candidates})
    assert all(getattr(c.config, name) in values for c in candidates for name, values in DEFAULT_GRID.items())
    assert {c.acc for c in candidates} == {None}
    assert notes[0].startswith("nothing measured to plan from: the default grid (depth 2/3/4/5, ")
    assert notes[0].endswith("96 of 96 configurations within the range of a100.keras")
    assert notes[1].startswith(f"steady times are predictions for {GPU}")
    joined = "\n".join(notes)
    n_overheads, n_excesses = (pretrained.card[name]["n"] for name in ("overhead_sec", "first_epoch_excess_sec"))
    behind = "the median of the {} rows behind a100.keras"
    assert f"overhead unknown for 96 of 96 candidates: assumed 16.1 s, {behind.format(n_overheads)}" in joined
    behind = f"as the {n_excesses} rows behind a100.keras tell for each configuration"
    assert f"first epoch beyond a steady one unknown for 96 of 96 candidates: assumed about 15.4 s, {behind}" in joined
    times = pretrained.time_model.times([c.config for c in candidates])
    assert [c.steady_sec for c in candidates] == pytest.approx(times, rel=1e-12)
    excesses = {c.config: c.first_epoch_sec - c.steady_sec for c in candidates}
    assert excesses[RunConfig(5, 128, 2048)] > excesses[RunConfig(2, 16, 64)] > 0  # its compiling takes longer
    for c in candidates:
        run = pretrained.forecast(c.config, 50).run  # what predict_perf says
        assert c.overhead_sec == run.overhead.value
        assert c.first_epoch_sec == pytest.approx(run.first_epoch.value, rel=1e-12)
        assert c.total_sec == pytest.approx(run.wall.value, rel=1e-12)
        assert c.images_per_sec == pytest.approx(50_000 / c.steady_sec, rel=1e-12)


@pytest.mark.parametrize("box", [GPU, CPU])
def test_predictions_for_another_device_say_so(pretrained, monkeypatch, box):
    monkeypatch.setattr("planner.candidates.box_device_name", lambda: box)
    note = make_candidates([], pretrained, CostRules(2))[1][1]
    assert note == f"steady times are predictions for {GPU}" + (f", NOT this box ({CPU})" if box == CPU else "")


def test_predicted_rows_keep_their_own_first_epoch_excess_and_extrapolation_is_said(pretrained):
    rows = [measured_row(64), measured_row(4096)]
    candidates, notes = make_candidates(rows, pretrained, CostRules(2))
    for candidate in candidates:
        assert candidate.first_epoch_sec == pytest.approx(candidate.steady_sec + 9.0, rel=1e-12)
        assert candidate.overhead_sec == 6.0
    assert "1 of 2 predictions extrapolate: outside the range of a100.keras" in notes
    assert not any("extrapolate" in note for note in make_candidates(rows[:1], pretrained, CostRules(2))[1])


def test_epochs_of_another_length_are_not_predicted(pretrained):
    with pytest.raises(ValueError, match="predicts epochs of 50000 images, the table holds epochs of 10000"):
        make_candidates([measured_row(train_n=10_000)], pretrained, CostRules(2))
    (candidate,), _ = make_candidates([measured_row(train_n=10_000)], None, CostRules(2))
    assert candidate.images_per_sec == 5000.0


def test_a_model_that_reaches_nothing_of_the_default_grid_is_an_error(pretrained):
    elsewhere = replace(pretrained, range=replace(pretrained.range, batch_size=(3, 5)))
    with pytest.raises(ValueError, match="was measured on no configuration of the default grid"):
        make_candidates([], elsewhere, CostRules(2))


def test_a_model_of_too_few_rows_for_a_law_of_first_epochs_answers_with_their_median(pretrained):
    saved = replace(pretrained, excess=Excess(None, 4.5, 3, pretrained.range, Widths(None, None, 0)))
    candidates, notes = make_candidates([], saved, CostRules(2))
    assert {round(c.first_epoch_sec - c.steady_sec, 9) for c in candidates} == {4.5}
    assert any("assumed about 4.50 s, as the 3 rows behind a100.keras tell" in note for note in notes)


def test_a_model_that_knows_no_start_up_leaves_it_to_the_assumptions(pretrained):
    card = {**pretrained.card, "first_epoch_excess_sec": None, "overhead_sec": None}
    saved = replace(pretrained, card=card, excess=None, overhead=None)
    candidates, notes = make_candidates([], saved, CostRules(2))
    overhead, excess = assumption("overhead_sec", "gpu"), assumption("first_epoch_excess_sec", "gpu")
    assert {c.overhead_sec for c in candidates} == {overhead.value}
    assert {round(c.first_epoch_sec - c.steady_sec, 9) for c in candidates} == {excess.value}
    assert sum("an assumption for a gpu" in note for note in notes) == 2


def test_rows_that_know_their_first_epoch_are_asked_before_the_model(pretrained):
    rows = [measured_row(64), measured_row(128, first_epoch_sec_mean=None)]
    candidates, notes = make_candidates(rows, pretrained, CostRules(2))
    assert [c.first_epoch_sec - c.steady_sec for c in candidates] == pytest.approx([9.0, 9.0])
    assert any("assumed 9.00 s, the median of 1 measured rows" in note for note in notes)


# --- worth -----------------------------------------------------------------------------------------------------------


def three():
    rows = [measured_row(32, acc_mean=0.5), measured_row(64, acc_mean=0.7), measured_row(128, acc_mean=None)]
    return make_candidates(rows, None, CostRules(2))[0]


def test_accuracy_is_maximised_only_where_all_have_one():
    assert choose_value(three()) == "count"
    assert choose_value(three()[:2]) == "acc"


def test_each_value_is_what_it_says():
    assert [c.value for c in with_values(three(), "count", None)[0]] == [1, 1, 1]
    assert [c.value for c in with_values(three(), "thr", None)[0]] == [25_000.0] * 3
    kept, notes = with_values(three(), "acc", None)
    assert [c.value for c in kept] == [0.5, 0.7]
    assert notes == ["1 of 3 candidates left out: no accuracy was measured"]


@pytest.mark.parametrize("value", ["acc", "thr", "count"])
def test_min_acc_keeps_what_reaches_it_and_counts_the_rest(value):
    kept, notes = with_values(three(), value, 0.7)
    assert [c.acc for c in kept] == [0.7]
    assert notes == [
        "1 of 3 candidates left out: no accuracy was measured",
        "1 of 2 candidates left out: accuracy below 0.7",
    ]
    with pytest.raises(ValueError, match=r"no candidate is left of 3: .*; 2 of 2 .* accuracy below 0\.71"):
        with_values(three(), value, 0.71)
