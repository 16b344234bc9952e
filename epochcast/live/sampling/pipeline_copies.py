"""Copies of a tf.data.Dataset that share no seeds and no cache file."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

from epochcast.live.sampling.data_kinds import is_pipeline, pipeline_batch_size

MOST_TENSOR_BYTES = 200 * 10**6  # of a tf.data.Dataset: its copy takes 0.4 s per 50 MB, and fails above 2 GB
CACHES = ("CacheDataset", "CacheDatasetV2")  # operations whose second input is the name of a file, empty for memory
CACHE_NOTE = "The cache file of these data was not used or written; the first epoch fills it in the real training."

WITHOUT_FILE = "estimate it with cache() in place of cache(FILE)."


class TooLargeError(ValueError):
    """A tf.data.Dataset with too many tensors in memory to be copied."""


def pipeline_copy(data: Any) -> tuple[Any, bool]:
    """Return a copy of the data set, and whether it has a cache file.

    A pass that is cut leaves a lock file, with which the next pass over the original fails. The seeds of a shuffle are
    a resource that all made from one graph share: one element taken from a plain copy would change every later epoch
    of the original.

    Raises:
        TooLargeError: if it has more than MOST_TENSOR_BYTES in memory.
    """
    import tensorflow as tf

    graph = _graph_of(data)
    resources = {
        node.name
        for node in graph.node
        if node.op == "Const" and node.attr["dtype"].type == tf.resource.as_datatype_enum
    }
    own = "own_seed_generator"
    for node in list(graph.node):
        if "Shuffle" in node.op or node.op.startswith("Random"):
            node.input[:] = [own if name in resources else name for name in node.input]
    if any(own in node.input for node in graph.node):
        graph.node.add(name=own, op="DummySeedGenerator")
    has_file = _drop_cache_files(graph)
    variant = tf.raw_ops.DatasetFromGraph(graph_def=graph.SerializeToString())
    copied = tf.data.experimental.from_variant(variant, data.element_spec).with_options(data.options())
    copied._batch_size = pipeline_batch_size(data)  # a graph does not say it
    return copied, has_file


def without_cache_file(data: Any) -> tuple[Any, list[str]]:
    """Return data that write no cache file, and a note if copied.

    Raises:
        ValueError: if they have such a file and can't be copied.
    """
    if not is_pipeline(data) or not has_cache_file(data):
        return data, []
    try:
        return pipeline_copy(data)[0], [CACHE_NOTE]
    except TooLargeError as error:
        raise ValueError(f"{error} The original would leave its cache file unfinished: {WITHOUT_FILE}") from error


def has_cache(data: Any) -> bool:
    """Whether a tf.data.Dataset keeps what it read, as far as its parts can be seen."""
    return any(type(each).__name__.endswith("CacheDataset") for each in _chain(data))


def has_cache_file(data: Any) -> bool:
    """Whether a tf.data.Dataset writes a cache file.

    One inside a function of the data set is not seen where the data set is too large to be copied.
    """
    for each in _chain(data):
        if type(each).__name__.endswith("CacheDataset") and (name := getattr(each, "_filename", None)) is not None:
            with contextlib.suppress(Exception):  # a name that only a graph has
                if name.numpy():
                    return True
    try:
        graph = _graph_of(data)
    except Exception:  # too large, distributed or of another kind: nothing of it is known
        return False
    return bool(_file_caches(graph))


def _graph_of(data: Any) -> Any:
    import tensorflow as tf

    _refuse_large(_tensor_bytes(data))
    serialized = tf.raw_ops.DatasetToGraphV2(
        input_dataset=data._variant_tensor, external_state_policy=1, strip_device_assignment=False
    ).numpy()
    _refuse_large(len(serialized))
    return tf.compat.v1.GraphDef.FromString(serialized)


def _node_lists(graph: Any) -> Iterator[tuple[Any, str]]:
    """Yield the nodes of the graph and its functions, with input suffixes."""
    yield graph.node, ""
    for function in graph.library.function:
        yield function.node_def, ":output:0"


def _file_caches(graph: Any) -> list[tuple[Any, Any, str]]:
    """Caches with the name of a file, each after the nodes that it is among."""
    found = []
    for nodes, suffix in _node_lists(graph):
        empty = {
            f"{node.name}{suffix}"
            for node in nodes
            if node.op == "Const" and list(node.attr["value"].tensor.string_val) == [b""]
        }
        found += [(nodes, node, suffix) for node in nodes if node.op in CACHES and node.input[1] not in empty]
    return found


def _drop_cache_files(graph: Any) -> bool:
    """Make memory caches of all that have a file; return whether there was one."""
    import tensorflow as tf

    found = _file_caches(graph)
    for i, (nodes, cache, suffix) in enumerate(found):
        name, memory = f"own_cache_name_{i}", f"own_memory_cache_{i}"
        node = nodes.add(name=name, op="Const")
        node.attr["dtype"].type = tf.string.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto("", tf.string))
        cache.input[1] = f"{name}{suffix}"
        if cache.op == "CacheDatasetV2":
            nodes.add(name=memory, op="DummyMemoryCache")
            cache.input[2] = f"{memory}:handle:0" if suffix else memory
    return bool(found)


def _refuse_large(n_bytes: int) -> None:
    if n_bytes > MOST_TENSOR_BYTES:
        raise TooLargeError(
            f"this tf.data.Dataset has {n_bytes / 1e6:.0f} MB of tensors in memory, more than the "
            f"{MOST_TENSOR_BYTES / 1e6:.0f} MB that can be copied for a trial."
        )


def _tensor_bytes(data: Any) -> int:
    """Bytes of the tensors that a tf.data.Dataset was made of, where TensorFlow lets them be seen."""
    found = 0
    for each in _chain(data):
        for tensor in getattr(each, "_tensors", None) or ():
            size = getattr(getattr(tensor, "dtype", None), "size", 0) or 0
            found += size * math.prod(getattr(tensor, "shape", ()) or (0,))
    return found


def _chain(data: Any) -> Iterable[Any]:
    """The data set and all that it was made of."""
    found, waiting = [], [data]
    while waiting:
        each = waiting.pop()
        found.append(each)
        with contextlib.suppress(Exception):  # of a data set of another kind
            waiting += each._inputs()
    return found
