"""One row per configuration and conditions from the runs of a table: means of steady times, spreads, counts.

runs_agg.csv is a cache of its runs.csv. A JSON file beside it names the source and both hashes, so that a command
which finds the cache out of date makes it anew, and a table that came from elsewhere is used as it is and called so.
"""

from __future__ import annotations

import json
import logging
import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from epochcast.cells import columns
from epochcast.cli import (
    make_parser,
    matches,
    path_flag,
    percent,
    print_home,
    run_command,
    significant,
)
from epochcast.files import sha256_of, write_json_atomically
from epochcast.paths import excluded_csv, runs_agg_csv, runs_csv
from epochcast.schema import (
    PUBLISHED_AGG_COLUMNS,
    TRAIN_N,
    UNCLEAN_FLAGS,
    AggRow,
    Conditions,
    RunConfig,
    RunRecord,
    to_json_dict,
)
from epochcast.stats import SteadyTime, mean_and_std, steady_time
from epochcast.tables import RunTable, read_runs, read_table, write_table
from workload.shape import count_params

logger = logging.getLogger(__name__)

CHANCE_ACCURACY = 0.10  # ten classes, equally frequent
CHANCE_MARGIN = 0.005


@dataclass(frozen=True, slots=True)
class Stall:
    """One timed epoch (or window) slowed by something else, left out of its run's steady time; both in its seconds."""

    config: RunConfig
    run_id: str | None
    timestamp_utc: str
    what: str  # epoch | window
    epoch: int  # counted from 1
    sec: float
    steady_sec: float


@dataclass(frozen=True, slots=True)
class Aggregation:
    """The aggregated rows and an account of every row read: `n_read` = `n_used` + `n_left_out` + `n_excluded`."""

    rows: list[AggRow]
    n_read: int
    n_used: int
    n_left_out: int  # flagged runs of configurations that have clean ones
    n_excluded: int
    stalls: list[Stall] = field(default_factory=list)
    unstable: list[RunRecord] = field(default_factory=list)  # in a mean only where there is no clean run
    diverged: list[RunRecord] = field(default_factory=list)


def is_diverged(record: RunRecord) -> bool:
    """Whether a run's loss became NaN, or its test accuracy is that of guessing."""
    at_chance = record.test_acc is not None and abs(record.test_acc - CHANCE_ACCURACY) <= CHANCE_MARGIN
    return "diverged" in record.flags or at_chance


def _one_row(config: RunConfig, conditions: Conditions, records: Sequence[RunRecord]) -> tuple[AggRow, int]:
    """The row of one configuration and the number of its runs that entered it."""
    clean = [r for r in records if not UNCLEAN_FLAGS.intersection(r.flags) and not _steady(r).is_unstable]
    used = clean or list(records)
    params = count_params(config.depth, config.base_filters)
    if wrong := sorted({r.params for r in used} - {params}):
        raise ValueError(
            f"{config} has {params} parameters, the table says {', '.join(map(str, wrong))}: another network, or an "
            "edited cell. Take the wrong run back in excluded.csv."
        )
    steady = {id(r): _steady(r) for r in used}
    times = [steady[id(r)].sec * r.window_factor for r in used]
    train_n = conditions.train_n or TRAIN_N
    first_epochs = [_first_epoch_sec(r, steady[id(r)].sec) for r in used]
    acc_epochs = max((r.epochs for r in used if r.test_acc is not None), default=None)
    accuracies = [r.test_acc for r in used if r.test_acc is not None and r.epochs == acc_epochs]
    avg_time_mean, avg_time_std = mean_and_std(times)
    thr_mean, thr_std = mean_and_std([train_n / t for t in times])
    acc_mean, acc_std = mean_and_std(accuracies)
    first_mean, first_std = mean_and_std(first_epochs)
    overhead_mean, overhead_std = mean_and_std([r.overhead_sec for r in used if r.overhead_sec is not None])
    assert avg_time_mean is not None and thr_mean is not None
    row = AggRow(
        **asdict(config),
        params=params,
        n=len(used),
        steps_per_epoch=config.steps_per_epoch(train_n),
        avg_time_mean=avg_time_mean,
        avg_time_std=avg_time_std,
        thr_mean=thr_mean,
        thr_std=thr_std,
        acc_mean=acc_mean,
        acc_std=acc_std,
        **asdict(conditions),
        n_stalled=sum(s.n_stalled for s in steady.values()),
        n_flagged=len(records) - len(clean),
        first_epoch_sec_mean=first_mean,
        first_epoch_sec_std=first_std,
        overhead_sec_mean=overhead_mean,
        overhead_sec_std=overhead_std,
        acc_epochs=acc_epochs,
    )
    return row, len(used)


