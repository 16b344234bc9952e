"""What every command line shares: values of flags, exit codes, and how answers and errors are printed."""

from __future__ import annotations

import argparse
import errno
import json
import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from epochcast.__main__ import COMMANDS, main
from epochcast.cli import (
    AllPairs,
    add_conditions_flag,
    add_config_flags,
    add_json_flag,
    config_lists,
    configs_of,
    make_parser,
    path_flag,
    print_answer,
    print_home,
    run_command,
)
from epochcast.error_text import describe_error
from epochcast.flag_types import (
    int_list,
    not_negative_int,
    positive_int,
)
from epochcast.paths import CODE_ROOT, home
from epochcast.schema import AXIS_NAMES, AggRow, RunConfig
from epochcast.storage.filters import conditions_of, filter_of
from epochcast.storage.tables import write_table
from tests.support.parsers import parser_of
from tests.support.rows import agg_row

REFUSED = argparse.ArgumentTypeError

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


def config_parser(**how):
    parser = make_parser("epochcast try", "", "")
    add_config_flags(parser, **how)
    return parser


def test_the_flags_of_a_configuration_are_its_axes_with_their_defaults():
    arguments = config_parser().parse_args([])
    assert vars(arguments) == asdict(RunConfig())
    assert configs_of(arguments) == [RunConfig()]


def test_lists_of_a_configuration_give_all_combinations_in_the_order_typed():
    parser = config_parser(as_lists=["base_filters", "batch_size"])
    arguments = parser.parse_args(["--base_filters", "16,8", "--batch_size", "64:128:x2"])
    assert config_lists(arguments) == [[RunConfig().depth], [16, 8], [64, 128]]
    assert configs_of(arguments) == [RunConfig(3, f, b) for f in (16, 8) for b in (64, 128)]


def test_an_axis_without_a_default_is_none_unless_given_and_then_the_usual_one():
    arguments = config_parser(defaults={}, as_lists=AXIS_NAMES).parse_args(["--depth", "2"])
    assert (arguments.depth, arguments.base_filters) == ([2], None)
    assert configs_of(arguments) == [RunConfig(depth=2)]


@pytest.mark.parametrize("command", [each for each in COMMANDS if each != "tune"])  # of whose fit only the batch is cut
def test_a_command_with_one_flag_of_a_configuration_has_them_all(command):
    types = {action.dest: action.type for action in parser_of(command)._actions if action.dest in AXIS_NAMES}
    assert tuple(types) in ((), AXIS_NAMES)
    assert set(types.values()) <= {positive_int, int_list}


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


def test_only_modules_with_flags_or_a_main_import_the_command_line():
    stages = ("epochcast", "workload", "collect", "aggregate", "model", "planner")
    paths = [path for stage in stages for path in (CODE_ROOT / stage).rglob("*.py")]
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    users = [path for path, text in texts.items() if "from epochcast.cli import" in text]
    assert len(users) > 15
    assert not [path for path in users if "add_argument(" not in texts[path] and "def main(" not in texts[path]]


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
