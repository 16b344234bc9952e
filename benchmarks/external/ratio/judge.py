"""Judge the ratio of two GPUs on pairs of measured steps: python benchmarks/external/ratio/judge.py (make external)

On all pairs of published steps of the same network, batch size and precision on two GPUs: of the tables that
`benchmarks/external/judge.py` fits the law of networks to, of published speeds, and of runs with measured power. A pair
is judged twice, by each form as fitted without its first GPU and without its second. An error factor is the larger of
predicted and measured over the smaller, median / 90th percentile. Writes results/benchmarks/external_ratio.json;
`--fit` writes the exponents and the ranges to the assumptions.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

import numpy as np

from benchmarks.claim_parts.claim import Claim, claims_text
from benchmarks.external.features import PRECISIONS, Features, features_of
from benchmarks.external.left_out import ErrorFactor, Mask
from benchmarks.external.ratio.forms import (
    BANDWIDTH,
    BEFORE,
    DENSE,
    PLAIN_FP32,
    RATES_BEFORE,
    JudgedRatio,
    exponents,
    first_known,
    fitted_exponents,
    judged,
    law_of_networks,
    rates_of,
)
from benchmarks.external.ratio.pairs import Pairs, Step, power_steps, speed_steps, steps_of
from benchmarks.external.records import records_of
from benchmarks.external.shipped_numbers import write_ratio
from benchmarks.external.tables import Measured, read_tables
from epochcast.cli import run_command
from epochcast.facts.tables import CONVOLUTIONAL
from epochcast.machine.environment import utc_now
from epochcast.output.text import clock, table_text
from epochcast.paths import home
from epochcast.roofline.network import OTHER_KIND, RECURRENT, TRANSFORMER
from epochcast.storage.files import write_json_atomically

SMALL, ANY_BY_RATES = "small", "rates"
ONE_TF32, PASCAL, SAME_SOFTWARE = "one side in TF32", "Pascal", "same software"
LEAST_HELD = 0.88
MOST_P90 = {CONVOLUTIONAL: 1.85, ONE_TF32: 1.9}
TWO, THREE = (DENSE, BANDWIDTH), (DENSE, PLAIN_FP32, BANDWIDTH)


def read_steps() -> tuple[list[Measured], list[Step], int]:
    """Return the rows with known layers, all steps, and how many answers refuse."""
    power_rows, others = power_steps()
    rows = [*read_tables().rows, *power_rows]
    steps = [*steps_of(rows), *speed_steps(), *others]
    answered = [step for step in steps if step.is_answered]
    return rows, answered, len(steps) - len(answered)


def masks_of(pairs: Pairs) -> dict[str, Mask]:
    """Return the pairs of each kind of network, and groups of the convolutional ones."""
    kinds = (CONVOLUTIONAL, TRANSFORMER, RECURRENT)
    by_kind = {kind: pairs.both(lambda step, kind=kind: step.kind == kind) for kind in kinds}  # type: ignore[misc]  # bound
    small = pairs.both(lambda step: step.is_small)
    convolutional = by_kind[CONVOLUTIONAL] & ~small
    either, both = (of(lambda step: step.arithmetic == "tf32") for of in (pairs.either, pairs.both))
    by_precision = {of: pairs.both(lambda step, of=of: step.precision == of) for of in PRECISIONS}  # type: ignore[misc]  # bound
    return {
        CONVOLUTIONAL: convolutional,
        **{name: convolutional & own for name, own in by_precision.items()},
        ONE_TF32: convolutional & either & ~both,
        PASCAL: convolutional & pairs.either(lambda step: step.gpu.family.startswith("pascal")),
        SAME_SOFTWARE: convolutional & pairs.alike(lambda step: step.setting),
        TRANSFORMER: by_kind[TRANSFORMER],
        RECURRENT: by_kind[RECURRENT],
        SMALL: small,
        OTHER_KIND: ~np.any(list(by_kind.values()), axis=0),
    }


def form_lines(found: Sequence[JudgedRatio], masks: Mapping[str, Mask], chosen: Mask) -> str:
    """Return a table of the forms' error factors on the chosen pairs."""
    own = {name: mask & chosen for name, mask in masks.items() if (mask & chosen).any()} | {"all": chosen}
    lines = [[f"{name}, {mask.sum()}", *(str(each.factor(mask)) for each in found)] for name, mask in own.items()]
    lines.append(["score of all", *(f"{each.score(chosen):.3f}" for each in found)])
    lines.append(["numbers", *(each.form.numbers for each in found)])
    return table_text(["pairs", *(each.form.name for each in found)], lines)


def ranges_of(shipped: JudgedRatio, by_rates: JudgedRatio, masks: Mapping[str, Mask]) -> dict[str, float]:
    """Return the factor of each range: by the law, of small images, and by rates."""
    has_law = shipped.pairs.both(lambda step: step.row is not None)
    convolutional = shipped.range_factor(masks[CONVOLUTIONAL] & has_law)
    kinds = (CONVOLUTIONAL, TRANSFORMER, RECURRENT, OTHER_KIND)
    return {
        CONVOLUTIONAL: convolutional,
        TRANSFORMER: shipped.range_factor(masks[TRANSFORMER] & has_law),
        SMALL: max(convolutional, shipped.range_factor(masks[SMALL])),  # two boards alone stand behind the second
        **{kind: by_rates.range_factor(masks[kind]) for kind in (RECURRENT, OTHER_KIND)},
        ANY_BY_RATES: max(by_rates.range_factor(masks[kind]) for kind in kinds),
    }


