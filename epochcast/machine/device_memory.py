"""A framework's account of its device's memory; None where it keeps none."""

from __future__ import annotations

from typing import Any

from epochcast.machine.gpu.sensor_bounds import MOST_MEMORY_BYTES, positive_within


def peak_memory_bytes(backend: str) -> int | None:
    """Return the most device memory that the framework held; None where it reports none (a CPU).

    Raises:
        Exception: whatever the framework raises; the caller keeps its words.
    """
    return _bytes(_peak_memory(backend))


def reset_peak_memory(backend: str) -> None:
    """Begin the peak anew, where the framework can: TensorFlow and PyTorch on a GPU.

    Raises:
        Exception: whatever the framework raises.
    """
    if backend == "tensorflow" and (tf := _tensorflow_with_gpu()) is not None:
        tf.config.experimental.reset_memory_stats("GPU:0")
    if backend == "torch" and (torch := _torch_on_gpu()) is not None:
        torch.cuda.reset_peak_memory_stats()


def memory_limit_bytes(backend: str) -> int | None:
    """Return the device memory that the framework allows itself; None where it does not say.

    JAX's is three quarters of a GPU by default (docs.jax.dev, GPU memory allocation). The others have no such question.

    Raises:
        Exception: whatever the framework raises.
    """
    return _bytes(_jax_statistics().get("bytes_limit")) if backend == "jax" else None


def _bytes(value: object) -> int | None:
    known = positive_within(value, MOST_MEMORY_BYTES)
    return None if known is None else int(known)


def _peak_memory(backend: str) -> object:
    if backend == "tensorflow":
        tf = _tensorflow_with_gpu()
        return None if tf is None else tf.config.experimental.get_memory_info("GPU:0")["peak"]
    if backend == "jax":
        return _jax_statistics().get("peak_bytes_in_use")
    if backend == "torch":
        torch = _torch_on_gpu()
        return None if torch is None else torch.cuda.max_memory_allocated()
    return None


def _tensorflow_with_gpu() -> Any:  # Any: the module, or None
    import tensorflow as tf

    return tf if tf.config.list_physical_devices("GPU") else None


def _torch_on_gpu() -> Any:  # as above
    import torch

    return torch if torch.cuda.is_initialized() else None


def _jax_statistics() -> dict[str, Any]:
    import jax

    return jax.devices()[0].memory_stats() or {}
