"""A network of the user's own, read from a file that Keras saved."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from epochcast.keras_files.author_code import author_code
from epochcast.keras_files.file_network import FileNetwork, keep_network, kept_network, kept_path
from epochcast.keras_files.foreign import WantedError, prepare
from epochcast.keras_files.inputs import (
    RefusedError,
    SampleShape,
    build_if_needed,
    check_backend,
    check_shape,
    fixed_batch,
    saved_shape,
)
from epochcast.keras_files.rebuild import (
    SavedNetwork,
    needs_weights,
    prepared,
    read_saved,
    rebuilt,
    why_not_rebuilt,
    without_weights,
)
from epochcast.keras_files.refusals import (
    LONGEST,
    some,
    why_code_fails,
    why_ended,
    why_not_run,
    why_other_backend,
    why_too_much,
    why_unknown,
    why_wanted,
)
from epochcast.keras_layers.optimizers import compiled_passes, described_passes, is_of_author, optimizer_name
from epochcast.keras_layers.read_layers import NetworkLayers, read_layers
from epochcast.machine.framework import keras_on_cpu
from epochcast.machine.limits import MIB, EndedError, LimitError, call_within
from epochcast.roofline.network import TrainedNetwork
from epochcast.roofline.roofline import ADAM_PASSES
from epochcast.text_sinks import shortened

DEFAULT_OPTIMIZER = "adam"
REBUILDING_SEC = 20.0  # EfficientNetV2L, of 1,028 layers, takes 4 to 8
REBUILDING_WALL_SEC = 60.0  # a busy machine needs longer; code that waits or sleeps never ends
REBUILDING_BYTES = 768 * MIB  # NASNetLarge takes 60
LARGEST_WORK = 10**30  # FLOP or elements for one sample: beyond it sums leave the range of a float
EXHAUSTED = ("ResourceExhausted", "RESOURCE_EXHAUSTED", "OOM when allocating")  # TensorFlow, JAX


def read_network(
    path: Path,
    batch_size: int,
    images: int,
    precision: str,
    sample_shape: SampleShape = None,
    allow_unknown: bool = False,
    code: Sequence[Path] = (),
) -> TrainedNetwork:
    """Return a `.keras` file's network in training; raises as `read_file`."""
    return read_file(path, sample_shape, allow_unknown, code).trained(batch_size, images, precision)


def known_file(
    path: Path, sample_shape: SampleShape = None, allow_unknown: bool = False, code: Sequence[Path] = ()
) -> FileNetwork:
    """Return a file's network, from the cache folder where it was read before; raises as `read_file`.

    It is kept by the content of the file. With an author's code, which may read other files, it is read each time.
    """
    if code or not path.is_file():
        return read_file(path, sample_shape, allow_unknown, code)
    kept = kept_path(path, sample_shape, allow_unknown)
    if (found := kept_network(kept)) is None:
        found = read_file(path, sample_shape, allow_unknown)
        keep_network(kept, found)
    return found


