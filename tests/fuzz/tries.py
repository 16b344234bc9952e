"""One try after the other: an input of a kind, the calls that take it, and what came of them."""

from __future__ import annotations

import gc
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.box import Box, changed_around, sandbox
from tests.fuzz.kinds import KINDS
from tests.fuzz.oracles import COLUMNS, Judge, peak_bytes

KEPT_INPUTS = 3  # of faults that look alike


@dataclass
class Result:
    """What came of one try; JSON between a worker and whoever sums up."""

    kind: str
    number: int
    outcome: str  # of its first call: accepted, refused or fault
    faults: list[tuple[str, str, str]] = field(default_factory=list)  # column, call, text
    peak_bytes: int = 0
    kept: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def attempt(kind: str, number: int, seed: int, box: Box, judge: Judge) -> Result:
    """One try; the same for the same kind, number and seed."""
    draw = Random(f"{seed}/{kind}/{number}")
    box.empty()
    before = box.around()
    result = Result(kind, number, "accepted")
    for i, call in enumerate(KINDS[kind].make(draw, box)):
        verdict = judge.call(call)
        if i == 0:
            result.outcome = verdict.outcome
        asked = f": {shlex.join(call.argv)[:300]}" if kind == "flags" and call.argv is not None else ""
        result.faults += [(column, call.name, text + asked) for column, text in verdict.faults]
        result.peak_bytes = max(result.peak_bytes, peak_bytes())
        if any(column == "hang" for column, _ in verdict.faults):
            break  # the other calls would hang as well
    if changed := changed_around(box, before):
        result.faults.append(("outside", "afterwards", "; ".join(changed)[:300]))
    if result.faults:
        result.outcome = "fault"
    return result


def signature(fault: tuple[str, str, str]) -> tuple[str, str, str]:
    """What faults of one cause have in common: the text without numbers, names and quotations."""
    column, call, text = fault
    text = re.sub(r"'[^']*'|\"[^\"]*\"|/\S+|\d[\d.,e+-]*", "_", text.partition(": ")[0])
    return column, call, text[:90]


def run_tries(
    tries: Iterable[tuple[str, int]], seed: int, out: Path | None = None, is_debug: bool = False
) -> Iterator[Result]:
    """The results of tries in order; the inputs of the first few faults of a cause are copied to `out`."""
    judge = Judge()
    seen: Counter[tuple[str, str, str]] = Counter()
    with sandbox() as box:
        for done, (kind, number) in enumerate(tries):
            if done % 200 == 0:
                gc.collect()  # what tracebacks hold
            result = attempt(kind, number, seed, box, judge)
            fresh = [fault for fault in result.faults if seen[signature(fault)] < KEPT_INPUTS]
            seen.update(map(signature, result.faults))
            if out is not None and fresh:
                target = out / f"{kind}-{seed}-{number}"
                lines = [f"{column}: {call}: {text}\n" for column, call, text in result.faults]
                box.keep(target, f"{repeat_command(kind, number, seed)}\n" + "".join(lines))
                result.kept = str(target)
            yield result


def repeat_command(kind: str, number: int, seed: int) -> str:
    """The command line that does one try again."""
    return f".venv/bin/python -m tests.fuzz --kind {kind} --only {number} --seed {seed}"


@dataclass
class Sums:
    """A kind's line in the table."""

    tries: int = 0
    accepted: int = 0
    refused: int = 0
    peak_bytes: int = 0
    columns: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        self.tries += 1
        self.accepted += result.outcome == "accepted"
        self.refused += result.outcome == "refused"
        self.peak_bytes = max(self.peak_bytes, result.peak_bytes)
        self.columns.update({column for column, _, _ in result.faults})  # tries, not faults


def table(sums: dict[str, Sums]) -> str:
    """Tries and what came of them by kind, for people."""
    names = {
        "traceback": "tracebacks",
        "silent": "silent",
        "hang": "hangs",
        "outside": "outside",
        "memory": "memory",
        "words": "words",
    }
    header = ["kind", "tries", "accepted", "refused", *(names[column] for column in COLUMNS), "worst MiB"]
    total = Sums()
    for each in sums.values():
        for name in ("tries", "accepted", "refused"):
            setattr(total, name, getattr(total, name) + getattr(each, name))
        total.columns.update(each.columns)
        total.peak_bytes = max(total.peak_bytes, each.peak_bytes)
    rows = [
        [name, each.tries, each.accepted, each.refused, *(each.columns[c] for c in COLUMNS), each.peak_bytes >> 20]
        for name, each in [*sums.items(), ("all", total)]
    ]
    cells = [header, *([f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in cells
    )
