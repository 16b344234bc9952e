"""The most device memory that TensorFlow or PyTorch holds while steps are trained."""

from __future__ import annotations

import contextlib
from typing import Self

import keras

from epochcast.live.memory.peak import ALLOCATOR, MemoryUnknownError
from epochcast.live.sampling.fit_passes import FitTraining
from epochcast.machine.device_memory import peak_memory_bytes, reset_peak_memory


class AllocatedSteps:
    """A context that reads the allocator's peak over the steps trained in it."""

    source = ALLOCATOR
    size: int | None = None  # of a batch, which an allocator does not know

    def __init__(self) -> None:
        self._backend = keras.backend.backend()
        self._bytes: int | None = None
        self._problem: Exception | None = None

    def __enter__(self) -> Self:
        with contextlib.suppress(Exception):  # the peak is then of more than these steps, not of less
            reset_peak_memory(self._backend)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._bytes = peak_memory_bytes(self._backend)
        except Exception as error:  # whatever a framework raises: the estimate goes on
            self._problem = error

    def own_bytes(self) -> int:
        """Return the peak of the steps that were trained.

        Raises:
            MemoryUnknownError: if the framework reports none, as on a processor.
            Exception: whatever the framework raised.
        """
        if self._problem is not None:
            raise self._problem
        return self._known(self._bytes)

    def bytes_at(self, size: int, training: FitTraining) -> int:
        """Train the first steps with batches of `size`, and return their peak.

        Raises:
            MemoryUnknownError: as above, or if these data have no other batches.
            Exception: whatever the framework raises, as where it has no more memory.
        """
        reset_peak_memory(self._backend)
        if not training.try_batch_size(size):
            raise MemoryUnknownError("only arrays and a tf.data.Dataset can be tried with another batch size")
        return self._known(peak_memory_bytes(self._backend))

    def _known(self, found: int | None) -> int:
        if found is None:
            raise MemoryUnknownError(f"{self._backend} reports it on a GPU only")
        return found