def _steady(record: RunRecord) -> SteadyTime:
    return steady_time(record.epoch_times_json)


def _first_epoch_sec(record: RunRecord, steady_sec: float) -> float:
    """Seconds of the first epoch; of a windowed run, a full steady epoch and what the first window took on top."""
    first = record.epoch_times_json[0]
    if record.window_steps is None:
        return first
    return steady_sec * record.window_factor + max(first - steady_sec, 0.0)


def _stalls(record: RunRecord) -> list[Stall]:
    steady, times = _steady(record), record.epoch_times_json
    what = "epoch" if record.window_steps is None else "window"
    return [
        Stall(record.config, record.run_id, record.timestamp_utc, what, index + 1, times[index], steady.sec)
        for index in steady.stalled_epochs
    ]


def aggregate(table: RunTable) -> Aggregation:
    """Group the runs of a table by configuration and conditions, ordered by depth, base_filters, batch_size.

    Raises:
        ValueError: if there is no run, or one configuration has two parameter counts.
    """
    groups: dict[tuple[RunConfig, Conditions], list[RunRecord]] = defaultdict(list)
    for record in table.rows:
        groups[record.config, record.conditions].append(record)
    if not groups:
        raise ValueError(f"{table.path.absolute()} holds no finished run. Measure one: python collect/run_one.py")
    pairs = [
        _one_row(config, conditions, records)
        for (config, conditions), records in sorted(groups.items(), key=lambda g: (g[0][0], repr(g[0][1])))
    ]
    n_used = sum(n for _, n in pairs)
    return Aggregation(
        rows=[row for row, _ in pairs],
        n_read=len(table.rows) + len(table.excluded),
        n_used=n_used,
        n_left_out=len(table.rows) - n_used,
        n_excluded=len(table.excluded),
        stalls=[stall for record in table.rows for stall in _stalls(record)],
        unstable=[record for record in table.rows if _steady(record).is_unstable],
        diverged=[record for record in table.rows if is_diverged(record)],
    )


# --- the cache --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AggTable:
    """Aggregated rows with where they come from, in words; `source` is the runs.csv, None where there is none."""

    path: Path
    rows: list[AggRow]
    origin: str
    source: Path | None


def _source_file(path: Path) -> Path:
    return path.with_name(path.name + ".source.json")


def _source_hashes(runs: Path) -> dict[str, str | None]:
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
    hashes = _source_hashes(runs) if runs.exists() else {}
    result = aggregate(read_runs(runs))
    write_table(out, result.rows, AggRow)
    # by name alone where both lie in one folder: moved or copied, it keeps to its own runs
    source = runs.name if runs.parent == out.parent else str(runs)
    write_json_atomically(_source_file(out), {"source": source, **hashes, "agg_sha256": sha256_of(out)})
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


