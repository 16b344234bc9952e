"""`epochcast next_runs`: a file that a grid takes as it is, from nothing or from what is measured, and what it says."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
import sys

import pytest

from epochcast.collect import run_grid
from epochcast.collect.grid.config_lists import read_specs
from epochcast.machine.gpu_driver import box_device_name
from epochcast.model.next_runs import main
from epochcast.model.selection.next_runs import plan_next
from epochcast.model.time_model.intervals import MIN_ERRORS
from epochcast.paths import CODE_ROOT, command_text
from epochcast.schema import AggRow, Conditions, RunConfig, RunRecord, RunSpec
from epochcast.storage.tables import write_table
from tests.support.cli import run_cli
from tests.support.models.next_runs_rows import CPU, GRID, MODEL, SMALL, SMALL_GRID, row_of
from tests.support.rows import BOX, agg_row, assert_one_clear_error, run_row

pytestmark = pytest.mark.usefixtures("home")


def table_of(home, rows):
    path = home / "table.csv"
    write_table(path, rows, AggRow)
    return ["--runs_agg", str(path)]


def lines_of(*flags):
    return run_cli(main, *flags).lines


def answer_of(*flags):
    return run_cli(main, *flags, "--json").json


def specs_of(home):
    return read_specs(home / "results" / "next_runs.csv", RunSpec())


def test_from_nothing_nine_runs_of_the_default_grid_are_named_and_written_and_the_next_command_is_said(home):
    lines = lines_of()
    path = home / "results" / "next_runs.csv"
    assert lines[0] == "measured: nothing yet"
    assert lines[-1] == f"next: {command_text('grid')} --configs {path}"
    specs = specs_of(home)
    assert len(specs) == len(set(specs)) == MIN_ERRORS == 9  # as many as give a range
    assert {spec.config for spec in specs} <= set(GRID)
    assert specs == [RunSpec(*dataclasses.astuple(spec.config)) for spec in specs]  # all else as a grid's flags say
    table = [line.split() for line in lines if "D-optimal" in line or "variance reduction" in line]
    assert [tuple(map(int, row[1:4])) for row in table] == [dataclasses.astuple(spec.config) for spec in specs]
    assert [int(row[0]) for row in table] == list(range(1, 10))
    (weighed,) = [line for line in lines if line.startswith("chosen: ")]
    assert "weighed by a100.keras (NVIDIA A100 80GB PCIe" in weighed
    assert weighed.endswith("epochs of 50,000 images)")
    (expected,) = [line for line in lines if line.startswith("expected: ")]
    assert re.fullmatch(
        r"expected: .* in all; rough: assumed for a [CG]PU, no run of this box is finished yet", expected
    )
    assert [p.name for p in home.rglob("*") if p.is_file()] == ["next_runs.csv"]


@pytest.mark.parametrize("is_same", [False, True])
def test_seconds_of_another_device_are_called_good_for_their_ratios_only(monkeypatch, is_same):
    box = "NVIDIA A100 80GB PCIe" if is_same else CPU
    monkeypatch.setattr("epochcast.gpus.lookup.box_device_names", lambda: [box])
    answer = answer_of()
    source = answer["ratios_from"]
    assert "A100" not in answer["seconds_from"]
    assert source.startswith(f"a100.keras ({'this box: ' if is_same else ''}NVIDIA A100 80GB PCIe")
    assert ("another device: only their ratios count" in source) != is_same


def finished_here(wall_sec):
    """Runs of this box, of which a run took so many seconds."""
    row = run_row(
        (9.0, 2.0, 2.0), config=(2, 16, 64), conditions=dataclasses.replace(BOX, device_name=box_device_name())
    )
    return [dataclasses.replace(row, run_id=f"r{i}", wall_sec=wall_sec) for i in range(3)]


@pytest.mark.parametrize("flags", [[], ["--epochs", "4"], ["--n", "3"], ["--model", MODEL[1]]])
@pytest.mark.parametrize("wall_sec", [None, 20.0, 400.0])
def test_the_grid_of_the_file_expects_the_same_time_by_the_same_clock(home, capsys, flags, wall_sec):
    if wall_sec is not None:
        write_table(home / "results" / "runs.csv", finished_here(wall_sec), RunRecord)
        flags = [flag for flag in flags if flag not in MODEL]
    lines = lines_of(*flags)
    (expected,) = [line for line in lines if line.startswith("expected: ")]
    time, basis = re.fullmatch(r"expected: (.*) in all; (.*)", expected).groups()
    assert basis.startswith("rough: assumed for" if wall_sec is None else "by 3 finished runs of this box")
    command = shlex.split(lines[-1].partition(" --configs ")[2])
    assert run_grid.main(["--configs", *command, "--dry_run"]) == 0
    opening = capsys.readouterr().out.splitlines()[0]
    assert f" to measure, about {time} (up to " in opening
    assert opening.endswith(f"; {basis}")


def test_what_is_measured_is_counted_and_not_named_again_until_the_grid_is_done(home, capsys):
    rows, numbers = [], []
    while len(rows) < len(SMALL_GRID):
        flags = table_of(home, rows) if rows else MODEL
        answer = answer_of(*SMALL, "--n", 5, *flags)
        assert answer["measured"] == len(rows)
        named = [spec.config for spec in specs_of(home)]
        assert len(named) == len(set(named)) == min(5, len(SMALL_GRID) - len(rows))
        assert set(named) <= set(SMALL_GRID) - {row.config for row in rows}
        numbers += [run["by"] for run in answer["runs"]]
        rows += [row_of(config) for config in named]
    assert {row.config for row in rows} == set(SMALL_GRID)
    assert numbers == ["D-optimal"] * 7 + ["variance reduction"] * 5
    before = (home / "results" / "next_runs.csv").read_bytes()
    assert main([*SMALL, *table_of(home, rows)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[1:] == [
        "error: every configuration of the grid is measured: name more with --depth, --batch_size, ..."
    ]
    assert (home / "results" / "next_runs.csv").read_bytes() == before


def test_it_says_how_much_is_measured_how_much_is_left_and_where_the_seconds_come_from(home):
    flags = table_of(home, [row_of(config) for config in SMALL_GRID[:10]])
    lines = lines_of(*SMALL, "--n", 7, *flags)
    assert lines[0] == f"measured: 10 configurations in {flags[1]}"
    assert "left_in_grid: 2, fewer than --n 7" in lines
    assert "chosen: most gain per second, weighed by a law through the 10 measured configurations" in lines
    assert not any("left_in_grid" in line for line in lines_of(*SMALL, "--n", 2, *flags))


def test_rows_beside_the_grid_are_taken_into_account_and_never_named(home):
    beside = [row_of(RunConfig(4, 8, b)) for b in (32, 1024)]
    flags = table_of(home, beside)
    answer = answer_of(*SMALL, "--n", 100, *flags)
    assert answer["measured"] == 2
    assert {spec.config for spec in specs_of(home)} == set(SMALL_GRID)
    assert [run["by"] for run in answer["runs"]].count("D-optimal") == 5


def test_the_table_of_this_home_is_read_unless_another_is_named(home):
    runs = [run_row((9.0, 2.0, 2.0), config=dataclasses.astuple(c), run_id=str(c)) for c in SMALL_GRID[:3]]
    write_table(home / "results" / "runs.csv", runs, RunRecord)
    answer = answer_of(*SMALL, "--n", 100)
    assert answer["measured"] == 3
    assert {spec.config for spec in specs_of(home)} == set(SMALL_GRID[3:])


def test_a_runs_csv_that_holds_only_its_header_is_a_start_from_nothing(home):
    write_table(home / "results" / "runs.csv", [], RunRecord)
    assert answer_of(*SMALL)["measured"] == 0


def test_the_new_runs_are_asked_for_under_the_conditions_of_the_measured_ones(home):
    conditions = Conditions(
        device_name=CPU,
        backend="tensorflow",
        backend_version="2.21",
        precision="mixed_bfloat16",
        tf32="off",
        pipeline="arrays",
        jit_compile="on",
        steps_per_execution=1,
        dataset="cifar10",
        train_n=10_000,
        timing_mode="steps_extrapolated",
        window_steps=20,
    )
    flags = table_of(home, [row_of(config, conditions) for config in SMALL_GRID[:2]])
    answer_of(*SMALL, *flags, "--epochs", 6)
    for spec in specs_of(home):
        assert spec == RunSpec(
            *dataclasses.astuple(spec.config),
            epochs=6,
            window_steps=20,
            train_n=10_000,
            pipeline="arrays",
            precision="mixed_bfloat16",
            jit_compile="on",
            device="cpu",  # also on a box with a GPU
        )


def test_rows_of_made_up_images_are_followed_by_runs_on_made_up_images(home):
    conditions = dataclasses.replace(BOX, dataset="synthetic")
    answer_of(*SMALL, *table_of(home, [row_of(SMALL_GRID[0], conditions)]))
    assert {spec.dataset for spec in specs_of(home)} == {"synthetic"}


def test_rows_that_know_none_of_their_conditions_ask_for_none(home):
    answer_of(*SMALL, *table_of(home, [agg_row(c.depth, c.base_filters, c.batch_size) for c in SMALL_GRID[:3]]))
    assert all(spec == RunSpec(*dataclasses.astuple(spec.config)) for spec in specs_of(home))


def test_of_mixed_conditions_the_largest_set_is_taken_and_the_flag_of_the_other_works(home, capsys):
    other = dataclasses.replace(BOX, backend="jax", precision="mixed_bfloat16")
    rows = [*map(row_of, SMALL_GRID[:3]), *(row_of(config, other) for config in SMALL_GRID[:2])]
    flags = [*SMALL, *table_of(home, rows)]
    answer = answer_of(*flags)
    assert (answer["measured"], {spec.precision for spec in specs_of(home)}) == (3, {"float32"})
    (left,) = answer["other_conditions"]
    assert left["n_rows"] == 2
    assert main([*flags, *shlex.split(left["flag"])]) == 0
    assert "note: " not in capsys.readouterr().err
    assert {spec.precision for spec in specs_of(home)} == {"mixed_bfloat16"}
    assert main(flags) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert notes[0].startswith("note: the table mixes 2 sets of conditions; used: ")
    assert notes[1:] == [f"note: not used: {left['flag']}   (2 rows)"]


def test_one_json_object_holds_what_the_file_holds_and_the_library_agrees(home):
    rows = [row_of(config) for config in SMALL_GRID[:5]]
    out = home / "elsewhere" / "configs.csv"
    answer = answer_of(*SMALL, "--n", 4, *table_of(home, rows), "--out", out)
    assert answer["out"] == str(out)
    written = [spec.config for spec in read_specs(out, RunSpec())]
    assert [RunConfig(r["depth"], r["base_filters"], r["batch_size"]) for r in answer["runs"]] == written
    assert answer["total_sec"] == pytest.approx(sum(run["expected_sec"] for run in answer["runs"]), rel=1e-12)
    found = plan_next(rows, SMALL_GRID, 4, None)
    assert [run.config for run in found.runs] == written
    assert [(r["by"], r["expected_sec"]) for r in answer["runs"]] == [(run.by, run.expected_sec) for run in found.runs]
    assert found.ratios_from == answer["ratios_from"]
    assert not (home / "results").exists()


def test_the_same_question_has_the_same_file(home):
    flags = [*SMALL, *table_of(home, [row_of(config) for config in SMALL_GRID[:4]])]
    files = []
    for _ in range(2):
        lines_of(*flags)
        files.append((home / "results" / "next_runs.csv").read_bytes())
    assert files[0] == files[1]


def test_a_grid_takes_the_file_as_it_is_with_windows_and_all(home, capsys):
    conditions = dataclasses.replace(BOX, timing_mode="steps_extrapolated", window_steps=15, pipeline="tfdata")
    lines_of(*SMALL, "--n", 3, *table_of(home, [row_of(SMALL_GRID[0], conditions)]))
    assert run_grid.main(["--configs", str(home / "results" / "next_runs.csv"), "--repeats", "2", "--dry_run"]) == 0
    assert ": 6 runs, 6 to measure, " in capsys.readouterr().out


def test_the_command_that_is_named_next_can_be_typed_as_it_stands(home):
    def run(*command):
        done = subprocess.run(command, cwd=CODE_ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    table = table_of(home, [row_of(SMALL_GRID[0])])
    said = run(sys.executable, "-m", "epochcast", "next_runs", *SMALL, "--n", "5", "--epochs", "3", *table)
    typed = said.splitlines()[-1].removeprefix("next: ")
    assert ": 5 runs, 5 to measure, about " in run("sh", "-c", f"{typed} --dry_run")
    assert {spec.epochs for spec in specs_of(home)} == {3}


@pytest.mark.parametrize(("backend", "in_front"), [("jax", "KERAS_BACKEND=jax "), ("tensorflow", ""), (None, "")])
def test_the_command_that_is_named_next_measures_under_the_backend_of_the_rows(home, monkeypatch, backend, in_front):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    rows = [row_of(SMALL_GRID[0], dataclasses.replace(BOX, backend=backend))]
    lines = lines_of(*SMALL, "--n", 2, *table_of(home, rows))
    path = home / "results" / "next_runs.csv"
    assert lines[-1] == f"next: {in_front}{command_text('grid')} --configs {path}"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--epochs 1", "--epochs must be at least 2: the first is untimed"),
        ("--epochs 0", "expected a whole number of at least 1, got 0"),
        ("--n 0", "expected a whole number of at least 1, got 0"),
        ("--depth 3:2", "the range '3:2' is empty"),
        ("--conditions jax", "expected NAME=VALUE"),
    ],
)
def test_a_wrong_flag_is_refused_with_exit_code_2(home, capsys, flags, words):
    with pytest.raises(SystemExit) as stop:
        main(flags.split())
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert words in captured.err
    assert captured.out == ""
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model none.keras", "none.keras: no such model"),
        ("--model table.csv", "a model without its card can't be trusted"),
        ("--depth 17", "RunConfig.depth must be at most 16"),
        ("--runs_agg table.csv --conditions colour=red", "no column 'colour' to filter by"),
        ("--runs_agg table.csv --conditions backend=jax", "none of 2 rows satisfies --conditions backend=jax"),
        ("--runs_agg empty.csv", "empty.csv holds no row."),
        ("--runs_agg table.csv --out table.csv/next.csv", "table.csv: a file, not a folder."),
    ],
)
def test_what_cannot_be_answered_is_one_clear_error_and_exit_code_1(home, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(home)
    table_of(home, [row_of(config) for config in SMALL_GRID[:2]])
    write_table(home / "empty.csv", [], AggRow)
    assert main(flags.split()) == 1
    assert_one_clear_error(capsys.readouterr(), message)
    assert not (home / "results").exists()


def test_what_the_measured_rows_leave_open_is_decided_by_the_grids_flags(home):
    answer_of(*SMALL)
    path = home / "results" / "next_runs.csv"
    assert path.read_text().splitlines()[0] == "depth,base_filters,batch_size"
    asked = RunSpec(pipeline="device", precision="mixed_bfloat16", train_n=512)
    assert {(s.pipeline, s.precision, s.train_n) for s in read_specs(path, asked)} == {
        ("device", "mixed_bfloat16", 512)
    }
