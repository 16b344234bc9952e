"""What makes a box unfit to measure, one function per thing looked at; each gives what it found and the remedy."""

from __future__ import annotations

import errno
import os
import platform
import shlex
import tempfile
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from epochcast.energy.rapl import POWERCAP, open_rapl
from epochcast.error_text import describe_error
from epochcast.live.fits import read_fits
from epochcast.machine.host.host import (
    clock_source,
    container,
    cpu_count,
    cpu_governor,
    cpu_max_mhz,
    cpu_mhz,
    cpu_name,
    cpu_quota_cores,
    memory_bytes,
    os_name,
    virtual_machine,
)
from epochcast.machine.host.load import BUSY_SHARE, is_busy_host
from epochcast.output.text import memory_text, significant
from epochcast.paths import failures_csv
from epochcast.schema import TEST_N, TRAIN_N, FailureRecord, RunRecord
from epochcast.storage.cells import columns, csv_reader
from epochcast.storage.table_appends import MIN_FREE_BYTES
from epochcast.storage.tables import read_runs, read_table
from epochcast.workload.cifar10 import ORIGIN_MB, find_images
from epochcast.workload.cifar10_readers import KNOWN_FORMS, TRAIN_BATCHES, locate_images
from epochcast.workload.shape import CHANNELS, CLASSES, IMAGE_SIZE

STATUSES = ("ok", "unknown", "warning", "problem")  # from good to bad
GIB = 1 << 30
IMAGE_BYTES = IMAGE_SIZE * IMAGE_SIZE * CHANNELS
IMAGES_BYTES = (TRAIN_N + TEST_N) * IMAGE_BYTES * 4  # as float32, the least that a run keeps in memory
COMFORTABLE_COPIES = 4  # of the images: those of the pipeline and the framework's own memory
COMFORTABLE_FREE_BYTES = GIB  # decoded images, logs, models and figures
CLOCK_READS = 2000
OTHER_FOLDERS = "choose others: EPOCHCAST_HOME, --runs, --log_dir"
SLOW_CLOCK_SEC = 5e-6  # a clock read in the kernel instead of the processor: hpet, acpi_pm


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: how it is, what was found, and where it is not well, what to do."""

    name: str
    status: str
    found: str
    remedy: str | None = None


def judged(name: str, found: str, complaints: Iterable[tuple[str, str]] = ()) -> Check:
    """A check as bad as the worst of the complaints (status, remedy); without any it is ok."""
    known = list(complaints)
    worst = max((status for status, _ in known), key=STATUSES.index, default="ok")
    return Check(name, worst, found, "; ".join(dict.fromkeys(remedy for _, remedy in known)) or None)


# --- the host ---------------------------------------------------------------------------------------------------------


def processor_check(device_kind: str) -> Check:
    """The cores of this box, their clock, and what limits them."""
    cores, mhz, most, governor, quota = cpu_count(), cpu_mhz(), cpu_max_mhz(), cpu_governor(), cpu_quota_cores()
    found = [f"{cores} cores" if device_kind == "cpu" else cpu_name()]  # there the device is named so already
    found += [] if mhz is None else [f"{mhz:,.0f}{'' if most is None else f' of {most:,.0f}'} MHz"]
    found += [] if governor is None else [f"governor {governor}"]
    complaints = []
    if quota is not None:
        found.append(f"control group grants {significant(quota)} cores")
        if quota < cores:  # it stops all threads for the rest of each 100 ms
            complaints.append(("warning", "bind to cores instead of granting time: --cpuset-cpus in place of --cpus"))
    if governor is not None and "powersave" in governor and device_kind == "cpu":
        complaints.append(("warning", "sudo cpupower frequency-set -g performance"))
    return judged("processor", ", ".join(found), complaints)


def system_check() -> Check:
    """The operating system, and what stands between it and the machine."""
    kind, machine = container(), virtual_machine()
    found = [os_name() or platform.system(), f"kernel {platform.release()}"]
    found += [] if kind is None else [kind]
    found += [] if machine is None else ["virtual machine" + (f" ({machine})" if machine else "")]
    return Check("system", "ok", ", ".join(found))


def host_load_check(others: float | None, load_avg: float | None, device_kind: str) -> Check:
    """What other programs take of the processor while doctor looks on."""
    cores = cpu_count()
    tail = "" if load_avg is None else f"; load average {significant(load_avg)}"
    if others is None:
        return Check("host load", "unknown", f"the kernel does not tell what others use{tail}")
    found = f"other programs use {max(0.0, round(others, 2)):g} of {cores} cores now{tail}"
    if not is_busy_host(others, cores, device_kind):
        return Check("host load", "ok", found)
    # on the processor itself half of the cores gone is no longer a spread, it is another machine
    is_hopeless = device_kind == "cpu" and is_busy_host(others, cores, "gpu")
    remedy = f"wait, or end them (see top): above {100 * BUSY_SHARE[device_kind]:.0f} % a row is flagged busy_host"
    return Check("host load", "problem" if is_hopeless else "warning", found, remedy)


def memory_check() -> Check:
    """Memory of the host against what a run's images need."""
    total, available = memory_bytes()
    if total is None or available is None:
        return Check("memory", "unknown", "the kernel does not tell")
    needed = memory_text(IMAGES_BYTES)
    found = f"{memory_text(available)} of {memory_text(total)} free; the images of a run alone take {needed}"
    if available >= COMFORTABLE_COPIES * IMAGES_BYTES:
        return Check("memory", "ok", found)
    remedy = "end other programs, or measure fewer images: --train_n"
    return Check("memory", "problem" if available < IMAGES_BYTES else "warning", found, remedy)


