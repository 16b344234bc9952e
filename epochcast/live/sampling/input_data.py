"""A training's input data: time and size of their batches."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras

from epochcast.live.sampling.data_kinds import (
    array_batch_size,
    is_pipeline,
    is_py_dataset,
    is_torch_loader,
    training_samples,
)

MOST_BATCHES = 200


def batch_sec(x: Any, budget_sec: float) -> float | None:
    """Return the wall seconds that making a batch takes, without training.

    None of arrays, which take none worth asking for, and of generators, which would be used up.
    """
    begin = time.perf_counter()
    made: Callable[[int], Any]
    if is_py_dataset(x):
        most, made = int(x.num_batches or 0), x.__getitem__
        shared_by = max(1, int(x.workers))
    elif is_pipeline(x) or is_torch_loader(x):
        batches = iter(x)
        most, made, shared_by = MOST_BATCHES, lambda _: next(batches), 1
    else:
        return None
    n, first_end = 0, begin
    try:
        for at in range(min(most, MOST_BATCHES)):
            made(at)
            n += 1
            if n == 1:
                first_end = time.perf_counter()  # with the start of the pipeline
            if time.perf_counter() - begin > budget_sec:
                break
    except StopIteration:
        pass
    return None if n < 2 else (time.perf_counter() - first_end) / (n - 1) / shared_by


def has_smaller_last_batch(x: Any, options: Mapping[str, Any]) -> bool:
    """Whether an epoch ends with a batch of another size, as far as the data say."""
    if options.get("steps_per_epoch") is not None:
        return False
    if is_pipeline(x):
        shapes = [spec.shape for spec in keras.tree.flatten(x.element_spec)]
        return bool(shapes) and shapes[0].rank not in (None, 0) and shapes[0][0] is None
    leaves = keras.tree.flatten(x)
    if not leaves or not hasattr(leaves[0], "shape"):
        return False
    return training_samples(int(leaves[0].shape[0]), options) % array_batch_size(options) != 0


def stop_workers(data: Any) -> None:
    """Stop the threads that Keras leaves running on a PyDataset whose epoch was cut short."""
    for thread in threading.enumerate():
        enqueuer: Any = getattr(getattr(thread, "_target", None), "__self__", None)  # no public way leads to it
        if data is not None and getattr(enqueuer, "py_dataset", None) is data:
            with contextlib.suppress(Exception):  # of a batch that nobody asks for any more
                enqueuer.stop()
