"""Mutated tables: runs, failures, exclusions and averages, read by the library and by every command that takes them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from epochcast.aggregate.averages.source import source_file_of, write_agg
from epochcast.aggregate.averages.table import AggTable, load_agg
from epochcast.live.fits import FitRecord, rows_or_why
from epochcast.schema import AggRow, Exclusion, FailureRecord, RunRecord
from epochcast.storage.table_appends import append_row, check_appendable
from epochcast.storage.tables import RunTable, read_runs, read_table
from tests.fuzz.box import Box
from tests.fuzz.drops import faults_of, lines_of
from tests.fuzz.json_mutate import mutate_json_file, twice_named
from tests.fuzz.mutate import mutate_table, put
from tests.fuzz.oracles import Call, Heard
from tests.fuzz.samples import samples
from tests.support.rows import fit_row, run_row


@cache
def _originals(data: bytes) -> frozenset[str]:
    return frozenset((lines_of(data) or [])[1:])


def read_call(path: Path, kind: type[Any], original: bytes) -> Call:
    """A table read by the library; what it drops is a fault."""
    data = path.read_bytes() if path.is_file() and path.resolve().parent == path.parent else None

    def check(records: Any, heard: Heard) -> list[str]:
        if data is None:
            return ["something that is no file was read as a table"] if not path.is_symlink() else []
        # a list that people write has no mark of a row's end: its last line may lack the line end
        whole = frozenset() if kind is Exclusion else _originals(original)
        return faults_of(data, records, heard.text, whole)

    return Call("read_table", lambda: read_table(path, kind), check, named=(path,))


def runs(draw: Random, box: Box) -> Iterator[Call]:
    """A mutated table of runs."""
    original = draw.choices(samples().tables, (3, 1, 1))[0]
    path = box.path("runs.csv")
    put(draw, path, mutate_table(draw, original))
    yield read_call(path, RunRecord, original)
    yield Call("read_runs", lambda: read_runs(path), named=(path,))
    yield _command_on_runs(draw, box, path)
    if draw.random() < 0.2:
        yield from _appended(path, _a_row())


def _command_on_runs(draw: Random, box: Box, path: Path) -> Call:
    sound = box.write("sound.csv", samples().other_runs)
    as_json = ["--json"] if draw.random() < 0.5 else []
    out = box.path("out.csv")
    name = draw.choices(("check", "aggregate", "compare", "migrate", "merge", "grid", "plan"), (3, 4, 2, 2, 2, 1, 1))[0]
    if name == "check":
        return box.command(name, "--runs", path, *as_json)
    if name == "aggregate":
        return box.command(name, "--runs", path, "--out", out, *as_json, check=lambda _, heard: _averaged(path, out))
    if name == "compare":
        return box.command(name, path, sound, *as_json)
    if name == "migrate":
        return box.command(name, "--runs", path, "--out", out, *as_json, check=lambda _, heard: _lifted([path], out))
    if name == "merge":
        return box.command(name, path, sound, "--out", out, *as_json, check=lambda _, h: _lifted([path, sound], out))
    if name == "grid":
        return box.command(name, "--dry_run", "--runs", path)
    agg = box.path("runs_agg.csv")
    return box.command(name, "--budget", "1h", "--runs_agg", agg, *as_json)


def _averaged(path: Path, out: Path) -> list[str]:
    """Whether every run that is read enters the averages or is accounted for."""
    n_used = sum(row.n for row in read_table(out, AggRow))
    result = write_agg(path, out.with_name("again.csv"))
    n_read = len(read_table(path, RunRecord))
    if (result.n_used, result.n_read) != (n_used, n_read):
        return [f"{n_read} rows, {result.n_read} counted, {result.n_used} used, {n_used} averaged"]
    lost = n_read - result.n_used - result.n_left_out - result.n_excluded
    return [f"{lost} of {n_read} rows are in no count"] if lost else []


def _lifted(paths: list[Path], out: Path) -> list[str]:
    """Whether the new table has every row of the old ones."""
    before = {_run_of(row): row for path in paths for row in read_table(path, RunRecord)}
    lost = before.keys() - {_run_of(row) for row in read_table(out, RunRecord)}
    return [f"{len(lost)} rows are not in the new table, e.g. {str(next(iter(lost)))[:100]}"] if lost else []


def _run_of(row: RunRecord) -> tuple[Any, ...]:
    """What is a run's own, whatever a merge calls it."""
    return row.timestamp_utc, row.config, row.epoch_times_json, row.test_acc


def _appended(path: Path, record: RunRecord | FitRecord) -> Iterator[Call]:
    """A row appended to a mutated table must leave one that is read with every row of before."""
    kind = type(record)
    known = path.read_bytes() if path.is_file() and not path.is_symlink() else None

    def append() -> None:
        check_appendable(path, kind)
        append_row(path, record)

    def check(_: Any, heard: Heard) -> list[str]:
        after = path.read_bytes()
        torn = path.with_name(path.name + ".torn")
        kept = known or b""
        if not after.startswith(kept[: kept.rfind(b"\n") + 1]):
            return ["a line that stood in the table is no more"]
        lost = kept[kept.rfind(b"\n") + 1 :]
        if lost and not after.startswith(kept) and lost not in (torn.read_bytes() if torn.exists() else b""):
            header = after.partition(b"\n")[0]
            if not header.startswith(lost):
                return ["the last line is neither in the table nor beside it"]
        try:
            rows = read_table(path, kind)
        except ValueError as error:
            before = _reads(path, kept, kind)
            return [f"no reader takes the table after an append: {error}"] if before else []
        return [] if rows and rows[-1].run_id == record.run_id else ["the appended row is not the last"]

    yield Call("append_row", append, check, named=(path,), writes=(path.parent,))


