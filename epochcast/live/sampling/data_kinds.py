"""Kinds of data that a `fit` is given, and their numbers of samples.

No framework is imported to ask: data of a framework that was never imported are of another kind.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

DEFAULT_BATCH = 32  # of Keras's fit, for arrays


def is_pipeline(data: Any) -> bool:
    """Whether it is a tf.data.Dataset."""
    return hasattr(data, "element_spec")


def is_py_dataset(data: Any) -> bool:
    """Whether it is a keras.utils.PyDataset."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(data, keras.utils.PyDataset)


def is_torch_loader(data: Any) -> bool:
    """Whether it is a torch DataLoader."""
    torch_data = sys.modules.get("torch.utils.data")
    return torch_data is not None and isinstance(data, torch_data.DataLoader)


def is_generator(data: Any) -> bool:
    """Whether it is used up by going through it.

    What `ImageDataGenerator.flow` returns has `__next__`, but Keras takes its batches by their numbers.
    """
    return isinstance(data, Iterator) and not is_py_dataset(data)


def data_kind(data: Any) -> str | None:
    """Return what data are, as fits.csv names it; None of another kind."""
    if is_pipeline(data):
        return "tfdata"
    if is_torch_loader(data):
        return "dataloader"
    if is_py_dataset(data):
        return "pydataset"
    if is_generator(data):
        return "generator"
    leaves = sys.modules["keras"].tree.flatten(data)  # who has a fit has imported it
    return "arrays" if leaves and all(len(getattr(leaf, "shape", ())) for leaf in leaves) else None


def pipeline_batch_size(data: Any) -> int | None:
    """Return the samples of a batch of a tf.data.Dataset; None where it does not say.

    `element_spec` leaves it open unless the last batch is dropped, and to draw a batch may fill a shuffle buffer first.
    """
    spec = data.element_spec
    while isinstance(spec, list | tuple | Mapping) and spec:
        spec = next(iter(spec.values())) if isinstance(spec, Mapping) else spec[0]
    try:
        if (size := spec.shape[0]) is not None:
            return int(size)
        while data is not None:
            if (own := getattr(data, "_batch_size", None)) is not None:
                return int(own)
            data = getattr(data, "_input_dataset", None)
    except (AttributeError, TypeError, ValueError, IndexError):  # of a scalar, of an unknown rank, of a ragged tensor
        pass
    return None


def array_batch_size(options: Mapping[str, Any]) -> int:
    """Return the samples of a step of a fit on arrays."""
    return int(options.get("batch_size") or DEFAULT_BATCH)


def training_samples(n: int, options: Mapping[str, Any]) -> int:
    """Return how many of `n` samples a fit trains on."""
    split = options.get("validation_split")
    return n if not split or options.get("validation_data") is not None else math.floor(n * (1 - float(split)))
