"""How true peak memory of any network is of measured peaks: python benchmarks/external/memory_judge.py

Every form of the law is fitted without one network, and without one table, and judged on what was left out. The form
that is shipped is also asked for timm's brackets: a batch size that fitted a board of 24 GB, and the next one that timm
had tried before, which did not. Its numbers, fitted to all peaks, stand in epochcast/data/assumptions.csv.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

import numpy as np

from benchmarks.claim_parts.claim import Claim, at_most, claims_text
from benchmarks.external.memory.forms import FORMS, OURS, Case, Form, bracket_cases, cases_of
from benchmarks.external.memory.tables import Bracket, read_brackets, read_peaks
from epochcast.cli import add_json_flag, make_parser, run_command
from epochcast.gpus.lookup import BYTES_PER_GB
from epochcast.output.text import json_line, table_text
from epochcast.paths import home
from epochcast.roofline.network_memory import MIB, MemoryLaw
from epochcast.storage.files import write_json_atomically

MOST_MEDIAN, MOST_P90 = 1.25, 1.45
MOST_FALSE = 5.0  # %
LEAST_HELD = 88.0  # %
BOARD_GB = 24
SHARE = 95  # % of left-out peaks that give the range its width: of networks beyond these it holds some 90
ALIKE = 0.02  # shipped numbers may be rounded so much
Key = Callable[[Case], str]
KEYS: dict[str, Key] = {
    "network": lambda case: case.network,
    "whose memory": lambda case: case.whose,
    "bytes of an activation": lambda case: str(case.formats.activation),
}
HEADER = ("form", "numbers", "network left out", "worst", "table left out", "worst")


def factor(predicted: float, measured: float) -> float:
    return max(predicted / measured, measured / predicted)


def left_out(form: Form, cases: Sequence[Case], group: Key) -> list[float]:
    """Return predicted over measured for each case, by numbers that were fitted without its group."""
    found = [0.0] * len(cases)
    for name in {group(case) for case in cases}:
        numbers = form.fitted([case for case in cases if group(case) != name])
        for i, case in enumerate(cases):
            if group(case) == name:
                found[i] = form.predict(case, numbers) / case.measured
    return found


def errors(ratios: Sequence[float]) -> dict[str, float]:
    """Return median, 90th percentile and largest of the error factors."""
    factors = [factor(ratio, 1.0) for ratio in ratios]
    quantiles = {"median": 0.5, "p90": 0.9, "spread": SHARE / 100, "worst": 1.0}
    return {name: float(np.quantile(factors, share)) for name, share in quantiles.items()}


def held_share(cases: Sequence[Case], ratios: Sequence[float]) -> float:
    """Return the share, in %, inside the range that all other networks' errors ask for."""
    factors = np.array([factor(ratio, 1.0) for ratio in ratios])
    names = np.array([case.network for case in cases])
    held = [each <= np.quantile(factors[names != name], SHARE / 100) for each, name in zip(factors, names, strict=True)]
    return float(100 * np.mean(held))


def bracket_counts(
    found: Sequence[tuple[Case, Bracket]], peak: Callable[[Case], float], board_bytes: float
) -> dict[str, int]:
    """Return how many brackets are hit, and how many batch sizes are wrongly taken or refused."""
    counts = {"hit": 0, "false fits": 0, "refused": 0, "open, refused": 0}
    for case, bracket in found:
        is_refused = peak(case) > board_bytes
        if bracket.fails is None:
            counts["open, refused"] += is_refused
        elif is_refused:
            counts["refused"] += 1
        else:
            fits = peak(replace(case, batch=bracket.fails)) <= board_bytes
            counts["false fits" if fits else "hit"] += 1
    return counts


def judge() -> dict[str, Any]:
    """Return all figures."""
    cases = cases_of(read_peaks())
    brackets, unknown = read_brackets()
    with_layers = bracket_cases(brackets)
    law = MemoryLaw.shipped()
    report: dict[str, Any] = {"n": len(cases), "forms": {}, "brackets": {}}
    for name, form in FORMS.items():
        by_network = left_out(form, cases, KEYS["network"])
        by_table = left_out(form, cases, lambda case: case.whose)  # each table has a kind of memory of its own
        numbers = form.fitted(cases)
        report["forms"][name] = {
            "words": form.words,
            "numbers": numbers,
            "network left out": errors(by_network),
            "table left out": errors(by_table),
            "brackets": bracket_counts(
                with_layers, lambda case, own=form, at=numbers: own.predict(case, at), BOARD_GB * BYTES_PER_GB
            ),
        }
        if name == OURS:
            report["held"] = held_share(cases, by_network)
            report["groups"] = {
                key: {
                    value: {"n": len(own := _of(cases, by_network, group, value)), **errors(own)}
                    for value in sorted({group(case) for case in cases})
                }
                for key, group in KEYS.items()
            }
    report["shipped"] = [law.base_bytes / MIB, law.slack, law.work, law.spread]
    # a data sheet's GB are decimal at the least, and binary on boards that keep nothing for error correction
    for size, board in (("GB", BOARD_GB * BYTES_PER_GB), ("GiB", BOARD_GB * 2.0**30)):
        report["brackets"][f"probably, {BOARD_GB} {size}"] = bracket_counts(
            with_layers, lambda case: _peak(law, case), board
        )
        report["brackets"][f"surely, {BOARD_GB} {size}"] = bracket_counts(
            with_layers, lambda case: law.spread * _peak(law, case), board
        )
    report["open brackets"] = sum(bracket.fails is None for bracket in brackets)
    report["not rebuilt"] = unknown
    return report


