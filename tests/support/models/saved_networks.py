"""Networks that tests save with Keras, of classes that nothing has imported, and how they are read again."""

from __future__ import annotations

import json
import sys
import warnings
import zipfile

import pytest

from epochcast.keras_files.author_code import author_code
from epochcast.keras_files.flags import shape_flag
from epochcast.keras_files.inputs import shape_asked
from epochcast.keras_files.read_file import read_network
from epochcast.machine.framework import keras_on_cpu

LONGEST = 200  # characters of a message, without the file's path
AUTHOR = """
import keras

@keras.saving.register_keras_serializable(package="mine")
class Registered(keras.layers.Layer):
    def __init__(self, units=4, **settings):
        super().__init__(**settings)
        self.inner = keras.layers.Dense(units)
        self.units = units
    def build(self, shape):
        self.inner.build(shape)
    def call(self, x):
        return self.inner(x)
    def compute_output_shape(self, shape):
        return (*shape[:-1], self.units)
    def get_config(self):
        return {**super().get_config(), "units": self.units}

class Plain(Registered):
    pass

class WithoutConfig(Registered):
    get_config = keras.layers.Layer.get_config  # Keras's own, of the settings that it saw

class Product(keras.layers.Layer):  # a weight of its own
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]))
    def call(self, x):
        return keras.ops.matmul(x, self.kernel)

class Net(keras.Model):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.first, self.second = keras.layers.Dense(8), keras.layers.Dense(3)
    def call(self, x):
        return self.second(self.first(x))

class Stubborn(Net):
    def __init__(self, width):
        super().__init__()
    def get_config(self):
        return {"name": self.name}

class TwoInputs(keras.Model):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.first, self.second = keras.layers.Dense(4), keras.layers.Dense(4)
    def call(self, left, right):
        return self.first(left) + self.second(right)

class OwnStep(keras.Model):  # made of Keras's layers, trained otherwise
    def train_step(self, data):
        return super().train_step(data)

class Momentum(keras.optimizers.SGD):
    pass

class Slope(keras.regularizers.Regularizer):
    def __call__(self, x):
        return keras.ops.sum(x)
    def get_config(self):
        return {}

class Small(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return keras.ops.zeros(shape, dtype)

def double(x):
    return 2 * x

def own_loss(y, x):
    return keras.ops.mean(keras.ops.square(y - x))
"""


def chain(keras, *layers, shape=(16, 8)):
    """A Functional model of layers one after another, as most networks are saved."""
    inputs = outputs = keras.Input(shape, name="x")
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def compiled(model, optimizer, loss="mse"):
    model.compile(optimizer, loss)
    return model


def called(model, *shapes):
    keras = keras_on_cpu()
    model(*[keras.ops.ones((2, *shape)) for shape in shapes])
    return model


def two(keras, *shapes, as_dict=False):
    inputs = [keras.Input(shape, name=name) for name, shape in zip(("left", "right"), shapes, strict=True)]
    last = [keras.layers.GRU(4)(x) if len(x.shape) == 3 else x for x in inputs]
    outputs = keras.layers.Dense(4)(keras.layers.Concatenate()(last))
    return keras.Model({x.name: x for x in inputs} if as_dict else inputs, outputs)


def outputs_of_two(keras):
    x = keras.Input((8,))
    return keras.Model(x, {"a": keras.layers.Dense(4)(x), "b": keras.layers.Dense(3)(x)})


def fixed(keras, *layers):
    x = y = keras.Input(batch_shape=(32, 8, 8, 3))
    for layer in layers:
        y = layer(y)
    return keras.Model(x, y)


def fixed_and_open(keras):
    x, y = keras.Input(batch_shape=(32, 8)), keras.Input((4,))
    return keras.Model([x, y], keras.layers.Dense(2)(keras.layers.Concatenate()([x, y])))


def own_step(keras, own):
    x = keras.Input((8,))
    return own["OwnStep"](x, keras.layers.Dense(4)(x))


def own_sum(keras, layer):
    x, y = keras.Input((8,)), keras.Input((8,))
    return keras.Model([x, y], keras.layers.Add()([layer(x), layer(y)]))


def unbuilt(keras, *layers):
    return keras.Sequential(list(layers))


