"""What a caught fit trains: its model, its data and its options, in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

from epochcast.live.sampling.data_kinds import DEFAULT_BATCH, is_pipeline, pipeline_batch_size

MOST_OPTION = 60  # characters of an option's value


def description(model: Any, x: Any, y: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is caught, as JSON values; nothing is read from the data."""
    return {
        "model": type(model).__name__,
        "params": int(model.count_params()) if getattr(model, "built", False) else None,
        "precision": getattr(getattr(model, "dtype_policy", None), "name", None),
        "data": {name: data_text(value) for name, value in (("x", x), ("y", y)) if value is not None},
        "batch_size": batch_size_of(x, options),
        "epochs": int(options.get("epochs", 1)),
        "options": sorted(options),
        "option_values": {name: _option_text(value) for name, value in options.items()},
    }


def data_text(value: Any) -> str:
    """Return kind, shape and type of some data in words."""
    kind = type(value).__name__
    if is_pipeline(value):
        shapes = _spec_text(value.element_spec)
        return f"tf.data {kind.lstrip('_')} of {shapes}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {data_text(each)}' for name, each in value.items())}}}"
    if isinstance(value, list | tuple) and value and all(hasattr(each, "shape") for each in value):
        return f"({', '.join(map(data_text, value))})"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        name = str(value.dtype)
        return f"{kind} {_shape_text(value.shape)} {name.rpartition('.')[2]}"
    if hasattr(value, "gi_frame"):
        return "generator"
    try:
        return f"{kind} of {len(value):,} {'items' if isinstance(value, list | tuple) else 'batches'}"
    except (TypeError, NotImplementedError):
        return kind


def _spec_text(spec: Any) -> str:
    if isinstance(spec, Mapping):
        return f"{{{', '.join(f'{name}: {_spec_text(each)}' for name, each in spec.items())}}}"
    if isinstance(spec, list | tuple):
        return f"({', '.join(map(_spec_text, spec))})"
    shape = getattr(spec, "shape", None)
    return type(spec).__name__ if shape is None else f"{_shape_text(shape)} {getattr(spec.dtype, 'name', spec.dtype)}"


def _shape_text(shape: Any) -> str:
    try:
        return f"({', '.join('?' if size is None else str(size) for size in shape)})"
    except (TypeError, ValueError):  # of unknown rank
        return "(?)"


def _option_text(value: Any) -> str:
    if isinstance(value, str | bool | Number) or value is None:
        text = repr(value)
    elif isinstance(value, Sequence) and value and not any(map(_is_data, value)):
        text = ", ".join(repr(each) if isinstance(each, str | Number) else type(each).__name__ for each in value)
    elif isinstance(value, Mapping) and not any(map(_is_data, value.values())):
        text = f"of {len(value)}"
    else:
        text = data_text(value)
    return text if len(text) <= MOST_OPTION else f"{text[: MOST_OPTION - 3]}..."


def _is_data(value: Any) -> bool:
    return hasattr(value, "shape") or is_pipeline(value)


def batch_size_of(x: Any, options: Mapping[str, Any]) -> int | None:
    """Return the samples of a step; None if no batch is needed to know."""
    if (given := options.get("batch_size")) is not None:
        return int(given)
    if is_pipeline(x):
        return pipeline_batch_size(x)
    first = next(iter(x.values()), None) if isinstance(x, Mapping) else x
    first = first[0] if isinstance(first, list | tuple) and first else first
    if hasattr(first, "shape"):
        return DEFAULT_BATCH
    for name in ("batch_size", "_batch_size"):  # a torch DataLoader's, by convention a PyDataset's
        if isinstance(size := getattr(x, name, None), int):
            return size
    return None


def sample_shape_of(x: Any) -> tuple[int | None, ...] | None:
    """Return the shape of a sample with one input; None if unknown."""
    spec = x
    if is_pipeline(x):
        spec = x.element_spec
        spec = spec[0] if isinstance(spec, tuple) and spec else spec
    shape = getattr(spec, "shape", None)
    try:
        return None if shape is None else tuple(None if size is None else int(size) for size in shape[1:])
    except (TypeError, ValueError):
        return None