def _reads(path: Path, data: bytes, kind: type[Any]) -> bool:
    """Whether a table of these bytes is read."""
    copy = path.with_name("copy.csv")
    copy.write_bytes(data)
    try:
        read_table(copy, kind)
    except (ValueError, OSError):
        return False
    return True


@cache
def _a_row() -> RunRecord:
    return run_row(run_id="appended", schema_version=2)


def fits(draw: Random, box: Box) -> Iterator[Call]:
    """A mutated table of estimates and fits."""
    original = samples().fits
    path = box.path("fits.csv")
    put(draw, path, mutate_table(draw, original))
    yield read_call(path, FitRecord, original)

    def check(found: tuple[list[FitRecord], list[str]], heard: Heard) -> list[str]:
        rows, notes = found
        return [f"{len(rows)} rows and {len(notes)} notes"] if notes and (rows or len(notes) > 1) else []

    yield Call("rows_or_why", lambda: rows_or_why(path), check, named=(path,))
    if draw.random() < 0.2:
        yield from _appended(path, fit_row(run_id="appended"))


def failures(draw: Random, box: Box) -> Iterator[Call]:
    """A mutated failures.csv or excluded.csv beside a sound table of runs."""
    runs_path = box.write("runs.csv", samples().runs)
    is_failures = draw.random() < 0.5
    kind, name = (FailureRecord, "failures.csv") if is_failures else (Exclusion, "excluded.csv")
    original = samples().failures if is_failures else samples().excluded
    path = box.path(name)
    put(draw, path, mutate_table(draw, original))
    yield read_call(path, kind, original)
    if not is_failures:
        yield Call("read_runs", lambda: read_runs(runs_path), _excluded, named=(path,))
    command = draw.choice(("check", "grid", "aggregate", "merge", "migrate"))
    if command == "grid":
        yield box.command(command, "--dry_run", "--runs", runs_path)
    elif command == "aggregate":
        yield box.command(command, "--runs", runs_path, "--out", box.path("out.csv"), "--json")
    elif command == "merge":
        other = box.write("other.csv", samples().older_runs)
        yield box.command(command, runs_path, other, "--out", box.path("out") / "runs.csv")
    elif command == "migrate":
        yield box.command(command, "--runs", runs_path, "--out", box.path("out") / "runs.csv", "--json")
    else:
        yield box.command(command, "--runs", runs_path, "--json")


def _excluded(table: RunTable, heard: Heard) -> list[str]:
    n_all = len(lines_of(samples().runs) or []) - 1
    if len(table.rows) + len(table.excluded) != n_all:
        return [f"{n_all} runs, {len(table.rows)} read and {len(table.excluded)} excluded"]
    unsaid = [str(row.run_id) for row, _ in table.excluded if str(row.run_id) not in heard.text]
    return [f"{unsaid[0]} is excluded without a word"] if unsaid else []


def averages(draw: Random, box: Box) -> Iterator[Call]:
    """A mutated table of averages, with or without its source record, or a mutated record."""
    original, source = samples().agg, samples().agg_source
    path = box.path("runs_agg.csv")
    has_source, is_record = draw.random() < 0.6, draw.random() < 0.3
    if has_source:
        box.write("runs.csv", samples().runs)
    if has_source and is_record:
        path.write_bytes(original)
        put(draw, source_file_of(path), mutate_json_file(draw, source))
    else:
        put(draw, path, mutate_table(draw, original))
        if has_source:
            source_file_of(path).write_bytes(source)
        yield read_call(path, AggRow, original)
    data = path.read_bytes() if path.is_file() else None  # also behind a link
    record = source_file_of(path)
    named = (path, record, box.path("runs.csv"))
    twice = twice_named(record.read_bytes()) if record.is_file() and not record.is_symlink() else None

    def check(table: AggTable, heard: Heard) -> list[str]:
        if twice is not None:
            return [f"a record with {twice!r} twice was taken"]
        if data is None or "used as it is" not in table.origin:
            is_own = table.rows == _sound_averages(box)
            return [] if is_own else [f"other averages than its runs give: {table.origin}"]
        return faults_of(data, table.rows, heard.text, _originals(original))

    yield Call("load_agg", lambda: load_agg(path, keeps=False), check, named=named)
    command = draw.choices(("plan", "next_runs", "train", "figures", "check", "predict"), (4, 4, 4, 0.2, 4, 4))[0]
    flags: list[str | Path] = ["--runs_agg", path] if command not in ("predict", "check") else []
    if command == "plan":
        flags += ["--budget", "1h"]
    elif command == "train":
        flags += ["--conditions", "depth=2"]  # too few rows to learn from: only reading is tried
    elif command == "figures":
        flags += ["--out", box.path("figures")]
    elif command == "check":
        flags += ["--runs", box.write("runs.csv", samples().runs), "--runs_agg", path]
    elif command == "predict":
        box.write("home/results/runs_agg.csv", data or b"")
    yield box.command(command, *flags, *(["--json"] if draw.random() < 0.5 else []))


def _sound_averages(box: Box) -> list[AggRow]:
    sound = box.write("sound_agg.csv", samples().agg)
    return read_table(sound, AggRow)
