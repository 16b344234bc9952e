"""An estimate as a row of fits.csv."""

from __future__ import annotations

from dataclasses import asdict

from epochcast.live.estimate import Estimate
from epochcast.live.fits import IN_A_PROGRAM, FitRecord, new_fit_id
from epochcast.live.sampling.estimator import epoch_time
from epochcast.live.sampling.power import RAPL
from epochcast.machine.environment import utc_now


def estimate_row(found: Estimate, source: str = IN_A_PROGRAM) -> FitRecord | None:
    """Return an estimate's row; None where its training can't be identified.

    Raises:
        FieldError: if a time is none that can have been timed.
    """
    if found.training is None:
        return None
    samples = found.samples
    own = epoch_time([each.sec.wall_sec for each in samples.epochs], found.is_contended)
    own_cpu = epoch_time([each.sec.cpu_sec for each in samples.epochs], found.is_contended).interval.value
    power = (
        found.power if found.power is not None and found.power.source != RAPL else None
    )  # of a board, as in runs.csv
    return FitRecord(
        timestamp_utc=utc_now(),
        kind="estimate",
        run_id=new_fit_id("estimate"),
        epochs=found.epochs,
        batches=found.batches,
        timed_epoch_sec=own.interval.value,
        n_timed=own.n,
        epoch_sec=found.epoch.interval.value,
        epoch_sec_low=found.epoch.interval.low,
        epoch_sec_high=found.epoch.interval.high,
        total_sec=found.total.value,
        total_sec_low=found.total.low,
        total_sec_high=found.total.high,
        timed_epoch_cpu_sec=own_cpu if own_cpu > 0 else None,  # a line through two noisy blocks may say less
        once_sec=found.once_sec,
        validation_sec=None if found.validation is None else found.validation.sec,
        n_validations=found.n_validations,
        save_sec=found.save_sec,
        n_saves=None if found.save_sec is None else found.n_saves,  # without a time it may not be known
        sampling=samples.kind,
        n_left_out=own.n_left_out,
        n_earlier=found.epoch.n_earlier,
        budget_used_sec=samples.budget_used_sec,
        is_contended=int(found.is_contended),
        other_cores=found.other_cores,
        energy_j_per_epoch=None if power is None else power.mean_w * own.interval.value,
        energy_source=None if power is None else power.source,
        source=source,
        peak_memory_bytes=None if found.memory is None else found.memory.bytes,
        **asdict(found.training),
    )
