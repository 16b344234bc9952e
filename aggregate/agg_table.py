"""runs_agg.csv as a cache of its runs.csv, and the choice of one set of conditions out of it.

A JSON file beside the table names the source and both hashes, so that a command which finds the cache out of date makes
it anew, and a table that came from elsewhere is used as it is and called so.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from aggregate.runs_agg import Aggregation, aggregate, report_json, report_lines
from epochcast.cells import columns
from epochcast.cli import (
    json_line,
    make_parser,
    matches,
    path_flag,
    print_home,
    run_command,
)
from epochcast.files import sha256_of, write_json_atomically
from epochcast.paths import excluded_csv, runs_agg_csv, runs_csv
from epochcast.schema import PUBLISHED_AGG_COLUMNS, AggRow, Conditions
from epochcast.tables import read_runs, read_table, write_table

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AggTable:
    """Aggregated rows with where they come from, in words; `source` is the runs.csv, None where there is none."""

    path: Path
    rows: list[AggRow]
    origin: str
    source: Path | None


def source_file_of(path: Path) -> Path:
    return path.with_name(path.name + ".source.json")


def source_hashes(runs: Path) -> dict[str, str | None]:
    exclusions = excluded_csv(runs)
    return {"runs_sha256": sha256_of(runs), "excluded_sha256": sha256_of(exclusions) if exclusions.exists() else None}


def write_agg(runs: Path, out: Path) -> Aggregation:
    """Aggregate a runs.csv into `out`, with the file beside it that names the source.

    Raises:
        ValueError, OSError: if the runs can't be read or aggregated, or `out` can't be written.
    """
    runs, out = runs.absolute(), out.absolute()
    _refuse_another_kind(out)
    # before reading: a row appended meanwhile makes the cache look old, not new; a missing table is read_runs's to tell
    hashes = source_hashes(runs) if runs.exists() else {}
    result = aggregate(read_runs(runs))
    write_table(out, result.rows, AggRow)
    # by name alone where both lie in one folder: moved or copied, it keeps to its own runs
    source = runs.name if runs.parent == out.parent else str(runs)
    write_json_atomically(source_file_of(out), {"source": source, **hashes, "agg_sha256": sha256_of(out)})
    return result


def _refuse_another_kind(out: Path) -> None:
    """Raise a ValueError where `out` is a file but no table of averages: a slip must not cost a runs.csv."""
    if not out.is_file():
        return
    with out.open("rb") as file:
        start = file.readline()
    own = ",".join(columns(AggRow)[:PUBLISHED_AGG_COLUMNS]).encode()
    if start and not start.removeprefix(b"\xef\xbb\xbf").startswith(own):
        raise ValueError(f"{out} is no table of averages and is not replaced. Name another with --out.")


def load_agg(path: Path, is_frozen: bool = False, keeps: bool = True) -> AggTable:
    """The rows of a runs_agg.csv, made anew where its runs.csv has changed since (or where only that exists yet).

    What is made anew is written for the next reader, unless `keeps` is false.

    Raises:
        FileNotFoundError: if there is neither such a table nor runs beside it.
        ValueError: if the table is wrong, or out of date while `is_frozen`.
    """
    path = path.absolute()
    source_file = source_file_of(path)
    if not path.exists():
        runs = path.with_name("runs.csv")
        if path.name != "runs_agg.csv" or not runs.exists():
            raise FileNotFoundError(f"{path}: no such table. Measure first: python collect/run_one.py")
        if is_frozen:
            raise FileNotFoundError(f"{path}: no such table yet, and --frozen forbids to make it from {runs}.")
        return AggTable(path, _made_anew(runs, path, keeps), f"made now from {runs}", runs)
    if not source_file.exists():
        return AggTable(path, _read_agg(path), "a table without a source, used as it is", None)
    try:
        recorded = json.loads(source_file.read_text(encoding="utf-8"))
        runs = path.parent / recorded["source"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{source_file}: not a source record ({error!r}). Delete it, or aggregate again.") from None
    if recorded.get("agg_sha256") != sha256_of(path):
        return AggTable(path, _read_agg(path), "a table edited since it was aggregated, used as it is", None)
    if not runs.exists():
        return AggTable(path, _read_agg(path), f"a table whose source {runs} is gone, used as it is", None)
    if all(recorded.get(name) == value for name, value in source_hashes(runs).items()):
        return AggTable(path, _read_agg(path), f"up to date with {runs}", runs)
    if is_frozen:
        raise ValueError(f"{path} is older than {runs}, and --frozen forbids to make it anew.")
    return AggTable(path, _made_anew(runs, path, keeps), f"was out of date: made anew from {runs}", runs)


def load_agg_if_any(path: Path | None, is_frozen: bool = False, keeps: bool = True) -> AggTable | None:
    """As `load_agg`; with no path named the default one, and None where nothing is measured yet.

    Raises:
        FileNotFoundError: if a table that was named does not exist.
        ValueError: as `load_agg`.
    """
    if path is not None:
        return load_agg(path, is_frozen, keeps)
    path = runs_agg_csv()
    runs = path.with_name("runs.csv")
    # a header alone is what a run leaves that failed or goes on
    has_any = path.exists() or (runs.exists() and bool(read_runs(runs).rows))
    return load_agg(path, is_frozen, keeps) if has_any else None


def _made_anew(runs: Path, out: Path, keeps: bool) -> list[AggRow]:
    """The averages of `runs`, kept in `out` if it can be written: a cache that can't is no reason not to answer."""
    if not keeps:
        return aggregate(read_runs(runs)).rows
    try:
        return write_agg(runs, out).rows
    except OSError as error:
        if not runs.exists():
            raise
        logger.warning("the averages could not be kept: %s", error)
        return aggregate(read_runs(runs)).rows


