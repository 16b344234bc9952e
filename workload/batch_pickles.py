"""The official CIFAR-10 batches: pickles, read without running or allocating what they ask for."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


class _ArrayKind:
    """Stands for numpy.ndarray in a pickle, which names it and must not call it."""


class _PickledDtype:
    """Stands for numpy.dtype, which is one object for all arrays and which a pickle could change."""

    def __init__(self, code: Any, *_: object) -> None:  # Any: what a pickle gives
        self.value: np.dtype[Any] = np.dtype(code)
        if self.value.kind not in "biuf":
            raise pickle.UnpicklingError(f"refused to load an array of {self.value}")

    def __setstate__(self, state: Sequence[Any]) -> None:  # Any: what a pickle gives
        order: Any = state[1].decode() if isinstance(state[1], bytes) else state[1]
        self.value = self.value.newbyteorder(order)


class _PickledArray:
    """Stands for a new array, which NumPy's own function makes of any shape, before its content is known."""

    values: npt.NDArray[Any] | None = None  # Any: not checked yet

    def __init__(self, kind: object, shape: object, typecode: object) -> None:
        pass

    def __setstate__(self, state: Sequence[Any]) -> None:  # Any: what a pickle gives
        _, shape, dtype, is_fortran, content = state
        if not (isinstance(dtype, _PickledDtype) and isinstance(content, bytes)):
            raise pickle.UnpicklingError("an array without plain numbers")
        self.values = np.frombuffer(content, dtype.value).reshape(shape, order="F" if is_fortran else "C")


class _BatchUnpickler(pickle._Unpickler):  # in Python: the one in C takes memory by whatever a pickle says
    """Builds NumPy arrays and plain values; a pickle that asks for anything else is refused before it runs."""

    ALLOWED: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _ArrayKind,
        ("numpy", "dtype"): _PickledDtype,
        # the one function that pickled arrays call, under the names that old and new NumPy give its module
        ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
    }

    def find_class(self, module_name: str, global_name: str) -> Any:  # as the base class: classes and functions
        if (module_name, global_name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"refused to load {module_name}.{global_name}")
        return self.ALLOWED[module_name, global_name]


def read_batch(content: bytes) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:  # Any: not checked yet
    """Pixels and labels of one pickled batch; raises anything."""
    batch = _BatchUnpickler(io.BytesIO(content), encoding="bytes").load()
    pixels, labels = batch[b"data"], batch[b"labels"]
    if not isinstance(pixels, _PickledArray) or pixels.values is None:
        raise TypeError("its data are no array")
    if isinstance(labels, _PickledArray) and labels.values is not None:
        return pixels.values, labels.values
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise TypeError("its labels are no whole numbers")  # a list of lists may hold itself, or one other many times
    return pixels.values, np.asarray(labels)
