"""Which board is meant: exact lookup of a name in the facts.

A name is matched as a whole, never by a part of it: an RTX A1000 is no A100, and an instance of a GPU (MIG) is not the
whole. What is not known has no number.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING

from epochcast.facts.assumptions import device_kind_of
from epochcast.machine.gpu.sensor_bounds import possible_limit_w
from epochcast.machine.gpu_driver import box_device_name, box_device_names, device_of, gpus_of_this_box

if TYPE_CHECKING:  # imported at the first GPU that is looked up; a processor needs no tables
    from epochcast.facts.tables import Gpu

MOST_NEAREST = 6  # names in a message
BYTES_PER_GB = 1e9
MEMORY_SLACK = 0.1  # a driver counts 12 GiB where the box says 12 GB, less what it keeps for itself
# What a board can be told to draw at most, over its data sheet's TDP. Boards are sold and set with less and with more;
# further out the number is a slip of the pen, or the name another board's.
LIMIT_OF_TDP = (0.3, 1.5)
_SAID_ANYWAY = {
    "nvidia",
    "tesla",
    "geforce",
    "amd",
    "instinct",
    "intel",
    "habana",
    "google",
    "graphcore",
    "huawei",
    "gpu",
}
_MARKS = re.compile(r"\((?:r|tm)\)|[®™]")
_POWER = re.compile(r"(?<!\d)\(?(\d{2,4})\s?w\)?$")


class UnknownGpuError(ValueError):
    """A name that is no GPU's, or several GPUs'; the message lists the nearest names."""


def words_of(name: str) -> tuple[str, ...]:
    """A GPU's name in comparable words: lower case, without vendor, (R), (TM) and separators."""
    text = unicodedata.normalize("NFKC", _MARKS.sub(" ", name.casefold()))
    return tuple(word for word in re.findall(r"[^\W_]+", text) if word not in _SAID_ANYWAY)


def _gpus() -> tuple[Gpu, ...]:
    from epochcast.facts.tables import accelerators

    return accelerators()


@functools.cache
def _by_name() -> dict[str, Gpu]:
    return {"".join(words_of(name)): gpu for gpu in _gpus() for name in (gpu.name, *gpu.aliases)}


def limit_in_name(name: str) -> float | None:
    """Return the power limit at the end of a name, as in `A100-SXM4-80GB (500W)`."""
    power = _POWER.search(name.casefold().strip())
    return None if power is None else float(power[1])


