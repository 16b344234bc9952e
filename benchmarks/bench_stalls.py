"""Bias and power of the stall rule, by simulation: python benchmarks/bench_stalls.py

Bias is the mean difference between the steady time and the mean of the undisturbed epochs of the same run; power the
share of stalled epochs that were found. For a run alone one table has what no rule can do better: the least bias at
30 % noise of a rule that finds 95 % of stalls of 2 x at 15 % (likelihood ratio, log-normal noise).
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

import numpy as np

from benchmarks.lib.stall_cells import (
    ERRORS,
    MAX_BIAS,
    MIN_POWER,
    NOISES,
    POWER_NOISE,
    POWER_TIMED,
    TIMED,
    Case,
    Cell,
    least_bias,
    simulate,
)
from epochcast.flag_types import positive_int
from epochcast.paths import home
from epochcast.storage.files import read_text, write_json_atomically, write_text_atomically

OTHERS = (0, 11, 60)  # other runs of the same conditions in the table
FEWER_TIMED = (4, 6, 15, 50)  # for other factors and several stalls
STALLED_OTHERS = 0.1
MIXED_TIMED = (4, 5, 6, 10, 15, 30)
MIXED_OTHERS = (11, 60)
UNLIKE = ((0.10, 0.05, 0.05), (0.20, 0.10, 0.10), (0.30, 0.15, 0.15), (0.10, 0.20, 0.20), (0.15, 0.30, 0.30))
MIXED = tuple((noise, 0.05, 0.30) for noise in (0.05, 0.10, 0.15, 0.20, 0.30))
FINER = 2  # times as many runs at the noises where the power is nearest to its demand
FINER_NOISES = (0.10, 0.15)
BEGIN, END = "<!-- written by benchmarks/bench_stalls.py --markdown -->", "<!-- end of what is written -->"


def cases() -> Iterator[Case]:
    """All cases: without stalls and with one of 2 x; for log-normal noise also others; runs unlike their others."""
    for n_others, errors, n_timed, noise in itertools.product(OTHERS, ERRORS, TIMED, NOISES):
        case = Case(errors, noise, n_timed, n_others)
        yield case
        yield replace(case, factor=2.0, n_stalls=1)
        if n_others == max(OTHERS) and n_timed in FEWER_TIMED:
            yield replace(case, factor=2.0, n_stalls=1, stalled_others=STALLED_OTHERS)
        if errors == "log-normal" and n_timed in FEWER_TIMED and n_others != 11:
            yield replace(case, factor=1.5, n_stalls=1)
            yield replace(case, factor=4.0, n_stalls=1)
            if n_timed // 3 > 1:
                yield replace(case, factor=2.0, n_stalls=n_timed // 3)
    for n_others, (noise, low, high), n_timed in itertools.product(MIXED_OTHERS, (*UNLIKE, *MIXED), MIXED_TIMED):
        yield Case("log-normal", noise, n_timed, n_others, others_low=low, others_high=high)


def of_case(cells: Sequence[Cell], **wanted: object) -> list[Cell]:
    return [c for c in cells if all(getattr(c.case, name) == value for name, value in wanted.items())]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def table_of(cells: Sequence[Cell], what: str) -> str:
    """Return one table: a row for each count of timed epochs, a column for each noise."""
    rows = []
    for n_timed in sorted({c.case.n_timed for c in cells}):
        of_n = {c.case.noise: 100 * getattr(c, what) for c in cells if c.case.n_timed == n_timed}
        digits = {"bias": 2, "power": 1, "unstable": 0}[what]
        rows.append([n_timed, *(f"{of_n[noise]:.{digits}f}" for noise in NOISES)])
    return markdown_table(["timed", *(f"{100 * noise:g} %" for noise in NOISES)], rows)


def unlike_table(cells: Sequence[Cell]) -> str:
    """Return the bias of runs whose others have another noise, or a mixture of noises."""
    rows = []
    for n_others, (noise, low, high) in itertools.product(MIXED_OTHERS, (*UNLIKE, *MIXED)):
        of_row = of_case(cells, n_others=n_others, noise=noise, others_low=low, others_high=high)
        theirs = f"{100 * low:g} %" if low == high else f"{100 * low:g} to {100 * high:g} %"
        rows.append([f"{100 * noise:g} %", theirs, n_others, *(f"{100 * c.bias:.1f}" for c in of_row)])
    return markdown_table(["noise", "of the others", "others", *(f"{n} timed" for n in MIXED_TIMED)], rows)


def setting_of(n_others: int) -> str:
    return f"With {n_others} others" if n_others else "Alone"


def tables(cells: Sequence[Cell], bound: dict[int, float]) -> Iterator[str]:
    """Yield headings and tables in turn."""
    alike = of_case(cells, others_low=None)
    for n_others, errors in itertools.product(reversed(OTHERS), ERRORS):
        of_place = of_case(alike, n_others=n_others, errors=errors, stalled_others=0.0)
        start = f"{setting_of(n_others)}, {errors}:"
        for what in ("bias", "unstable"):
            yield f"{start} {what} in %, no stall"
            yield table_of(of_case(of_place, n_stalls=0), what)
        yield f"{start} power in %, one stall of 2 x"
        yield table_of(of_case(of_place, n_stalls=1, factor=2.0), "power")
        for factor in (1.5, 4.0):
            if few := of_case(of_place, n_stalls=1, factor=factor):
                yield f"{start} power in %, one stall of {factor:g} x"
                yield table_of(few, "power")
        if several := [c for c in of_place if c.case.n_stalls > 1]:
            yield f"{start} power in %, a third of the epochs stalled by 2 x"
            yield table_of(several, "power")
        if disturbed := of_case(alike, n_others=n_others, errors=errors, stalled_others=STALLED_OTHERS):
            yield f"{start} power in %, one stall of 2 x, a tenth of the others stalled, too"
            yield table_of(disturbed, "power")
    yield "Noise unlike that of the others (log-normal; a range is even in its logarithm): bias in %, no stall"
    yield unlike_table(cells)
    yield "Alone, 95 % power at 15 % of noise: least bias at 30 % of noise of any rule, in %"
    yield markdown_table(
        ["timed", *map(str, bound)], [["least bias", *(f"{100 * bias:.2f}" for bias in bound.values())]]
    )


def demands(cells: Sequence[Cell]) -> list[list[str]]:
    """What is demanded where, its worst cell, how many cells meet it, PASS or NO."""
    found = []
    alike = of_case(cells, others_low=None, stalled_others=0.0)
    for n_others in OTHERS:
        calm = of_case(alike, n_others=n_others, n_stalls=0)
        worst = max(calm, key=lambda c: abs(c.bias))
        n_met = sum(abs(c.bias) < MAX_BIAS for c in calm)
        where = f"{100 * worst.bias:.2f} +- {100 * worst.bias_se:.2f} ({_words(worst)})"
        found.append([setting_of(n_others), "bias below 1 %", where, *_verdict(n_met, len(calm))])
    for n_others, n_timed in itertools.product(OTHERS, TIMED):
        if n_timed < POWER_TIMED:
            continue
        asked = of_case(alike, n_others=n_others, n_timed=n_timed, n_stalls=1, factor=2.0)
        asked = [c for c in asked if c.case.noise <= POWER_NOISE]
        weakest = min(asked, key=lambda c: c.power or 0.0)
        n_met = sum((c.power or 0.0) > MIN_POWER for c in asked)
        where = f"{100 * (weakest.power or 0):.1f} +- {100 * (weakest.power_se or 0):.1f} ({_words(weakest)})"
        found.append([setting_of(n_others), f"power above 95 %, {n_timed} timed", where, *_verdict(n_met, len(asked))])
    return found


def _verdict(n_met: int, n: int) -> tuple[str, str]:
    return f"{n_met} of {n}", "PASS" if n_met == n else "NO"


def _words(cell: Cell) -> str:
    return f"{cell.case.errors}, {100 * cell.case.noise:g} %, {cell.case.n_timed} timed"


def said_of(cells: Sequence[Cell], n: int, seed: int) -> str:
    """Say how many runs a cell has, and the largest standard errors that there are."""
    alike = of_case(cells, others_low=None)
    demanded = of_case(alike, n_stalls=1, factor=2.0, stalled_others=0.0)
    powers = [c for c in demanded if c.case.noise <= POWER_NOISE and c.case.n_timed >= POWER_TIMED]
    return (
        f"Seed {seed}; at least {n} runs a cell, {FINER * n} at 10 and 15 % of noise. Largest standard error of a bias "
        f"{100 * max(c.bias_se for c in alike if not c.case.n_stalls):.2f} %, of a demanded power "
        f"{100 * max(c.power_se or 0.0 for c in powers):.2f} %, of a bias with others of another noise "
        f"{100 * max(c.bias_se for c in cells if c.case.others_low is not None):.2f} %. Runs of one table share what "
        "is known of their noise: the errors are from the means of tables."
    )


def document(text: str, written: str, path: Path) -> str:
    """Return the document with what is written between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path}: expected the lines {BEGIN!r} and {END!r}; put them where the tables belong.")
    return f"{before}{begin}\n\n{written}\n\n{end}{after}"