def _peak(law: MemoryLaw, case: Case) -> float:
    return law.peak(case.counted, case.batch).value


def _of(cases: Sequence[Case], ratios: Sequence[float], group: Key, value: str) -> list[float]:
    return [ratio for case, ratio in zip(cases, ratios, strict=True) if group(case) == value]


def reach(report: dict[str, Any]) -> list[Claim]:
    """Judge the shipped form."""
    own = report["forms"][OURS]
    error = own["network left out"]
    counts = {size: report["brackets"][f"probably, {BOARD_GB} {size}"] for size in ("GB", "GiB")}
    n = sum(counts["GB"][name] for name in ("hit", "false fits", "refused"))
    spread = error["spread"]
    fitted = (*own["numbers"], spread)
    alike = all(abs(shipped / number - 1) <= ALIKE for shipped, number in zip(report["shipped"], fitted, strict=True))
    held = report["held"]
    return [
        at_most("network left out, median error factor", error["median"], MOST_MEDIAN, unit="x"),
        at_most("network left out, 90th percentile", error["p90"], MOST_P90, unit="x"),
        Claim(f"x/÷{spread:.3g} holds", f"{held:.3g} %", f">= {LEAST_HELD:g} %", held >= LEAST_HELD),
        *(
            at_most(f"false fits of {n} brackets, {BOARD_GB} {size}", 100 * own["false fits"] / n, MOST_FALSE)
            for size, own in counts.items()
        ),
        *(Claim(f"brackets hit, {BOARD_GB} {size}", f"{100 * own['hit'] / n:.3g} %") for size, own in counts.items()),
        Claim("shipped numbers are the fit's", "yes" if alike else "no", f"within {100 * ALIKE:g} %", alike),
    ]


def report_text(report: dict[str, Any]) -> str:
    """Return all figures for people."""
    forms = [
        [
            found["words"],
            len(found["numbers"]),
            _factors(found["network left out"]),
            f"{found['network left out']['worst']:.3g}",
            _factors(found["table left out"]),
            f"{found['table left out']['worst']:.3g}",
        ]
        for found in report["forms"].values()
    ]
    groups = [
        [key, value, found["n"], _factors(found), f"{found['worst']:.3g}"]
        for key, own in report["groups"].items()
        for value, found in own.items()
    ]
    brackets = [[f"shipped: {words}", *counts.values()] for words, counts in report["brackets"].items()]
    brackets += [
        [f"{found['words']}, {BOARD_GB} GB", *found["brackets"].values()] for found in report["forms"].values()
    ]
    numbers = ", ".join(f"{number:.4g}" for number in report["forms"][OURS]["numbers"])
    return "\n".join(
        [
            f"{report['n']} measured peaks; error factors are median / 90th percentile",
            table_text(HEADER, forms),
            f"\nshipped form, network left out; fitted to all: {numbers} (base in MiB, slack, work)",
            table_text(("by", "", "n", "error", "worst"), groups),
            f"\ntimm's brackets on {BOARD_GB} GB; {report['open brackets']} more began at the largest batch tried, "
            f"{report['not rebuilt']} networks are not rebuilt",
            table_text(("law", "hit", "false fits", "refused", "refused of open"), brackets),
            "",
            claims_text(reach(report)),
        ]
    )


def _factors(found: dict[str, float]) -> str:
    return f"{found['median']:.3f} / {found['p90']:.3f}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "memory_judge.py", (__doc__ or "").partition("\n")[0], "python benchmarks/external/memory_judge.py --json"
    )
    add_json_flag(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        report = judge()
        path = home() / "results" / "benchmarks" / "network_memory.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomically(path, report)
        print(json_line(report) if arguments.json else report_text(report))
        return 0

    return run_command(work)
