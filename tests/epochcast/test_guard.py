"""One door: any exception is a sentence, Ctrl-C is obeyed at any moment, streams may be closed or of any encoding."""

from __future__ import annotations

import builtins
import contextlib
import csv
import errno
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from epochcast.__main__ import COMMANDS, main
from epochcast.error_text import describe_error, sentence_of
from epochcast.guard import guarded
from epochcast.paths import CODE_ROOT
from epochcast.schema import RunRecord
from epochcast.storage.tables import write_table
from tests.support.light_child import command as light_child

SPECIAL = {  # that need arguments, or are no error of a work
    UnicodeDecodeError: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    UnicodeEncodeError: UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"),
    UnicodeTranslateError: UnicodeTranslateError("x", 0, 1, "bad"),
    ExceptionGroup: ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
    BaseExceptionGroup: None,
    BrokenPipeError: None,  # the reader left: tested below
}
OTHERS = (
    zipfile.BadZipFile("x"),
    zlib.error("x"),
    csv.Error("x"),
    struct.error("x"),
    type("Odd", (Exception,), {})("x"),
)


def every_exception():
    for kind in vars(builtins).values():
        if isinstance(kind, type) and issubclass(kind, Exception):
            error = SPECIAL.get(kind, kind("a message\nof two lines") if kind not in SPECIAL else None)
            if error is not None:
                yield error
    yield from OTHERS


class SpeechlessError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize("error", [*every_exception(), SpeechlessError()], ids=lambda error: type(error).__name__)
def test_any_exception_is_one_sentence_and_exit_code_1(error, capsys):
    assert guarded(raising(error)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and "Traceback" not in err
    assert len(err) < 400
    if not isinstance(error, (ValueError, OSError, ImportError, MemoryError, RecursionError, OverflowError)):
        assert err.count("\n") == 1
        assert f"unexpected {type(error).__name__} in tests" not in err  # only a place in our code helps
        assert f"unexpected {type(error).__name__}" in err
        assert "EPOCHCAST_DEBUG=1" in err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ModuleNotFoundError("No module named 'sklearn'", name="sklearn.x"),
            "the package scikit-learn is not installed",
        ),
        (MemoryError("Unable to allocate 8 GiB"), "not enough memory (Unable to allocate 8 GiB). Ask for less at once"),
        (RecursionError("maximum recursion depth exceeded"), "something is nested too deeply"),
        (OverflowError("int too large to convert to float"), "a number is too large to compute with: int too large"),
        (RuntimeError("Symlink loop from '/x'"), "a circle of symbolic links: Symlink loop from '/x'. Remove"),
        (RuntimeError("Could not determine home directory."), "a path begins with ~, and no such home folder is known"),
        (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, ""), "'\\udcff' can't be written as utf-8"),
    ],
)
def test_what_has_a_remedy_names_it(error, words, capsys):
    assert guarded(raising(error)) == 1
    assert capsys.readouterr().err.startswith(f"error: {words}")


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), MemoryError()], ids=lambda e: type(e).__name__)
def test_debugging_shows_the_trace_of_any_exception(error, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_DEBUG", "1")
    with pytest.raises(type(error)):
        guarded(raising(error))


def test_a_removed_working_directory_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["check", "--runs", "runs.csv"]) == 1
    assert capsys.readouterr().err == "error: the working directory was removed. Change to one that exists.\n"
    error = OSError(errno.ENOENT, "No such file or directory", "runs.csv")
    assert describe_error(error) == "runs.csv: No such file or directory."


@pytest.mark.parametrize("error", ["KeyError('x')", "OverflowError('x')", "OSError('x')", "MemoryError()"])
@pytest.mark.parametrize("where", ["import", "parsing"])
def test_what_fails_before_a_command_works_is_a_sentence_too(error, where, tmp_path, monkeypatch, capsys):
    indent = "" if where == "import" else "def main(argv):\n    "
    (tmp_path / "broken_command.py").write_text(f"{indent}raise {error}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_command", raising=False)
    monkeypatch.setitem(COMMANDS, "broken", ("broken_command", ""))
    assert main(["broken"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("EPOCHCAST_HOME", "~nosuchuser", "$EPOCHCAST_HOME='~nosuchuser' names no folder: "),
        ("EPOCHCAST_HOME", "loop", "$EPOCHCAST_HOME='loop' names no folder: Symlink loop from"),
        ("EPOCHCAST_HOME", "file", "file/results: a file, not a folder"),
    ],
)
def test_a_home_that_is_no_folder_is_named(variable, value, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, value)
    assert main(["next_runs", "--n", "1"]) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: ")
    if value != "file":
        assert words in last


