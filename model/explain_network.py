"""The network that is explained: our CNN by its closed form, or a user's own from a file that Keras saved."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from epochcast.keras_layers import read_layers
from epochcast.keras_optimizers import compiled_passes
from epochcast.roofline import ADAM_PASSES
from epochcast.schema import RunConfig
from model.explain_layers import Subject
from model.time_ann import keras_on_cpu
from workload.shape import layer_records

DEFAULT_OPTIMIZER = "adam"
RECURRENT_NOTE = (
    "recurrent layers at least: weights read once, and one launch for all steps where a GPU's cuDNN takes them; on a "
    "processor each step is a launch"
)


def subject_of(config: RunConfig, images: int, precision: str) -> Subject:
    """One configuration of our CNN."""
    name = f"CNN of depth {config.depth}, {config.base_filters} base filters"
    return Subject(name, layer_records(config.depth, config.base_filters), config.batch_size, images, precision)


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
    model = _load(path)
    try:
        network = read_layers(model, sample_shape)
    except ValueError as error:
        raise ValueError(f"{path}: {error} Here a shape is given by --sample_shape.") from None
    if network.unknown and not allow_unknown:
        raise ValueError(
            f"{path}: what these layers do is not known: {', '.join(network.unknown)}. --allow_unknown explains the "
            "others without them."
        )
    if not network.records:
        raise ValueError(f"{path}: no layer of it computes anything that can be counted.")
    notes = [f"counted in part, by the layers inside: {', '.join(network.partial)}"] if network.partial else []
    if any(record.kind == "recurrent" for record in network.records):
        notes.append(RECURRENT_NOTE)
    policies = {layer.dtype_policy.name for layer in model.layers if layer.weights}
    if policies - {precision}:
        notes.append(f"it was saved in {', '.join(sorted(policies))} and is explained in {precision}")
    optimizer, passes, note = _optimizer(model)
    return Subject(
        path.name,
        network.records,
        batch_size,
        images,
        precision,
        optimizer,
        passes,
        network.unknown,
        (*notes, *note),
    )


def _optimizer(model: Any) -> tuple[str, int, list[str]]:  # Any: a Keras model
    """The name of its optimizer, its passes over the parameters, and what is to be said of them."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return DEFAULT_OPTIMIZER, ADAM_PASSES, [f"no optimizer is saved with it: {DEFAULT_OPTIMIZER} is taken"]
    name = type(getattr(optimizer, "inner_optimizer", optimizer)).__name__.lower()
    if (passes := compiled_passes(optimizer)) is not None:
        return name, passes, []
    return (
        DEFAULT_OPTIMIZER,
        ADAM_PASSES,
        [f"what its optimizer {name} moves is not known: {DEFAULT_OPTIMIZER} is taken"],
    )


def _load(path: Path) -> Any:  # Any: a Keras model
    """The file's model, compiled where that needs no code of its author's."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Save the network with model.save('NAME.keras').")
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not a .keras file. Save the network with model.save('NAME.keras').")
    load = keras_on_cpu().saving.load_model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an optimizer's moments, which nobody needs here
        try:
            return load(path, compile=True, safe_mode=True)
        except Exception:  # a loss or metric of its author's, raised as whatever it is: the layers alone will do
            pass
        try:
            return load(path, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises many kinds for a class it does not know and for a damaged file
            unknown = re.search(r"Could not locate (class|function) '[^']*'", str(error))  # far down in the text
            reason = unknown[0] if unknown else (str(error).strip() or type(error).__name__).splitlines()[0]
    raise ValueError(f"{path}: Keras can't rebuild this network without code of its author's: {reason}")
