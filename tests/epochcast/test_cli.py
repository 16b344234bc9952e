"""What every command line shares: values of flags, exit codes, and how answers and errors are printed."""

from __future__ import annotations

import argparse
import errno
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from epochcast.__main__ import COMMANDS, main
from epochcast.cli import (
    AllPairs,
    add_conditions_flag,
    add_json_flag,
    clock,
    conditions_of,
    duration_sec,
    filter_of,
    fraction,
    int_list,
    make_parser,
    matches,
    not_negative_float,
    not_negative_int,
    path_flag,
    percent,
    positive_float,
    positive_int,
    print_answer,
    print_home,
    range_text,
    run_command,
    significant,
    table_text,
)
from epochcast.guard import describe_error
from epochcast.paths import home
from epochcast.schema import AggRow, Conditions, RunConfig
from epochcast.storage.tables import write_table
from tests.support.parsers import parser_of
from tests.support.rows import agg_row

REFUSED = argparse.ArgumentTypeError

# --- values of flags -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (positive_int, "1", 1),
        (positive_int, "50000", 50_000),
        (not_negative_int, "0", 0),
        (not_negative_int, "7", 7),
        (positive_float, "1e-3", 0.001),
        (not_negative_float, "0", 0.0),
        (not_negative_float, "2.5", 2.5),
        (fraction, "0", 0.0),
        (fraction, "0.6", 0.6),
        (fraction, "1", 1.0),
    ],
)
def test_a_number_is_taken(kind, text, value):
    assert kind(text) == value
    assert type(kind(text)) is type(value)


@pytest.mark.parametrize(
    ("kind", "texts", "expected"),
    [
        (positive_int, ["0", "-1", "2.0", "3e2", "", "many"], "a whole number of at least 1"),
        (not_negative_int, ["-1", "0.5", "", "none"], "a whole number of at least 0"),
        (positive_float, ["0", "-0", "-0.1", "nan", "inf", "", "fast"], "number"),
        (not_negative_float, ["-0.1", "nan", "inf", "-inf", "", "fast"], "number of at least 0"),
        (fraction, ["1.01", "60", "-0.1", "nan", "60%"], "number"),
    ],
)
def test_what_is_no_such_number_is_refused_by_what_was_expected_and_found(kind, texts, expected):
    for text in texts:
        with pytest.raises(REFUSED) as caught:
            kind(text)
        assert expected in str(caught.value)
        assert text.lstrip("-") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("0.5", 0.5),
        ("15m", 900),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h30m15s", 5415),
        ("1h5s", 3605),
        ("1d12h", 129_600),
        ("1w", 604_800),
        ("2m30s", 150),
        (" 1h ", 3600),
    ],
)
def test_a_duration_is_taken_in_hours_minutes_and_seconds(text, seconds):
    assert duration_sec(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "h",
        "1y",
        "30m1h",
        "1h 30m",
        "-5",
        "-1h",
        "1e3",
        "1:30",
        "nan",
        "inf",
        "0",
        "0s",
        "0h0m",
        "1h30",
        "5m30",
    ],
)
def test_what_is_no_duration_or_could_mean_two_is_refused(text):
    with pytest.raises(REFUSED):
        duration_sec(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("64", [64]),
        ("64,128", [64, 128]),
        ("128, 64", [128, 64]),  # in the order given
        ("64:2048:x2", [64, 128, 256, 512, 1024, 2048]),
        ("64:2000:x2", [64, 128, 256, 512, 1024]),
        ("1:81:x3", [1, 3, 9, 27, 81]),
        ("2:5", [2, 3, 4, 5]),
        ("2:9:3", [2, 5, 8]),
        ("5:5", [5]),
        ("2:3,16,64:256:x2", [2, 3, 16, 64, 128, 256]),
        ("2:4,3:5,4", [2, 3, 4, 5]),  # each once
    ],
)
def test_a_list_is_values_ranges_and_doublings(text, values):
    assert int_list(text) == values


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("5:2", "the range '5:2' is empty: 5 is above 2"),
        ("64,512:128:x2", "the range '512:128:x2' is empty"),
        ("0", "at least 1, got 0"),
        ("-3", "at least 1, got -3"),
        ("0:4", "at least 1, got 0"),
        ("64,,128", "got ''"),
        ("64,", "got ''"),
        ("", "got ''"),
        (":5", "got ''"),
        ("5:", "got ''"),
        ("2.5", "got '2.5'"),
        ("a:b", "got 'a'"),
        ("2:5:0", "LOW:HIGH:STEP"),
        ("2:5:00", "LOW:HIGH:STEP"),
        ("2:5:x0", "LOW:HIGH:xFACTOR"),
        ("2:5:x1", "LOW:HIGH:xFACTOR"),
        ("2:5:x01", "LOW:HIGH:xFACTOR"),
        ("2:5:x", "LOW:HIGH:xFACTOR"),
        ("2:5:-1", "LOW:HIGH:STEP"),
        ("2:5:x2:1", "LOW:HIGH:STEP"),
        ("1:1000000000000", "more than 10000 values"),
    ],
)
def test_what_is_no_list_is_refused_at_once_with_the_part_that_is_wrong(text, complaint):
    with pytest.raises(REFUSED, match=re.escape(complaint)):
        int_list(text)


