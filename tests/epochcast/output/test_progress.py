"""How far a long piece of work is: nothing of a short wait, seldom more than a line a second, and when it is done."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from epochcast.output.progress import progress
from epochcast.output.streams import EscapedStream
from epochcast.paths import CODE_ROOT


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def at(monkeypatch):
    """Give a share to what shows it, at a time in seconds since its start."""
    clock = Clock()
    monkeypatch.setattr("epochcast.output.progress.time", clock)

    def tell(say, second, share):
        clock.now = 1000.0 + second
        say(share)

    return tell


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True

    @property
    def lines(self):
        return re.findall("\r\033\\[K([^\r]*)", self.getvalue())


def on_terminal(monkeypatch):
    """Have stderr be a terminal, which it returns."""
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    monkeypatch.setenv("COLUMNS", "70")
    return stream


def told(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


# --- a file or a pipe -------------------------------------------------------------------------------------------------


def test_a_wait_of_under_two_seconds_needs_no_words(at, capsys):
    say = progress("training")
    for tenth in range(1, 11):
        at(say, 0.19 * tenth, tenth / 10)
    assert told(capsys) == []


def test_done_and_time_left_are_told_and_start_up_is_not_counted(at, capsys):
    say = progress("training")
    at(say, 30, 0.1)  # TensorFlow started and traced
    at(say, 32, 0.2)  # 2 s for a tenth
    at(say, 42, 0.7)
    assert told(capsys) == ["training: 20 %, 16 s left", "training: 70 %, 6 s left"]


def test_what_is_counted_is_told_as_done_of_total(at, capsys):
    say = progress("decoding images", 60)
    for second, done in ((1, 1), (3, 21), (7, 60)):
        at(say, second, done / 60)
    assert told(capsys) == ["decoding images: 21/60, 4 s left", "decoding images: 60/60, done"]


def test_the_end_is_told_even_right_after_another_line(at, capsys):
    say = progress("left-out levels")
    at(say, 1, 0.1)
    at(say, 5, 0.9)
    at(say, 5.1, 1.0)
    assert told(capsys) == ["left-out levels: 90 %, 0 s left", "left-out levels: 100 %, done"]


def test_no_more_than_one_line_a_second(at, capsys):
    say = progress("training")
    for step in range(1, 1000):  # 0.01 s each, from 2 s on a line each second
        at(say, step / 100, step / 1000)
    assert len(told(capsys)) == 8


@pytest.mark.parametrize("first", [0.1, 0.05, 0.2])
def test_a_second_round_starts_again_whatever_share_it_begins_with(at, capsys, first):
    say = progress("training")
    for second, share in ((1, 0.1), (6, 0.6), (10, 1.0), (20, first), (25, first + 0.2), (40, 1.0)):
        at(say, second, share)
    lines = told(capsys)
    assert lines[:2] == ["training: 60 %, 4 s left", "training: 100 %, done"]
    assert lines[-1] == "training: 100 %, done"


def test_what_shows_no_bar_imports_no_tqdm():
    code = (
        "import sys; import epochcast.output.progress as p; p.FIRST_SEC = 0; "
        "say = p.progress('x', 4); [say(n / 4) for n in range(1, 5)]; assert 'tqdm' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CODE_ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "x: 4/4, done"


# --- a terminal -------------------------------------------------------------------------------------------------------


def test_a_terminal_shows_one_bar_that_ends_when_it_is_done(at, monkeypatch):
    terminal = on_terminal(monkeypatch)
    say = progress("training")
    for second, share in ((1, 0.1), (5, 0.5), (10, 1.0)):
        at(say, second, share)
    half, whole = terminal.lines
    assert re.fullmatch(r"training:  50%\|█+[^█|]+\| \[00:04<00:05\]", half)
    assert re.fullmatch(r"training: 100%\|█+\| \[00:09<00:00\]\n", whole)
    assert len(half) <= 70


def test_a_bar_counts_what_is_counted(at, monkeypatch):
    terminal = on_terminal(monkeypatch)
    say = progress("decoding images", 60)
    for second, done in ((1, 1), (3, 21), (7, 60)):
        at(say, second, done / 60)
    assert ["21/60 [00:02<00:03]" in terminal.lines[0], "60/60 [00:06<00:00]" in terminal.lines[1]] == [True, True]


def test_a_terminal_without_unicode_gets_a_plain_bar_and_no_name_drives_it(at, monkeypatch):
    terminal = on_terminal(monkeypatch)
    monkeypatch.setattr(terminal, "encoding", "ascii", raising=False)
    say = progress("\x1b[31mred")
    for second, share in ((1, 0.1), (5, 0.5)):
        at(say, second, share)
    assert terminal.lines[0].isascii()
    assert terminal.lines[0].startswith("\\x1b[31mred:  50%|#")


# --- a stderr that fails ----------------------------------------------------------------------------------------------


class Failing(Terminal):
    def __init__(self, error, is_terminal):
        super().__init__()
        self.error, self.is_terminal = error, is_terminal

    def isatty(self):
        return self.is_terminal

    def write(self, text):
        raise self.error


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("wrap", [lambda stream: stream, lambda stream: EscapedStream(stream, outlives_readers=True)])
@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
        ValueError("I/O operation on closed file"),
    ],
)
def test_a_stderr_that_can_t_be_written_ends_no_work(at, monkeypatch, error, wrap, is_terminal):
    monkeypatch.setattr(sys, "stderr", wrap(Failing(error, is_terminal)))
    say = progress("training")
    for second in range(1, 10):
        at(say, second, second / 9)


@pytest.mark.parametrize("stream", [None, "closed"])
def test_a_closed_stderr_ends_no_work(at, monkeypatch, stream):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", stream and closed)
    say = progress("training")
    for second in range(1, 10):
        at(say, second, second / 9)


COMMAND = """
import time
import epochcast.output.progress
from epochcast.cli import run_command
from epochcast.guard import own_process
from epochcast.output.progress import progress
epochcast.output.progress.FIRST_SEC = 0.0
def work():
    say = progress("training", 1000)
    for n in range(1, 1001):
        say(n / 1000)
        time.sleep(0.05)
raise SystemExit(own_process(lambda: run_command(work)))
"""


def test_ctrl_c_in_the_middle_of_a_bar_is_one_word_and_no_traceback():
    main, terminal = os.openpty()
    shown = b""
    with subprocess.Popen([sys.executable, "-c", COMMAND], cwd=CODE_ROOT, stderr=terminal) as process:
        os.close(terminal)
        end = time.monotonic() + 60
        while b"/1000 [" not in shown and time.monotonic() < end:
            shown += os.read(main, 4096)
        process.send_signal(signal.SIGINT)
        while True:
            try:
                more = os.read(main, 4096)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not more:
                break
            shown += more
    os.close(main)
    assert process.returncode == 130
    assert shown.endswith(b"interrupted\r\n")
    assert b"Traceback" not in shown and b"Exception" not in shown
