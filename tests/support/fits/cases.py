"""Small fits of every kind: what a model, its data and its options may be.

Each case is a function that returns a compiled model, its inputs, its targets and the options of its fit.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

Fit = tuple[keras.Model, Any, Any, dict[str, Any]]
CASES: dict[str, Callable[[], Fit]] = {}
BATCH, N = 8, 52  # seven batches, the last of them partial
IMAGE, LABELS = (8, 8, 3), 4
BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")


def case(build: Callable[[], Fit]) -> Callable[[], Fit]:
    CASES[build.__name__] = build
    return build


def arrays(n: int = N, shape: tuple[int, ...] = IMAGE) -> tuple[Any, Any]:
    random = np.random.default_rng(1)
    return random.random((n, *shape), dtype="float32"), random.integers(0, LABELS, n)


def compiled(model: keras.Model, optimizer: Any = "adam", **options: Any) -> keras.Model:
    if BACKEND == "tensorflow":
        options.setdefault("jit_compile", False)  # XLA takes most of the time; one case has it
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    return model


def dense() -> list[Any]:
    return [
        keras.layers.Flatten(),
        keras.layers.Dense(8, activation="relu"),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(LABELS, activation="softmax", dtype="float32"),
    ]


def small(*more: Any, **options: Any) -> keras.Model:
    return compiled(keras.Sequential([keras.Input(IMAGE), *more, *dense()]), **options)


def convolutions(**options: Any) -> Fit:
    inputs = keras.Input(IMAGE)
    hidden = keras.layers.RandomFlip("horizontal")(inputs)
    hidden = keras.layers.Conv2D(4, 3, activation="relu")(hidden)
    hidden = keras.layers.Dropout(0.3)(keras.layers.BatchNormalization()(hidden))
    outputs = keras.layers.Dense(LABELS, activation="softmax")(keras.layers.GlobalAveragePooling2D()(hidden))
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, 100))
    model = compiled(keras.Model(inputs, outputs), optimizer, **options)
    x, y = arrays()
    return model, x, y, {"batch_size": BATCH, "validation_data": (x[:16], y[:16])}


@case
def functional_network() -> Fit:
    return convolutions()


@case
def jit_compiled() -> Fit:
    return convolutions(jit_compile=True)


@case
def not_jit_compiled() -> Fit:
    return convolutions(jit_compile=False)


@case
def run_eagerly() -> Fit:
    return convolutions(run_eagerly=True)


@case
def validation_split_and_shuffled_batches() -> Fit:
    return small(), *arrays(), {"batch_size": BATCH, "validation_split": 0.2, "shuffle": "batch"}


@case
def sequential_never_built() -> Fit:
    layers = [keras.layers.LSTM(4, dropout=0.2, recurrent_dropout=0.2), keras.layers.GaussianNoise(0.1), *dense()]
    return compiled(keras.Sequential(layers)), *arrays(shape=(6, 5)), {"batch_size": BATCH}


class OwnStep(keras.Model):
    """Makes its layers in build, and has a step of its own."""

    def build(self, shape: Any) -> None:
        self.parts = dense()
        self.built = True

    def call(self, x: Any, training: bool = False) -> Any:
        for part in self.parts:
            x = part(x, training=training) if isinstance(part, keras.layers.Dropout) else part(x)
        return x

    def train_step(self, *given: Any) -> Any:  # JAX gives its state, too
        return super().train_step(*given)


@case
def subclass_with_its_own_step() -> Fit:
    return compiled(OwnStep()), *arrays(), {"batch_size": BATCH}


@case
def several_outputs_with_weights_of_samples() -> Fit:
    inputs = keras.Input(IMAGE)
    hidden = keras.layers.Dropout(0.2)(keras.layers.Dense(6)(keras.layers.Flatten()(inputs)))
    model = keras.Model(inputs, {"a": keras.layers.Dense(1, name="a")(hidden), "b": keras.layers.Dense(2)(hidden)})
    model.compile("rmsprop", loss={"a": "mse", "b": "mae"}, metrics={"a": ["mae"]})
    x, _ = arrays()
    targets = {"a": x[:, 0, 0, :1], "b": x[:, 0, 0, :2]}
    weights = {"a": np.linspace(0, 1, N, dtype="float32"), "b": np.ones(N, "float32")}
    return model, x, targets, {"batch_size": BATCH, "sample_weight": weights}


@case
def weights_of_classes() -> Fit:
    return small(), *arrays(), {"batch_size": BATCH, "class_weight": {0: 2.0, 1: 1.0, 2: 0.5, 3: 1.0}}


@case
def several_steps_per_execution() -> Fit:
    return small(steps_per_execution=3), *arrays(), {"batch_size": BATCH}


@case
def low_rank_adaptation() -> Fit:
    model = keras.Sequential([keras.Input(IMAGE), *dense()])
    model.layers[1].enable_lora(2)
    return compiled(model), *arrays(), {"batch_size": BATCH}


@case
def low_rank_adaptation_of_int8() -> Fit:
    model = keras.Sequential([keras.Input(IMAGE), *dense()])
    model.layers[1].quantize("int8")
    model.layers[1].enable_lora(2)
    return compiled(model), *arrays(), {"batch_size": BATCH}


@case
def float8() -> Fit:
    model = keras.Sequential([keras.Input(IMAGE), *dense()])
    model.layers[1].quantize("float8")
    return compiled(model), *arrays(), {"batch_size": BATCH}


@case
def mixed_float16() -> Fit:
    keras.config.set_dtype_policy("mixed_float16")
    return small(), *arrays(), {"batch_size": BATCH}


@case
def mixed_bfloat16() -> Fit:
    keras.config.set_dtype_policy("mixed_bfloat16")
    return small(), *arrays(), {"batch_size": BATCH}


@case
def averaged_weights_and_accumulated_gradients() -> Fit:
    optimizer = keras.optimizers.Adam(use_ema=True, ema_overwrite_frequency=3, gradient_accumulation_steps=2)
    return small(optimizer=optimizer), *arrays(), {"batch_size": BATCH}


@case
def stateful_recurrent_layer() -> Fit:
    inputs = keras.Input(batch_shape=(4, 6, 5))
    hidden = keras.layers.GRU(4, stateful=True, dropout=0.2)(inputs)
    model = compiled(keras.Model(inputs, keras.layers.Dense(LABELS, activation="softmax")(hidden)))
    return model, *arrays(shape=(6, 5)), {"batch_size": 4, "shuffle": False}


class GlobalNoise(keras.layers.Layer):
    """Draws by Keras's global seed generator."""

    def call(self, x: Any) -> Any:
        return x + 0.1 * keras.random.normal(keras.ops.shape(x))