NAMED = (["aggregate", "--runs"], ["check", "--runs"], ["migrate", "--runs"], ["plan", "--budget", "1h", "--runs_agg"])
NAMED += (
    ["compare", "--a", "x=1", "--b", "x=2", "--runs"],
    ["run_plan"],
    ["train", "--runs_agg"],
    ["figures", "--runs_agg"],
)
NAMES = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=30)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(name=NAMES)
@example(name="evil\nerror: x.csv")
@example(name="evil\n")
@pytest.mark.parametrize("command", NAMED, ids=lambda command: command[0])
def test_no_character_of_a_name_begins_a_message_of_its_own(command, name, tmp_path, capsys):
    with contextlib.suppress(SystemExit):
        assert main([*command, f"{tmp_path}/no folder/{name}"]) != 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("error: ") for line in lines].count(True) == 1
    assert not [line for line in lines if not line.startswith(("error: ", "  ", "files under ", "WARNING: ", "See "))]


def test_a_long_path_is_cut_in_the_middle(capsys):
    path = "/" + "/".join(["long" * 50] * 5)
    assert main(["migrate", "--runs", f"{path}/end.csv"]) == 1
    told = capsys.readouterr().err
    assert len(told) < 700 and "end.csv" in told and "/longlong" in told


# --- processes -------------------------------------------------------------------------------------------------------


def started(code, *argv, **options):
    """A new interpreter that runs `code` in the checkout."""
    options = {"capture_output": True, "text": True, "timeout": 30, "cwd": CODE_ROOT, **options}
    return subprocess.run([sys.executable, "-c", code, *argv], check=False, **options)


WITHOUT_NUMPY = "import runpy, sys; sys.modules['numpy'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
BY_PATH = ["collect/run_one.py", "collect/run_grid.py", "collect/doctor.py"]


@pytest.mark.parametrize("script", BY_PATH)
def test_a_missing_package_is_one_line_from_any_door(script):
    done = started(WITHOUT_NUMPY, script)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: the package numpy is not installed for ")
    assert done.stderr.count("\n") == 1


def with_bare_python(tmp_path, *arguments, cwd=CODE_ROOT):
    """What a Python without any package says, with which somebody forgot to activate the environment."""
    bare = tmp_path / "bare" / "bin" / "python"
    if not bare.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return subprocess.run(
        [bare, *arguments], cwd=cwd, env=environ, capture_output=True, text=True, timeout=30, check=False
    )


def test_without_the_environment_every_door_says_in_one_line_how_to_activate_it(tmp_path):
    scripts = [[script, "--depth", "3"][: 3 if "run_one" in script else 1] for script in BY_PATH]
    commands = [["-m", "epochcast", name] for name in ("run", "predict", "demo")]  # the others by the same door
    for arguments in [*scripts, *commands, ["epochcast/__main__.py", "train"], ["benchmarks/claims.py"]]:
        done = with_bare_python(tmp_path, *arguments)
        assert done.returncode == 1, arguments
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        assert "is not installed for " in done.stderr
        assert "make run" in done.stderr and f"source {CODE_ROOT / '.venv' / 'bin' / 'activate'}" in done.stderr


def test_a_package_that_the_active_environment_lacks_is_installed_into_it(monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(CODE_ROOT / ".venv"))
    text = sentence_of(ModuleNotFoundError("No module named 'optuna'", name="optuna"))
    python = sys.executable
    assert text == f"the package optuna is not installed for {python}. Install it: {python} -m pip install optuna"


