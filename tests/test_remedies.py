"""Remedies that messages name are tried: what they say to do mends what they are about, and stays mended."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from epochcast import paths
from epochcast.aggregate.aggregate_runs import main as aggregate_main
from epochcast.aggregate.averages.source import write_agg
from epochcast.aggregate.averages.table import load_agg
from epochcast.aggregate.checks.report import check_file
from epochcast.aggregate.checks.rules import ERROR, RULES
from epochcast.aggregate.migrate import main as migrate_main
from epochcast.collect.records.recovery import recover
from epochcast.paths import excluded_csv
from epochcast.schema import PUBLISHED_RUN_COLUMNS, AggRow, RunRecord, to_json_dict
from epochcast.storage.cells import format_rows, header_line
from epochcast.storage.table_appends import append_row, check_appendable
from epochcast.storage.tables import read_runs, read_table, write_table
from tests.support.rows import run_row

MEASURED = [
    replace(row, images_per_sec=50_000 / row.avg_time_sec)
    for row in (run_row(run_id="a"), run_row((9.0, 2.1, 2.1), run_id="b"))
]


@pytest.fixture
def runs(tmp_path):
    """A table of two runs, with what is kept of each."""
    path, logs = tmp_path / "results" / "runs.csv", tmp_path / "logs"
    write_table(path, MEASURED, RunRecord)
    logs.mkdir()
    for row in MEASURED:
        (logs / f"{row.run_id}.json").write_text(json.dumps({"table": str(path), "row": to_json_dict(row)}))
    return path


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def delete_line(path, number):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: number - 1] + lines[number:]))


@pytest.mark.parametrize(
    ("old", "new"), [("2.1, 2.1]", "2.1, many]"), ("2.1, 2.1]", "2.1, -2.1]"), (',"[9.0, 2.1', ",[9.0, 2.1")]
)
def test_delete_the_row_and_recover_brings_back_what_was_measured(runs, old, new):
    edit(runs, old, new)
    with pytest.raises(ValueError, match=r":3, .*delete the row and run epochcast recover") as caught:
        read_table(runs, RunRecord)
    number = int(re.search(r":(\d+), ", str(caught.value))[1])
    findings = [finding for finding in check_file(runs).findings if finding.severity == ERROR]
    assert {(finding.line, "epochcast recover" in RULES[finding.rule].remedy) for finding in findings} == {(3, True)}
    delete_line(runs, number)
    assert [row.run_id for row in recover(runs, runs.parents[1] / "logs").appended] == ["b"]
    assert read_table(runs, RunRecord) == MEASURED


def test_a_run_taken_back_stays_taken_back(runs):
    edit(runs, f',{MEASURED[1].params},"[9.0, 2.1', ',7,"[9.0, 2.1')
    with pytest.raises(ValueError, match="take the run back") as caught:
        write_agg(runs, runs.with_name("runs_agg.csv"))
    line, path, header = re.search(
        r"write the line (.*) into (.*) below a first line (.*)\.$", str(caught.value)
    ).groups()
    assert Path(path) == excluded_csv(runs)
    Path(path).write_text(f"{header}\n{line}\n")
    assert recover(runs, runs.parents[1] / "logs").appended == []
    assert [row.run_id for row in read_runs(runs).rows] == ["a"]
    assert [row.n for row in load_agg(runs.with_name("runs_agg.csv")).rows] == [1]
    assert check_file(runs).count(ERROR) == 0
    append_row(runs, replace(MEASURED[1], run_id="b.2"))  # measured again
    assert [row.n for row in load_agg(runs.with_name("runs_agg.csv")).rows] == [2]


def test_a_published_run_is_taken_back_by_deleting_it(tmp_path):
    runs = tmp_path / "runs.csv"
    write_table(runs, [replace(MEASURED[0], run_id=None), replace(MEASURED[1], run_id=None, params=7)], RunRecord)
    with pytest.raises(ValueError, match="or delete the line"):
        write_agg(runs, tmp_path / "runs_agg.csv")
    delete_line(runs, 3)
    assert len(write_agg(runs, tmp_path / "runs_agg.csv").rows) == 1


def test_a_run_that_is_not_in_the_table_is_taken_out_of_the_exclusions(runs):
    excluded_csv(runs).write_text("run_id,reason,date\nghost,gone,2026-01-01\n")
    with pytest.raises(ValueError, match="Correct the run_id or delete the line"):
        read_runs(runs)
    delete_line(excluded_csv(runs), 2)
    assert len(read_runs(runs).rows) == 2


def test_a_table_of_an_older_schema_is_lifted_by_the_command_that_is_named(tmp_path):
    runs = tmp_path / "my runs" / "runs.csv"
    runs.parent.mkdir()
    lines = (header_line(RunRecord) + format_rows([MEASURED[0]])).splitlines()
    at = lines[1].index(']"') + 2
    header = ",".join(lines[0].split(",")[:PUBLISHED_RUN_COLUMNS])
    runs.write_text(header + "\n" + lines[1][:at] + f",{MEASURED[0].avg_time_sec},25000.0,\n")
    with pytest.raises(ValueError, match="Lift it: epochcast migrate") as caught:
        check_appendable(runs, RunRecord)
    command = shlex.split(str(caught.value).partition("Lift it: ")[2])
    assert command[:2] == ["epochcast", "migrate"]
    assert migrate_main(command[2:]) == 0
    check_appendable(runs, RunRecord)


def test_a_broken_row_of_averages_is_mended_by_the_command_that_is_named(runs):
    agg = runs.with_name("runs_agg.csv")
    write_agg(runs, agg)
    edit(agg, "2,16,64,", "2,16,many,")
    with pytest.raises(ValueError, match="move the table away and make it anew: epochcast aggregate"):
        load_agg(agg)
    agg.rename(agg.with_name("away.csv"))
    assert aggregate_main(["--runs", str(runs), "--out", str(agg)]) == 0
    assert len(load_agg(agg).rows) == 1


def test_a_stale_table_of_averages_is_mended_by_the_command_that_its_rule_names(runs):
    agg = runs.with_name("runs_agg.csv")
    write_agg(runs, agg)
    write_table(agg, [replace(read_table(agg, AggRow)[0], avg_time_mean=9.0)], AggRow)
    assert check_file(runs).count(ERROR) > 0
    assert "move it away and make it anew: epochcast aggregate --runs RUNS --out RUNS_AGG" in RULES["aggregate"].remedy
    agg.rename(agg.with_name("away.csv"))
    assert aggregate_main(["--runs", str(runs), "--out", str(agg)]) == 0
    assert check_file(runs).count(ERROR) == 0


def a_python(folder, monkeypatch, is_installed):
    """A made-up environment's Python in `folder`, ours by a link, with or without the console script."""
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(Path(sys.executable).resolve())
    if is_installed:
        (folder / "epochcast").write_text("#!/bin/sh\necho ours $@\n")
        (folder / "epochcast").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


