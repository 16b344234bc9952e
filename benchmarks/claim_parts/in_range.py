"""Claims of the time model within its range, by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.claim_parts.claim import SEEDS, Claim, ape, at_most
from benchmarks.lib.reference_table import published_rows, steady_rows
from epochcast.model.evaluation.evaluation import cross_conformal
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.cross_validation import CrossValidation, cross_validate
from epochcast.model.training.recipes import (
    PHYSICS,
    PHYSICS_ANN,
    REFERENCE_ANN,
    fit_time_models,
)
from epochcast.model.training.splits import levels_of
from epochcast.output.progress import progress


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
