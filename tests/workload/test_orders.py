"""Orders of images: whole permutations, windows cut from a row of them, repeated by their seed."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from epochcast.workload.orders import entry_orders


def first(count, *args):
    return [order.tolist() for order in islice(entry_orders(*args), count)]


def test_an_epoch_holds_every_image_once_and_no_two_epochs_are_alike():
    epochs = first(5, 20, 8, None, 1)
    assert all(sorted(order) == list(range(20)) for order in epochs)
    assert len({str(order) for order in epochs}) == 5


@pytest.mark.parametrize("window_steps", [1, 2, 5])  # less than the set, and twice it
def test_windows_are_full_batches_of_the_same_permutations_in_a_row(window_steps):
    windows = first(10, 20, 8, window_steps, 1)
    assert {len(order) for order in windows} == {8 * window_steps}
    row = np.concatenate(windows).tolist()
    assert row == np.concatenate(first(21, 20, 8, None, 1)).tolist()[: len(row)]


@pytest.mark.parametrize("window_steps", [None, 3])
def test_orders_repeat_with_the_seed(window_steps):
    assert first(4, 20, 8, window_steps, 1) == first(4, 20, 8, window_steps, 1) != first(4, 20, 8, window_steps, 2)
