"""Fit and judge the law of networks that were never measured: python benchmarks/external/judge.py (make external)

On the measured steps of `gpu_times` of the reference data, whose networks are built in Keras and read by the project's
own reader; the first call takes minutes for that. Every form is fitted without each GPU, family of networks and set in
turn and judged on what was left out. An error factor is the larger of predicted and measured over the smaller, median /
90th percentile. Writes results/benchmarks/external.json; `--fit` writes the numbers of the law to the assumptions.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

import numpy as np

from benchmarks.claim_parts.claim import Claim, at_most, claims_text
from benchmarks.external.before import least_seconds
from benchmarks.external.cold import cold_errors
from benchmarks.external.features import GROUPS, PRECISIONS, Features, features_of
from benchmarks.external.forms import BEFORE, SHIPPED, SHIPPED_TERMS, TERMS, numbers_of, summed
from benchmarks.external.left_out import ErrorFactor, Judged, Mask, errors_left_out, judged
from benchmarks.external.networks import CONVOLUTIONAL, TRANSFORMER
from benchmarks.external.own_rows import corrected_errors
from benchmarks.external.records import Records, records_of
from benchmarks.external.shipped_numbers import write_numbers
from benchmarks.external.tables import Tables, read_tables
from epochcast.cli import run_command
from epochcast.machine.environment import utc_now
from epochcast.output.text import clock, table_text
from epochcast.paths import home
from epochcast.roofline.network import kind_of_network
from epochcast.roofline.network_law import LawNumbers
from epochcast.storage.files import write_json_atomically

LEFT_OUT = ("GPU", "family", "set")
LEAST_GAIN = 0.02  # of the score, for which a number is kept
HELD = 0.9  # of rows, by a range
TARGETS = {"GPU": (1.22, 1.65), "family": (1.24, 1.70), "set": (1.25, 1.70)}
AFTER_MEASURED = {1: (1.18, 1.60), 3: (1.15, 1.50)}  # targets after so many networks of a box
LARGEST_RANGE, LEAST_HELD = 1.85, 0.88


def used_lines(tables: Tables) -> list[str]:
    """Return which networks and boards are used, and why other rows are not."""
    rows = tables.rows
    networks = Counter(row.name for row in rows)
    boards = Counter(row.gpu.name for row in rows)
    lines = [
        f"used: {len(rows)} steps of {len(networks)} networks on {len(boards)} boards",
        "networks: " + ", ".join(f"{name} {n}" for name, n in sorted(networks.items())),
        "boards: " + ", ".join(f"{name} {n}" for name, n in sorted(boards.items())),
    ]
    excluded = [[table, reason, n] for (table, reason), n in sorted(tables.excluded.items())]
    return [*lines, table_text(["excluded from", "reason", "rows"], excluded)]


def same_kinds(tables: Tables, records: Mapping[tuple[str, int], Records]) -> Claim:
    """Return whether answers take each network for the kind that it is judged as."""
    kinds = {row.name: (row.network.kind, kind_of_network(records[row.name, row.size])) for row in tables.rows}
    others = [name for name, (label, by_layers) in kinds.items() if label != by_layers]
    words = f"{len(others)} of {len(kinds)}" + (f": {', '.join(others)}" if others else "")
    return Claim("networks whose layers are of another kind", words, "0", not others)


def same_numbers(numbers: LawNumbers) -> list[Claim]:
    """Return whether the shipped numbers are those of this fit."""
    shipped = asdict(LawNumbers.shipped())
    off = {name: abs(shipped[name] / value - 1) for name, value in asdict(numbers).items()}
    worst = max(off, key=lambda name: off[name])
    return [at_most("shipped numbers off the fit's, at most", 100 * off[worst], 0.1, f" ({worst})")]


def form_rows(found: Sequence[Judged], masks: dict[str, Mask], reference: float | None) -> list[list[Any]]:
    """Return a line for each form; the last cell is its score less the reference's."""
    lines = []
    for each in found:
        score = each.score(masks[CONVOLUTIONAL])
        cells = [str(each.factor(group, masks[CONVOLUTIONAL])) for group in GROUPS]
        transformers = str(each.factor("GPU", masks[TRANSFORMER]))
        change = "" if reference is None else f"{score - reference:+.3f}"
        lines.append([each.form.name, len(each.form.start), *cells, transformers, f"{score:.3f}", change])
    return lines


FORM_HEADER = ["form", "numbers", *(f"{group} out" for group in GROUPS), "transformers, GPU out", "score", "change"]


def range_factor(found: Judged, chosen: Mask, rows: Features) -> float:
    """Return the factor that holds HELD of the rows of each precision and leaving out."""
    factors = []
    for group in LEFT_OUT:
        for precision in PRECISIONS:
            own = found.errors[group][chosen & (rows.labels(lambda row: row.precision) == precision)]
            if len(own := own[~np.isnan(own)]):
                factors.append(float(np.quantile(np.exp(np.abs(own)), HELD)))
    return max(factors)


