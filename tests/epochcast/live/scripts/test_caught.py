"""What a caught fit trains, in words and numbers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from epochcast.live.scripts.caught import batch_size_of, data_text, description, sample_shape_of

IMAGES = np.zeros((600, 16, 16, 3), np.float32)


def spec(*shape, dtype="float32"):
    return SimpleNamespace(shape=shape, dtype=SimpleNamespace(name=dtype))


class Dataset:
    """What a tf.data.Dataset tells of itself."""

    def __init__(self, element_spec, before=None, batch_size=None):
        self.element_spec = element_spec
        if before is not None:
            self._input_dataset = before
        if batch_size is not None:
            self._batch_size = batch_size


PAIR = (spec(None, 16, 16, 3), spec(None, dtype="int64"))
BATCHED = Dataset(PAIR, before=Dataset((spec(16, 16, 3), spec())), batch_size=8)


class Sequence:
    def __init__(self, **given):
        self.__dict__.update(given)

    def __len__(self):
        return 1200


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (IMAGES, "ndarray (600, 16, 16, 3) float32"),
        (np.zeros(5, np.int64), "ndarray (5) int64"),
        ([IMAGES, IMAGES], "(ndarray (600, 16, 16, 3) float32, ndarray (600, 16, 16, 3) float32)"),
        ({"image": IMAGES}, "{image: ndarray (600, 16, 16, 3) float32}"),
        (BATCHED, "tf.data Dataset of ((?, 16, 16, 3) float32, (?) int64)"),
        (Dataset({"image": spec(4)}), "tf.data Dataset of {image: (4) float32}"),
        (Sequence(), "Sequence of 1,200 batches"),
        ((i for i in range(3)), "generator"),
        ([1, 2], "list of 2 items"),
        (object(), "object"),
    ],
)
def test_data_are_named_by_kind_shape_and_type(value, text):
    assert data_text(value) == text


@pytest.mark.parametrize(
    ("x", "options", "size"),
    [
        (IMAGES, {}, 32),
        (IMAGES, {"batch_size": None}, 32),
        (IMAGES, {"batch_size": 64}, 64),
        ([IMAGES], {}, 32),
        ({"a": IMAGES}, {}, 32),
        (BATCHED, {}, 8),
        (Dataset(PAIR, before=Dataset(PAIR, before=BATCHED)), {}, 8),
        (Dataset((spec(16, 4),)), {}, 16),
        (Dataset((spec(None, 4),)), {}, None),
        (Sequence(batch_size=20), {}, 20),
        (Sequence(), {}, None),
        ((i for i in range(3)), {}, None),
    ],
)
def test_the_batch_size_is_known_without_a_batch_or_not_at_all(x, options, size):
    assert batch_size_of(x, options) == size


def test_the_shape_of_a_sample_is_that_of_the_data():
    assert sample_shape_of(IMAGES) == sample_shape_of(BATCHED) == (16, 16, 3)
    assert sample_shape_of(Sequence()) is None


def test_nothing_is_taken_from_a_generator():
    batches = iter([1, 2, 3])
    description(SimpleNamespace(built=False), batches, None, {})
    assert list(batches) == [1, 2, 3]


def test_a_description_is_json_and_names_every_option():
    import json

    options = {
        "epochs": 5,
        "batch_size": 64,
        "callbacks": [SimpleNamespace()],
        "class_weight": {0: 1.0, 1: 2.0},
        "validation_data": (IMAGES, IMAGES),
        "validation_split": 0.25,
        "sample_weight": np.ones(600),
    }
    model = SimpleNamespace(built=True, count_params=lambda: np.int64(7), dtype_policy=SimpleNamespace(name="float32"))
    found = json.loads(json.dumps(description(model, IMAGES, np.zeros(600), options)))
    assert (found["params"], found["precision"], found["epochs"], found["batch_size"]) == (7, "float32", 5, 64)
    assert found["options"] == sorted(options)
    values = found["option_values"]
    assert values["callbacks"] == "SimpleNamespace"
    assert values["class_weight"] == "of 2"
    assert values["sample_weight"] == "ndarray (600) float64"
    assert values["validation_data"].startswith("(ndarray (600, 16, 16, 3) float32")
    assert values["validation_split"] == "0.25"
    assert description(SimpleNamespace(built=False), IMAGES, None, {})["params"] is None
