"""Images made up from a seed, in the shapes of CIFAR-10, that a network can learn: for runs without the real ones."""

from __future__ import annotations

import numpy as np

from epochcast.schema import TEST_N, TRAIN_N
from epochcast.workload.dataset import IMAGE_SHAPE, Dataset, Images
from epochcast.workload.shape import CHANNELS, CLASSES, IMAGE_SIZE

_CHUNK_N = 5_000  # images that share a random generator, so that the first n images do not depend on how many follow
_SHIFTS = 16
_OWN, _OTHER = 72, 55  # brightness of the class's pattern and of a second one; with noise up to 127, at most 254


def make_synthetic(train_n: int, seed: int) -> Dataset:
    """Ten classes of coarse random colour patterns, each image a shifted one under a fainter one of any class.

    There are at least 1 and at most TRAIN_N training images, whatever `train_n` asks for: the caller compares.
    """
    train_n = min(max(train_n, 1), TRAIN_N)
    rng = np.random.default_rng([seed, 0])
    coarse = rng.integers(0, 2, (CLASSES, 8, 8, CHANNELS), dtype=np.uint8)
    patterns = coarse.repeat(IMAGE_SIZE // 8, axis=1).repeat(IMAGE_SIZE // 8, axis=2)
    shifts = [np.roll(patterns, tuple(rng.integers(0, IMAGE_SIZE, 2)), axis=(1, 2)) for _ in range(_SHIFTS)]
    table = np.stack(shifts, axis=1).reshape(CLASSES * _SHIFTS, -1)  # row: class * _SHIFTS + shift; pixels 0 and 1
    x_train, y_train = _split(table, train_n, [seed, 1])
    x_test, y_test = _split(table, TEST_N, [seed, 2])
    return Dataset("synthetic", x_train, y_train, x_test, y_test, f"the synthetic set of seed {seed}")


def _split(table: Images, n: int, stream: list[int]) -> tuple[Images, Images]:
    x, y = np.empty((n, *IMAGE_SHAPE), np.uint8), np.empty(n, np.uint8)
    own_table, other_table = table * np.uint8(_OWN), table * np.uint8(_OTHER)
    for start in range(0, n, _CHUNK_N):
        rng = np.random.default_rng([*stream, start])
        own, other = rng.integers(0, len(table), (2, _CHUNK_N))
        images = np.frombuffer(rng.bytes(_CHUNK_N * table.shape[1]), np.uint8).reshape(_CHUNK_N, -1) >> 1
        images += own_table[own]
        images += other_table[other]
        stop = min(start + _CHUNK_N, n)
        x[start:stop] = images[: stop - start].reshape(-1, *IMAGE_SHAPE)
        y[start:stop] = own[: stop - start] // _SHIFTS
    return x, y
