"""Candidates: what a run would cost in wall seconds, how well that is known, and from where each part of it is."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.facts.assumptions import assumption
from epochcast.interval import Interval
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS, Widths
from epochcast.model.time_model.saved_model import load_model
from epochcast.model.time_model.startup import Excess
from epochcast.paths import pretrained_dir
from epochcast.planner.costs.candidates import Candidate, CostRules
from epochcast.planner.costs.make_candidates import has_diverged, make_candidates
from epochcast.planner.costs.repeat_spread import PARTS
from epochcast.schema import DEFAULT_GRID, RunConfig
from epochcast.storage.tables import read_runs
from epochcast.workload.shape import count_params
from tests.support.rows import agg_row, run_costing

CPU = "AMD EPYC 9B14 (2 cores)"
GPU = "NVIDIA A100 80GB PCIe"


@pytest.fixture(scope="module")
def pretrained():
    return load_model(pretrained_dir() / "a100.keras")


def measured_row(batch_size=64, **more):
    known = {"overhead_sec_mean": 6.0, "first_epoch_sec_mean": 11.0, "device_name": GPU, "acc_mean": 0.6}
    return agg_row(batch_size=batch_size, **{**known, **more})


def seconds_of(candidate):
    return candidate.overhead.value, candidate.first_epoch.value, candidate.steady.value


# --- cost ------------------------------------------------------------------------------------------------------------


def test_a_run_costs_overhead_first_epoch_and_the_other_epochs_and_errors_add_as_squares():
    parts = [Interval.of_absolute(6.2, 0.3), Interval.of_absolute(11.0, 0.4), Interval.of_absolute(2.5, 0.1)]
    candidate = Candidate(RunConfig(), 1, 50, *parts, images_per_sec=1.0)
    assert candidate.total_sec == candidate.run.value == pytest.approx(6.2 + 11.0 + 49 * 2.5, rel=1e-12)
    half = math.hypot(0.3, 0.4, 4.9)  # one error of the steady time, 49 times
    assert candidate.run.high - candidate.run.value == pytest.approx(half, rel=1e-9)
    assert candidate.sd_sec == pytest.approx(half / HALF_WIDTH_SDS, rel=1e-9)


@pytest.mark.parametrize("repeats", [1, 3, 10])
def test_repeats_cost_as_often_and_share_a_models_error_but_not_that_of_measuring(repeats):
    run = run_costing(10.0, sd=0.5, repeats=repeats)
    assert run.total_sec == 10 * repeats
    assert run.sd_sec == pytest.approx(0.5 * repeats**0.5, rel=1e-9)
    assert replace(run, is_predicted=True).sd_sec == pytest.approx(0.5 * repeats, rel=1e-9)
    assert run.run.value == 10
    assert run_costing(10.0, sd=None, repeats=repeats).sd_sec is None


def test_a_measured_row_is_priced_by_its_own_parts_without_a_note():
    offer = make_candidates([measured_row()], None, CostRules(10, repeats=2))
    (candidate,) = offer.candidates
    assert offer.notes == []
    assert seconds_of(candidate) == (6.0, 11.0, 2.0)
    assert candidate.total_sec == 2 * (6 + 11 + 9 * 2)
    assert (candidate.acc, candidate.images_per_sec, candidate.epochs, candidate.repeats) == (0.6, 25_000.0, 10, 2)
    assert candidate.params == count_params(RunConfig(2, 16))
    assert (candidate.was_measured, candidate.is_predicted, candidate.is_extrapolated) == (True, False, False)


@pytest.mark.parametrize(("first_epoch", "seconds"), [("measured", 11.0), ("none", 2.0), (30.0, 30.0), (0.5, 0.5)])
def test_the_first_epoch_is_as_measured_like_any_other_or_as_given(first_epoch, seconds):
    offer = make_candidates([measured_row()], None, CostRules(10, 0.0, first_epoch))
    (candidate,) = offer.candidates
    assert (seconds_of(candidate), offer.notes) == ((0.0, seconds, 2.0), [])


def test_a_first_epoch_quicker_than_the_others_costs_no_less_than_one_of_them():
    quick = measured_row(first_epoch_sec_mean=1.5)
    rows = [quick, measured_row(128, first_epoch_sec_mean=None)]
    offer = make_candidates(rows, None, CostRules(2))
    assert [c.first_epoch.value for c in offer.candidates] == [2.0, 2.0]
    assert "assumed 0 s, the median of 1 measured rows" in offer.notes[0]


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
    offer = make_candidates(rows, None, CostRules(2))
    assert [c.overhead.value for c in offer.candidates] == [5, 7, 30, 7]
    assert [c.first_epoch.value for c in offer.candidates] == [11.0] * 4  # 9 s beyond a steady epoch
    assert offer.notes == [
        "first epoch beyond a steady one unknown for 2 of 4 candidates: assumed 9.00 s, the median of 2 measured rows",
        "overhead unknown for 1 of 4 candidates: assumed 7.00 s, the median of 3 measured rows",
    ]


@pytest.mark.parametrize(("device", "kind"), [(CPU, "cpu"), (GPU, "gpu"), (None, "gpu")])
def test_what_no_row_knows_is_an_assumption_for_the_device_with_its_source_and_without_an_error(device, kind):
    row = measured_row(overhead_sec_mean=None, first_epoch_sec_mean=None, device_name=device)
    offer = make_candidates([row], None, CostRules(2))
    (candidate,), notes = offer.candidates, offer.notes
    overhead, excess = assumption("overhead_sec", kind), assumption("first_epoch_excess_sec", kind)
    assert candidate.overhead == Interval(overhead.value)
    assert candidate.first_epoch == Interval(excess.value + 2.0)
    assert candidate.overhead.value > 0
    assert candidate.sd_sec is None
    assert len(notes) == 2
    for note, fact in zip(notes, (overhead, excess), strict=True):
        assert "unknown for 1 of 1 candidates" in note
        assert note.endswith(f"an assumption for a {kind}: {fact.source} ({fact.date})")


def test_what_is_given_needs_no_assumption_and_has_no_error():
    row = measured_row(overhead_sec_mean=None, first_epoch_sec_mean=None)
    offer = make_candidates([row], None, CostRules(2, 1.0, 4.0))
    (candidate,) = offer.candidates
    assert offer.notes == []
    assert candidate.overhead == Interval(1.0, 1.0, 1.0)
    assert candidate.first_epoch == Interval(4.0, 4.0, 4.0)
    assert candidate.sd_sec > 0


def test_a_measured_run_is_known_as_well_as_repeats_agree_and_assumed_agreement_is_said():
    offer = make_candidates([measured_row()], None, CostRules(10))
    (candidate,) = offer.candidates
    (note,) = offer.error_notes
    assert "too few repeats to tell their spread: assumed for a gpu: steady 0.640 %, first epoch 0.810 %" in note
    for part in PARTS:
        time = getattr(candidate, part)
        sd = math.sqrt(2) * assumption(f"repeat_sd_{part}", "gpu").value  # of a run after one
        assert time.high == pytest.approx(time.value * (1 + HALF_WIDTH_SDS * sd), rel=1e-9)
    stds = {"first_epoch_sec_std": 0.1, "overhead_sec_std": 0.1}
    rows = [measured_row(b, n=4, std=0.4, **stds) for b in (64, 128)]
    offer = make_candidates(rows, None, CostRules(10))
    assert offer.error_notes == []
    half = HALF_WIDTH_SDS * 0.2 * math.sqrt(1.25) * 2.0
    assert offer.candidates[0].steady.high == pytest.approx(2 + half, rel=1e-9)


def test_a_table_of_a_device_that_no_spread_is_assumed_for_still_makes_candidates():
    for device in (CPU, GPU, None):
        (candidate,) = make_candidates([measured_row(device_name=device)], None, CostRules(10)).candidates
        assert candidate.total_sec == 6 + 11 + 9 * 2


def test_the_cost_formula_holds_for_every_a100_row(reference_data):
    rows = aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows
    offer = make_candidates(rows, None, CostRules(50, overhead_sec=16.2))
    assert offer.notes == []
    assert "steady" not in "".join(offer.error_notes)  # enough were repeated: sixteen degrees of freedom
    for row, candidate in zip(rows, offer.candidates, strict=True):
        seconds = 16.2 + row.first_epoch_sec_mean + 49 * row.avg_time_mean
        assert candidate.config == row.config
        assert candidate.total_sec == pytest.approx(seconds, rel=1e-12)
        assert 0.002 < candidate.sd_sec / candidate.total_sec < 0.01  # repeats agree to 0.65 %
    assert sum(c.has_diverged for c in offer.candidates) == 17


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        ({"n_diverged": 0, "n": 3, "acc_mean": 0.1}, False),  # low, but each run learned something
        ({"n_diverged": 1, "n": 3}, False),
        ({"n_diverged": 1, "n": 2}, True),
        ({"n_diverged": 3, "n": 3}, True),
        ({"acc_mean": 0.1}, True),
        ({"acc_mean": 0.3}, False),
        ({"acc_mean": None}, False),
    ],
)
def test_a_configuration_has_diverged_if_half_of_its_runs_have(known, answer):
    row = measured_row(**known)
    assert has_diverged(row) == answer
    assert make_candidates([row], None, CostRules(2)).candidates[0].has_diverged == answer


# --- predictions -----------------------------------------------------------------------------------------------------


def test_without_rows_the_default_grid_is_predicted_and_its_costs_come_from_the_card(pretrained):
    offer = make_candidates([], pretrained, CostRules(50))
    candidates, notes = offer.candidates, offer.notes
    assert len(candidates) == 96 == len({c.config for c in candidates})
    assert all(getattr(c.config, name) in values for c in candidates for name, values in DEFAULT_GRID.items())
    assert {(c.acc, c.was_measured, c.is_predicted, c.has_diverged) for c in candidates} == {(None, False, True, False)}
    assert notes[0].startswith("nothing measured to plan from: the default grid (depth 2/3/4/5, ")
    assert notes[0].endswith("96 of 96 configurations within the range of a100.keras")
    assert notes[1].startswith(f"steady times are predictions for {GPU}")
    assert offer.error_notes == []
    joined = "\n".join(notes)
    n_overheads, n_excesses = (pretrained.card[name]["n"] for name in ("overhead_sec", "first_epoch_excess_sec"))
    behind = "the median of {} rows behind a100.keras"
    assert f"overhead unknown for 96 of 96 candidates: assumed 16.1 s, {behind.format(n_overheads)}" in joined
    behind = f"as the {n_excesses} rows behind a100.keras tell for each configuration"
    assert f"first epoch beyond a steady one unknown for 96 of 96 candidates: assumed about 15.4 s, {behind}" in joined
    times = pretrained.time_model.times([c.config for c in candidates])
    assert [c.steady.value for c in candidates] == pytest.approx(times, rel=1e-12)
    excesses = {c.config: c.first_epoch.value - c.steady.value for c in candidates}
    assert excesses[RunConfig(5, 128, 2048)] > excesses[RunConfig(2, 16, 64)] > 0  # its compiling takes longer
    for c in candidates:
        run = pretrained.forecast(c.config, 50).run  # what predict_perf says
        assert c.overhead == run.overhead
        assert c.first_epoch.value == pytest.approx(run.first_epoch.value, rel=1e-12)
        assert c.total_sec == pytest.approx(run.wall.value, rel=1e-12)
        assert c.images_per_sec == pytest.approx(50_000 / c.steady.value, rel=1e-12)
        assert c.sd_sec > 0


def test_what_is_measured_is_asked_before_the_model_and_what_is_not_is_predicted(pretrained):
    rows = [measured_row(64), measured_row(256)]
    configs = [RunConfig(2, 16, 64), RunConfig(3, 32, 512), RunConfig(2, 16, 64)]  # one of them twice
    offer = make_candidates(rows, pretrained, CostRules(10), configs)
    known, new = offer.candidates
    assert (known.config, known.was_measured, known.is_predicted) == (configs[0], True, False)
    assert (new.config, new.was_measured, new.is_predicted, new.acc) == (configs[1], False, True, None)
    assert seconds_of(known) == (6.0, 11.0, 2.0)
    assert new.steady == pretrained.forecast(configs[1]).steady
    assert new.overhead.value == 6.0  # this box's, not the model's
    assert "steady times of 1 of 2 candidates are predictions for" in "\n".join(offer.notes)
    assert "overhead unknown for 1 of 2 candidates" in "\n".join(offer.notes)
    assert len(offer.error_notes) == 1


def test_all_are_predicted_where_that_is_asked_for(pretrained):
    rows = [measured_row(64, acc_mean=0.1), measured_row(256)]
    offer = make_candidates(rows, pretrained, CostRules(10), is_predicted=True)
    for row, candidate in zip(rows, offer.candidates, strict=True):
        assert candidate.steady == pretrained.forecast(row.config).steady
        assert (candidate.was_measured, candidate.is_predicted, candidate.acc) == (True, True, row.acc_mean)
    assert [c.has_diverged for c in offer.candidates] == [True, False]
    assert offer.error_notes == []  # no repeats were asked


def test_without_a_model_what_was_never_measured_is_left_out_and_counted():
    configs = [RunConfig(2, 16, 64), RunConfig(3, 32, 512)]
    offer = make_candidates([measured_row(64)], None, CostRules(10), configs)
    assert [c.config for c in offer.candidates] == configs[:1]
    assert offer.notes == ["1 of 2 candidates left out: never measured"]
    with pytest.raises(ValueError, match="none of the candidates was measured"):
        make_candidates([measured_row(64)], None, CostRules(10), configs[1:])


@pytest.mark.parametrize("box", [GPU, CPU])
def test_predictions_for_another_device_say_so(pretrained, monkeypatch, box):
    monkeypatch.setattr("epochcast.planner.costs.make_candidates.box_name_for", lambda _: box)
    note = make_candidates([], pretrained, CostRules(2)).notes[1]
    assert note == f"steady times are predictions for {GPU}" + (f", NOT this box ({CPU})" if box == CPU else "")


def test_predictions_outside_the_measured_range_say_so_and_far_outside_have_no_error(pretrained):
    rows = [measured_row(64), measured_row(4096), measured_row(2**17)]
    offer = make_candidates(rows, pretrained, CostRules(2), is_predicted=True)
    assert "2 of 3 predictions extrapolate: outside the range of a100.keras" in offer.notes
    assert [c.is_extrapolated for c in offer.candidates] == [False, True, True]
    assert offer.candidates[2].sd_sec is None
    for candidate in offer.candidates:  # what these rows know beyond steady times
        assert candidate.first_epoch.value == pytest.approx(candidate.steady.value + 9.0, rel=1e-12)
        assert candidate.overhead.value == 6.0
    within = make_candidates(rows[:1], pretrained, CostRules(2), is_predicted=True)
    assert not any("extrapolate" in note for note in within.notes)


def test_epochs_of_another_length_are_not_predicted(pretrained):
    with pytest.raises(ValueError, match="predicts epochs of 50000 images, the table holds epochs of 10000"):
        make_candidates([measured_row(train_n=10_000)], pretrained, CostRules(2))
    (candidate,) = make_candidates([measured_row(train_n=10_000)], None, CostRules(2)).candidates
    assert candidate.images_per_sec == 5000.0


def test_neither_rows_nor_a_model_is_an_error():
    with pytest.raises(ValueError, match=r"nothing measured to plan from\. Measure first"):
        make_candidates([], None, CostRules(2))


def test_a_model_that_reaches_nothing_of_the_default_grid_is_an_error(pretrained):
    elsewhere = replace(pretrained, range=replace(pretrained.range, batch_size=(3, 5)))
    with pytest.raises(ValueError, match="was measured on no configuration of the default grid"):
        make_candidates([], elsewhere, CostRules(2))


def test_a_model_of_too_few_rows_for_a_law_of_first_epochs_answers_with_their_median(pretrained):
    saved = replace(pretrained, excess=Excess(None, 4.5, 3, pretrained.range, Widths(None, None, 0)))
    offer = make_candidates([], saved, CostRules(2))
    assert {round(c.first_epoch.value - c.steady.value, 9) for c in offer.candidates} == {4.5}
    assert {c.sd_sec for c in offer.candidates} == {None}
    assert any("assumed 4.50 s, the median of 3 rows behind a100.keras" in note for note in offer.notes)


def test_a_model_that_knows_no_start_up_leaves_it_to_the_assumptions(pretrained):
    card = {**pretrained.card, "first_epoch_excess_sec": None, "overhead_sec": None}
    saved = replace(pretrained, card=card, excess=None, overhead=None)
    offer = make_candidates([], saved, CostRules(2))
    overhead, excess = assumption("overhead_sec", "gpu"), assumption("first_epoch_excess_sec", "gpu")
    assert {c.overhead for c in offer.candidates} == {Interval(overhead.value)}
    assert {round(c.first_epoch.value - c.steady.value, 9) for c in offer.candidates} == {excess.value}
    assert sum("an assumption for a gpu" in note for note in offer.notes) == 2


def test_rows_that_know_their_first_epoch_are_asked_before_the_model(pretrained):
    rows = [measured_row(64), measured_row(128, first_epoch_sec_mean=None)]
    offer = make_candidates(rows, pretrained, CostRules(2), is_predicted=True)
    assert [c.first_epoch.value - c.steady.value for c in offer.candidates] == pytest.approx([9.0, 9.0])
    assert any("assumed 9.00 s, the median of 1 measured rows" in note for note in offer.notes)