def held_share(found: Judged, group: str, chosen: Mask, factor: float) -> float:
    own = found.errors[group][chosen]
    return float(np.mean(np.exp(np.abs(own[~np.isnan(own)])) <= factor))


def breakdown(found: Judged, rows: Features, chosen: Mask) -> str:
    """Return the errors with the GPU left out by set, board, family, framework and precision."""
    by = {
        **{name: GROUPS[name] for name in ("set", "GPU", "family")},
        "framework": lambda row: row.framework,
        "precision": lambda row: row.precision,
    }
    lines = []
    for what, of in by.items():
        labels = rows.labels(of)
        for label in np.unique(labels[chosen]):
            factor = found.factor("GPU", chosen & (labels == label))
            lines.append([what, label, factor.n, str(factor), f"{factor.bias:.2f}"])
    return table_text(["by", "", "rows", "GPU left out", "predicted / measured"], lines)


def worst_lines(found: Judged, rows: Features, n: int = 12) -> str:
    """Return the steps that are missed most with their GPU left out."""
    order = np.argsort(-np.nan_to_num(np.abs(found.errors["GPU"])))[:n]
    lines = [
        [row.dataset, row.setting, row.gpu.name, row.name, row.precision, row.batch, 1e3 * row.step_sec,
         f"{np.exp(found.errors['GPU'][i]):.2f}"]
        for i in order
        for row in [rows.rows[i]]
    ]  # fmt: skip
    header = ["set", "setting", "GPU", "network", "precision", "batch", "measured ms", "predicted / measured"]
    return table_text(header, lines)


def at_most_both(what: str, found: ErrorFactor, limits: tuple[float, float], words: str = "") -> Claim:
    """Return a claim of median and 90th percentile."""
    is_reached = found.median <= limits[0] and found.p90 <= limits[1]
    return Claim(what, f"{found}, n = {found.n}{words}", f"<= {limits[0]:.4g} / {limits[1]:.4g}", is_reached)


def after_measured(found: Judged, rows: Features, chosen: Mask) -> dict[int, ErrorFactor]:
    """Return the errors on other networks of a box after some of its networks were measured."""
    own, errors = rows.take(chosen), found.errors["GPU"][chosen]
    return {n: corrected_errors(own, errors, n) for n in AFTER_MEASURED}


