"""What samples say beside the time."""

from __future__ import annotations

import pytest

from epochcast.live.sampling.diagnostics import diagnose, pace, sentences
from epochcast.live.sampling.estimator import Block, Epoch, Moment, Samples


def samples(epochs, start_sec=0.0, middle_error=0.0):
    """Pairs whose epochs take these seconds."""
    found = tuple(Epoch(Moment(sec, sec), Moment(start_sec, start_sec), middle_error) for sec in epochs)
    blocks = tuple(Block(steps, Moment(steps, steps)) for _ in epochs for steps in (4, 20))
    return Samples("pairs", None, found, (4, 20), 1.0, blocks)


def said(found, *, step_sec=0.1, data_sec=None):
    return " ".join(sentences(diagnose(found, step_sec, data_sec)))


STEADY = [1.0, 1.02, 0.98, 1.01, 0.99, 1.0]


def test_of_a_steady_straight_training_nothing_is_said():
    assert said(samples(STEADY)) == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (samples(STEADY, start_sec=0.2), "begins with 0.2 s"),
        (samples(STEADY, middle_error=0.08), "took 8% more than the line"),
        (samples(STEADY, middle_error=-0.08), "took 8% less than the line"),
        (samples([1.0, 1.02, 1.05, 1.1, 1.16, 1.2]), "17% slower"),
        (samples([1.2, 1.16, 1.1, 1.05, 1.02, 1.0]), "14% faster"),
    ],
)
def test_what_is_out_of_line_is_said(found, words):
    assert words in said(found)


@pytest.mark.parametrize(
    ("data_sec", "words"),
    [(0.095, "Input-bound: making a batch alone takes 95%"), (0.01, "Not input-bound"), (None, "")],
)
def test_what_a_training_waits_for_is_said(data_sec, words):
    assert said(samples(STEADY), data_sec=data_sec).startswith(words) and bool(words) == bool(
        said(samples(STEADY), data_sec=data_sec)
    )


def test_whole_epochs_have_no_start_to_tell():
    whole = Samples("epochs", 1.5, tuple(Epoch(Moment(sec, sec)) for sec in STEADY), None, 6.0)
    found = diagnose(whole, 0.1, None)
    assert (found.start_sec, found.start_share, found.middle_error, found.sizes) == (None, None, None, ())
    assert sentences(found) == []


def test_blocks_are_counted_by_their_steps():
    found = diagnose(samples(STEADY), 0.1, None)
    assert [(size.steps, size.n, size.mean_sec, size.sd_sec) for size in found.sizes] == [(4, 6, 4, 0), (20, 6, 20, 0)]
    assert found.time_with_steps.rho == pytest.approx(1)


def test_the_pace_leaves_the_start_of_epochs_out():
    assert pace(samples([2.0, 2.2], start_sec=1.0).epochs, 10) == pytest.approx(0.11)
