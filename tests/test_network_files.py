"""Networks in files that Keras, of this version or another, has saved: counted right, or refused with what helps."""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
import warnings
import zipfile

import pytest

from epochcast.author_code import author_code
from epochcast.keras_files import read_saved
from epochcast.keras_layers import read_layers
from model import explain as command
from model.explain_network import read_network
from model.network_inputs import shape_asked
from model.time_ann import keras_on_cpu
from tests.peaks import at_most
from tests.rows import assert_one_clear_error

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


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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
    return [command._shape(flag.replace("N", "16")) for flag in flags]


@pytest.mark.usefixtures("unregistered")
@pytest.mark.parametrize("name", MADE)
def test_a_network_is_counted_once_what_its_line_asks_for_is_given(folder, author, name):
    """Each remedy of each line is carried out until there is an answer, or the line says that there can be none."""
    macs, path, given = MADE[name][1], folder / f"{name}.keras", {}
    for _ in range(4):
        found = read(path, **given)
        if not isinstance(found, str):
            break
        before = dict(given)
        flags = re.findall(r"--sample_shape (\S+=[N\d,]+)", found)
        if "code" not in given and "--code FILE.py" in found:
            given["code"] = [author]
        elif flags and name not in SHAPES:
            given["shape"] = shapes_of(flags)
        elif "--sample_shape" in found:
            given["shape"] = [command._shape(part) for part in re.split(r",(?=\w+=)", SHAPES[name])]
        elif "--allow_unknown" in found:
            given["allow_unknown"] = True
        if given == before:
            break
    if macs is None:
        assert isinstance(found, str) or name == "own layer in a wrapper", found
        return
    assert not isinstance(found, str), found
    assert sum(record.macs for record in found.records) == macs
    assert bool(found.not_counted) == given.get("allow_unknown", False)


@pytest.mark.parametrize(
    ("name", "macs", "left_out"),
    [
        ("registered layer", 1408, "registered (Registered)"),
        ("plain layer", 1408, "plain (Plain)"),
        ("lambda layer", 512, "lambda (Lambda)"),
        ("lambda layer of a function", 512, "lambda"),
        ("own layer in a Sequential", 24, "plain"),
        ("own layer in a wrapper", 384, "time_distributed (TimeDistributed)"),
        ("lambda activation", 1536, "(activation author.lambda_function)"),
        ("own activation", 1024, "(activation author.double)"),
    ],
)
def test_what_is_missing_is_named_and_the_rest_is_counted(folder, name, macs, left_out):
    found = read(folder / f"{name}.keras", allow_unknown=True)
    assert sum(record.macs for record in found.records) == macs
    (only,) = found.not_counted
    assert left_out.partition(" ")[0].rstrip("(") in only
    assert left_out.rpartition(" ")[2] in only


