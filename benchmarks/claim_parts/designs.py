"""Claims of designed runs: few rows, and whole runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.claim_parts.claim import RANDOM, SEEDS, STARTS, Claim, ape, at_most
from benchmarks.lib.reference_table import published_rows, steady_rows
from epochcast.interval import Interval
from epochcast.model.selection.experimental_design import D_OPTIMAL_RUNS, guessed_law, next_indices
from epochcast.model.time_model.intervals import WITHIN, conformal_half_width
from epochcast.model.time_model.physics import Array
from epochcast.model.time_model.startup import FORM, whole_run
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.cross_validation import gather
from epochcast.model.training.fit_startup import fit_excess, fit_overhead
from epochcast.model.training.recipes import (
    LAW_ALONE,
    PHYSICS,
    PHYSICS_ANN,
    fit_time_models,
)
from epochcast.model.training.splits import FOLDS, fold_masks
from epochcast.output.progress import progress

PLAN_EPOCHS = (3, 10, 50)


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
