"""Which GPU is meant: exact lookup of a name, the GPU in this box, and the arithmetic that training on it uses.

A name is matched as a whole, never by a part of it: an RTX A1000 is no A100, and an instance of a GPU (MIG) is not the
whole. What is not known has no number.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from dataclasses import replace

from epochcast.environment import gpu_names
from epochcast.facts import Gpu, gpus

MOST_NEAREST = 6  # names in a message
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


def find_gpu(name: str) -> Gpu:
    """The GPU of exactly this name, as its driver, MLPerf or people spell it.

    A power limit at the end, as in `A100-SXM4-80GB (500W)`, is taken for the board's: it replaces `tdp_w`.

    Raises:
        UnknownGpuError: if no GPU or more than one is called so.
    """
    text = name.casefold().strip()
    power = _POWER.search(text)
    gpu = _by_name().get("".join(words_of(text[: power.start()] if power else text)))
    if gpu is None:
        raise UnknownGpuError(
            f"no GPU is known by exactly the name {name!r}. The nearest names: {', '.join(nearest_gpus(name))}. "
            "All of them: epochcast facts gpus"
        )
    if power is None:
        return gpu
    note = f"{power[1]} W from the name {name!r}"
    return replace(gpu, tdp_w=float(power[1]), notes=f"{gpu.notes}; {note}" if gpu.notes else note)


def nearest_gpus(name: str) -> list[str]:
    """Names of GPUs that could be meant: first those that hold all its words, then those spelled most like it."""
    words = words_of(_POWER.sub("", name.casefold().strip()))
    holding = [
        gpu.name
        for gpu in gpus()
        if words and any(set(words) <= set(words_of(known)) for known in (gpu.name, *gpu.aliases))
    ]
    similar = difflib.get_close_matches("".join(words), _by_name(), n=MOST_NEAREST, cutoff=0.0)
    return list(dict.fromkeys([*holding, *(_by_name()[key].name for key in similar)]))[:MOST_NEAREST]


def gpu_here() -> Gpu | None:
    """The first GPU of this box, None where there is none or its name is not known."""
    names = gpu_names()
    try:
        return find_gpu(names[0]) if names else None
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
