"""What a person reads while a run is measured: a line at its start, one per epoch, one at its end."""

from __future__ import annotations

from typing import Any

from epochcast.collect.run.stopping import STOPPED_BY
from epochcast.output.text import percent, significant
from epochcast.schema import FLAGS, WARMUP_EPOCHS, RunRecord, RunSpec
from epochcast.text_sinks import one_line


def started_line(spec: RunSpec, started: dict[str, Any]) -> str:
    compiler = "torch.compile" if started["backend"] == "torch" else "XLA"
    return one_line(
        f"{spec.config} with {started['params']:,} parameters on {started['device_name']}, {started['backend']} "
        f"{started['backend_version']}, {started['precision']}, pipeline {started['pipeline']}, {compiler} "
        f"{started['jit_compile']}; {started['train_n']:,} images of {started['dataset']} ({started['data_origin']})"
    )


def epoch_line(spec: RunSpec, n_epochs: int, event: dict[str, Any]) -> str:
    """One finished epoch (or window) as a line: its seconds, images per second, loss and accuracy."""
    sec, logs = event["sec"], event["logs"]
    word = "epoch" if spec.window_steps is None else "window"
    images = spec.train_n if spec.window_steps is None else spec.window_steps * spec.batch_size
    note = " (first: not timed)" if n_epochs <= WARMUP_EPOCHS else ""
    if event.get("rel_ci95") is not None:
        note = f", steady time known to +-{percent(event['rel_ci95'])}"
    learning = ", ".join(f"{name} {logs[name]:.4f}" for name in ("loss", "accuracy") if name in logs)
    of = f"/{spec.epochs}" if spec.epochs is not None else ""
    return f"{word} {n_epochs}{of}: {sec:.3f} s, {images / sec:,.0f} images/s, {learning}{note}"


def is_shown(spec: RunSpec, n_epochs: int) -> bool:
    """Whether a person sees the line of this epoch: every one of a fixed count, of an open one ever fewer."""
    return spec.epochs is not None or n_epochs <= 10 or n_epochs % (10 if n_epochs < 100 else 100) == 0


def result_lines(record: RunRecord) -> list[str]:
    """What a person should know of a run that finished: its steady time, how well it is known, what ended it, flags."""
    assert record.steady_time_sec is not None
    known = "" if record.rel_ci95 is None else f" +-{percent(record.rel_ci95)} (95 %)"
    line = (
        f"steady time {significant(record.steady_time_sec, 4)} s per epoch{known} from {record.n_timed} timed "
        f"{'epochs' if record.window_steps is None else 'windows'}: {STOPPED_BY[record.stop_reason or 'epochs']}"
    )
    if record.compile_cache in ("cold", "warm"):
        line += f"; first epoch {significant(record.epoch_times_json[0])} s, {record.compile_cache} compilation cache"
    if record.energy_j_per_epoch is not None:
        estimated = " (estimated)" if record.energy_estimated else ""
        line += f"; board energy {significant(record.energy_j_per_epoch)} J per epoch{estimated}"
    return [line, *(f"flag {flag}: {FLAGS[flag]}" for flag in record.flags)]