def load_agg(path: Path, is_frozen: bool = False) -> AggTable:
    """The rows of a runs_agg.csv, made anew where its runs.csv has changed since (or where only that exists yet).

    Raises:
        FileNotFoundError: if there is neither such a table nor runs beside it.
        ValueError: if the table is wrong, or out of date while `is_frozen`.
    """
    path = path.absolute()
    source_file = _source_file(path)
    if not path.exists():
        runs = path.with_name("runs.csv")
        if path.name != "runs_agg.csv" or not runs.exists():
            raise FileNotFoundError(f"{path}: no such table. Measure first: python collect/run_one.py")
        if is_frozen:
            raise FileNotFoundError(f"{path}: no such table yet, and --frozen forbids to make it from {runs}.")
        return AggTable(path, _made_anew(runs, path), f"made now from {runs}", runs)
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
    if all(recorded.get(name) == value for name, value in _source_hashes(runs).items()):
        return AggTable(path, _read_agg(path), f"up to date with {runs}", runs)
    if is_frozen:
        raise ValueError(f"{path} is older than {runs}, and --frozen forbids to make it anew.")
    return AggTable(path, _made_anew(runs, path), f"was out of date: made anew from {runs}", runs)


def _made_anew(runs: Path, out: Path) -> list[AggRow]:
    """The averages of `runs`, kept in `out` if it can be written: a cache that can't is no reason not to answer."""
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


# --- command ----------------------------------------------------------------------------------------------------------


def report_lines(result: Aggregation, noisiest: int = 5) -> list[str]:
    """What a person should know of an aggregation."""
    lines = [
        f"rows_read: {result.n_read} (used {result.n_used}, left out as flagged {result.n_left_out}, "
        f"excluded {result.n_excluded})",
        f"configurations: {len({row.config for row in result.rows})} in {len(result.rows)} rows, "
        f"{len({row.conditions for row in result.rows})} set(s) of conditions",
    ]
    repeated = [row for row in result.rows if row.avg_time_std is not None]
    lines.append(f"repeated: {len(repeated)} with 2 runs or more")
    by_noise = sorted(repeated, key=lambda row: (row.avg_time_std or 0) / row.avg_time_mean, reverse=True)
    for row in by_noise[:noisiest]:
        spread = percent((row.avg_time_std or 0) / row.avg_time_mean)
        lines.append(f"  noisiest: {row.config} n={row.n} {significant(row.avg_time_mean)} s, sd {spread}")
    lines.append(f"stalled_epochs: {len(result.stalls)}")
    for stall in result.stalls:
        lines.append(
            f"  stall: {stall.config} {stall.run_id or stall.timestamp_utc} {stall.what} {stall.epoch}: "
            f"{significant(stall.sec)} s where {significant(stall.steady_sec)} s is steady"
        )
    lines.append(f"unstable_runs: {len(result.unstable)} (over a third of the timed epochs slow; median taken)")
    lines += [f"  unstable: {' '.join(str(r.config) for r in result.unstable)}"] if result.unstable else []
    lines.append(f"diverged_runs: {len(result.diverged)} (loss NaN, or test accuracy about {CHANCE_ACCURACY:.2f})")
    configs = sorted({record.config for record in result.diverged})
    lines += [f"  diverged: {' '.join(str(c) for c in configs)}"] if configs else []
    return lines


def _report_json(result: Aggregation) -> dict[str, Any]:
    return {
        "rows_read": result.n_read,
        "rows_used": result.n_used,
        "rows_left_out": result.n_left_out,
        "rows_excluded": result.n_excluded,
        "configurations": len({row.config for row in result.rows}),
        "stalls": [{**to_json_dict(stall), "config": asdict(stall.config)} for stall in result.stalls],
        "unstable": [record.run_id or record.timestamp_utc for record in result.unstable],
        "diverged": [record.run_id or record.timestamp_utc for record in result.diverged],
        "rows": [to_json_dict(row) for row in result.rows],
    }


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
            print(json.dumps({**_report_json(result), "out": str(arguments.out.absolute())}))
        else:
            print("\n".join([*report_lines(result), f"runs_agg: {arguments.out.absolute()}"]))
        return 0

    return run_command(work)
