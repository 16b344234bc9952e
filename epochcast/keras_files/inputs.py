"""Samples' shapes of a network that a file describes: asked for where it leaves them open, and checked where given."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from epochcast.keras_layers.read_layers import built_shape, subclassed_specs
from epochcast.text_sinks import shortened

SampleShape = tuple[int, ...] | dict[str, tuple[int, ...]] | None  # of one input; of several by their names
SHOWN = 3  # inputs of many that a message names
RANK_SHOWN = 8
# layers of Keras that call TensorFlow whatever the backend
TENSORFLOW_ALONE = ("HashedCrossing", "Hashing", "IntegerLookup", "StringLookup", "TextVectorization")


def shape_asked(given: Sequence[tuple[str | None, tuple[int, ...]]]) -> SampleShape:
    """The shapes of `--sample_shape`, each with the name of its input or None.

    Raises:
        ValueError: if they don't go together.
    """
    if not given:
        return None
    names = [name for name, _ in given]
    if None in names and len(given) > 1:
        raise ValueError("--sample_shape: name the input of each of several, e.g. left=128,8")
    if len(set(names)) < len(names):
        raise ValueError(f"--sample_shape: {next(n for n in names if names.count(n) > 1)} is given twice")
    return given[0][1] if names == [None] else {str(name): sizes for name, sizes in given}


class RefusedError(ValueError):
    """A network is not explained; a sentence of ours with what to do."""


def build_if_needed(model: Any, asked: SampleShape) -> SampleShape:  # Any: a Keras model
    """Build a network that was saved before its input's shape was known; returns the shape to trace it with.

    Raises:
        RefusedError: if it has no layers, or no shape is given.
        Exception: what Keras and the author's code raise for a shape that does not fit.
    """
    import keras

    is_sequential = isinstance(model, keras.Sequential)
    if is_sequential and not model.layers:
        raise RefusedError("it has no layers. Save it once they are added.")
    if getattr(model, "inputs", None):
        return asked
    if asked is None:
        _check_built(model, is_sequential)
        return None
    if isinstance(asked, Mapping) and is_sequential:
        if len(asked) > 1:
            raise RefusedError("it takes one input. Give the shape of that by --sample_shape N,N,...")
        asked = next(iter(asked.values()))
    if not is_sequential and not (model.built and all(layer.built for layer in model.layers)):
        args, kwargs = subclassed_specs(model, asked)
        model(*args, **kwargs)
    elif is_sequential and not model.built:
        model.build((None, *asked))
    return asked


def _check_built(model: Any, is_sequential: bool) -> None:  # Any: a Keras model
    """Refuse a network of no known input unless its file says the shape that it was built with."""
    import keras

    shape = saved_shape(model)
    names = [] if is_sequential else arguments(model)
    flags = name_flags(names) if len(names) > 1 else "--sample_shape N,N,..."
    if not model.built:
        raise RefusedError(
            f"it was saved before it was built, so that its input's shape is not in it. Give that of a sample "
            f"by {flags}"
        )
    if shape is None or (len(names) > 1 and _is_one(shape)):
        raise RefusedError(f"its file does not say the shapes of all its inputs. Give those of a sample by {flags}")
    if None in keras.tree.flatten(shape):
        raise RefusedError(f"it was built with samples of open sizes. Give those that you train with by {flags}")


def arguments(model: Any) -> list[str]:  # Any: a Keras model
    """Return the names of the arguments that a subclassed model's `call` needs."""
    parameters = inspect.signature(model.call).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [one.name for one in parameters if one.kind in named and one.default is one.empty]


def name_flags(names: Sequence[str]) -> str:
    """Return the flags that give shapes to inputs of these names, of as many as a line takes."""
    return _some_flags([f"{name}=N,..." for name in names])


def saved_shape(model: Any) -> Any:  # Any: a Keras model
    """Return the samples' shapes that a network of no declared inputs was built with, None where its file has none."""
    return built_shape(model) if model.built and not getattr(model, "inputs", None) else None


def _is_one(shape: Any) -> bool:
    """Whether it is the shape of one input, not those of several."""
    return isinstance(shape, Sequence) and all(size is None or isinstance(size, int) for size in shape)


def why_shape_fails(model: Any, saved: Any, asked: SampleShape, reason: str) -> str:  # Any: model, `saved_shape`
    """Return the line for a network that does not run with the shapes of `--sample_shape`."""
    found = f"it does not run with --sample_shape: {reason}"
    if getattr(model, "inputs", None):
        return f"{found}. Give another shape."
    names = list(saved) if isinstance(saved, Mapping) else arguments(model)
    is_named = isinstance(asked, Mapping)
    if (is_named and set(asked or ()) != set(names)) or (not is_named and len(names) > 1):
        return f"--sample_shape does not name the inputs that it takes, {_some(names)}: {name_flags(names)}"
    if _is_one(saved) and None not in saved:
        return f"{found}. It was saved with samples of shape {_plain(saved)}: leave --sample_shape out."
    return f"{found}. Give the shape that you train with."


