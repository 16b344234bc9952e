"""A measuring process without a framework, and what tests need to use it.

`light_child.py BEHAVIOUR [ARGUMENT...] FD PARENT` speaks the events of `measure.py`. It measures nothing: the
seconds that it reports are made up, so that a row can be checked to the last digit. BEHAVIOUR is a name below, or
`64=ok,128=sigkill`, which chooses by batch size. Each start is noted in the file $LIGHT_CHILD_TRACE.

Hundreds are started: the child imports what its behaviour needs alone, and nothing of ours but in rare cases (the
schema takes longer to import than all the rest); the box's devices were named when the tests began.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

if __name__ == "__main__":  # run by path: import from the checkout, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[2])
else:
    from epochcast.schema import RunSpec

FIRST_SEC, EPOCH_SEC = 0.004, 0.002  # less than a process needs to start, so that the overhead comes out positive
TEST_ACC = 0.625
NOISE = b"\xff\xfe noise \xc3\xa9\n"  # not UTF-8
NOISE_BYTES = 250_000 * len(NOISE)
WAITING = ("gate", "lasting", "busy", "hang", "hang-ignoring-signals", "hang-when-timed", "paced", "uneven")
# what the answer of the driver depends on: where a test changes any of it, the child asks for itself
OF_DRIVER = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "PATH", "LD_LIBRARY_PATH")
BOX = "LIGHT_CHILD_BOX"


def device_name(device: str) -> str:
    """The name of the device that a run on this box uses; the tests' process has asked for the common ones."""
    known = json.loads(os.environ.get(BOX, "{}"))
    if device in known and known[device]["of"] == [os.environ.get(name) for name in OF_DRIVER]:
        return known[device]["name"]
    from epochcast.machine.gpu_driver import box_device_name

    return box_device_name(device)


if __name__ != "__main__" and BOX not in os.environ:
    of_driver = [os.environ.get(name) for name in OF_DRIVER]
    os.environ[BOX] = json.dumps({device: {"name": device_name(device), "of": of_driver} for device in ("auto", "cpu")})


# --- for tests --------------------------------------------------------------------------------------------------------


def isolate(monkeypatch, home, trace):
    """Files of the tester's own take no part, and light children say in `trace` what they were started for."""
    for name in ("EPOCHCAST_DATA_DIR", "EPOCHCAST_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EPOCHCAST_HOME", str(home))
    monkeypatch.setenv("LIGHT_CHILD_TRACE", str(trace))


def command(*behaviour: str) -> tuple[str, ...]:
    """Return the `child` of a `RunPlace`, or `collect.run.child.CHILD`, for runs by the light child."""
    return (sys.executable, str(Path(__file__).resolve()), *behaviour)


_MAIN_WITH_CHILD = """
import importlib, json, resource, sys
from epochcast.collect.run import child
from tests.support.machines import made_up_host
made_up_host.install()
module, child.CHILD, limit = json.loads(sys.argv[1])
stage = importlib.import_module(module)
if limit is not None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(stage.main(sys.argv[2:]))
"""


def main_with_child(module: str, *behaviour: str, flags: list[str], largest_file: int | None = None) -> list[str]:
    """Return the command of a process that runs `module.main(flags)`, its runs measured by the light child."""
    how = json.dumps([module, command(*behaviour), largest_file])
    return [sys.executable, "-c", _MAIN_WITH_CHILD, how, *flags]


run_one_command = functools.partial(main_with_child, "epochcast.collect.run_one")
run_grid_command = functools.partial(main_with_child, "epochcast.collect.run_grid")


def environment(**more: str) -> dict[str, str]:
    """The environment of such a process: our folders on its import path, warnings as errors."""
    from epochcast.paths import CODE_ROOT

    return {
        **os.environ,
        "PYTHONPATH": str(CODE_ROOT),
        "PYTHONWARNINGS": "error",
        **more,
    }


def light_spec(**values: object) -> RunSpec:
    """A small spec with a synthetic data set, changed by `values`."""
    return RunSpec(**{"depth": 1, "base_filters": 2, "train_n": 1000, "dataset": "synthetic", "epochs": 4, **values})


