"""Images per second of the pipelines of one backend, in turn; run by bench_pipelines.py, one process per backend.

Run by path with the path of a JSON file that says what to measure; results go to stdout, a line of JSON each. Where the
backend is not installed or can't use the device, the reason is the one line on stderr, and the exit code 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from epochcast.schema import RunConfig

if not __package__:  # run by path: import from the checkout, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[2])

TINY = "tiny"  # 4 x 4 average pool and one dense layer: hardly any work, so what is left is the pipeline's


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to train; the first of a list is the reference that the others are set against."""

    pipeline: str
    jit_compile: str = "off"
    steps_per_execution: int = 1
    is_looped: bool | None = None  # of `device` under JAX

    def __str__(self) -> str:
        loop = {None: "", True: ", loop", False: ", step by step"}[self.is_looped]
        return f"{self.pipeline}{loop}"


@dataclass(frozen=True, slots=True)
class Job:
    """Settings to measure in turn on one model, batch size and number of images."""

    model: str  # tiny, or depth,base_filters
    batch_size: int
    train_n: int
    rounds: int
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class Rate:
    """Seconds of one undisturbed epoch of one setting in each round."""

    backend: str
    device: str
    precision: str  # of products: tf32, or fp32 where that is not in force
    model: str
    batch_size: int
    train_n: int
    setting: Setting
    jit_compile: str  # as resolved
    epoch_sec: tuple[float, ...]
    first_epoch_sec: float


def read_rate(line: str) -> Rate:
    values = json.loads(line)
    setting = Setting(**values.pop("setting"))
    return Rate(**{**values, "setting": setting, "epoch_sec": tuple(values["epoch_sec"])})


def read_jobs(text: str) -> list[Job]:
    return [Job(**{**job, "settings": tuple(Setting(**s) for s in job["settings"])}) for job in json.loads(text)]


def build(model: str) -> Any:
    import keras

    from epochcast.workload.cnn import build_model

    if model != TINY:
        return build_model(RunConfig(*map(int, model.split(","))))
    inputs = keras.Input((32, 32, 3))
    pooled = keras.layers.Flatten()(keras.layers.AveragePooling2D(4)(inputs))
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax", dtype="float32")(pooled))


def measure(job: Job, device: str, precision: str) -> Iterator[Rate]:
    """Train every setting for two epochs in each round, in turn, and take the second; the first round warms up."""
    import keras

    from epochcast.timing import EpochTimer
    from epochcast.workload.synthetic import make_synthetic

    images = make_synthetic(job.train_n, seed=0)
    floats: dict[str, dict[str, Any]] = {}  # what those that hold all images as float32 share, 600 MB each
    ready = [_ready(setting, job, images.x_train, images.y_train, floats) for setting in job.settings]
    times: list[list[float]] = [[] for _ in ready]
    for _ in range(job.rounds + 1):
        for (_, fit), seconds in zip(ready, times, strict=True):
            timer = EpochTimer()
            fit(epochs=2, callbacks=[timer], verbose=0)
            seconds.extend(timer.epoch_times_sec if not seconds else timer.epoch_times_sec[1:])
    for setting, (jit_compile, _), seconds in zip(job.settings, ready, times, strict=True):
        backend = keras.config.backend()
        measured = tuple(seconds[2:])  # without the first round
        of_job = (backend, device, precision, job.model, job.batch_size, job.train_n)
        yield Rate(*of_job, setting, jit_compile, measured, seconds[0])


def _ready(
    setting: Setting, job: Job, x_train: Any, y_train: Any, floats: dict[str, dict[str, Any]]
) -> tuple[str, Callable[..., Any]]:
    from epochcast.workload.cnn import compile_model, seed_everything
    from epochcast.workload.device_epochs import device_input
    from epochcast.workload.pipelines import model_for, prepare

    seed_everything(1)
    name = setting.pipeline
    model = model_for(name, build(job.model))
    jit_compile = compile_model(model, jit_compile=setting.jit_compile, steps_per_execution=setting.steps_per_execution)
    batches: dict[str, Any] = {"batch_size": job.batch_size, "window_steps": None, "seed": 1}
    if setting.is_looped is not None:
        given = device_input(model, x_train, y_train, **batches, is_looped=setting.is_looped)
    elif name in floats:
        given = floats[name]
    else:
        given = prepare(name, x_train, y_train, model=model, epochs=2, **batches).fit_kwargs
        if name in ("tfdata", "arrays"):
            floats[name] = given

    def fit(**more: Any) -> Any:
        return model.fit(**{"shuffle": False, **given, **more})

    return jit_compile, fit


def start_backend() -> tuple[str, str]:
    """Name of the device that Keras's backend will train on, and the precision of its products.

    Raises:
        ImportError: if the backend is not installed.
        ValueError: if there is a GPU and the backend can't use it.
        RuntimeError: if the backend finds no device at all.
    """
    import keras

    keras.config.set_dtype_policy("float32")  # whatever the user's keras.json says
    if keras.config.backend() == "jax":
        sys.modules["tensorflow"] = None  # type: ignore[assignment]  # as on a machine without it
    from epochcast.collect.run.devices import resolve_device

    device, is_tf32 = resolve_device(keras.config.backend(), "auto")
    return device, "tf32" if is_tf32 else "fp32"


def main() -> int:
    jobs = read_jobs(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        device, precision = start_backend()
    except (ImportError, ValueError, RuntimeError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)  # one line: it is shown as the reason
        return 1
    for job in jobs:
        for rate in measure(job, device, precision):
            print(json.dumps(asdict(rate)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
