"""What makes a GPU unfit to measure, asked of the driver and of the installed packages; no framework is started."""

from __future__ import annotations

import ctypes.util
from dataclasses import replace
from pathlib import Path

from epochcast.collect.checks.box import GIB, Check, judged
from epochcast.collect.grid.memory_fit import device_memory_bytes, memory_model
from epochcast.gpus.lookup import board_limit_w, tdp_w
from epochcast.machine.cuda_packages import CUDA_PACKAGES, cuda_packages, install_gpu, lacks_cuda_libraries, torch_build
from epochcast.machine.disturbance import SLOWDOWNS
from epochcast.machine.gpu.sensor_bounds import board_power_bounds, number_within
from epochcast.machine.gpu.vendor import ON_CPU, Device, Driver, GpuSensors
from epochcast.machine.gpu_driver import vendor_names, vendor_of
from epochcast.machine.gpu_snapshot import driver_version
from epochcast.machine.host.host import ask_psutil
from epochcast.output.text import listed, memory_text, percent
from epochcast.schema import AXES, RunSpec
from epochcast.storage.tables import read_runs
from epochcast.workload.memory import LargestBatch, gib_text

HOT_C = 80.0  # data-centre GPUs slow down between 83 and 92 C: an idle one this hot has no room left
BUSY_SHARE = 0.05  # of the last second: more is a program at work, not a desktop that redraws
HIDDEN_BYTES = 2 * GIB  # more than a driver keeps for itself


def device_check(asked: str, device: Device, has_driver: bool) -> Check:
    """Which device a run uses, and where there is none as asked, why and what to do: the run is refused as well."""
    if device.refusal is not None:
        return Check("device", "problem", device.refusal.cause, f"{device.refusal.remedy}; {ON_CPU}")
    if device.kind == "cpu":
        by_wish, found = f"{device.name}, by --device cpu", f"no {vendor_names()} GPU: runs measure {device.name}"
        return Check("device", "ok", by_wish if asked == "cpu" else found)
    words = [device.name]
    words += [] if device.memory_bytes is None else [memory_text(device.memory_bytes)]
    words += [] if device.uuid is None else [device.uuid]
    words += [f"one of {device.n_gpus}"] if device.n_gpus > 1 else []
    complaints = []
    if not has_driver:
        why = device.problems[0] if device.problems else "no answer"
        words.append(f"{vendor_of(device).library} can't be asked: {why}")
        complaints.append(("warning", "mend that: without it there is no energy, clock or neighbour in a row"))
    elif not device.is_named:
        words.append(f"its driver gives it no name ({device.why_unnamed or 'no answer'})")
        complaints.append(("warning", "a newer driver may name it: its rows are compared with no other GPU's"))
    return judged("device", ", ".join(words), complaints)


def gpu_checks(device: Device, driver: Driver | None, gpu: GpuSensors | None) -> list[Check]:
    """Check the GPU of a run by its driver; without one that answers all is unknown."""
    vendor = vendor_of(device)
    version, newest = driver_version(driver, vendor), None if driver is None else driver.runtime_version
    found = f"{version or 'unknown'}, for {vendor.runtime} up to {newest or 'unknown'}"
    of_driver = Check("driver", "unknown" if version is None else "ok", found)
    if gpu is None:
        return [of_driver, *(Check(name, "unknown", "no answer") for name in ("clocks", "energy", "neighbours"))]
    return [of_driver, clocks_check(gpu), energy_check(gpu), neighbours_check(gpu)]


def clocks_check(gpu: GpuSensors) -> Check:
    """Clock, temperature, power limit and modes, and whether something holds the clock down now."""
    clock, most = gpu.sm_clock_mhz(), gpu.max_sm_clock_mhz()
    degrees, limit = gpu.temperature_c(), board_limit_w(gpu.name, gpu.power_limit_w())
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
        complaints.append(("warning", f"at its power limit already: end what runs on it, or see {gpu.power_command}"))
    if degrees is not None and degrees >= HOT_C:
        complaints.append(("warning", "let it cool before measuring"))
    if persistence is False:
        complaints.append(("warning", "keep the driver loaded between runs: sudo nvidia-smi -pm 1"))
    if mig:
        complaints.append(("warning", "cut into instances: clocks and energy are the whole GPU's"))
    if clock is None and reasons is None and not complaints:
        return Check("clocks", "unknown", ", ".join(found) or "the driver does not tell")
    return judged("clocks", ", ".join(found), complaints)


