"""Which GPU is meant: exact lookup of a name, the GPU in this box, and the arithmetic that training on it uses.

A name is matched as a whole, never by a part of it: an RTX A1000 is no A100, and an instance of a GPU (MIG) is not the
whole. What is not known has no number.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from dataclasses import dataclass, replace

from epochcast.assumptions import device_kind_of
from epochcast.environment import gpu_names
from epochcast.facts import Gpu, gpus
from epochcast.nvml import open_nvml, visible_gpu

MOST_NEAREST = 6  # names in a message
BYTES_PER_GB = 1e9
MEMORY_SLACK = 0.1  # a driver counts 12 GiB where the box says 12 GB, less what it keeps for itself
# What a board can be told to draw at most, over its data sheet's TDP. Boards are sold and set with less and with more;
# further out the number is a slip of the pen, or the name another board's.
LIMIT_OF_TDP = (0.3, 1.5)
_SAID_ANYWAY = {"nvidia", "tesla", "geforce", "amd", "instinct", "intel", "habana", "google", "gpu"}
_MARKS = re.compile(r"\((?:r|tm)\)|[®™]")
_POWER = re.compile(r"(?<!\d)\(?(\d{2,4})\s?w\)?$")
_ARITHMETIC_OF_PRECISION = {"mixed_float16": "fp16", "mixed_bfloat16": "bf16", "float32": "fp32"}


class UnknownGpuError(ValueError):
    """A name that is no GPU's, or several GPUs'; the message lists the nearest names."""


def words_of(name: str) -> tuple[str, ...]:
    """A GPU's name in comparable words: lower case, without vendor, (R), (TM) and separators."""
    text = unicodedata.normalize("NFKC", _MARKS.sub(" ", name.casefold()))
    return tuple(word for word in re.findall(r"[^\W_]+", text) if word not in _SAID_ANYWAY)


@functools.cache
def _by_name() -> dict[str, Gpu]:
    return {"".join(words_of(name)): gpu for gpu in gpus() for name in (gpu.name, *gpu.aliases)}


def find_gpu(name: str, memory_gb: float | None = None) -> Gpu:
    """The GPU of exactly this name, as its driver, MLPerf or people spell it.

    A power limit at the end, as in `A100-SXM4-80GB (500W)`, is taken for the board's: it replaces `tdp_w`.

    Args:
        memory_gb: of the board, as its driver tells it; decides between boards that the driver calls the same.

    Raises:
        UnknownGpuError: if no GPU or more than one is called so, or none that can have this power limit.
    """
    text = name.casefold().strip()
    power = _POWER.search(text)
    key = "".join(words_of(text[: power.start()] if power else text))
    gpu = _by_name().get(key) or _of_shared_name(name, key, memory_gb)
    if gpu is None:
        raise UnknownGpuError(
            f"no GPU is known by exactly the name {name!r}. The nearest names: {', '.join(nearest_gpus(name))}. "
            "All of them: epochcast facts gpus"
        )
    if power is None:
        return gpu
    limit_w, (lowest, highest) = float(power[1]), LIMIT_OF_TDP
    if gpu.tdp_w is not None and not lowest <= limit_w / gpu.tdp_w <= highest:
        raise UnknownGpuError(
            f"{name!r}: no {gpu.name} is known with a limit of {limit_w:g} W; its data sheet's is {gpu.tdp_w:g} W. "
            f"Correct the power, or leave it out: {gpu.name}"
        )
    note = f"{power[1]} W from the name {name!r}"
    return replace(gpu, tdp_w=limit_w, notes=f"{gpu.notes}; {note}" if gpu.notes else note)


def _of_shared_name(name: str, key: str, memory_gb: float | None) -> Gpu | None:
    """The board of this memory among those that the driver calls the same, None where the name is not such a one."""
    rows = [gpu for gpu in gpus() if gpu.shared_name is not None and "".join(words_of(gpu.shared_name)) == key]
    if not rows:
        return None
    for gpu in rows:
        if memory_gb is not None and abs(memory_gb / gpu.memory_gb - 1) <= MEMORY_SLACK:
            return gpu
    known = ", ".join(gpu.name for gpu in rows)
    if memory_gb is None:
        raise UnknownGpuError(
            f"{name!r} is the name of boards of different memory, which decides what they can do. Known of them: "
            f"{known}. If it is yours, use that name. All GPUs: epochcast facts gpus"
        )
    raise UnknownGpuError(
        f"no {name!r} with {memory_gb:.3g} GB is known; known by that name: {known}. All GPUs: epochcast facts gpus"
    )


