"""Refuse a run that will not fit into the device's memory before anything is allocated, and say where it may not."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from epochcast.collect.grid.memory_fit import device_memory_bytes, memory_model
from epochcast.flag_types import memory_size
from epochcast.machine.gpu_driver import device_of
from epochcast.machine.host.host import memory_bytes
from epochcast.output.text import listed, significant
from epochcast.schema import AXIS_NAMES, RunRecord, RunSpec
from epochcast.workload.memory import DOUBTFUL, TOO_LARGE, PeakMemory, gib_text

REMEDY = "--ignore_memory measures it all the same, --device_memory SIZE says how much there is"


class TooLargeError(ValueError):
    """A run will not fit into the memory of its device."""


def add_memory_flags(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the flags of the guard; `what` happens to a run that will not fit."""
    parser.add_argument(
        "--device_memory",
        type=memory_size,
        metavar="SIZE",
        help=f"what will not fit into this by the estimate is {what}, e.g. 80GB; default: as the box or the rows tell",
    )
    parser.add_argument("--ignore_memory", action="store_true", help="measure whatever the estimate of memory says")


def memory_now(device: str, rows: Sequence[RunRecord]) -> tuple[int | None, str]:
    """Bytes that a run begun now can have, and how to say so: of a processor what is free, else all there is."""
    if device_of(device).kind == "cpu":
        return memory_bytes()[1], "{} are free"
    return device_memory_bytes(device, rows), "the device has {}"


def check_fits(
    spec: RunSpec, rows: Sequence[RunRecord], given_bytes: int | None = None, *, is_measured_fine: bool = True
) -> str | None:
    """A line for a person where a run may not fit into its device's memory; None where it does, or nothing is known.

    Args:
        given_bytes: the memory that the user says there is; None: as the box or the rows tell.
        is_measured_fine: whether a configuration that ran on this device under these conditions is known to fit.

    Raises:
        TooLargeError: if it will not fit, with the estimate, the memory and the flags that overrule it.
    """
    total, words = (given_bytes, "--device_memory says {}") if given_bytes else memory_now(spec.device, rows)
    if total is None:
        return None
    model = memory_model(spec, device_of(spec.device).name, rows)
    if is_measured_fine and given_bytes is None and spec.config in model.measured:
        return None
    peak = model.needs(spec.config)
    fit = peak.fit(total)
    needs = f"{spec.config} needs about {_range_text(peak)}, and {words.format(gib_text(total))}"
    if fit == TOO_LARGE:
        smaller = listed([f"--{name}" for name in reversed(AXIS_NAMES)], "or")
        raise TooLargeError(f"{needs}: it will not fit. Choose a smaller {smaller}; {REMEDY}.")
    return f"may not fit: {needs}" if fit == DOUBTFUL else None


def _range_text(peak: PeakMemory) -> str:
    if peak.low == peak.high:
        return f"{gib_text(peak.value)} (measured)"
    whose = ", by the driver's count" if peak.context else ""
    return f"{gib_text(peak.value)} ({significant(peak.low / 2**30)} to {significant(peak.high / 2**30)}{whose})"
