"""The images made up from a seed. That a network can learn them is in test_cnn.py."""

from __future__ import annotations

import numpy as np

from epochcast.schema import TRAIN_N
from epochcast.workload.dataset import ARRAYS
from epochcast.workload.synthetic import make_synthetic


def test_synthetic_images_have_the_shapes_of_the_real_ones_and_no_real_test_set():
    images = make_synthetic(TRAIN_N, seed=1)
    assert images.name == "synthetic"
    assert not images.has_real_test_set
    assert (images.x_train.shape, images.x_train.dtype) == ((50_000, 32, 32, 3), np.uint8)
    assert (images.x_test.shape, images.y_test.shape) == ((10_000, 32, 32, 3), (10_000,))
    assert np.bincount(images.y_train, minlength=10).min() > 4_500  # each is drawn with chance 1/10: sd 67


def test_synthetic_images_depend_on_the_seed_alone():
    first, again, other, longer = (make_synthetic(n, seed) for n, seed in ((300, 1), (300, 1), (300, 2), (6000, 1)))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))
    np.testing.assert_array_equal(first.x_train, longer.x_train[:300])
    np.testing.assert_array_equal(first.y_train, longer.y_train[:300])
    assert not np.array_equal(first.x_train, first.x_test[:300])