def test_without_the_flag_no_code_of_an_author_s_runs(folder, tmp_path, monkeypatch):
    """Not where the file names a module that can be imported, nor a package that Keras would import."""
    for name in ("authors_layers.py", "keras_hub/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"raise SystemExit({name!r})")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("plain layer", "own activation", "own optimizer", "own regularizer", "subclassed", "lambda layer"):
        for allow_unknown in (False, True):
            read(folder / f"{name}.keras", allow_unknown=allow_unknown)
    path = edited(folder / "plain layer.keras", tmp_path / "x.keras", module="keras_hub.layers")
    assert "class Plain (keras_hub.layers), its author's code. Install keras_hub, and give a file" in read(path)
    assert read(path, allow_unknown=True).not_counted
    assert not {"authors_layers", "keras_hub"} & set(sys.modules)


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


@pytest.mark.parametrize(
    ("changes", "version", "found"),
    [
        ({"class_name": "DenseNext"}, "9.1.0", "keras.layers.DenseNext, which this Keras does not have. Keras 9.1.0"),
        ({"class_name": "DenseNext"}, "3.0.5", "Keras 3.0.5 saved it: make it by its own code with Keras"),
        ({"config": {"units": 4, "of_tomorrow": 1}}, "9.1.0", "pip install -U keras"),
        ({"config": {"units": 4, "of_tomorrow": 1}}, None, "Make it by its own code with Keras"),
    ],
)
def test_another_version_of_keras_is_named_and_no_author_is_blamed(folder, tmp_path, changes, version, found):
    path = edited(folder / "two layers.keras", tmp_path / "x.keras", version=version, **changes)
    line = read(path)
    assert found in line
    assert "author" not in line
    if "DenseNext" in line:
        assert "--allow_unknown leaves it out" in line
        assert read(path, allow_unknown=True).not_counted


def test_a_file_of_a_newer_keras_that_names_nothing_new_is_read(folder, tmp_path):
    assert read(edited(folder / "two layers.keras", tmp_path / "x.keras", version="9.1.0", config={"units": 8,
                "activation": "relu"})).records  # fmt: skip


# --- Keras 2 ----------------------------------------------------------------------------------------------------------


def of_keras_2(kind, **config):
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


def old_input(name, *shape):
    return of_keras_2("InputLayer", batch_input_shape=[None, *shape], dtype="float32", ragged=False, name=name)


def old_file(tmp_path, config, version="2.15.0"):
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        if version is not None:
            archive.writestr("metadata.json", json.dumps({"keras_version": version}))
    return path


CONV = {"filters": 4, "kernel_size": [3, 3], "groups": 1, "padding": "valid", "activation": "relu"}
OLD_SEQUENTIAL = {
    "module": "keras",
    "class_name": "Sequential",
    "config": {
        "name": "s",
        "layers": [
            old_input("i", 8, 8, 3),
            of_keras_2("Conv2D", name="c", batch_input_shape=[None, 8, 8, 3], **CONV),
            of_keras_2("BatchNormalization", name="b", axis=[3]),
            of_keras_2("Flatten", name="f"),
            of_keras_2("Dense", name="d", units=4),
        ],
    },
    "registered_name": None,
    "build_config": {"input_shape": [None, 8, 8, 3]},
    "compile_config": {
        "optimizer": {"module": "keras.optimizers.legacy", "class_name": "SGD", "config": {"momentum": 0.9}}
    },
}


def called_on(layer, name, *tensors):
    return {**layer, "name": name, "inbound_nodes": [[[*tensor, {}] for tensor in tensors]]}


INNER = {
    "module": "keras",
    "class_name": "Sequential",
    "config": {
        "name": "inner",
        "layers": [old_input("j", 10, 6), of_keras_2("LSTM", name="l", units=5, time_major=False)],
    },
    "registered_name": None,
}
OLD_FUNCTIONAL = {
    "module": "keras.src.engine.functional",
    "class_name": "Functional",
    "config": {
        "name": "m",
        "trainable": True,
        "layers": [
            {**old_input("i", 10, 6), "name": "i", "inbound_nodes": []},
            called_on(INNER, "inner", ["i", 0, 0]),
            called_on(of_keras_2("Dense", name="d", units=4), "d", ["inner", 1, 0]),
            called_on(of_keras_2("Dense", name="e", units=4), "e", ["inner", 1, 0]),
            called_on(of_keras_2("Add", name="a"), "a", ["d", 0, 0], ["e", 0, 0]),
        ],
        "input_layers": [["i", 0, 0]],
        "output_layers": [["a", 0, 0]],
    },
    "registered_name": "Functional",
}


def test_a_network_of_keras_2_is_counted_as_the_same_of_keras_3(tmp_path):
    keras = keras_on_cpu()
    layers = keras.layers
    new = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, activation="relu", name="c"),
            layers.BatchNormalization(name="b"),
            layers.Flatten(),
            layers.Dense(4, name="d"),
        ]
    )
    for version in ("2.15.0", None):
        found = read(old_file(tmp_path, OLD_SEQUENTIAL, version))
        assert found.records == read_layers(new).records
        assert (found.optimizer, found.optimizer_passes) == ("sgd", 5)
    x = keras.Input((10, 6))
    inner = keras.Sequential([keras.Input((10, 6)), layers.LSTM(5, name="l")], name="inner")
    y = inner(x)
    both = layers.Add(name="a")([layers.Dense(4, name="d")(y), layers.Dense(4, name="e")(y)])
    records = read_layers(keras.Model(x, both)).records
    for module in ("keras.src.engine.functional", "tf_keras.src.engine.functional", "keras.engine.functional"):
        assert read(old_file(tmp_path, {**OLD_FUNCTIONAL, "module": module})).records == records


