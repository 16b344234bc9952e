"""A finished run whose row could not be appended is kept, and appended later, once."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from epochcast.collect import recover as recover_module
from epochcast.collect.records import append_rows
from epochcast.collect.records.kept import LOGGED, lines_of_row
from epochcast.collect.records.recovery import recover
from epochcast.collect.records.reserved import claimed_run
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import run
from epochcast.schema import FailureRecord, RunRecord, to_json_dict
from epochcast.storage.cells import columns, format_rows
from epochcast.storage.tables import read_table
from tests.support.light_child import (
    EPOCH_SEC,
    FIRST_SEC,
    command,
    environment,
    light_spec,
    main_with_child,
    run_one_command,
    starts,
)

WRONG_TABLE = "who,what\nme,that\n"
HEADER = ",".join(columns(RunRecord)) + "\n"


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "results" / "runs.csv"


@pytest.fixture
def log_dir(tmp_path):
    return tmp_path / "logs"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run measured once for all tests: its row and its folder."""
    folder = tmp_path_factory.mktemp("measured")
    row = run(light_spec(), "a", RunPlace(folder / "results" / "runs.csv", folder / "logs", child=command("ok")))
    return row, folder


@pytest.fixture
def row(measured, runs, log_dir):
    """The same in folders of a test's own, whose table the JSON beside the log names."""
    row, folder = measured
    shutil.copytree(folder / "results", runs.parent)
    shutil.copytree(folder / "logs", log_dir)
    kept = json.loads((log_dir / "a.json").read_text())
    assert kept["table"] == str(folder / "results" / "runs.csv")
    (log_dir / "a.json").write_text(json.dumps(kept | {"table": str(runs)}))
    return row


def keep(log_dir, row, table, run_id="b"):
    """What a run leaves behind in `log_dir` when its row could not be appended to `table`."""
    kept = replace(row, run_id=run_id)
    log_dir.mkdir(exist_ok=True)
    (log_dir / f"{run_id}.json").write_text(json.dumps({"table": str(table), "row": to_json_dict(kept)}))
    return kept


def run_ids(table):
    return [row.run_id for row in read_table(table, RunRecord)]


# --- appending fails after all ----------------------------------------------------------------------------------------


def test_a_table_that_is_replaced_during_the_run_costs_no_row(runs, log_dir, capsys):
    with pytest.raises(OSError, match="epochcast recover") as error:
        run(light_spec(), "a", RunPlace(runs, log_dir, child=command("replace", str(runs), WRONG_TABLE)))
    assert "the finished run a is not in" in str(error.value)
    assert str(log_dir / "a.json") in str(error.value)
    assert f"{runs}:1: not a table" in str(error.value)
    assert runs.read_text() == WRONG_TABLE
    flags = ["--runs", str(runs), "--log_dir", str(log_dir)]
    assert recover_module.main(flags) == 1  # not mended yet
    assert "error: " in capsys.readouterr().err
    runs.write_text(HEADER)
    assert recover_module.main(flags) == 0
    assert "rows_appended: 1" in capsys.readouterr().out.splitlines()
    (recovered,) = read_table(runs, RunRecord)
    assert to_json_dict(recovered) == json.loads((log_dir / "a.json").read_text())["row"]
    assert recover_module.main(flags) == 0
    assert "rows_appended: 0" in capsys.readouterr().out.splitlines()
    assert run_ids(runs) == ["a"]