def _read_agg(path: Path) -> list[AggRow]:
    rows = read_table(path, AggRow)
    if not rows:
        raise ValueError(f"{path} holds no row.")
    return [_without_false_zeros(row) for row in rows]


def _without_false_zeros(row: AggRow) -> AggRow:
    """A published table writes 0 for the deviation of one run; it is unknown."""
    if row.n > 1:
        return row
    return replace(row, avg_time_std=None, thr_std=None, acc_std=None)


def one_set_of_conditions(rows: Sequence[AggRow], filters: Sequence[Mapping[str, str]]) -> list[AggRow]:
    """The rows that the filters let through, all measured under the same conditions.

    Raises:
        ValueError: if none is left, or several sets of conditions are: then it lists how they differ.
    """
    chosen = [row for row in rows if not filters or matches(row, filters)]
    if not chosen:
        asked = " ".join(_as_flag(pairs) for pairs in filters)
        counts = Counter(row.conditions.describe() for row in rows)
        listed = "\n".join(f"  {conditions}   ({n} rows)" for conditions, n in counts.items())
        raise ValueError(f"none of {len(rows)} rows satisfies {asked}. The table holds:\n{listed}")
    if (n_sets := len({row.conditions for row in chosen})) > 1:
        raise ValueError(
            f"the table mixes {n_sets} sets of conditions, which are never averaged or fitted together. "
            f"Choose one:\n{_choices(rows, {row.conditions for row in chosen})}"
        )
    return chosen


def _choices(rows: Sequence[AggRow], shown: Collection[Conditions]) -> str:
    """The flag that picks each of the sets of conditions shown out of all rows, one in a line."""
    counts = Counter(row.conditions for row in rows)
    sets = {conditions: asdict(conditions) for conditions in counts}
    differing = [name for name in columns(Conditions) if len({s[name] for s in sets.values()}) > 1]
    return "\n".join(
        f"  {_as_flag({name: sets[conditions][name] for name in differing})}   ({n} rows)"
        for conditions, n in counts.items()
        if conditions in shown
    )


def _as_flag(pairs: Mapping[str, Any]) -> str:
    """`--conditions` with these pairs, as a shell takes it; unknown is an empty value."""
    return "--conditions " + shlex.quote(",".join(f"{k}={'' if v is None else v}" for k, v in pairs.items()))


# --- command ---------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "epochcast aggregate",
        "Average the repeats of each configuration: seconds per epoch, images per second, accuracy, with their spread.",
        "epochcast aggregate --runs results/runs.csv --out results/runs_agg.csv",
    )
    path_flag(parser, "--runs", runs_csv, "table of runs to read")
    path_flag(parser, "--out", runs_agg_csv, "table of averages to write")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    arguments = parser.parse_args(argv)

    def work() -> int:
        print_home()
        result = write_agg(arguments.runs, arguments.out)
        if arguments.json:
            print(json_line({**report_json(result), "out": str(arguments.out.absolute())}))
        else:
            print("\n".join([*report_lines(result), f"runs_agg: {arguments.out.absolute()}"]))
        return 0

    return run_command(work)
