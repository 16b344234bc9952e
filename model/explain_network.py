"""A network of the user's own, read from a file that Keras saved."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epochcast.keras_files import (
    SavedNetwork,
    needs_weights,
    optimizer_name,
    read_saved,
    rebuilt,
    shortened,
    why_not_rebuilt,
    without_weights,
)
from epochcast.keras_layers import NetworkLayers, read_layers
from epochcast.keras_optimizers import compiled_passes
from epochcast.limits import MIB, LimitError, call_within
from epochcast.roofline import ADAM_PASSES
from model.explain_layers import Subject
from model.time_ann import keras_on_cpu

DEFAULT_OPTIMIZER = "adam"
REBUILDING_SEC = 10.0  # NASNetLarge, of 1,041 layers, takes 3
REBUILDING_BYTES = 768 * MIB  # NASNetLarge takes 60
LARGEST_WORK = 10**30  # FLOP or elements for one sample: beyond it sums leave the range of a float
EXHAUSTED = ("ResourceExhausted", "RESOURCE_EXHAUSTED", "OOM when allocating")  # TensorFlow, JAX
TRY = "Try it on a batch, and save it again."
SHOWN = 3  # layers of many that a message names
RECURRENT_NOTE = (
    "recurrent layers at least: weights read once, and one launch for all steps where a GPU's cuDNN takes them; on a "
    "processor each step is a launch"
)


def read_network(
    path: Path,
    batch_size: int,
    images: int,
    precision: str,
    sample_shape: Sequence[int] | None = None,
    allow_unknown: bool = False,
) -> Subject:
    """A `.keras` file's network. Code in the file is not run: a layer that brings its own is refused.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no `.keras` file, can't be rebuilt, leaves its shapes open, or has layers that are not
            counted, unless `allow_unknown` leaves them out.
    """
    path = path.absolute()
    saved = read_saved(path)
    keras_on_cpu()  # starts it: neither the time nor the memory of this network
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings that say nothing here
            try:
                read = call_within(lambda: _read(saved, sample_shape, True), REBUILDING_SEC, REBUILDING_BYTES)
            except _NeedsWeightsError:
                read = call_within(lambda: _read(saved, sample_shape, False), REBUILDING_SEC, REBUILDING_BYTES)
    except LimitError as error:
        raise ValueError(
            f"{path}: rebuilding this network takes {error}. Save one with fewer or smaller layers."
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    network = read.layers
    if network.unknown and not allow_unknown:
        raise ValueError(
            f"{path}: what these layers do is not known: {_some(network.unknown)}. --allow_unknown explains the "
            "others without them."
        )
    if not network.records:
        raise ValueError(f"{path}: no layer of it computes anything that can be counted.")
    if any(max(record.train_flop, record.params, record.outputs) > LARGEST_WORK for record in network.records):
        raise ValueError(
            f"{path}: its layers are larger than any computer. Save it with the sizes that you train with."
        )
    notes = [f"counted in part, by the layers inside: {', '.join(network.partial)}"] if network.partial else []
    if any(record.kind == "recurrent" for record in network.records):
        notes.append(RECURRENT_NOTE)
    if read.policies - {precision}:
        notes.append(f"it was saved in {', '.join(sorted(read.policies))} and is explained in {precision}")
    return Subject(
        path.name,
        network.records,
        batch_size,
        images,
        precision,
        read.optimizer,
        read.passes,
        network.unknown,
        (*notes, *read.notes),
        is_cnn=False,
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """What is kept of a network that was rebuilt."""

    layers: NetworkLayers
    policies: frozenset[str]  # precisions
    optimizer: str
    passes: int  # over the parameters
    notes: tuple[str, ...]  # what is to be said of the optimizer


class _NeedsWeightsError(Exception):
    """The network can't be rebuilt without weights."""


