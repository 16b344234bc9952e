"""Claims of the time model beyond its range: levels left out, intervals there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.claim_parts.claim import SEEDS, Claim, ape, at_most
from benchmarks.lib.reference_table import published_rows
from epochcast.model.time_model.intervals import beyond_half_width
from epochcast.model.time_model.time_model import Table, TimeModel
from epochcast.model.training.calibration import log_errors
from epochcast.model.training.recipes import (
    LAW_ALONE,
    LAW_UNDER_NETWORK,
    PHYSICS_ANN,
    REACH,
    fit_time_models,
)
from epochcast.model.training.splits import Level, levels_of
from epochcast.output.progress import progress

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
                held = [clamped(m) for m in models[number * SEEDS : (number + 1) * SEEDS]]
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


def clamped(model: TimeModel) -> TimeModel:
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
