"""No output flag of any sub-command replaces a file of another kind: measurements above all stay to the last byte."""

from __future__ import annotations

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from epochcast.__main__ import COMMANDS, main
from epochcast.mlperf.records import write_records
from epochcast.model.training import time_ann
from epochcast.schema import AggRow, Exclusion, FailureRecord, RunRecord
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import write_table
from tests.support.mlperf.entries import few_entries, runs_of
from tests.support.mlperf.repositories import a_log, write_repository
from tests.support.parsers import EVERY_COMMAND, flags_with_a_value, parser_of
from tests.support.rows import ROWS, failure_row, run_row

SIDES = ("compare", "--runs", "runs.csv", "--a", "seed=1", "--b", "seed=2")
PLAN = ("plan", "--budget", "1h", "--epochs", "3", "--runs_agg", "agg.csv", "--value", "count")
OUTPUTS = {  # flag that names a file to replace: the rest of a command that works, and the name's ending
    "aggregate --out": (("aggregate", "--runs", "runs.csv"), ".csv"),
    "merge --out": (("merge", "runs.csv", "more.csv"), ".csv"),
    "migrate --out": (("migrate", "--runs", "runs.csv"), ".csv"),
    "next_runs --out": (("next_runs", "--runs_agg", "agg.csv", "--n", "1"), ".csv"),
    "compare --plot": (SIDES, ".png"),
    "predict --plot": (("predict",), ".png"),
    "explain --plot": (("explain",), ".svg"),
    "mlperf extract --out": (("mlperf", "extract", "v4.0"), ".csv"),
    "train --model": (("train", "--runs_agg", "agg.csv"), ".keras"),
    **{f"plan --{name}": (PLAN, f".{kind}") for name, kind in (("out", "json"), ("csv", "csv"), ("sh", "sh"))},
    **{f"plan --{name}": (PLAN, f".{kind}") for name, kind in (("optuna", "json"), ("plot", "svg"), ("front", "png"))},
}
FOLDERS = {  # flag that names a folder
    "figures --out": ("figures", "--runs_agg", "agg.csv"),
    "evaluate --out": ("evaluate", "--runs_agg", "agg.csv", "--repeats", "1"),
    "mlperf train --out": ("mlperf", "train", "records.csv"),
    "run --log_dir": ("run",),
    "grid --log_dir": ("grid",),
    "run_plan --log_dir": ("run_plan", "plan.json"),
}
APPENDED = ("run --runs", "grid --runs", "run_plan --runs", "recover --runs")  # to a table of runs
INPUTS = {
    "--log",
    "--data_dir",
    "--configs",
    "--candidates",
    "--network",
    "--code",
    "--start_from",
    "--trained",
    "--held_out",
    "--unseen",
    "--runs_agg",
}
READ = {f"{command} --runs" for command in ("aggregate", "check", "compare", "doctor", "migrate")}
READ |= {f"{command} --log_dir" for command in ("doctor", "recover")} | {
    f"{c} --model" for c in COMMANDS if c != "train"
}


def make_target(what, path):
    """Something at `path` that no output may replace."""
    if what == "runs":
        write_table(path, [run_row(run_id="r1")], RunRecord)
    elif what == "failures":
        write_table(path, [failure_row()], FailureRecord)
    elif what == "exclusions":
        write_table(path, [Exclusion("r1", "a slip", "2026-01-01")], Exclusion)
    elif what == "ledger":
        path.write_text('{"event": "begun", "plan_id": "p1"}\n{"event": "ended"}\n')
    elif what == "kept run":
        path.write_text(json.dumps({"row": asdict(run_row(run_id="r1")), "table": "runs.csv"}, indent=1) + "\n")
    elif what == "folder":
        path.mkdir()
        (path / "inside").write_text("kept")
    else:
        path.symlink_to("/dev/full")


TARGETS = ("runs", "failures", "exclusions", "ledger", "kept run", "folder", "device")


def content_of(path):
    if path.is_dir():
        return sorted((p.name, p.read_bytes()) for p in path.iterdir())
    return path.readlink() if path.is_symlink() else path.read_bytes()


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    write_table(folder / "agg.csv", ROWS, AggRow)
    for name, seeds in (("runs.csv", (1, 2)), ("more.csv", (3,))):
        for seed in seeds:
            append_row(folder / name, run_row(run_id=f"r{seed}", seed=seed, schema_version=2))
    return folder