@pytest.mark.parametrize("name", [".venv", "my env's"])
def test_the_console_script_next_to_this_python_is_named_as_it_is_typed(name, tmp_path, monkeypatch):
    a_python(tmp_path / name / "bin", monkeypatch, True)
    for folder in (tmp_path, tmp_path / name, paths.CODE_ROOT):
        monkeypatch.chdir(folder)
        typed = paths.command_text("grid")
        done = subprocess.run(["sh", "-c", f"{typed} --dry_run"], capture_output=True, text=True, check=True)
        assert done.stdout == "ours grid --dry_run\n"
    monkeypatch.chdir(tmp_path)
    assert paths.command_text("grid") == f"{shlex.quote(f'{name}/bin/epochcast')} grid"
    monkeypatch.setenv("PATH", f"{tmp_path / name / 'bin'}:/usr/bin:/bin")  # activated
    assert paths.command_text("grid") == "epochcast grid"


def test_another_environment_s_script_on_the_path_is_not_ours(tmp_path, monkeypatch):
    a_python(tmp_path / "theirs", monkeypatch, True)
    a_python(tmp_path / "ours", monkeypatch, True)
    monkeypatch.setenv("PATH", f"{tmp_path / 'theirs'}:/usr/bin:/bin")
    assert paths.command_text("run") == f"{tmp_path / 'ours' / 'epochcast'} run"


@pytest.mark.parametrize("is_checkout", [True, False])
def test_where_nothing_is_installed_this_very_python_is_named(is_checkout, tmp_path, monkeypatch):
    a_python(tmp_path / "bin", monkeypatch, False)
    monkeypatch.setattr(paths, "is_checkout", lambda folder: is_checkout)
    monkeypatch.chdir(paths.CODE_ROOT)
    python = tmp_path / "bin" / "python"
    script = "collect/run_one.py" if is_checkout else "-m epochcast run"
    assert paths.command_text("run") == f"{python} {script}"
    with pytest.raises(FileNotFoundError) as refused:
        load_agg(tmp_path / "averages.csv")
    assert str(refused.value).endswith(f"Measure first: {python} {script}")
    monkeypatch.chdir(tmp_path)
    script = paths.CODE_ROOT / "collect" / "run_one.py" if is_checkout else "-m epochcast run"
    assert paths.command_text("run") == f"bin/python {script}"


def test_no_string_of_ours_names_a_script_by_hand():
    """What a user is to type comes from `command_text`: the path leads nowhere but in the checkout's root."""
    stages = ("epochcast", "workload", "collect", "aggregate", "model", "planner")
    files = [path for stage in stages for path in (paths.CODE_ROOT / stage).rglob("*.py")]
    assert len(files) > 100
    found = [path.name for path in files if re.search(r"python collect/run_(one|grid)", path.read_text())]
    assert found == []