def fixed_batch(model: Any) -> int | None:  # Any: a Keras model
    """The batch size that a network is saved for, None where it takes any."""
    sizes = [size for tensor in getattr(model, "inputs", None) or [] for size in tensor.shape[:1]]
    return max((size for size in sizes if size is not None), default=None)


def check_backend(model: Any) -> None:  # Any: a Keras model
    """Refuse what runs on TensorFlow alone under another backend.

    Raises:
        RefusedError: a sentence with the backend that helps.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        return
    if any(str(tensor.dtype) == "string" for tensor in getattr(model, "inputs", None) or []):
        raise RefusedError("it takes text, which TensorFlow alone reads: set KERAS_BACKEND=tensorflow.")
    alone = tuple(getattr(keras.layers, name) for name in TENSORFLOW_ALONE)
    for layer in model._flatten_layers():
        if isinstance(layer, alone):
            shown = f"{shortened(layer.name, 40)} ({shortened(type(layer).__name__, 30)})"
            raise RefusedError(f"its layer {shown} runs on TensorFlow alone: set KERAS_BACKEND=tensorflow.")


def check_shape(model: Any, asked: SampleShape) -> None:  # Any: a Keras model
    """Refuse shapes that leave the work open, or that the network's inputs do not take.

    Raises:
        RefusedError: a sentence with the flag that helps.
    """
    inputs = getattr(model, "inputs", None) or []
    if not inputs:
        return
    sizes_of = {str(tensor.name): tuple(tensor.shape[1:]) for tensor in inputs}
    listed = _some([f"{shortened(name, 24)} {_plain(sizes)}" for name, sizes in sizes_of.items()])
    if asked is not None and not isinstance(asked, Mapping):
        if len(sizes_of) > 1:
            raise RefusedError(f"it has the inputs {listed}. Name each that you give: {_flags(sizes_of)}.")
        asked = dict.fromkeys(sizes_of, asked)
    given = asked or {}
    if unknown := [name for name in given if name not in sizes_of]:
        raise RefusedError(
            f"it has no input {shortened(unknown[0], 30)!r}. Its inputs are {listed}: {_flags(sizes_of)}."
        )
    for name, sizes in sizes_of.items():
        if name in given and not _takes(sizes, given[name]):
            raise RefusedError(
                f"its input {shortened(name, 40)!r} takes samples of shape {_shape_text(sizes)}, and --sample_shape "
                f"gives {_shape_text(given[name])}. Give one like it."
            )
    still_open = {name: sizes for name, sizes in sizes_of.items() if name not in given and None in sizes}
    if still_open and len(sizes_of) > 1:
        raise RefusedError(f"it has the inputs {listed}. Give the sizes that you train with: {_flags(still_open)}.")
    for name, sizes in still_open.items():
        raise RefusedError(
            f"its input {shortened(name, 40)!r} takes samples of shape {_shape_text(sizes)}. "
            "Give the sizes that you train with by --sample_shape."
        )


def _takes(sizes: tuple[int | None, ...], given: Sequence[int]) -> bool:
    return len(sizes) == len(given) and all(a in (None, b) for a, b in zip(sizes, given, strict=True))


def _flags(sizes_of: Mapping[str, tuple[int | None, ...]]) -> str:
    """The flags that give the shapes of the first inputs; N stands for a size that is open."""
    return _some_flags([f"{name}={_joined(sizes, 'N', ',')}" for name, sizes in sizes_of.items()])


def _some_flags(values: Sequence[str]) -> str:
    flags = " ".join(f"--sample_shape {value if value.endswith('...') else shlex.quote(value)}" for value in values[:2])
    return flags if len(flags) <= 90 and flags.isprintable() else "--sample_shape NAME=N,..."


def _plain(sizes: Sequence[int | None]) -> str:
    return f"({_joined(sizes, 'any', ', ')}{', ...' * (len(sizes) > RANK_SHOWN)})"


def _shape_text(sizes: Sequence[int | None]) -> str:
    return f"{_plain(sizes)} of rank {len(sizes)}"


def _joined(sizes: Sequence[int | None], open_size: str, by: str) -> str:
    return by.join(open_size if size is None else str(size) for size in sizes[:RANK_SHOWN])


def _some(texts: Sequence[str]) -> str:
    """The first of many, short enough for a line."""
    shown = ", ".join(texts[:SHOWN])
    if len(texts) > SHOWN:
        shown += f" and {len(texts) - SHOWN} more"
    return shortened(shown, 90)