def _read(saved: SavedNetwork, sample_shape: Sequence[int] | None, is_light: bool) -> _Read:
    """The network of a file, rebuilt and traced, where `is_light` without weights.

    Raises:
        ValueError: a sentence, for whatever is wrong.
    """
    with without_weights() if is_light else contextlib.nullcontext():
        try:
            model = rebuilt(saved)
        except Exception as error:  # Keras raises many kinds for a class it does not know and for odd settings
            _refuse_excess(error)
            if is_light and needs_weights(error):
                raise _NeedsWeightsError from None
            raise ValueError(why_not_rebuilt(saved, error)) from None
        try:
            _check_shape(model, sample_shape)
            layers = _layers(model, sample_shape)
        except ValueError:
            raise
        except Exception as error:  # Keras's, where odd settings are met only now
            _refuse_excess(error)
            raise ValueError(f"it does not run: {type(error).__name__}: {shortened(str(error))}. {TRY}") from None
        policies = frozenset(layer.dtype_policy.name for layer in model.layers if layer.weights)
    return _Read(layers, policies, *_optimizer(saved.optimizer))


def _layers(model: Any, sample_shape: Sequence[int] | None) -> NetworkLayers:  # Any: a Keras model
    try:
        return read_layers(model, sample_shape)
    except ValueError as error:
        _refuse_excess(error)
        reason = shortened(str(error), 160).rstrip(".")
        if sample_shape is not None:
            reason += ". Another shape is given by --sample_shape"
        elif "does not run" in reason:
            reason += f". {TRY.rstrip('.')}"
        raise ValueError(f"{reason}.") from None


def _refuse_excess(error: Exception) -> None:
    """Raise a LimitError where the memory was not granted; its name is the backend's own."""
    names = f"{type(error).__name__} {error}"
    if isinstance(error, MemoryError) or any(word in names for word in EXHAUSTED):
        raise MemoryError from None


def _check_shape(model: Any, sample_shape: Sequence[int] | None) -> None:  # Any: a Keras model
    """Refuse shapes that leave the work open, or that the network's input does not take."""
    inputs = model.inputs or []
    if len(inputs) > 1 and sample_shape is not None:
        names = _some([tensor.name for tensor in inputs])
        raise ValueError(
            f"it has the inputs {names}, and --sample_shape gives the shape of one. Save it with the "
            "shapes that you train with."
        )
    for tensor in inputs:
        sizes = tuple(tensor.shape[1:])
        takes = f"its input {shortened(tensor.name, 40)!r} takes samples of shape {_shape_text(sizes)}"
        if sample_shape is None:
            if None in sizes:
                raise ValueError(f"{takes}. Give the sizes that you train with by --sample_shape.")
        elif len(sizes) != len(sample_shape) or any(
            size not in (None, given) for size, given in zip(sizes, sample_shape, strict=True)
        ):
            raise ValueError(f"{takes}, and --sample_shape gives {_shape_text(sample_shape)}. Give one like it.")


def _shape_text(sizes: Sequence[int | None]) -> str:
    listed = ", ".join("any" if size is None else str(size) for size in sizes[:8])
    return f"({listed}{', ...' * (len(sizes) > 8)}) of rank {len(sizes)}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(shortened(name, 60) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _optimizer(config: Any) -> tuple[str, int, tuple[str, ...]]:  # Any: JSON of the file
    """An optimizer's name, its passes over the parameters, and what is to be said of them."""
    if config is None:
        return DEFAULT_OPTIMIZER, ADAM_PASSES, (f"no optimizer is saved with it: {DEFAULT_OPTIMIZER} is taken",)
    try:
        optimizer = keras_on_cpu().optimizers.get(config)
    except Exception:  # a class of a user's own, or damaged: of whatever kind Keras raises
        name = optimizer_name(config)
    else:
        name = type(getattr(optimizer, "inner_optimizer", optimizer)).__name__.lower()
        if (passes := compiled_passes(optimizer)) is not None:
            return name, passes, ()
    note = f"what its optimizer {name} moves is not known: {DEFAULT_OPTIMIZER} is taken"
    return DEFAULT_OPTIMIZER, ADAM_PASSES, (note,)
