"""What a long fit tells: nothing of a short wait, seldom more than a line a second, and when it is done."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from epochcast.output.progress import Progress


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def at(monkeypatch):
    """Tell a Progress a share at a time in seconds since its start."""
    clock = Clock()
    monkeypatch.setattr("epochcast.output.progress.time", clock)

    def tell(progress, second, share):
        clock.now = 1000.0 + second
        progress(share)

    return tell


def told(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_a_wait_of_under_two_seconds_needs_no_words(at, capsys):
    progress = Progress("training")
    for tenth in range(1, 11):
        at(progress, 0.19 * tenth, tenth / 10)
    assert told(capsys) == []


def test_done_and_time_left_are_told_and_start_up_is_not_counted(at, capsys):
    progress = Progress("training")
    at(progress, 30, 0.1)  # TensorFlow started and traced
    at(progress, 32, 0.2)  # 2 s for a tenth
    at(progress, 42, 0.7)
    assert told(capsys) == ["training: 20 %, 16 s left", "training: 70 %, 6 s left"]


def test_the_end_is_told_even_right_after_another_line(at, capsys):
    progress = Progress("left-out levels")
    at(progress, 1, 0.1)
    at(progress, 5, 0.9)
    at(progress, 5.1, 1.0)
    assert told(capsys) == ["left-out levels: 90 %, 0 s left", "left-out levels: 100 %, done"]


def test_no_more_than_one_line_a_second(at, capsys):
    progress = Progress("training")
    for step in range(1, 1000):  # 0.01 s each, from 2 s on a line each second
        at(progress, step / 100, step / 1000)
    assert len(told(capsys)) == 8


@pytest.mark.parametrize("first", [0.1, 0.05, 0.2])
def test_a_second_round_starts_again_whatever_share_it_begins_with(at, capsys, first):
    progress = Progress("training")
    for second, share in ((1, 0.1), (6, 0.6), (10, 1.0), (20, first), (25, first + 0.2), (40, 1.0)):
        at(progress, second, share)
    lines = told(capsys)
    assert lines[:2] == ["training: 60 %, 4 s left", "training: 100 %, done"]
    assert lines[-1] == "training: 100 %, done"


def test_a_terminal_shows_one_line_that_ends_when_it_is_done(at, monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("epochcast.output.progress.sys", SimpleNamespace(stderr=stderr))
    progress = Progress("training")
    for second, share in ((1, 0.1), (5, 0.5), (9, 1.0)):
        at(progress, second, share)
    assert stderr.getvalue() == "\r\033[Ktraining: 50 %, 5 s left\r\033[Ktraining: 100 %, done\n"
