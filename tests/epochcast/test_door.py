"""The doors: every sub-command answers for itself, also beside files of a user's own with the names of ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from epochcast import __version__
from epochcast.__main__ import COMMANDS, main
from epochcast.paths import CODE_ROOT

BIN = Path(sys.executable).parent  # where an installation puts our console scripts


def help_of(capsys, *names):
    """Exit code, and what stands on stdout and stderr, of `epochcast NAME --help`."""
    try:
        code = main([*names, "--help"])
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def test_the_door_lists_every_sub_command_with_what_it_is_for(capsys):
    code, out, err = help_of(capsys)
    assert (code, err) == (0, "")
    listed = dict(re.findall(r"^  (\w+) +(.+)$", out, re.MULTILINE))
    assert listed == {name: what for name, (_, what) in COMMANDS.items()}
    assert all(len(line) <= 120 for line in out.splitlines())


@pytest.mark.parametrize("argv", [["-h"], ["help"], ["--help", "plan"]])
def test_help_may_be_asked_for_in_several_ways(argv, capsys):
    assert main(argv) == 0
    assert capsys.readouterr().out.startswith("usage: epochcast <command>")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_sub_command_shows_its_flags_and_an_example_that_is_a_command_of_ours(name, capsys):
    code, out, err = help_of(capsys, name)
    assert (code, err) == (0, "")
    assert out.startswith("usage: ")
    assert "None" not in out
    example = out.rstrip().splitlines()[-2:]
    assert example[0] == "example:"
    assert re.match(r"  (\S*epochcast |predict_perf |dp_budget_planner |python collect/run_|make run)", example[1])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_of_every_example_is_one_that_the_command_has(name, capsys):
    _, out, _ = help_of(capsys, name)
    flags, _, example = out.partition("example:")
    assert set(re.findall(r"--\w+", example)) <= set(re.findall(r"--\w+", flags))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_of_every_sub_command_is_written_in_snake_case(name, capsys):
    _, out, _ = help_of(capsys, name)
    assert re.findall(r"^  (?:-h, )?--([\w-]+)", out, re.MULTILINE)
    for flag in re.findall(r"^  (?:-h, )?--([\w-]+)", out, re.MULTILINE):
        assert re.fullmatch(r"[a-z0-9_]+", flag)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_flag_that_a_sub_command_does_not_have_is_exit_code_2(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--no_such_flag"])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")


def test_an_unknown_command_is_exit_code_2_and_names_the_known_ones(capsys):
    assert main(["forecast"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"error: no command 'forecast'; use one of {', '.join(COMMANDS)}.\n"


def test_no_command_shows_the_commands_and_is_exit_code_2(capsys):
    assert main([]) == 2
    assert "usage: epochcast <command>" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"epochcast {__version__}\n"
    assert f'version = "{__version__}"' in (CODE_ROOT / "pyproject.toml").read_text()


# --- beside a user's own files ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def users_folder(tmp_path_factory):
    """A folder of somebody else's project whose files have the names of our stages; each fails when it is imported."""
    folder = tmp_path_factory.mktemp("theirs")
    for name in ("model.py", "planner.py", "aggregate.py", "workload.py", "collect/__init__.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"raise RuntimeError('their own {name} was imported')\n")
    return folder


def run_there(command, folder, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_users_folder_would_show_if_one_of_its_files_were_imported(users_folder):
    done = run_there([sys.executable, "-c", "import model"], users_folder)
    assert done.returncode == 1
    assert "their own model.py was imported" in done.stderr


# without PYTHONPATH, which makes it harder, the folder is on the path all the same, of `python -m` alone
@pytest.mark.parametrize(
    ("command", "prog", "has_pythonpath"),
    [
        ((sys.executable, "-m", "epochcast", "plan"), "dp_budget_planner", False),
        ((sys.executable, "-m", "epochcast", "plan"), "dp_budget_planner", True),  # imports every stage but collect
        ((sys.executable, "-m", "epochcast", "grid"), "epochcast grid", True),
        ((BIN / "epochcast", "demo"), "epochcast demo", True),  # imports every stage
        ((BIN / "predict_perf",), "predict_perf", True),
        ((BIN / "dp_budget_planner",), "dp_budget_planner", True),
        ((sys.executable, CODE_ROOT / "collect" / "run_one.py"), "epochcast run", True),
        ((sys.executable, CODE_ROOT / "collect" / "run_grid.py"), "epochcast grid", True),
    ],
    ids=lambda value: " ".join(Path(part).name for part in value) if isinstance(value, tuple) else None,
)
def test_a_command_started_beside_a_users_own_model_py_finds_ours(users_folder, command, prog, has_pythonpath):
    environment = {"PYTHONPATH": str(users_folder)} if has_pythonpath else {}
    done = run_there([*command, "--help"], users_folder, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith(f"usage: {prog}")


def test_an_answer_is_the_same_beside_a_users_own_files(users_folder, tmp_path):
    command = [sys.executable, "-m", "epochcast", "predict", "--batch_size", "512", "--json"]
    home = {"EPOCHCAST_HOME": str(tmp_path)}
    theirs = run_there(command, users_folder, PYTHONPATH=str(users_folder), **home)
    ours = run_there(command, tmp_path, **home)
    assert theirs.returncode == ours.returncode == 0, theirs.stderr
    assert theirs.stdout == ours.stdout
    assert json.loads(ours.stdout)["batch_size"] == 512