def read_file(
    path: Path, sample_shape: SampleShape = None, allow_unknown: bool = False, code: Sequence[Path] = ()
) -> FileNetwork:
    """Return a `.keras` file's network; no code is run but the files in `code`.

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
        request = _Request(saved, given, sample_shape, allow_unknown, code)
        try:
            read = request.read()
            if read.layers.unknown and not allow_unknown:
                raise RefusedError(why_unknown(read.layers, read.quantized, has_others=_is_counted(read.layers)))
            _check_work(read.layers)
        except LimitError as error:
            raise ValueError(f"{path}: {why_too_much(error, code)}") from None
        except EndedError as error:
            raise ValueError(f"{path}: {why_ended(error, code)}") from None
        except WantedError as error:
            line = why_wanted(error, saved, code, can_leave_out=_can_leave_out(request))
            raise ValueError(f"{path}: {shortened(line, LONGEST)}") from None
        except ValueError as error:
            raise ValueError(f"{path}: {shortened(str(error), LONGEST)}") from None
    return FileNetwork(
        path.name,
        read.layers.records,
        read.layers.unknown,
        read.layers.partial,
        tuple(sorted(read.policies)),
        read.batch,
        read.left_out,
        read.optimizer,
        read.passes,
        read.notes,
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """What is kept of a network that was rebuilt."""

    layers: NetworkLayers
    policies: frozenset[str]  # precisions
    quantized: str | None  # a layer whose weights are
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
    code: Sequence[Path] = ()

    def read(self) -> _Read:
        """The network, rebuilt and traced within the limits.

        Raises:
            LimitError: if that takes too much.
            WantedError: if code is missing.
            EndedError: if the author's code tries to end the program.
            ValueError: a sentence, for whatever else is wrong.
        """
        limits = REBUILDING_SEC, REBUILDING_BYTES, REBUILDING_WALL_SEC
        try:
            return call_within(lambda: self._read(is_light=True), *limits)
        except _NeedsWeightsError:
            return call_within(lambda: self._read(is_light=False), *limits)

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
                reason = why_other_backend(error) or why_code_fails(error, self.code)
                reason = reason or why_not_rebuilt(self.saved, error, self.given)
                raise RefusedError(reason) from None
            known = None
            try:
                check_backend(model)
                known = saved_shape(model)
                shape = build_if_needed(model, self.sample_shape)
                check_shape(model, shape)
                _freeze(model)
                layers = read_layers(model, shape)
                policies = frozenset(layer.dtype_policy.name for layer in model.layers if layer.weights)
                quantized = _quantized(model)
            except RefusedError:
                raise
            except Exception as error:  # Keras's and the author's, where odd settings are met only now
                _refuse_excess(error)
                if is_light and needs_weights(error):
                    raise _NeedsWeightsError from None
                raise RefusedError(why_not_run(model, known, self.sample_shape, error, self.code)) from None
        optimizer = _optimizer(self.saved.optimizer, self.given)
        return _Read(layers, policies, quantized, fixed_batch(model), tuple(ready.left_out), *optimizer)


def _refuse_excess(error: Exception) -> None:
    """Raise a LimitError where the memory was not granted; its name is the backend's own."""
    names = f"{type(error).__name__} {error}"
    if isinstance(error, MemoryError) or any(word in names for word in EXHAUSTED):
        raise MemoryError from None


def _freeze(model: Any) -> None:  # Any: a Keras model
    """Freeze all weights of each layer that the file marks as frozen, and of a frozen network.

    Of layers that a layer makes for itself (attention, the author's own) Keras saves no mark, and makes them trainable
    again; the layers of a network inside have their own, which may differ from the network's.
    """
    for layer in [model, *model._flatten_layers(include_self=False)]:
        if not layer.trainable and (layer is model or not getattr(layer, "inputs", None)):
            for inner in layer._flatten_layers(include_self=False):
                inner.trainable = False  # one by one: what is False already passes nothing on


def _quantized(model: Any) -> str | None:  # Any: a Keras model
    """Return the first layer with quantized weights, with its class and mode; None if no layer has any."""
    for layer in model._flatten_layers():
        if mode := getattr(layer, "quantization_mode", None):
            return f"{shortened(layer.name, 30)} ({shortened(type(layer).__name__, 30)}, {shortened(str(mode), 10)})"
    return None


def _is_counted(layers: NetworkLayers) -> bool:
    """Whether there are parameters or multiply-adds, without which an epoch's work is no answer."""
    return any(record.params or record.macs for record in layers.records)


def _check_work(layers: NetworkLayers) -> None:
    """Refuse a network of which nothing can be counted, or more than any computer does."""
    if not _is_counted(layers):
        without = f" without {some(layers.unknown)}" if layers.unknown else ""
        raise RefusedError(f"it has neither weights nor products to count{without}. Give one with layers of Keras.")
    if any(max(record.train_flop, record.params, record.outputs) > LARGEST_WORK for record in layers.records):
        raise RefusedError("its layers are larger than any computer. Save it with the sizes that you train with.")


def _can_leave_out(request: _Request) -> bool:
    """Whether something of the network can be counted without what is not known."""
    if request.allow_unknown:
        return False
    try:
        _check_work(replace(request, allow_unknown=True).read().layers)
    except (ValueError, EndedError):
        return False
    return True


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
    remedy = "; --code FILE.py may show it" if is_of_author(config) and name not in given else ""
    note = f"what its optimizer {name} moves is not known: {DEFAULT_OPTIMIZER} is taken{remedy}"
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
