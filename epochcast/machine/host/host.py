"""What the processor, memory and kernel of this box are like; None is unknown.

psutil answers, on Linux and macOS. What it does not know is read from files of Linux, each with the reason.
"""

from __future__ import annotations

import os
import platform
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path("/")
T = TypeVar("T")


def ask_psutil(ask: Callable[[Any], T]) -> T | None:  # Any: the module, which has no types
    """Return what `ask` makes of psutil; None where that raises.

    psutil is imported only here, since most commands start without it. It raises errors of its own, OSError without
    /proc, and KeyError, IndexError or TypeError on lines that a sandbox makes up.
    """
    try:
        import psutil

        return ask(psutil)
    except Exception:  # of whatever kind, as said above: the answer is then unknown
        return None


def _read(path: str | Path) -> str | None:
    try:
        return (ROOT / path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def usable_cores() -> set[int]:
    """The numbers of the processor cores that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def of_usable_cores(each: Sequence[T]) -> list[T]:
    """Return the values of the cores that this process may use, of psutil's one value per core that is on.

    Raises:
        ValueError: if there is not one value per core.
    """
    usable = usable_cores()
    if len(each) == len(usable):
        return list(each)
    # psutil lists cores without their numbers, and cores that are off have none
    ranges = (_read("sys/devices/system/cpu/online") or f"0-{len(each) - 1}").split(",")
    ends = (text.partition("-") for text in ranges)
    cores = [core for first, _, last in ends for core in range(int(first), int(last or first) + 1)]
    return [value for core, value in zip(cores, each, strict=True) if core in usable]


def cpu_mhz() -> float | None:
    """Mean clock of the cores that this process may use, now."""
    clocks = ask_psutil(lambda psutil: of_usable_cores([core.current for core in psutil.cpu_freq(percpu=True)]))
    known = [mhz for mhz in clocks or () if mhz]
    return sum(known) / len(known) if known else None


def cpu_max_mhz() -> float | None:
    """The highest clock that the processor may take."""
    # psutil's is the highest that the governor allows
    khz = _read("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    return float(khz) / 1000 if khz and khz.isdecimal() else None


def cpu_governor() -> str | None:
    """How the kernel chooses the clock of the usable cores, e.g. `performance`; several are joined by `;`."""
    # psutil knows no governor
    files = (f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor" for core in usable_cores())
    return ";".join(sorted({text for file in files if (text := _read(file))})) or None


def clock_source() -> str | None:
    """What the kernel reads the time from, e.g. `tsc`."""
    # psutil knows no clock source
    return _read("sys/devices/system/clocksource/clocksource0/current_clocksource")


def _cgroup_files(controller: str, of_v2: str, of_v1: str) -> Iterator[tuple[Path, str]]:
    """The text of a limit's file in the control group of this process and in all above it, with its folder."""
    # psutil knows no control groups
    groups = [line.split(":", 2) for line in (_read("proc/self/cgroup") or "").splitlines() if line.count(":") > 1]
    of_controller = [group for _, names, group in groups if controller in names.split(",")]
    is_v1 = bool(of_controller)
    base = Path("sys/fs/cgroup", *([controller] if is_v1 else []))
    for group in of_controller or [group for _, names, group in groups if not names]:
        inside = base / group.strip("/")
        # in a container the groups above its own are not mounted: the folders on the way are then missing
        for folder in (inside, *(parent for parent in inside.parents if parent.is_relative_to(base))):
            if text := _read(folder / (of_v1 if is_v1 else of_v2)):
                yield folder, text


def cpu_quota_cores() -> float | None:
    """Processor time per second that the control group grants, in cores; None where nothing limits it."""
    quotas = []
    for folder, text in _cgroup_files("cpu", "cpu.max", "cpu.cfs_quota_us"):
        quota, period = (text.split() if " " in text else (text, _read(folder / "cpu.cfs_period_us") or ""))[:2]
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:  # else `max` or -1: no limit
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_bytes() -> tuple[int | None, int | None]:
    """Memory in all and still to be had, also by what the control group grants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of statistics that psutil misses and nobody asks for
        memory = ask_psutil(lambda psutil: psutil.virtual_memory())
    total: int | None = getattr(memory, "total", None) or None  # psutil's 0 is unknown
    available: int | None = getattr(memory, "available", None) or None
    for folder, text in _cgroup_files("memory", "memory.max", "memory.limit_in_bytes"):
        if not text.isdecimal() or total is None or int(text) >= total:
            continue  # `max`, or v1's way to say so
        total = int(text)
        used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes") or ""
        # files that were read count as used, but give way
        cached = re.search(r"^(?:total_)?inactive_file (\d+)", _read(folder / "memory.stat") or "", re.MULTILINE)
        if used.isdecimal():
            left = max(0, total - int(used) + (int(cached[1]) if cached else 0))
            available = min(left, total if available is None else available)
    return total, available


def boot_time_utc() -> str | None:
    """When this box was started."""
    started = ask_psutil(lambda psutil: datetime.fromtimestamp(int(psutil.boot_time()), UTC))
    return None if started is None else started.isoformat(timespec="seconds")


def os_name() -> str | None:
    """The distribution, e.g. `Ubuntu 24.04.2 LTS`."""
    name = re.search(r'^PRETTY_NAME="?([^"\n]*)', _read("etc/os-release") or "", re.MULTILINE)
    return None if name is None else name[1]


def container() -> str | None:
    """The kind of container that this process runs in, as far as its marks tell."""
    if (ROOT / ".dockerenv").exists():
        return "docker"
    if (ROOT / "run/.containerenv").exists():
        return "podman"
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    return _read("run/systemd/container") or os.environ.get("container") or None  # noqa: SIM112  # systemd's own name


def virtual_machine() -> str | None:
    """The maker and model of the virtual machine that this is, empty if untold; None where it seems to be none."""
    # psutil knows no flags of the processor
    if re.search(r"^flags\s*:.*\bhypervisor\b", _read("proc/cpuinfo") or "", re.MULTILINE) is None:
        return None
    words = (_read(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
    return " ".join(word for word in words if word)


def cpu_count() -> int:
    """Processor cores that this process may use."""
    return len(usable_cores())


def cpu_name() -> str:
    """The processor's model name with the number of cores this process may use, e.g. `AMD EPYC 9B14 (2 cores)`.

    Commas go, because a name stands in `--conditions device_name=...,backend=...`.
    """
    name = None
    try:  # psutil knows no model
        for line in Path("/proc/cpuinfo").read_text(errors="backslashreplace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
                break
    except OSError:
        pass  # not Linux
    if name is None:
        name = platform.processor() or platform.machine()  # platform.processor() starts a process
    return f"{name.replace(',', '')} ({cpu_count()} cores)"
