"""The forms of a fit's data, and the lines that make them."""

from __future__ import annotations

import numpy as np
import pytest

from epochcast.machine.framework import keras_on_cpu

keras = keras_on_cpu()
tf = pytest.importorskip("tensorflow")

from epochcast.live.tuning import inputs  # noqa: E402  # Keras starts on the processor
from epochcast.live.tuning.inputs import Inputs, NotPossibleError  # noqa: E402  # as above

N = 70
X, Y = np.arange(N * 4, dtype="float32").reshape(N, 4), np.arange(N)
WEIGHTS = np.linspace(0, 1, N, dtype="float32")


def slices(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays)


def reasons(x, y=None, batches=9, epochs=3, **options):
    return Inputs(x, y, options).forms(batches, epochs)


def generated():
    yield X


class Own(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, at):
        return X, Y


NO_REASON = {"tfdata": None, "cached": None}


@pytest.mark.parametrize(
    ("x", "kind", "forms"),
    [
        (X, "arrays", ["tfdata", "cached"]),
        ({"a": X, "b": X}, "arrays", ["tfdata", "cached"]),
        ([X, X], "arrays", ["tfdata", "cached"]),
        (slices(X, Y).batch(8), "tfdata", ["prefetched", "cached"]),
        (slices(X, Y).batch(8).prefetch(1), "tfdata", ["cached"]),
        (slices(X, Y).batch(8).cache(), "tfdata", ["prefetched"]),
        (slices(X, Y).batch(8).repeat(), "tfdata", ["prefetched"]),
        (slices(X, np.array(["a"] * N)).batch(8), "tfdata", ["prefetched"]),
        (Own(), "pydataset", []),
        (generated(), "generator", []),
    ],
)
def test_each_kind_of_data_has_its_forms(x, kind, forms):
    made = Inputs(x, None, {})
    assert made.kind == kind
    assert [form for form, reason in made.forms(9, 3).items() if reason is None] == forms


@pytest.mark.parametrize(
    ("given", "form", "reason"),
    [
        ({"x": X, "epochs": 1}, "cached", "the fit trains one epoch, which reads everything for the first time"),
        ({"x": X, "steps_per_epoch": 5}, "tfdata", "this fit has steps_per_epoch"),
        ({"x": X, "shuffle": "batch"}, "tfdata", "this fit has shuffle='batch'"),
        ({"x": tf.constant(X)}, "tfdata", "a tf.data.Dataset is made of NumPy arrays only, not of EagerTensor"),
        ({"x": [X, X], "validation_split": 0.1}, "cached", "this fit has several inputs or targets, and"),
        ({"x": [X.astype("float64"), X]}, "cached", "this fit has several inputs or targets, and"),
        ({"x": slices(X).batch(8).repeat()}, "cached", "these data do not end with an epoch"),
        ({"x": slices(X).batch(8), "steps_per_epoch": 4}, "cached", "these data do not end with an epoch"),
        ({"x": slices(np.array(["a"] * N)).batch(8)}, "cached", "the size of these data is unknown"),
        ({"x": slices(X).batch(8).cache()}, "cached", "these data end with cache"),
        ({"x": slices(X).batch(8).prefetch(2)}, "prefetched", "these data end with prefetch"),
    ],
)
def test_what_can_not_be_made_has_a_reason(given, form, reason):
    assert reasons(**given)[form].startswith(reason)


@pytest.mark.parametrize("x", [X, slices(X).batch(8)])
@pytest.mark.parametrize(("free", "words"), [(None, "how much memory is free is unknown"), (100, "at most a quarter")])
def test_a_cache_is_kept_within_a_quarter_of_the_free_memory(monkeypatch, x, free, words):
    monkeypatch.setattr(inputs, "memory_bytes", lambda: (None, free))
    assert words in reasons(x)["cached"]
    monkeypatch.setattr(inputs, "memory_bytes", lambda: (None, 4 * 2 * X.nbytes + 8000))
    assert reasons(x)["cached"] is None


def test_copies_and_caches_count_together(monkeypatch):
    monkeypatch.setattr(inputs, "memory_bytes", lambda: (None, 4 * int(3.5 * X.nbytes)))
    made = Inputs(X, None, {"batch_size": 8})
    made.given("cached", 8)
    with pytest.raises(NotPossibleError, match="at most a quarter"):
        made.given("cached", 16)
    made.given("tfdata", 8)


def test_tensorflow_that_is_not_installed_is_said(monkeypatch):
    def missing():
        raise ImportError

    monkeypatch.setattr(inputs, "_tensorflow", missing)
    assert reasons(X) == dict.fromkeys(NO_REASON, "tf.data needs TensorFlow, which is not installed")


