"""The layers of a model for another process: what they compute, as JSON values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import keras

from epochcast.keras_layers.optimizers import compiled_passes
from epochcast.keras_layers.read_layers import read_layers
from epochcast.machine.framework import framework_details
from epochcast.text_sinks import shortened


def layers_json(model: Any, sample_shape: tuple[int | None, ...] | None) -> dict[str, Any]:
    """Return a model's layers as JSON values, or `why` they are unknown."""
    details: Mapping[str, Any] = framework_details(keras.backend.backend())
    allowed = details.get("tf32_allowed")
    tf32 = None if allowed is None else "on" if allowed else "off"
    none: dict[str, Any] = {"records": [], "partial": [], "passes": None, "tf32": tf32}
    try:
        try:
            layers = read_layers(model)
        except ValueError:
            if sample_shape is None or None in sample_shape:
                raise
            layers = read_layers(model, [size for size in sample_shape if size is not None])
    except Exception as error:  # whatever the model's own code raises where it is traced
        return {**none, "why": shortened(str(error), 200)}
    if layers.unknown or not layers.records:
        named = (f"{title} {why}" for title, why in zip(layers.unknown, layers.reasons, strict=True))
        what = ", ".join(named) or "it computes nothing"
        return {**none, "why": shortened(what, 200)}
    passes = None if model.optimizer is None else compiled_passes(model.optimizer)
    records = [asdict(record) for record in layers.records]
    return {"records": records, "partial": list(layers.partial), "passes": passes, "tf32": tf32, "why": None}
