"""What makes a GPU unfit to measure, asked of the driver and of the installed packages; no framework is started."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from pathlib import Path

from collect.box_checks import GIB, Check, judged, memory_text
from epochcast.cli import percent
from epochcast.disturbance import SLOWDOWNS
from epochcast.environment import cpu_name, driver_version, gpu_names
from epochcast.installed import installed
from epochcast.nvml import Nvml, NvmlGpu

HOT_C = 80.0  # data-centre GPUs slow down between 83 and 92 C: an idle one this hot has no room left
BUSY_SHARE = 0.05  # of the last second: more is a program at work, not a desktop that redraws
HIDDEN_BYTES = 2 * GIB  # more than a driver keeps for itself
CUDA_LIBRARIES = {  # packages that bring a backend's CUDA libraries, newest first
    "tensorflow": ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12"),
    "jax": ("jax-cuda13-plugin", "jax-cuda12-plugin"),
    "torch": ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12"),
}
INSTALL_GPU = "pip install --require-hashes -r requirements-gpu.txt"
ON_CPU = "or use --device cpu"


def kind_of_run(device: str, gpu: NvmlGpu | None) -> str:
    """`gpu` where a run with `--device` means one, else `cpu`."""
    if device == "cpu":
        return "cpu"
    return "gpu" if device != "auto" or gpu is not None or gpu_names() else "cpu"


def device_check(device: str, nvml: Nvml | None, gpu: NvmlGpu | None, has_driver: bool, nvml_problem: str) -> Check:
    """Which device a run uses; `nvml_problem` says why there is no `nvml`."""
    if device == "cpu":
        return Check("device", "ok", f"{cpu_name()}, by --device cpu")
    if gpu is not None:
        memory, n_gpus = gpu.memory_total_bytes(), len(nvml.gpus()) if nvml is not None else 1
        words = [gpu.name or "a GPU without a name"]
        words += [] if memory is None else [memory_text(memory)]
        words += [] if gpu.uuid is None else [gpu.uuid]
        words += [] if n_gpus == 1 else [f"one of {n_gpus}"]
        return Check("device", "ok", ", ".join(words))
    if nvml is None and not has_driver:
        if device != "auto":
            return Check("device", "problem", f"--device {device}, but there is no driver", f"install it, {ON_CPU}")
        found = f"no NVIDIA GPU: runs measure the processor, {cpu_name()}"
        if not _has_driver_library():
            return Check("device", "ok", found)
        remedy = "if there is a GPU, load its driver: sudo modprobe nvidia, or start the box again"
        return Check("device", "warning", f"{found}; yet NVML is installed: {nvml_problem}", remedy)
    if nvml is None:
        found = f"{', '.join(gpu_names()) or 'a driver without a GPU'}; NVML can't be asked: {nvml_problem}"
        has_gpu = device == "auto" and bool(gpu_names())
        remedy = "mend that: without it there is no energy, clock or neighbour in a row"
        return Check(
            "device", "warning" if has_gpu else "problem", found, remedy if has_gpu else f"mend that, {ON_CPU}"
        )
    names = [name for other in nvml.gpus() if (name := other.name)]
    if not names:
        remedy = f"check nvidia-smi; start a container with --gpus all; {ON_CPU}"
        return Check("device", "problem", "the driver lists no GPU", remedy)
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if device not in ("auto", "gpu"):
        return Check("device", "problem", f"--device {device} is none of: {', '.join(names)}", "see `nvidia-smi -L`")
    shown = f"CUDA_VISIBLE_DEVICES={chosen!r}"
    if (order := os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")) != "PCI_BUS_ID":
        shown += f" CUDA_DEVICE_ORDER={order}"
    return Check("device", "problem", f"{shown} does not name one of: {', '.join(names)}", f"unset it, {ON_CPU}")


def _has_driver_library() -> bool:
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def gpu_checks(nvml: Nvml | None, gpu: NvmlGpu | None) -> list[Check]:
    """The driver's word on the GPU that a run uses; without one that answers all is unknown."""
    driver = driver_version() if nvml is None else nvml.driver_version
    cuda = None if nvml is None else nvml.cuda_version
    of_driver = Check(
        "driver", "unknown" if driver is None else "ok", f"{driver or 'unknown'}, for CUDA up to {cuda or 'unknown'}"
    )
    if gpu is None:
        return [of_driver, *(Check(name, "unknown", "no answer") for name in ("clocks", "energy", "neighbours"))]
    return [of_driver, clocks_check(gpu), energy_check(gpu), neighbours_check(gpu)]