def run_until_full(runs, log_dir, largest_file, spec=(), module="epochcast.collect.run_one"):
    """A run during which the disk fills up: nothing beyond `largest_file` bytes can be written into any file."""
    flags = ["--depth", "1", "--base_filters", "2", "--dataset", "synthetic", "--epochs", "4", *spec]
    flags += ["--runs", str(runs), "--log_dir", str(log_dir)]
    return subprocess.run(
        main_with_child(module, "fill-disk", str(largest_file), flags=flags),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_disk_that_is_full_for_the_table_leaves_the_row_in_its_json(runs, log_dir, row):
    with runs.open("a") as file:  # a table longer than the JSON beside the log
        file.write(format_rows([replace(row, run_id=f"a{number}") for number in range(60)]))
    before = runs.read_bytes()
    done = run_until_full(runs, log_dir, len(before) + 10, ["--run_id", "late"])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the finished run late is not in")
    assert f"It is kept in {log_dir / 'late.json'}" in done.stderr
    assert runs.read_bytes() == before  # the part that could be written was taken back
    logged = json.loads(done.stdout.splitlines()[-1].removeprefix("LOGGED: "))
    assert json.loads((log_dir / "late.json").read_text())["row"] == logged
    (recovered,) = recover(runs, log_dir).appended
    assert to_json_dict(recovered) == logged
    assert recover(runs, log_dir).appended == []
    assert run_ids(runs)[-1] == "late"


@pytest.mark.parametrize("module", ["epochcast.collect.run_one", "epochcast.collect.run_grid"])
def test_a_disk_that_is_full_for_everything_leaves_the_row_on_the_screen(runs, log_dir, tmp_path, module):
    """A grid prints no row: the runner itself prints the last copy, and `recover` reads it from what was captured."""
    done = run_until_full(runs, log_dir, 0, module=module)
    assert done.returncode == 1
    assert "the LOGGED line above is the only copy" in done.stderr.splitlines()[-1]
    (logged,) = [line for line in done.stderr.splitlines() if line.startswith("LOGGED: ")]
    assert run_ids(runs) == []
    assert list(log_dir.glob("*.json")) == []
    captured = tmp_path / "captured.txt"
    captured.write_text(done.stderr)
    (recovered,) = recover(runs, log_dir, logs=[captured]).appended
    assert to_json_dict(recovered) == json.loads(logged.removeprefix("LOGGED: "))
    assert recover(runs, log_dir, logs=[captured]).appended == []
    assert read_table(runs, RunRecord) == [recovered]


@pytest.mark.parametrize("redirection", ["2>/dev/null", "2>&-"])
def test_the_last_copy_goes_where_somebody_can_read_it(runs, log_dir, redirection):
    flags = ["--depth", "1", "--base_filters", "2", "--dataset", "synthetic", "--epochs", "4"]
    flags += ["--runs", str(runs), "--log_dir", str(log_dir)]
    grid = main_with_child("epochcast.collect.run_grid", "fill-disk", "0", flags=flags)
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *grid],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "\nLOGGED: {" in done.stdout


def test_a_json_alone_that_can_not_be_written_ends_no_grid(runs, log_dir):
    done = run_until_full(runs, log_dir, 3000, ["--run_id", "a"])  # room for the table, not for the JSON
    assert done.returncode == 0, done.stderr
    assert run_ids(runs) == ["a"]
    assert "could not write" in done.stdout
    assert list(log_dir.glob("*.json")) == []


WRAPPED = [  # what terminals, loggers and schedulers make of a line
    "{}",
    "\x1b[31m{}\x1b[0m",
    "2026-11-29 12:00:01 INFO {}",
    "0: {}",
    "   {}   ",
    "50%|#####     | 1/2\r{}",
    "{} (end of line)",
    "{}\r",
]


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("names_table", [True, False])
def test_a_row_is_found_wherever_it_stands_in_captured_output(
    runs, log_dir, row, tmp_path, wrapped, names_table, capsys
):
    kept = replace(row, run_id="b")
    lines = lines_of_row(LOGGED, to_json_dict(kept), runs)[0 if names_table else 1 :]
    captured = tmp_path / "captured"
    captured.write_text("noise\n" + "".join(wrapped.format(line) + "\n" for line in lines) + "more noise", newline="")
    flags = ["--runs", str(runs), "--log_dir", str(log_dir), "--log", str(captured)]
    for n in (1, 0):
        assert recover_module.main(flags) == 0
        assert f"rows_appended: {n}" in capsys.readouterr().out
    assert read_table(runs, RunRecord) == [row, kept]


