"""Peak memory of a fit that is tried, and the largest batch size that would fit."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace

import keras

from epochcast.facts.assumptions import assumption
from epochcast.live.memory.allocated_steps import AllocatedSteps
from epochcast.live.memory.compiled_steps import CompiledSteps
from epochcast.live.memory.peak import MaxBatch, MemoryUnknownError, PeakMemory, largest_batch
from epochcast.live.sampling.fit_passes import FitTraining
from epochcast.machine.device_memory import memory_limit_bytes
from epochcast.machine.gpu.vendor import Device
from epochcast.text_sinks import shortened

LONGEST = 300  # characters of another library's message
Steps = CompiledSteps | AllocatedSteps


@dataclass(frozen=True, slots=True)
class FitMemory:
    """What is known of a fit's memory."""

    peak: PeakMemory | None  # None: nothing can say it, and a note says why
    max_batch: MaxBatch | None  # None: it was not asked for
    notes: tuple[str, ...] = ()  # sentences


def steps_of(model: keras.Model) -> Steps:
    """Return a context for a model's first steps, which knows their memory afterwards."""
    return CompiledSteps(model) if keras.backend.backend() == "jax" else AllocatedSteps()


def usable_bytes(backend: str, device: Device) -> int | None:
    """Return the bytes of a device that a fit may use; None if unknown.

    It is what the framework allows itself, else the share of a GPU that `memory_usable` assumes. A processor's memory
    is the host's: other programs take from it, and a process holds more pages than its arrays fill.
    """
    limit = None
    with contextlib.suppress(Exception):  # whatever a framework raises
        limit = memory_limit_bytes(backend)
    if limit is not None or device.kind == "cpu" or device.memory_bytes is None:
        return limit
    return int(assumption("memory_usable", "gpu").value * device.memory_bytes)


def fit_memory(
    steps: Steps, training: FitTraining, batch_size: int | None, device: Device, wants_max_batch: bool
) -> FitMemory:
    """Return what is known of the memory of a fit, whatever fails.

    Args:
        batch_size: of the fit as its data say it; None if they do not.
        wants_max_batch: whether to look for the largest batch size that fits, which compiles another size.
    """
    begin = time.perf_counter()
    size = steps.size or batch_size
    try:
        own_bytes = steps.own_bytes()
    except Exception as error:  # whatever a framework raises
        why = _words_of(error)
        max_batch = MaxBatch(None, why="its peak memory is unknown") if wants_max_batch else None
        return FitMemory(None, max_batch, (f"Peak memory is unknown: {why}.",))
    limit = usable_bytes(keras.backend.backend(), device)
    peak = PeakMemory(own_bytes, size, steps.source, limit, time.perf_counter() - begin)
    if not wants_max_batch:
        return FitMemory(peak, None)
    if limit is None:
        whose = "a processor has no memory of its own" if device.kind == "cpu" else "the device's memory is unknown"
        return FitMemory(peak, MaxBatch(None, why=whose))
    if size is None:
        return FitMemory(peak, MaxBatch(None, why="these data do not say their batch size"))
    return FitMemory(peak, _max_batch(steps, training, size, own_bytes, limit))


def _max_batch(steps: Steps, training: FitTraining, size: int, own_bytes: int, limit_bytes: int) -> MaxBatch:
    begin = time.perf_counter()
    is_compiler = isinstance(steps, CompiledSteps)

    def bytes_at(other: int) -> int:
        return steps.bytes_at(other) if isinstance(steps, CompiledSteps) else steps.bytes_at(other, training)

    try:
        found = largest_batch(size, own_bytes, limit_bytes, bytes_at, can_confirm=is_compiler)
    except Exception as error:  # whatever a framework raises, as where it has no more memory
        found = MaxBatch(None, why=_words_of(error))
    return replace(found, ask_sec=time.perf_counter() - begin)


def _words_of(error: Exception) -> str:
    kind = "" if isinstance(error, MemoryUnknownError) else f"{type(error).__name__}: "
    return shortened(f"{kind}{error}", LONGEST)
