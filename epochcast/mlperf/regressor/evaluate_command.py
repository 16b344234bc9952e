"""`epochcast mlperf evaluate`: its flags, and what it answers."""

from __future__ import annotations

import argparse

from epochcast.cli import add_json_flag
from epochcast.flag_types import path_of, repeats_int
from epochcast.mlperf.records import MlperfRecord, read_records
from epochcast.mlperf.regressor.entries import EntryMedian, entry_medians
from epochcast.mlperf.regressor.evaluation import Errors, Evaluation, Leak, evaluate
from epochcast.mlperf.regressor.stored import ENTRIES, SHIPPED
from epochcast.mlperf.regressor.train_command import add_seed_flag
from epochcast.output.progress import progress
from epochcast.output.text import json_line, percent, table_text
from epochcast.storage.tables import read_table

WHAT = (
    "Judge the predicted times of published trainings: by entry, by submitter, by configuration, by device family and\n"
    "forward in time. Each fold is predicted by what was learned from the others alone."
)
EXAMPLE = "epochcast mlperf evaluate records.csv"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `epochcast mlperf evaluate`."""
    what = "table of runs, by epochcast mlperf extract (default: the entries that come with the program)"
    parser.add_argument("records", type=path_of, nargs="?", metavar="RECORDS", help=what)
    what = "how often folds are drawn anew"
    parser.add_argument("--repeats", type=repeats_int, default=1, metavar="N", help=what)
    add_seed_flag(parser)
    add_json_flag(parser)


def answer(arguments: argparse.Namespace) -> str:
    """Return the errors on all splits."""
    entries: list[EntryMedian] = []
    records: list[MlperfRecord] = []
    if arguments.records is None:
        entries = read_table(SHIPPED / ENTRIES, EntryMedian)
    else:
        records = read_records(arguments.records)
        entries = list(entry_medians(records).entries)
    found = evaluate(entries, records, arguments.repeats, arguments.seed, progress("judging"))
    return json_line(found.to_json()) if arguments.json else evaluation_text(found)


def evaluation_text(found: Evaluation) -> str:
    """Return the errors by split, basis and benchmark, as tables."""
    lines = [
        f"{found.entries:,} entries; folds drawn {found.repeats} times from seed {found.seed}",
        "",
        _table("split", found.splits),
        "",
        "MdAPE, MAPE, p90: median, mean and 90th percentile of the error of a time over the true one; from, to: MdAPE",
        "of the best and worst draw of folds; in range: share of true times within their range, of median factor",
        "`factor`; nearest, law: MdAPE of the nearest entry and of one power law.",
        "",
        _table("what is known (entry, configuration, family)", found.bases),
        "",
        _table("benchmark (split by entry)", found.benchmarks),
    ]
    if found.not_judged:
        lines += ["", "entries not judged, over all splits:"]
        lines += [f"  {n:>6,}  {reason}" for reason, n in found.not_judged.items()]
    return "\n".join([*lines, "", *_leak_lines(found.leak)])


def _table(title: str, errors: dict[str, Errors]) -> str:
    header = (title, "n", "MdAPE", "from", "to", "MAPE", "p90", "R2 log", "in range", "factor", "nearest", "law")
    rows = [
        [
            name,
            each.n,
            *(_percent(value) for value in (each.mdape, each.mdape_low, each.mdape_high, each.mape, each.p90_ape)),
            *(None if value is None else f"{value:.3f}" for value in (each.r2_log, each.coverage)),
            None if each.range_factor is None else f"{each.range_factor:.2f}",
            _percent(each.nearest_mdape),
            _percent(each.law_mdape),
        ]
        for name, each in errors.items()
    ]
    return table_text(header, rows)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _leak_lines(leak: Leak | None) -> list[str]:
    if leak is None:
        return ["The split of runs at random needs RECORDS: the entries alone have no runs."]
    rows = [
        ["regressor", _percent(leak.mdape), _percent(leak.mape)],
        ["lookup of the repeats", _percent(leak.lookup_mdape), _percent(leak.lookup_mape)],
    ]
    return [
        f"Runs split at random, which leaks: {percent(leak.share_repeated)} of {leak.n:,} judged runs have repeats of",
        "their own entry among the runs learned from. A lookup of those has no answer for another system.",
        "",
        table_text(("random runs", "MdAPE", "MAPE"), rows),
    ]
