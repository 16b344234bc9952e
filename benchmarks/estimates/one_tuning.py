"""All settings of one small network, timed in full and by halving: a child of bench_tune.py."""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import asdict
from typing import Any

import keras

from benchmarks.estimates.one_training import network_and_data
from epochcast.live.sampling.estimator import Moment
from epochcast.live.sampling.fit_passes import moment
from epochcast.live.tuning.halving import FINAL_PAIRS, MOST_BLOCKS, gain_of, halving, planned_blocks
from epochcast.live.tuning.settings import Setting, combinations
from epochcast.live.tuning.trials import Trials

INPUTS = ["tfdata", "cached"]
CASES: dict[str, dict[str, list[Any]]] = {
    "mlp": {"batch_size": [64, 256, 1024], "steps_per_execution": [1, 4], "input": INPUTS},
    "cnn": {"batch_size": [32, 128, 512], "jit_compile": ["on", "off"], "input": INPUTS},
}
CLOCKS = {"wall": lambda at: at.wall_sec, "cpu": lambda at: at.cpu_sec}


class Measured:
    """Settings that are timed, and what that takes."""

    def __init__(self, trials: Trials) -> None:
        self.trials = trials

    def in_full(self, settings: list[Setting], block_sec: float) -> dict[str, Any]:
        """Time all settings in MOST_BLOCKS rounds, to and fro; return medians and cost by both clocks."""
        blocks: dict[Setting, list[Moment]] = {setting: [] for setting in settings}
        begin = moment()
        for i in range(MOST_BLOCKS):
            for setting in settings if i % 2 == 0 else settings[::-1]:
                blocks[setting].append(self.trials.block(setting, block_sec))
        spent = moment().since(begin)
        return {
            clock: {
                "epoch_secs": [statistics.median(map(of, each)) for each in blocks.values()],
                "spreads": [
                    statistics.stdev(map(of, each)) / statistics.fmean(map(of, each)) for each in blocks.values()
                ],
                "blocks": [list(map(of, each)) for each in blocks.values()],
                "sec": of(spent),
            }
            for clock, of in CLOCKS.items()
        }

    def by_halving(self, settings: list[Setting], budget_sec: float, clock: str) -> dict[str, Any]:
        """Find the fastest by one clock, within a budget by the wall clock."""
        of = CLOCKS[clock]
        begin = moment()
        race = halving(
            settings, lambda setting, sec: of(self.trials.block(setting, sec)), budget_sec, time.perf_counter
        )
        spent, gain = moment().since(begin), gain_of(race.pairs)
        return {
            "chosen": settings.index(race.chosen),
            "n_blocks": [len(each.epoch_secs) for each in race.standings],
            "n_pairs": len(race.pairs),
            "gain": None if gain is None else asdict(gain),
            "sec": {name: clock_of(spent) for name, clock_of in CLOCKS.items()},
        }


def main() -> None:
    """Print as JSON what `network budget_sec seed` gives."""
    name, budget_sec, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    keras.utils.set_random_seed(seed)
    model, x, y = network_and_data(name, seed)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    begin = moment()
    values = CASES[name]
    trials = Trials(model, x, y, {"batch_size": values["batch_size"][0], "epochs": 10})
    settings = combinations(trials.baseline, values)
    for setting in settings[1:]:
        trials.prepare(setting)
    prepared = moment().since(begin)
    block_sec = budget_sec / (planned_blocks(len(settings)) + 2 * FINAL_PAIRS)
    measured = Measured(trials)
    answer: dict[str, Any] = {
        "settings": [asdict(setting) for setting in settings],
        "block_sec": block_sec,
        "prepared_sec": {clock: of(prepared) for clock, of in CLOCKS.items()},
    }
    answer["halving"] = {"wall": measured.by_halving(settings, budget_sec, "wall")}
    answer["truth"] = measured.in_full(settings, block_sec)
    answer["halving"]["cpu"] = measured.by_halving(settings, budget_sec, "cpu")
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
