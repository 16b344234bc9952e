"""Claims of the time model on unseen configurations, its training time, and stalled rows."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.claim_parts.beyond import clamped
from benchmarks.claim_parts.claim import RANDOM, Claim, at_most, everything
from benchmarks.lib.reference_table import held_out, published_rows, steady_rows
from epochcast.model.time_model.features import FEATURE_NAMES
from epochcast.model.time_model.monotonicity import order_violations, violations_by_axis
from epochcast.model.time_model.physics import fit_gated_law
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.recipes import (
    LAW_UNDER_NETWORK,
    PHYSICS_ANN,
    fit_time_models,
)
from epochcast.model.training.time_ann import MEMBERS
from epochcast.output.progress import progress

UNSEEN_SEEDS = 10
STALL_ROWS, STALL_FACTORS = 40, (1.5, 2.0, 10.0)


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
        wrong = [violations_by_axis(clamped(m).reaching(name, 1)) for m in models]
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
