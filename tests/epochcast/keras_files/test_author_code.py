"""Code of a network's author, which `--code` runs: what fails in it is one line with its place and what helps."""

from __future__ import annotations

import json
import re
import sys

import pytest

from epochcast.keras_files import author_code
from epochcast.keras_files import read_file as explain_network
from epochcast.keras_files.read_file import read_network
from epochcast.machine import limits
from epochcast.machine.framework import keras_on_cpu
from epochcast.model import explain as command
from tests.support.models.saved_networks import AUTHOR, LONGEST, chain, edited, read, shapes_of
from tests.support.rows import assert_one_clear_error


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
    "x = 1\nraise BaseException('x')\n": (":2", "BaseException: x"),
    "raise GeneratorExit\n": (":1", "GeneratorExit"),
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


def test_a_file_of_code_that_goes_on_running_is_named_while_it_does(tmp_path, monkeypatch, caplog):
    """A script that trains the network is the likely one."""
    monkeypatch.setattr(author_code, "SLOW_SEC", 0.05)
    path = tmp_path / "script.py"
    for text, is_slow in (("x = 1\n", False), ("import time\ntime.sleep(0.5)\n", True)):
        path.write_text(text)
        try:
            with author_code.author_code([path]):
                assert (f"{path}: still running" in caplog.text) == is_slow
        finally:
            sys.modules.pop("script", None)
    assert "if __name__ == '__main__':" in caplog.text


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
    before = sys.modules["epochcast"]
    (tmp_path / "epochcast.py").write_text(f"print('loading')\nfrom helper import units\n{AUTHOR}")
    (tmp_path / "helper.py").write_text("units = 4\n")
    (tmp_path / "more.py").write_text("value = 1\n")
    code = [tmp_path / "more.py", tmp_path / "epochcast.py", tmp_path / "epochcast.py"]
    try:
        assert len(read_network(folder / "plain layer.keras", 64, 1000, "float32", code=code).records) == 3
    finally:
        for name in ("helper", "more", "epochcast_of_author"):
            sys.modules.pop(name, None)
    assert sys.modules["epochcast"] is before
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


# --- code that fails when the network is rebuilt ----------------------------------------------------------------------

PLAIN = """
import sys, time, types
import keras

no_module = types.FunctionType((lambda x: x).__code__, {})

class Plain(keras.layers.Layer):
    def __init__(self, units=4, **settings):
        super().__init__(**settings)
        INIT
    def call(self, x):
        CALL
        return x
"""


def plain(tmp_path, init="pass", call="pass"):
    """A file of code whose layer does this when it is made and called, and the lines that do."""
    text = PLAIN.replace("INIT", init).replace("CALL", call)
    (tmp_path / "authors_layers_2.py").write_text(text)
    lines = text.splitlines()
    return tmp_path / "authors_layers_2.py", lines.index(f"        {init}") + 1, lines.index(f"        {call}") + 1


@pytest.fixture
def forgotten(unregistered):
    yield
    sys.modules.pop("authors_layers_2", None)


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("statement", ["sys.exit(3)", "sys.exit()", "raise BaseException('x')", "raise GeneratorExit"])
def test_code_that_ends_the_program_is_named_with_its_line(folder, tmp_path, statement):
    path, in_init, _ = plain(tmp_path, init=statement)
    assert f"authors_layers_2.py:{in_init} raises " in read(folder / "plain layer.keras", code=[path])
    path, _, in_call = plain(tmp_path, call=statement)
    sys.modules.pop("authors_layers_2", None)
    assert f"authors_layers_2.py:{in_call} raises " in read(folder / "plain layer.keras", code=[path])


