"""One small network, estimated and then trained: a child of bench_estimate.py.

The procedure that Green Love 0.2.2 publishes for PyTorch stands here for Keras's `fit`: 30 epochs on a part of the
data, whose size is first brought to some ten seconds and then goes up and down by factors of 1.5; each epoch after the
third is scaled by the share of the samples.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from typing import Any

import keras
import numpy as np

from epochcast.live.estimate import estimate_fit

BATCH = 64
SCHEDULED_EPOCHS = 50  # of the learning rate
LEAST_EPOCHS = 3  # of the truth
GREEN_EPOCHS, GREEN_WARMUP = 30, 3
GREEN_FIRST, GREEN_EPOCH_SEC, GREEN_SEC, GREEN_FACTOR = 1000, 0.3, 10.0, 1.5
GREEN_MOST_SEC, GREEN_LEAST_SEC, GREEN_LEAST_SAMPLES = 20.0, 1.0, BATCH // 8
GREEN_TRIES, GREEN_CLOSE = 15, 0.2  # of the size whose epochs last ten seconds, and how near is near enough


def network_and_data(name: str, seed: int) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A network and random data for it."""
    random, layers = np.random.default_rng(seed), keras.layers
    if name == "cnn":
        x = random.random((8000, 32, 32, 3), dtype="float32")
        hidden = [
            layers.Conv2D(16, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2),
        ]
    elif name == "mlp":
        x = random.random((60000, 256), dtype="float32")
        hidden = [layers.Dense(512, activation="relu"), layers.Dropout(0.2), layers.Dense(256, activation="relu")]
    elif name == "lstm":
        x = random.random((6000, 32, 32), dtype="float32")
        hidden = [layers.LSTM(64)]
    else:
        x = random.integers(0, 1000, (3000, 64))
        return _transformer(), x, random.integers(0, 10, len(x))
    model = keras.Sequential([keras.Input(x.shape[1:]), *hidden, layers.Dense(10, activation="softmax")])
    return model, x, random.integers(0, 10, len(x))


def _transformer() -> keras.Model:
    layers, tokens = keras.layers, keras.Input((64,), dtype="int32")
    h = layers.Embedding(1000, 64)(tokens)
    for _ in range(2):
        h = layers.LayerNormalization()(h + layers.MultiHeadAttention(4, 16)(h, h))
        h = layers.LayerNormalization()(h + layers.Dense(64)(layers.Dense(128, activation="gelu")(h)))
    return keras.Model(tokens, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling1D()(h)))


class Edges(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Both clocks where each epoch begins and the last ends."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[tuple[float, float]] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.at.append((time.process_time(), time.perf_counter()))

    def on_train_end(self, logs: Any = None) -> None:
        self.at.append((time.process_time(), time.perf_counter()))


def epoch_secs(model: keras.Model, x: np.ndarray, y: np.ndarray, epochs: int) -> np.ndarray:
    """Return each epoch's seconds by processor and wall clock, as (epochs, 2)."""
    edges = Edges()
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=[edges])
    return np.diff(np.array(edges.at), axis=0)


def green_love(model: keras.Model, x: np.ndarray, y: np.ndarray) -> tuple[list[float], float]:
    """Return an epoch's seconds by Green Love, and the seconds that it took."""
    begin, found = time.perf_counter(), []

    def tried(n: int) -> float:
        secs = epoch_secs(model, x[:n], y[:n], GREEN_EPOCHS)
        found.append(secs[GREEN_WARMUP:] * len(x) / n)
        return float(secs[:, 1].sum())

    n = min(GREEN_FIRST, len(x))
    n = max(GREEN_LEAST_SAMPLES, min(n, round(n * GREEN_EPOCH_SEC / epoch_secs(model, x[:n], y[:n], 1)[0, 1])))
    for _ in range(GREEN_TRIES):
        sec = tried(n)
        wanted = max(GREEN_LEAST_SAMPLES, min(len(x), round(n * GREEN_SEC / sec)))
        if abs(sec / GREEN_SEC - 1) < GREEN_CLOSE or wanted == n:
            break
        n = wanted
        found.clear()
    for factor in (GREEN_FACTOR, 1 / GREEN_FACTOR):
        size = n
        while True:
            size = math.floor(size * factor)
            if not GREEN_LEAST_SAMPLES <= size <= len(x):
                break
            if not GREEN_LEAST_SEC <= tried(size) <= GREEN_MOST_SEC:
                break
    pooled = np.concatenate(found)
    return pooled.mean(axis=0).tolist(), time.perf_counter() - begin


def main() -> None:
    """Print as JSON what `network budget_sec seed with_green_love` gives."""
    name, budget_sec, seed, with_green_love = sys.argv[1], float(sys.argv[2]), *map(int, sys.argv[3:5])
    keras.utils.set_random_seed(seed)
    model, x, y = network_and_data(name, seed)
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, -(-len(x) // BATCH) * SCHEDULED_EPOCHS)
    model.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
    begin = time.perf_counter()
    found = estimate_fit(model, x, y, {"batch_size": BATCH, "epochs": SCHEDULED_EPOCHS}, budget_sec)
    whole_sec = time.perf_counter() - begin
    n = max(LEAST_EPOCHS, math.ceil(budget_sec / found.epoch.interval.value))
    secs = epoch_secs(model, x, y, 1 + 2 * n)[1:]
    true, later = secs[:n].mean(axis=0), secs[n:].mean(axis=0)
    answer = {
        "n_true": n,
        "kind": found.samples.kind,
        "used_sec": found.samples.budget_used_sec,
        "whole_sec": whole_sec,
        "once_sec": found.once_sec,
        "step_sec": found.epoch.interval.value / found.batches,
        "others": found.other_cores,
    }
    for at, (clock, time_of) in enumerate((("cpu", found.epoch_cpu), ("wall", found.epoch))):
        answer[clock] = {
            "estimate": time_of.interval.value,
            "half": time_of.half,
            "true": float(true[at]),
            "later": float(later[at]),
            "true_spread": statistics.stdev(secs[:n, at].tolist()) / float(true[at]),
        }
    if with_green_love:
        (cpu, wall), answer["green_love_sec"] = green_love(model, x, y)
        answer["cpu"]["green_love"], answer["wall"]["green_love"] = cpu, wall
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
