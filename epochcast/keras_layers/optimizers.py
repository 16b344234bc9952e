"""What a Keras optimizer moves for each parameter, by its class and its settings. Keras is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epochcast.keras_layers.parts import keras_class
from epochcast.roofline.roofline import OPTIMIZER_SLOTS, passes_of_slots

SETTINGS = {  # what keeps one thing more for each parameter, by Keras's names of optimizers and settings
    "sgd": ("momentum",),
    "rmsprop": ("momentum", "centered"),
    "adam": ("amsgrad",),
    "adamw": ("amsgrad",),
}


WRAPPER = "LossScaleOptimizer"  # scales a half-precision loss


def compiled_passes(optimizer: Any) -> int | None:  # Any: a keras.optimizers.Optimizer
    """Passes over the parameters, as `roofline.optimizer_passes` counts them; None: they are not known.

    They are not of a class of a user's own, of Adafactor, Muon and the like, and of gradients gathered over steps.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    name = str(keras_class(optimizer)).lower()
    settings = (*SETTINGS.get(name, ()), "use_ema", "gradient_accumulation_steps")
    return _passes(name, {setting: getattr(optimizer, setting, None) for setting in settings})


def described_passes(config: Any) -> int | None:  # Any: JSON of a file
    """Passes of an optimizer as a file describes it, with whatever backend and version of Keras it was saved.

    None: they are not known, as for `compiled_passes`; what of its settings says nothing here need not be readable.
    """
    if isinstance(config, str):
        return _passes(config.lower(), {})
    if not isinstance(config, Mapping) or not is_of_keras(config):
        return None
    name, settings = config.get("class_name"), config.get("config")
    if not isinstance(name, str) or not isinstance(settings, Mapping):
        return None
    return described_passes(settings.get("inner_optimizer")) if name == WRAPPER else _passes(name.lower(), settings)


def optimizer_name(config: Any) -> str:  # Any: JSON of a file
    """What a file calls an optimizer."""
    if not isinstance(config, Mapping):
        return str(config)
    inner = config.get("config")
    if config.get("class_name") == WRAPPER and isinstance(inner, Mapping):
        return optimizer_name(inner.get("inner_optimizer"))
    return str(config.get("class_name"))


def is_of_keras(config: Mapping[str, Any]) -> bool:
    """Whether a description names one of Keras's own optimizers; early files name no module."""
    module = config.get("module")
    return module is None or str(module).partition(".")[0] in ("keras", "tf_keras")


def is_of_author(config: Any) -> bool:  # Any: JSON of a file
    """Whether a description, or the one that it wraps, names a class of another package than Keras."""
    inner = config.get("config") if isinstance(config, Mapping) else None
    if isinstance(inner, Mapping) and config.get("class_name") == WRAPPER:
        return is_of_author(inner.get("inner_optimizer"))
    return isinstance(config, Mapping) and not is_of_keras(config)


def _passes(name: str, settings: Mapping[str, Any]) -> int | None:
    used = [settings.get(setting) for setting in (*SETTINGS.get(name, ()), "use_ema")]
    is_odd = any(not isinstance(value, bool | int | float | None) for value in used)
    if name not in OPTIMIZER_SLOTS or is_odd or settings.get("gradient_accumulation_steps"):
        return None
    return passes_of_slots(OPTIMIZER_SLOTS[name] + sum(map(bool, used)))
