"""One small training that LiveForecasts follow: a child of bench_live.py."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from typing import Any

import keras

from benchmarks.estimates.one_training import BATCH, network_and_data
from epochcast import LiveForecast, estimate
from epochcast.live.fits import read_fits
from epochcast.live.forecast.history import FitHistory
from epochcast.live.sampling.estimator import Moment
from epochcast.live.sampling.fit_passes import moment
from epochcast.paths import fits_csv

BUDGET_EPOCHS, SLOWNESS = 4.3, 4.0  # of a fit with a deadline: what it may take, and its slow epoch


class ByProcessor(LiveForecast):
    """The same by processor time, its clock and the estimate's."""

    _now = staticmethod(lambda: Moment(*[time.process_time()] * 2))

    def _learn(self, model: keras.Model) -> None:
        super()._learn(model)
        row = read_fits(fits_csv())[-1]
        assert self._fit.prior is not None and row.timed_epoch_cpu_sec is not None
        self._fit.prior = replace(self._fit.prior, epoch_sec=row.timed_epoch_cpu_sec)


class WithoutPrior(ByProcessor):
    """The same without the estimate."""

    def _learn(self, model: keras.Model) -> None:
        super()._learn(model)
        self._fit.prior = None


class Timed(LiveForecast):
    """Adds up the processor time of its own hooks."""

    hooks_sec = 0.0


def _timed(name: str) -> Any:
    def hook(self: Timed, *given: Any, **named: Any) -> None:
        begin = time.thread_time()
        getattr(LiveForecast, name)(self, *given, **named)
        self.hooks_sec += time.thread_time() - begin

    return hook


for _name in ("train_begin", "epoch_begin", "train_batch_begin", "epoch_end", "train_end"):
    setattr(Timed, f"on_{_name}", _timed(f"on_{_name}"))


class SlowEpoch(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Makes one epoch take several times as long."""

    def __init__(self, epoch: int, step_sec: float) -> None:
        super().__init__()
        self.slow, self.step_sec, self.is_slow = epoch, step_sec, False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.is_slow = epoch == self.slow

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        if self.is_slow:
            time.sleep(self.step_sec)


def errors(fit: FitHistory, total_sec: float) -> dict[int, float]:
    """Return the relative error of the forecast total after each epoch."""
    return {each.after_epoch: each.total.value / total_sec - 1 for each in fit.forecasts}


def followed(model: keras.Model, x: Any, y: Any, epochs: int, seed: int) -> dict[str, Any]:
    """Follow a fit by several forecasts, and one with a deadline."""
    wall, cpu, alone, timed = LiveForecast(), ByProcessor(), WithoutPrior(), Timed()
    cpu.keeps_row = alone.keeps_row = timed.keeps_row = wall.keeps_row = False
    begin = moment()
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[wall, cpu, alone, timed])
    took = moment().since(begin)
    step_sec = wall.fits[0].done[-1].sec.wall_sec / (wall.fits[0].steps or 1)
    budget_sec = BUDGET_EPOCHS * wall.fits[0].done[-1].sec.wall_sec
    late = LiveForecast(time_budget_sec=budget_sec)
    slow = SlowEpoch(seed % 4, SLOWNESS * step_sec)
    model.fit(x, y, batch_size=BATCH, epochs=1000, verbose=0, callbacks=[late, slow])
    fit = late.fits[0]
    return {
        "wall": errors(wall.fits[0], wall.fits[0].sec or 0.0),
        "cpu": errors(cpu.fits[0], cpu.fits[0].sec or 0.0),
        "cpu_alone": errors(alone.fits[0], alone.fits[0].sec or 0.0),
        "hooks": timed.hooks_sec / took.cpu_sec,
        "deadline": {"budget_sec": budget_sec, "sec": fit.sec, "epochs": len(fit.done), "ended": fit.ended},
    }


def main() -> None:
    """Print as JSON what `network budget_sec epochs seed` gives."""
    name, budget_sec, epochs, seed = sys.argv[1], float(sys.argv[2]), *map(int, sys.argv[3:5])
    keras.utils.set_random_seed(seed)
    model, x, y = network_and_data(name, seed)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    estimate(model, x, y, epochs=epochs, batch_size=BATCH, budget_sec=budget_sec)
    print(json.dumps(followed(model, x, y, epochs, seed)))


if __name__ == "__main__":
    main()
