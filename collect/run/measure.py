"""The process that trains and times one run, and tells its parent (`collect.run.runner`) what happened, event by event.

Run by path with three numbers: a file descriptor to write events to, the parent's process id, and the seconds to wait
before the first epoch where a GPU's idle power is measured. The spec is read from stdin as JSON. Each event is one line
of JSON: `started` (the conditions as resolved), `idle` (when that wait began and ended), `epoch` (its seconds, when it
began and ended, its logs), `timed` (training is over: what follows is optional), `done` (why training stopped, how many
epochs, test accuracy, peak memory, what could not be asked and why), or, at the end of a run that failed, `failed`
(status, message) or `refused` (the request can't be measured here; nothing was tried).
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run by path: import from the folder that holds epochcast/, not from this one
    sys.path[0] = str(Path(__file__).absolute().parents[3])

from epochcast.collect.run.compile_cache import enable, programs_dir
from epochcast.collect.run.devices import choose_devices, resolve_device
from epochcast.collect.run.stopping import stop_reason
from epochcast.collect.run.text import is_shown
from epochcast.facts.assumptions import device_kind_of
from epochcast.guard import die_with_parent
from epochcast.machine.device_memory import peak_memory_bytes
from epochcast.machine.framework import framework_details
from epochcast.machine.packages import require_backend
from epochcast.schema import PRECISIONS, WARMUP_EPOCHS, RunSpec
from epochcast.steady_time import uncertainty

if TYPE_CHECKING:
    from collections.abc import Callable

OOM_WORDS = (
    "resource_exhausted", "resourceexhausted", "out of memory", "can't allocate", "bad_alloc", "memoryerror",
    "outofmemoryerror", "not enough memory", "cannot allocate memory", "status_alloc_failed",  # of torch, cuBLAS, cuDNN
)  # fmt: skip


def is_out_of_memory(text: str) -> bool:
    """Whether an error text of TensorFlow, JAX, PyTorch or NumPy tells of memory that ran out."""
    return any(word in text.lower() for word in OOM_WORDS)


def measure(spec: RunSpec, emit: Callable[..., None], idle_sec: float = 0.0) -> None:
    """Train and time one run; every event goes to `emit(event, **values)`.

    On a GPU it waits `idle_sec` before the first epoch, everything ready and nothing queued.

    Raises:
        ValueError: if the request can't be measured here, before anything was trained.
    """
    choose_devices(spec.device)
    require_backend()
    import keras

    from epochcast.timing import EpochTimer
    from epochcast.workload.cifar10 import load
    from epochcast.workload.cnn import build_model, compile_model, seed_everything
    from epochcast.workload.pipelines import as_float, model_for, prepare, resolve_pipeline, resolve_steps_per_execution

    backend = keras.backend.backend()
    version = _backend_version(backend)
    cache = enable(backend, spec.compile_cache, programs_dir(backend, version, spec.device))
    device_name, is_tf32 = resolve_device(backend, spec.device)
    pipeline = resolve_pipeline(spec.pipeline, backend)
    steps_per_execution = resolve_steps_per_execution(spec.steps_per_execution, backend, pipeline)
    data = load(spec.dataset, Path(spec.data_dir) if spec.data_dir else None, spec.train_n, spec.seed)
    seed_everything(spec.seed)
    keras.config.set_dtype_policy(PRECISIONS[spec.precision].keras_policy)
    model = model_for(pipeline, build_model(spec.config))
    jit_compile = compile_model(model, jit_compile=spec.jit_compile, steps_per_execution=steps_per_execution)
    emit(
        "started",
        device_name=device_name,
        backend=backend,
        backend_version=version,
        tf_version=version if backend == "tensorflow" else None,
        keras_version=keras.__version__,
        precision=spec.precision,
        tf32="on" if is_tf32 else "off",
        pipeline=pipeline,
        jit_compile=jit_compile,
        steps_per_execution=steps_per_execution,
        dataset=data.name,
        train_n=len(data.x_train),
        params=model.count_params(),
        data_origin=data.origin,
    )
    fit_input = prepare(
        pipeline,
        data.x_train,
        data.y_train,
        model=model,
        batch_size=spec.batch_size,
        window_steps=spec.window_steps,
        epochs=spec.most_epochs,
        seed=spec.seed,
    )
    if idle_sec and device_kind_of(device_name) == "gpu":
        idle_start = time.monotonic()
        time.sleep(idle_sec)
        emit("idle", edges=(idle_start, time.monotonic()))
    stopped_by = cache_state = None
    problems: dict[str, str] = {}  # of what a row can do without

    def ask(name: str, question: Callable[[], Any]) -> Any:
        """The answer to something that no time depends on; None, and why, where asking fails."""
        try:
            return question()
        except Exception as error:
            problems[name] = f"{type(error).__name__}: {error}"[:2000]
            return None

    def on_epoch(times: list[float], logs: dict[str, float]) -> bool:
        nonlocal stopped_by, cache_state
        if len(times) == WARMUP_EPOCHS:
            cache_state = ask("compile_cache", lambda: cache.state(jit_compile))
        is_open = spec.epochs is None and len(times) > WARMUP_EPOCHS
        rel_ci95 = uncertainty(times).rel_ci95 if is_open and is_shown(spec, len(times)) else None
        emit("epoch", sec=times[-1], edges=timer.epoch_edges_sec[-1], logs=logs, rel_ci95=rel_ci95)
        stopped_by = stop_reason(spec, times)
        return stopped_by is not None

    uncertainty((1.0, 1.0, 1.0))  # imports what it needs now, not between two epochs
    timer = EpochTimer(on_epoch)
    model.fit(**fit_input.fit_kwargs, verbose=0, callbacks=[timer])
    emit("timed", stop_reason=stopped_by)

    def evaluate() -> float:
        assert data.x_test is not None
        images = as_float(data.x_test)
        return float(model.evaluate(images, data.y_test, batch_size=512, verbose=0, return_dict=True)["accuracy"])

    # of training: evaluation is not what was timed
    peak_memory = ask("peak_memory_bytes", lambda: peak_memory_bytes(backend))
    ask("compile_cache_kept", cache.keep)
    is_evaluated = spec.window_steps is None and data.has_real_test_set and data.x_test is not None
    test_acc = ask("test_acc", evaluate) if is_evaluated else None
    emit(
        "done",
        stop_reason=stopped_by,
        n_epochs=len(timer.epoch_edges_sec),
        test_acc=test_acc,
        peak_memory_bytes=peak_memory,
        compile_cache=cache_state,
        framework=ask("framework", lambda: framework_details(backend)),
        problems=problems,
    )


def _backend_version(backend: str) -> str:
    from importlib.metadata import version

    return version(backend)


def main() -> int:
    events = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")
    die_with_parent(int(sys.argv[2]))
    spec = RunSpec(**json.load(sys.stdin))
    has_started = False

    def emit(event: str, **values: Any) -> None:
        nonlocal has_started
        has_started |= event == "started"
        print(json.dumps({"event": event, **values}, default=str), file=events, flush=True)

    try:
        measure(spec, emit, float(sys.argv[3]))
        return 0
    except KeyboardInterrupt:
        emit("failed", status="interrupted", message="interrupted")
        return 130
    except Exception as error:  # whatever a framework raises becomes a status; the trace goes to the log
        message = f"{type(error).__name__}: {error}"
        if isinstance(error, (ValueError, OSError, ImportError)) and not has_started and not is_out_of_memory(message):
            remedy = ". Install it, or choose another backend, e.g. KERAS_BACKEND=tensorflow."
            emit("refused", message=f"{error}{remedy if isinstance(error, ImportError) else ''}")
            return 2
        emit("failed", status="oom" if is_out_of_memory(message) else "crash", message=message[:2000])
        import traceback

        traceback.print_exc()
        return 1


if __name__ == "__main__":
    sys.exit(main())
