"""Writing fitted numbers to the assumptions, with their source and errors on what was left out."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from benchmarks.external.features import Features
from benchmarks.external.left_out import ErrorFactor, Judged, Mask
from benchmarks.external.ratio.forms import JudgedRatio
from epochcast.machine.environment import utc_now
from epochcast.paths import PACKAGE
from epochcast.roofline.network_law import LawNumbers
from epochcast.storage.files import write_text_atomically

ASSUMPTIONS = PACKAGE / "data" / "assumptions.csv"
UNITS = {"step_sec": "s", "launch_sec": "s"}
DIGITS = 4
MEASURED = {1: "one", 3: "three"}  # networks of a box
SAME, SAME_RATIO = "the same fit of that law", "the same fit of that ratio"
RANGE_WORDS = {  # of which pairs a range is; else of the kind of network that it is named by
    "small": "of images of 32 pixels in batches of 128 and less, and of convolutional networks",
    "rates": "of each kind of network by rates alone",
}


def write_numbers(
    numbers: LawNumbers,
    ranges: Mapping[str, float],
    found: Judged,
    rows: Features,
    masks: Mapping[str, Mask],
    measured: Mapping[int, ErrorFactor],
    path: Path = ASSUMPTIONS,
) -> Path:
    """Replace the rows of the law in the assumptions; return their file.

    Args:
        ranges: factors by kind of network.
        measured: errors on the other networks of a box after so many of it were measured.
    """
    date = utc_now()[:10]
    counts = [len({of(row) for row in rows.rows}) for of in (lambda row: row.name, lambda row: row.gpu.name)]
    fitted = (
        "own fit (python benchmarks/external/judge.py --fit): law of a step (epochcast/roofline/network_law.py) "
        f"on {len(rows)} published steps of {counts[0]} networks on {counts[1]} GPUs"
    )
    new = []
    for name, value in asdict(numbers).items():
        words = SAME if new else _with_errors(fitted, found, masks)
        new.append([f"network_{name}", "gpu", f"{value:.{DIGITS}g}", UNITS.get(name, "1"), words, date, "single"])
    least = min(row.step_sec for row in rows.rows)
    new.append(
        [
            "network_least_step_sec",
            "gpu",
            f"{least:.{DIGITS}g}",
            "s",
            f"{SAME}: the fastest step",
            date,
            "single",
        ]
    )
    for kind, factor in ranges.items():
        words = (
            f"{SAME}: factor up and down that holds 90 % of the {masks[kind].sum()} steps of {kind} networks in each "
            "precision, with their GPU, family of networks or set left out"
        )
        new.append([f"network_range_{kind}", "gpu", f"{factor:.3g}", "1", words, date, "single"])
    for n, error in measured.items():
        by = "the factor of one of its networks" if n == 1 else f"the median factor of {MEASURED[n]} of its networks"
        words = (
            f"{SAME}: 90th percentile of the error factor on other networks of a box, by {by} (its median "
            f"{error.median:.2f})"
        )
        new.append([f"network_range_after_{MEASURED[n]}", "gpu", f"{error.p90:.3g}", "1", words, date, "single"])
    return _replace(new, path)


def write_ratio(
    exponents: Mapping[str, float],
    ranges: Mapping[str, float],
    found: JudgedRatio,
    masks: Mapping[str, Mask],
    path: Path = ASSUMPTIONS,
) -> Path:
    """Replace the rows of the ratio of two GPUs in the assumptions; return their file."""
    date = utc_now()[:10]
    errors = "; ".join(f"{name} {found.factor(mask)}" for name, mask in masks.items())
    fitted = (
        "own fit (python benchmarks/external/ratio/judge.py --fit): ratio of two GPUs (epochcast/gpus/ratio.py) on "
        f"{len(found.pairs)} pairs of published steps; error factors with a GPU left out, median / 90th percentile, by "
        f"the law of networks where layers are known: {errors}"
    )
    new = [
        [f"ratio_exponent_{name}", "gpu", f"{value:.3g}", "1", SAME_RATIO if i else fitted, date, "single"]
        for i, (name, value) in enumerate(exponents.items())
    ]
    for name, factor in ranges.items():
        which = RANGE_WORDS.get(name, f"of {name} networks")
        words = f"{SAME_RATIO}: factor up and down that holds 90 % of the pairs {which}"
        new.append([f"ratio_range_{name}", "gpu", f"{factor:.3g}", "1", words, date, "single"])
    return _replace(new, path)


def _replace(new: list[list[str]], path: Path) -> Path:
    """Write rows in place of those of the same names; return the file."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *kept = list(csv.reader(file))
    names = {row[0] for row in new}
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *(row for row in kept if row[0] not in names), *new])
    write_text_atomically(path, text.getvalue())
    return path


def _with_errors(words: str, found: Judged, masks: Mapping[str, Mask]) -> str:
    errors = "; ".join(
        f"{kind} "
        + ", ".join(f"{found.factor(group, mask)} with the {group} left out" for group in ("GPU", "family", "set"))
        for kind, mask in masks.items()
    )
    return f"{words}; error factors, median / 90th percentile: {errors}"
