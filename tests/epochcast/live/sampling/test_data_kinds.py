"""The kinds of data that a fit may have, told apart without a batch of them."""

from __future__ import annotations

import numpy as np
import pytest

from epochcast.live.sampling.data_kinds import array_batch_size, is_generator, is_py_dataset, training_samples
from epochcast.live.sampling.input_data import has_smaller_last_batch
from epochcast.live.sampling.one_pass import is_gone_through_once
from epochcast.live.training_facts import _data_of
from epochcast.machine.framework import keras_on_cpu

keras = keras_on_cpu()
X = np.zeros((100, 4), "float32")


class Flow(keras.utils.PyDataset):
    """As `ImageDataGenerator.flow` returns it: batches by their numbers, and a `__next__`."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return X[:8], X[:8]

    def __iter__(self):
        return self

    def __next__(self):
        return self[0]


def test_batches_by_number_with_a_next_are_a_py_dataset_and_no_generator():
    flow = Flow()
    assert is_py_dataset(flow) and not is_generator(flow) and not is_gone_through_once(flow, {})
    assert (_data_of(flow, {}).pipeline, _data_of(flow, {}).batch_size) == ("pydataset", 8)
    assert is_generator(iter([1])) and is_gone_through_once(iter([1]), {}) and not is_py_dataset(iter([1]))


@pytest.mark.parametrize(
    ("options", "n"),
    [
        ({}, 100),
        ({"validation_split": 0.25}, 75),
        ({"validation_split": 0.999}, 0),
        ({"validation_split": 0.25, "validation_data": (X, X)}, 100),
        ({"validation_split": 0.25, "validation_data": None}, 75),
    ],
)
def test_a_split_counts_unless_there_are_validation_data(options, n):
    assert training_samples(100, options) == _data_of(X, options).train_n == n
    assert has_smaller_last_batch(X, {**options, "batch_size": 50}) == (n % 50 != 0)


def test_a_step_has_the_batch_that_is_given_else_the_one_of_keras():
    assert [array_batch_size(options) for options in ({}, {"batch_size": None}, {"batch_size": 7})] == [32, 32, 7]
