"""The process that trains and times one run, and tells its parent (`collect.runner`) what happened, event by event.

Run by path with two numbers: a file descriptor to write events to, and the parent's process id. The spec is read from
stdin as JSON. Each event is one line of JSON: `started` (the conditions as resolved), `epoch` (all times so far, the
last epoch's logs), `done` (test accuracy), or, at the end of a run that failed, `failed` (status, message) or `refused`
(the request can't be measured here; nothing was tried).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run by path: import from the checkout, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from epochcast.environment import cpu_name, has_nvidia_driver
from epochcast.schema import RunSpec

if TYPE_CHECKING:
    from collections.abc import Callable

OOM_WORDS = ("resource_exhausted", "resourceexhausted", "out of memory", "can't allocate", "bad_alloc", "memoryerror")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def is_out_of_memory(text: str) -> bool:
    """Whether an error text of TensorFlow, JAX, PyTorch or NumPy tells of memory that ran out."""
    return any(word in text.lower() for word in OOM_WORDS)


def die_with_parent(parent: int) -> None:
    """Have Linux end this process when its parent dies, so that no orphan keeps the GPU."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os.kill(os.getpid(), signal.SIGKILL)


def choose_devices(device: str) -> None:
    """Show the framework only the device asked for; must run before the framework is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        os.environ["JAX_PLATFORMS"] = "cpu"
    elif device.startswith("gpu:"):
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
    has_tf32 = details.get("compute_capability", (0, 0)) >= (8, 0)
    return details.get("device_name"), has_tf32 and tf.config.experimental.tensor_float_32_execution_enabled()


def _jax_gpu() -> tuple[str | None, bool]:
    import jax

    device = jax.devices()[0]
    if device.platform != "gpu":
        return None, False
    has_tf32 = float(getattr(device, "compute_capability", "0")) >= 8.0
    return device.device_kind, has_tf32 and jax.config.jax_default_matmul_precision in (
        None,
        "default",
        "tensorfloat32",
    )


def resolve_device(backend: str, wanted: str) -> tuple[str, bool]:
    """Name of the device that the framework will train on, and whether TF32 is in force on it.

    Raises:
        ValueError: if a GPU was asked for, or the driver has one, and the framework can't use it.
    """
    name, is_tf32 = {"tensorflow": _tensorflow_gpu, "jax": _jax_gpu}.get(backend, lambda: (None, False))()
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


def measure(spec: RunSpec, tell: Callable[..., None]) -> None:
    """Train and time one run; every event goes to `tell(event, **values)`.

    Raises:
        ValueError: if the request can't be measured here, before anything was trained.
    """
    choose_devices(spec.device)
    import keras

    from epochcast.timing import EpochTimer
    from workload.cifar10 import load
    from workload.cnn import build_model, compile_model, seed_everything
    from workload.pipelines import as_float, prepare, resolve_pipeline

    backend = keras.backend.backend()
    device_name, is_tf32 = resolve_device(backend, spec.device)
    pipeline = resolve_pipeline(spec.pipeline, backend)
    data = load(spec.dataset, Path(spec.data_dir) if spec.data_dir else None, spec.train_n, spec.seed)
    seed_everything(spec.seed)
    keras.config.set_dtype_policy(spec.precision)
    model = build_model(spec.depth, spec.base_filters)
    jit_compile = compile_model(model, jit_compile=spec.jit_compile)
    tell(
        "started",
        device_name=device_name,
        backend=backend,
        backend_version=_backend_version(backend),
        tf_version=_backend_version(backend) if backend == "tensorflow" else None,
        keras_version=keras.__version__,
        precision=spec.precision,
        tf32="on" if is_tf32 else "off",
        pipeline=pipeline,
        jit_compile=jit_compile,
        steps_per_execution=1,
        dataset=data.name,
        train_n=len(data.x_train),
        params=model.count_params(),
        data_origin=data.origin,
    )
    fit_input = prepare(
        pipeline,
        data.x_train,
        data.y_train,
        batch_size=spec.batch_size,
        window_steps=spec.window_steps,
        epochs=spec.epochs,
        seed=spec.seed,
    )
    timer = EpochTimer(on_epoch=lambda times, logs: tell("epoch", times=times, logs=logs))
    model.fit(**fit_input.fit_kwargs, verbose=0, callbacks=[timer])
    test_acc = None
    if spec.window_steps is None and data.has_real_test_set and data.x_test is not None:
        images = as_float(data.x_test)
        test_acc = float(model.evaluate(images, data.y_test, batch_size=512, verbose=0, return_dict=True)["accuracy"])
    tell("done", test_acc=test_acc)


def _backend_version(backend: str) -> str:
    from importlib.metadata import version

    return version(backend)


def main() -> int:
    events = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")
    die_with_parent(int(sys.argv[2]))
    spec = RunSpec(**json.load(sys.stdin))
    has_started = False

    def tell(event: str, **values: Any) -> None:
        nonlocal has_started
        has_started |= event == "started"
        print(json.dumps({"event": event, **values}), file=events, flush=True)

    try:
        measure(spec, tell)
        return 0
    except KeyboardInterrupt:
        tell("failed", status="interrupted", message="interrupted")
        return 130
    except Exception as error:  # whatever a framework raises becomes a status; the trace goes to the log
        message = f"{type(error).__name__}: {error}"
        if isinstance(error, (ValueError, OSError, ImportError)) and not has_started and not is_out_of_memory(message):
            remedy = ". Install it, or choose another backend, e.g. KERAS_BACKEND=tensorflow."
            tell("refused", message=f"{error}{remedy if isinstance(error, ImportError) else ''}")
            return 2
        tell("failed", status="oom" if is_out_of_memory(message) else "crash", message=message[:2000])
        import traceback

        traceback.print_exc()
        return 1


if __name__ == "__main__":
    sys.exit(main())
