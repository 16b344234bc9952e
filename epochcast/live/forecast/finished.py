"""A finished fit as a row of fits.csv, and the row that a fit begins with."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from pathlib import Path

from epochcast.live.fits import FitRecord, new_fit_id, rows_or_why, same_fits
from epochcast.live.forecast.expected import Prior
from epochcast.live.forecast.history import FitHistory
from epochcast.live.sampling.power import RAPL, MeteredPower
from epochcast.live.training_facts import TrainingFacts
from epochcast.machine.environment import utc_now


def prior_of(facts: TrainingFacts, batches: int | None, path: Path) -> Prior | None:
    """Return what the latest row of the same training says; None without a readable one."""
    rows, _ = rows_or_why(path)
    if not (same := same_fits(rows, facts.training_key, batches)):
        return None
    row = same[-1]
    half = None if row.epoch_sec_high is None else row.epoch_sec_high / row.epoch_sec - 1
    saves_sec = (row.save_sec or 0.0) * (row.n_saves or 0) / row.epochs
    return Prior(row.run_id, row.epoch_sec + saves_sec, half, row.validation_sec)


def fit_row(
    fit: FitHistory,
    facts: TrainingFacts,
    power: MeteredPower | None,
    others: float | None,
    is_contended: bool,
    total_sec: float,
    source: str,
) -> FitRecord | None:
    """Return a fit's row; None where no epoch was whole.

    Args:
        power: the mean of the fit.
        others: cores that other programs kept busy.
        total_sec: what the whole fit took.

    Raises:
        FieldError: if a time is none that can have been timed.
    """
    whole = [each for each in fit.done if not each.is_cut]
    timed = [each.timed_sec for each in whole if not each.is_first] or [each.timed_sec for each in whole]
    if not timed:
        return None
    validations = [each.validation_sec for each in whole if each.validation_sec is not None]
    epoch_sec = statistics.fmean(timed)
    board = power if power is not None and power.source != RAPL else None  # of a board, as in runs.csv
    return FitRecord(
        timestamp_utc=utc_now(),
        kind="fit",
        run_id=new_fit_id("fit"),
        epochs=len(whole),
        batches=fit.steps or 0,
        timed_epoch_sec=epoch_sec,
        n_timed=len(timed),
        epoch_sec=epoch_sec,
        total_sec=total_sec,
        validation_sec=statistics.fmean(validations) if validations else None,
        n_validations=len(validations),
        sampling="epochs",
        is_contended=int(is_contended),
        other_cores=others,
        energy_j_per_epoch=None if board is None else board.mean_w * epoch_sec,
        energy_source=None if board is None else board.source,
        source=source,
        **asdict(facts),
    )