def claims_of(shipped: JudgedRatio, masks: Mapping[str, Mask], ranges: Mapping[str, float]) -> list[Claim]:
    """Return every figure of the shipped form with its target."""
    claims = []
    for name, mask in masks.items():
        found, limit = shipped.factor(mask), MOST_P90.get(name)
        target = "" if limit is None else f"p90 <= {limit:g}"
        words = f"{found}, {mask.sum()} pairs"
        claims.append(Claim(name, words, target, None if limit is None else found.p90 <= limit))
        kind = name if name in ranges else CONVOLUTIONAL
        held, by_others = shipped.held(mask, ranges[kind]), shipped.held_by_others(mask)
        others = "" if np.isnan(by_others) else f"; {100 * by_others:.0f} % a range read off the other GPUs' pairs"
        words = f"{100 * held:.1f} %{others}"
        claims.append(
            Claim(f"  range x/÷{ranges[kind]:.3g} holds", words, f">= {100 * LEAST_HELD:g} %", held >= LEAST_HELD)
        )
    return claims


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--fit", action="store_true", help="write exponents and ranges to epochcast/data/assumptions.csv"
    )
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "external_ratio.json")
    arguments = parser.parse_args()

    def work() -> int:
        start = time.monotonic()
        rows, steps, refused = read_steps()
        pairs, to_half = Pairs.of(steps), Pairs.of(steps, to_half=True)
        masks = masks_of(pairs)
        sources = Counter(pairs.steps[i].source for i in pairs.first)
        print(
            f"{len(pairs)} pairs of {len(steps)} steps on {len(pairs.gpu_names)} boards; not used: {refused} steps in "
            "half precision on boards without a rate for it, which answers refuse\npairs by source: "
            + ", ".join(f"{name} {n}" for name, n in sorted(sources.items())),
            flush=True,
        )
        features = features_of(rows, records_of((row.name, row.size) for row in rows))
        has_layers = pairs.both(lambda step: step.row is not None)
        found = judged_forms(features, pairs, ~has_layers)
        shipped, by_rates = found[-1], found[-3]
        print(f"\n{form_lines(found, masks, np.ones(len(pairs), bool))}")
        print(f"\nwhere the layers are known\n{form_lines(found, masks, has_layers)}")
        print(f"\nwhere they are not known\n{form_lines(found, masks, ~has_layers)}")

        ranges = ranges_of(shipped, by_rates, masks)
        own = fitted_exponents(rates_of(pairs)[:, TWO][~has_layers], pairs.log_ratio[~has_layers])
        numbers = {"dense": float(own[0]), "bandwidth": float(own[1])}
        claims = [*claims_of(shipped, masks, ranges), to_half_claim(judged(shipped.form, to_half), ranges)]
        claims += [Claim(f"exponent: {name}", f"{value:.3g}") for name, value in numbers.items()]
        claims += [Claim(f"range: {name}", f"x/÷{value:.3g}") for name, value in ranges.items()]
        print("\n" + claims_text(claims))
        factors = {each.form.name: {of: factor_json(each.factor(m)) for of, m in masks.items()} for each in found}
        report = {"created_utc": utc_now(), "pairs": dict(sources), "forms": factors, "exponents": numbers}
        report |= {"ranges": ranges, "claims": [asdict(claim) for claim in claims]}
        write_json_atomically(arguments.out, report)
        print(f"written: {arguments.out.absolute()}")
        if arguments.fit:
            print(f"written: {write_ratio(numbers, ranges, shipped, masks)}")
        print(f"{clock(time.monotonic() - start)} in all")
        return 0 if all(claim.reached is not False for claim in claims) else 1

    return run_command(work)


def factor_json(factor: ErrorFactor) -> dict[str, float] | None:
    """Return an error factor as JSON values, None where there is no answer."""
    return asdict(factor) if factor.n else None


def to_half_claim(found: JudgedRatio, ranges: Mapping[str, float]) -> Claim:
    """Return how well a change to half precision is met, on the same GPU or another."""
    mask = found.pairs.both(lambda step: step.kind == CONVOLUTIONAL and not step.is_small)
    held = found.held(mask, ranges[CONVOLUTIONAL])
    words = f"{found.factor(mask)}, {mask.sum()} pairs; the range holds {100 * held:.1f} %"
    return Claim("convolutional, from fp32 to half", words)


def judged_forms(features: Features, pairs: Pairs, no_layers: Mask) -> list[JudgedRatio]:
    """Return all forms as judged, at last the two as they are shipped.

    By rates it is fitted to the pairs that it answers: those without layers.
    """
    everything = np.ones(len(pairs), bool)
    by_rates, law = exponents("dense, bandwidth", pairs, no_layers, TWO), law_of_networks(features)
    forms = [
        BEFORE,
        RATES_BEFORE,
        exponents("dense, plain, bandwidth, of all pairs", pairs, everything, THREE),
        exponents("dense, plain, bandwidth", pairs, no_layers, THREE),
        by_rates,
        law,
        first_known("law, else dense, bandwidth", law, by_rates),
    ]
    return [judged(form, pairs) for form in forms]