def test_an_operation_of_keras_2_blames_its_version(tmp_path):
    config = json.loads(json.dumps(OLD_FUNCTIONAL))
    lost = {**of_keras_2("TFOpLambda", name="a", function="math.add"), "module": "keras.src.layers.core.tf_op_layer"}
    config["config"]["layers"][-1].update(lost)
    line = read(old_file(tmp_path, config))
    assert "TFOpLambda, which this Keras does not have. Keras 2.15.0 saved it" in line


# --- optimizers -------------------------------------------------------------------------------------------------------


def of(module, kind, **config):
    return {"class_name": kind, "config": config, **({"module": module} if module else {})}


@pytest.mark.parametrize(
    ("optimizer", "name", "passes"),
    [
        ("sgd", "sgd", 3),
        (of("", "SGD", momentum=0.9), "sgd", 5),
        (of("keras.src.backend.torch.optimizers.torch_adam", "Adam"), "adam", 7),
        (of("keras.src.backend.torch.optimizers.torch_sgd", "SGD", momentum=0.9), "sgd", 5),
        (of("keras.optimizers", "Adam", of_tomorrow=3, amsgrad=True), "adam", 9),
        (of("keras.optimizers", "Adam", learning_rate=of("mine", "Schedule")), "adam", 7),
        (
            of("keras.optimizers", "LossScaleOptimizer", inner_optimizer=of("keras.optimizers", "SGD", momentum=1)),
            "sgd",
            5,
        ),
        (of("keras.optimizers.legacy", "RMSprop", centered=True), "rmsprop", 7),
        (of("keras.optimizers", "Adam", gradient_accumulation_steps=2), None, 7),
        (of("keras.optimizers", "SGD", momentum=["x"]), None, 7),
        (of("keras.optimizers", "AdamNext"), None, 7),
        (of("mine", "SGD"), None, 7),
        ([], None, 7),
    ],
)
def test_an_optimizer_is_read_from_its_own_description(tmp_path, optimizer, name, passes):
    config = {**OLD_SEQUENTIAL, "compile_config": {"optimizer": optimizer, "loss": {"module": "no", "class_name": "L"}}}
    found = read(old_file(tmp_path, config))
    assert (found.optimizer, found.optimizer_passes) == (name or "adam", passes)
    assert any("is not known: adam is taken" in note for note in found.notes) == (name is None)


@pytest.mark.usefixtures("unregistered")
def test_an_optimizer_of_an_author_s_is_known_by_its_code(folder, author):
    path = folder / "own optimizer.keras"
    assert read(path).notes == (
        "what its optimizer Momentum moves is not known: adam is taken; --code FILE.py may show it",
    )
    assert read(path, code=[author]).optimizer_passes == 5


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_a_fixed_batch_size_is_said_where_another_is_asked_for(folder):
    path = folder / "fixed batch.keras"
    note = "its file fixes the batch size at 32"
    assert any(note in text for text in read(path).notes)
    assert not any(note in text for text in read_network(path, 32, 1000, "float32").notes)


