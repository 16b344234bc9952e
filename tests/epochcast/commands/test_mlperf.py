"""`epochcast mlperf`: which sub-command is meant, and what `extract` and `train` show."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from epochcast.__main__ import main
from epochcast.commands.mlperf import SUBCOMMANDS
from epochcast.mlperf.records import read_records, write_records
from epochcast.mlperf.regressor.entries import Workload
from epochcast.mlperf.regressor.stored import load_regressor
from tests.support.mlperf.entries import few_entries, runs_of
from tests.support.mlperf.repositories import a_log, write_repository


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """The working directory, with the logs of two rounds in `all`."""
    monkeypatch.chdir(tmp_path)
    logs = [a_log(0), a_log(1, stop=90.0), a_log(2, status="aborted"), a_log(3, stop=None)]
    write_repository(tmp_path / "all" / "v4.0", logs)
    write_repository(tmp_path / "all" / "v4.1", [a_log(0)])
    return tmp_path


def test_extract_writes_the_table_and_says_what_is_in_it(logs, capsys):
    assert main(["mlperf", "extract", "all", "--out", "out/records.csv"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "3 timed runs of 5 logs in out/records.csv, 2 of them usable",
        "",
        "timed, usable and closed count logs; systems and entries are without duplicates",
        "",
        "round  logs  absent  timed  usable  closed  duplicates  systems  entries",
        "  4.0     4       0      3       2       2           0        1        1",
        "  4.1     1       0      1       1       1           1        0        0",
        "",
        "files without a row:",
        "         1  no run_stop that can be read",
        "         1  the same content as another log",
        "",
        "rows that are not usable:",
        "         1  aborted",
    ]
    assert err == ""
    rows = read_records(logs / "out" / "records.csv")
    assert [(row.time_sec, row.device, row.n_accelerators) for row in rows if row.is_usable] == [
        (60.0, "H100 SXM5", 16),
        (90.0, "H100 SXM5", 16),
    ]


def test_extract_in_json_is_one_object_with_the_same_counts(logs, capsys):
    assert main(["mlperf", "extract", "all/v4.0", "--out", "records.csv", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["records"], answer["usable"], answer["logs_read_before"]) == (3, 2, 0)
    assert [(each["round"], each["logs"], each["usable"]) for each in answer["rounds"]] == [("4.0", 4, 2)]
    assert answer["unused_files"] == {"no run_stop that can be read": 1}
    assert answer["not_usable"] == {"aborted": 1}


def test_logs_whose_folders_name_no_round_are_of_the_round_that_is_asked_for(logs, capsys):
    (logs / "all" / "v4.0").rename(logs / "mine")
    assert main(["mlperf", "extract", "mine", "--out", "records.csv"]) == 1
    assert "Name the round: --round 4.0" in capsys.readouterr().err
    assert not (logs / "records.csv").exists()
    assert main(["mlperf", "extract", "mine", "--out", "records.csv", "--round", "v5.1"]) == 0
    assert {row.round for row in read_records(logs / "records.csv")} == {"5.1"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: command"),
        (["guess"], "invalid choice: 'guess' (choose from"),
        (["extract", "v4.0"], "the following arguments are required: --out"),
        (["extract", "v4.0", "--out", "r.csv", "--round", "four"], "expected a round like 4.0, got 'four'"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2_and_one_sentence(logs, capsys, words, said):
    with pytest.raises(SystemExit) as caught:
        main(["mlperf", *words])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("source", ["nowhere", "all/v4.0/ACME/systems/box.json", "empty"])
def test_what_is_no_source_is_exit_code_1_and_one_sentence(logs, capsys, source):
    (logs / "empty").mkdir()
    assert main(["mlperf", "extract", source, "--out", "records.csv"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not list(logs.glob("records*"))


def test_each_sub_command_has_a_help_with_an_example_of_its_own(capsys):
    for name in SUBCOMMANDS:
        with pytest.raises(SystemExit) as caught:
            main(["mlperf", name, "--help"])
        assert caught.value.code == 0
        assert f"\nexample:\n  epochcast mlperf {name} " in capsys.readouterr().out


# --- the regressor ----------------------------------------------------------------------------------------------------


@pytest.fixture
def records(tmp_path, monkeypatch):
    """The working directory, with runs of 138 published entries and one aborted in records.csv."""
    monkeypatch.chdir(tmp_path)
    runs = runs_of(few_entries())
    write_records(tmp_path / "records.csv", [*runs, replace(runs[0], status="aborted", sha256="f" * 64)])
    return tmp_path


def test_train_writes_a_regressor_and_says_what_it_was_learned_from(records, capsys):
    assert main(["mlperf", "train", "records.csv", "--out", "mine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "138 entries (414 runs) of rounds 3.1, 4.0, 4.1 in mine"
    assert lines[1] == "  1 runs excluded: not successful, or on an unknown number of accelerators"
    assert [line.split()[:2] for line in lines[4:6]] == [["resnet", "64"], ["retinanet", "74"]]
    answered = load_regressor(records / "mine").estimate(Workload("resnet", "H100 SXM5", 8))
    assert 700 < answered.seconds.value < 900  # 13 minutes by published results


def test_train_in_json_has_the_errors_of_each_benchmark(records, capsys):
    assert main(["mlperf", "train", "records.csv", "--out", "mine", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["entries"], answer["runs"]) == (138, 414)
    assert answer["benchmark_errors"].keys() == {"resnet", "retinanet"}
    assert all(0 < error < 0.3 for error in answer["benchmark_errors"].values())


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_table_with_too_few_entries_is_exit_code_1_and_one_sentence(records, capsys, command):
    write_records(records / "records.csv", runs_of(few_entries()[:3]))
    assert main(["mlperf", command, "records.csv"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("error: ")
    assert "too few to learn from" in err


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_another_table_is_refused(records, capsys, command):
    (records / "other.csv").write_text("depth,base_filters\n3,32\n")
    assert main(["mlperf", command, "other.csv"]) == 1
    assert "other.csv:1" in capsys.readouterr().err