def energy_check(gpu: GpuSensors) -> Check:
    """Where the energy of a row will come from.

    A limit or a power that its board can't have is none, as for rows.
    """
    counter, instant, average = gpu.energy_j(), gpu.power_instant_w(), gpu.power_average_w()
    sources = {"energy counter": counter, "power at an instant": instant, "power averaged over 1 s": average}
    known = [name for name, value in sources.items() if value is not None]
    limit = board_limit_w(gpu.name, gpu.power_limit_w())
    bounds = board_power_bounds(limit, tdp_w(gpu.name), gpu.power_is_module)
    power = number_within(instant if instant is not None else average, *bounds)
    if not known:
        is_limit = limit is not None
        found = "the driver reports no power: " if is_limit else "the driver reports neither power nor a power limit: "
        found += "a row's energy is an estimate from the power limit" if is_limit else "rows have no energy"
        return Check("energy", "warning", found, f"see {gpu.power_command}; a newer driver may report it")
    return Check("energy", "ok", ", ".join(known) + ("" if power is None else f"; {power:.0f} W now"))


def neighbours_check(gpu: GpuSensors) -> Check:
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
        complaints.append(("problem", f"wait until nothing computes on it: {gpu.tool} shows what does"))
    elif not processes and used is not None and used > HIDDEN_BYTES:
        complaints.append(("warning", "something that can't be seen from here holds memory: look from the host"))
    if processes is None and share is None:
        return Check("neighbours", "unknown", ", ".join(found) or "the driver does not tell")
    return judged("neighbours", ", ".join(found), complaints)


def _process_text(pid: int, memory: int | None) -> str:
    name = ask_psutil(lambda psutil: psutil.Process(pid).name()) or "not visible here"
    return f"{pid} ({name}{'' if memory is None else f', {memory_text(memory)}'})"


def cuda_libraries_check(backend: str) -> Check:
    """Whether the backend's CUDA libraries are installed, by its packages or the system; none is loaded."""
    build = torch_build(backend)
    if build.startswith("cu"):
        return Check("cuda", "ok", f"of torch's build {build}")
    found = cuda_packages(backend)
    if found and not build:
        return Check("cuda", "ok", ", ".join(found[:1]))
    if backend not in CUDA_PACKAGES:
        return Check("cuda", "unknown", f"not known for {backend}")
    if not lacks_cuda_libraries(backend):
        if backend == "torch":  # a build of one's own may have them within
            return Check("cuda", "unknown", "not by pip's packages; doctor --deep asks torch")
        return Check("cuda", "ok", f"the system's {ctypes.util.find_library('cudnn')}")
    remedy = f"{install_gpu(backend)}; {ON_CPU}"
    what = f"torch is its build {build}" if build else f"{backend} is installed without CUDA libraries"
    return Check("cuda", "problem", f"{what}: it sees no NVIDIA GPU", remedy)


def board_memory_check(asked: str, device: Device, runs: Path) -> Check:
    """Return the largest batch of the default CNN that fits, as grids estimate it."""
    try:
        rows = read_runs(runs).rows if runs.exists() else []
    except (OSError, ValueError):  # the check of the table reports it
        rows = []
    total = None if device.refusal is not None else device_memory_bytes(asked, rows)
    if total is None:
        return Check("board memory", "unknown", "the driver does not tell how much there is")
    spec = RunSpec(device=asked)
    model = memory_model(spec, device.name, rows)
    largest = LargestBatch.of(total, lambda size: model.peak(replace(spec.config, batch_size=size)))
    found = f"{gib_text(total)}: largest batch of the CNN of {spec.config.network_text}: {largest.text}"
    if largest.probably < spec.batch_size:
        return Check(
            "board memory", "warning", found, f"measure smaller networks: {listed([axis.name for axis in AXES])}"
        )
    return Check("board memory", "ok", found)