INTERRUPTED = """
import signal, sys
from epochcast.__main__ import COMMANDS, main
COMMANDS["slow"] = ("slow_command", "")
sys.path.insert(0, sys.argv.pop(1))
sys.exit(main())
"""
PRESS = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"
MOMENTS = {
    "import": f"{PRESS}main = None",
    "parser": f"def main(argv):\n    {PRESS}",
    "swallowed at import": f"try:\n    {PRESS}except BaseException: raise ImportError('half of it') from None",
    "finaliser at import": f"class Last:\n    def __del__(self):\n        {PRESS}Last()\ndef main(argv): return 0",
    "work": f"from epochcast.cli import run_command\ndef work():\n    {PRESS}def main(argv): return run_command(work)",
    "work, made another exception": "from epochcast.cli import run_command\n"
    f"def work():\n    try:\n        {PRESS}    except BaseException: raise ImportError('x') from None\n"
    "def main(argv): return run_command(work)",
    "finaliser at work": f"from epochcast.cli import run_command\nclass Last:\n    def __del__(self):\n        {PRESS}"
    "def work():\n    Last()\n    return 0\ndef main(argv): return run_command(work)",
    "twice": "from epochcast.cli import run_command\n"
    f"def work():\n    try:\n        {PRESS}    finally:\n        {PRESS}def main(argv): return run_command(work)",
    "while an error is told": "from epochcast.cli import run_command\nclass E(ValueError):\n    def __str__(self):\n"
    f"        {PRESS}        return 'x'\ndef work(): raise E\ndef main(argv): return run_command(work)",
    "finaliser that fails of it": f"class Last:\n    def __del__(self):\n        try:\n            {PRESS}"
    "        except BaseException: raise SystemError('x')\nfrom epochcast.cli import run_command\n"
    "def work():\n    Last()\n    return 0\ndef main(argv): return run_command(work)",
    "exit": f"import atexit\nfrom epochcast.cli import run_command\ndef last():\n    {PRESS}"
    "atexit.register(last)\ndef main(argv): return run_command(lambda: 0)",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_at_any_moment_is_a_word_and_exit_code_130(moment, tmp_path):
    (tmp_path / "slow_command.py").write_text(MOMENTS[moment])
    done = started(INTERRUPTED, str(tmp_path), "slow", restore_signals=True)
    assert done.returncode == 130, done.stderr
    assert set(done.stderr.splitlines()) == {"interrupted"}
    assert done.stdout == ""


def test_ctrl_c_after_the_last_of_a_command_changes_nothing(tmp_path):
    last = "class Last:\n    def __del__(self, kill=os.kill, pid=os.getpid()):\n        kill(pid, 2)\n"
    (tmp_path / "slow_command.py").write_text(f"import os\n{last}last = Last()\ndef main(argv): return 0\n")
    done = started(INTERRUPTED, str(tmp_path), "slow", restore_signals=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_finaliser_that_fails_in_a_clean_up_does_not_cut_it_short(tmp_path):
    (tmp_path / "slow_command.py").write_text(
        "from epochcast.cli import run_command\nclass Last:\n    def __del__(self): raise ValueError\n"
        f"def work():\n    try:\n        {PRESS}    except KeyboardInterrupt:\n        Last()\n        return 7\n"
        "def main(argv): return run_command(work)"
    )
    assert started(INTERRUPTED, str(tmp_path), "slow", restore_signals=True).returncode == 7


@pytest.mark.parametrize("how", ["cause", "context"])
def test_a_system_error_of_an_interrupt_is_one(how, capsys):
    error = SystemError("error return without exception set")
    setattr(error, f"__{how}__", KeyboardInterrupt())
    assert guarded(raising(error)) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "numpy.py shadows the package numpy ("),
        ("def broken(:\n", "numpy.py line 1: not Python ("),
    ],
)
def test_a_users_file_that_shadows_a_package_is_named(text, words, tmp_path):
    (tmp_path / "numpy.py").write_text(text)
    code = "from epochcast.guard import guarded\ndef work():\n    import numpy.linalg\nraise SystemExit(guarded(work))"
    done = started(code, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}/{words}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("value", ["abc", "", "-1", "9" * 30, "1.5"])
def test_a_stamp_of_no_time_is_named_and_passed_over(value):
    code = "import os\nfrom epochcast.guard import own_process\n"
    code += "own_process(lambda: print(os.environ.get('SOURCE_DATE_EPOCH')) or 0)"
    done = started(code, env={**os.environ, "SOURCE_DATE_EPOCH": value})
    assert done.stdout == "None\n"
    assert done.stderr.startswith(f"WARNING: SOURCE_DATE_EPOCH={value!r} is passed over")
    assert started(code, env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}).stdout == "1700000000\n"


