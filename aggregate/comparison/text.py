"""A comparison as lines for people, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from epochcast.aggregate.comparison.comparison import ONLY_TIMES_DIFFER, Compared, Comparison
from epochcast.aggregate.comparison.sides import Side
from epochcast.aggregate.comparison.spread import LEVEL, SideSpread
from epochcast.aggregate.comparison.stats import (
    FEWEST_TESTABLE,
    MOST_RUNS_ADVISED,
    NOISE_FLOOR,
    VERDICTS,
    Overall,
    TimeDifference,
    has_unexplained_scatter,
)
from epochcast.interval import Interval, coverage_text, with_ends
from epochcast.output.text import percent, significant, table_text

SHOWN_ROWS = 13  # with the lines above them about one screen of 30
WIDTH = 150


def comparison_lines(result: Comparison, shows_all: bool = False) -> list[str]:
    """The answer first, then the configurations: those that differ most above, undecided ones last."""
    counts = result.verdicts
    n = len(result.rows)
    lines = [*_side_lines(result, result.a), *_side_lines(result, result.b)]
    differing = "; ".join(f"{name}: {a} -> {b}" for name, (a, b) in result.differing.items())
    differing = differing or f"nothing that the rows record, but {_when(result.a)}; {_when(result.b)}"
    lines += textwrap.wrap(f"differs: {differing}", WIDTH, subsequent_indent="  ")
    lines.append(f"spread: a {_spread_text(result.spread_a)}; b {_spread_text(result.spread_b)}")
    why = ONLY_TIMES_DIFFER if result.only_times_differ else None
    lines.append(f"overall: {overall_text(result.overall, why_undecided=why)}")
    if result.energy:
        words = ("board energy per epoch", "takes more", "takes less")
        lines.append(f"energy: {overall_text(result.energy, *words, why_undecided=why)}")
    lines.append(f"verdicts: {', '.join(f'{count} {VERDICTS[name]}' for name, count in counts.items())}")
    lines += [f"note: {note}" for note in notes(result)]
    shown = sorted(result.rows, key=_most_telling)
    if not shows_all:
        shown = shown[:SHOWN_ROWS]
    has_energy = result.energy is not None
    interval = f"{coverage_text(1 - LEVEL)} interval"
    header = ["configuration", "runs", "a s/epoch", "b s/epoch", "b / a", interval, "p (Holm)"]
    body = [_cells(row, has_energy) for row in shown]
    lines += ["", table_text([*header, *(["energy b / a"] if has_energy else []), "verdict"], body)]
    if len(shown) < n:
        lines.append(f"... {n - len(shown)} more: --all")
    return lines


def _side_lines(result: Comparison, side: Side) -> Iterator[str]:
    account = {
        "compared": result.n_compared(side),
        "of configurations on this side only": result.n_one_sided(side),
        "left out as flagged": side.n_left_out,
        "of other conditions": side.n_others,
        "excluded": side.n_excluded,
    }
    told = ", ".join(f"{n} {what}" for what, n in account.items() if n or what == "compared")
    n, n_only = len(result.rows), len(side.runs) - len(result.rows)
    yield f"{side.name}: {side.path} ({side.n_read} runs: {told}; {n} configurations on both sides, {n_only} only here)"


def _when(side: Side) -> str:
    first, last = side.period
    return f"{side.name} was measured {first} to {last}"


def _spread_text(spread: SideSpread) -> str:
    if not spread.is_assumed:
        return f"{percent(spread.sd)} between repeats (standard deviation, {spread.freedom} degrees of freedom)"
    few = f"only {spread.freedom} degrees of freedom by repeats" if spread.freedom else "no repeats"
    return f"{percent(spread.sd)} assumed for a {spread.device_kind} ({few})"


def overall_text(
    found: Overall,
    what: str = "time",
    slower: str = "slower",
    faster: str = "faster",
    why_undecided: str | None = None,
) -> str:
    """The geometric mean ratio with its interval, its test and what they say."""
    interval = "" if found.low is None or found.high is None else f" [{_ratio(found.low)}, {_ratio(found.high)}]"
    said = {"slower": f"b {slower}", "faster": f"b {faster}", "same": VERDICTS["same"]}.get(found.verdict)
    if said is None:
        few = f"measure at least {FEWEST_TESTABLE}" if found.n < FEWEST_TESTABLE else ""
        why = why_undecided or few or "the configurations do not agree, or too little"
        said = f"{VERDICTS['undecided']}: {why}"
    test = "" if found.p is None else f", Wilcoxon signed rank p = {significant(found.p, 2)}"
    return f"b takes {_ratio(found.ratio)}{interval} x the {what} of a over {found.n} configurations{test}: {said}"


def notes(result: Comparison) -> list[str]:
    """What a reader should know before using the ratios."""
    said = [
        f"p is of a difference beyond the noise floor of {percent(NOISE_FLOOR)}, corrected for all {len(result.rows)} "
        f"at once (Holm): named below {LEVEL}; not worth naming: the whole interval within the floor; an interval is "
        "of its configuration alone"
    ]
    if result.only_times_differ:
        said.append(
            "no recorded condition differs, so that what drifted between the two measurements may be all there is: "
            "nothing is named. Measure the two sides in turns"
        )
    if result.n_shared:
        said.append(f"{result.n_shared} runs stand on both sides: those are compared with themselves")
    is_assumed = result.spread_a.is_assumed or result.spread_b.is_assumed
    if is_assumed and has_unexplained_scatter([row.difference for row in result.rows]):
        said.append(
            "the ratios of configurations scatter more than the assumed spread explains: the ratio depends on the "
            "configuration, or runs spread more than assumed: repeat some on either side (run_grid --repeats)"
        )
    unclean = sorted({*result.a.unclean, *result.b.unclean} & {row.config for row in result.rows})
    if unclean:
        first = " ".join(map(str, unclean[:5])) + (" ..." if len(unclean) > 5 else "")
        said.append(f"flagged runs only, used nevertheless, on a side of {len(unclean)} of the configurations: {first}")
    return said


def verdict_text(difference: TimeDifference) -> str:
    """The verdict in words; where nothing can be told, why, and what would help."""
    if difference.verdict != "undecided":
        return VERDICTS[difference.verdict]
    if difference.why_undecided == ONLY_TIMES_DIFFER:
        return f"{VERDICTS['undecided']}: {ONLY_TIMES_DIFFER}"
    needed = difference.needed_runs
    help_ = f"about {needed} runs a side" if needed else f"over {MOST_RUNS_ADVISED} runs a side"
    return f"{VERDICTS['undecided']}: {difference.why_undecided}; {help_} would"


def _most_telling(row: Compared) -> tuple[int, float]:
    order = ("slower", "faster", "same", "undecided")
    is_undecided = order.index(row.difference.verdict) == 3
    return is_undecided, -abs(row.difference.log_ratio)


def _ratio(value: float) -> str:
    """A ratio to the tenth of a percent where it is near 1."""
    return f"{value:.3f}" if 0.8 < value < 1.25 else significant(value)


def _cells(row: Compared, has_energy: bool) -> list[Any]:
    d = row.difference
    return [
        str(row.config),
        f"{row.n_a}, {row.n_b}",
        row.sec_a,
        row.sec_b,
        _ratio(d.ratio),
        f"{_ratio(d.low)} to {_ratio(d.high)}",
        significant(d.p_holm, 2),
        *([None if row.energy_ratio is None else _ratio(row.energy_ratio)] if has_energy else []),
        verdict_text(d),
    ]


# --- JSON ------------------------------------------------------------------------------------------------------------


def comparison_json(result: Comparison) -> dict[str, Any]:
    return {
        "sides": {side.name: _side_json(result, side) for side in (result.a, result.b)},
        "differing": {name: {"a": a, "b": b} for name, (a, b) in result.differing.items()},
        "spread": {"a": _spread_json(result.spread_a), "b": _spread_json(result.spread_b)},
        "noise_floor": NOISE_FLOOR,
        "coverage": 1 - LEVEL,
        "correction": "Holm",
        "overall": _overall_json(result.overall),
        "energy": _overall_json(result.energy) if result.energy else None,
        "verdicts": result.verdicts,
        "runs_on_both_sides": result.n_shared,
        "only_times_differ": result.only_times_differ,
        "notes": notes(result),
        "configurations": [_row_json(row) for row in result.rows],
    }


def _side_json(result: Comparison, side: Side) -> dict[str, Any]:
    return {
        "table": str(side.path),
        "conditions": asdict(side.conditions),
        "first_timestamp_utc": side.period[0],
        "last_timestamp_utc": side.period[1],
        "rows_read": side.n_read,
        "rows_compared": result.n_compared(side),
        "rows_of_one_sided_configurations": result.n_one_sided(side),
        "rows_left_out": side.n_left_out,
        "rows_of_other_conditions": side.n_others,
        "rows_excluded": side.n_excluded,
        "one_sided_configurations": len(side.runs) - len(result.rows),
    }


def _spread_json(spread: SideSpread) -> dict[str, Any]:
    return {"sd": spread.sd, "degrees_of_freedom": spread.freedom, "is_assumed": spread.is_assumed}


def _overall_json(found: Overall) -> dict[str, Any]:
    return {
        "configurations": found.n,
        **with_ends("ratio", Interval(found.ratio, found.low, found.high)),
        "p_wilcoxon": found.p,
        "verdict": found.verdict,
    }


def _row_json(row: Compared) -> dict[str, Any]:
    d = row.difference
    return {
        **asdict(row.config),
        "runs_a": row.n_a,
        "runs_b": row.n_b,
        "steady_time_sec_a": row.sec_a,
        "steady_time_sec_b": row.sec_b,
        **with_ends("ratio", Interval(d.ratio, d.low, d.high)),
        "p": d.p,
        "p_holm": d.p_holm,
        "verdict": d.verdict,
        "needed_runs": d.needed_runs,
        "says": verdict_text(d),
        "energy_ratio": row.energy_ratio,
    }