def test_a_filter_is_pairs_that_all_must_hold():
    assert filter_of("depth=3") == {"depth": "3"}
    assert filter_of("depth=3, base_filters = 32") == {"depth": "3", "base_filters": "32"}
    assert filter_of("device_name=a=b") == {"device_name": "a=b"}
    assert filter_of("tf32=") == {"tf32": ""}


@pytest.mark.parametrize("text", ["", "depth", "=3", "depth=3,", "depth=3,32", "depth:3"])
def test_what_is_no_filter_is_refused(text):
    with pytest.raises(REFUSED, match="expected NAME=VALUE"):
        filter_of(text)


def test_a_filter_that_asks_for_two_values_at_once_is_refused():
    with pytest.raises(REFUSED, match="depth stands twice in 'depth=2,depth=3'; repeat the flag for either"):
        filter_of("depth=2,depth=3")


def test_a_row_matches_where_all_pairs_of_any_filter_hold():
    row = RunConfig(depth=3, base_filters=32, batch_size=128)
    assert matches(row, [filter_of("depth=3,base_filters=32")])
    assert not matches(row, [filter_of("depth=3,base_filters=64")])
    assert matches(row, [filter_of("depth=2"), filter_of("batch_size=128")])
    assert not matches(row, [filter_of("depth=2"), filter_of("batch_size=12")])
    assert not matches(row, [])


def test_an_empty_value_asks_for_what_is_unknown():
    assert matches(Conditions(), [filter_of("backend=")])
    assert not matches(Conditions(backend="jax"), [filter_of("backend=")])
    assert not matches(Conditions(), [filter_of("backend=None")])


def test_a_filter_by_what_a_row_does_not_have_names_what_it_has():
    with pytest.raises(
        ValueError, match="no column 'filters' to filter by; use one of depth, base_filters, batch_size"
    ):
        matches(RunConfig(), [filter_of("depth=3"), filter_of("filters=3")])


# --- parsers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def parser():
    parser = make_parser("epochcast try", "Try something.\n\nIn two paragraphs.", "epochcast try --batch_size 64,128")
    parser.add_argument("--batch_size", type=int_list, default=[128, 256], help="images per step")
    parser.add_argument("--repeats", type=not_negative_int, default=0, help="runs of each")
    parser.add_argument("--out", type=Path, help="where to")
    parser.add_argument("--value", help="what is maximised; default: acc")
    add_json_flag(parser)
    add_conditions_flag(parser)
    return parser


def flat(text):
    return " ".join(text.split())


def test_the_help_shows_the_defaults_as_a_user_would_type_them_and_an_example(parser):
    text = flat(parser.format_help())
    assert "images per step (default: 128,256)" in text
    assert "runs of each (default: 0)" in text
    assert "where to --value" in text  # nothing to tell
    assert "what is maximised; default: acc --json" in text  # told already
    assert "None" not in text and "False" not in text and "[]" not in text
    assert text.endswith("example: epochcast try --batch_size 64,128")
    assert "Try something.\n\nIn two paragraphs." in parser.format_help()


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--batch_size", "0"], "argument --batch_size: expected a whole number of at least 1, got 0"),
        (["--batch", "64"], "unrecognized arguments: --batch 64"),  # no abbreviations: they break when flags are added
        (["--conditions", "jax"], "argument --conditions: expected NAME=VALUE"),
    ],
)
def test_a_wrong_command_is_one_line_that_names_the_flag_and_exit_code_2(parser, capsys, argv, complaint):
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(argv)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {complaint}")
    assert err.endswith("\nSee epochcast try --help.\n")