def test_a_captured_row_of_another_table_stays_there(runs, log_dir, row, tmp_path, capsys):
    captured = tmp_path / "captured"
    other = lines_of_row(LOGGED, to_json_dict(replace(row, run_id="b")), runs.with_name("other.csv"))
    runs.with_name("other.csv").write_text(HEADER)
    captured.write_text("\n".join(other))
    assert recover_module.main(["--runs", str(runs), "--log_dir", str(log_dir), "--log", str(captured)]) == 0
    assert "rows_of_other_tables: 1" in capsys.readouterr().out
    assert run_ids(runs) == ["a"]


@pytest.mark.parametrize(
    "text", ["", "no row at all\n", 'LOGGED: {"depth": 1}\n', "LOGGED: {broken\n", "LOGGED: {" * 9]
)
def test_captured_output_without_a_row_that_can_be_used_is_no_success(runs, log_dir, row, tmp_path, text, capsys):
    captured = tmp_path / "captured"
    captured.write_text(text)
    assert recover_module.main(["--runs", str(runs), "--log_dir", str(log_dir), "--log", str(captured)]) == 1
    assert f"skipped: {captured}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        recover_module.main(["--log", str(captured)])  # a row that names no table could go anywhere


def test_a_failure_that_could_not_be_noted_is_kept_on_the_screen_and_in_the_log(runs, log_dir, monkeypatch, capfd):
    def full(path, record):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="holds its epochs"):
        patch.setattr(append_rows, "append_row", full)
        run(light_spec(), "a", RunPlace(runs, log_dir, child=command("exit-3")))
    assert "\nFAILED: {" in capfd.readouterr().err
    (failure,) = recover(runs, log_dir).failures
    assert failure.epoch_times_json == (FIRST_SEC, EPOCH_SEC)
    assert recover(runs, log_dir).failures == []
    assert read_table(runs.with_name("failures.csv"), FailureRecord) == [failure]


def test_space_is_taken_before_a_run_is_measured(runs, log_dir, tmp_path):
    done = subprocess.run(
        run_one_command("ok", flags=["--runs", str(runs), "--log_dir", str(log_dir)], largest_file=50_000),
        env=environment(LIGHT_CHILD_TRACE=str(tmp_path / "trace")),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"error: {log_dir}: no space for what the run will leave behind" in done.stderr
    assert starts(tmp_path / "trace") == []


def test_the_same_run_kept_for_two_tables_is_kept_twice(runs, log_dir, tmp_path):
    """Named by run alone, the second would replace the only copy of the first."""
    tables = [runs, tmp_path / "other" / "runs.csv"]
    for table in tables:
        with pytest.raises(OSError, match="epochcast recover"):
            run(light_spec(), "a", RunPlace(table, log_dir, child=command("replace", str(table), WRONG_TABLE)))
    for table in tables:
        table.write_text(HEADER)
        (appended,) = recover(table, log_dir).appended
        assert read_table(table, RunRecord) == [appended]
    assert sorted(path.name for path in log_dir.glob("*.json")) == ["a.json", "a~2.json"]


@pytest.mark.parametrize(
    ("column", "value"),
    {
        "device_name": 5,
        "test_acc": "much",
        "flags": [["stalled"]],
        "energy_flags": "none",
        "epochs": True,
        "seed": 1e30,
        "avg_time_sec": 1e300,
        "epoch_times_json": {"1": 2},
        "watts": 300,
        "run_id": ["a"],
    }.items(),
)
def test_a_kept_row_that_could_not_be_read_back_is_not_appended(runs, log_dir, row, column, value):
    before = runs.read_bytes()
    keep(log_dir, row, runs)
    kept = json.loads((log_dir / "b.json").read_text())
    kept["row"][column] = value
    (log_dir / "b.json").write_text(json.dumps(kept))
    found = recover(runs, log_dir)
    assert found.appended == []
    (problem,) = found.unreadable
    assert str(log_dir / "b.json") in problem
    assert column in problem
    assert runs.read_bytes() == before


# --- recovering -------------------------------------------------------------------------------------------------------


def test_rows_that_the_table_holds_are_not_appended_again(runs, log_dir, row):
    assert recover(runs, log_dir).appended == []
    assert run_ids(runs) == ["a"]


def test_a_kept_row_is_appended_once_however_often_it_is_recovered(runs, log_dir, row):
    kept = keep(log_dir, row, runs)
    assert recover(runs, log_dir).appended == [kept]
    assert recover(runs, log_dir).appended == []
    assert read_table(runs, RunRecord) == [row, kept]


def test_a_kept_row_is_appended_once_by_processes_that_recover_together(runs, log_dir, row):
    names = [f"b{i:02}" for i in range(25)]
    for name in names:
        keep(log_dir, row, runs, name)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: recover(runs, log_dir), range(4)))
    assert sorted(run_ids(runs)) == ["a", *names]
    assert sorted(record.run_id for recovery in found for record in recovery.appended) == names


