"""Samples' shapes of a network that a file describes: asked for where it leaves them open, and checked where given."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from epochcast.text_sinks import shortened

SampleShape = tuple[int, ...] | dict[str, tuple[int, ...]] | None  # of one input; of several by their names
SHOWN = 3  # inputs of many that a message names
RANK_SHOWN = 8


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


def build_if_needed(model: Any, asked: SampleShape) -> None:  # Any: a Keras model
    """Build a network that was saved before its input's shape was known, by the shape that is asked for.

    Raises:
        ValueError: if it has no layers, or no shape is given.
    """
    import keras

    is_sequential = isinstance(model, keras.Sequential)
    if is_sequential and not model.layers:
        raise ValueError("it has no layers. Save it once they are added.")
    if getattr(model, "inputs", None) or (asked is None and model.built):
        return
    if asked is None:
        raise ValueError(
            "it was saved before it was built, so that its input's shape is not in it. Give that of a sample by "
            "--sample_shape N,N,..."
        )
    if isinstance(asked, Mapping) and is_sequential:
        if len(asked) > 1:
            raise ValueError("it takes one input. Give the shape of that by --sample_shape N,N,...")
        asked = next(iter(asked.values()))
    if is_sequential:
        model.build((None, *asked))
    elif isinstance(asked, Mapping):
        model(**{name: keras.KerasTensor((None, *sizes)) for name, sizes in asked.items()})
    else:
        model(keras.KerasTensor((None, *asked)))


def fixed_batch(model: Any) -> int | None:  # Any: a Keras model
    """The batch size that a network is saved for, None where it takes any."""
    sizes = [tensor.shape[0] for tensor in getattr(model, "inputs", None) or [] if tensor.shape[0] is not None]
    return max(sizes, default=None)


def check_shape(model: Any, asked: SampleShape) -> None:  # Any: a Keras model
    """Refuse shapes that leave the work open, or that the network's inputs do not take.

    Raises:
        ValueError: a sentence with the flag that helps.
    """
    inputs = getattr(model, "inputs", None) or []
    if not inputs:
        return
    sizes_of = {str(tensor.name): tuple(tensor.shape[1:]) for tensor in inputs}
    import keras

    if any(str(tensor.dtype) == "string" for tensor in inputs) and keras.backend.backend() != "tensorflow":
        raise ValueError("it takes text, which TensorFlow alone reads: set KERAS_BACKEND=tensorflow.")
    listed = _some([f"{shortened(name, 24)} {_plain(sizes)}" for name, sizes in sizes_of.items()])
    if asked is not None and not isinstance(asked, Mapping):
        if len(sizes_of) > 1:
            raise ValueError(f"it has the inputs {listed}. Name each that you give: {_flags(sizes_of)}.")
        asked = dict.fromkeys(sizes_of, asked)
    given = asked or {}
    if unknown := [name for name in given if name not in sizes_of]:
        raise ValueError(f"it has no input {shortened(unknown[0], 30)!r}. Its inputs are {listed}.")
    for name, sizes in sizes_of.items():
        if name in given and not _takes(sizes, given[name]):
            raise ValueError(
                f"its input {shortened(name, 40)!r} takes samples of shape {_shape_text(sizes)}, and --sample_shape "
                f"gives {_shape_text(given[name])}. Give one like it."
            )
    still_open = {name: sizes for name, sizes in sizes_of.items() if name not in given and None in sizes}
    if still_open and len(sizes_of) > 1:
        raise ValueError(f"it has the inputs {listed}. Give the sizes that you train with: {_flags(still_open)}.")
    for name, sizes in still_open.items():
        raise ValueError(
            f"its input {shortened(name, 40)!r} takes samples of shape {_shape_text(sizes)}. "
            "Give the sizes that you train with by --sample_shape."
        )


def _takes(sizes: tuple[int | None, ...], given: Sequence[int]) -> bool:
    return len(sizes) == len(given) and all(a in (None, b) for a, b in zip(sizes, given, strict=True))


def _flags(sizes_of: Mapping[str, tuple[int | None, ...]]) -> str:
    """The flags that give the shapes of the first inputs; N stands for a size that is open."""
    first = list(sizes_of.items())[:2]
    values = [shlex.quote(f"{name}={_joined(sizes, 'N', ',')}") for name, sizes in first]
    flags = " ".join(f"--sample_shape {value}" for value in values)
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