def test_repeated_conditions_add_up(parser):
    arguments = parser.parse_args(["--conditions", "backend=jax,tf32=on", "--conditions", "precision=float32,tf32=on"])
    assert arguments.conditions == {"backend": "jax", "tf32": "on", "precision": "float32"}
    assert parser.parse_args([]).conditions == {}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["backend=jax", "tf32=on,backend=tensorflow"], "backend can't be both 'jax' and 'tensorflow'"),
        (["backend=jax,backend=tensorflow"], "backend stands twice in 'backend=jax,backend=tensorflow'; one value"),
    ],
)
def test_conditions_that_contradict_each_other_are_a_usage_error(parser, capsys, flags, words):
    with pytest.raises(SystemExit) as caught:
        parser.parse_args([word for pairs in flags for word in ("--conditions", pairs)])
    assert caught.value.code == 2
    assert f"error: argument --conditions: {words}" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_adds_repeated_conditions_up(command):
    for action in parser_of(command)._actions:
        if "--conditions" in action.option_strings:
            assert isinstance(action, AllPairs)
            assert "every pair must hold" in str(action.help)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_flag_of_pairs_replaces_its_earlier_self(command):
    for action in parser_of(command)._actions:
        if action.type in (filter_of, conditions_of):
            assert isinstance(action, AllPairs) or type(action).__name__ == "_AppendAction", action.option_strings


def test_repeated_conditions_choose_the_rows_that_satisfy_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    sets = [("jax", "float32"), ("jax", "mixed_float16"), ("tensorflow", "float32")]
    rows = [agg_row(2, 16, 2 ** (6 + k), backend=b, precision=p) for b, p in sets for k in range(3)]
    write_table(tmp_path / "agg.csv", rows, AggRow)
    one_by_one = ["--conditions", "backend=jax", "--conditions", "precision=float32"]
    for flags in (one_by_one, ["--conditions", "precision=float32,backend=jax"]):
        assert main(["next_runs", "--runs_agg", str(tmp_path / "agg.csv"), *flags, "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["measured"] == 3
        assert answer["other_conditions"] == []
    assert main(["next_runs", "--runs_agg", str(tmp_path / "agg.csv"), *one_by_one[:2], "--json"]) == 0
    assert "precision=float32" in json.loads(capsys.readouterr().out)["other_conditions"][0]["flag"]


def test_a_path_has_a_default_below_home_at_the_time_of_the_call(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    parser = make_parser("epochcast try", "", "")
    path_flag(parser, "--runs", lambda: home() / "runs.csv", "table")
    assert parser.parse_args([]).runs == tmp_path / "runs.csv"
    assert parser.parse_args(["--runs", "mine.csv"]).runs == Path("mine.csv")


# --- exit codes ------------------------------------------------------------------------------------------------------


def raising(error):
    def work():
        raise error

    return work


@pytest.fixture(autouse=True)
def without_debug(monkeypatch):
    monkeypatch.delenv("EPOCHCAST_DEBUG", raising=False)


@pytest.mark.parametrize("code", [0, 1, 130])
def test_a_command_that_ends_gives_its_own_exit_code_and_says_nothing(code, capsys):
    assert run_command(lambda: code) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("runs.csv:3, column 'depth': expected 1."), "runs.csv:3, column 'depth': expected 1."),
        (ValueError(), "ValueError"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/runs.csv"), "/x/runs.csv: No space left on device."),
        (FileNotFoundError("/x/runs.csv: no such table."), "/x/runs.csv: no such table."),
        (TimeoutError("/x/runs.csv: locked by another process"), "/x/runs.csv: locked by another process"),
        (UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "bad"), "'utf-8' codec can't decode byte 0xe9 in position 0: bad"),
    ],
)
def test_what_the_user_can_mend_is_one_line_on_stderr_and_exit_code_1(error, line, capsys):
    assert run_command(raising(error)) == 1
    assert capsys.readouterr() == ("", f"error: {line}\n")


def test_a_path_in_an_error_is_shown_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        Path("missing.json").read_text()
    assert describe_error(caught.value) == f"{tmp_path / 'missing.json'}: No such file or directory."


