"""Say whether this box is fit to measure: device, neighbours, load, memory, disk, tables, data, versions.

Nothing is changed, downloaded or trained, and no framework is started unless --deep is given. Exit code 1 means that
measuring is impossible now, or would be untrue; warnings do not fail.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door, at once
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

import json
import subprocess
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from epochcast import __version__
from epochcast.cli import add_json_flag, json_line, make_parser, path_flag, print_home, run_command
from epochcast.collect.checks.box import (
    Check,
    clock_check,
    cpu_energy_check,
    data_check,
    disk_check,
    folders_check,
    host_load_check,
    judged,
    memory_check,
    processor_check,
    system_check,
    table_check,
)
from epochcast.collect.checks.gpu import (
    cuda_libraries_check,
    device_check,
    gpu_checks,
)
from epochcast.collect.run.devices import choose_devices, resolve_device
from epochcast.flag_types import path_of
from epochcast.guard import EXIT_FAILED, EXIT_OK
from epochcast.machine.driver_signs import ON_CPU
from epochcast.machine.environment import load_average, snapshot
from epochcast.machine.framework import framework_details
from epochcast.machine.gpu_driver import device_of, gpu_of
from epochcast.machine.host_load import host_cpu_times, other_cores
from epochcast.machine.nvml import open_nvml
from epochcast.machine.packages import PACKAGES, backend_name, backend_problem, first_installed
from epochcast.paths import CODE_ROOT, logs_dir, runs_csv
from epochcast.schema import RunSpec

LOOK_SEC = 1.0  # how long the host's load is watched
DEEP_TIMEOUT_SEC = 180.0  # a framework starts in seconds; its first time on a GPU may take a minute
WIDTH = 100


def versions_check(backend: str) -> Check:
    """Python and the packages that a run needs."""
    known = {name: first_installed(packages) for name, packages in PACKAGES.items()}
    shown = [f"{name} {number}{' (backend)' if name == backend else ''}" for name, number in known.items() if number]
    found = ", ".join([f"Python {sys.version.split()[0]}", *shown])
    if (problem := backend_problem(backend)) is not None:
        return Check("versions", "problem", f"{found}; {problem[0]}", problem[1])
    if known["keras"] is None:
        return Check("versions", "problem", f"{found}; missing: keras", "pip install keras")
    return Check("versions", "ok", found)


def probe(device: str) -> dict[str, Any]:
    """Start the backend as a run with `--device` does, and tell what it found. Runs in a process of its own."""
    choose_devices(device)
    import keras

    backend = keras.backend.backend()
    name, is_tf32 = resolve_device(backend, device)
    return {"device_name": name, "tf32": is_tf32, **framework_details(backend)}


def deep_check(device: str) -> Check:
    """What the backend itself says: it is started in a process of its own."""
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from epochcast.collect.doctor import json_line, probe; "
        "print(json_line(probe(sys.argv[2])))"
    )
    command = [sys.executable, "-c", program, str(CODE_ROOT), device]
    try:
        told = subprocess.run(
            command, capture_output=True, text=True, timeout=DEEP_TIMEOUT_SEC, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        found = f"the backend did not start within {DEEP_TIMEOUT_SEC:.0f} s"
        return Check("framework", "problem", found, "see `nvidia-smi`, and whether importing keras hangs by itself")
    if told.returncode != 0:
        last = (told.stderr.strip().splitlines() or ["no output"])[-1]
        found, separator, remedy = last.removeprefix("ValueError: ").partition(". ")
        if not (separator and ON_CPU in remedy):  # else it is a refusal, which says what to do
            found, remedy = f"the backend does not start: {last}", "start it by hand: python -c 'import keras'"
        return Check("framework", "problem", found, remedy.rstrip("."))
    answer = json.loads(told.stdout.strip().splitlines()[-1])
    known = [answer["device_name"], f"TF32 {'on' if answer['tf32'] else 'off'}"]
    known += [
        f"{word} {answer[name]}"
        for word, name in (("CUDA", "cuda_runtime_version"), ("cuDNN", "cudnn_version"))
        if answer.get(name)
    ]
    return Check("framework", "ok", f"{answer['backend']} trains on {', '.join(known)}")


def examine(
    device: str, runs: Path, log_dir: Path, data_dir: Path | None, is_deep: bool = False
) -> tuple[list[Check], dict[str, Any]]:
    """All checks, and the snapshot of the environment that goes with them. Takes about LOOK_SEC."""
    start = time.monotonic()
    before = host_cpu_times()
    with ExitStack() as stack:
        if (nvml := open_nvml()) is not None:
            stack.enter_context(nvml)
        gpu = None if nvml is None else gpu_of(nvml, device)
        of_run = device_of(device)
        kind = "cpu" if of_run.kind == "cpu" and of_run.refusal is None else "gpu"  # that is, or should be, measured
        checks = [device_check(device, of_run, nvml is not None)]
        checks += gpu_checks(nvml, gpu) if kind == "gpu" else [cpu_energy_check()]
        environment = snapshot(gpu, nvml)
    backend = backend_name()
    of_files = [
        folders_check((runs.parent, log_dir)),
        disk_check(runs.parent),
        table_check(runs),
        data_check(data_dir),
        versions_check(backend),
    ]
    if kind == "gpu":
        of_files.append(cuda_libraries_check(backend))
    of_host = [processor_check(kind), memory_check(), clock_check(), system_check()]
    time.sleep(max(0.0, start + LOOK_SEC - time.monotonic()))
    of_host.insert(1, host_load_check(other_cores(before, host_cpu_times()), load_average(), kind))
    if is_deep:
        of_files.append(deep_check(device))
    commit = environment["git_commit"]
    of_files.append(judged("code", f"epochcast {__version__}" + (f", commit {commit}" if commit else ", no checkout")))
    return [*checks, *of_host, *of_files], environment


def screen(checks: Sequence[Check]) -> Iterator[str]:
    """The checks as lines of at most WIDTH characters where no path is longer, and the verdict."""
    name_width = max(len(check.name) for check in checks)
    for check in checks:
        status = check.status.upper() if check.status == "problem" else check.status
        lead = f"{status:<9}{check.name:<{name_width}}  "
        yield from _wrapped(lead, check.found)
        if check.remedy:
            yield from _wrapped(" " * len(lead) + "-> ", check.remedy)
    yield ""
    yield verdict(checks)


def _wrapped(lead: str, text: str) -> list[str]:
    """The text behind its lead, wrapped; paths and commands stay whole."""
    indent = " " * len(lead)
    wrapper = textwrap.TextWrapper(
        WIDTH, initial_indent=lead, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return wrapper.wrap(text)


def verdict(checks: Sequence[Check]) -> str:
    problems = [check.name for check in checks if check.status == "problem"]
    warnings = [check.name for check in checks if check.status == "warning"]
    if problems:
        return f"NOT FIT to measure: {', '.join(problems)}"
    return "fit to measure" + (f"; look at: {', '.join(warnings)}" if warnings else "")


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("epochcast doctor", __doc__ or "", "epochcast doctor --device gpu:0 --deep")
    parser.add_argument(
        "--device", default=RunSpec().device, help="the device to measure: auto, cpu, gpu, gpu:N or a UUID"
    )
    parser.add_argument("--deep", action="store_true", help="also start the framework and have it list its devices")
    path_flag(parser, "--runs", runs_csv, "table that runs are appended to")
    path_flag(parser, "--log_dir", logs_dir, "folder for the logs of runs")
    parser.add_argument(
        "--data_dir", type=path_of, metavar="PATH", help="where CIFAR-10 lies (default: as a run looks for it)"
    )
    add_json_flag(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        print_home()
        RunSpec(device=arguments.device)  # refuses what is no device
        runs, log_dir = arguments.runs.absolute(), arguments.log_dir.absolute()
        checks, environment = examine(arguments.device, runs, log_dir, arguments.data_dir, arguments.deep)
        is_fit = all(check.status != "problem" for check in checks)
        if arguments.json:
            print(json_line({"is_fit": is_fit, "checks": [asdict(c) for c in checks], "environment": environment}))
        else:
            print("\n".join(screen(checks)))
        return EXIT_OK if is_fit else EXIT_FAILED

    return run_command(work)