def find_gpu(name: str, memory_gb: float | None = None) -> Gpu:
    """The accelerator of exactly this name, as drivers, MLPerf or people spell it.

    A power limit at the end, as in `A100-SXM4-80GB (500W)`, is taken for the board's: it replaces `tdp_w`.

    Args:
        memory_gb: of the board, as its driver reports it; decides between boards that the driver calls the same. Of
            an unlisted one of them, the facts know another by its name: they are not taken for it.

    Raises:
        UnknownGpuError: if no GPU or more than one is called so, or none with this memory, or this power limit.
    """
    text = name.casefold().strip()
    power = None if "".join(words_of(text)) in _by_name() else _POWER.search(text)
    key = "".join(words_of(text[: power.start()] if power else text))
    gpu = _by_name().get(key) or _of_shared_name(name, key, memory_gb)
    if gpu is None:
        raise UnknownGpuError(
            f"no GPU is known by exactly the name {name!r}. The nearest names: {', '.join(nearest_gpus(name))}. "
            "All of them: epochcast facts gpus"
        )
    if memory_gb is not None and not _has_memory(gpu, memory_gb):
        raise UnknownGpuError(
            f"no {name!r} with {memory_gb:.3g} GB is known; {gpu.name} has {gpu.memory_gb:g} GB. "
            "All GPUs: epochcast facts gpus"
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
    rows = [gpu for gpu in _gpus() if _shared_key(gpu) == key]
    if not rows:
        return None
    for gpu in rows:
        if memory_gb is not None and _has_memory(gpu, memory_gb):
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


def _has_memory(gpu: Gpu, memory_gb: float) -> bool:
    return abs(memory_gb / gpu.memory_gb - 1) <= MEMORY_SLACK


def nearest_gpus(name: str) -> list[str]:
    """Return names of GPUs that could be meant: those that contain all its words, else those spelled most like it."""
    words = words_of(_POWER.sub("", name.casefold().strip()))
    holding = [
        gpu.name
        for gpu in _gpus()
        if words and any(set(words) <= set(words_of(known)) for known in (gpu.name, *gpu.aliases))
    ]
    if holding:
        return list(dict.fromkeys(holding))[:MOST_NEAREST]
    import difflib

    similar = difflib.get_close_matches("".join(words), _by_name(), n=MOST_NEAREST, cutoff=0.0)
    return list(dict.fromkeys(_by_name()[key].name for key in similar))


def known_gpu(device_name: str | None, memory_bytes: int | None = None) -> Gpu | None:
    """Return the facts of a device as rows and models name it; None where there are none of it, as of a processor.

    Args:
        memory_bytes: of the device, where it is known. Else it is asked of this box's driver, if its device has this
            name: one name may be of several boards, and the facts of another memory are another board's.
    """
    if device_name is None or device_kind_of(device_name) == "cpu":
        return None
    if memory_bytes is None and (box := device_of()).name == device_name:
        memory_bytes = box.memory_bytes
    return _known_gpu(device_name, memory_bytes)


@functools.cache
def _known_gpu(device_name: str, memory_bytes: int | None) -> Gpu | None:
    try:
        return find_gpu(device_name, None if memory_bytes is None else memory_bytes / BYTES_PER_GB)
    except UnknownGpuError:
        return None


def is_same_device(one: str | None, other: str | None) -> bool:
    """Return whether two names mean one device: the same text, or one board by the facts.

    Drivers rename boards (`A100-SXM4-40GB`, `NVIDIA A100-SXM4-40GB`). Unknown is only the same as unknown.
    """
    if one == other or one is None or other is None:
        return one == other
    if "cpu" in (device_kind_of(one), device_kind_of(other)):  # the facts are of GPUs
        return False
    boards = _board(one), _board(other)
    if boards[0] is not None and boards[0] == boards[1]:
        return True
    known = known_gpu(one), known_gpu(other)
    return known[0] is not None and known[1] is not None and known[0].name == known[1].name


def index_in_box(device_name: str | None) -> int | None:
    """Return which of this box's devices a name means.

    0 is the one that a run uses unasked, 1 and more its other GPUs, None the device of another box.
    """
    return next((i for i, name in enumerate(box_device_names()) if is_same_device(name, device_name)), None)


def box_name_for(device_name: str | None) -> str:
    """Return the device of this box that answers to a name of rows.

    Its processor for any processor, its GPU of that name, else the device that a run uses unasked.
    """
    if device_kind_of(device_name) == "cpu":
        return box_device_name("cpu")
    return box_device_names()[index_in_box(device_name) or 0]


def other_gpu_uuid(device_name: str | None) -> str | None:
    """Return the UUID by which a run has to ask for a GPU of this box.

    None for the device that it uses unasked, and for those of other boxes.
    """
    if not index_in_box(device_name):  # it is the one used, or none of this box's
        return None
    return next((gpu.uuid for gpu in gpus_of_this_box() if is_same_device(gpu.name, device_name)), None)


def are_other_boards(one: str, other: str) -> bool:
    """Return whether two names are of boards that the facts know, and of different ones."""
    names = [{gpu.name for gpu in _boards_called(name)} for name in (one, other)]
    return all(names) and names[0].isdisjoint(names[1])


def unknown_words(device_name: str) -> str:
    """Return a device that `known_gpu` does not know in words: what the facts lack is its name, or its memory."""
    box, known = device_of(), sorted({gpu.memory_gb for gpu in _boards_called(device_name)})
    if box.name != device_name or box.memory_bytes is None or not known:
        return f"{device_name}, which the facts do not have"
    has = " and ".join(f"{memory_gb:g}" for memory_gb in known)
    return f"{device_name} with {box.memory_bytes / BYTES_PER_GB:.3g} GB, which the facts have with {has} GB"


def _boards_called(device_name: str) -> list[Gpu]:
    board = _board(device_name)
    return [gpu for gpu in _gpus() if board is not None and board in (gpu.name, _shared_key(gpu))]


@functools.cache
def driver_spellings(device_name: str) -> tuple[str, ...]:
    """Return the names that drivers of whatever age give to the board of this name; of an unknown one this name."""
    if _board(device_name) is None:
        return (device_name,)
    known = [name for gpu in _boards_called(device_name) for name in _names(gpu)]
    plain = {spelled for name in (device_name, *known) for spelled in (name, name.replace(" ", "-"))}
    plain |= {name.removeprefix("NVIDIA ").removeprefix("Tesla ").removeprefix("GeForce ") for name in plain}
    makers = ("", "NVIDIA ", "Tesla ", "NVIDIA Tesla ", "GeForce ", "NVIDIA GeForce ")
    return tuple(
        dict.fromkeys((device_name, *known, *(f"{maker}{name}" for name in sorted(plain) for maker in makers)))
    )


def _names(gpu: Gpu) -> tuple[str, ...]:
    return (gpu.name, *gpu.aliases, *([gpu.shared_name] if gpu.shared_name is not None else []))


def _shared_key(gpu: Gpu) -> str | None:
    return None if gpu.shared_name is None else "".join(words_of(gpu.shared_name))


@functools.cache
def _board(device_name: str) -> str | None:
    """The board of this name, also one that several boards share; None where the facts do not have it."""
    key = "".join(words_of(device_name))
    if key and any(_shared_key(gpu) == key for gpu in _gpus()):
        return key
    gpu = None if device_kind_of(device_name) == "cpu" else _known_gpu(device_name, None)
    return None if gpu is None else gpu.name


def tdp_w(device_name: str | None, memory_bytes: int | None = None) -> float | None:
    """The data sheet's power of a device as rows name it; None where it is not known. No driver is asked."""
    if device_name is None or device_kind_of(device_name) == "cpu":
        return None
    gpu = _known_gpu(device_name, memory_bytes)
    return None if gpu is None else gpu.tdp_w


def board_limit_w(device_name: str | None, limit_w: float | None, memory_bytes: int | None = None) -> float | None:
    """Return a power limit, None where no board of this name can have it."""
    return possible_limit_w(limit_w, tdp_w(device_name, memory_bytes))