@pytest.fixture
def here(tables, home, monkeypatch):
    """A home with tables; pictures are not drawn and networks not made by Keras: their first bytes are written."""
    for table in tables.iterdir():
        (home / table.name).write_bytes(table.read_bytes())
    write_repository(home / "v4.0", [a_log(0)])
    write_records(home / "records.csv", runs_of(few_entries()[:40]))
    monkeypatch.chdir(home)
    start = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<svg/>"}
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, file, **how: file.write(start[how["format"]]))
    written = SimpleNamespace(save=lambda file: file.write_bytes(b"a network"))
    monkeypatch.setattr(time_ann, "keras_model", lambda network: written)
    monkeypatch.setattr(time_ann, "with_plain_weights", lambda data, network: data)
    return home


def refused(argv, capsys):
    """Give a command line to the door, which must refuse it by a sentence."""
    try:
        code = main(argv)
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    said = [line for line in err.splitlines() if not line.startswith(("files under ", "WARNING"))]
    assert code in (1, 2), (argv, out)
    assert len([line for line in said if line.startswith("error: ")]) == 1, err
    assert "unexpected" not in err and "Traceback" not in err
    return err


def test_every_flag_that_takes_a_path_is_an_input_or_is_tried_here():
    tried = {*OUTPUTS, *FOLDERS, *APPENDED}
    for command in EVERY_COMMAND:
        parser = parser_of(command)
        kinds = {flag: action for action in parser._actions for flag in action.option_strings}
        for flag in filter(None, flags_with_a_value(parser)):
            if getattr(kinds[flag].type, "__name__", "") in ("path_of", "figure_path"):
                assert flag in INPUTS or f"{command} {flag}" in tried | READ, f"{command} {flag}"


def is_quick(i, what):
    """Whether the i-th flag is tried on that target by default: on measurements, and on two of the others in turn."""
    others = [target for target in TARGETS if target != "runs"]
    return what == "runs" or others.index(what) % 3 == i % 3


@pytest.mark.parametrize(
    ("flag", "what"),
    [
        pytest.param(flag, what, marks=[] if is_quick(i, what) else pytest.mark.slow)
        for i, flag in enumerate(OUTPUTS)
        for what in TARGETS
    ],
)
def test_an_output_leaves_what_is_no_older_one_of_its_own_alone(flag, what, here, capsys):
    argv, ending = OUTPUTS[flag]
    target = here / f"target{ending}"
    make_target(what, target)
    before = content_of(target)
    err = refused([*argv, flag.split()[-1], str(target)], capsys)
    assert "target" in err or "/dev/full" in err
    assert content_of(target) == before


@pytest.mark.parametrize("flag", OUTPUTS)
def test_an_output_below_a_file_names_the_file(flag, here, capsys):
    argv, ending = OUTPUTS[flag]
    before = content_of(here / "agg.csv")
    err = refused([*argv, flag.split()[-1], str(here / "agg.csv" / f"target{ending}")], capsys)
    assert f"{here / 'agg.csv'}" in err
    assert content_of(here / "agg.csv") == before


@pytest.mark.parametrize("what", [what for what in TARGETS if what != "folder"])
@pytest.mark.parametrize("flag", [flag for flag in FOLDERS if not flag.startswith("run_plan")])
def test_a_folder_to_write_into_is_no_file(flag, what, here, capsys):
    target = here / "target"
    make_target(what, target)
    before = content_of(target)
    refused([*FOLDERS[flag], flag.split()[-1], str(target)], capsys)
    assert content_of(target) == before


@pytest.mark.parametrize("what", [what for what in TARGETS if what != "runs"])
@pytest.mark.parametrize("flag", [flag for flag in APPENDED if not flag.startswith("run_plan")])
def test_a_table_to_append_to_is_a_table_of_runs(flag, what, here, capsys):
    target = here / "target.csv"
    make_target(what, target)
    before = content_of(target)
    refused([flag.split()[0], "--runs", str(target)], capsys)
    assert content_of(target) == before
