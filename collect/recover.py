"""Append the rows of finished runs that could not be appended: a full disk, a kill between measuring and writing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from epochcast.cli import make_parser, path_flag, print_home, run_command
from epochcast.paths import logs_dir, runs_csv
from epochcast.schema import RunRecord, from_json_dict
from epochcast.tables import append_row, read_table


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found: rows appended now, and files that hold no row."""

    appended: list[RunRecord]
    unreadable: list[str]


def recover(runs: Path, log_dir: Path) -> Recovery:
    """Append every row kept in `log_dir/*.json` for this table that the table lacks.

    Raises:
        ValueError, OSError: if the table can't be read or appended to.
    """
    runs = runs.absolute()
    known = {row.run_id for row in read_table(runs, RunRecord)} if runs.exists() else set()
    appended, unreadable = [], []
    for path in sorted(log_dir.glob("*.json")):
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            record = from_json_dict(RunRecord, kept["row"])
            table = Path(kept["table"])
        except (ValueError, KeyError, TypeError) as error:
            unreadable.append(f"{path}: {error!r}")
            continue
        if record.run_id not in known and (table == runs or not table.exists()):
            append_row(runs, record)
            known.add(record.run_id)
            appended.append(record)
    return Recovery(appended, unreadable)


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("epochcast recover", __doc__ or "", "epochcast recover --runs results/runs.csv --log_dir logs")
    path_flag(parser, "--runs", runs_csv, "table to append to")
    path_flag(parser, "--log_dir", logs_dir, "folder that holds <run_id>.json of each finished run")
    arguments = parser.parse_args(argv)

    def work() -> int:
        print_home()
        found = recover(arguments.runs, arguments.log_dir)
        for record in found.appended:
            print(f"appended: {record.run_id} {record.config}")
        for problem in found.unreadable:
            print(f"skipped: {problem}")
        print(f"rows_appended: {len(found.appended)}")
        print(f"runs: {arguments.runs.absolute()}")
        return 0

    return run_command(work)
