"""The data of a caught fit in each form, and the lines that make them."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from epochcast.live.sampling.data_kinds import (
    array_batch_size,
    data_kind,
    is_pipeline,
    pipeline_batch_size,
    training_samples,
)
from epochcast.live.sampling.pipeline_copies import has_cache, without_cache_file
from epochcast.machine.host.host import memory_bytes
from epochcast.output.text import significant

MEMORY_SHARE = 4  # of the memory that is free, copies and caches together may take one in so many
OF_ARRAYS = ("batch_size", "shuffle", "sample_weight", "validation_split")  # options that a tf.data.Dataset replaces
NO_TENSORFLOW = "tf.data needs TensorFlow, which is not installed"
AUTOTUNE = "tf.data.AUTOTUNE"

Call = tuple[str, tuple[Any, ...], dict[str, Any]]  # of a method: its name and what it is given


class NotPossibleError(ValueError):
    """A form of the data that can't be made; says why."""


class Inputs:
    """What `fit` may be given in place of the caught data.

    Raises:
        ValueError: if the data have a cache file and can't be copied.
    """

    def __init__(self, x: Any, y: Any, options: Mapping[str, Any]) -> None:
        self._x, self.notes = without_cache_file(x)
        self._y, self._options = y, options
        self.kind = data_kind(x) or type(x).__name__
        self.batch_size = array_batch_size(options) if self.kind == "arrays" else None
        if self.kind == "tfdata":
            self.batch_size = pipeline_batch_size(self._x)
        self._made: dict[tuple[str, int | None], Any] = {}
        self._taken_bytes = 0.0  # by copies and caches

    @property
    def has_any_batch_size(self) -> bool:
        """Whether fit itself cuts these data into batches, all of them in an epoch."""
        return self.kind == "arrays" and self._options.get("steps_per_epoch") is None

    def batches(self, batch_size: int | None) -> int | None:
        """Return the batches of an epoch at some size; None where fit does not choose them."""
        return math.ceil(self._n_train() / batch_size) if batch_size and self.has_any_batch_size else None

    def forms(self, batches: int, epochs: int) -> dict[str, str | None]:
        """Return for each other form why it is not tried; None if it is.

        Args:
            batches: of an epoch.
        """
        why: dict[str, str | None]
        if self.kind == "arrays":
            why = dict.fromkeys(("tfdata", "cached"), self._why_no_pipeline())
        elif self.kind == "tfdata":
            is_prefetched = type(self._x).__name__.endswith("PrefetchDataset")
            why = {"prefetched": "these data end with prefetch" if is_prefetched else None}
            why["cached"] = self._why_no_cache(batches)
        else:
            return {}
        if epochs == 1:
            why["cached"] = "the fit trains one epoch, which reads everything for the first time"
        return why

    def _why_no_cache(self, batches: int) -> str | None:
        """Return why a tf.data.Dataset is not cached; None if it can be."""
        if type(self._x).__name__.endswith("CacheDataset"):
            return "these data end with cache"
        if self._options.get("steps_per_epoch") is not None or self._is_endless():
            return "these data do not end with an epoch"
        n_bytes = self._cached_bytes(batches)
        return "the size of these data is unknown" if n_bytes is None else self._too_large(n_bytes)

    def given(self, form: str, batch_size: int | None) -> tuple[Any, Any, dict[str, Any]]:
        """Return x, y and options of the fit on data of this form.

        Raises:
            NotPossibleError: if they can't be made.
        """
        options = dict(self._options)
        if form == self.kind:
            return self._x, self._y, options if batch_size == self.batch_size else options | {"batch_size": batch_size}
        if self.kind == "arrays":
            # a shuffle of fit's own would only be warned of
            options = {name: value for name, value in options.items() if name not in OF_ARRAYS} | {"shuffle": False}
        if (form, batch_size) not in self._made:
            self._made[form, batch_size] = self._pipeline(form, batch_size)
        return self._made[form, batch_size], None, options

    def rest(self, form: str, batch_size: int | None) -> Any | None:
        """Return the smaller last batch alone, if it may come anywhere in an epoch."""
        if form != "cached" or self.kind != "arrays" or batch_size is None or not (n := self._n_train() % batch_size):
            return None
        return _tensorflow().data.Dataset.from_tensor_slices(self._first(n)).batch(batch_size)

    def lines(self, form: str, batch_size: int | None) -> list[str]:
        """Return the lines of Python that make these data; none for the script's own."""
        if form == self.kind:
            return [] if batch_size == self.batch_size else [f"model.fit(x, y, batch_size={batch_size}, ...)"]
        if self.kind == "tfdata":
            end = ".cache().prefetch(tf.data.AUTOTUNE)" if form == "cached" else ".prefetch(tf.data.AUTOTUNE)"
            return [f"model.fit(data{end}, ...)  # data: what it is given now"]
        size, is_split = self._n_train(), bool(self._options.get("validation_split"))
        named = {
            name: f"tuple({name})" if isinstance(value, list) else f"{name}{f'[:{size}]' * is_split}{_cast_text(value)}"
            for name, value in self._arrays().items()
        }
        slices = f"tf.data.Dataset.from_tensor_slices(({', '.join(named.values())}{',' * (len(named) == 1)}))"
        made = ".".join(["data = " + slices, *(_call_text(call) for call in self._calls(form, batch_size))])
        if not is_split:
            return [made, "model.fit(data, ...)  # without y, batch_size, shuffle and sample_weight"]
        rest = ", ".join(f"{name}[{size}:]" for name in named)
        return [made, f"model.fit(data, validation_data=({rest}), ...)  # without validation_split, too"]

    def fill_cache(self, x: Any, batches: int, sec: float) -> bool:
        """Fill a cache in memory by one pass; return whether the time allowed was enough.

        A pass that is stopped before its end leaves such a cache empty.
        """
        if not is_pipeline(x) or not has_cache(x):
            return True
        end = time.perf_counter() + sec
        for done, _ in enumerate(x):
            if done > batches:  # of data without an end the next round has begun
                break
            if time.perf_counter() > end:
                return False
        return True

    # --- arrays ---------------------------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, Any]:
        """Return inputs, targets and weights by name, as far as there are any."""
        named = {"x": self._x, "y": self._y, "sample_weight": self._options.get("sample_weight")}
        return {name: value for name, value in named.items() if value is not None}

    def _n_train(self) -> int:
        return training_samples(int(keras.tree.flatten(self._x)[0].shape[0]), self._options)

    def _why_no_pipeline(self) -> str | None:
        leaves = keras.tree.flatten(list(self._arrays().values()))
        if others := [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, np.ndarray)]:
            return f"a tf.data.Dataset is made of NumPy arrays only, not of {others[0]}"
        if self._options.get("steps_per_epoch") is not None:
            return "this fit has steps_per_epoch"
        if any(not isinstance(value, np.ndarray) for value in self._arrays().values()) and (
            self._options.get("validation_split") or any(map(_cast_text, leaves))
        ):
            return "this fit has several inputs or targets, and validation_split or another type than Keras's own"
        if self._options.get("shuffle") == "batch":
            return "this fit has shuffle='batch'"
        try:
            _tensorflow()
        except ImportError:
            return NO_TENSORFLOW
        return self._too_large(sum(leaf.nbytes for leaf in leaves))

    def _first(self, n: int) -> Any:
        """Return the first samples as tf.data takes them."""
        return keras.tree.map_structure(lambda leaf: _cast(leaf[:n]), tuple(map(_as_tuple, self._arrays().values())))

    def _pipeline(self, form: str, batch_size: int | None) -> Any:
        tf = _tensorflow()
        if self.kind == "tfdata":
            made = self._x.cache() if form == "cached" else self._x
            return made.prefetch(tf.data.AUTOTUNE)
        arrays = self._first(self._n_train())
        n_bytes = sum(leaf.nbytes for leaf in keras.tree.flatten(arrays)) * (2 if form == "cached" else 1)
        if (too_large := self._too_large(n_bytes)) is not None:
            raise NotPossibleError(too_large)
        self._taken_bytes += n_bytes
        with tf.device("CPU:0"):
            made = tf.data.Dataset.from_tensor_slices(arrays)
        for name, given, named in self._calls(form, batch_size):
            values = (tf.data.AUTOTUNE if value == AUTOTUNE else value for value in given)
            made = getattr(made, name)(*values, **named)
        return made

    def _calls(self, form: str, batch_size: int | None) -> list[Call]:
        """Return the calls that make a pipeline of slices of arrays."""
        assert batch_size is not None
        n, is_shuffled = self._n_train(), bool(self._options.get("shuffle", True))
        # with a known size the step that is compiled for arrays is used
        whole = {"drop_remainder": True} if n % batch_size == 0 else {}
        calls: list[Call] = [("shuffle", (n,), {})] * is_shuffled + [("batch", (batch_size,), whole)]
        if form == "cached":
            calls += [("cache", (), {})] + [("shuffle", (math.ceil(n / batch_size),), {})] * is_shuffled
        return [*calls, ("prefetch", (AUTOTUNE,), {})]

    # --- memory ---------------------------------------------------------------------------------------------------

    def _too_large(self, n_bytes: float) -> str | None:
        """Return why so many bytes more are not taken; None if they are."""
        _, free = memory_bytes()
        if free is None:
            return "how much memory is free is unknown"
        if self._taken_bytes + n_bytes <= free / MEMORY_SHARE:
            return None
        return (
            f"{significant(n_bytes / 1e9)} GB would be kept in memory; at most a quarter of what is free, "
            f"{significant(free / MEMORY_SHARE / 1e9)} GB, is used"
        )

    def _cached_bytes(self, batches: int) -> float | None:
        """Return the bytes of all batches of a tf.data.Dataset, by its first; None if unknown."""
        leaves = keras.tree.flatten(next(iter(self._x)))
        sizes = [getattr(leaf.dtype, "size", 0) * math.prod(leaf.shape) for leaf in leaves]
        return float(batches * sum(sizes)) if all(sizes) else None  # text and ragged data have no size

    def _is_endless(self) -> bool:
        return bool(self._x.cardinality() == _tensorflow().data.INFINITE_CARDINALITY)


def _tensorflow() -> Any:  # Any: the module, which may not be installed
    """Import TensorFlow, without the GPUs of another framework.

    Raises:
        ImportError: if it is not installed.
    """
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # the script itself has begun to use it
            tf.config.set_visible_devices([], "GPU")
    return tf


def _cast(array: np.ndarray) -> np.ndarray:
    """Return an array as fit gives it to the model: floats in Keras's own type."""
    return array.astype(keras.config.floatx(), copy=False) if array.dtype.kind == "f" else array


def _cast_text(arrays: Any) -> str:
    floatx = keras.config.floatx()
    leaves = keras.tree.flatten(arrays)
    return f'.astype("{floatx}")' if any(leaf.dtype.kind == "f" and leaf.dtype != floatx for leaf in leaves) else ""


def _as_tuple(value: Any) -> Any:
    """Return a list as a tuple: tf.data makes one tensor of a list."""
    return tuple(value) if isinstance(value, list) else value


def _call_text(call: Call) -> str:
    name, given, named = call
    return f"{name}({', '.join([*map(str, given), *(f'{each}={value}' for each, value in named.items())])})"