# name: how it is made of Keras `k` and of the author's classes `own`; multiply-adds of a sample; what is to be given
MADE = {
    "own loss, SGD with momentum": (
        lambda k, own: compiled(chain(k, k.layers.Dense(4)), k.optimizers.SGD(momentum=0.9), own["own_loss"]),
        512,
    ),
    "lambda loss": (
        lambda k, own: compiled(chain(k, k.layers.Dense(4)), k.optimizers.SGD(momentum=0.9), lambda y, x: y - x),
        512,
    ),
    "own optimizer": (lambda k, own: compiled(chain(k, k.layers.Dense(4)), own["Momentum"](momentum=0.9)), 512),
    "two layers": (lambda k, own: chain(k, k.layers.Dense(8), k.layers.Dense(4)), 1536),
    "own initializer": (lambda k, own: chain(k, k.layers.Dense(4, kernel_initializer=own["Small"]())), 512),
    "own regularizer": (lambda k, own: chain(k, k.layers.Dense(4, kernel_regularizer=own["Slope"]())), 512),
    "registered layer": (lambda k, own: chain(k, k.layers.Dense(8), own["Registered"](6), k.layers.Dense(4)), 2176),
    "plain layer": (lambda k, own: chain(k, k.layers.Dense(8), own["Plain"](6), k.layers.Dense(4)), 2176),
    "layer of the defaults": (lambda k, own: chain(k, own["WithoutConfig"](4), k.layers.Dense(4)), 768),
    "own layer alone": (lambda k, own: chain(k, own["Plain"](4)), 512),
    "own layer last in a network inside": (
        lambda k, own: chain(k, chain(k, k.layers.Dense(8), own["Plain"](6)), k.layers.Dense(4)),
        2176,
    ),
    "own layer in a Sequential": (
        lambda k, own: k.Sequential([k.Input((8,)), own["Plain"](6), k.layers.Dense(4)]),
        72,
    ),
    "own layer in a wrapper": (
        lambda k, own: chain(k, k.layers.TimeDistributed(own["Plain"](6)), k.layers.Dense(4)),
        None,
    ),
    "layer with a weight": (lambda k, own: chain(k, own["Product"](), k.layers.Dense(4)), 512),
    "lambda layer": (lambda k, own: chain(k, k.layers.Lambda(lambda x: 2 * x), k.layers.Dense(4)), 512),
    "lambda layer of a function": (lambda k, own: chain(k, k.layers.Lambda(own["double"]), k.layers.Dense(4)), 512),
    "lambda activation": (
        lambda k, own: chain(k, k.layers.Dense(8, activation=lambda x: 2 * x), k.layers.Dense(4)),
        1536,
    ),
    "own activation": (lambda k, own: chain(k, k.layers.Dense(8, activation=own["double"])), 1024),
    "subclassed": (lambda k, own: called(own["Net"](), (5,)), 64),
    "subclassed, unbuilt": (lambda k, own: own["Net"](), 64),
    "subclassed, of two inputs": (lambda k, own: called(own["TwoInputs"](), (5,), (6,)), 44),
    "subclassed, what it saves is not enough": (lambda k, own: called(own["Stubborn"](7), (5,)), None),
    "own training step": (lambda k, own: own_step(k, own), 32),
    "Sequential, unbuilt": (lambda k, own: unbuilt(k, k.layers.Dense(4), k.layers.Dense(2)), 28),
    "Sequential in a Sequential, unbuilt": (
        lambda k, own: unbuilt(k, unbuilt(k, k.layers.Dense(4)), k.layers.Dense(2)),
        28,
    ),
    "Sequential, empty": (lambda k, own: unbuilt(k), None),
    "two inputs": (lambda k, own: two(k, (8,), (6,)), 56),
    "dictionary of inputs": (lambda k, own: two(k, (8,), (6,), as_dict=True), 56),
    "two open inputs": (lambda k, own: two(k, (None, 8), (None, 8)), 4640),
    "dictionary of open inputs": (lambda k, own: two(k, (None, 8), (None, 8), as_dict=True), 4640),
    "one open input of two": (lambda k, own: two(k, (None, 8), (6,)), 2344),
    "two outputs": (lambda k, own: outputs_of_two(k), 56),
    "open image": (
        lambda k, own: chain(k, k.layers.Conv2D(4, 3), k.layers.GlobalAveragePooling2D(), shape=(None, None, 3)),
        21168,
    ),
    "fixed batch": (lambda k, own: fixed(k, k.layers.Conv2D(4, 3), k.layers.Flatten(), k.layers.Dense(4)), 4464),
    "fixed batch, reshaped": (
        lambda k, own: fixed(k, k.layers.Conv2D(4, 3), lambda x: k.ops.reshape(x, (32, -1)), k.layers.Dense(4)),
        4464,
    ),
    "one fixed batch of two inputs": (lambda k, own: fixed_and_open(k), 24),
    "own layer in a Sequential in a Sequential": (
        lambda k, own: k.Sequential([k.Input((8,)), k.Sequential([k.Input((8,)), own["Plain"](6)]), k.layers.Dense(4)]),
        72,
    ),
    "own layer that computes alone": (lambda k, own: chain(k, own["Product"]()), None),
    "own layer that computes, and a sum": (lambda k, own: own_sum(k, own["Product"]()), None),
    "own layer in a wrapper, unbuilt behind it": (
        lambda k, own: k.Sequential([k.Input((5, 8)), k.layers.TimeDistributed(own["Product"]()), k.layers.Dense(2)]),
        None,
    ),
    "quantized": (lambda k, own: quantized(k), None),
}