def nearest_gpus(name: str) -> list[str]:
    """Return names of GPUs that could be meant: those that contain all its words, else those spelled most like it."""
    words = words_of(_POWER.sub("", name.casefold().strip()))
    holding = [
        gpu.name
        for gpu in gpus()
        if words and any(set(words) <= set(words_of(known)) for known in (gpu.name, *gpu.aliases))
    ]
    if holding:
        return list(dict.fromkeys(holding))[:MOST_NEAREST]
    similar = difflib.get_close_matches("".join(words), _by_name(), n=MOST_NEAREST, cutoff=0.0)
    return list(dict.fromkeys(_by_name()[key].name for key in similar))


@dataclass(frozen=True, slots=True)
class GpuHere:
    """The GPU that a run on this box would use: its driver's name, and its facts, None where they are not known."""

    name: str
    gpu: Gpu | None


def seen_here() -> GpuHere | None:
    """The GPU that a run on this box would use unless told otherwise, None where there is none or it can't be told."""
    nvml = open_nvml()
    if nvml is None:
        names = gpu_names()
        return _here(names[0], None) if names else None
    with nvml:
        gpu = visible_gpu(nvml, "auto")
        if gpu is None or gpu.name is None:
            return None
        memory = gpu.memory_total_bytes()
        name = f"{gpu.name} MIG" if gpu.is_mig else gpu.name  # an instance is not the whole GPU
        return _here(name, None if memory is None else memory / BYTES_PER_GB)


def _here(name: str, memory_gb: float | None) -> GpuHere:
    try:
        return GpuHere(name, find_gpu(name, memory_gb))
    except UnknownGpuError:
        return GpuHere(name, None)


def gpu_here() -> Gpu | None:
    """The facts of the GPU that a run on this box would use, None where it has none or they are not known."""
    here = seen_here()
    return None if here is None else here.gpu


@functools.cache
def known_gpu(device_name: str | None) -> Gpu | None:
    """The facts of a device as rows and models name it; None where there are none of this name, as of a processor.

    Of a name that several cards share it is this box's GPU, if that has the name, too: its driver tells the memory.
    """
    if device_name is None or device_kind_of(device_name) == "cpu":
        return None
    try:
        return find_gpu(device_name)
    except UnknownGpuError:
        here = seen_here()
        return here.gpu if here is not None and here.name == device_name else None


def is_same_device(one: str | None, other: str | None) -> bool:
    """Return whether two names mean one device: the same text, or one board by the facts.

    Drivers rename boards (`A100-SXM4-40GB`, `NVIDIA A100-SXM4-40GB`). Unknown is only the same as unknown.
    """
    if one == other:
        return True
    known = known_gpu(one), known_gpu(other)
    return known[0] is not None and known[1] is not None and known[0].name == known[1].name


@functools.cache
def tdp_w(device_name: str | None) -> float | None:
    """The data sheet's power of a device as rows name it; None where it is not known. No driver is asked."""
    try:
        return None if device_name is None or device_kind_of(device_name) == "cpu" else find_gpu(device_name).tdp_w
    except UnknownGpuError:
        return None


def arithmetic_of(precision: str, tf32: str | None, gpu: Gpu) -> str:
    """In what training multiplies on this GPU: one of `epochcast.facts.ARITHMETIC`.

    `precision` and `tf32` as in `epochcast.schema.Conditions`; float32 is TF32 where that is on and the GPU has it.

    Raises:
        ValueError: if the GPU is not known to compute in this precision, or there is no such precision.
    """
    if precision not in _ARITHMETIC_OF_PRECISION:
        known = ", ".join(_ARITHMETIC_OF_PRECISION)
        raise ValueError(f"no precision {precision!r}; use one of {known}.")
    arithmetic = _ARITHMETIC_OF_PRECISION[precision]
    if arithmetic == "fp32" and tf32 == "on" and gpu.tf32_tflops is not None:
        return "tf32"
    if gpu.tflops(arithmetic) is None:
        has = ", ".join(f"{name} {rate:g}" for name in ("fp32", "tf32", "fp16", "bf16") if (rate := gpu.tflops(name)))
        raise ValueError(
            f"{gpu.name} has no known {arithmetic} rate, which {precision} needs; known in TFLOP/s: {has or 'none'}. "
            "Choose another precision or another GPU."
        )
    return arithmetic
