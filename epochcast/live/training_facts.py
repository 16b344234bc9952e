"""What a training's time depends on, and the keys of equal trainings.

A key is of what the model computes, not of its weights, nor of names that Keras numbers (`dense_3`). What a user's own
classes compute between their layers can't be read: of them the class's name and the shapes of its weights count.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from weakref import WeakKeyDictionary

import keras

from epochcast.keras_layers.optimizers import compiled_passes
from epochcast.keras_layers.read_layers import NetworkLayers, read_layers
from epochcast.live.sampling.data_kinds import (
    array_batch_size,
    data_kind,
    pipeline_batch_size,
    training_samples,
)
from epochcast.machine.framework import framework_details
from epochcast.machine.host.host import usable_cores
from epochcast.roofline.network import kind_of_network
from epochcast.roofline.network_law import step_work
from epochcast.schema import PRECISIONS

KEY_DIGITS = 16
_TRACED: WeakKeyDictionary[keras.Model, tuple[Any, NetworkLayers | None]] = WeakKeyDictionary()  # models that were read
# of a layer's record: its name, and what its shapes and weights say already, which keys of older rows don't have
NOT_IN_KEYS = frozenset({"name", "taps", "groups", "strides"})
FIRST_WITH_TF32 = 8  # major compute capability: Ampere


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """What is trained, how and on what, under the names of fits.csv's columns; None is unknown."""

    training_key: str
    model_key: str
    model_class: str
    params: int
    sample_shape: tuple[str, ...]
    batch_size: int | None
    train_n: int | None
    device_name: str
    usable_cores: int
    backend: str
    backend_version: str | None
    keras_version: str
    precision: str
    tf32: str | None
    pipeline: str | None
    jit_compile: str
    steps_per_execution: int
    optimizer: str
    step_operations: int | None = None
    step_flop: int | None = None
    step_small_kernel_flop: int | None = None
    step_bytes: int | None = None
    step_depthwise_bytes: int | None = None
    network_kind: str | None = None


@dataclass(frozen=True, slots=True)
class _Data:
    """What is known of the data of a fit without going through them."""

    pipeline: str | None = None
    batch_size: int | None = None
    train_n: int | None = None
    shapes: tuple[tuple[int | None, ...], ...] = ()  # of a sample, of each input


def training_facts(
    model: keras.Model, x: Any, options: Mapping[str, Any], device_name: str, device_kind: str
) -> TrainingFacts:
    """Describe the training `model.fit(x, ..., **options)` of a model that was built and compiled."""
    data = _data_of(x, options)
    layers, network = _layers_of(model, data)
    shapes = data.shapes if network is None else network.sample_shape
    backend = keras.backend.backend()
    details = framework_details(backend)
    version = details.get(f"{backend}_version")
    facts: dict[str, Any] = {
        "device_name": device_name,
        "usable_cores": len(usable_cores()),
        "backend": backend,
        "backend_version": version,
        "keras_version": keras.__version__,
        "precision": model.dtype_policy.name,
        "tf32": _tf32_of(details, device_kind),
        "pipeline": data.pipeline,
        "jit_compile": "on" if model.jit_compile else "off",
        "steps_per_execution": int(getattr(model, "steps_per_execution", 1) or 1),
        "optimizer": type(getattr(model.optimizer, "inner_optimizer", model.optimizer)).__name__,
    }
    sample_shape = tuple("x".join(map(str, shape)) or "scalar" for shape in shapes)
    model_key = _key_of({"layers": layers, "sample_shape": sample_shape, "precision": facts["precision"]})
    # a patch of the framework or of Keras makes no other training, as in the conditions of runs.csv
    of_key = facts | {"backend_version": version and ".".join(version.split(".")[:2]), "keras_version": None}
    of_key |= {"model_key": model_key, "batch_size": data.batch_size, "is_eager": bool(model.run_eagerly)}
    return TrainingFacts(
        training_key=_key_of(of_key),
        model_key=model_key,
        model_class=type(model).__name__,
        params=int(model.count_params()),
        sample_shape=sample_shape,
        batch_size=data.batch_size,
        train_n=data.train_n,
        **facts,
        **_work_of(model, network, data.batch_size),
    )


def _work_of(model: keras.Model, network: NetworkLayers | None, batch_size: int | None) -> dict[str, Any]:
    """Return a step's work and the network's kind by column; empty where unknown."""
    precision, passes = PRECISIONS.get(model.dtype_policy.name), compiled_passes(model.optimizer)
    if network is None or network.unknown or network.partial or None in (batch_size, precision, passes):
        return {}
    assert batch_size is not None and precision is not None and passes is not None
    work = step_work(network.records, batch_size, precision.element_bytes, passes)
    if not work.flop:
        return {}
    found = {f"step_{name}": int(value) for name, value in asdict(work).items()}
    return {**found, "network_kind": kind_of_network(network.records)}


