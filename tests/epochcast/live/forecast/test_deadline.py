"""Fits that end before a time, by a clock of the test's own."""

from __future__ import annotations

import random

import pytest

from epochcast.live.forecast.deadline import Deadline

STEPS = 50


class Device:
    """A device that does steps one after the other, while the host gives it more."""

    def __init__(self, seed, is_ahead):
        self.host = self.device = 0.0
        self.random = random.Random(seed)
        self.is_ahead = is_ahead
        self.waits = 0

    def give(self, sec):
        self.device = max(self.device, self.host) + sec * self.random.uniform(0.9, 1.1)
        self.host = self.host + 1e-4 if self.is_ahead else self.device

    def wait(self):
        self.waits += 1
        self.host = max(self.host, self.device)


def trained(budget_sec, seed, is_ahead, slow_epoch, slowness=5.0, step_sec=0.05, compile_sec=2.0, epochs=1000):
    """When such a fit ends, its whole epochs, and its steps in all."""
    device = Device(seed, is_ahead)
    deadline = Deadline(budget_sec, device.wait, device.wait, lambda: device.host)
    n_steps = done = 0
    expected = 0.0
    for epoch in range(epochs):
        deadline.training.begin()
        begin = device.host
        for step in range(STEPS):
            is_last = deadline.is_last(step, deadline.training)
            first = compile_sec if epoch == step == 0 else 0.0
            device.give(first + step_sec * (slowness if epoch == slow_epoch else 1.0))
            n_steps += 1
            if is_last:
                break
        device.wait()
        expected = expected or (device.host - begin - compile_sec)
        done += not deadline.is_over
        if deadline.is_over or deadline.is_too_late_for(expected):
            break
        end = device.host
        device.host += 0.01
        deadline.ends_epoch_in(device.host - end)
    return device, done, n_steps


@pytest.mark.parametrize("is_ahead", [False, True])
@pytest.mark.parametrize("slow_epoch", [0, 3, 7, None])
def test_no_fit_passes_its_deadline_and_none_ends_far_too_early(is_ahead, slow_epoch):
    for seed in range(20):
        budget_sec = 20.0 + seed
        device, done, _ = trained(budget_sec, seed, is_ahead, slow_epoch)
        assert device.host <= budget_sec
        lost = {None: 0, 0: 100}.get(slow_epoch, 5)  # after a slow first one another is not begun
        assert done >= (budget_sec - 2.0) / 2.5 - 2 - lost


def test_the_device_is_waited_for_rarely():
    device, _, n_steps = trained(600.0, 0, True, 3)
    assert n_steps > 5000
    assert device.waits < 0.1 * n_steps


def test_a_first_step_that_takes_the_budget_ends_the_fit_after_the_next():
    _, done, n_steps = trained(1.0, 0, True, None)
    assert (done, n_steps) == (0, 2)


def test_what_is_kept_free_for_the_end_of_a_fit_grows_with_the_ends_of_epochs():
    deadline = Deadline(100.0, lambda: None, lambda: None, lambda: 0.0)
    assert deadline.left_sec == 98.0
    deadline.ends_epoch_in(10.0)
    assert deadline.left_sec == 88.0
    deadline.ends_epoch_in(1.0)
    assert deadline.left_sec == 88.0
    assert not deadline.is_too_late_for(73.0)
    assert deadline.is_too_late_for(74.0)
    assert deadline.is_over
