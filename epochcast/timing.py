"""A Keras callback that times epochs; nothing runs inside an epoch, so what is measured is not changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras


class EpochTimer(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Seconds of every epoch of one `fit`, by a monotonic clock, in `epoch_times_sec`.

    `epoch_edges_sec` holds when each began and ended, by `time.monotonic`, which other processes read too. The clock
    stops in `on_epoch_end`, after Keras has fetched the epoch's logs: they depend on every step, so the device has
    finished. PyTorch launches the last step's update operation by operation, and the logs don't depend on it: there the
    GPU is waited for. Pass no `validation_data` to `fit` and keep this callback first: both would be timed.

    Args:
        on_epoch: called after the clock has stopped with (seconds of all epochs so far, logs); what it does is not
            timed, but belongs to the run's overhead. If it returns true, training ends.
    """

    def __init__(self, on_epoch: Callable[[list[float], dict[str, float]], bool | None] | None = None) -> None:
        super().__init__()
        self.epoch_times_sec: list[float] = []
        self.epoch_edges_sec: list[tuple[float, float]] = []
        self._on_epoch = on_epoch
        self._start = self._start_edge = 0.0
        self._wait_for_device: Callable[[], None] = _no_wait

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.epoch_times_sec, self.epoch_edges_sec = [], []
        self._wait_for_device = _torch_wait() if keras.backend.backend() == "torch" else _no_wait

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._start_edge = time.monotonic()
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._wait_for_device()
        self.epoch_times_sec.append(time.perf_counter() - self._start)
        self.epoch_edges_sec.append((self._start_edge, time.monotonic()))
        if self._on_epoch is not None and self._on_epoch(
            self.epoch_times_sec, {name: float(value) for name, value in (logs or {}).items()}
        ):
            self.model.stop_training = True


def _no_wait() -> None:
    """Return at once: the device has finished."""


def _torch_wait() -> Callable[[], None]:
    """Return what waits until PyTorch's GPU has finished; on a processor it has."""
    import torch

    if torch.cuda.is_initialized():
        return torch.cuda.synchronize  # type: ignore[no-any-return]  # torch is no part of the lock
    return _no_wait
