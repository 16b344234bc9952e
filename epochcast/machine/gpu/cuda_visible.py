"""Which GPUs a run sees, by the rules of CUDA_VISIBLE_DEVICES.

A list of numbers, or of UUIDs and their beginnings, in the order in which the run numbers them. The list ends at its
first entry that names none; one that names a GPU twice names none at all (CUDA C++ Programming Guide, "CUDA environment
variables"; what it leaves open is as the driver does it: digits count up to the first other character, numbers and
UUIDs are not mixed). A GPU that is cut into instances (MIG) is seen as its first one, unless another is named:
`MIG-<uuid>`, for drivers before 470 `MIG-GPU-<uuid>/<instance>/<part>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from epochcast.text_sinks import shortened

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
BY_ADDRESS = "PCI_BUS_ID"
_NUMBER = re.compile(r"[0-9]+")
_MOST_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Listed:
    """One GPU, or one instance of a GPU, as a source lists it; None is unknown."""

    index: int
    name: str | None = None
    uuid: str | None = None
    pci_bus_id: str | None = None
    memory_bytes: int | None = None
    power_limit_w: float | None = None
    is_mig: bool = False
    instances: tuple[Listed, ...] = ()
    ids: tuple[int | None, int | None] = (None, None)  # of an instance
    problems: tuple[str, ...] = ()  # what was answered, or raised, instead
    lacks_instances: bool = False  # is_mig, and none of them is made: CUDA has no device of it
    is_lost: bool = False  # counted by the driver, which does not answer for it


@dataclass(frozen=True, slots=True)
class Seen:
    """A GPU that a run sees, and the instance of it; None: a whole GPU, or it is not known which."""

    gpu: Listed
    instance: Listed | None = None

    @classmethod
    def of(cls, gpu: Listed) -> Seen:
        return cls(gpu, gpu.instances[0] if gpu.is_mig and gpu.instances else None)


class UnknownOrderError(ValueError):
    """It can't be known which GPU is meant: numbers that the driver orders by speed, or GPUs without a UUID."""


def seen_by(device: str, gpus: Sequence[Listed], environ: Mapping[str, str]) -> Seen | None:
    """Return the GPU that a run with `--device device` takes, None where it sees none.

    Args:
        gpus: in the order of their PCI addresses. A run names them by `index`, which has gaps where one is lost.

    Raises:
        UnknownOrderError: if it can't be known.
    """
    if device in ("auto", "gpu"):
        return next(iter(visible(gpus, environ)), None)
    if device.startswith("gpu:"):  # by its address, whatever the environment says: the number of nvidia-smi
        number = device.removeprefix("gpu:")
        return _of_number(number, gpus) if number.isdecimal() else None
    return _of_uuid(device, gpus)


def visible(gpus: Sequence[Listed], environ: Mapping[str, str]) -> list[Seen]:
    """Return what a run sees in this environment, in its order.

    Raises:
        UnknownOrderError: as `seen_by`.
    """
    is_by_address = environ.get(ORDER, BY_ADDRESS) == BY_ADDRESS or len({gpu.name or gpu for gpu in gpus}) <= 1
    listed = environ.get(VISIBLE)
    if listed is None:
        if not is_by_address:
            raise _unknown_order(environ)
        return [Seen.of(gpu) for gpu in gpus]
    found: list[Seen] = []
    are_numbers = False
    for word in map(str.strip, listed.split(",")):
        number = _NUMBER.match(word)
        if found and are_numbers != (number is not None):
            break
        are_numbers = number is not None
        if number is None:
            seen = _of_uuid(word, gpus)
        elif (seen := _of_number(number[0], gpus)) is not None and not is_by_address:
            raise _unknown_order(environ)
        if seen is None:
            break
        if seen in found:
            return []
        found.append(seen)
    return found


def first_visible(environ: Mapping[str, str]) -> str | None:
    """Return the first entry of CUDA_VISIBLE_DEVICES, None where it is not set."""
    listed = environ.get(VISIBLE)
    return None if listed is None else listed.split(",")[0].strip()


def shown_to_cuda(device: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which CUDA sees the GPU of `--device device` and no other."""
    if device.startswith("gpu:"):  # the N of nvidia-smi, and of the meter
        return {ORDER: "PCI_BUS_ID", VISIBLE: device.removeprefix("gpu:")}
    order = {ORDER: environ.get(ORDER, "PCI_BUS_ID")}
    if device.startswith(("GPU-", "MIG-")):
        return {**order, VISIBLE: device}
    first = first_visible(environ)
    return {**order, VISIBLE: "0" if first is None else first}  # no framework takes another for its first


def _unknown_order(environ: Mapping[str, str]) -> UnknownOrderError:
    order = shortened(environ.get(ORDER, ""))
    return UnknownOrderError(f"{ORDER}={order} numbers GPUs of different models in an order of CUDA's own")


def _of_number(number: str, gpus: Sequence[Listed]) -> Seen | None:
    if len(number) > _MOST_DIGITS:
        return None
    return next((Seen.of(gpu) for gpu in gpus if gpu.index == int(number)), None)


def _of_uuid(word: str, gpus: Sequence[Listed]) -> Seen | None:
    if word.startswith("MIG-"):
        return _of_instance(word, gpus)
    if not word.startswith("GPU-") or word == "GPU-":
        return None
    return _only([Seen.of(gpu) for gpu in gpus if _begins(gpu.uuid, word)], word, gpus)


def _of_instance(word: str, gpus: Sequence[Listed]) -> Seen | None:
    every = [Seen(gpu, instance) for gpu in gpus for instance in gpu.instances]
    if found := [seen for seen in every if seen.instance is not None and _begins(seen.instance.uuid, word)]:
        return found[0] if len(found) == 1 and word != "MIG-" else None
    whole, *ids = word.removeprefix("MIG-").split("/")
    if not whole.startswith("GPU-") or whole == "GPU-":
        return _only([], word, [instance for gpu in gpus for instance in gpu.instances])
    gpu = _only([Seen(gpu) for gpu in gpus if _begins(gpu.uuid, whole)], whole, gpus)
    if gpu is None:
        return None
    numbers = tuple(int(text) for text in ids if text.isdecimal() and len(text) <= _MOST_DIGITS)
    own = [instance for instance in gpu.gpu.instances if instance.ids == numbers]
    if own:
        return replace(gpu, instance=own[0])
    # which one it is, a driver that reports no ids does not say
    is_unknown = not gpu.gpu.instances or any(None in instance.ids for instance in gpu.gpu.instances)
    return gpu if is_unknown and gpu.gpu.is_mig else None


def _begins(uuid: str | None, word: str) -> bool:
    return uuid is not None and uuid.casefold().startswith(word.casefold())


def _only(found: Sequence[Seen], word: str, gpus: Sequence[Listed]) -> Seen | None:
    """The only one found; None where there is none, or several."""
    if not found and any(gpu.uuid is None for gpu in gpus):
        raise UnknownOrderError(f"{shortened(word)} may be a GPU whose UUID the driver does not report")
    return found[0] if len(found) == 1 else None
