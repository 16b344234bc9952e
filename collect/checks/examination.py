"""All checks of a box in one go, and how they look on a screen."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from epochcast import __version__
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
from epochcast.collect.checks.framework import deep_check, versions_check
from epochcast.collect.checks.gpu import board_memory_check, cuda_libraries_check, device_check, gpu_checks
from epochcast.machine.environment import load_average, snapshot
from epochcast.machine.gpu_driver import device_of, gpu_of, open_driver, vendor_of
from epochcast.machine.gpu_snapshot import driver_snapshot
from epochcast.machine.host.load import host_cpu_times, other_cores
from epochcast.machine.packages import backend_name

LOOK_SEC = 1.0  # how long the host's load is watched
WIDTH = 100


def examine(
    device: str, runs: Path, log_dir: Path, data_dir: Path | None, is_deep: bool = False
) -> tuple[list[Check], dict[str, Any]]:
    """Return all checks, and the environment that they were made in. Takes about LOOK_SEC."""
    start = time.monotonic()
    before = host_cpu_times()
    with ExitStack() as stack:
        if (driver := open_driver(device)) is not None:
            stack.callback(driver.close)
        gpu = None if driver is None else gpu_of(driver, device)
        of_run = device_of(device)
        kind = "cpu" if of_run.kind == "cpu" and of_run.refusal is None else "gpu"  # that is, or should be, measured
        checks = [device_check(device, of_run, has_driver=driver is not None)]
        if kind == "gpu":
            checks += [*gpu_checks(of_run, driver, gpu), board_memory_check(device, of_run, runs)]
        else:
            checks.append(cpu_energy_check())
        environment = snapshot(driver_snapshot(device, driver, gpu))
    backend = backend_name()
    of_files = [
        folders_check((runs.parent, log_dir)),
        disk_check(runs.parent),
        table_check(runs),
        data_check(data_dir),
        versions_check(backend),
    ]
    if kind == "gpu" and vendor_of(of_run).runtime == "CUDA":
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
    """Return the checks as lines of at most WIDTH characters where no path is longer, and the verdict."""
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
    """Return whether the box is fit to measure, and the checks to look at."""
    problems = [check.name for check in checks if check.status == "problem"]
    warnings = [check.name for check in checks if check.status == "warning"]
    if problems:
        return f"NOT FIT to measure: {', '.join(problems)}"
    return "fit to measure" + (f"; look at: {', '.join(warnings)}" if warnings else "")