def _key_of(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]


def _layers_of(model: keras.Model, data: _Data) -> tuple[dict[str, Any], NetworkLayers | None]:
    """Return what the model computes for a key, and its layers where they can be read."""
    is_own = not type(model).__module__.startswith("keras.")
    known: dict[str, Any] = {
        "class": type(model).__qualname__ if is_own else None,  # a Sequential model is the Functional one of its layers
        "weights": [[*map(int, weight.shape), weight.trainable] for weight in model.weights],
        "policies": sorted({layer.dtype_policy.name for layer in model._flatten_layers(include_self=False)}),
    }
    network = _network_of(model, data.shapes, _key_of(known))
    if network is None:
        return known, None
    known["layers"] = [_for_key(asdict(record)) for record in network.records]
    known["unread"] = [_class_in(title) for title in (*network.unknown, *network.partial)]
    return known, network


def _network_of(
    model: keras.Model, shapes: tuple[tuple[int | None, ...], ...], weights_key: str
) -> NetworkLayers | None:
    """Return a model's layers, traced once for the same weights; None where that fails."""
    before, network = _TRACED.get(model, (None, None))
    if before == (shapes, weights_key):
        return network
    network = None
    closed = [[size for size in shape if size is not None] for shape in shapes]
    for given in (None, closed[0] if len(closed) == 1 else None):  # the data's own fixes what the model leaves open
        with contextlib.suppress(Exception):  # whatever a model's own code raises: then it is known by its weights
            network = read_layers(model, given)
            break
    _TRACED[model] = (shapes, weights_key), network
    return network


def _for_key(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in NOT_IN_KEYS}


def _class_in(title: str) -> str:
    """Return the class in `block/lambda_2 (Lambda)`."""
    found = re.search(r"\(([^()]*)\)$", title)
    return title if found is None else found[1]


def _tf32_of(details: Mapping[str, Any], device_kind: str) -> str | None:
    """Return whether TF32 is in force, as in runs.csv."""
    if device_kind == "cpu":
        return "off"
    gpus, is_allowed = details.get("gpus") or [{}], details.get("tf32_allowed")
    capability = re.search(r"\d+", str(gpus[0].get("compute_capability")))
    if is_allowed is None or capability is None:
        return None
    has_tf32 = int(capability[0]) >= FIRST_WITH_TF32 and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
    return "on" if has_tf32 and is_allowed else "off"


# --- data ------------------------------------------------------------------------------------------------------------


def _data_of(x: Any, options: Mapping[str, Any]) -> _Data:
    kind = data_kind(x)
    if kind == "tfdata":
        return _of_dataset(x)
    if kind == "pydataset":
        return _of_first_batch(x)
    if kind != "arrays":
        return _Data(kind, x.batch_size if kind == "dataloader" else None)
    leaves = keras.tree.flatten(x)
    n_train = training_samples(int(leaves[0].shape[0]), options)
    is_whole = options.get("steps_per_epoch") is None
    batch_size = array_batch_size(options)
    return _Data(
        "arrays", batch_size, n_train if is_whole else None, tuple(tuple(map(int, leaf.shape[1:])) for leaf in leaves)
    )


def _of_first_batch(x: keras.utils.PyDataset) -> _Data:
    try:
        batch = keras.utils.unpack_x_y_sample_weight(x[0])[0]
        leaves = keras.tree.flatten(batch)
        return _Data("pydataset", int(leaves[0].shape[0]), None, tuple(tuple(map(int, a.shape[1:])) for a in leaves))
    except Exception:  # whatever a user's own class raises where it is asked out of turn
        return _Data("pydataset")


def _of_dataset(x: Any) -> _Data:  # Any: a tf.data.Dataset
    spec = x.element_spec[0] if isinstance(x.element_spec, tuple) else x.element_spec
    try:
        sizes = [tuple(leaf.shape.as_list()) for leaf in keras.tree.flatten(spec)]
    except (AttributeError, ValueError):  # ragged data, or of a shape that is not known
        return _Data("tfdata", pipeline_batch_size(x))
    if not sizes or not all(sizes):
        return _Data("tfdata", pipeline_batch_size(x))
    return _Data("tfdata", sizes[0][0] or pipeline_batch_size(x), None, tuple(size[1:] for size in sizes))
