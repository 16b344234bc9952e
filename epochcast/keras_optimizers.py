"""What a Keras optimizer moves for each parameter, told by its class and its settings. Keras is not imported."""

from __future__ import annotations

from typing import Any

from epochcast.keras_parts import keras_class
from epochcast.roofline import OPTIMIZER_SLOTS, passes_of_slots

SETTINGS = {  # what keeps one thing more for each parameter, by Keras's names of optimizers and settings
    "sgd": ("momentum",),
    "rmsprop": ("momentum", "centered"),
    "adam": ("amsgrad",),
    "adamw": ("amsgrad",),
}


def compiled_passes(optimizer: Any) -> int | None:  # Any: a keras.optimizers.Optimizer
    """Passes over the parameters, as `epochcast.roofline.optimizer_passes` counts them; None: they are not known.

    They are not of a class of a user's own, of Adafactor, Muon and the like, and of gradients gathered over steps.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales a half-precision loss
    name = str(keras_class(optimizer)).lower()
    if name not in OPTIMIZER_SLOTS or optimizer.gradient_accumulation_steps:
        return None
    settings = (*SETTINGS.get(name, ()), "use_ema")
    return passes_of_slots(OPTIMIZER_SLOTS[name] + sum(bool(getattr(optimizer, setting)) for setting in settings))
