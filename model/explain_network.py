"""A network of the user's own, read from a file that Keras saved."""

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
from model.explain_layers import Subject
from model.time_ann import keras_on_cpu

DEFAULT_OPTIMIZER = "adam"
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
    model = _load(path)
    _check_shape(path, model, sample_shape)
    try:
        network = read_layers(model, sample_shape)
    except ValueError as error:
        remedy = "" if sample_shape is None else " Another shape is given by --sample_shape."
        raise ValueError(f"{path}: {str(error).rstrip('.')}.{remedy}") from None
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


def _check_shape(path: Path, model: Any, sample_shape: Sequence[int] | None) -> None:  # Any: a Keras model
    """Refuse shapes that leave the work open, or that the network's input does not take."""
    inputs = model.inputs or []
    if len(inputs) > 1 and sample_shape is not None:
        names = ", ".join(tensor.name for tensor in inputs)
        raise ValueError(
            f"{path}: it has the inputs {names}, and --sample_shape gives the shape of one. Save it with the "
            "shapes that you train with."
        )
    for tensor in inputs:
        sizes = tuple(tensor.shape[1:])
        takes = f"{path}: its input {tensor.name!r} takes samples of shape {_shape_text(sizes)}"
        if sample_shape is None:
            if None in sizes:
                raise ValueError(f"{takes}. Give the sizes that you train with by --sample_shape.")
        elif len(sizes) != len(sample_shape) or any(
            size not in (None, given) for size, given in zip(sizes, sample_shape, strict=True)
        ):
            raise ValueError(f"{takes}, and --sample_shape gives {_shape_text(sample_shape)}. Give one like it.")


def _shape_text(sizes: Sequence[int | None]) -> str:
    listed = ", ".join("any" if size is None else str(size) for size in sizes)
    return f"({listed}) of rank {len(sizes)}"


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
            if unknown is None and _has_lambda(path):
                reason = "a Lambda layer holds some, which is not run; replace it by a layer of Keras"
    raise ValueError(f"{path}: Keras can't rebuild this network without code of its author's: {reason.rstrip('.')}.")


def _has_lambda(path: Path) -> bool:
    with zipfile.ZipFile(path) as file:
        return "config.json" in file.namelist() and b'"class_name": "Lambda"' in file.read("config.json")