@pytest.mark.usefixtures("forgotten")
def test_code_that_ends_the_program_is_exit_1_and_an_interrupt_stays_one(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    path, _, _ = plain(tmp_path, call="sys.exit(3)")
    assert command.main(["--network", str(folder / "plain layer.keras"), "--code", str(path)]) == 1
    assert_one_clear_error(capsys.readouterr(), "raises SystemExit")
    path.write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        read_network(folder / "plain layer.keras", 64, 1000, "float32", code=[path])


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(
    ("statement", "sec", "wall_sec", "found"),
    [
        ("while True: pass", 0.3, 60, "more than 0.3 s of processor time"),
        ("time.sleep(2)", 60, 0.3, "more than 0.3 s by the wall clock"),
    ],
)
def test_code_without_an_end_is_named_with_its_line(folder, tmp_path, monkeypatch, statement, sec, wall_sec, found):
    monkeypatch.setattr(explain_network, "REBUILDING_SEC", sec)
    monkeypatch.setattr(explain_network, "REBUILDING_WALL_SEC", wall_sec)
    assert limits.PATIENCE_SEC > 2  # the sleep ends within the test: it holds Keras's classes
    path, _, line = plain(tmp_path, call=statement)
    refusal = read(folder / "plain layer.keras", code=[path])
    assert f"{found}, in authors_layers_2.py:{line}. Correct this code" in refusal


@pytest.mark.usefixtures("forgotten")
def test_code_that_fails_on_the_file_s_own_shape_is_named_with_its_line(folder, tmp_path):
    path, _, line = plain(tmp_path, call="x = x + keras.ops.ones((3, 5, 7))")
    assert re.search(rf"Correct authors_layers_2\.py:{line},", read(folder / "plain layer.keras", code=[path]))


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("calls_it", ["init", "call"])
def test_code_that_calls_another_framework_than_keras_s_asks_for_that_backend(folder, tmp_path, monkeypatch, calls_it):
    """The framework is one of ours with such a name."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax/__init__.py").write_text("def tanh(x):\n    raise TypeError('not an array of mine')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    path, _, _ = plain(tmp_path, **{calls_it: "import jax; x = jax.tanh(1)"})
    line = read(folder / "plain layer.keras", code=[path])
    del sys.modules["jax"]
    assert line == "its code calls jax, and Keras runs on tensorflow here: set KERAS_BACKEND=jax."


def test_a_layer_s_name_that_tensorflow_does_not_take_is_named(tmp_path):
    keras, path = keras_on_cpu(), tmp_path / "x.keras"
    chain(keras, keras.layers.Dense(4, name="my layer")).save(path)
    assert "no layer of the name 'my layer'. Name it by English letters" in read(path)
    chain(keras, keras.layers.Dense(4, name="my.layer_2")).save(path)
    assert read(path).records


@pytest.mark.parametrize("name", ["naïve", "my net", "_net"])
def test_a_network_s_name_that_tensorflow_does_not_take_is_named(tmp_path, name):
    keras, path = keras_on_cpu(), tmp_path / "x.keras"
    # it can be saved, also by TensorFlow, and is refused where it is called
    keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)], name=name).save(path)
    line = read(path)
    assert f"no network of the name {name!r}. Name it by English letters" in line
    assert line.endswith("or set KERAS_BACKEND=jax.")


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("text", ["class Plain: pass", "def Plain(x): return x", "Plain = type('Plain', (), {})"])
def test_what_is_no_class_of_keras_is_not_taken_for_a_layer(folder, tmp_path, text):
    path = tmp_path / "authors_layers_2.py"
    path.write_text(text)
    line = read(folder / "plain layer.keras", code=[path])
    assert "authors_layers_2.py defines, but not as a Keras class. Give its Python file by --code" in line


# --- remedies ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unregistered")
@pytest.mark.parametrize(
    ("name", "shape", "found"),
    [
        ("subclassed", "9", "It was saved with samples of shape (5): leave --sample_shape out"),
        ("subclassed", "9,9", "It was saved with samples of shape (5): leave --sample_shape out"),
        ("subclassed", "inputs=5", "the inputs that it takes, x: --sample_shape x=N,..."),
        ("subclassed, unbuilt", "inputs=5", "the inputs that it takes, x: --sample_shape x=N,..."),
        ("subclassed, of two inputs", "5", "left, right: --sample_shape left=N,... --sample_shape right=N,..."),
        ("own layer in a wrapper, unbuilt behind it", "3,8", "Call the network once on a batch, and save it again."),
        ("own layer in a wrapper, unbuilt behind it", None, "Call the network once on a batch, and save it again."),
        ("own layer that computes alone", None, "nothing else to count. Write them with layers of Keras"),
        ("own layer that computes, and a sum", None, "nothing else to count. Write them with layers of Keras"),
        ("quantized", None, "(Dense, int8) is quantized, which is not counted. Save it before quantize()"),
    ],
)
def test_a_network_that_its_code_does_not_help_is_refused_by_its_cause(folder, author, name, shape, found):
    shape = [] if shape is None else shapes_of([shape])
    assert found in read(folder / f"{name}.keras", shape=shape, code=[author])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("own layer in a Sequential in a Sequential", "is not in the file. Give its Python file by --code FILE.py"),
        ("own layer that computes, and a sum", "it has neither weights nor products to count without product"),
        ("quantized", "it has neither weights nor products to count without dense"),
    ],
)
def test_nothing_is_answered_where_all_that_counts_would_be_left_out(folder, name, found):
    assert found in read(folder / f"{name}.keras", allow_unknown=True)
    assert "--allow_unknown" not in read(folder / f"{name}.keras")


@pytest.mark.usefixtures("unregistered")
def test_a_network_called_once_and_saved_again_is_read(folder, author, tmp_path):
    """The remedy for one that was not built, carried out."""
    keras, name = keras_on_cpu(), "own layer in a wrapper, unbuilt behind it"
    with explain_network.author_code([author]):
        model = keras.saving.load_model(folder / f"{name}.keras", custom_objects=vars(sys.modules["authors_layers"]))
        model(keras.ops.ones((2, 5, 8)))
        model.save(tmp_path / "x.keras")
    assert len(read(tmp_path / "x.keras", allow_unknown=True).records) == 1