def _simulate(job: tuple[int, int, Case, int]) -> Cell:
    seed, number, case, n = job
    n_runs = n * (FINER if case.noise in FINER_NOISES else 1)
    return simulate(np.random.default_rng([seed, number]), case, n_runs)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=20_261_130, help="of the simulation (default: %(default)s)")
    parser.add_argument("--n", type=positive_int, default=4000, help="runs in each cell (default: %(default)s)")
    parser.add_argument("--workers", type=positive_int, default=2, help="processes at a time (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "stalls.json")
    parser.add_argument("--markdown", type=Path, help="write the tables between the marks of this document, too")
    arguments = parser.parse_args()
    if arguments.markdown:
        document(read_text(arguments.markdown), "", arguments.markdown)  # before minutes of work
    jobs = [(arguments.seed, number, case, arguments.n) for number, case in enumerate(cases())]
    with ProcessPoolExecutor(arguments.workers) as pool:
        cells = list(pool.map(_simulate, jobs, chunksize=8))
    bound = {n: least_bias(np.random.default_rng([arguments.seed, n]), n) for n in TIMED if n >= POWER_TIMED}
    verdicts = markdown_table(["judged", "demand", "worst cell", "cells that meet it", "met"], demands(cells))
    parts = [said_of(cells, arguments.n, arguments.seed), verdicts, *tables(cells, bound)]
    written = "\n\n".join(parts)
    print(written)
    report = {"seed": arguments.seed, "n": arguments.n, "cells": [asdict(c) for c in cells], "least_bias": bound}
    write_json_atomically(arguments.out, report)
    print(f"written: {arguments.out.absolute()}")
    if arguments.markdown:
        text = document(read_text(arguments.markdown), written, arguments.markdown)
        write_text_atomically(arguments.markdown, text)
        print(f"written: {arguments.markdown.absolute()}")
    return 0