def test_ctrl_c_stays_ignored_where_it_was(tmp_path):
    (tmp_path / "slow_command.py").write_text(MOMENTS["import"].replace("main = None", "def main(argv): return 0"))
    ignoring = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{INTERRUPTED}"
    assert started(ignoring, str(tmp_path), "slow").returncode == 0


TWO_CLOSED = ("<&- >&-", "<&- 2>&-", ">&- 2>&-")


@pytest.mark.parametrize(
    "closed",
    ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", *(pytest.param(two, marks=pytest.mark.slow) for two in TWO_CLOSED)],
)
def test_closed_streams_change_neither_answer_nor_exit_code(closed, tmp_path):
    rows = tmp_path / "runs.csv"
    write_table(rows, [], RunRecord)
    line = f"{sys.executable} -m epochcast migrate --json --runs {rows} {closed}"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr == "" if "2>" in closed else done.stderr.startswith("files under ")
    if ">&-" in closed.replace("2>&-", ""):
        assert done.stdout == ""
    else:
        assert json.loads(done.stdout)["tables"][0]["n_rows"] == 0


def test_errors_without_a_stderr_leave_stdout_to_answers(tmp_path):
    line = f"{sys.executable} -m epochcast migrate --json --runs {tmp_path}/none.csv 2>&-"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_disk_under_a_stream_is_no_traceback(stream, tmp_path):
    number = {"stdout": 1, "stderr": 2}[stream]
    write_table(tmp_path / "runs.csv", [], RunRecord)
    line = f"{sys.executable} -m epochcast migrate --runs runs.csv {number}>/dev/full"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if stream == "stdout" else 0)
    words = "error: standard output: No space left on device." if stream == "stdout" else "already schema"
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("length", [10, 100_000], ids=["at the end", "in the middle"])
def test_a_full_disk_under_stdout_is_named(length):
    code = (
        "from epochcast.cli import run_command\nfrom epochcast.guard import own_process\n"
        f"raise SystemExit(own_process(lambda: run_command(lambda: print('x' * {length}) or 0)))"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: standard output: No space left on device. Send it to where it can be written.\n"


MEASURED = """
import json, os, sys
for descriptor in map(int, sys.argv[2].split(",")):
    os.close(descriptor)
from epochcast.collect.run.child import ChildListener, run_child
from epochcast.schema import RunSpec
silent = ChildListener(lambda event: None, lambda data: None)
report = run_child(RunSpec(epochs=3), silent, timeout_sec=20.0, child=json.loads(sys.argv[3]))
with open(sys.argv[1], "w") as file:
    print(report.exit_code, len(report.epoch_times), report.done is not None, file=file)
"""


@pytest.mark.parametrize("closed", ["0", "1", "2", "0,1,2"])
def test_a_run_finishes_whatever_stream_of_its_parent_is_closed(closed, tmp_path):
    told = tmp_path / "told"
    started(MEASURED, str(told), closed, json.dumps(light_child("ok")))
    assert told.read_text() == "0 3 True\n"


ENCODINGS = (
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "ascii:strict"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0"},
    {"PYTHONIOENCODING": "utf-16"},
)


CHARACTERS, NO_UTF_8 = b"\xc3\xa9\xe2\x86\x92.csv", b"\xff\xfe.csv"


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        *((environment, NO_UTF_8) for environment in ENCODINGS),
        (ENCODINGS[0], CHARACTERS),
        *(pytest.param(environment, CHARACTERS, marks=pytest.mark.slow) for environment in ENCODINGS[1:]),
    ],
    ids=str,
)
def test_no_character_of_a_name_cuts_an_answer_off(environment, name, tmp_path):
    table = os.path.join(os.fsencode(tmp_path), name)  # noqa: PTH118  # a name of bytes
    write_table(tmp_path / os.fsdecode(name), [], RunRecord)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-m", "epochcast", "migrate", "--runs", table],
        cwd=CODE_ROOT,
        env={**clean, **environment},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"already schema" in done.stdout.replace(b"\0", b"")
    assert b"Traceback" not in done.stderr
