"""Signs that this box has, or should have, an NVIDIA GPU, and what to do where a run can't use one.

Any of them keeps a run from measuring the processor unasked.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from epochcast.machine.gpu.vendor import Refusal
from epochcast.machine.host.host import container
from epochcast.text_sinks import shortened

ROOT = Path("/")
NVIDIA_PROC = Path("/proc/driver/nvidia")  # psutil knows no GPUs
NVML_LIBRARY = "libnvidia-ml.so.1"
WSL_LIBRARY, WSL_DEVICE = f"usr/lib/wsl/lib/{NVML_LIBRARY}", "dev/dxg"
CONTAINER_VISIBLE = "NVIDIA_VISIBLE_DEVICES"  # of NVIDIA's container toolkit; CUDA images are made with `all`
NONE_IN_CONTAINER = ("", "void", "none")
# nvml.h
NO_PERMISSION, NOT_LOADED, LIBRARY_MISSING, MISMATCH, IS_LOST, NEEDS_RESET = 4, 9, 12, 18, 15, 16
NO_GPU_FOUND = (28, 6)


def has_nvml_library() -> bool:
    """Whether the driver's library can be loaded, whatever it answers then."""
    if not sys.platform.startswith("linux"):
        return True  # its package knows where to look
    try:
        ctypes.CDLL(NVML_LIBRARY)
    except OSError:
        return False
    return True


def driver_signs(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return what says that there is an NVIDIA driver, usable or not; empty on a plain box."""
    found = [str(NVIDIA_PROC)] if _is_there(NVIDIA_PROC / "version") or _proc_entries() else []
    devices = _entries(ROOT / "dev", "nvidia[0-9]*") + _entries(ROOT / "dev", "nvidiactl")
    found += [str(path) for path in devices[:1]]
    found += ["nvidia-smi"] if shutil.which("nvidia-smi", path=environ.get("PATH")) else []
    found += [NVML_LIBRARY] if sys.platform.startswith("linux") and has_nvml_library() else []
    if _is_there(ROOT / WSL_LIBRARY) and _is_there(ROOT / WSL_DEVICE):
        found.append(str(ROOT / WSL_LIBRARY))
    asked = environ.get(CONTAINER_VISIBLE)
    if asked is not None and asked.strip() not in NONE_IN_CONTAINER and container() is not None:
        found.append(f"{CONTAINER_VISIBLE}={shortened(asked)}")
    return found


def kernel_driver_version() -> str | None:
    """The NVIDIA driver's version by the kernel, for a box whose driver library does not answer."""
    try:
        version = re.search(r"\b\d{3,}\.\d[\d.]*", (NVIDIA_PROC / "version").read_text(errors="replace"))
    except OSError:
        return None
    return None if version is None else version[0]


def proc_gpus() -> list[dict[str, str]]:
    """What /proc/driver/nvidia says of each GPU by its keys (`Model`, `GPU UUID`), in the order of their addresses."""
    found = []
    for folder in _proc_entries():
        try:
            lines = (folder / "information").read_text(errors="backslashreplace").splitlines()
        except OSError:  # a GPU that fell off the bus
            lines = []
        parts = (line.partition(":") for line in lines)
        found.append({key.strip(): value.strip() for key, _, value in parts} | {"address": folder.name})
    return found


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a sandbox that may not look there
        return False


def _entries(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _proc_entries() -> list[Path]:
    return _entries(NVIDIA_PROC / "gpus", "*")


def why_no_answer(words: str, code: int | None) -> Refusal:
    """Return the cause and remedy where the driver's library fails with this NVML code."""
    inside = container()
    if code == MISMATCH:
        remedy = "restart the box, or reload the module: sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia; "
        remedy += "sudo modprobe nvidia"
        return Refusal(f"{words}: it was updated and its old module still runs", _in(inside, remedy, "then restart it"))
    if code == NO_PERMISSION:
        return Refusal(words, _in(inside, "get the right to read and write /dev/nvidia* (ls -l /dev/nvidia*)", _ALL))
    if code == NOT_LOADED or code in NO_GPU_FOUND:
        return Refusal(words, _in(inside, "load its module: sudo modprobe nvidia, or restart the box", _ALL, True))
    if code in (IS_LOST, NEEDS_RESET):
        return Refusal(words, "restart the box, and see what the kernel says: sudo dmesg | grep -i -e nvrm -e xid")
    if code is not None:
        return Refusal(words, "see `nvidia-smi` and sudo dmesg | grep -i -e nvrm -e xid, restart the box")
    return Refusal(words, "mend that, or see what `nvidia-smi` says")


def why_lost(words: str, code: int | None, others: Sequence[str] = ()) -> Refusal:
    """Return the cause and remedy where the driver counts a GPU and does not answer for it; `others` are usable."""
    found = why_no_answer(f"the NVIDIA driver does not answer for {words}", code)
    return replace(found, remedy="; ".join([found.remedy, *(f"or use {other}" for other in others[:1])]))


def why_no_instance(index: int, name: str) -> Refusal:
    """Return the refusal of a GPU in MIG mode that has no instance."""
    remedy = f"make one: sudo nvidia-smi mig -i {index} -cgi 0 -C, or have it whole: sudo nvidia-smi -i {index} -mig 0"
    return Refusal(f"{name} is set to be cut into instances (MIG), and has none", remedy)


_ALL = "start it with --gpus all"


def _in(inside: str | None, remedy: str, in_container: str, is_instead: bool = False) -> str:
    """The remedy for a box, and what a container needs as well, or instead."""
    if inside is None:
        return remedy
    return (
        f"this is a container ({inside}): {in_container}" if is_instead else f"{remedy}; in a container: {in_container}"
    )


def why_no_library(signs: list[str], environ: Mapping[str, str]) -> Refusal:
    """Return the cause and remedy where signs of a driver are there, and its library is not."""
    cause = f"there are signs of an NVIDIA driver ({', '.join(signs)}), but its library {NVML_LIBRARY} is not found"
    remedy = "install the driver, or see what `nvidia-smi` says"
    if _is_there(ROOT / WSL_DEVICE):
        remedy = "have the linker find it: LD_LIBRARY_PATH=/usr/lib/wsl/lib"
    return Refusal(cause, _in(container(), remedy, _ALL, True))


def why_no_gpu(environ: Mapping[str, str]) -> Refusal:
    """Return the cause and remedy where the driver answers, and lists no GPU."""
    if container() is not None and environ.get(CONTAINER_VISIBLE, "all").strip() in NONE_IN_CONTAINER:
        cause = f"{CONTAINER_VISIBLE}={environ[CONTAINER_VISIBLE]!r} keeps every GPU from this container"
        return Refusal(cause, f"start it with {CONTAINER_VISIBLE}=all, or --gpus all")
    remedy = "see whether `nvidia-smi -L` lists one, restart the box"
    return Refusal("the NVIDIA driver lists no GPU", _in(container(), remedy, _ALL, True))
