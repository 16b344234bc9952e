"""Keys of trainings: equal for equal ones, another for whatever changes what an epoch takes."""

from __future__ import annotations

from dataclasses import astuple, fields

import numpy as np
import pytest

from epochcast.keras_layers.read_layers import read_layers
from epochcast.live import training_facts as training_facts_module
from epochcast.live.training_facts import training_facts
from epochcast.roofline.network_law import StepWork, step_work

IMAGES = np.zeros((100, 8, 8, 3), dtype="float32")


def network(width=8, form="sequential", policy=None, **how):
    import keras

    layers = keras.layers
    hidden = [
        layers.Conv2D(width, 3, activation="relu", dtype=policy),
        layers.GlobalAveragePooling2D(dtype=policy),
        layers.Dense(4, dtype=policy),
    ]
    if form == "sequential":
        model = keras.Sequential([keras.Input((8, 8, 3)), *hidden])
    else:
        inputs = outputs = keras.Input((8, 8, 3))
        for layer in hidden:
            outputs = layer(outputs)
        model = keras.Model(inputs, outputs)
    model.compile(**{"optimizer": "adam", "loss": "mse", **how})
    return model


def own_network(units=4, looks_at_data=False):
    import keras

    class Network(keras.Model):
        def __init__(self):
            super().__init__()
            self.out = keras.layers.Dense(units)

        def call(self, images):
            if looks_at_data and float(keras.ops.max(images)) > 1:
                images = images / 255
            return self.out(keras.ops.reshape(images, (-1, 192)) * 2)

    model = Network()
    model.compile("adam", "mse")
    model(IMAGES[:1])
    return model


def facts(model, x=IMAGES, device_name="this processor", **options):
    return training_facts(model, x, options, device_name, "cpu")


@pytest.fixture(scope="module")
def usual():
    return facts(network())


def test_equal_trainings_have_equal_keys_whatever_their_names_weights_and_form(usual):
    for form in ("sequential", "functional"):
        again = facts(network(form=form))
        assert (again.training_key, again.model_key) == (usual.training_key, usual.model_key)
    assert facts(network(), IMAGES + 1, batch_size=32).training_key == usual.training_key


def test_another_network_has_another_model_key(usual):
    others = [facts(network(9)), facts(network(policy="mixed_bfloat16")), facts(own_network()), facts(own_network(5))]
    keys = {usual.model_key, *(other.model_key for other in others)}
    assert len(keys) == 5


def test_other_conditions_of_the_same_network_have_another_training_key(usual):
    others = [
        facts(network(), batch_size=16),
        facts(network(), device_name="another processor"),
        facts(network(optimizer="sgd")),
        facts(network(steps_per_execution=2)),
        facts(network(jit_compile=True)),
        facts(network(run_eagerly=True)),
    ]
    assert {other.model_key for other in others} == {usual.model_key}
    keys = {usual.training_key, *(other.training_key for other in others)}
    assert len(keys) == 7


def test_another_backend_has_another_training_key(usual, monkeypatch):
    import keras

    model = network()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    # JAX itself would start its threads here, and warn of each fork of a later test
    monkeypatch.setattr(training_facts_module, "framework_details", lambda backend: {f"{backend}_version": "0.8.1"})
    assert facts(model).training_key != usual.training_key


def test_an_own_class_whose_layers_can_not_be_read_is_known_by_class_and_weights():
    first, again = (facts(own_network(looks_at_data=True)) for _ in range(2))
    assert first == again
    assert first.model_key not in (facts(own_network(5, looks_at_data=True)).model_key, facts(own_network()).model_key)
    assert (first.model_class, first.params, first.sample_shape) == ("Network", 772, ("8x8x3",))


def test_what_is_trained_and_how_is_described(usual):
    assert (usual.sample_shape, usual.batch_size, usual.train_n, usual.params) == (("8x8x3",), 32, 100, 260)
    assert (usual.pipeline, usual.precision, usual.tf32, usual.optimizer) == ("arrays", "float32", "off", "Adam")
    assert facts(network(), validation_split=0.25).train_n == 75


def test_a_data_set_says_its_batch_size_where_it_was_batched(usual):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((IMAGES, np.zeros((100, 4)))).shuffle(100).batch(16)
    found = facts(network(), data.map(lambda image, label: (image, label)).prefetch(2))
    assert (found.pipeline, found.batch_size, found.train_n) == ("tfdata", 16, None)
    assert found.model_key == usual.model_key


def test_a_generator_leaves_batch_size_and_samples_unknown():
    found = facts(network(), iter([(IMAGES, IMAGES)]), steps_per_epoch=3)
    assert (found.pipeline, found.batch_size, found.train_n) == ("generator", None, None)


def test_a_model_is_traced_once_and_again_where_its_weights_change():
    import keras

    calls = []

    class Counted(keras.layers.Layer):
        def call(self, x):
            calls.append(x)
            return x

    model = keras.Sequential([keras.Input((4,)), Counted(), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    facts = training_facts(model, np.zeros((8, 4)), {}, "a", "cpu")
    n = len(calls)
    assert training_facts(model, np.zeros((8, 4)), {"batch_size": 4}, "a", "cpu").model_key == facts.model_key
    assert len(calls) == n
    model.layers[1].trainable = False
    assert training_facts(model, np.zeros((8, 4)), {}, "a", "cpu").model_key != facts.model_key
    assert len(calls) > n


WORK = [f"step_{field.name}" for field in fields(StepWork)]


def work_of(facts):
    return [getattr(facts, name) for name in WORK]


def test_the_work_of_a_step_is_that_of_its_layers_at_its_batch_and_with_its_optimizer():
    records = read_layers(network()).records
    for batch_size, optimizer, passes in ((32, "adam", 7), (8, "sgd", 3)):
        found = facts(network(optimizer=optimizer), batch_size=batch_size)
        assert work_of(found) == list(astuple(step_work(records, batch_size, 4, passes)))
    assert found.step_flop > 0


@pytest.mark.parametrize("unknown", ["own code", "optimizer", "batch size"])
def test_the_work_of_a_step_is_unknown_where_a_part_of_it_is(unknown):
    if unknown == "own code":
        found = facts(own_network())
    elif unknown == "optimizer":
        found = facts(network(optimizer="adafactor"))
    else:
        found = facts(network(), (IMAGES[:1] for _ in range(3)))
    assert work_of(found) == [None] * len(WORK)
