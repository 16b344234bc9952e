"""The framework of this process: Keras started on the processor, and the versions and settings in force."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from epochcast.machine.gpu_driver import environment_of
from epochcast.machine.packages import require_backend

MAPS = Path("/proc/self/maps")  # psutil reads smaps in its place, in 66 ms of TensorFlow's process where this takes 2


def keras_on_cpu() -> Any:  # Any: the module, whose import takes seconds
    """Return Keras, started on the processor and without start-up messages.

    For small networks: they are not worth a GPU's memory.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"]
    require_backend()
    wanted = {**environment_of("cpu"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # the C++ side writes before it reads its own log level
    try:
        import keras

        keras.ops.zeros(1)  # devices are chosen now, so that processes started later find the variables as they were
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return keras


def framework_details(backend: str) -> dict[str, Any]:
    """Versions, device libraries and settings in force, as JSON values; None is unknown.

    Call it after the backend was imported and has found its devices: nothing is imported or started here.
    """
    numpy, keras = sys.modules.get("numpy"), sys.modules.get("keras")
    details: dict[str, Any] = {
        "backend": backend,
        "numpy_version": _answer_of(lambda: numpy.__version__),  # type: ignore[union-attr]  # None raises, and is unknown
        "keras_version": _answer_of(lambda: keras.__version__),  # type: ignore[union-attr]  # as above
        "dtype_policy": _answer_of(lambda: keras.config.dtype_policy().name),  # type: ignore[union-attr]  # as above
        "cuda_runtime_version": _answer_of(_cuda_runtime_version),
        "cudnn_version": _answer_of(_cudnn_version),
    }
    about = {"tensorflow": _tensorflow_details, "jax": _jax_details, "torch": _torch_details}.get(backend)
    module = sys.modules.get(backend)
    return details if about is None or module is None else {**details, **about(module)}


def is_on_gpu(backend: str) -> bool:
    """Whether a backend that was imported computes on a GPU."""
    if backend == "tensorflow":
        return bool(sys.modules["tensorflow"].config.list_physical_devices("GPU"))
    if backend == "jax":
        return bool(sys.modules["jax"].default_backend() != "cpu")
    return bool(sys.modules["torch"].cuda.is_available())


def _answer_of(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception:  # whatever a version of a framework raises for what it does not have: that is then unknown
        return None


def _tensorflow_details(tf: Any) -> dict[str, Any]:  # Any: a module that may not be imported here
    build = _answer_of(lambda: dict(tf.sysconfig.get_build_info())) or {}
    gpus = _answer_of(lambda: tf.config.list_physical_devices("GPU")) or []
    return {
        "tensorflow_version": _answer_of(lambda: tf.__version__),
        "built_with_cuda": _answer_of(lambda: bool(tf.test.is_built_with_cuda())),
        "cuda_build_version": _text(build.get("cuda_version")),
        "cudnn_build_version": _text(build.get("cudnn_version")),
        "visible_devices": _answer_of(lambda: [device.name for device in tf.config.get_visible_devices()]),
        "gpus": _answer_of(lambda: [_plain(tf.config.experimental.get_device_details(gpu)) for gpu in gpus]),
        "tf32_allowed": _answer_of(lambda: bool(tf.config.experimental.tensor_float_32_execution_enabled())),
        "optimizer_jit": _answer_of(lambda: _text(tf.config.optimizer.get_jit())),
        # 0: it chooses
        "intra_op_threads": _answer_of(lambda: int(tf.config.threading.get_intra_op_parallelism_threads())),
        "inter_op_threads": _answer_of(lambda: int(tf.config.threading.get_inter_op_parallelism_threads())),
    }


def _jax_details(jax: Any) -> dict[str, Any]:  # Any: a module that may not be imported here
    devices = _answer_of(lambda: list(jax.devices())) or []
    precision = _answer_of(lambda: str(jax.config.jax_default_matmul_precision or "default"))
    gpus = [device for device in devices if device.platform == "gpu"]
    return {
        "jax_version": _answer_of(lambda: jax.__version__),
        "jaxlib_version": _answer_of(lambda: sys.modules["jaxlib"].__version__),
        "platform_version": _answer_of(lambda: devices[0].client.platform_version),  # of XLA's client, with its CUDA
        "visible_devices": [str(device) for device in devices],
        "gpus": [
            {"device_name": device.device_kind, "compute_capability": getattr(device, "compute_capability", None)}
            for device in gpus
        ],
        "tf32_allowed": None if precision is None else precision in ("default", "tensorfloat32"),
        "matmul_precision": precision,
        "enable_x64": _answer_of(lambda: bool(jax.config.jax_enable_x64)),
    }


def _torch_details(torch: Any) -> dict[str, Any]:  # Any: a module that may not be imported here
    tf32 = _answer_of(lambda: torch_tf32(torch)) or {}
    return {
        "torch_version": _answer_of(lambda: torch.__version__),
        "cuda_build_version": _answer_of(lambda: torch.version.cuda),
        "visible_devices": _answer_of(lambda: [f"cuda:{i}" for i in range(torch.cuda.device_count())]),
        "gpus": _answer_of(
            lambda: [
                {
                    "device_name": torch.cuda.get_device_name(i),
                    "compute_capability": str(torch.cuda.get_device_capability(i)),
                }
                for i in range(torch.cuda.device_count())
            ]
        ),
        "tf32_allowed": tf32.get("convolutions"),
        "tf32_allowed_in_products": tf32.get("products"),
        "cudnn_benchmark": _answer_of(lambda: bool(torch.backends.cudnn.benchmark)),
        "intra_op_threads": _answer_of(lambda: int(torch.get_num_threads())),
        "inter_op_threads": _answer_of(lambda: int(torch.get_num_interop_threads())),
    }


def torch_tf32(torch: Any) -> dict[str, bool]:  # Any: a module that may not be imported here
    """Whether PyTorch lets CUDA round to TF32: in `convolutions`, and in `products` of matrices.

    They are two settings: by default only convolutions may.
    """
    of_convolutions, of_products = torch.backends.cudnn, torch.backends.cuda.matmul
    try:
        in_convolutions = bool(of_convolutions.allow_tf32)
    except RuntimeError:  # somebody used the switches that came with PyTorch 2.9, which these don't go with
        in_convolutions = of_convolutions.conv.fp32_precision == "tf32"
    try:
        in_products = bool(of_products.allow_tf32)
    except RuntimeError:  # as above
        in_products = of_products.fp32_precision == "tf32"
    return {"convolutions": in_convolutions, "products": in_products}


def _cudnn_version() -> str | None:
    """Version of the cuDNN that this process has loaded, e.g. `9.10.2`."""
    library = _loaded("libcudnn.so")
    if library is None:
        return None
    query = library.cudnnGetVersion
    query.restype = ctypes.c_size_t
    version = int(query())
    # major 10,000 + minor 100 + patch since cuDNN 9, before it major 1,000 (cudnn_version.h)
    major = version // 10_000 if version >= 90_000 else version // 1_000
    rest = version - major * (10_000 if version >= 90_000 else 1_000)
    return f"{major}.{rest // 100}.{rest % 100}"


def _cuda_runtime_version() -> str | None:
    """Version of the CUDA runtime that this process has loaded, e.g. `12.9`; one linked in statically is not seen."""
    library = _loaded("libcudart.so")
    version = ctypes.c_int()
    if library is None or library.cudaRuntimeGetVersion(ctypes.byref(version)) != 0:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _loaded(name: str) -> ctypes.CDLL | None:
    """A library that is loaded already; nothing is loaded anew."""
    path = re.search(rf"/\S*/{re.escape(name)}[.\d]*$", MAPS.read_text(), re.MULTILINE)
    return None if path is None else ctypes.CDLL(path[0])


def _plain(details: dict[str, Any]) -> dict[str, Any]:
    return {name: value if isinstance(value, str) else _text(value) for name, value in details.items()}


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)