@case
def noise_by_the_global_seed() -> Fit:
    return small(GlobalNoise()), *arrays(), {"batch_size": BATCH}


class TensorFlowNoise(keras.layers.Layer):
    """Draws by an operation whose state nothing can read."""

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        return x + 0.1 * tf.random.normal(tf.shape(x))


@case
def noise_by_a_stateful_operation() -> Fit:
    return small(TensorFlowNoise()), *arrays(), {"batch_size": BATCH}


class Adversaries(keras.Model):
    """A generator and a discriminator with an optimizer each; that of `compile` trains nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.maker = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        self.judge = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        self.built = True

    def call(self, noise: Any) -> Any:
        return self.judge(self.maker(noise))

    def compile(self, optimizers: dict[str, Any]) -> None:
        super().compile()
        self.optimizers = optimizers

    def train_step(self, noise: Any) -> Any:
        import tensorflow as tf

        for network, name in ((self.judge, "judge"), (self.maker, "maker")):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(self(noise) ** 2)
            gradients = tape.gradient(loss, network.trainable_weights)
            self.optimizers[name].apply_gradients(zip(gradients, network.trainable_weights, strict=True))
        return {"loss": loss}


@case
def adversaries_not_built() -> Fit:
    model = Adversaries()
    model.compile({name: keras.optimizers.Adam(1e-2) for name in ("judge", "maker")})
    return model, arrays(shape=(4,))[0], None, {"batch_size": BATCH}


@case
def adversaries() -> Fit:
    model, x, y, options = adversaries_not_built()
    model.optimizers["judge"].build(model.judge.trainable_variables)
    model.optimizers["maker"].build(model.maker.trainable_variables)
    return model, x, y, options


def pipeline(x: Any, y: Any) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y))


@case
def pipeline_with_a_shuffle_and_augmentation() -> Fit:
    flip = keras.layers.RandomFlip("horizontal")
    data = pipeline(*arrays()).shuffle(N).batch(BATCH).map(lambda x, y: (flip(x, training=True), y)).prefetch(2)
    return small(), data, None, {"validation_data": pipeline(*arrays(16)).batch(BATCH)}


@case
def pipeline_with_a_seeded_shuffle_and_a_cache() -> Fit:
    return small(), pipeline(*arrays()).cache().shuffle(N, seed=5).batch(BATCH), None, {}


@case
def pipeline_with_a_cache_file() -> Fit:
    file = Path(tempfile.mkdtemp(dir=os.environ.get("EPOCHCAST_HOME"))) / "images"
    return small(), pipeline(*arrays()).cache(str(file)).shuffle(N, seed=5).batch(BATCH), None, {}


@case
def endless_pipeline() -> Fit:
    return small(), pipeline(*arrays()).shuffle(N).repeat().batch(BATCH), None, {"steps_per_epoch": 9}


class Batches(keras.utils.PyDataset):
    """Shuffles and augments by a generator."""

    def __init__(self, random: Any, **options: Any) -> None:
        super().__init__(**options)
        self.x, self.y = arrays()
        self.random = random
        self.order = np.arange(N)

    def __len__(self) -> int:
        return -(-N // BATCH)

    def __getitem__(self, i: int) -> Any:
        chosen = self.order[i * BATCH : (i + 1) * BATCH]
        return self.x[chosen] + self.random.normal(0, 0.1, (len(chosen), 1, 1, 1)).astype("float32"), self.y[chosen]

    def on_epoch_end(self) -> None:
        self.random.shuffle(self.order)


@case
def data_set_with_a_generator_of_its_own() -> Fit:
    return small(), Batches(np.random.default_rng(3)), None, {}


@case
def data_set_with_the_global_generator() -> Fit:
    return small(), Batches(np.random), None, {}


@case
def data_set_with_workers() -> Fit:
    return small(), Batches(np.random.default_rng(3), workers=2), None, {}


class Locked(Batches):
    """Can't be copied."""

    def __init__(self) -> None:
        super().__init__(np.random.default_rng(3))
        self.lock = threading.Lock()


@case
def data_set_with_a_lock() -> Fit:
    return small(), Locked(), None, {}


class ShuffledInPlace(Batches):
    """Shuffles its images themselves, too many to be copied."""

    def __init__(self) -> None:
        super().__init__(np.random.default_rng(3))
        self.x, self.y = arrays(1400)

    def on_epoch_end(self) -> None:
        self.random.shuffle(self.x)


@case
def data_set_shuffled_in_place() -> Fit:
    return small(), ShuffledInPlace(), None, {}


@case
def generator() -> Fit:
    return small(), iter(Batches(np.random.default_rng(3))), None, {"steps_per_epoch": 7}


@case
def large_pipeline() -> Fit:
    data = pipeline(np.zeros((300_000, *IMAGE), "float32"), np.zeros(300_000, "int32"))
    return small(), data.batch(BATCH), None, {}


def loader(**options: Any) -> Fit:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    x, y = (torch.from_numpy(values) for values in arrays())
    return small(), DataLoader(TensorDataset(x, y), batch_size=BATCH, shuffle=True, **options), None, {}


@case
def loader_with_its_own_generator() -> Fit:
    import torch

    return loader(generator=torch.Generator().manual_seed(3))


@case
def loader_by_the_global_generator() -> Fit:
    return loader()