def claims_of(
    found: Judged, today: Judged, rows: Features, masks: dict[str, Mask], shares: Sequence[float]
) -> list[Claim]:
    """Return every figure of the shipped form with its target; `shares` are least over measured times."""
    cnn, transformers = masks[CONVOLUTIONAL], masks[TRANSFORMER]
    claims = [
        at_most_both(f"convolutional, {group} left out", found.factor(group, cnn), limits)
        for group, limits in TARGETS.items()
    ]
    is_timm = rows.labels(lambda row: row.dataset) == "timm_rtx3090"
    claims += [
        Claim(f"the same without timm's, {group} left out", str(found.factor(group, cnn & ~is_timm)))
        for group in TARGETS
    ]
    factor = range_factor(found, cnn, rows)
    claims.append(Claim("convolutional: range", f"x/÷{factor:.3f}", f"<= {LARGEST_RANGE:g}", factor <= LARGEST_RANGE))
    for group in LEFT_OUT:
        share = held_share(found, group, cnn, factor)
        words = f"{100 * share:.1f} %"
        claims.append(Claim(f"  holds, {group} left out", words, f">= {100 * LEAST_HELD:g} %", share >= LEAST_HELD))
    before = today.factor("GPU", transformers & ~np.isnan(today.errors["GPU"]))
    same = transformers & ~np.isnan(today.errors["GPU"])
    claims += [
        at_most_both(
            f"transformers, {group} left out", found.factor(group, same), (before.median, before.p90), "; today"
        )
        for group in LEFT_OUT
    ]
    claims.append(Claim("transformers: range", f"x/÷{range_factor(found, transformers, rows):.3f}"))
    is_tensorflow = cnn & (rows.where(lambda row: row.is_tensorflow) > 0)
    alone = rows.take(is_tensorflow)
    claims.append(
        at_most_both(
            "TensorFlow rows alone, family left out",
            ErrorFactor.of(errors_left_out(SHIPPED, alone, GROUPS["family"])),
            (1.36, 1.91),
        )
    )
    for n, corrected in after_measured(found, rows, cnn).items():
        claims.append(at_most_both(f"after {n} network{'s' * (n > 1)} of the box", corrected, AFTER_MEASURED[n]))
    below = float(np.mean(np.array(shares) > 1))
    claims.append(
        Claim("steps below the least time of answers", f"{100 * below:.2f} % of {len(shares)}", "<= 1 %", below <= 0.01)
    )
    return claims


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="write the law's numbers to epochcast/data/assumptions.csv")
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "external.json")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="draw predicted against measured there, as SVG")
    arguments = parser.parse_args()

    def work() -> int:
        start = time.monotonic()
        tables = read_tables()
        print("\n".join(used_lines(tables)), flush=True)
        records = records_of((row.name, row.size) for row in tables.rows)
        rows = features_of(tables.rows, records)
        kinds = rows.labels(lambda row: row.network.kind)
        masks = {kind: kinds == kind for kind in (CONVOLUTIONAL, TRANSFORMER)}

        before = [judged(form, rows) for form in BEFORE]
        plain, shipped = judged(summed(), rows), judged(SHIPPED, rows)
        print("\n" + table_text(FORM_HEADER, form_rows([*before, plain, shipped], masks, None)), flush=True)
        more = [judged(summed([term]), rows) for term in TERMS]
        reference = plain.score(masks[CONVOLUTIONAL])
        print("\n" + table_text(FORM_HEADER, form_rows(more, masks, reference)), flush=True)
        without = [judged(summed([t for t in SHIPPED_TERMS if t is not term]), rows) for term in SHIPPED_TERMS]
        beyond = [judged(summed([*SHIPPED_TERMS, term]), rows) for term in TERMS if term not in SHIPPED_TERMS]
        reference = shipped.score(masks[CONVOLUTIONAL])
        print("\n" + table_text(FORM_HEADER, form_rows([*without, *beyond], masks, reference)), flush=True)
        print(choice_words(without, beyond, masks[CONVOLUTIONAL], reference))

        print("\n" + breakdown(shipped, rows, masks[CONVOLUTIONAL]))
        print("\n" + breakdown(shipped, rows, masks[TRANSFORMER]))
        print("\n" + worst_lines(shipped, rows))
        shares = [least_seconds(row, records[row.name, row.size]) / row.step_sec for row in tables.rows]
        claims = claims_of(shipped, before[0], rows, masks, shares)
        numbers = numbers_of(shipped.numbers)
        claims += [same_kinds(tables, records), *same_numbers(numbers)]
        claims += [Claim(f"law: {name}", f"{value:.4g}") for name, value in asdict(numbers).items()]
        claims += cold_errors(numbers)
        print("\n" + claims_text(claims))
        judges = {"before": before, "sum": [plain], "shipped": [shipped], "more": more}
        judges |= {"without": without, "beyond": beyond}
        report = {
            "created_utc": utc_now(),
            "rows": len(rows),
            "excluded": [[*of, n] for of, n in sorted(tables.excluded.items())],
            "forms": {name: [form_json(each, masks) for each in found] for name, found in judges.items()},
            "numbers": asdict(numbers),
            "claims": [asdict(claim) for claim in claims],
        }
        write_json_atomically(arguments.out, report)
        print(f"written: {arguments.out.absolute()}")
        if arguments.figures is not None:
            from benchmarks.external.figures import draw_all

            factor = range_factor(shipped, masks[CONVOLUTIONAL], rows)
            drawn = draw_all(shipped, rows, masks, factor, arguments.figures)
            print("\n".join(f"drawn: {path}" for path in drawn))
        if arguments.fit:
            ranges = {kind: range_factor(shipped, mask, rows) for kind, mask in masks.items()}
            measured = after_measured(shipped, rows, masks[CONVOLUTIONAL])
            print(f"written: {write_numbers(numbers, ranges, shipped, rows, masks, measured)}")
        print(f"{clock(time.monotonic() - start)} in all")
        return 0 if all(claim.reached is not False for claim in claims) else 1

    return run_command(work)


def choice_words(without: Sequence[Judged], beyond: Sequence[Judged], chosen: Mask, score: float) -> str:
    """Return why the shipped form has just its numbers."""
    needed = min(each.score(chosen) for each in without) - score
    gains = {each.form.name.rpartition(" + ")[2]: score - each.score(chosen) for each in beyond}
    needs = {term.name: term.needs for term in TERMS}
    known = {name: gain for name, gain in gains.items() if needs[name] is None}
    best = max(known, key=lambda name: known[name])
    unknown = "; ".join(f"{n} {g:+.3f}, which needs {needs[n]}" for n, g in gains.items() if needs[n] and g > 0)
    return (
        f"score: sum of the logs of median and 90th percentile with GPU, family and set left out. Left out, any number "
        f"of the law costs at least {needed:.3f}; of further ones that are known of any network the best, {best}, "
        f"gains {known[best]:.3f} (kept from {LEAST_GAIN:g} on). Not kept: {unknown}."
    )


def form_json(found: Judged, masks: dict[str, Mask]) -> dict[str, Any]:
    """Return a form's figures as JSON values."""
    factors = {kind: {g: asdict(found.factor(g, mask)) for g in GROUPS} for kind, mask in masks.items()}
    return {"form": found.form.name, "numbers": list(map(float, found.numbers)), "error_factors": factors}
