"""A network of the user's own, read from a file that Keras saved."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epochcast.author_code import author_code
from epochcast.keras_files import (
    SavedNetwork,
    needs_weights,
    prepared,
    read_saved,
    rebuilt,
    remedy_of_version,
    why_not_rebuilt,
    without_weights,
)
from epochcast.keras_foreign import Wanted, WantedError, prepare
from epochcast.keras_layers import NetworkLayers, read_layers
from epochcast.keras_optimizers import compiled_passes, described_passes, optimizer_name
from epochcast.limits import MIB, LimitError, call_within
from epochcast.roofline import ADAM_PASSES
from epochcast.text_sinks import shortened
from model.explain_layers import Subject
from model.network_inputs import SampleShape, build_if_needed, check_shape, fixed_batch
from model.time_ann import keras_on_cpu

DEFAULT_OPTIMIZER = "adam"
REBUILDING_SEC = 10.0  # NASNetLarge, of 1,041 layers, takes 3
REBUILDING_BYTES = 768 * MIB  # NASNetLarge takes 60
LARGEST_WORK = 10**30  # FLOP or elements for one sample: beyond it sums leave the range of a float
EXHAUSTED = ("ResourceExhausted", "RESOURCE_EXHAUSTED", "OOM when allocating")  # TensorFlow, JAX
TRY = "Try it on a batch, and save it again."
LONGEST = 200  # characters of a message about a file, without its path
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
    sample_shape: SampleShape = None,
    allow_unknown: bool = False,
    code: Sequence[Path] = (),
) -> Subject:
    """A `.keras` file's network. Code in the file is not run, and of its author's only the files in `code` are.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no `.keras` file, can't be rebuilt, leaves its shapes open, or has layers that are not
            counted, unless `allow_unknown` leaves them out; if a file of `code` fails.
    """
    path = path.absolute()
    saved = read_saved(path)
    keras_on_cpu()  # starts it: neither the time nor the memory of this network
    with author_code(code) as given, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings that say nothing here
        request = _Request(saved, given, sample_shape, allow_unknown)
        try:
            read = request.read()
            if read.layers.unknown and not allow_unknown:
                raise ValueError(_why_unknown(read.layers))
            _check_work(read.layers)
        except LimitError as error:
            raise ValueError(
                f"{path}: rebuilding this network takes {error}. Save one with fewer or smaller layers."
            ) from None
        except WantedError as error:
            raise ValueError(f"{path}: {shortened(_why_wanted(error.wanted, request, code), LONGEST)}") from None
        except ValueError as error:
            raise ValueError(f"{path}: {shortened(str(error), LONGEST)}") from None
    return Subject(
        path.name,
        read.layers.records,
        batch_size,
        images,
        precision,
        read.optimizer,
        read.passes,
        read.layers.unknown,
        tuple(_notes(read, batch_size, precision)),
        is_cnn=False,
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """What is kept of a network that was rebuilt."""

    layers: NetworkLayers
    policies: frozenset[str]  # precisions
    batch: int | None  # that it is saved for
    left_out: tuple[str, ...]  # what is not counted and no layer
    optimizer: str
    passes: int  # over the parameters
    notes: tuple[str, ...]  # what is to be said of the optimizer


class _NeedsWeightsError(Exception):
    """The network can't be rebuilt without weights."""


@dataclass(frozen=True, slots=True)
class _Request:
    """What is to be read of a file, and with what help."""

    saved: SavedNetwork
    given: Mapping[str, Any]  # of its author's code, by name
    sample_shape: SampleShape
    allow_unknown: bool

    def read(self) -> _Read:
        """The network, rebuilt and traced within the limits.

        Raises:
            LimitError: if that takes too much.
            WantedError: if code is missing.
            ValueError: a sentence, for whatever else is wrong.
        """
        try:
            return call_within(lambda: self._read(is_light=True), REBUILDING_SEC, REBUILDING_BYTES)
        except _NeedsWeightsError:
            return call_within(lambda: self._read(is_light=False), REBUILDING_SEC, REBUILDING_BYTES)

    def _read(self, is_light: bool) -> _Read:
        with without_weights() if is_light else contextlib.nullcontext():
            try:
                ready = prepared(self.saved, self.given, self.allow_unknown)
                model = rebuilt(ready)
            except WantedError:
                raise
            except Exception as error:  # Keras raises many kinds for a class it does not know and for odd settings
                _refuse_excess(error)
                if is_light and needs_weights(error):
                    raise _NeedsWeightsError from None
                raise ValueError(why_not_rebuilt(self.saved, error, self.given)) from None
            try:
                build_if_needed(model, self.sample_shape)
                check_shape(model, self.sample_shape)
                layers = _layers(model, self.sample_shape)
            except ValueError:
                raise
            except Exception as error:  # Keras's, where odd settings are met only now
                _refuse_excess(error)
                if is_light and needs_weights(error):
                    raise _NeedsWeightsError from None
                raise ValueError(f"it does not run: {type(error).__name__}: {shortened(str(error))}. {TRY}") from None
            policies = frozenset(layer.dtype_policy.name for layer in model.layers if layer.weights)
        optimizer = _optimizer(self.saved.optimizer, self.given)
        return _Read(layers, policies, fixed_batch(model), tuple(ready.left_out), *optimizer)


