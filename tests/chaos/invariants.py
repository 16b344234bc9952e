"""What must hold after whatever happened, each check in one place: pairs of what is wrong (trials.WHATS) and a text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.aggregate.averages.table import load_agg
from epochcast.error_text import describe_error
from epochcast.live.fits import FitRecord
from epochcast.schema import AggRow, RunRecord
from epochcast.storage.files import write_json_atomically
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_runs, read_table
from tests.chaos.material import row_of
from tests.chaos.processes import Ending, call

Found = list[tuple[str, str]]
Row = RunRecord | FitRecord


# --- rows ------------------------------------------------------------------------------------------------------------


def row_faults(rows: Sequence[Row], promised: Iterable[str], written: Mapping[str, Row]) -> Found:
    """Rows against what was promised (run_ids) and what was written at all (rows by run_id)."""
    found: Found = []
    counts = Counter(str(row.run_id) for row in rows)
    found += [("lost", f"a promised row is not in the table | {run_id}") for run_id in promised if not counts[run_id]]
    found += [
        ("doubled", f"a run stands in the table more than once | {i}, {n} times") for i, n in counts.items() if n > 1
    ]
    for row in rows:
        expected = written.get(str(row.run_id))
        if expected is None:
            found.append(("torn", f"a row that nobody wrote | {row.run_id}"))
        elif row != expected and counts[str(row.run_id)] == 1:
            found.append(("torn", f"a row is not what was written | {row.run_id}: {_differing(row, expected)}"))
    return found


def _differing(row: Row, expected: Row) -> str:
    names = [f.name for f in fields(row) if getattr(row, f.name) != getattr(expected, f.name)]
    return "; ".join(f"{n} {getattr(row, n)!r}, not {getattr(expected, n)!r}" for n in names[:2])


def table_faults(
    path: Path, promised: Iterable[str], written: Mapping[str, Row], make: Callable[[str, int], Row] = row_of
) -> Found:
    """A table as its readers and the next writer find it: nothing lost, doubled or mixed, a torn line moved aside."""
    promised = list(promised)
    if not path.exists():
        return [("lost", f"there is no table | {len(promised)} rows were promised")] if promised else []
    before = path.read_bytes()
    probe = make("probe", 12345)
    kind = type(probe)
    first = call(lambda: read_table(path, kind))
    if first.error is not None and promised:
        return [("torn", f"the table can't be read | {first.error}")]
    rows: list[Row] = first.value or []  # a header that a kill cut short is an error, and promised nothing
    found = row_faults(rows, promised, written)
    appended = call(lambda: append_row(path, probe))
    if appended.error is not None:
        return [*found, ("torn", f"the next append fails | {appended.error}")]
    second = call(lambda: read_table(path, kind))
    if second.error is not None:
        return [*found, ("torn", f"the table can't be read after the next append | {second.error}")]
    if second.value != [*rows, probe]:
        found.append(("torn", f"the next append changed rows | {len(rows)} rows before, {len(second.value)} after"))
    if "cut short" in second.output or not path.read_bytes().endswith(b"\n"):
        found.append(("torn", f"a torn line stays after the next append | {second.output[:200]}"))
    tail = before[before.rfind(b"\n") + 1 :]
    if rows and tail:
        torn = path.with_name(path.name + ".torn")
        is_kept = torn.exists() and tail in torn.read_bytes()
        if not is_kept and tail not in path.read_bytes():
            found.append(("torn", f"a torn line is kept nowhere | {tail[:80]!r}"))
    return found


# --- files -----------------------------------------------------------------------------------------------------------


def leftover_faults(folder: Path) -> Found:
    """Temporary files of dead processes that stay below a folder when the next command writes beside them."""
    for beside in {path.parent for path in _hidden(folder)}:
        call(lambda beside=beside: write_json_atomically(beside / "next.json", {})).returned()
        (beside / "next.json").unlink()
    text = "a temporary file of a dead process stays after the next command"
    return [("other", f"{text} | {path.relative_to(folder)}") for path in _hidden(folder)]


def _hidden(folder: Path) -> list[Path]:
    """Hidden files, but for empty ones that are there to be locked, and stay."""
    found = (path for path in folder.rglob(".*") if path.is_file())
    return sorted(path for path in found if not (path.suffix == ".lock" and path.stat().st_size == 0))


def error_faults(ending: Ending, folder: Path) -> Found:
    """What is wrong with how a call failed: only ValueError and OSError are expected, and they name a path."""
    error = ending.error
    if error is None:
        return []
    if not isinstance(error, OSError | ValueError):
        return [("other", f"{type(error).__name__} instead of ValueError or OSError | {error}: {_last_lines(ending)}")]
    if str(folder) not in describe_error(error):
        return [("other", f"an error without a path | {describe_error(error)!r}: {_last_lines(ending)}")]
    return []


def _last_lines(ending: Ending) -> str:
    """The innermost lines of the traceback as `file.py:12`, innermost first."""
    places = re.findall(r'File "(?:.*/)?([^/"]+)", line (\d+)', ending.trace)
    return " < ".join(f"{file}:{line}" for file, line in reversed(places[-3:]))


# --- averages --------------------------------------------------------------------------------------------------------


def average_faults(agg: Path, runs: Path) -> Found:
    """Averages as the next reader gets them, and the one after: equal to those made anew from the runs."""
    fresh: list[AggRow] = call(lambda: aggregate(read_runs(runs)).rows).returned()
    for reader in ("the next reader", "the reader after that"):
        loaded = call(lambda: load_agg(agg))
        if loaded.error is not None:
            return [("wrong", f"{reader} of the averages fails | {loaded.error}")]
        if loaded.value.rows != fresh:
            counts = f"n {sum(row.n for row in loaded.value.rows)}, not {sum(row.n for row in fresh)}"
            text = f"{reader} gets averages that are not those of the runs | {loaded.value.origin}: {counts}"
            return [("wrong", text)]
    return []
