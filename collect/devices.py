"""The device of a measuring process: which one the framework is shown, what it is called, what memory it took."""

from __future__ import annotations

import os

from epochcast.environment import cpu_name, has_nvidia_driver
from epochcast.framework import torch_tf32
from epochcast.sensor_bounds import MOST_MEMORY_BYTES, positive_within


def choose_devices(device: str) -> None:
    """Show the framework only the device asked for; must run before the framework is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["KERAS_TORCH_DEVICE"] = "cpu"  # else Keras would take a Mac's GPU
        return
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # gpu:N is then the N of nvidia-smi, and of the meter
    if device.startswith("gpu:"):
        os.environ["CUDA_VISIBLE_DEVICES"] = device.removeprefix("gpu:")
    elif device.startswith(("GPU-", "MIG-")):
        os.environ["CUDA_VISIBLE_DEVICES"] = device


def _tensorflow_gpu() -> tuple[str | None, bool]:
    """Name of the first GPU that TensorFlow can use (None without one), and whether TF32 is in force on it."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return None, False
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    details = tf.config.experimental.get_device_details(gpus[0])
    has_tf32 = details.get("compute_capability", (0, 0)) >= (8, 0) and not _is_tf32_overridden()
    return details.get("device_name"), has_tf32 and tf.config.experimental.tensor_float_32_execution_enabled()


def _jax_gpu() -> tuple[str | None, bool]:
    import jax

    device = jax.devices()[0]
    if device.platform != "gpu":
        return None, False
    has_tf32 = float(getattr(device, "compute_capability", "0")) >= 8.0 and not _is_tf32_overridden()
    return device.device_kind, has_tf32 and jax.config.jax_default_matmul_precision in (
        None,
        "default",
        "tensorfloat32",
    )


def _torch_gpu() -> tuple[str | None, bool]:
    import keras
    import torch

    device = keras.ops.zeros(()).device  # where Keras puts what it trains
    if device.type == "cpu":
        return None, False
    if device.type != "cuda":
        raise ValueError(f"torch would train on {device.type}, which is not measured here. Use --device cpu.")
    has_tf32 = torch.cuda.get_device_capability(device) >= (8, 0) and not _is_tf32_overridden()
    return torch.cuda.get_device_name(device), has_tf32 and torch_tf32(torch)["convolutions"]


def _is_tf32_overridden() -> bool:
    """Whether the environment forbids TF32 to NVIDIA's libraries, whatever a framework says."""
    return os.environ.get("NVIDIA_TF32_OVERRIDE") == "0"


def resolve_device(backend: str, wanted: str) -> tuple[str, bool]:
    """Name of the device that the framework will train on, and whether TF32 is in force on it.

    Raises:
        ValueError: if a GPU was asked for, or the driver has one, and the framework can't use it.
    """
    found = {"tensorflow": _tensorflow_gpu, "jax": _jax_gpu, "torch": _torch_gpu}
    name, is_tf32 = found.get(backend, lambda: (None, False))()
    if name is not None:
        return name, is_tf32
    if wanted not in ("auto", "cpu"):
        raise ValueError(f"--device {wanted}: {backend} sees no such GPU here. Check nvidia-smi, or use --device cpu.")
    if wanted == "auto" and has_nvidia_driver():
        raise ValueError(
            f"an NVIDIA driver is installed, but {backend} sees no usable GPU. Install the GPU build "
            "(pip install --require-hashes -r requirements-gpu.txt), or measure the processor with --device cpu."
        )
    return cpu_name(), False


def peak_memory_bytes(backend: str) -> int | None:
    """Return the most device memory that the framework held; None where it reports none (a CPU).

    Raises:
        Exception: whatever the framework raises; the caller keeps its words in the run's JSON.
    """
    peak = positive_within(_peak_memory(backend), MOST_MEMORY_BYTES)
    return None if peak is None else int(peak)


def _peak_memory(backend: str) -> object:
    if backend == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            return None
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    if backend == "jax":
        import jax

        statistics = jax.devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use")
    if backend == "torch":
        import torch

        return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
    return None