def test_a_run_that_is_being_written_by_its_own_process_is_left_to_it(runs, log_dir, row):
    keep(log_dir, row, runs)
    with claimed_run(runs, "b"):
        assert recover(runs, log_dir).appended == []
    assert [record.run_id for record in recover(runs, log_dir).appended] == ["b"]


def test_a_table_that_is_gone_is_made_again(runs, log_dir, row):
    runs.unlink()
    assert recover(runs, log_dir).appended == [row]
    assert read_table(runs, RunRecord) == [row]


def test_rows_of_other_tables_are_counted_and_left(runs, log_dir, row, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(HEADER)
    keep(log_dir, row, other)
    found = recover(runs, log_dir)
    assert (found.appended, found.n_elsewhere) == ([], 1)
    assert [record.run_id for record in recover(other, log_dir).appended] == ["b"]


def test_rows_of_a_table_that_is_gone_are_taken_only_when_asked_for(runs, log_dir, row, tmp_path):
    keep(log_dir, row, tmp_path / "moved" / "runs.csv")
    assert recover(runs, log_dir).appended == []
    assert [record.run_id for record in recover(runs, log_dir, takes_orphans=True).appended] == ["b"]


def test_a_table_is_known_by_whatever_path_it_is_named(runs, log_dir, row, tmp_path, monkeypatch):
    keep(log_dir, row, runs.parent / ".." / "results" / "runs.csv")
    (tmp_path / "link").symlink_to(runs.parent)
    assert [record.run_id for record in recover(tmp_path / "link" / "runs.csv", log_dir).appended] == ["b"]
    keep(log_dir, row, runs, "c")
    monkeypatch.chdir(tmp_path)
    assert [record.run_id for record in recover(runs.relative_to(tmp_path), log_dir).appended] == ["c"]


UNREADABLE = {
    "empty": "",
    "cut_short": '{"table": "',
    "not_ours": '{"model": "a100"}',
    "list": "[1, 2]",
    "row_is_list": '{"table": "runs.csv", "row": [1]}',
    "newer": '{"table": "runs.csv", "row": {"a_later_column": 1}}',
    "no_json": b"\xff\xfe",
}


def test_files_that_hold_no_row_are_reported_and_stop_nothing(runs, log_dir, row, capsys):
    for name, text in UNREADABLE.items():
        (log_dir / f"{name}.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    (log_dir / "folder.json").mkdir()
    keep(log_dir, row, runs, "z")
    assert recover_module.main(["--runs", str(runs), "--log_dir", str(log_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    skipped = [line for line in lines if line.startswith("skipped: ")]
    for name in (*UNREADABLE, "folder"):
        assert any(str(log_dir / f"{name}.json") in line for line in skipped), name
    assert len(skipped) == len(UNREADABLE) + 1
    assert "appended: z (1,2,128)" in lines
    assert run_ids(runs) == ["a", "z"]


def test_nothing_to_recover_is_no_error(tmp_path, capsys):
    assert recover_module.main(["--runs", str(tmp_path / "runs.csv"), "--log_dir", str(tmp_path / "logs")]) == 0
    assert "rows_appended: 0" in capsys.readouterr().out.splitlines()