def _layers(model: Any, sample_shape: SampleShape) -> NetworkLayers:  # Any: a Keras model
    try:
        return read_layers(model, sample_shape)
    except ValueError as error:
        _refuse_excess(error)
        if needs_weights(error):
            raise RuntimeError(str(error)) from None
        reason = shortened(str(error), 130).rstrip(".")
        if sample_shape is not None:
            reason += ". Another shape is given by --sample_shape"
        elif not model.built or not getattr(model, "inputs", None):
            reason = f"{shortened(reason, 90)}. Give the shape of a sample by --sample_shape N,N,... or NAME=N,..."
        elif "does not run" in reason:
            reason += f". {TRY.rstrip('.')}"
        raise ValueError(f"{reason}.") from None


def _refuse_excess(error: Exception) -> None:
    """Raise a LimitError where the memory was not granted; its name is the backend's own."""
    names = f"{type(error).__name__} {error}"
    if isinstance(error, MemoryError) or any(word in names for word in EXHAUSTED):
        raise MemoryError from None


def _check_work(layers: NetworkLayers) -> None:
    """Refuse a network of which nothing can be counted, or more than any computer does."""
    if not layers.records:
        raise ValueError("no layer of it computes anything that can be counted. Give one with layers of Keras.")
    if any(max(record.train_flop, record.params, record.outputs) > LARGEST_WORK for record in layers.records):
        raise ValueError("its layers are larger than any computer. Save it with the sizes that you train with.")


def _why_unknown(layers: NetworkLayers) -> str:
    remedy = (
        "--allow_unknown explains the others without them"
        if layers.records
        else "It has no others: save it with plain layers of Keras"
    )
    return f"what these layers do is not known: {_some(layers.unknown)}. {remedy}."


def _why_wanted(wanted: Sequence[Wanted], request: _Request, code: Sequence[Path]) -> str:
    """What can be done where a network needs what is not there; only what works is offered."""
    first = wanted[0]
    names = list(dict.fromkeys(one.what for one in wanted))
    shown = names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    remedies = []
    if all(one.is_keras for one in wanted):
        found = f"it needs {shown}, which this Keras does not have"
        remedies.append(remedy_of_version(request.saved).rstrip("."))
    elif all(one.is_countable for one in wanted if not one.is_keras):
        where = f"layer {first.layer!r} needs" if first.layer else "the network is of"
        found = f"{where} {shown}, its author's code"
        if code:
            found = f"{where} {shown}, which {shortened(', '.join(path.name for path in code), 40)} does not define"
        package = first.package
        remedies.append(
            f"Install {package}, and give a file that says `import {package}` by --code"
            if package
            else "Give its Python file by --code FILE.py"
        )
    else:
        hidden = next(one for one in wanted if not one.is_countable)
        why = (
            "code in the file, which is never run" if hidden.is_lambda else "its author's code, which can't be counted"
        )
        found = f"layer {hidden.layer!r} holds {hidden.what}, {why}"
    if _can_leave_out(request):
        remedies.append(
            "--allow_unknown counts the rest without it" if not remedies else "--allow_unknown leaves it out"
        )
    options = [remedies, remedies[-1:]] if remedies else [["Replace it by one of Keras's own"]]
    lines = [f"{found}. {', or '.join(some)}." for some in options]
    return next((line for line in lines if len(line) <= LONGEST), lines[-1])


def _can_leave_out(request: _Request) -> bool:
    """Whether something of the network can be counted without what is not known."""
    try:
        read = _Request(request.saved, request.given, request.sample_shape, allow_unknown=True).read()
        _check_work(read.layers)
    except ValueError:
        return False
    return True


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(shortened(name, 30) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _notes(read: _Read, batch_size: int, precision: str) -> list[str]:
    notes = [f"counted in part, by the layers inside: {', '.join(read.layers.partial)}"] if read.layers.partial else []
    if read.left_out:
        notes.append(f"not counted: {', '.join(read.left_out)}")
    if any(record.kind == "recurrent" for record in read.layers.records):
        notes.append(RECURRENT_NOTE)
    if read.policies - {precision}:
        notes.append(f"it was saved in {', '.join(sorted(read.policies))} and is explained in {precision}")
    if read.batch not in (None, batch_size):
        notes.append(
            f"its file fixes the batch size at {read.batch}: each sample is counted as there, {batch_size} a step"
        )
    return [*notes, *read.notes]


def _optimizer(config: Any, given: Mapping[str, Any]) -> tuple[str, int, tuple[str, ...]]:  # Any: JSON of the file
    """An optimizer's name, its passes over the parameters, and what is to be said of them."""
    if config is None:
        return DEFAULT_OPTIMIZER, ADAM_PASSES, (f"no optimizer is saved with it: {DEFAULT_OPTIMIZER} is taken",)
    name = shortened(optimizer_name(config), 40)
    passes = described_passes(config)
    if passes is None:
        passes = _passes_of_code(config, given)
    if passes is not None:
        return name.lower(), passes, ()
    note = f"what its optimizer {name} moves is not known: {DEFAULT_OPTIMIZER} is taken"
    return DEFAULT_OPTIMIZER, ADAM_PASSES, (note,)


def _passes_of_code(config: Any, given: Mapping[str, Any]) -> int | None:
    """Those of an optimizer that the author's code defines, None where it does not, or does more than Keras's own."""
    if not isinstance(config, dict):
        return None
    import keras

    try:
        ready = prepare(json.loads(json.dumps(config)), given, allow_unknown=False)
        with keras.saving.custom_object_scope(ready.objects):
            return compiled_passes(keras.saving.deserialize_keras_object(ready.config, safe_mode=True))
    except Exception:  # of whatever kind Keras and the author's code raise: it is then not known
        return None