def clocks_check(gpu: NvmlGpu) -> Check:
    """Clock, temperature, power limit and modes, and whether something holds the clock down now."""
    clock, most = gpu.sm_clock_mhz(), gpu.max_sm_clock_mhz()
    degrees, limit = gpu.temperature_c(), gpu.power_limit_w()
    reasons, persistence, mig = gpu.throttle_reasons(), gpu.persistence_enabled(), gpu.mig_enabled()
    found = [] if clock is None else [f"{clock:,.0f}{'' if most is None else f' of {most:,.0f}'} MHz now"]
    found += [] if degrees is None else [f"{degrees:.0f} °C"]
    found += [] if limit is None else [f"limit {limit:.0f} W"]
    modes = {"persistence": persistence, "ECC": gpu.ecc_enabled(), "MIG": mig or None}
    found += [f"{name} {'on' if is_on else 'off'}" for name, is_on in modes.items() if is_on is not None]
    complaints = []
    if reasons:
        found.append(f"held down by {', '.join(reasons)}")
    if SLOWDOWNS.intersection(reasons or ()):
        complaints.append(("problem", "the GPU slows itself down: let it cool, check fans and power supply"))
    elif "sw_power_cap" in (reasons or ()):  # an idle GPU is far from it
        complaints.append(("warning", "at its power limit already: end what runs on it, or see nvidia-smi -q -d POWER"))
    if degrees is not None and degrees >= HOT_C:
        complaints.append(("warning", "let it cool before measuring"))
    if persistence is False:
        complaints.append(("warning", "keep the driver loaded between runs: sudo nvidia-smi -pm 1"))
    if mig:
        complaints.append(("warning", "cut into instances: clocks and energy are the whole GPU's"))
    if clock is None and reasons is None and not complaints:
        return Check("clocks", "unknown", ", ".join(found) or "the driver does not tell")
    return judged("clocks", ", ".join(found), complaints)


def energy_check(gpu: NvmlGpu) -> Check:
    """Where the energy of a row will come from."""
    counter, instant, average = gpu.energy_j(), gpu.power_instant_w(), gpu.power_average_w()
    sources = {"energy counter": counter, "power at an instant": instant, "power averaged over 1 s": average}
    known = [name for name, value in sources.items() if value is not None]
    power = instant if instant is not None else average
    if not known:
        found = "the driver tells no power: a row's energy is an estimate from the power limit"
        return Check("energy", "warning", found, "see nvidia-smi -q -d POWER; a newer driver may tell it")
    return Check("energy", "ok", ", ".join(known) + ("" if power is None else f"; {power:.0f} W now"))


def neighbours_check(gpu: NvmlGpu) -> Check:
    """Other programs on the GPU."""
    processes, share, used = gpu.processes(), gpu.utilization(), gpu.memory_used_bytes()
    found = [] if share is None else [f"{percent(share)} busy"]
    found += [] if used is None else [f"{memory_text(used)} in use"]
    complaints = []
    if processes:
        listed = ", ".join(_process_text(pid, memory) for pid, memory in processes[:3])
        count = f"{len(processes)} process{'es' if len(processes) > 1 else ''}"
        found.append(f"{count}: {listed}{' ...' if processes[3:] else ''}")
    elif processes is not None:
        found.append("no process listed")
    if gpu.compute_processes():  # what only draws is the box's desktop
        complaints.append(("warning", "end what computes on it: rows of a shared GPU are flagged shared_gpu"))
    if share is not None and share > BUSY_SHARE:
        complaints.append(("problem", "wait until nothing computes on it: nvidia-smi shows what does"))
    elif not processes and used is not None and used > HIDDEN_BYTES:
        complaints.append(("warning", "something that can't be seen from here holds memory: look from the host"))
    if processes is None and share is None:
        return Check("neighbours", "unknown", ", ".join(found) or "the driver does not tell")
    return judged("neighbours", ", ".join(found), complaints)


def _process_text(pid: int, memory: int | None) -> str:
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        name = "not visible here"
    return f"{pid} ({name}{'' if memory is None else f', {memory_text(memory)}'})"


def cuda_libraries_check(backend: str) -> Check:
    """Whether the backend's CUDA libraries are installed, by its packages or the system; none is loaded."""
    found = [f"{name} {number}" for name in CUDA_LIBRARIES.get(backend, ()) if (number := installed(name))]
    build = (installed("torch") or "").partition("+")[2] if backend == "torch" else ""  # `cpu`, `cu130`; PyPI's: none
    if build.startswith(("cpu", "rocm", "xpu")):
        remedy = f"pip uninstall torch, then pip install torch (2.8 GB on Linux), {ON_CPU}"
        return Check("cuda", "problem", f"torch is its build {build}: it sees no NVIDIA GPU", remedy)
    if build.startswith("cu"):
        return Check("cuda", "ok", f"of torch's build {build}")
    if found:
        return Check("cuda", "ok", ", ".join(found[:1]))
    if backend not in CUDA_LIBRARIES:
        return Check("cuda", "unknown", f"not known for {backend}")
    if backend == "torch":  # a build of one's own may have them within
        return Check("cuda", "unknown", "not by pip's packages; doctor --deep asks torch")
    if backend == "tensorflow" and (library := ctypes.util.find_library("cudnn")):
        return Check("cuda", "ok", f"the system's {library}")
    remedy = INSTALL_GPU if backend == "tensorflow" else 'pip install "jax[cuda12]"'
    return Check("cuda", "problem", f"{backend} is here without CUDA libraries: it sees no GPU", f"{remedy}, {ON_CPU}")
