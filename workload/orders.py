"""The order that images are trained in, drawn from a seed: the same under every backend."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


def entry_orders(n: int, batch_size: int, window_steps: int | None, seed: int) -> Iterator[npt.NDArray[np.int32]]:
    """Without end, the indices of the images that each entry of `fit` trains on, in order.

    An entry is an epoch, a new permutation of all `n` each time, or with `window_steps` the next
    `window_steps * batch_size` indices of those permutations in a row.
    """
    rng = np.random.default_rng(seed)
    indices = np.arange(n, dtype=np.int32)
    if window_steps is None:
        while True:
            yield rng.permutation(indices)
    left = indices[:0]
    size = window_steps * batch_size
    while True:
        n_missing = max(0, size - len(left))
        left = np.concatenate([left, *(rng.permutation(indices) for _ in range(-(-n_missing // n)))])
        yield left[:size]
        left = left[size:]
