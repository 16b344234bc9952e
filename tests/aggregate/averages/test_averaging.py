"""Aggregation: every row is accounted for, only like is averaged with like, and the cache never deceives."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import replace

import pytest

from epochcast.aggregate.aggregate_runs import main
from epochcast.aggregate.averages.averaging import aggregate, is_diverged, report_lines
from epochcast.aggregate.averages.source import write_agg
from epochcast.aggregate.averages.table import load_agg
from epochcast.paths import excluded_csv
from epochcast.schema import PUBLISHED_AGG_COLUMNS, AggRow, Conditions, Exclusion, RunConfig, RunRecord
from epochcast.steady_time import uncertainty
from epochcast.storage.cells import columns
from epochcast.storage.tables import RunTable, read_runs, read_table, write_table
from tests.support.rows import BOX, run_row


def aggregate_rows(tmp_path, *rows):
    return aggregate(RunTable(tmp_path / "runs.csv", list(rows), []))


def only_row(tmp_path, *rows):
    (row,) = aggregate_rows(tmp_path, *rows).rows
    return row


@pytest.fixture
def runs(tmp_path):
    """A runs.csv of two repeats of one configuration and one run of another."""
    path = tmp_path / "results" / "runs.csv"
    rows = [
        run_row(run_id="a", test_acc=0.5),
        run_row((9.0, 2.2, 2.2), run_id="b", test_acc=0.7),
        run_row((8.0, 1.0, 3.0), config=(3, 16, 64), run_id="c"),
    ]
    write_table(path, rows, RunRecord)
    return path


@pytest.fixture
def agg(runs):
    path = runs.with_name("runs_agg.csv")
    write_agg(runs, path)
    return path


# --- the A100 reference ----------------------------------------------------------------------------------------------


@pytest.fixture
def a100(reference_data):
    return reference_data / "a100"


def test_the_a100_runs_give_143_rows_without_the_two_known_stalls(a100):
    result = aggregate(read_runs(a100 / "runs.csv"))
    assert (result.n_read, result.n_used, result.n_left_out, result.n_excluded) == (159, 159, 0, 0)
    assert len(result.rows) == len({row.config for row in result.rows}) == 143
    assert [(s.config, s.timestamp_utc[-8:], s.epoch) for s in result.stalls] == [
        (RunConfig(3, 16, 512), "07:49:41", 3),
        (RunConfig(3, 32, 320), "01:05:38", 2),
    ]
    times = {row.config: row.avg_time_mean for row in result.rows}
    # the epochs that the collection's README names as undisturbed, to the digits that it gives
    assert times[RunConfig(3, 16, 512)] == pytest.approx(0.652, abs=5e-4)
    assert times[RunConfig(3, 32, 320)] == pytest.approx(1.03, abs=5e-3)
    assert len(result.diverged) == 19
    assert len({record.config for record in result.diverged}) == 17
    assert sum(row.n_diverged for row in result.rows) == 19
    assert sum(row.n_diverged == row.n for row in result.rows) == 17
    text = report_lines(result)
    assert "rows_read: 159 (used 159, left out as flagged 0, excluded 0)" in text
    assert "stalled_epochs: 2" in text


def test_the_published_averages_come_out_again_but_for_the_two_stalled_rows(a100):
    ours = {row.config: row for row in aggregate(read_runs(a100 / "runs.csv")).rows}
    published = {row.config: row for row in read_table(a100 / "runs_agg.csv", AggRow)}
    assert ours.keys() == published.keys()
    compared = 0
    for config, theirs in published.items():
        if config in (RunConfig(3, 16, 512), RunConfig(3, 32, 320)):
            continue
        compared += 1
        for name in columns(AggRow)[:PUBLISHED_AGG_COLUMNS]:
            mine, original = getattr(ours[config], name), getattr(theirs, name)
            if name.endswith("_std") and theirs.n == 1:
                assert (mine, original) == (None, 0), (config, name)
            else:  # 1e-9: another order of summation; 1e-12: a deviation of repeats that are equal
                assert mine == pytest.approx(original, rel=1e-9, abs=1e-12), (config, name)
    assert compared == 141


def test_the_published_averages_are_a_table_without_a_source_whose_false_zeros_are_unknown(a100):
    table = load_agg(a100 / "runs_agg.csv")
    assert (table.origin, table.source) == ("a table without a source, used as it is", None)
    assert len(table.rows) == 143
    for row in table.rows:
        is_known = [value is not None for value in (row.avg_time_std, row.thr_std, row.acc_std)]
        assert is_known == [row.n > 1] * 3
    assert {row.conditions for row in table.rows} == {Conditions()}


# --- what is averaged ------------------------------------------------------------------------------------------------


def random_table(path, seed):
    """Runs of a few configurations under a few conditions, some unstable, stalled, diverged or taken back."""
    draw = random.Random(seed)
    conditions = [
        BOX,
        replace(BOX, precision=None),
        replace(BOX, backend="jax"),
        replace(BOX, timing_mode="steps_extrapolated", window_steps=20),
    ]
    rows = []
    for i in range(draw.randint(1, 40)):
        base = draw.uniform(0.5, 5)
        times = [base * draw.choice([1, 1.01, 1.02, 1.6]) for _ in range(draw.randint(2, 8))]
        rows.append(
            run_row(
                times,
                config=(draw.choice([2, 3]), 16, draw.choice([64, 128])),
                run_id=f"r{i}",
                test_acc=draw.choice([None, 0.1, 0.6]),
                conditions=draw.choice(conditions),
                flags=draw.choice([(), (), ("unstable",), ("stalled",), ("diverged",)]),
            )
        )
    write_table(path, rows, RunRecord)
    taken_back = [r.run_id for r in rows[1:] if draw.random() < 0.1]
    if taken_back:
        write_table(excluded_csv(path), [Exclusion(i, "wrong", "2026-01-01") for i in taken_back], Exclusion)
    return rows, taken_back


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(20, 60))])
def test_every_row_read_is_counted_out(tmp_path, seed):
    rows, taken_back = random_table(tmp_path / "runs.csv", seed)
    result = write_agg(tmp_path / "runs.csv", tmp_path / "agg.csv")
    assert result.n_read == len(rows) == result.n_used + result.n_left_out + result.n_excluded
    assert result.n_excluded == len(taken_back)
    assert sum(row.n for row in result.rows) == result.n_used
    kept = Counter((row.config, row.conditions) for row in rows if row.run_id not in taken_back)
    assert [(row.config, row.conditions) for row in result.rows] == sorted(kept, key=lambda k: (k[0], repr(k[1])))
    for row in result.rows:
        assert row.n <= kept[row.config, row.conditions]
        assert (row.avg_time_std is None) == (row.n == 1)
    assert read_table(tmp_path / "agg.csv", AggRow) == result.rows


@pytest.mark.parametrize("name", columns(Conditions))
def test_runs_under_different_conditions_are_never_averaged(tmp_path, name):
    windowed = replace(BOX, timing_mode="steps_extrapolated", window_steps=20)
    other = {
        "tf32": "off",
        "pipeline": "arrays",
        "jit_compile": "off",
        "steps_per_execution": 4,
        "train_n": 10_000,
        "window_steps": 30,
    }
    here = windowed if name == "window_steps" else BOX
    there = windowed if name == "timing_mode" else replace(here, **{name: other.get(name, "other")})
    result = aggregate_rows(tmp_path, run_row(conditions=here), run_row(conditions=there))
    assert [row.n for row in result.rows] == [1, 1]
    assert {row.conditions for row in result.rows} == {here, there}


def test_unknown_equals_only_unknown(tmp_path):
    unknown = replace(BOX, precision=None)
    result = aggregate_rows(tmp_path, run_row(), run_row(conditions=unknown), run_row(conditions=unknown))
    assert {row.precision: row.n for row in result.rows} == {"float32": 1, None: 2}


def test_a_published_rows_tensorflow_version_is_a_condition_up_to_its_minor(tmp_path):
    versions = ("2.20.0", "2.20.1", "2.21.0")
    result = aggregate_rows(tmp_path, *(run_row(conditions=Conditions(), tf_version=v) for v in versions))
    assert {row.backend_version: row.n for row in result.rows} == {"2.20": 2, "2.21": 1}


def test_an_unstable_run_enters_the_mean_only_where_no_clean_one_is(tmp_path):
    unstable = (9.0, 2.0, 4.0, 4.0, 4.0)  # recognised by its times, as an old row carries no flag
    mixed = aggregate_rows(tmp_path, run_row((9.0, 2.0)), run_row(unstable), run_row((9.0, 3.0, 5.0)))
    (row,) = mixed.rows
    assert (row.n, row.n_flagged, row.avg_time_mean, mixed.n_left_out) == (1, 2, 2.0, 2)
    alone = aggregate_rows(tmp_path, run_row(unstable), run_row((9.0, 3.0, 5.0)))
    (row,) = alone.rows
    assert (row.n, row.n_flagged, row.avg_time_mean, alone.n_left_out) == (2, 2, 3.75, 0)  # means 3.5 and 4


def test_what_an_earlier_rule_called_unstable_or_stalled_is_read_again(tmp_path):
    rows = [run_row((9.0, 2.0, 2.5, 2.0, 2.5), flags=("unstable",)), run_row((9.0, 2.0, 2.25, 2.5), flags=("stalled",))]
    (row,) = aggregate_rows(tmp_path, *rows).rows
    assert (row.n, row.n_flagged, row.n_stalled, row.avg_time_mean) == (2, 0, 0, 2.25)
    disturbed = [run_row((9.0, 3.0), flags=("busy_host",)), *rows]  # what nobody can know later is believed
    assert aggregate_rows(tmp_path, *disturbed).rows[0].n == 2


def test_the_noise_of_other_runs_finds_a_stall_of_two_epochs(tmp_path):
    stalled = run_row((9.0, 2.0, 4.0))
    assert aggregate_rows(tmp_path, stalled).rows[0].n_stalled == 0
    others = [run_row((9.0, 2.0, 2.03 + i % 3 / 100), run_id=f"r{i}", config=(3, 16, 64)) for i in range(10)]
    assert [row.n_stalled for row in aggregate_rows(tmp_path, stalled, *others).rows] == [1, 0]
    of_another_box = [replace(row, device_name="another") for row in others]
    assert aggregate_rows(tmp_path, stalled, *of_another_box).rows[0].n_stalled == 0


def test_stalled_epochs_are_left_out_counted_and_named(tmp_path):
    result = aggregate_rows(tmp_path, run_row((9.0, 2.0, 2.0, 2.0, 8.0), run_id="a"), run_row((9.0, 2.0), run_id="b"))
    (row,) = result.rows
    assert (row.avg_time_mean, row.avg_time_std, row.n_stalled, row.n_flagged) == (2.0, 0.0, 1, 0)
    (stall,) = result.stalls
    assert (stall.run_id, stall.epoch, stall.sec, stall.steady_sec) == ("a", 5, 8.0, 2.0)
    assert any("stall: (2,16,64) a epoch 5: 8.00 s where 2.00 s is steady" in line for line in report_lines(result))


def test_accuracy_is_averaged_over_the_largest_epoch_count_alone(tmp_path):
    rows = [
        run_row((9.0, 2.0), test_acc=0.3),
        run_row((9.0, 2.0, 2.0), test_acc=0.5),
        run_row((9.0, 2.0, 2.0), test_acc=0.7),
        run_row((9.0, 2.0, 2.0, 2.0), test_acc=None),  # longer, but not measured
    ]
    row = only_row(tmp_path, *rows)
    assert (row.n, row.acc_epochs) == (4, 3)
    assert row.acc_mean == pytest.approx(0.6, rel=1e-12)
    assert row.acc_std == pytest.approx(math.sqrt(0.02), rel=1e-12)
    unmeasured = only_row(tmp_path, rows[-1])
    assert (unmeasured.acc_mean, unmeasured.acc_std, unmeasured.acc_epochs) == (None, None, None)


def test_one_run_has_no_standard_deviation(tmp_path):
    row = only_row(tmp_path, run_row(test_acc=0.5, overhead_sec=6.0))
    names = [name for name in columns(AggRow) if name.endswith("_std")]
    assert len(names) == 5
    assert [getattr(row, name) for name in names] == [None] * 5
    assert (row.first_epoch_sec_mean, row.overhead_sec_mean) == (9.0, 6.0)
    assert only_row(tmp_path, run_row()).overhead_sec_mean is None  # unknown, not 0


def test_throughput_is_the_mean_of_the_runs_throughputs(tmp_path):
    row = only_row(tmp_path, run_row((9.0, 2.0)), run_row((9.0, 4.0)))
    assert row.thr_mean == pytest.approx((25_000 + 12_500) / 2, rel=1e-12)
    assert row.avg_time_mean == 3.0


def test_windows_are_extrapolated_to_full_epochs_the_first_one_too(tmp_path):
    windowed = replace(BOX, timing_mode="steps_extrapolated", window_steps=20, train_n=6400)
    row = only_row(tmp_path, run_row((5.0, 0.5, 0.5), conditions=windowed))
    assert row.steps_per_epoch == 100  # 5 windows
    assert row.avg_time_mean == pytest.approx(2.5, rel=1e-12)
    assert row.thr_mean == pytest.approx(6400 / 2.5, rel=1e-12)
    assert row.first_epoch_sec_mean == pytest.approx(2.5 + 4.5, rel=1e-12)  # an epoch, and what came on top
    quick = only_row(tmp_path, run_row((0.4, 0.5, 0.5), conditions=windowed))
    assert quick.first_epoch_sec_mean == pytest.approx(2.5, rel=1e-12)


def test_a_parameter_count_that_is_not_the_networks_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"says 280219 parameters, \(2,16,64\) has 280218: .*delete the line"):
        aggregate_rows(tmp_path, run_row(), run_row(params=280_219))


def test_a_run_has_diverged_if_it_says_so_or_only_guesses():
    assert is_diverged(run_row(flags=("diverged",)))
    assert is_diverged(run_row(test_acc=0.0999))
    assert not is_diverged(run_row(test_acc=0.11))
    assert not is_diverged(run_row())


def test_a_row_counts_the_runs_of_its_means_that_diverged(tmp_path):
    guessing = run_row(run_id="a", test_acc=0.1)
    assert only_row(tmp_path, guessing, run_row(run_id="b", test_acc=0.6)).n_diverged == 1
    assert only_row(tmp_path, guessing, run_row(run_id="b", flags=("diverged",))).n_diverged == 2
    assert only_row(tmp_path, run_row(run_id="b")).n_diverged == 0  # of an unknown accuracy, but no NaN
    shared = run_row(run_id="a", test_acc=0.1, flags=("shared_gpu",))
    assert only_row(tmp_path, shared, run_row(run_id="b")).n_diverged == 0  # it is in no mean


# --- the cache -------------------------------------------------------------------------------------------------------


def append(runs, row):
    write_table(runs, [*read_table(runs, RunRecord), row], RunRecord)


def test_a_table_is_made_from_the_runs_beside_it_and_then_found_up_to_date(runs):
    path = runs.with_name("runs_agg.csv")
    with pytest.raises(FileNotFoundError, match="--frozen forbids"):
        load_agg(path, is_frozen=True)
    assert not path.exists()
    made = load_agg(path)
    assert (made.origin, made.source) == (f"made now from {runs}", runs)
    again = load_agg(path, is_frozen=True)
    assert (again.origin, again.rows) == (f"up to date with {runs}", made.rows)


def test_neither_table_nor_runs_is_an_error_that_says_what_to_do(tmp_path, runs):
    with pytest.raises(FileNotFoundError, match=r"no such table\. Measure first"):
        load_agg(tmp_path / "runs_agg.csv")
    with pytest.raises(FileNotFoundError, match=r"no such table\. Measure first"):
        load_agg(runs.with_name("mine.csv"))  # a slip of the pen makes no table


def test_a_table_older_than_its_runs_is_made_anew_and_said_or_refused(runs, agg):
    append(runs, run_row(config=(2, 16, 128), run_id="d"))
    before = agg.read_bytes()
    with pytest.raises(ValueError, match=r"is older than .*, and --frozen forbids"):
        load_agg(agg, is_frozen=True)
    assert agg.read_bytes() == before
    table = load_agg(agg)
    assert table.origin == f"was out of date: made anew from {runs}"
    assert RunConfig(2, 16, 128) in {row.config for row in table.rows}
    assert load_agg(agg).origin == f"up to date with {runs}"


def test_taking_a_run_back_makes_the_table_out_of_date(runs, agg):
    write_table(excluded_csv(runs), [Exclusion("b", "another program ran", "2026-01-02")], Exclusion)
    table = load_agg(agg)
    assert table.origin.startswith("was out of date")
    assert {row.config: row.n for row in table.rows}[RunConfig(2, 16, 64)] == 1
    excluded_csv(runs).unlink()
    assert load_agg(agg).origin.startswith("was out of date")
    assert load_agg(agg).origin.startswith("up to date")


def test_an_edited_table_is_used_as_it_is_and_called_so(runs, agg):
    rows = read_table(agg, AggRow)
    write_table(agg, rows[:1], AggRow)
    append(runs, run_row(run_id="d"))
    table = load_agg(agg, is_frozen=True)
    assert (table.rows, table.source) == (rows[:1], None)
    assert table.origin == "a table edited since it was aggregated, used as it is"


def test_a_table_whose_runs_are_gone_is_used_as_it_is_and_called_so(runs, agg):
    runs.unlink()
    table = load_agg(agg)
    assert (len(table.rows), table.source) == (2, None)
    assert table.origin == f"a table whose source {runs} is gone, used as it is"


def test_a_folder_that_is_moved_keeps_its_own_source(runs, agg):
    folder, aside = runs.parent, runs.parent.with_name("aside")
    folder.rename(aside)
    folder.mkdir()
    write_table(runs, [run_row(run_id="new")], RunRecord)
    moved = load_agg(aside / agg.name)
    assert (moved.origin, len(moved.rows)) == (f"up to date with {aside / 'runs.csv'}", 2)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"source": 1}'])
def test_a_broken_source_record_is_an_error(agg, text):
    record = agg.with_name("runs_agg.csv.source.json")
    record.write_text(text)
    with pytest.raises(ValueError, match=r"source\.json: not a source record .*epochcast aggregate"):
        load_agg(agg)


@pytest.mark.parametrize(
    ("several", "expected"),
    [
        ([(9.0, 2.0, 2.2, 1.8)], uncertainty((9.0, 2.0, 2.2, 1.8)).rel_ci95),
        ([(9.0, 2.0, 2.2, 1.8)] * 4, uncertainty((9.0, 2.0, 2.2, 1.8)).rel_ci95 / 2),
        ([(9.0, 2.0, 2.2, 1.8), (9.0, 2.0)], uncertainty((9.0, 2.0, 2.2, 1.8)).rel_ci95),
        ([(9.0, 2.0)], None),  # one timed epoch says nothing of its error
    ],
)
def test_averages_keep_what_the_runs_own_epochs_say_of_their_error(tmp_path, several, expected):
    (row,) = aggregate_rows(tmp_path, *(run_row(times, run_id=str(i)) for i, times in enumerate(several))).rows
    assert row.rel_ci95 == pytest.approx(expected)


# --- command ---------------------------------------------------------------------------------------------------------


def error_of(capsys):
    """The one line on stderr that a failed command leaves, beside the place of the files."""
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("files under ")]
    assert captured.out == ""
    assert lines[0].startswith("error: ")
    assert "Traceback" not in captured.err
    return "\n".join(lines)


def test_the_command_prints_the_account_and_writes_the_table(runs, capsys):
    out = runs.with_name("runs_agg.csv")
    assert main(["--runs", str(runs), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rows_read: 3 (used 3, left out as flagged 0, excluded 0)"
    assert "configurations: 2 in 2 rows, 1 set(s) of conditions" in lines
    assert "repeated: 1 with 2 runs or more" in lines
    assert "diverged_runs: 0 (loss NaN, or test accuracy about 0.10)" in lines
    assert lines[-1] == f"runs_agg: {out}"
    assert load_agg(out).origin == f"up to date with {runs}"


def test_the_command_prints_one_json_object(runs, capsys):
    out = runs.with_name("runs_agg.csv")
    assert main(["--runs", str(runs), "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["rows_read"], answer["rows_used"], answer["configurations"]) == (3, 3, 2)
    assert answer["out"] == str(out)
    assert [stall["run_id"] for stall in answer["stalls"]] == ["c"]
    assert answer["rows"][0]["avg_time_mean"] == read_table(out, AggRow)[0].avg_time_mean


def test_the_command_never_writes_over_another_kind_of_table(runs, capsys):
    before = runs.read_bytes()
    assert main(["--runs", str(runs), "--out", str(runs)]) == 1
    assert f"error: {runs} is a table of runs, and is not replaced by a table of averages." in error_of(capsys)
    assert runs.read_bytes() == before
    assert [path.name for path in runs.parent.iterdir()] == ["runs.csv"]


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, runs, capsys):
    assert main(["--runs", str(tmp_path / "none.csv")]) == 1
    assert f"{tmp_path / 'none.csv'}: no such table" in error_of(capsys)
    write_table(tmp_path / "runs.csv", [], RunRecord)
    assert main(["--runs", str(tmp_path / "runs.csv"), "--out", str(tmp_path / "agg.csv")]) == 1
    assert "holds no finished run. Measure one" in error_of(capsys)
    assert not (tmp_path / "agg.csv").exists()
    for out in ("/dev/full", runs / "below.csv", tmp_path):
        assert main(["--runs", str(runs), "--out", str(out)]) == 1
        assert str(runs if out == runs / "below.csv" else out) in error_of(capsys)
    with pytest.raises(SystemExit) as stop:
        main(["--nothing"])
    assert stop.value.code == 2
