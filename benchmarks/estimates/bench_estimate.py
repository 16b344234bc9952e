"""Estimates of real trainings against the trainings themselves: python benchmarks/estimates/bench_estimate.py

Each of some networks is estimated for a few seconds (`--budget_sec`) and then trained, in a process of its own, one
backend after the other in every repeat. Truth is the mean of the epochs after the first. Both clocks are shown: on a
shared machine the processor's says what the estimator can do, the wall's what it meets.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from epochcast.cli import add_json_flag, make_parser, run_command
from epochcast.flag_types import positive_float, positive_int
from epochcast.output.text import table_text
from epochcast.paths import CODE_ROOT, home
from epochcast.storage.files import write_json_atomically

NETWORKS = ("cnn", "mlp", "lstm", "transformer")
BACKENDS = ("tensorflow", "jax")
CLOCKS = ("cpu", "wall")
HEADER = ("backend", "network", "clock", "n", "MAPE %", "worst %", "held", "half %", "epoch s", "used s")
CHILD = """
import json, sys, time
import keras, numpy as np
from epochcast.live.estimate import estimate_fit
network, budget_sec, epochs, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
keras.utils.set_random_seed(seed)
random, layers = np.random.default_rng(seed), keras.layers
if network == "cnn":
    x = random.random((8000, 32, 32, 3), dtype="float32")
    hidden = [layers.Conv2D(16, 3, activation="relu"), layers.BatchNormalization(), layers.MaxPooling2D(),
              layers.Conv2D(32, 3, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dropout(0.2)]
elif network == "mlp":
    x = random.random((60000, 256), dtype="float32")
    hidden = [layers.Dense(512, activation="relu"), layers.Dropout(0.2), layers.Dense(256, activation="relu")]
elif network == "lstm":
    x = random.random((6000, 32, 32), dtype="float32")
    hidden = [layers.LSTM(64)]
else:
    x = random.integers(0, 1000, (3000, 64))
    hidden = None
y = random.integers(0, 10, len(x))
if hidden is None:
    tokens = keras.Input((64,), dtype="int32")
    h = layers.Embedding(1000, 64)(tokens)
    for _ in range(2):
        h = layers.LayerNormalization()(h + layers.MultiHeadAttention(4, 16)(h, h))
        h = layers.LayerNormalization()(h + layers.Dense(64)(layers.Dense(128, activation="gelu")(h)))
    model = keras.Model(tokens, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling1D()(h)))
else:
    model = keras.Sequential([keras.Input(x.shape[1:]), *hidden, layers.Dense(10, activation="softmax")])
steps = -(-len(x) // 64)
model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps * epochs)),
              "sparse_categorical_crossentropy", metrics=["accuracy"])
options = {"batch_size": 64, "epochs": epochs}
found = estimate_fit(model, x, y, options, budget_sec)
edges = []
class Edges(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        edges.append((time.process_time(), time.perf_counter()))
    def on_train_end(self, logs=None):
        edges.append((time.process_time(), time.perf_counter()))
model.fit(x, y, verbose=0, callbacks=[Edges()], **options)
lasted = np.diff(np.array(edges), axis=0)[1:].mean(axis=0)
told = {"cpu": found.epoch_cpu, "wall": found.epoch}
print(json.dumps({"kind": found.samples.kind, "used_sec": found.samples.budget_used_sec, "others": found.other_cores,
    **{clock: {"estimate": told[clock].interval.value, "half": told[clock].half, "true": sec}
       for clock, sec in zip(("cpu", "wall"), lasted.tolist())}}))
"""


def tried(backend: str, network: str, budget_sec: float, epochs: int, seed: int) -> dict[str, Any]:
    """What a process of one network found."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, network, str(budget_sec), str(epochs), str(seed)],
        cwd=CODE_ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"backend": backend, "network": network, "seed": seed, **found}


def line(backend: str, network: str, clock: str, all_found: Sequence[dict[str, Any]]) -> list[Any]:
    """The row of a table: errors of the estimates of one network by one clock."""
    of_clock = [found[clock] for found in all_found]
    errors = [each["estimate"] / each["true"] - 1 for each in of_clock]
    known = [(error, each) for error, each in zip(errors, of_clock, strict=True) if each["half"] is not None]
    held = sum(abs(each["true"] / each["estimate"] - 1) <= each["half"] for _, each in known)
    return [
        backend,
        network,
        clock,
        len(errors),
        100 * statistics.fmean(map(abs, errors)),
        100 * max(errors, key=abs),
        f"{held} of {len(known)}",
        100 * statistics.median(each["half"] for _, each in known) if known else None,
        statistics.fmean(each["true"] for each in of_clock),
        statistics.fmean(found["used_sec"] for found in all_found),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "bench_estimate.py",
        (__doc__ or "").partition("\n")[0],
        "python benchmarks/estimates/bench_estimate.py --repeats 1",
    )
    parser.add_argument("--repeats", type=positive_int, default=3, help="times that each network is tried")
    parser.add_argument("--budget_sec", type=positive_float, default=8.0, metavar="SEC", help="of an estimate")
    parser.add_argument("--epochs", type=positive_int, default=5, help="of the true training; the first is left out")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="networks to try")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS), help="backends to try")
    add_json_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)

    def work() -> int:
        all_found = []
        for seed in range(arguments.repeats):
            for network in arguments.networks:
                for backend in arguments.backends:
                    all_found.append(tried(backend, network, arguments.budget_sec, arguments.epochs, seed))
                    print(json.dumps(all_found[-1]), file=sys.stderr, flush=True)
        path = home() / "results" / "benchmarks" / "estimate.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomically(path, {"runs": all_found, "budget_sec": arguments.budget_sec})
        if arguments.json:
            print(json.dumps(all_found))
            return 0
        rows = [
            line(backend, network, clock, own)
            for clock in CLOCKS
            for network in arguments.networks
            for backend in arguments.backends
            if (own := [f for f in all_found if (f["backend"], f["network"]) == (backend, network)])
        ]
        plain = [found for found in all_found if found["network"] != "transformer"]
        if plain:
            rows += [line("all", "but transformer", clock, plain) for clock in CLOCKS]
        print(table_text(HEADER, rows))
        return 0

    return run_command(work)