@pytest.mark.parametrize(
    ("name", "shape", "found"),
    [
        (
            "two open inputs",
            ["16,8"],
            "left (any, 8), right (any, 8). Name each that you give: --sample_shape left=N,8",
        ),
        ("two open inputs", ["left=16,8"], "Give the sizes that you train with: --sample_shape right=N,8."),
        ("two open inputs", ["left=16,9"], "its input 'left' takes samples of shape (any, 8)"),
        (
            "two open inputs",
            ["middle=16,8"],
            "it has no input 'middle'. Its inputs are left (any, 8), right (any, 8): --sample_shape left=N,8",
        ),
        ("two inputs", ["left=9"], "its input 'left' takes samples of shape (8) of rank 1"),
        ("Sequential, unbuilt", ["a=5", "b=5"], "it takes one input"),
        ("Sequential, empty", ["5"], "it has no layers"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_the_input_s_name(folder, name, shape, found):
    assert found in read(folder / f"{name}.keras", shape=shapes_of(shape))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sample_shape", "8", "--sample_shape", "9"], "name the input of each of several"),
        (["--sample_shape", "a=8", "--sample_shape", "a=9"], "a is given twice"),
        (["--sample_shape", "a="], "--sample_shape"),
        (["--sample_shape", "a=8,x"], "--sample_shape"),
    ],
)
def test_flags_of_shapes_that_do_not_go_together_are_a_wrong_command(capsys, flags, message):
    with pytest.raises(SystemExit) as end:
        command.main(["--network", "x.keras", *flags])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


# --- other files ------------------------------------------------------------------------------------------------------


def test_files_of_other_kinds_are_named_for_what_they_are(folder, tmp_path):
    keras = keras_on_cpu()
    source = folder / "two inputs.keras"
    content = source.read_bytes()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\x08\x01")
    with zipfile.ZipFile(tmp_path / "inside.zip", "w") as archive:
        archive.write(source, "x.keras")
    keras.saving.load_model(source).save_weights(tmp_path / "x.weights.h5")
    for name, data, found in (
        ("none.keras", b"", "it is empty"),
        ("text.keras", b"hello", "it is no zip archive"),
        ("model.onnx", b"\x08\x07\x12", "it is no zip archive"),
        ("cut.keras", content[: len(content) // 2], "its end is missing"),
        ("end.keras", content[:-5], "its end is missing"),
        ("ten.keras", content[:10], "its end is missing"),
        ("inside.zip", None, "holds no config.json"),
        ("x.weights.h5", None, "an HDF5 file. One that holds weights alone names no layers"),
        ("saved", None, "a SavedModel, which keeps no layers"),
        (".", None, "a folder"),
        ("missing.keras", None, "no such file"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        line = read(tmp_path / name)
        assert found in line
        assert "model.save('NAME.keras')" in line or ".save('NAME.keras')" in line
    shutil.copy(source, tmp_path / "named.zip")  # the content says what it is
    assert read(tmp_path / "named.zip").records


def test_the_remedy_for_a_file_of_hdf5_works(folder, tmp_path, monkeypatch):
    keras = keras_on_cpu()
    monkeypatch.chdir(tmp_path)
    model = keras.saving.load_model(folder / "two inputs.keras")
    keras.src.legacy.saving.legacy_h5_format.save_model_to_hdf5(model, "NAME.h5")  # as model.save, without its warning
    line = read(tmp_path / "NAME.h5")
    remedy = re.search(r"(keras\.models.*)\.$", line)[1]
    eval(remedy, {"keras": keras})
    assert read(tmp_path / "NAME.keras").records == read(folder / "two inputs.keras").records


def test_a_code_flag_reaches_the_reader_from_the_command_line(folder, author, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    path = folder / "plain layer.keras"
    assert command.main(["--network", str(path)]) == 1
    assert_one_clear_error(capsys.readouterr(), "by --code FILE.py")
    try:
        assert command.main(["--network", str(path), "--code", str(author), "--json"]) == 0
    finally:
        sys.modules.pop("authors_layers", None)
        keras_on_cpu().saving.get_custom_objects().pop("mine>Registered", None)
    answer = json.loads(capsys.readouterr().out)
    assert [layer["kind"] for layer in answer["layers"]] == ["dense"] * 3
    with pytest.raises(SystemExit):
        command.main(["--code", str(author)])


# --- the author's file ------------------------------------------------------------------------------------------------

BROKEN = {
    "x = (\n": (":1", "SyntaxError"),
    "import keras\n\nraise KeyError('lost\\nname')\n": (":3", "KeyError: 'lost"),
    "def f():\n    return 1 / 0\nf()\n": (":2", "ZeroDivisionError: division by zero"),
    "from .layers import Block\n": (":1", "a relative import works only inside a package"),
    "from . import layers\n": (":1", "a relative import works only inside a package"),
    "import sys\nsys.exit('done')\n": (":2", "it ends the program"),
    "import no_such_package.layers\n": (":1", "no module no_such_package. Install it"),
    "import keras\nfrom keras import NoSuchLayer\n": (":2", "ImportError: cannot import name"),
    "a\0b\n": ("", "null bytes"),
    "raise RuntimeError('x' * 10_000)\n": (":1", "RuntimeError: xxx"),
    "raise RecursionError\n": (":1", "RecursionError: no reason given"),
    "raise MemoryError\n": (":1", "MemoryError"),
}


@pytest.mark.usefixtures("unregistered")
@pytest.mark.parametrize("text", BROKEN)
def test_a_file_of_code_that_fails_is_one_line_with_its_place(folder, tmp_path, text):
    path, (line, found) = tmp_path / "broken.py", BROKEN[text]
    path.write_text(text)
    before = list(sys.path)
    with pytest.raises(ValueError, match=re.escape(f"{path}{line}: ")) as caught:
        read_network(folder / "two layers.keras", 64, 1000, "float32", code=[path])
    said = str(caught.value).replace(f"{path}{line}: ", "")
    assert found in said
    assert said.isprintable() and len(said.replace(sys.executable, "")) <= LONGEST
    assert sys.path == before and "broken" not in sys.modules


def test_what_is_no_file_of_code_is_refused(folder, tmp_path):
    (tmp_path / "layers.txt").write_text("x = 1")
    for name, found in (("layers.txt", "whose name ends in .py"), (".", "a folder"), ("no.py", "no such file")):
        with pytest.raises((ValueError, OSError), match=re.escape(found)) as caught:
            read_network(folder / "two layers.keras", 64, 1000, "float32", code=[tmp_path / name])
        assert str(tmp_path) in str(caught.value)


@pytest.mark.usefixtures("unregistered")
def test_the_remedy_for_a_relative_import_works(folder, author, tmp_path):
    """A file next to the package that imports it, as the line says."""
    package = tmp_path / "authors_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "layers.py").write_text(AUTHOR)
    (package / "network.py").write_text("from .layers import Plain\n")
    path = folder / "plain layer.keras"
    with pytest.raises(ValueError, match="a relative import") as caught:
        read_network(path, 64, 1000, "float32", code=[package / "network.py"])
    remedy = re.search(r"`(.*)`", str(caught.value))[1].replace("PACKAGE", "authors_package")
    (tmp_path / "code.py").write_text(remedy)
    try:
        assert len(read_network(path, 64, 1000, "float32", code=[tmp_path / "code.py"]).records) == 3
    finally:
        for name in [name for name in sys.modules if name.startswith("authors_package")] + ["code_of_author"]:
            sys.modules.pop(name, None)


@pytest.mark.usefixtures("unregistered")
def test_files_of_code_may_be_several_have_any_name_and_print(folder, tmp_path, capsys):
    """A name of a package of ours or another's is no matter, nor what the file prints: answers are read by programs."""
    before = sys.modules["model"]
    (tmp_path / "model.py").write_text(f"print('loading')\nfrom helper import units\n{AUTHOR}")
    (tmp_path / "helper.py").write_text("units = 4\n")
    (tmp_path / "more.py").write_text("value = 1\n")
    code = [tmp_path / "more.py", tmp_path / "model.py", tmp_path / "model.py"]
    try:
        assert len(read_network(folder / "plain layer.keras", 64, 1000, "float32", code=code).records) == 3
    finally:
        for name in ("helper", "more", "model_of_author"):
            sys.modules.pop(name, None)
    assert sys.modules["model"] is before
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "loading\n")


@pytest.mark.usefixtures("unregistered")
def test_the_remedy_for_a_package_of_keras_works(folder, tmp_path):
    """The package is one of ours with such a name: what it registers is found."""
    (tmp_path / "keras_hub.py").write_text(AUTHOR)
    path = edited(folder / "registered layer.keras", tmp_path / "x.keras", module="keras_hub.layers")
    (tmp_path / "code.py").write_text(re.search(r"`(.*)`", read(path))[1])
    try:
        assert len(read(path, code=[tmp_path / "code.py"]).records) == 3
    finally:
        for name in ("keras_hub", "code_of_author"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize("length", [5, 30, 300])
def test_a_line_stays_short_however_long_the_names_are(folder, tmp_path, length):
    long = "n" * length
    changes = {"class_name": long, "module": f"{long}.{long}", "name": long, "registered_name": f"{long}>{long}"}
    for module in (f"{long}.{long}", "keras.layers", "keras_hub.layers", f"keras.src.layers.{long}"):
        path = edited(
            folder / "plain layer.keras", tmp_path / "x.keras", version="9.1.0", **{**changes, "module": module}
        )
        assert re.search(r"--code|--allow_unknown|pip install", read(path))


def test_a_class_that_no_file_of_code_defines_is_named_with_the_files(folder, tmp_path):
    (tmp_path / "more.py").write_text("value = 1\n")
    line = read(folder / "plain layer.keras", code=[tmp_path / "more.py"])
    assert "class Plain (authors_layers), which more.py does not define" in line


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["two layers", "one open input of two"])
def test_damage_anywhere_is_read_or_refused_in_one_line(folder, tmp_path, name):
    """Bytes of the file that are changed, cut or doubled: 150 times each."""
    content, chosen, path = (folder / f"{name}.keras").read_bytes(), random.Random(0), tmp_path / "x.keras"
    outcomes = set()
    for n in range(150):
        damaged = bytearray(content)
        at = chosen.randrange(len(damaged))
        if n % 3 == 0:
            del damaged[at : at + chosen.choice([1, 100, len(damaged)])]
        elif n % 3 == 1:
            damaged[at:at] = damaged[at : at + chosen.choice([1, 100])]
        else:
            ends = [chosen.randrange(200), len(damaged) - 1 - chosen.randrange(400), at]
            damaged[chosen.choice(ends)] ^= 1 << chosen.randrange(8)
        path.write_bytes(damaged)
        try:
            read_saved(path)
        except (ValueError, OSError) as error:
            outcomes.add(type(error))
            line = str(error).removeprefix(f"{path}: ")
            assert line != str(error) and len(line) <= LONGEST and line.isprintable()
    assert outcomes


@pytest.mark.parametrize("name", ["plain layer", "two open inputs", "lambda activation", "own training step"])
def test_a_configuration_that_was_changed_anywhere_is_read_or_refused_in_one_line(folder, tmp_path, name):
    chosen, path = random.Random(1), tmp_path / "x.keras"
    with zipfile.ZipFile(folder / f"{name}.keras") as archive:
        text = archive.read("config.json").decode()
    values = re.findall(r'"[^"]*"|null|\d+', text)
    for n in range(25):
        place = chosen.choice(list(re.finditer(r'(?<=: )("[^"]*"|null|\d+|\{\}|\[)', text)))
        other = chosen.choice([*values, "[]", "{}", "-1", '"mine>Plain"', "1e999", '{"class_name": "function"}'])
        changed = text[: place.start()] + other + text[place.end() - (place[0] == "[") :]
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", changed)
        read(path, allow_unknown=n % 2 == 0)


def test_a_list_of_files_that_fills_the_memory_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(9_000):
            archive.writestr(f"{n:0300}", "")
    with at_most(32):
        assert "the archive lists its files in more than 2 MiB" in read(path)
    for config in ("[" + "[]," * 600_000 + "1]", '{"a":' + "[{}," * 300_000):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", config)
        assert path.stat().st_size < 10_000
        with at_most(32):
            assert "its config.json has more than 500,000 parts" in read(path)
