"""What each pipeline feeds to `fit`: which images, how many, in which order. JAX's side is in test_on_jax.py."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from epochcast.schema import SPEC_CHOICES
from epochcast.workload.pipelines import (
    AUTO_STEPS_PER_EXECUTION,
    PIPELINES,
    as_float,
    model_for,
    prepare,
    resolve_pipeline,
    resolve_steps_per_execution,
)

N = 20  # image i is filled with i and labelled i, so a label tells which image was seen
NAMES = sorted(PIPELINES)


def made_images():
    labels = np.arange(N, dtype=np.uint8)
    return np.broadcast_to(labels[:, None, None, None], (N, 32, 32, 3)).copy(), labels


@pytest.fixture
def images():
    return made_images()


def seen_by_fit(name, *, batch_size=8, window_steps=None, epochs=3, seed=7, steps_per_execution=1):
    """What the network sees: per entry the labels of each batch, whose pixels are checked against them."""
    import keras

    entries = []

    def spy(labels, outputs):
        labels, (low, high, _) = np.asarray(labels).ravel(), np.asarray(outputs).T
        expected = as_float(labels.astype(np.uint8))
        np.testing.assert_allclose(low, expected, rtol=0, atol=1e-6)  # the device may divide otherwise than NumPy
        np.testing.assert_allclose(high, expected, rtol=0, atol=1e-6)
        if entries:  # before the first entry, to learn the shapes
            entries[-1].append(labels.tolist())
        return keras.ops.mean(outputs)

    pixels = keras.Input((32, 32, 3))
    flat = keras.layers.Flatten()(pixels)
    low, high = keras.ops.min(flat, axis=1, keepdims=True), keras.ops.max(flat, axis=1, keepdims=True)
    probe = keras.Model(pixels, keras.ops.concatenate([low, high, keras.layers.Dense(1)(low)], axis=1))
    probe = model_for(name, probe)
    probe.compile(optimizer="sgd", loss=spy, run_eagerly=True, steps_per_execution=steps_per_execution)
    given = prepare(
        name, *made_images(), model=probe, batch_size=batch_size, window_steps=window_steps, epochs=epochs, seed=seed
    )
    start = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: entries.append([]))
    probe.fit(**given.fit_kwargs, callbacks=[start], verbose=0)
    steps = [len(entry) for entry in entries]
    assert steps == [given.steps_per_entry] * epochs
    return entries


seen = functools.cache(seen_by_fit)  # several tests ask for the same; nobody changes it


def test_pipelines_are_those_that_a_run_may_ask_for():
    assert ("auto", *PIPELINES) == SPEC_CHOICES["pipeline"]


@pytest.mark.parametrize(("backend", "expected"), [("tensorflow", "tfdata"), ("jax", "arrays"), ("torch", "arrays")])
def test_auto_is_tfdata_only_where_tensorflow_is_the_backend(backend, expected):
    assert resolve_pipeline("auto", backend) == expected
    assert resolve_pipeline("arrays", backend) == "arrays"


@pytest.mark.parametrize(
    ("name", "backend", "wanted"),
    [
        ("tfdata", "jax", "tensorflow"),
        ("indices", "jax", "tensorflow"),
        ("indices", "torch", "tensorflow"),
        ("device", "openvino", "tensorflow or jax or torch"),
    ],
)
def test_a_pipeline_under_a_backend_that_lacks_it_is_refused_and_names_arrays(name, backend, wanted):
    assert resolve_pipeline(name, "tensorflow") == name
    with pytest.raises(ValueError, match=f"{name} needs Keras's {wanted} backend, found {backend}: use .* arrays"):
        resolve_pipeline(name, backend)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_device_works_under_other_backends_too(backend):
    assert resolve_pipeline("device", backend) == "device"


@pytest.mark.parametrize(
    ("wanted", "backend", "pipeline", "expected"),
    [
        ("auto", "tensorflow", "tfdata", AUTO_STEPS_PER_EXECUTION),
        ("auto", "tensorflow", "indices", AUTO_STEPS_PER_EXECUTION),
        ("auto", "tensorflow", "device", 1),
        ("auto", "jax", "arrays", 1),  # Keras loops there in Python
        ("auto", "jax", "device", 1),
        ("auto", "torch", "arrays", 1),
        (1, "torch", "arrays", 1),
        (1, "tensorflow", "device", 1),
        (7, "tensorflow", "arrays", 7),
        (7, "jax", "arrays", 7),
    ],
)
def test_steps_per_execution_becomes_one_number(wanted, backend, pipeline, expected):
    assert resolve_steps_per_execution(wanted, backend, pipeline) == expected


@pytest.mark.parametrize(
    ("backend", "pipeline", "reason"),
    [("torch", "arrays", "torch backend"), ("tensorflow", "device", "whole epochs"), ("jax", "device", "whole epochs")],
)
def test_several_steps_per_execution_are_refused_where_they_are_impossible(backend, pipeline, reason):
    with pytest.raises(ValueError, match=f"must be 1 or auto, got 8: .*{reason}"):
        resolve_steps_per_execution(8, backend, pipeline)


@pytest.mark.parametrize("name", ["indices", "device"])
def test_a_model_without_the_train_step_of_its_pipeline_is_refused(name, images):
    import keras

    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile(loss="mse")
    with pytest.raises(ValueError, match=f"pipeline {name} cannot train a Sequential: make it with model_for"):
        prepare(name, *images, model=model, batch_size=8, window_steps=None, epochs=1, seed=1)


def test_an_unknown_pipeline_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="one of auto, tfdata, arrays, indices, device, got 'numpy'"):
        resolve_pipeline("numpy", "tensorflow")


def test_images_become_floats_between_0_and_1():
    floats = as_float(np.array([0, 51, 255], np.uint8))
    assert floats.dtype == np.float32
    np.testing.assert_array_equal(floats, np.array([0, 51, 255], np.float32) / np.float32(255))


@pytest.mark.parametrize("name", NAMES)
def test_a_full_epoch_sees_every_image_once_with_a_partial_last_batch(name):
    entries = seen(name)
    assert [[len(batch) for batch in entry] for entry in entries] == [[8, 8, 4]] * 3
    for entry in entries:
        assert sorted(label for batch in entry for label in batch) == list(range(N))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("window_steps", [2, 5])  # less than the set, and twice it
def test_a_window_is_exactly_its_steps_of_full_batches(name, window_steps):
    entries = seen(name, window_steps=window_steps)
    assert [[len(batch) for batch in entry] for entry in entries] == [[8] * window_steps] * 3


@pytest.mark.parametrize(("window_steps", "epochs", "n"), [(1, 1, 8), (1, 2, 16), (2, 1, 16), (1, 3, N), (5, 2, N)])
def test_the_windows_of_tfdata_draw_from_as_many_first_images_as_they_hold(window_steps, epochs, n):
    entries = seen("tfdata", window_steps=window_steps, epochs=epochs)
    last = max(label for entry in entries for batch in entry for label in batch)
    assert n // 2 <= last < n


@pytest.mark.parametrize("window_steps", [1, 2, 5])
def test_each_window_of_arrays_holds_the_same_first_images(window_steps):
    entries = seen("arrays", window_steps=window_steps)
    wanted = sorted(i % N for i in range(8 * window_steps))  # starting over where the set is smaller
    assert [sorted(label for batch in entry for label in batch) for entry in entries] == [wanted] * 3


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_larger_than_the_set_still_makes_a_full_window(name):
    entries = seen(name, batch_size=64, window_steps=2, epochs=2)
    assert [[len(batch) for batch in entry] for entry in entries] == [[64, 64]] * 2


@pytest.mark.parametrize("window_steps", [None, 2])
@pytest.mark.parametrize("name", NAMES)
def test_every_epoch_has_an_order_of_its_own(name, window_steps):
    entries = seen(name, window_steps=window_steps) if window_steps else seen(name)
    assert len({str(entry) for entry in entries}) == 3


@pytest.mark.parametrize("window_steps", [None, 2])
@pytest.mark.parametrize("name", ["tfdata", "indices", "device"])
def test_the_same_seed_gives_the_same_orders(name, window_steps):
    how = {"window_steps": window_steps} if window_steps else {}
    assert seen(name, **how) == seen_by_fit(name, **how) != seen_by_fit(name, seed=8, **how)


@pytest.mark.parametrize("window_steps", [None, 2])
def test_indices_and_device_draw_the_same_orders(window_steps):
    how = {"window_steps": window_steps} if window_steps else {}
    assert seen("indices", **how) == seen("device", **how)


@pytest.mark.parametrize(
    ("name", "window_steps", "steps_per_execution"),
    [
        ("tfdata", None, 2),  # an epoch of three steps
        ("tfdata", 2, 8),
        ("arrays", 5, 2),
        ("indices", None, 2),
        ("indices", 5, 2),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                *(("tfdata", 5, 2), ("tfdata", 4, 2), ("indices", 4, 2), ("indices", 2, 8)),
                *(("arrays", None, 2), ("arrays", 4, 2), ("arrays", 2, 8)),
            ]
        ),
    ],
)
def test_several_steps_per_execution_train_exactly_the_steps_of_every_entry(
    name, images, window_steps, steps_per_execution
):
    import keras

    from epochcast.workload.cnn import compile_model

    network = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(20, "softmax")])
    model = model_for(name, network)
    compile_model(model, steps_per_execution=steps_per_execution)
    given = prepare(name, *images, model=model, batch_size=8, window_steps=window_steps, epochs=4, seed=1)
    done = []
    after = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: done.append(int(model.optimizer.iterations))
    )
    model.fit(**given.fit_kwargs, callbacks=[after], verbose=0)
    steps = window_steps or 3
    assert given.steps_per_entry == steps
    assert done == [steps, 2 * steps, 3 * steps, 4 * steps]


@pytest.mark.parametrize("name", ["tfdata", "indices"])
def test_windows_that_end_within_an_execution_go_on_with_the_same_stream(name):
    assert seen(name, window_steps=5) == seen(name, window_steps=5, steps_per_execution=2)