def executed(lines, **names):
    """Return the data that printed lines make."""
    scope = {"tf": tf, **names}
    (made,) = [line for line in lines if line.startswith("data = ")]
    exec(made, scope)
    return scope["data"]


def sorted_rows(data):
    """All samples of an epoch in an order of their own."""
    batches = [keras.tree.flatten(batch) for batch in data.as_numpy_iterator()]
    columns = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    order = np.argsort(columns[0].reshape(len(columns[0]), -1)[:, 0])
    return [column[order].tolist() for column in columns]


@pytest.mark.parametrize("form", ["tfdata", "cached"])
@pytest.mark.parametrize(
    ("x", "y", "options", "n_train"),
    [
        (X, Y, {}, 70),
        (X, None, {"batch_size": 10}, 70),
        (X, Y, {"sample_weight": WEIGHTS, "batch_size": 7}, 70),
        (X.astype("float64"), Y, {"validation_split": 0.2, "batch_size": 8}, 56),
        ({"a": X, "b": X}, Y, {"batch_size": 8}, 70),
        ([X, X], Y, {"shuffle": False, "batch_size": 8}, 70),
    ],
)
def test_the_printed_lines_make_the_data_that_are_timed(form, x, y, options, n_train):
    made = Inputs(x, y, options)
    batch_size = options.get("batch_size", 32)
    data, no_y, left = made.given(form, batch_size)
    lines = made.lines(form, batch_size)
    printed = executed(lines, x=x, y=y, sample_weight=options.get("sample_weight"))
    assert printed.element_spec == data.element_spec
    assert sorted_rows(printed) == sorted_rows(data)
    assert len(sorted_rows(data)[0]) == n_train
    assert int(data.cardinality()) == made.batches(batch_size) == -(-n_train // batch_size)
    assert (no_y, left) == (None, {"shuffle": False})
    assert lines[1].startswith("model.fit(data, ")
    assert ("validation_data=(x[56:], y[56:])" in lines[1]) == ("validation_split" in options)
    assert ("shuffle" in lines[0]) == options.get("shuffle", True)


def test_the_printed_lines_are_short():
    made = Inputs(X, Y, {"batch_size": 10})
    assert made.lines("arrays", 10) == []
    assert made.lines("arrays", 20) == ["model.fit(x, y, batch_size=20, ...)"]
    assert made.lines("cached", 10)[0] == (
        "data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(70).batch(10, drop_remainder=True).cache()"
        ".shuffle(7).prefetch(tf.data.AUTOTUNE)"
    )
    own = Inputs(slices(X, Y).batch(8), None, {})
    assert own.lines("tfdata", own.batch_size) == []
    assert own.lines("cached", own.batch_size) == [
        "model.fit(data.cache().prefetch(tf.data.AUTOTUNE), ...)  # data: what it is given now"
    ]


def test_the_options_of_other_data_are_left_as_they_are():
    data = slices(X, Y).batch(8)
    made = Inputs(data, None, {"class_weight": {0: 2.0}, "epochs": 3})
    assert made.given("tfdata", made.batch_size) == (data, None, {"class_weight": {0: 2.0}, "epochs": 3})
    assert made.given("prefetched", made.batch_size)[1:] == (None, {"class_weight": {0: 2.0}, "epochs": 3})


def test_a_cache_is_filled_by_a_whole_pass():
    read = []

    def noted(x):
        read.append(1)
        return x

    data = slices(X).map(lambda x: tf.numpy_function(noted, [x], tf.float32)).batch(8)
    made = Inputs(data, None, {})
    assert made.fill_cache(data, 9, 60.0) and read == []  # there is none
    cached, _, _ = made.given("cached", made.batch_size)
    assert made.fill_cache(cached, 9, 60.0)
    assert len(read) == N
    assert len(list(cached)) == 9 and len(read) == N
    assert made.given("cached", made.batch_size)[0] is cached  # the very one, with what it keeps


def test_a_cache_that_takes_too_long_is_given_up():
    cached = slices(X).batch(8).cache()
    assert Inputs(cached, None, {}).fill_cache(cached, 9, -1.0) is False


def test_only_shuffled_batches_have_a_smaller_one_anywhere():
    made = Inputs(X, Y, {"batch_size": 32})
    assert made.rest("tfdata", 32) is None and made.rest("cached", 35) is None
    (rest,) = made.rest("cached", 32)
    assert [len(each) for each in rest] == [6, 6]