def test_an_error_of_an_open_file_without_a_name_is_still_described():
    assert "Bad file descriptor" in describe_error(OSError(errno.EBADF, "Bad file descriptor", 7))


def test_ctrl_c_is_exit_code_130(capsys):
    assert run_command(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_debugging_shows_where_an_error_was_raised(monkeypatch):
    monkeypatch.setenv("EPOCHCAST_DEBUG", "1")
    with pytest.raises(ValueError, match="x"):
        run_command(raising(ValueError("x")))


CHATTY = """
import sys
from epochcast.cli import run_command
sys.exit(run_command(lambda: print("line\\n" * 100_000) or 0))
"""


def test_a_reader_that_leaves_early_is_no_error_message():
    command = [sys.executable, "-c", CHATTY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_where_files_are_is_told_on_stderr(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    print_home()
    assert capsys.readouterr() == ("", f"files under {tmp_path}\n")


# --- printing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1.00"),
        (12.345, "12.3"),
        (-12.345, "-12.3"),
        (0.5, "0.500"),
        (123456.0, "123,000"),
        (1234567.0, "1,230,000"),
        (0.000123456, "0.000123"),
        (0.0000123456, "1.23e-05"),
        (1e15, "1.00e+15"),
        (9.994, "9.99"),
        (9.996, "10.0"),  # not 10.00: that would be four figures
        (999.6, "1,000"),
        (0.09996, "0.100"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_numbers_for_people_have_three_significant_figures(value, text):
    assert significant(value) == text


@pytest.mark.parametrize("digits", [1, 2, 3, 6])
@pytest.mark.parametrize("exponent", range(-3, 12))
def test_a_number_for_people_is_within_half_a_unit_of_its_last_figure(digits, exponent):
    for mantissa in (1.0, 1.2345678, 4.4444444, 9.4999999, 9.9999999):
        value = mantissa * 10.0**exponent
        text = significant(value, digits)
        # half a unit of the last figure, at most 0.5 / 10^(digits - 1) of the value; a little more for binary rounding
        assert float(text.replace(",", "")) == pytest.approx(value, rel=0.5001 * 10.0 ** (1 - digits))
        figures = text.replace(",", "").replace(".", "").lstrip("0")
        assert len(figures) == max(digits, len(text.replace(",", "").partition(".")[0].lstrip("0")))


def test_shares_are_printed_as_per_cent():
    assert percent(0.1234) == "12.3 %"
    assert percent(0.0) == "0 %"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (45.4, "45 s"),
        (59.6, "1 min 00 s"),
        (60, "1 min 00 s"),
        (750, "12 min 30 s"),
        (3599.7, "1 h 00 min"),
        (11_100, "3 h 05 min"),
        (90_000, "25 h 00 min"),
        (-1, "0 s"),
    ],
)
def test_durations_for_people_have_two_units(seconds, text):
    assert clock(seconds) == text


ANSWER = {"depth": 3, "seconds": 1.23456789, "acc": None, "in_range": True, "note": "2 x", "outside": ["depth"]}


def test_an_answer_is_a_line_per_name_with_meaningful_figures(capsys):
    print_answer(ANSWER, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "depth: 3",
        "seconds: 1.23",
        "acc: unknown",
        "in_range: True",
        "note: 2 x",
        "outside: ['depth']",
    ]


def test_an_answer_as_json_is_one_object_in_full_precision(capsys):
    print_answer(ANSWER, as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out) == ANSWER
    assert out.count("\n") == 1
    assert err == ""


def test_an_answer_as_json_never_holds_what_json_has_no_word_for():
    with pytest.raises(ValueError):
        print_answer({"seconds": math.nan}, as_json=True)


def test_a_table_lines_numbers_up_to_the_right_and_words_to_the_left():
    text = table_text(["name", "seconds"], [["a", 1.0], ["longer", 1234.5], ["none", None]])
    assert text.splitlines() == ["name    seconds", "a          1.00", "longer    1,230", "none          -"]


def test_a_table_without_rows_is_its_header():
    assert table_text(["name", "seconds"], []) == "name  seconds"


def test_a_range_is_told_by_its_ends_and_unknown_where_one_is():
    assert range_text(0.04583, 1234.5) == "0.0458 to 1,230"
    assert range_text(0.0, 0.0) == "0 to 0"
    assert range_text(None, None) == range_text(1.0, None) == "unknown"
    assert range_text(None, None, "range unknown") == "range unknown"