def quantized(keras):
    model = chain(keras, keras.layers.Dense(4), shape=(8,))
    model.quantize("int8")
    return model


SHAPES = {  # that the inputs take which a message names without a size
    "subclassed, unbuilt": "5",
    "subclassed, of two inputs": "left=5,right=6",
    "Sequential, unbuilt": "5",
    "Sequential in a Sequential, unbuilt": "5",
    "open image": "16,16,3",
}


@pytest.fixture(scope="session")
def author(tmp_path_factory):
    """A file with the classes of a network's author, which nothing has imported or registered."""
    path = tmp_path_factory.mktemp("author") / "authors_layers.py"
    path.write_text(AUTHOR)
    return path


@pytest.fixture
def unregistered():
    """What a file of the author's registers is forgotten, as in a new process."""
    known = keras_on_cpu().saving.get_custom_objects()
    before = dict(known)
    yield
    known.clear()
    known.update(before)
    sys.modules.pop("authors_layers", None)


@pytest.fixture(scope="session")
def folder(author, tmp_path_factory):
    """All of MADE as Keras saves them."""
    keras = keras_on_cpu()
    folder = tmp_path_factory.mktemp("networks")
    known = keras.saving.get_custom_objects()
    before = dict(known)
    with author_code([author]) as own, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that Keras can't save whole, which are meant
        for name, (make, _) in MADE.items():
            make(keras, own).save(folder / f"{name}.keras")
    known.clear()
    known.update(before)
    sys.modules.pop("authors_layers", None)
    return folder


def read(path, shape=(), allow_unknown=False, code=()):
    """What is read of a file, or the line that it is refused with; no other outcome."""
    try:
        return read_network(path, 64, 1000, "float32", shape_asked(shape), allow_unknown, code)
    except (ValueError, OSError) as error:
        text = str(error)
        assert str(path) in text or "authors_layers" in text, text
        line = text.replace(f"{path}: ", "")
        assert len(line) <= LONGEST, line
        assert line.isprintable()
        return line


def shapes_of(flags):
    """The shapes that `--sample_shape` flags give, with 16 for a size N."""
    return [shape_flag(flag.replace("N", "16")) for flag in flags]


def edited(path, to, *, version=None, **values):
    """A copy of a network with other values for the layer before the last, or saved by another Keras."""
    with zipfile.ZipFile(path) as old:
        config, metadata = json.loads(old.read("config.json")), json.loads(old.read("metadata.json"))
    config["config"]["layers"][-2].update(values)
    if version is not None:
        metadata["keras_version"] = version
    with zipfile.ZipFile(to, "w") as new:
        new.writestr("config.json", json.dumps(config))
        new.writestr("metadata.json", json.dumps(metadata))
    return to
