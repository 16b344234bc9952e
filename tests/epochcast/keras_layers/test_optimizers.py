"""Passes of an optimizer against the variables that Keras makes for it."""

from __future__ import annotations

import importlib

import pytest

from epochcast.keras_layers.optimizers import compiled_passes
from epochcast.roofline.roofline import OPTIMIZER_SLOTS, optimizer_passes, passes_of_slots


@pytest.fixture(scope="module")
def keras():
    return importlib.import_module("keras")  # starts TensorFlow, so not at the top


def slots_of(keras, optimizer):
    """Variables that it has made of the shape of the one parameter."""
    weight = keras.Variable(keras.ops.zeros((3, 5)))
    optimizer.build([weight])
    return sum(tuple(variable.shape) == (3, 5) for variable in optimizer.variables)


def test_settings_that_keep_more_are_counted_as_keras_keeps_them(keras):
    optimizers = keras.optimizers
    made = [
        *(optimizers.get(name) for name in OPTIMIZER_SLOTS if name != "sgd_momentum"),
        optimizers.SGD(0.1, momentum=0.9),
        optimizers.RMSprop(centered=True),
        optimizers.RMSprop(momentum=0.9, centered=True),
        optimizers.Adam(amsgrad=True),
        optimizers.AdamW(amsgrad=True, use_ema=True),
    ]
    assert [compiled_passes(optimizer) for optimizer in made] == [
        passes_of_slots(slots_of(keras, optimizer)) for optimizer in made
    ]
    assert compiled_passes(optimizers.LossScaleOptimizer(optimizers.Adam())) == optimizer_passes("adam")


def test_an_optimizer_that_does_more_than_keep_and_update_is_not_known(keras):
    class Mine(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient, variable, learning_rate)

    made = [keras.optimizers.Adafactor(), Mine(), keras.optimizers.SGD(gradient_accumulation_steps=4)]
    assert [compiled_passes(optimizer) for optimizer in made] == [None, None, None]
