"""What the processor, memory and kernel of this box are like, by Linux's files; None is what these do not tell."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path("/")


def _read(path: str | Path) -> str | None:
    try:
        return (ROOT / path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def usable_cores() -> set[int]:
    """The numbers of the processor cores that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def cpu_mhz() -> float | None:
    """Mean clock of the cores that this process may use, now."""
    values = []
    core = None
    for line in (_read("proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "processor":
            core = value.strip()
        elif name.strip() == "cpu MHz" and core is not None and core.isdecimal() and int(core) in usable_cores():
            values.append(float(value))
    return sum(values) / len(values) if values else None


def cpu_max_mhz() -> float | None:
    """The highest clock that the processor may take."""
    khz = _read("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    return float(khz) / 1000 if khz and khz.isdecimal() else None


def cpu_governor() -> str | None:
    """How the kernel chooses the clock of the usable cores, e.g. `performance`; several are joined by `;`."""
    files = (f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor" for core in usable_cores())
    return ";".join(sorted({text for file in files if (text := _read(file))})) or None


def clock_source() -> str | None:
    """What the kernel reads the time from, e.g. `tsc`."""
    return _read("sys/devices/system/clocksource/clocksource0/current_clocksource")


def _cgroup_files(controller: str, of_v2: str, of_v1: str) -> Iterator[tuple[Path, str]]:
    """The text of a limit's file in the control group of this process and in all above it, with its folder."""
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
    kib = {m[1]: int(m[2]) for m in re.finditer(r"^(\w+):\s+(\d+) kB", _read("proc/meminfo") or "", re.MULTILINE)}
    total, available = (kib[name] << 10 if name in kib else None for name in ("MemTotal", "MemAvailable"))
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
    started = re.search(r"^btime (\d+)", _read("proc/stat") or "", re.MULTILINE)
    return None if started is None else datetime.fromtimestamp(int(started[1]), UTC).isoformat(timespec="seconds")


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
    if re.search(r"^flags\s*:.*\bhypervisor\b", _read("proc/cpuinfo") or "", re.MULTILINE) is None:
        return None
    words = (_read(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
    return " ".join(word for word in words if word)