def cpu_energy_check() -> Check:
    """Whether the energy of the processor can be read; a run on a GPU has its board's."""
    if (rapl := open_rapl()) is not None:
        rapl.close()
        return Check("energy", "ok", "of the processor packages, by RAPL")
    hidden = [str(file) for file in POWERCAP.glob("intel-rapl:*/energy_uj") if not os.access(file, os.R_OK)]
    if hidden:
        remedy = f"sudo chmod o+r {POWERCAP}/intel-rapl:*/energy_uj (until the next boot)"
        return Check("energy", "warning", "the processor's is hidden from users: cpu_energy_j stays empty", remedy)
    return Check("energy", "unknown", "the processor tells none here (RAPL): cpu_energy_j stays empty")


def clock_check() -> Check:
    """What a reading of the clock costs: an epoch takes a few, so only a broken one matters."""
    source, start = clock_source(), time.perf_counter()
    for _ in range(CLOCK_READS):
        time.perf_counter()
    read_sec = (time.perf_counter() - start) / CLOCK_READS
    found = f"{source or 'source unknown'}, {significant(1e9 * read_sec)} ns a reading"
    if read_sec > SLOW_CLOCK_SEC:
        return Check("clock", "warning", found, "boot with clocksource=tsc, where the processor has a steady one")
    return Check("clock", "ok", found)


# --- files ------------------------------------------------------------------------------------------------------------


def folders_check(folders: Collection[Path]) -> Check:
    """Whether the folders of results and logs can be written, tried in each by a file without a name."""
    errors = {folder: error for folder in folders if (error := _write_error(folder)) is not None}
    # a full disk is the disk's check to judge
    refused = {folder: error for folder, error in errors.items() if error.errno not in (errno.ENOSPC, errno.EDQUOT)}
    if not refused:
        full = ", were the disk not full" if errors else ""
        return Check("folders", "ok", f"{_shown(folders)} can be written{full}")
    found = "; ".join(f"{folder}: {error.strerror or error}" for folder, error in refused.items())
    return Check("folders", "problem", found, f"make them writable, or {OTHER_FOLDERS}")


def _shown(folders: Collection[Path]) -> str:
    """Folders in few words: their common parent once."""
    parents = {folder.parent for folder in folders}
    if len(parents) == 1 < len(folders):
        return f"{' and '.join(folder.name for folder in folders)} in {parents.pop()}"
    return " and ".join(map(str, folders))


def existing(folder: Path) -> Path:
    """The folder itself, or the nearest above it that exists.

    Raises:
        PermissionError: if one above may not be entered.
    """
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _write_error(folder: Path) -> OSError | None:
    try:
        with tempfile.TemporaryFile(dir=existing(folder)) as file:
            file.write(b"x")
    except OSError as error:
        return error
    return None


