"""Every figure claimed of the time model and of plans, with its target: python benchmarks/claims.py (make claims)

On the reference A100 table; transfer also on rows measured on a CPU (results/cpu/). Splits are by configuration. Writes
claims.md and claims.json to results/benchmarks/claims/. `--only NAME,...` runs some parts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

import numpy as np
import numpy.typing as npt

from benchmarks.lib.claim import RANDOM, Claim, at_most
from benchmarks.lib.plan_claims import info, knapsack, plans, simulated
from benchmarks.lib.reference_table import held_out, published_rows, steady_rows
from epochcast.aggregate.averages.averaging import aggregate
from epochcast.cli import run_command
from epochcast.interval import Interval
from epochcast.machine.environment import utc_now
from epochcast.model.evaluation.evaluation import cross_conformal
from epochcast.model.selection.experimental_design import D_OPTIMAL_RUNS, guessed_law, next_indices
from epochcast.model.time_model.features import FEATURE_NAMES
from epochcast.model.time_model.intervals import WITHIN, beyond_half_width, conformal_half_width
from epochcast.model.time_model.monotonicity import order_violations, violations_by_axis
from epochcast.model.time_model.physics import MIN_ROWS, Array, Law, fit_gated_law
from epochcast.model.time_model.startup import FORM, whole_run
from epochcast.model.time_model.time_model import Table, TimeModel
from epochcast.model.training.calibration import log_errors
from epochcast.model.training.cross_validation import CrossValidation, cross_validate, gather
from epochcast.model.training.fit import choose_start
from epochcast.model.training.fit_startup import fit_excess, fit_overhead
from epochcast.model.training.recipes import (
    LAW_ALONE,
    LAW_UNDER_NETWORK,
    PHYSICS,
    PHYSICS_ANN,
    REACH,
    REFERENCE_ANN,
    fit_time_models,
)
from epochcast.model.training.splits import FOLDS, Level, fold_masks, levels_of
from epochcast.model.training.time_ann import MEMBERS
from epochcast.output.progress import progress
from epochcast.output.text import clock, table_text
from epochcast.paths import CODE_ROOT, home
from epochcast.storage.files import write_json_atomically, write_text_atomically
from epochcast.storage.tables import read_runs

STARTS = 15  # first configurations of the designs, drawn at random
SEEDS = 5
UNSEEN_SEEDS = 10
STALL_ROWS, STALL_FACTORS = 40, (1.5, 2.0, 10.0)
PLAN_EPOCHS = (3, 10, 50)


def ape(model: TimeModel, table: Table, mask: npt.NDArray[np.bool_]) -> Array:
    """|relative error| in % of the rows in the mask."""
    own = table.take(mask)
    return np.asarray(100 * np.abs(model.times(own.configs) / own.seconds - 1))


def everything(table: Table) -> npt.NDArray[np.bool_]:
    return np.ones((1, len(table)), bool)


# --- in range ---------------------------------------------------------------------------------------------------------


def in_range() -> list[Claim]:
    """5 x 5-fold cross-validation on the published times, and on steady times with stalls left out."""
    claims = []
    for name, rows, limit in (("published times", published_rows(), 1.2), ("steady times", steady_rows(), 0.95)):
        table = Table.of(rows)
        result = cross_validate(table, [PHYSICS_ANN], say=progress(f"cross-validation, {name}"))
        claims += _metrics(f"{name}, n = {len(table)}", result, PHYSICS_ANN, limit)
        checked = cross_conformal(result, PHYSICS_ANN)
        assert checked is not None
        coverage, half, largest = (100 * share for share in (checked.coverage, checked.half_width, checked.largest))
        claims += [
            Claim(f"{name}: coverage of the 90 % interval", f"{coverage:.1f} %", "87-93 %", 87 <= coverage <= 93),
            at_most(f"{name}: its mean half-width", half, 2.5, f" (largest {largest:.2f})"),
        ]
        laws = cross_validate(table, [PHYSICS])
        claims.append(Claim(f"{name}: the law of 6 terms alone, MAPE", f"{100 * laws.mape(PHYSICS):.2f} %"))
    return claims


def _metrics(name: str, result: CrossValidation, form: str, limit: float | None) -> list[Claim]:
    metrics, throughput = result.metrics(form), result.metrics(form, as_throughput=True)

    def mean_and_sd(values: Sequence[float]) -> tuple[float, str]:
        return float(np.mean(values)), f" ± {np.std(values, ddof=1):.2g}"

    mape, p90, r2, thr, mae = (
        mean_and_sd(values)
        for values in (
            [100 * m.mape for m in metrics],
            [100 * m.p90_ape for m in metrics],
            [m.r2 or 0.0 for m in metrics],
            [m.mae for m in throughput],
            [m.mae for m in metrics],
        )
    )
    if limit is None:
        values = (
            (mape, "MAPE", "%"),
            (p90, "90th percentile", "%"),
            (r2, "R2", ""),
            (thr, "throughput MAE", "images/s"),
        )
        return [Claim(f"{name}: {what}", f"{v[0]:.4g} {unit}{v[1]}") for v, what, unit in values]
    return [
        at_most(f"{name}: MAPE", mape[0], limit, mape[1]),
        at_most(f"{name}: 90th percentile", p90[0], 2.2, p90[1]),
        Claim(f"{name}: R2", f"{r2[0]:.5f}{r2[1]}", ">= 0.999", r2[0] >= 0.999),
        at_most(f"{name}: derived throughput, MAE", thr[0], 500, thr[1], "images/s"),
        Claim(f"{name}: MAE", f"{mae[0]:.3g} s{mae[1]}"),
    ]


def original() -> list[Claim]:
    """The recipe that the project started from, by the same splits of the published times."""
    table = Table.of(published_rows())
    results = [cross_validate(table, [REFERENCE_ANN], seed=seed, say=progress("original network")) for seed in range(3)]
    pooled = replace(
        results[0], predicted={REFERENCE_ANN: np.vstack([result.predicted[REFERENCE_ANN] for result in results])}
    )
    repeats = len(pooled.predicted[REFERENCE_ANN])
    name = f"original network, published times, n = {len(table)}, {repeats} repeats"
    claims = _metrics(name, pooled, REFERENCE_ANN, None)
    for level in levels_of(table.configs):
        masks = np.array([~level.mask] * SEEDS)
        models = fit_time_models(REFERENCE_ANN, table, masks, 0)
        own = [float(ape(model, table, level.mask).mean()) for model in models]
        claims.append(
            Claim(f"original network, left out: {level.label}", f"{np.mean(own):.1f} % ({min(own):.1f}-{max(own):.1f})")
        )
    return claims


# --- beyond the range -------------------------------------------------------------------------------------------------

LEVEL_LIMITS = {
    "depth 2": 3.5, "depth 3": 3.5, "depth 4": 3.5, "depth 5": 3.5, "base_filters 16": 8.0, "base_filters 128": 3.5,
    "batch_size <= 48": 2.5, "batch_size >= 1536": 1.5,
}  # fmt: skip


def beyond() -> list[Claim]:
    """Every level left out, published times: errors of five seeds, both forms of the law, and nested intervals."""
    table = Table.of(published_rows())
    levels = levels_of(table.configs)
    assert set(LEVEL_LIMITS) <= {level.label for level in levels}
    claims: list[Claim] = []
    means = {}
    for law_form in (LAW_UNDER_NETWORK, LAW_ALONE):
        masks = np.array([~level.mask for level in levels for _ in range(SEEDS)])
        seeds = list(range(SEEDS)) * len(levels)
        models = fit_time_models(
            PHYSICS_ANN, table, masks, seeds, law_form=law_form, say=progress(f"left-out levels, {law_form}")
        )
        errors = {}
        for number, level in enumerate(levels):
            if level.axis == "depth" and level.is_edge and law_form == LAW_UNDER_NETWORK:
                held = [_clamped(m) for m in models[number * SEEDS : (number + 1) * SEEDS]]
                found = np.mean([float(ape(m, table, level.mask).mean()) for m in held])
                claims.append(Claim(f"left out: {level.label}, the residual held at the border", f"{found:.2f} %"))
            own = [float(ape(m, table, level.mask).mean()) for m in models[number * SEEDS : (number + 1) * SEEDS]]
            errors[level.label] = own
        means[law_form] = float(np.mean([np.mean(own) for own in errors.values()]))
        for label, own in errors.items():
            spread = f" ({min(own):.2f}-{max(own):.2f})"
            if label in ("depth 2", "depth 5"):
                spread += "; following depth was not chosen blind"
            if law_form == LAW_UNDER_NETWORK and label in LEVEL_LIMITS:
                claims.append(at_most(f"left out: {label}", float(np.mean(own)), LEVEL_LIMITS[label], spread))
            else:
                claims.append(Claim(f"left out: {label}, network on {law_form}", f"{np.mean(own):.2f} %{spread}"))
    for law_form, mean in means.items():
        claims.append(Claim(f"mean of all left-out levels, network on {law_form}", f"{mean:.2f} %"))
    best = min(means, key=lambda form: means[form])
    claims.append(
        Claim("the law that is shipped has the lower mean", best, LAW_UNDER_NETWORK, best == LAW_UNDER_NETWORK)
    )
    return [*claims, *_two_axes(table, levels), *_nested(table, levels)]


def _two_axes(table: Table, levels: Sequence[Level]) -> list[Claim]:
    """A depth and a width left out at once, judged on the rows that have both: why no interval is given there."""
    pairs = [
        (depth, width)
        for depth in levels
        for width in levels
        if depth.is_edge and width.is_edge and (depth.axis, width.axis) == ("depth", "base_filters")
    ]
    masks = np.array([~(depth.mask | width.mask) for depth, width in pairs])
    models = fit_time_models(PHYSICS_ANN, table, masks, 0, say=progress("two axes"))
    claims = []
    for (depth, width), model in zip(pairs, models, strict=True):
        own = ape(model, table, depth.mask & width.mask)
        what = f"left out together: {depth.label} and {width.label}, n = {len(own)}"
        claims.append(Claim(what, f"{own.mean():.1f} % (worst {own.max():.0f})"))
    return claims


def _clamped(model: TimeModel) -> TimeModel:
    """The model with its residual clamped at the border of the box along every input."""
    name, steps = REACH
    return model.reaching(name, -steps)


def _nested(table: Table, levels: Sequence[Level]) -> list[Claim]:
    """Each level judged with a width from levels of the rows outside it."""
    masks: dict[bytes, npt.NDArray[np.bool_]] = {}
    inner: list[list[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]] = []  # of each level: training and test rows
    for level in levels:
        masks[(~level.mask).tobytes()] = ~level.mask
        rest = np.flatnonzero(~level.mask)
        pairs = []
        for other in levels_of(table.take(~level.mask).configs):
            test = np.zeros(len(table), bool)
            test[rest[other.mask]] = True
            pairs.append((~level.mask & ~test, test))
            masks[pairs[-1][0].tobytes()] = pairs[-1][0]
        inner.append(pairs)
    fitted = fit_time_models(PHYSICS_ANN, table, np.array(list(masks.values())), 0, say=progress("nested intervals"))
    models = dict(zip(masks, fitted, strict=True))
    claims, edge_inside, half_widths, coverage = [], [], [], {}
    for level, pairs in zip(levels, inner, strict=True):
        errors = np.concatenate([log_errors(models[train.tobytes()], table, test) for train, test in pairs])
        half = beyond_half_width(errors, 0.0)  # the floor of the width within range never binds here
        assert half is not None
        inside = log_errors(models[(~level.mask).tobytes()], table, level.mask) <= half
        coverage[level.label] = 100 * float(inside.mean())
        half_widths.append(100 * float(np.expm1(half)))
        if level.is_edge:
            edge_inside.append(inside)
        kind = "edge" if level.is_edge else "interior"
        claims.append(
            Claim(
                f"nested interval: {level.label} ({kind})",
                f"{coverage[level.label]:.0f} % inside ±{half_widths[-1]:.1f} %",
            )
        )
    edges = 100 * float(np.concatenate(edge_inside).mean())
    worst = min(coverage, key=lambda label: coverage[label])
    return [
        *claims,
        Claim("nested interval: coverage of edge levels, by rows", f"{edges:.1f} %", ">= 85 %", edges >= 85),
        Claim("nested interval: worst level", f"{worst}, {coverage[worst]:.0f} %"),
        at_most("nested interval: mean half-width", float(np.mean(half_widths)), 11),
    ]


# --- other checks -----------------------------------------------------------------------------------------------------


def unseen() -> list[Claim]:
    """The five configurations kept from all fitting, ten seeds, steady times."""
    table = Table.of(steady_rows())
    five = held_out()
    is_in = np.array([config not in five for config in table.configs])
    masks = np.repeat(is_in[None], UNSEEN_SEEDS, axis=0)
    models = fit_time_models(PHYSICS_ANN, table, masks, list(range(UNSEEN_SEEDS)), say=progress("unseen five"))
    test = table.take(~is_in)
    errors = np.array([100 * (m.times(test.configs) / test.seconds - 1) for m in models])
    seeds = np.abs(errors).mean(axis=1)
    claims = [at_most("five unseen: mean", float(seeds.mean()), 2.5, f" ({seeds.min():.2f}-{seeds.max():.2f})")]
    for config, own in zip(test.configs, errors.T, strict=True):
        largest, found = float(np.abs(own).max()), f"{own.mean():+.2f} % ({own.min():+.2f} to {own.max():+.2f})"
        is_known_bad = (config.depth, config.base_filters, config.batch_size) == (2, 16, 160)
        claims.append(
            Claim(f"five unseen: {config}", found)
            if is_known_bad
            else Claim(f"five unseen: {config}", found, "<= 3 %", largest <= 3)
        )
    falls = sum(map(order_violations, models))
    claims.append(Claim(f"times that fall with depth or filters, {UNSEEN_SEEDS} seeds", str(falls), "0", falls == 0))
    for name in ("", *FEATURE_NAMES):  # what decided which input the residual follows: no measured time is in it
        wrong = [violations_by_axis(_clamped(m).reaching(name, 1)) for m in models]
        counts = ", ".join(f"{axis} {sum(w[axis] for w in wrong)}" for axis in wrong[0])
        what = f"following {name} one step" if name else "held at the border everywhere"
        claims.append(Claim(f"order, {what}: times that go the wrong way with", counts))
    return claims


def training_time() -> list[Claim]:
    """The whole shipped ensemble, from rows to weights, three times; Keras is up already."""
    table = Table.of(steady_rows())
    seconds = []
    for seed in range(4):
        start = time.perf_counter()
        fit_time_models(PHYSICS_ANN, table, everything(table), seed)
        seconds.append(time.perf_counter() - start)
    own = seconds[1:]  # the first one pays for Keras's start
    return [at_most(f"training {MEMBERS} networks", max(own), 15, f" (worst of {len(own)}, n = {len(table)})", "s")]


def stalled() -> list[Claim]:
    """One row made slower: what that does to the other predictions, and to its own."""
    published = Table.of(published_rows())
    _, gated = fit_gated_law(LAW_UNDER_NETWORK, published.configs, published.seconds, published.train_n)
    dropped = " ".join(str(c) for c, out in zip(published.configs, gated, strict=True) if out)
    table = Table.of(steady_rows())
    rows = RANDOM(0).choice(len(table), STALL_ROWS, replace=False)
    (clean,) = fit_time_models(PHYSICS_ANN, table, everything(table), 0)
    times = clean.times(table.configs)
    claims = [
        Claim("rows of the published table that the gate leaves out", dropped, "(3,16,512)", dropped == "(3,16,512)")
    ]
    for factor in STALL_FACTORS:
        # one stack: every planted row beside the clean ones, and a mask for each that takes it in place of its own
        planted = Table(
            [*table.configs, *(table.configs[row] for row in rows)],
            np.concatenate([table.seconds, factor * table.seconds[rows]]),
            table.train_n,
        )
        masks = np.zeros((len(rows), len(planted)), bool)
        masks[:, : len(table)] = True
        for number, row in enumerate(rows):
            masks[number, [row, len(table) + number]] = False, True
        models = fit_time_models(PHYSICS_ANN, planted, masks, 0, say=progress(f"stalls x {factor:g}"))
        others, own = [], []
        for model, row in zip(models, rows, strict=True):
            change = 100 * np.abs(model.times(table.configs) / times - 1)
            own.append(change[row])
            others.append(np.delete(change, row).max())
        text = f" (median {np.median(others):.2f})"
        claims.append(at_most(f"a row x {factor:g}: others move at most", max(others), 1.0, text))
        text = f" (median {np.median(own):.2f})"
        claims.append(at_most(f"a row x {factor:g}: its own prediction", max(own), 5.0, text))
    return claims


def design() -> list[Claim]:
    """Error on the rest after designed runs of three epochs, begun at any of 15 configurations; the law alone."""
    rows = steady_rows()
    table, published = Table.of(rows), Table.of(published_rows())
    known = [r.overhead_sec_mean for r in rows if r.overhead_sec_mean is not None]
    first = np.array([r.first_epoch_sec_mean for r in rows], float)
    overhead = float(np.median(known))
    spent = overhead + first + 2 * table.seconds

    def guessed(taken: list[int]) -> Array:
        """What a run would cost, told from the rows measured by then alone."""
        if not taken:
            return np.ones(len(table))
        own, configs = [table.configs[i] for i in taken], table.configs
        steady = guessed_law(LAW_ALONE, own, table.seconds[taken], table.train_n, configs).seconds(configs)
        excess = guessed_law(FORM, own, (first - table.seconds)[taken], table.train_n, configs).seconds(configs)
        return np.asarray(overhead + excess + 3 * steady)

    claims = []
    starts = [int(RANDOM(seed).integers(len(table))) for seed in range(STARTS)]
    for name, costs, limit, sizes in (
        ("designed", None, 3.0, (6, 7, 8, 12, 16)),
        ("cost-aware", guessed, 4.0, (6, 7, 8, 12, 16)),
    ):
        orders = [[s, *next_indices(table.configs, [s], max(sizes) - 1, table.train_n, costs)] for s in starts]
        for size in sizes:
            seconds = [spent[order[:size]].sum() for order in orders]
            found = []
            for times in (table, published):
                errors = [_law_error(times, order[:size]) for order in orders]
                found.append((float(np.mean(errors)), max(errors)))
            text = (
                f"{found[0][0]:.2f} %, worst {found[0][1]:.2f} (published times {found[1][0]:.2f}, worst "
                f"{found[1][1]:.2f}); {np.mean(seconds):.0f} s, worst {max(seconds):.0f}"
            )
            claims.append(Claim(f"{name}, {size} runs: error on the rest, GPU time", text))
            if size == D_OPTIMAL_RUNS:
                claims.append(at_most(f"{name}, {size} runs: error, worst of {STARTS} starts", found[0][1], limit))
                what = f"{name}, {size} runs: GPU time, mean of the same {STARTS} starts"
                longest = 420 if costs is None else 270
                claims.append(at_most(what, float(np.mean(seconds)), longest, f" (worst {max(seconds):.0f})", "s"))
                everywhere = [
                    [s, *next_indices(table.configs, [s], size - 1, table.train_n, costs)] for s in range(len(table))
                ]
                spends = [float(spent[order].sum()) for order in everywhere]
                errors = [_law_error(table, order) for order in everywhere]
                text = f"{np.mean(errors):.2f} %, worst {max(errors):.2f}; {np.mean(spends):.0f} s"
                what = f"{name}, {size} runs: begun at each of the {len(table)}"
                claims.append(Claim(what, f"{text}, worst {max(spends):.0f}"))
                order = next_indices(table.configs, [], size, table.train_n, costs)
                text = f"{_law_error(table, order):.2f} %, {spent[order].sum():.0f} s"
                claims.append(Claim(f"{name}, {size} runs: begun where the design begins", text))
    for size in (7, 16, 100):
        errors = [_law_error(table, RANDOM(seed).permutation(len(table))[:size].tolist()) for seed in range(STARTS)]
        claims.append(Claim(f"random, {size} runs, the law alone", f"{np.mean(errors):.2f} %, worst {max(errors):.2f}"))
    return claims


def few_rows() -> list[Claim]:
    """The law alone and with a network on it, after few designed or random runs: where the network begins to pay."""
    table = Table.of(steady_rows())
    sizes = (12, 16, 20, 30)
    masks, names = [], []
    for name in ("designed", "random"):
        for seed in range(SEEDS):
            order = RANDOM(seed).permutation(len(table)).tolist()
            if name == "designed":
                order = [order[0], *next_indices(table.configs, order[:1], max(sizes) - 1, table.train_n)]
            for size in sizes:
                mask = np.zeros(len(table), bool)
                mask[order[:size]] = True
                masks.append(mask)
                names.append(f"{name}, {size} rows")
    errors: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for form in (PHYSICS, PHYSICS_ANN):
        models = fit_time_models(form, table, np.array(masks), 0, say=progress("few rows"))
        for name, mask, model in zip(names, masks, models, strict=True):
            errors[name].setdefault(form, []).append(float(ape(model, table, ~mask).mean()))
    return [
        Claim(name, ", ".join(f"{form} {np.mean(e):.2f} % (worst {max(e):.2f})" for form, e in own.items()))
        for name, own in errors.items()
    ]


def _law_error(table: Table, chosen: Sequence[int]) -> float:
    mask = np.zeros(len(table), bool)
    mask[list(chosen)] = True
    (model,) = fit_time_models(PHYSICS, table, mask[None], 0)
    return float(ape(model, table, ~mask).mean())


def whole_runs() -> list[Claim]:
    """Wall time of a run of so many epochs, its parts and widths learned without its fold; steady rows."""
    rows = [r for r in steady_rows() if r.overhead_sec_mean is not None]
    table = Table.of(rows)
    masks = fold_masks(len(rows), FOLDS, 1, 0)
    models = fit_time_models(PHYSICS_ANN, table, masks, 0, say=progress("whole runs"))
    errors = np.abs(np.log(gather(table, masks, 1, models)[0] / table.seconds))
    covered: dict[str, list[bool]] = {}
    misses: dict[str, list[float]] = {}
    for mask, model in zip(masks, models, strict=True):
        train = [row for row, is_in in zip(rows, mask, strict=True) if is_in]
        excess, overhead = fit_excess(train, 0), fit_overhead(train)
        assert excess is not None and overhead is not None
        half = conformal_half_width(errors[mask])
        for row in (row for row, is_in in zip(rows, mask, strict=True) if not is_in):
            steady = Interval.of_log(float(model.times([row.config])[0]), half)
            first = row.first_epoch_sec_mean or 0.0
            cases = {"first epoch": (whole_run(row.config, steady, WITHIN, excess, overhead).first_epoch, first)}
            for epochs in PLAN_EPOCHS:
                actual = (row.overhead_sec_mean or 0.0) + first + (epochs - 1) * row.avg_time_mean
                wall = whole_run(row.config, steady, WITHIN, excess, overhead, epochs).wall
                cases[f"{epochs} epochs"] = (wall, actual)
            for name, (interval, actual) in cases.items():
                assert interval is not None and interval.low is not None and interval.high is not None
                covered.setdefault(name, []).append(interval.low <= actual <= interval.high)
                misses.setdefault(name, []).append(100 * abs(interval.value / actual - 1))
    return [
        Claim(
            f"{name}: MAPE, coverage of the 90 % interval",
            f"{np.mean(misses[name]):.2f} %, {100 * np.mean(covered[name]):.0f} %",
        )
        for name in covered
    ]


# --- another device ---------------------------------------------------------------------------------------------------


def transfer() -> list[Claim]:
    """Error on the rest of another device's rows after designed runs, from nothing or from the A100's model.

    Real: two CPU stacks, nothing like a GPU. Made up: 15 devices, each of a random half of the A100's rows with every
    term of their law made 1/3 to 3 times as long and their errors about it kept; the model to start from has the other
    half.
    """
    reference = Table.of(steady_rows())
    halves = fold_masks(len(reference), 2, STARTS, 0)[::2]  # a source's rows are none of its made-up device's
    everything_known = everything(reference)
    models = fit_time_models(PHYSICS_ANN, reference, np.vstack([everything_known, halves]), 0, say=progress("transfer"))
    sources = [
        (_plain(reference.take(mask)), m) for mask, m in zip([everything_known[0], *halves], models, strict=True)
    ]
    claims = []
    for folder in sorted((CODE_ROOT / "results" / "cpu").glob("*/runs.csv")):
        table = Table.of(aggregate(read_runs(folder)).rows)
        name = f"{folder.parent.name} on a CPU, n = {len(table)}"
        (whole,) = fit_time_models(PHYSICS, table, everything(table), 0)
        floor = float(ape(whole, table, everything(table)[0]).mean())
        claims.append(Claim(f"{name}: the law fitted to all its rows", f"{floor:.1f} %"))
        claims += _after_few_rows(name, [table] * STARTS, sources[:1] * STARTS)
    devices = []
    for seed, mask in enumerate(halves):
        own = reference.take(~mask)
        plain = _plain(own)
        factors = np.exp(RANDOM(seed).uniform(-np.log(3), np.log(3), len(plain.coefficients)))
        own_error = own.seconds / plain.seconds(own.configs)
        devices.append(replace(own, seconds=(plain.parts(own.configs) * factors).sum(axis=1) * own_error))
    return [*claims, *_after_few_rows(f"made up, n = {len(devices[0])}", devices, sources[1:])]


def _plain(table: Table) -> Law:
    law, _ = fit_gated_law(LAW_ALONE, table.configs, table.seconds, table.train_n)
    return law


def _after_few_rows(name: str, tables: Sequence[Table], sources: Sequence[tuple[Law, TimeModel]]) -> list[Claim]:
    """One table for each start of a design; with the A100's model as `epochcast train --start_from` takes it."""
    claims = []
    for size in (1, 2, 3, 4, 5, 6, 8, 12):
        errors: dict[str, list[float]] = {"from nothing": [], "from the A100's": []}
        chosen: Counter[str] = Counter()
        for seed, (table, source) in enumerate(zip(tables, sources, strict=True)):
            first = int(RANDOM(seed).integers(len(table)))
            mask = np.zeros(len(table), bool)
            mask[[first, *next_indices(table.configs, [first], size - 1, table.train_n)]] = True
            choice = choose_start(table.take(mask), *source)
            chosen[choice.name] += 1
            for words, start in (("from nothing", None), ("from the A100's", choice.start)):
                if words == "from nothing" and size < MIN_ROWS:
                    continue
                (model,) = fit_time_models(PHYSICS, table, mask[None], 0, start=start)
                errors[words].append(float(ape(model, table, ~mask).mean()))
        found = [f"{words} {np.mean(own):.1f} (worst {max(own):.1f})" for words, own in errors.items() if own]
        picks = ", ".join(f"{n} x {words}" for words, n in chosen.most_common())
        claims.append(Claim(f"{name}: {size} designed rows, error %", f"{', '.join(found)}; chosen: {picks}"))
    return claims


