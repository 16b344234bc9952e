"""Numbers, ranges, durations and tables as text for people."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from epochcast.text_sinks import one_line

MIB, GIB = 1 << 20, 1 << 30


def significant(value: float, digits: int = 3) -> str:
    """Return a number for people: `digits` significant figures, thousands grouped.

    Between 1e-4 and 1e15 it has no exponent.
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))  # of the rounded number: 9.999 is 10.0
    if not -5 < exponent < 15:
        return f"{value:.{digits - 1}e}"
    rounded = round(value, digits - 1 - exponent)
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}"


def range_text(low: float | None, high: float | None, unknown: str = "unknown") -> str:
    """Return a range for people, e.g. `0.458 to 0.489`; `unknown` if an end is unknown."""
    return unknown if low is None or high is None else f"{significant(low)} to {significant(high)}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Return words as people list them, e.g. `a, b and c`."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def percent(share: float) -> str:
    return f"{significant(100 * share)} %"


def memory_text(n_bytes: float) -> str:
    """Return a size for people, in GiB, or MiB where it is smaller."""
    if n_bytes >= GIB:
        return f"{significant(n_bytes / GIB)} GiB"
    return f"{significant(n_bytes / MIB)} MiB" if n_bytes >= MIB else "under 1 MiB"


def clock(seconds: float) -> str:
    """Return a duration for people: `45 s`, `12 min 30 s`, `3 h 05 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def named_lines(values: Mapping[str, Any]) -> list[str]:
    """Return `name: value` lines with 3 significant figures; None is unknown."""
    return [f"{name}: {'unknown' if value is None else cell_text(value)}" for name, value in values.items()]


def cell_text(value: Any) -> str:
    """Return a cell of a table: numbers with 3 significant figures, None as `-`."""
    return "-" if value is None else significant(value) if isinstance(value, float) else one_line(str(value))


def table_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a plain table: columns padded, numbers to the right, None as `-`."""
    cells = [list(header)]
    for row in rows:
        cells.append([cell_text(value) for value in row])
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    is_number = [all(re.fullmatch(r"[-+\d.,%e ]*", line[i]) for line in cells[1:]) for i in range(len(header))]
    lines = (
        "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, is_number, strict=True)).rstrip()
        for line in cells
    )
    return "\n".join(lines)


def json_line(value: Any) -> str:
    """A JSON value as `--json` prints it: one line that any reader of JSON takes.

    Raises:
        ValueError: for NaN and infinities, which JSON does not have.
    """
    return json.dumps(value, allow_nan=False)
