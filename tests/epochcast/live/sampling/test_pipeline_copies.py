"""Copies of a tf.data.Dataset write no cache file, and say that the original would."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # TensorFlow starts

N, BATCH = 20, 4


@pytest.fixture(scope="module")
def copies():
    from epochcast.machine.framework import keras_on_cpu

    keras_on_cpu()
    from epochcast.live.sampling import pipeline_copies

    return pipeline_copies


def cached(name, n=N):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(np.arange(n))
    return (data if name is None else data.cache(name)).batch(BATCH)


def nested(name):
    import tensorflow as tf

    return tf.data.Dataset.range(2).flat_map(lambda i: tf.data.Dataset.range(N).cache(name)).batch(BATCH)


def values(data):
    return [batch.numpy().tolist() for batch in data]


@pytest.mark.parametrize("made", [cached, nested])
def test_a_pass_over_a_copy_that_is_cut_leaves_no_file_and_the_original_works(copies, tmp_path, made):
    data = made(str(tmp_path / "images"))
    found, notes = copies.without_cache_file(data)
    assert notes == [copies.CACHE_NOTE]
    next(iter(found))
    assert list(tmp_path.iterdir()) == []
    expected = values(made(""))
    assert values(found) == values(found) == expected
    assert values(data) == expected
    assert list(tmp_path.iterdir()) != []


def test_a_copy_knows_the_batch_size_that_its_graph_does_not_say(copies, tmp_path):
    from epochcast.live.sampling.data_kinds import pipeline_batch_size

    found, _ = copies.pipeline_copy(cached(str(tmp_path / "images")))
    assert pipeline_batch_size(found) == BATCH


@pytest.mark.parametrize("name", [None, ""])
def test_data_without_a_cache_file_are_left_alone(copies, name):
    data = cached(name)
    assert copies.without_cache_file(data) == (data, [])
    assert copies.without_cache_file((data, data)) == ((data, data), [])


def test_large_data_are_left_alone_unless_they_have_a_cache_file(copies, tmp_path, monkeypatch):
    monkeypatch.setattr(copies, "MOST_TENSOR_BYTES", 100)
    large = cached(None)
    assert copies.without_cache_file(large) == (large, [])
    with pytest.raises(ValueError, match="can be copied for a trial") as error:
        copies.without_cache_file(cached(str(tmp_path / "images")))
    assert copies.WITHOUT_FILE in str(error.value)