PARTS: dict[str, Callable[[], list[Claim]]] = {
    "training_time": training_time,
    "in_range": in_range,
    "original": original,
    "beyond": beyond,
    "unseen": unseen,
    "design": design,
    "few_rows": few_rows,
    "whole_runs": whole_runs,
    "transfer": transfer,
    "stalled": stalled,
    "knapsack": knapsack,
    "plans": plans,
    "info": info,
    "simulated": simulated,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="claims.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run")
    names = parser.parse_args().only.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; use {', '.join(PARTS)}")

    def work() -> int:
        start = time.monotonic()
        out = home() / "results" / "benchmarks" / "claims"
        report: dict[str, Any] = {"created_utc": utc_now()}
        text = []
        for name in names:
            part_start = time.monotonic()
            claims = PARTS[name]()
            report[name] = [asdict(claim) for claim in claims]
            words = {None: "", True: "yes", False: "NO"}
            rows = [[c.what, c.found, c.target, words[c.reached]] for c in claims]
            table = table_text(["claim", "found", "target", "reached"], rows)
            what = " ".join((PARTS[name].__doc__ or "").split())
            text.append(f"{name}: {what} [{clock(time.monotonic() - part_start)}]\n\n{table}\n")
            print(text[-1], flush=True)
        missed = [c["what"] for name in names for c in report[name] if c["reached"] is False]
        text.append(f"not reached: {'; '.join(missed) or 'nothing'}\n{clock(time.monotonic() - start)} in all")
        print(text[-1])
        write_json_atomically(out / "claims.json", report)
        write_text_atomically(out / "claims.md", "\n".join(f"```\n{part}\n```\n" for part in text))
        print(f"written: {out}")
        return 0

    return run_command(work)
