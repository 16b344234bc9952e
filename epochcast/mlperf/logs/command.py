"""`epochcast mlperf extract`: its flags, and what it answers."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from epochcast.cli import add_json_flag
from epochcast.flag_types import path_of
from epochcast.mlperf.logs.extraction import extract
from epochcast.mlperf.logs.joining import Extraction
from epochcast.output.progress import progress
from epochcast.output.text import json_line, table_text

WHAT = (
    "Read the result logs of MLPerf Training into a table with a row for each timed run.\n"
    "A run that was stopped goes on where it was; nothing is unpacked, and nothing is fetched."
)
EXAMPLE = "epochcast mlperf extract training_results_v5.0 --out records.csv"
_ROUND = re.compile(r"v?(\d{1,2}\.\d{1,2})")


def round_name(text: str) -> str:
    """Return the round that a flag names."""
    match = _ROUND.fullmatch(text) if text.isascii() else None
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a round like 4.0, got {text[:60]!r}")
    return match[1]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `epochcast mlperf extract`."""
    parser.add_argument(
        "source",
        type=path_of,
        metavar="SRC",
        help="folder, git clone or tar (.tar, .tar.gz, .tar.xz, .tar.bz2) of one or several results repositories",
    )
    parser.add_argument("--out", type=path_of, required=True, metavar="PATH", help="table of runs to write")
    what = "round of logs whose folders name none (default: the one that SRC is named after)"
    parser.add_argument("--round", type=round_name, metavar="N.N", help=what)
    add_json_flag(parser)


def answer(arguments: argparse.Namespace) -> str:
    """Write the table that is asked for, and return what was found."""
    found = extract(arguments.source, arguments.out, arguments.round, progress("reading logs"))
    if arguments.json:
        return json_line({"out": str(arguments.out), **found.to_json()})
    return extraction_text(found, arguments.out)


def extraction_text(found: Extraction, out: Path) -> str:
    """Return what was found, by round, and why files gave no row."""
    n_logs = sum(each.logs for each in found.rounds)
    n_usable = sum(record.is_usable for record in found.records)
    lines = [f"{len(found.records):,} timed runs of {n_logs:,} logs in {out}, {n_usable:,} of them usable"]
    if found.n_known:
        lines.append(f"{found.n_known:,} logs had been read before")
    lines += ["", "timed, usable and closed count logs; systems and entries are without duplicates", ""]
    columns = ("round", "logs", "absent", "timed", "usable", "closed", "duplicates", "systems", "entries")
    lines.append(table_text(columns, [[getattr(each, name) for name in columns] for each in found.rounds]))
    counted = {
        "files without a row": found.unused,
        "rows that are not usable": found.not_usable,
        "usable rows of devices that epochcast facts gpus does not name so": found.unknown_devices,
    }
    for title, reasons in counted.items():
        if reasons:
            lines += ["", f"{title}:", *(f"  {n:>8,}  {reason}" for reason, n in reasons.items())]
    return "\n".join(lines)
