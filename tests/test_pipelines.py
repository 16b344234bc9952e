"""What each pipeline feeds to `fit`: which images, how many, in which order. JAX's side is in test_cnn.py."""

from __future__ import annotations

import numpy as np
import pytest

from epochcast.schema import SPEC_CHOICES
from workload.pipelines import PIPELINES, as_float, prepare, resolve_pipeline

N = 20  # image i is filled with i and labelled i, so a label tells which image was seen
NAMES = sorted(PIPELINES)


@pytest.fixture
def images():
    labels = np.arange(N, dtype=np.uint8)
    return np.broadcast_to(labels[:, None, None, None], (N, 32, 32, 3)).copy(), labels


def seen_by_fit(fit_input):
    """What `fit` sees: per entry the labels of each batch; every batch's pixels are checked against its labels."""
    import keras

    entries = []

    class Probe(keras.Model):
        def train_step(self, data):
            pixels, labels = (np.asarray(part) for part in data)
            assert pixels.dtype == np.float32
            assert pixels.shape == (len(labels), 32, 32, 3)
            np.testing.assert_array_equal(pixels.min((1, 2, 3)), as_float(labels.astype(np.uint8)))
            np.testing.assert_array_equal(pixels.max((1, 2, 3)), as_float(labels.astype(np.uint8)))
            entries[-1].append(labels.tolist())
            return {"loss": keras.ops.zeros(())}

    probe = Probe()
    probe.built = True
    probe.compile(optimizer="sgd", run_eagerly=True)
    start = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: entries.append([]))
    probe.fit(**fit_input.fit_kwargs, callbacks=[start], verbose=0)
    return entries


def fit_input(name, images, *, batch_size=8, window_steps=None, epochs=3, seed=7):
    return prepare(name, *images, batch_size=batch_size, window_steps=window_steps, epochs=epochs, seed=seed)


def test_pipelines_are_those_that_a_run_may_ask_for():
    assert ("auto", *PIPELINES) == SPEC_CHOICES["pipeline"]


@pytest.mark.parametrize(("backend", "expected"), [("tensorflow", "tfdata"), ("jax", "arrays"), ("torch", "arrays")])
def test_auto_is_tfdata_only_where_tensorflow_is_the_backend(backend, expected):
    assert resolve_pipeline("auto", backend) == expected
    assert resolve_pipeline("arrays", backend) == "arrays"


def test_tfdata_under_another_backend_is_refused_and_names_arrays():
    assert resolve_pipeline("tfdata", "tensorflow") == "tfdata"
    with pytest.raises(ValueError, match=r"tensorflow backend, found jax: use --pipeline arrays"):
        resolve_pipeline("tfdata", "jax")


def test_an_unknown_pipeline_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="one of auto, tfdata, arrays, got 'numpy'"):
        resolve_pipeline("numpy", "tensorflow")


def test_images_become_floats_between_0_and_1():
    floats = as_float(np.array([0, 51, 255], np.uint8))
    assert floats.dtype == np.float32
    np.testing.assert_array_equal(floats, np.array([0, 51, 255], np.float32) / np.float32(255))


@pytest.mark.parametrize("name", NAMES)
def test_a_full_epoch_sees_every_image_once_with_a_partial_last_batch(name, images):
    given = fit_input(name, images)
    entries = seen_by_fit(given)
    assert given.steps_per_entry == 3
    assert [[len(batch) for batch in entry] for entry in entries] == [[8, 8, 4]] * 3
    for entry in entries:
        assert sorted(label for batch in entry for label in batch) == list(range(N))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("window_steps", [1, 2, 5])  # less than the set, and twice it
def test_a_window_is_exactly_its_steps_of_full_batches(name, images, window_steps):
    given = fit_input(name, images, window_steps=window_steps, epochs=4)
    entries = seen_by_fit(given)
    assert given.steps_per_entry == window_steps
    assert [[len(batch) for batch in entry] for entry in entries] == [[8] * window_steps] * 4


@pytest.mark.parametrize(("window_steps", "epochs", "n"), [(1, 1, 8), (1, 2, 16), (2, 1, 16), (1, 3, N), (5, 2, N)])
def test_the_windows_of_tfdata_draw_from_as_many_first_images_as_they_hold(images, window_steps, epochs, n):
    entries = seen_by_fit(fit_input("tfdata", images, window_steps=window_steps, epochs=epochs))
    last = max(label for entry in entries for batch in entry for label in batch)
    assert n // 2 <= last < n


@pytest.mark.parametrize(("window_steps", "epochs"), [(1, 3), (2, 2), (5, 2)])
def test_each_window_of_arrays_holds_the_same_first_images(images, window_steps, epochs):
    entries = seen_by_fit(fit_input("arrays", images, window_steps=window_steps, epochs=epochs))
    wanted = sorted(i % N for i in range(8 * window_steps))  # starting over where the set is smaller
    assert [sorted(label for batch in entry for label in batch) for entry in entries] == [wanted] * epochs


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_larger_than_the_set_still_makes_a_full_window(name, images):
    entries = seen_by_fit(fit_input(name, images, batch_size=64, window_steps=2, epochs=2))
    assert [[len(batch) for batch in entry] for entry in entries] == [[64, 64]] * 2


@pytest.mark.parametrize("window_steps", [None, 2])
@pytest.mark.parametrize("name", NAMES)
def test_every_epoch_has_an_order_of_its_own(name, images, window_steps):
    from workload.cnn import seed_everything

    seed_everything(123)
    entries = seen_by_fit(fit_input(name, images, window_steps=window_steps))
    assert len({str(entry) for entry in entries}) == 3


@pytest.mark.parametrize("window_steps", [None, 2])
def test_the_same_seed_gives_tfdata_the_same_orders(images, window_steps):
    first, again, other = (
        seen_by_fit(fit_input("tfdata", images, window_steps=window_steps, seed=s)) for s in (1, 1, 2)
    )
    assert first == again != other
