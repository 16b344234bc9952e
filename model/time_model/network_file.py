"""The ensemble of a time model, read from its `.keras` file by h5py alone, whatever is in that file."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from epochcast.model.time_model.ensemble import Ensemble
from epochcast.model.time_model.physics import Array
from epochcast.storage.archives import MIB, open_archive, read_member
from epochcast.storage.json_files import parse_json

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MOST_BYTES = 16 * MIB  # of either; the pretrained model's weights take 0.2
MOST_UNITS = 20_000  # of all members' layers at one depth; the recipes take 320


def read_ensemble(data: bytes, activation: str, n_features: int) -> Ensemble:
    """Return the stacked dense layers of a `.keras` file, in the order that they are applied.

    Raises:
        ValueError: if it is no model of this version, damaged, or asks for more than it holds; the bare reason.
    """
    with open_archive(io.BytesIO(data)) as archive:
        config = parse_json(read_member(archive, CONFIG, MOST_BYTES))
        weights = read_member(archive, WEIGHTS, MOST_BYTES)
    n_dense = _count_layers(config)
    try:
        ensemble = Ensemble(*_kernels_and_biases(weights, n_dense), activation)
    except ImportError:  # a missing package is no fault of the file
        raise
    except Exception as error:  # h5py raises many kinds for a damaged file
        raise ValueError(f"{WEIGHTS}: {str(error) or type(error).__name__}") from None
    _check(ensemble, n_features)
    return ensemble


def _count_layers(config: Any) -> int:  # Any: JSON
    """Dense layers of a time model's ensemble."""
    inner = config.get("config") if isinstance(config, dict) else None
    layers = inner.get("layers") if isinstance(inner, dict) else None
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ValueError(f"{CONFIG} lists no layers")
    names = [str(layer.get("class_name"))[:40] for layer in layers]
    n_dense = names.count("EinsumDense")
    if names != ["InputLayer", "RepeatVector", *["EinsumDense"] * n_dense, "Reshape"] or n_dense == 0:
        raise ValueError(f"its layers are {', '.join(names[:8]) or 'none'}, not those of this version")
    return n_dense


def _kernels_and_biases(weights: bytes, n_dense: int) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    import h5py

    with h5py.File(io.BytesIO(weights)) as file:  # Keras names saved layers by class, counting from the second on
        names = [f"einsum_dense{f'_{i}' if i else ''}" for i in range(n_dense)]
        read = [[_numbers(file, ("layers", name, "vars", part), len(weights)) for name in names] for part in "01"]
    return tuple(read[0]), tuple(read[1])


def _numbers(file: Any, path: tuple[str, ...], most_bytes: int) -> Array:  # Any: an h5py.File
    """A dataset that lies in this very file, uncompressed: links, other files and zeros of any number are refused."""
    import h5py

    found = file
    for i, name in enumerate(path):
        if not isinstance(found, h5py.Group) or not isinstance(found.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"no {'/'.join(path[: i + 1])}")
        found = found[name]
    where = "/".join(path)
    if not isinstance(found, h5py.Dataset) or found.dtype.kind != "f":
        raise ValueError(f"{where} holds no numbers")
    if found.is_virtual or found.external or found.nbytes > most_bytes:
        raise ValueError(f"{where} is larger than the file, or in another one")
    return np.asarray(found, np.float64)


def _check(ensemble: Ensemble, n_features: int) -> None:
    """Refuse layers that don't fit together, and weights that are no numbers."""
    members, inputs = len(ensemble.kernels[0]), n_features
    for kernel, bias in zip(ensemble.kernels, ensemble.biases, strict=True):
        if kernel.ndim != 3 or kernel.shape[:2] != (members, inputs) or bias.shape != (members, kernel.shape[2]):
            raise ValueError(f"layers that don't fit together: {kernel.shape} and {bias.shape} after {inputs} values")
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise ValueError("weights that are no numbers")
        inputs = kernel.shape[2]
        if members * inputs > MOST_UNITS:
            raise ValueError(f"{members} members of {inputs} units, more than {MOST_UNITS} in all")
    if members == 0 or inputs != 1:
        raise ValueError(
            f"{members} members that give {inputs} values each, expected at least one member and one value"
        )
