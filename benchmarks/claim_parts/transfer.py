"""Claims of a model that starts from another device's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.claim_parts.claim import RANDOM, STARTS, Claim, ape, everything
from benchmarks.lib.reference_table import steady_rows
from epochcast.aggregate.averages.averaging import aggregate
from epochcast.model.selection.experimental_design import next_indices
from epochcast.model.time_model.physics import MIN_ROWS, Law, fit_gated_law
from epochcast.model.time_model.time_model import Table, TimeModel
from epochcast.model.training.fit import choose_start
from epochcast.model.training.recipes import (
    LAW_ALONE,
    PHYSICS,
    PHYSICS_ANN,
    fit_time_models,
)
from epochcast.model.training.splits import fold_masks
from epochcast.output.progress import progress
from epochcast.paths import CODE_ROOT
from epochcast.storage.tables import read_runs


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
