"""Append the rows of finished runs that could not be appended: a full disk, a kill between measuring and writing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from collect.runner import RunClaimedError, claimed_log
from epochcast.cli import make_parser, path_flag, print_home, run_command
from epochcast.paths import logs_dir, runs_csv
from epochcast.schema import RunRecord, from_json_dict
from epochcast.tables import append_row, read_table


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found: rows appended now, rows left to other tables, and files that hold no row."""

    appended: list[RunRecord]
    n_elsewhere: int
    unreadable: list[str]


def recover(runs: Path, log_dir: Path, *, takes_orphans: bool = False) -> Recovery:
    """Append every row kept in `log_dir/*.json` for this table that the table lacks.

    `takes_orphans` also appends rows of tables that exist no more, which may have been moved here.

    Raises:
        ValueError, OSError: if the table can't be read or appended to.
    """
    runs = runs.absolute()
    known = _known(runs)
    found = Recovery([], 0, [])
    n_elsewhere = 0
    for path in sorted(log_dir.glob("*.json")):
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            record = from_json_dict(RunRecord, kept["row"])
            table = Path(kept["table"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            found.unreadable.append(f"{path}: {error!r}")
            continue
        if record.run_id in known:
            continue
        if table.resolve() != runs.resolve() and not (takes_orphans and not table.exists()):
            n_elsewhere += 1
        elif _append_once(runs, record, path):
            known.add(record.run_id)
            found.appended.append(record)
    return replace(found, n_elsewhere=n_elsewhere)


def _known(runs: Path) -> set[str | None]:
    return {row.run_id for row in read_table(runs, RunRecord)} if runs.exists() else set()


def _append_once(runs: Path, record: RunRecord, kept_in: Path) -> bool:
    """Append a kept row unless another process has done so by now, or is about to."""
    try:
        with claimed_log(kept_in.parent, kept_in.stem):
            if record.run_id in _known(runs):
                return False
            append_row(runs, record)
            return True
    except RunClaimedError:
        return False


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("epochcast recover", __doc__ or "", "epochcast recover --runs results/runs.csv --log_dir logs")
    path_flag(parser, "--runs", runs_csv, "table to append to")
    path_flag(parser, "--log_dir", logs_dir, "folder that holds <run_id>.json of each finished run")
    arguments = parser.parse_args(argv)

    def work() -> int:
        print_home()
        found = recover(arguments.runs, arguments.log_dir, takes_orphans=True)
        for record in found.appended:
            print(f"appended: {record.run_id} {record.config}")
        for problem in found.unreadable:
            print(f"skipped: {problem}")
        print(f"rows_appended: {len(found.appended)}")
        print(f"rows_of_other_tables: {found.n_elsewhere}")
        print(f"runs: {arguments.runs.absolute()}")
        return 0

    return run_command(work)
