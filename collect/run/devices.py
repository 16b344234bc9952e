"""The device of a measuring process: what the framework is shown, and its name."""

from __future__ import annotations

import os
import re

from epochcast.gpus.lookup import are_other_boards
from epochcast.machine.cuda_packages import install_gpu, lacks_cuda_libraries
from epochcast.machine.framework import torch_tf32
from epochcast.machine.gpu.driver_names import clean_name
from epochcast.machine.gpu.vendor import ON_CPU
from epochcast.machine.gpu_driver import device_of, environment_of, vendor_of


def choose_devices(device: str) -> None:
    """Show the framework only the device asked for; must run before the framework is imported.

    Raises:
        ValueError: if the driver has none to use as asked.
    """
    if (refusal := device_of(device).refusal) is not None and refusal.is_certain:
        raise ValueError(str(refusal))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.update(environment_of(device))


def _tensorflow_gpu() -> tuple[str | None, bool]:
    """Name of the GPU that TensorFlow uses (None without one), and whether TF32 is in force on it."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return None, False
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    details = tf.config.experimental.get_device_details(gpus[0])
    has_tf32 = details.get("compute_capability", (0, 0)) >= (8, 0) and not _is_tf32_overridden()
    return str(
        details.get("device_name") or ""
    ), has_tf32 and tf.config.experimental.tensor_float_32_execution_enabled()


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

    It is that of `epochcast.machine.gpu_driver`; of a GPU that no driver's library can name it is the framework's.

    Raises:
        ValueError: if a GPU was asked for, or the driver has one, and the framework can't use it, or uses another.
    """
    device = device_of(wanted)
    found = {"tensorflow": _tensorflow_gpu, "jax": _jax_gpu, "torch": _torch_gpu}
    name, is_tf32 = found.get(backend, lambda: (None, False))()
    if name is not None:
        is_known = device.kind == "gpu" and device.is_named
        if is_known and are_other_boards(device.name, name):
            raise ValueError(
                f"--device {wanted} is {device.name} by its driver, but {backend} would train on {name}. Name the GPU "
                f"by its UUID: --device {device.uuid or 'UUID'} (`nvidia-smi -L`); {ON_CPU}."
            )
        return (device.name if is_known else clean_name(name) or device.name), is_tf32
    if device.kind == "cpu":
        return device.name, False
    if device.refusal is not None:
        raise ValueError(str(device.refusal))
    if (variable := _hiding_variable(backend)) is not None:
        remedy = "Unset it"
        cause = f"{variable}={os.environ[variable]!r} keeps {backend} from it"
    elif vendor_of(device).runtime == "CUDA" and lacks_cuda_libraries(backend):
        remedy = f"Install the GPU build ({install_gpu(backend)})"
        cause = f"{backend} is installed without CUDA libraries, so it sees no GPU"
    else:
        remedy = "Look at what `epochcast doctor --deep` and `nvidia-smi` say"
        cause = f"{backend} sees no usable GPU"
    raise ValueError(f"--device {wanted} is {device.name}, but {cause}. {remedy}; {ON_CPU}.")


def _hiding_variable(backend: str) -> str | None:
    """The variable by which the user keeps the backend on another device than a GPU, None where none is set so."""
    names = {"jax": ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"), "torch": ("KERAS_TORCH_DEVICE",)}.get(backend, ())
    values = {name: os.environ.get(name, "").lower() for name in names}
    return next((name for name, value in values.items() if value and not re.search("cuda|gpu", value)), None)
