"""Ctrl-C by real signals to this process."""

from __future__ import annotations

import signal

import pytest

from epochcast.live.program.interrupts import Interrupts


@pytest.fixture(autouse=True)
def own_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press():
    signal.raise_signal(signal.SIGINT)


def test_a_press_on_hold_is_raised_at_the_release_and_not_before():
    steps = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        press()
        steps.append("saved")
        interrupts.release()
        steps.append("tried")
    assert steps == ["saved"]


def test_a_press_while_things_are_put_back_is_raised_after_them():
    steps = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        interrupts.release()
        interrupts.hold()
        press()
        steps.append("put back")
    assert steps == ["put back"]


def test_a_press_between_is_raised_at_once_and_only_once():
    steps = []
    with pytest.raises(KeyboardInterrupt):
        with Interrupts() as interrupts:
            try:
                interrupts.release()
                press()
                steps.append("tried")
            finally:
                interrupts.hold()
        steps.append("ended")
    assert steps == []


def test_a_press_that_a_library_swallows_or_turns_into_its_own_error_ends_as_a_press():
    for error in (None, RuntimeError):
        with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
            interrupts.release()
            try:
                press()
            except KeyboardInterrupt:
                if error is not None:
                    raise error("of a library") from None


def test_a_handler_of_the_programs_own_is_called_and_comes_back():
    heard = []

    def own(number, frame):
        heard.append(number)

    signal.signal(signal.SIGINT, own)
    with Interrupts() as interrupts:
        press()  # on hold
        assert heard == []
        interrupts.release()
        assert heard == [signal.SIGINT]
        press()
    assert heard == [signal.SIGINT] * 2
    assert signal.getsignal(signal.SIGINT) is own


def test_where_interrupts_are_ignored_they_stay_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts() as interrupts:
        interrupts.release()
        press()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