def disk_check(folder: Path) -> Check:
    """Free space where results go."""
    try:
        space = os.statvfs(place := existing(folder))
    except PermissionError as error:
        return Check(
            "disk", "problem", describe_error(error), f"get the right to enter the folders above it, or {OTHER_FOLDERS}"
        )
    except OSError as error:
        return Check("disk", "unknown", describe_error(error))
    free = space.f_bavail * space.f_frsize
    found = f"{memory_text(free)} free at {place}"
    remedy = "delete what is not needed, or choose another disk: EPOCHCAST_HOME"
    if free < MIN_FREE_BYTES:
        return Check("disk", "problem", f"{found}: no run starts", remedy)
    return judged("disk", found, [("warning", remedy)] if free < COMFORTABLE_FREE_BYTES else [])


def table_check(runs: Path) -> Check:
    """Whether the table of runs, with its exclusions, and that of failures can be read and appended to.

    A table of estimates and fits that can't be read is a warning: runs are measured without it.
    """
    failures = failures_csv(runs)
    parts = []
    try:
        if runs.exists():
            table = read_runs(runs)
            parts.append(f"{runs}: {len(table.rows) + len(table.excluded):,} rows of the present schema")
            parts += [f"{len(table.excluded)} of them excluded"] if table.excluded else []
        else:
            parts.append(f"{runs} will be made by the first run")
        if failures.exists():
            parts.append(f"{len(read_table(failures, FailureRecord))} failed runs beside it")
        for path, kind in ((runs, RunRecord), (failures, FailureRecord)):
            n_columns = _count_columns(path) if path.exists() else len(columns(kind))
            if n_columns < len(columns(kind)):
                found = f"{path} has an older schema, {n_columns} of {len(columns(kind))} columns: no run appends"
                return Check("table", "problem", found, f"epochcast migrate --runs {shlex.quote(str(runs))}")
    except (OSError, ValueError) as error:
        return Check("table", "problem", describe_error(error), "mend it, or measure into another: --runs PATH")
    try:
        if n_fits := len(read_fits(runs.with_name("fits.csv"))):
            parts.append(f"{n_fits} estimates and fits beside it")
    except (OSError, ValueError) as error:  # no run needs it
        return Check("table", "warning", describe_error(error), "mend it: until then no `epochcast estimate` is kept")
    return Check("table", "ok", ", ".join(parts))


def _count_columns(path: Path) -> int:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return len(next(csv_reader([file.readline()])))


def data_check(data_dir: Path | None) -> Check:
    """Whether real images are at hand; nothing is read or downloaded."""
    try:
        return _look_for_images(data_dir)
    except OSError as error:  # a folder on the way may not be entered
        return Check("data", "problem", describe_error(error), "make it readable, or name another: --data_dir PATH")


def _look_for_images(data_dir: Path | None) -> Check:
    try:
        place = find_images(data_dir)
    except FileNotFoundError:
        asked = str(data_dir) if data_dir else f"$EPOCHCAST_DATA_DIR={os.environ.get('EPOCHCAST_DATA_DIR')}"
        return Check("data", "problem", f"{asked}: no such file or folder", f"name {KNOWN_FORMS}")
    if place is None:
        found = "no CIFAR-10: runs train on synthetic images, without a test accuracy"
        return Check("data", "warning", found, f"--dataset cifar10 downloads it ({ORIGIN_MB} MB); or --data_dir PATH")
    try:
        place = locate_images(place)
    except ValueError:
        return Check("data", "problem", f"{place}: no known form of CIFAR-10", f"name {KNOWN_FORMS}")
    if not place.is_dir():
        return Check("data", "ok", f"CIFAR-10, the file {place}")
    if all((place / name).is_file() for name in TRAIN_BATCHES):
        return Check("data", "ok", f"CIFAR-10, the official batches in {place}")
    n_classes = sum(folder.is_dir() for folder in (place / "train").glob("*"))
    if n_classes != CLASSES:
        found = f"{place}: expected {CLASSES} folders of images in train/ or {len(TRAIN_BATCHES)} batches, found part"
        return Check("data", "problem", found, "copy it again, or name another: --data_dir PATH")
    return Check("data", "ok", f"CIFAR-10, images in {place}, decoded once")
