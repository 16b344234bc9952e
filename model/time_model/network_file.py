"""The ensemble of a time model in its `.keras` file: read without Keras, whatever is in that file.

Besides what Keras saves, the file holds the same numbers as plain float32 (`PLAIN`), so that a prediction does not wait
for the import of h5py. A file of an earlier version, without them, is read by h5py.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from epochcast.model.time_model.ensemble import Ensemble
from epochcast.model.time_model.physics import Array
from epochcast.storage.archives import MIB, open_archive, read_member
from epochcast.storage.json_files import parse_json
from epochcast.text_sinks import shortened
from epochcast.validation import is_whole

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
PLAIN = "weights.f32"  # kernel and bias of one layer after the other, in C order, little-endian float32
FLOAT32 = np.dtype("<f4")
MOST_BYTES = 16 * MIB  # of each; the pretrained model's weights take 0.2
MOST_UNITS = 20_000  # of all members' layers at one depth; the recipes take 320


def read_ensemble(data: bytes, activation: str, n_features: int) -> Ensemble:
    """Return the stacked dense layers of a `.keras` file, in the order that they are applied.

    Raises:
        ValueError: if it is no model of this version, damaged, or asks for more than it holds; the bare reason.
    """
    with open_archive(io.BytesIO(data)) as archive:
        shapes = _shapes(parse_json(read_member(archive, CONFIG, MOST_BYTES)))
        part = PLAIN if PLAIN in archive.namelist() else WEIGHTS
        weights = read_member(archive, part, MOST_BYTES)
    try:
        if part == PLAIN:
            read = _plain_weights(weights, shapes, n_features)
        else:
            read = _kernels_and_biases(weights, len(shapes))
    except ImportError:  # a missing package is no fault of the file
        raise
    except Exception as error:  # h5py raises many kinds for a damaged file
        raise ValueError(f"{part}: {shortened(str(error)) or type(error).__name__}") from None
    ensemble = Ensemble(*read, activation)
    _check(ensemble, n_features)
    return ensemble


def with_plain_weights(data: bytes, ensemble: Ensemble) -> bytes:
    """Return a `.keras` file of an ensemble with its numbers added as plain float32; Keras ignores them."""
    content = io.BytesIO(data)
    numbers = b"".join(
        array.astype(FLOAT32).tobytes()
        for pair in zip(ensemble.kernels, ensemble.biases, strict=True)
        for array in pair
    )
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(zipfile.ZipInfo(PLAIN), numbers)
    return content.getvalue()


def _shapes(config: Any) -> list[tuple[int, int]]:  # Any: JSON
    """Return members and units of each dense layer of a time model's ensemble."""
    inner = config.get("config") if isinstance(config, dict) else None
    layers = inner.get("layers") if isinstance(inner, dict) else None
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ValueError(f"{CONFIG} lists no layers")
    names = [shortened(str(layer.get("class_name")), 40) or "''" for layer in layers]
    dense = [layer for layer in layers if layer.get("class_name") == "EinsumDense"]
    if names != ["InputLayer", "RepeatVector", *["EinsumDense"] * len(dense), "Reshape"] or not dense:
        raise ValueError(f"its layers are {', '.join(names[:8]) or 'none'}, not those of this version")
    return [_shape_of(layer.get("config")) for layer in dense]


def _shape_of(config: Any) -> tuple[int, int]:  # Any: JSON
    shape = config.get("output_shape") if isinstance(config, dict) else None
    if not isinstance(shape, list) or len(shape) != 2 or not all(is_whole(n, 1) for n in shape):
        raise ValueError(f"{CONFIG} has a layer without members and units")
    members, units = shape
    return members, units


def _plain_weights(
    data: bytes, shapes: Sequence[tuple[int, int]], inputs: int
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    with np.errstate(invalid="ignore"):  # of NaN, which `_check` refuses
        numbers = np.frombuffer(data, FLOAT32).astype(np.float64)
    kernels: list[Array] = []
    biases: list[Array] = []
    end = 0
    for members, units in shapes:
        for arrays, shape in ((kernels, (members, inputs, units)), (biases, (members, units))):
            start, end = end, end + math.prod(shape)
            arrays.append(numbers[start:end].reshape(shape))
        inputs = units
    if end != len(numbers):
        raise ValueError(f"{len(numbers)} numbers, expected {end}")
    return tuple(kernels), tuple(biases)


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
