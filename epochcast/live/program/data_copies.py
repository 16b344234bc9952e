"""Copies of a fit's data, whose use leaves the originals as they were."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any

import keras
import numpy as np

from epochcast.live.sampling.data_kinds import is_generator, is_pipeline, is_py_dataset, is_torch_loader
from epochcast.live.sampling.input_data import stop_workers
from epochcast.live.sampling.pipeline_copies import CACHE_NOTE, TooLargeError, pipeline_copy

SHARED_BYTES = 10**6  # arrays of a data set from this size on are shared, read-only, with its copy
CLOSING_SEC = 10.0  # most that a batch under way may take once the estimate has ended
COMMAND = "`epochcast estimate train.py` estimates the same fit in a process of its own."


class DataCopies:
    """Copies of what a `fit` is given, closed together.

    Arrays are no copies: nothing of a fit changes them.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []  # what can't be promised of these data, sentences
        self._gates: list[_Gate] = []
        self._copies: list[Any] = []

    def copy(self, data: Any) -> Any:
        """Return data for a trial of a fit on `data`.

        Raises:
            ValueError: if they can be gone through once only, or can't be copied.
        """
        if isinstance(data, tuple):  # validation_data
            return tuple(self.copy(part) for part in data)
        if is_generator(data):
            raise ValueError(
                f"a generator ({type(data).__name__}) can be gone through once, so that a trial would take its batches "
                f"from your fit. {COMMAND}"
            )
        if is_pipeline(data):
            copied, has_cache_file = _pipeline_copy(data)
            if has_cache_file and CACHE_NOTE not in self.notes:
                self.notes.append(CACHE_NOTE)
            return copied
        if is_py_dataset(data):
            copied = self._deep_copy(data)
            if data.workers > 1 or data.use_multiprocessing:
                self.notes.append(
                    f"{type(data).__name__} has several workers: Keras draws its order in a thread, so that the next "
                    "fit may see another order than without this estimate."
                )
            if not data.use_multiprocessing:  # a lock can't be sent to another process
                self._gates.append(_gated(copied))
            return copied
        if is_torch_loader(data):
            return self._deep_copy(data)
        if type(data).__module__.split(".")[0] == "grain":
            self.notes.append("grain's data set was gone through itself: what it draws may differ in the next fit.")
        return data

    def _deep_copy(self, data: Any) -> Any:
        try:
            copied = copy.deepcopy(data, _shared(data))
        except Exception as error:  # whatever an attribute raises: an open file, a lock, a generator
            raise ValueError(
                f"{type(data).__name__} can't be copied ({type(error).__name__}: {error}), and a trial on it would "
                f"change it. {COMMAND}"
            ) from error
        self._copies.append(copied)
        return copied

    def close(self) -> None:
        """Stop the threads that prepare batches of the copies; none draws a random number afterwards."""
        for copied in self._copies:
            stop_workers(copied)
        for gate in self._gates:
            gate.close()


# --- keras.utils.PyDataset, torch's DataLoader ------------------------------------------------------------------------


class _Gate:
    """Lets threads in until it is closed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._n_inside = 0
        self._is_closed = False

    def __enter__(self) -> None:
        with self._condition:
            if self._is_closed:
                raise RuntimeError("this copy of the data belongs to an estimate that has ended.")
            self._n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._n_inside -= 1
            self._condition.notify_all()

    def close(self) -> None:
        """Let nobody in any more, and wait until all are out."""
        with self._condition:
            self._is_closed = True
            self._condition.wait_for(lambda: self._n_inside == 0, CLOSING_SEC)


def _gated(data: keras.utils.PyDataset) -> _Gate:
    """Have `data` pass a gate for each batch."""
    gate, own = _Gate(), type(data)

    def item(self: Any, index: int) -> Any:
        with gate:
            return own.__getitem__(self, index)

    data.__class__ = type(own.__name__, (own,), {"__getitem__": item, "__module__": own.__module__})
    return gate


def _shared(data: Any) -> dict[int, Any]:
    """Return a memo with which `deepcopy` shares big arrays, tensors and modules."""
    memo: dict[int, Any] = {}
    seen: set[int] = set()
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, np.ndarray):
            if value.nbytes >= SHARED_BYTES or isinstance(value, np.memmap):
                memo[id(value)] = view = value.view()
                view.flags.writeable = False
        elif isinstance(value, ModuleType) or _is_tensor(value) or is_pipeline(value):
            memo[id(value)] = value
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        elif not isinstance(value, type | FunctionType):
            waiting += getattr(value, "__dict__", {}).values()
    return memo


def _is_tensor(value: Any) -> bool:
    """Whether it is an array of TensorFlow's, JAX's or PyTorch's, which the copy can share."""
    library = type(value).__module__.split(".")[0]
    is_variable = hasattr(value, "assign")
    return library in ("tensorflow", "jax", "jaxlib", "torch") and hasattr(value, "dtype") and not is_variable


# --- tf.data.Dataset --------------------------------------------------------------------------------------------------


def _pipeline_copy(data: Any) -> tuple[Any, bool]:
    try:
        return pipeline_copy(data)
    except TooLargeError as error:
        raise ValueError(f"{error} {COMMAND}") from error
