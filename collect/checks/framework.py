"""Whether the backend can train here: the versions that are installed, and what it says when it is started."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from epochcast.collect.checks.box import Check
from epochcast.collect.run.devices import choose_devices, resolve_device
from epochcast.machine.framework import framework_details
from epochcast.machine.gpu.vendor import ON_CPU
from epochcast.machine.packages import PACKAGES, backend_problem, first_installed
from epochcast.output.text import json_line
from epochcast.paths import CODE_ROOT

DEEP_TIMEOUT_SEC = 180.0  # a framework starts in seconds; its first time on a GPU may take a minute


def versions_check(backend: str) -> Check:
    """Check Python and the packages that a run needs."""
    known = {name: first_installed(packages) for name, packages in PACKAGES.items()}
    shown = [f"{name} {number}{' (backend)' if name == backend else ''}" for name, number in known.items() if number]
    found = ", ".join([f"Python {sys.version.split()[0]}", *shown])
    if (problem := backend_problem(backend)) is not None:
        return Check("versions", "problem", f"{found}; {problem[0]}", problem[1])
    return Check("versions", "ok", found)


def probe(device: str) -> dict[str, Any]:
    """Start the backend as a run with `--device` does, and return what it found; for a process of its own."""
    choose_devices(device)
    import keras

    backend = keras.backend.backend()
    name, is_tf32 = resolve_device(backend, device)
    return {"device_name": name, "tf32": is_tf32, **framework_details(backend)}


def deep_check(device: str) -> Check:
    """Check what the backend itself says: it is started in a process of its own."""
    program = (
        f"import sys; sys.path.insert(0, sys.argv[1]); from {__name__} import probe; from {json_line.__module__} "
        "import json_line; print(json_line(probe(sys.argv[2])))"
    )
    command = [sys.executable, "-c", program, str(CODE_ROOT), device]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=DEEP_TIMEOUT_SEC, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        found = f"the backend did not start within {DEEP_TIMEOUT_SEC:.0f} s"
        return Check("framework", "problem", found, "see `nvidia-smi`, and whether importing keras hangs by itself")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        found, separator, remedy = last.removeprefix("ValueError: ").partition(". ")
        if not (separator and ON_CPU in remedy):  # else it is a refusal, which says what to do
            found, remedy = f"the backend does not start: {last}", "start it by hand: python -c 'import keras'"
        return Check("framework", "problem", found, remedy.rstrip("."))
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    known = [answer["device_name"], f"TF32 {'on' if answer['tf32'] else 'off'}"]
    known += [
        f"{word} {answer[name]}"
        for word, name in (("CUDA", "cuda_runtime_version"), ("cuDNN", "cudnn_version"))
        if answer.get(name)
    ]
    return Check("framework", "ok", f"{answer['backend']} trains on {', '.join(known)}")