def wait_for(condition, seconds: float = 25.0):
    """What `condition()` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still not so after {seconds:g} s"
        time.sleep(0.01)
    return value


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def starts(trace: Path) -> list[dict]:
    """The runs that light children started, in order: pid and spec."""
    return [json.loads(line) for line in trace.read_text().splitlines()] if trace.exists() else []


# --- the child --------------------------------------------------------------------------------------------------------


def _die(number: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), number)


def _hang() -> None:
    while True:
        time.sleep(60)


def params_of(spec: SimpleNamespace) -> int:
    """Return what `count_params` does, in one line per kind of layer."""
    filters = [3, *(spec.base_filters << block for block in range(spec.depth))]
    convolutions = sum(9 * (filters[i - 1] + n) * n + 2 * n for i, n in enumerate(filters) if i)
    pixels = (-(-32 >> spec.depth)) ** 2  # every pool rounds up
    return convolutions + (pixels * filters[-1] + 1) * 128 + (128 + 1) * 10


def _uneven(spec: SimpleNamespace, share: float, sec: float, n: int) -> list[float]:
    """Return epochs of about `sec` seconds with normal noise of that share."""
    import random

    draw = random.Random(f"{spec.depth} {spec.base_filters} {spec.batch_size} {spec.seed}")
    return [2 * sec] + [sec * max(0.5, draw.gauss(1.0, share)) for _ in range(n - 1)]


def _behave(spec: SimpleNamespace, behaviour: str, arguments: list[str], parent: int, idle_sec: float, emit) -> int:
    if behaviour == "refuse":
        emit("refused", message="this box has no such device.")
        return 2
    is_synthetic = spec.dataset == "synthetic"
    pace_sec = float(arguments[0]) if behaviour == "paced" else 0.0  # paced SECONDS DEVICE: epochs that really last
    emit(
        "started",
        device_name=arguments[1] if behaviour == "paced" and len(arguments) > 1 else device_name(spec.device),
        backend="tensorflow",
        backend_version="2.99.1",
        tf_version="2.99.1",
        keras_version="3.99.0",
        precision=spec.precision,
        tf32="off",
        pipeline="tfdata" if spec.pipeline == "auto" else spec.pipeline,
        jit_compile="off",
        steps_per_execution=1,
        dataset="synthetic" if is_synthetic else "cifar10_npz",
        train_n=spec.train_n,
        params=params_of(spec),
        data_origin="nowhere",
    )
    if on_gpu := os.environ.get("LIGHT_CHILD_ON_GPU"):  # a file that tells a fake driver who computes on its GPU
        Path(on_gpu).write_text(str(os.getpid()))
    if behaviour == "paced" and idle_sec:
        idle_start = time.monotonic()
        time.sleep(idle_sec)
        emit("idle", edges=(idle_start, time.monotonic()))
    most_epochs = spec.max_epochs if spec.epochs is None else spec.epochs
    times = [pace_sec or FIRST_SEC] + [pace_sec or EPOCH_SEC] * (most_epochs - 1)
    if behaviour == "uneven":  # uneven SHARE SECONDS
        times = _uneven(spec, float(arguments[0]), float(arguments[1]), most_epochs)
    if behaviour == "times":
        times = [float(text) for text in arguments[0].split(",")]
    for number in range(1, len(times) + 1):
        loss = float("nan") if behaviour == "nan" and number > 1 else 1.0 / number
        time.sleep(times[number - 1] if behaviour == "uneven" else pace_sec)
        now = time.monotonic()
        emit("epoch", sec=times[number - 1], edges=(now - times[number - 1], now), logs={"loss": loss, "accuracy": 0.5})
        if number == 1 and (timed_from := os.environ.get("LIGHT_CHILD_TIMED_FROM")):  # a file that gets this time
            Path(f"{timed_from}.new").write_text(repr(now))
            Path(f"{timed_from}.new").replace(timed_from)
        if number == 2 and (code := _misbehave(behaviour, arguments, parent, emit)) is not None:
            return code
    is_measured = not is_synthetic and spec.window_steps is None
    reason = "max_epochs" if spec.epochs is None else "epochs"
    emit("done", stop_reason=reason, test_acc=TEST_ACC if is_measured else None, peak_memory_bytes=None)
    if behaviour == "late-segfault":
        _die(signal.SIGSEGV)
    return 0


def _misbehave(behaviour: str, arguments: list[str], parent: int, emit) -> int | None:
    """What happens after the second epoch; an exit code ends the run."""
    if behaviour == "gate":  # goes on when the file is there
        wait_for(Path(arguments[0]).exists, seconds=60)
    elif behaviour == "lasting":
        time.sleep(float(arguments[0]))
    elif behaviour == "busy":
        while time.process_time() < float(arguments[0]):
            pass
    elif behaviour == "hang":
        _hang()
    elif behaviour == "hang-ignoring-signals":
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        Path(arguments[0]).touch()
        _hang()
    elif behaviour == "oom-message":
        emit("failed", status="oom", message="ResourceExhaustedError: OOM when allocating\ntensor with shape[64,32]")
        return 1
    elif behaviour == "oom-segfault":
        print("F0000 RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes", flush=True)
        _die(signal.SIGSEGV)
    elif behaviour == "segfault":
        print("a last word", flush=True)
        _die(signal.SIGSEGV)
    elif behaviour == "sigkill":
        _die(signal.SIGKILL)
    elif behaviour == "exit-3":
        print("it went wrong here", file=sys.stderr, flush=True)
        return 3
    elif behaviour == "silent-exit":
        return 0
    elif behaviour == "noisy":
        sys.stdout.buffer.write(NOISE * (NOISE_BYTES // len(NOISE)))
        sys.stdout.buffer.flush()
    elif behaviour == "grandchild":  # leaves a process behind, then goes on as told
        import subprocess

        pid_file, then = arguments
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        Path(pid_file).write_text(str(grandchild.pid))
        return _misbehave(then, [], parent, emit)
    elif behaviour == "replace":  # as a careless user might, while a run is measured
        table, text = arguments
        Path(f"{table}.new").write_text(text)
        Path(f"{table}.new").replace(table)
    elif behaviour == "fill-disk":  # from here on the parent can write no file beyond so many bytes
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(parent, resource.RLIMIT_FSIZE, (int(arguments[0]), hard))
    elif behaviour == "say":  # these bytes among its events, then what follows as usual
        os.write(int(sys.argv[-3]), Path(arguments[0]).read_bytes())
    elif behaviour == "say-last":  # these bytes, and no more
        os.write(int(sys.argv[-3]), Path(arguments[0]).read_bytes())
        return 0
    elif behaviour == "die-when-timed":
        emit("timed", stop_reason="epochs")
        _die(signal.SIGKILL)
    elif behaviour == "hang-when-timed":
        emit("timed", stop_reason="epochs")
        if arguments:
            os.kill(parent, signal.SIGINT)
        _hang()
    elif behaviour == "flood":  # a process in a session of its own that goes on talking into the pipe of events
        import subprocess

        flood = "import os, sys\nwhile True: os.write(int(sys.argv[1]), b'more\\n' * 1000)"
        pipe = int(sys.argv[-3])
        flooding = subprocess.Popen([sys.executable, "-c", flood, str(pipe)], pass_fds=(pipe,), start_new_session=True)
        Path(arguments[0]).write_text(str(flooding.pid))
    elif behaviour == "interrupt-parent-and-finish":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.kill(parent, signal.SIGINT)
    else:
        assert behaviour in ("ok", "times", "paced", "uneven", "nan", "late-segfault"), behaviour
    return None


def main() -> int:
    *arguments, descriptor, parent, idle_sec = sys.argv[1:]
    spec = SimpleNamespace(**json.load(sys.stdin))  # its values; the real child and the tests make a RunSpec of them
    behaviour = arguments.pop(0)
    if "=" in behaviour:
        behaviour = dict(pair.split("=") for pair in behaviour.split(","))[str(spec.batch_size)]
    if behaviour in WAITING:  # the others are gone before anybody can kill their parent
        from epochcast.guard import die_with_parent

        die_with_parent(int(parent))
    if trace := os.environ.get("LIGHT_CHILD_TRACE"):
        with Path(trace).open("a") as file:
            file.write(json.dumps({"pid": os.getpid(), "batch_size": spec.batch_size, "seed": spec.seed}) + "\n")
    with os.fdopen(int(descriptor), "w", encoding="utf-8") as events:

        def emit(event: str, **values: object) -> None:
            print(json.dumps({"event": event, **values}), file=events, flush=True)

        try:
            return _behave(spec, behaviour, arguments, int(parent), float(idle_sec), emit)
        except KeyboardInterrupt:
            emit("failed", status="interrupted", message="interrupted")
            return 130


if __name__ == "__main__":
    sys.exit(main())
