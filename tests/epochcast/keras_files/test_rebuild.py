"""Networks in files of any origin: read right or refused in a sentence, in little memory, and nothing in them runs."""

from __future__ import annotations

import json
import os
import random
import resource
import time
import warnings
import zipfile
from types import SimpleNamespace

import psutil
import pytest

from epochcast.keras_files import read_file as explain_network
from epochcast.keras_files import rebuild as keras_files
from epochcast.keras_files.read_file import read_network
from epochcast.keras_files.rebuild import read_saved
from epochcast.keras_layers.read_layers import read_layers
from epochcast.machine.framework import keras_on_cpu
from epochcast.machine.limits import MIB, EndedError, LimitError, call_within
from tests.support.peaks import at_most

INPUT = {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 8, 8, 3], "name": "i"}}
CODE = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}
CONVNEXT = "keras.src.applications.convnext"  # whose functions load weights
SENTENCE = 200  # characters at most, without the path


def layer(kind, module="keras.layers", **config):
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


def function(name, module):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def sequential(*layers, **more):
    return {**layer("Sequential", "keras", name="s", layers=[INPUT, *layers]), **more}


FLAT = layer("Flatten", name="f")
SMALL = sequential(FLAT, layer("Dense", units=4, name="d"))


def archive(folder, members, method=zipfile.ZIP_DEFLATED):
    path = folder / "x.keras"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as file:
        warnings.simplefilter("ignore")  # of a name that stands twice
        for name, content in members:
            file.writestr(name, content)
    return path


def network_file(folder, config):
    return archive(folder, [("config.json", config if isinstance(config, bytes) else json.dumps(config))])


def read(path):
    return read_network(path, 32, 1000, "float32")


def refused(path):
    """The sentence that a file is refused with, without its path."""
    before = sorted(path.parent.iterdir())
    with pytest.raises((ValueError, OSError)) as caught:
        read(path)
    assert sorted(path.parent.iterdir()) == before
    assert str(path) in str(caught.value)
    text = str(caught.value).replace(str(path), "").removeprefix(": ")
    assert len(text) <= SENTENCE
    assert text.isprintable()
    return text


# --- the archive ------------------------------------------------------------------------------------------------------


def bomb(folder):
    """An archive whose member unpacks to 128 MiB."""
    path = folder / "x.keras"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("config.json", "w") as member,
    ):
        for _ in range(128):
            member.write(bytes(MIB))
        member.write(bytes(0x1234))  # a size that stands nowhere else in the file
    return path


def lying_bomb(folder):
    """The same, said to have 1,000 bytes."""
    path = bomb(folder)
    size = 128 * MIB + 0x1234
    path.write_bytes(path.read_bytes().replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    return path


def encrypted(folder):
    path = archive(folder, [("config.json", "{}")], zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(content)
    return path


ARCHIVES = {
    "config.json unpacks to 128 MiB, more than 8": bomb,
    "the archive is damaged (Bad CRC-32": lying_bomb,
    "neither stored nor deflated": lambda d: archive(d, [("config.json", bytes(MIB))], zipfile.ZIP_LZMA),
    "the archive holds config.json twice": lambda d: archive(d, [("config.json", "{}")] * 2),
    "config.json is encrypted": encrypted,
    "the archive holds 10001 files": lambda d: archive(d, [(f"{i}", "") for i in range(10_001)]),
    "the archive holds no config.json": lambda d: archive(d, [("../config.json", "{}"), ("/tmp/config.json", "{}")]),
}


@pytest.mark.parametrize("found", ARCHIVES)
def test_an_archive_that_is_no_model_is_refused_before_keras_starts(tmp_path, monkeypatch, found):
    monkeypatch.setattr(explain_network, "keras_on_cpu", lambda: pytest.fail("Keras was started"))
    path = ARCHIVES[found](tmp_path)
    with at_most(64):  # a part of what it unpacks to
        assert found in refused(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (b"[" * 10_000, "nested too deeply"),
        (b'{"a":' * 10_000, "nested too deeply"),
        (b"[1]", "holds no JSON object"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "not JSON"),
        (b'{"a": 1' + b"0" * 400 + b"}", "a size of 401 digits"),
        (json.dumps(sequential(layer("get_file", "keras.utils"))).encode(), "keras.utils.get_file, which is no part"),
        (json.dumps(sequential(function("get_file", "keras.utils"))).encode(), "keras.utils.get_file, which is no"),
        (json.dumps(sequential(layer("ConvNeXtTiny", CONVNEXT))).encode(), f"{CONVNEXT}.ConvNeXtTiny, which is no"),
        (json.dumps(sequential(function("ConvNeXtTiny", CONVNEXT))).encode(), f"{CONVNEXT}.ConvNeXtTiny, which is"),
    ],
)
def test_a_configuration_that_is_no_network_s_is_refused_before_keras_starts(tmp_path, monkeypatch, text, found):
    monkeypatch.setattr(explain_network, "keras_on_cpu", lambda: pytest.fail("Keras was started"))
    assert found in refused(network_file(tmp_path, text))


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "x.keras")
    assert "a pipe" in refused(tmp_path / "x.keras")
    (tmp_path / "y.keras").symlink_to("y.keras")
    refused(tmp_path / "y.keras")


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (
            sequential(layer("Lambda", function=CODE)),
            "holds a lambda function, code in the file, which is never run. Replace it",
        ),
        (
            sequential(layer("Dense", units=3, activation=CODE)),
            "holds a lambda function, code in the file, which is never run. --allow_unknown",
        ),
        (
            sequential(layer("Activation", activation=function("system", "os"))),
            "holds function system (os), its author's code",
        ),
        (
            sequential(layer("Popen", "subprocess", args="true")),
            "needs class Popen (subprocess), its author's code. Give its Python file by --code FILE.py",
        ),
        (
            sequential(layer("eval", "builtins")),
            "needs class eval, its author's code. Give its Python file by --code FILE.py",
        ),
        (sequential(layer("LayerOfTomorrow")), "it needs keras.layers.LayerOfTomorrow, which this Keras does not have"),
        (sequential(FLAT, layer("StringLookup", vocabulary="/etc/passwd")), "loading of a vocabulary file"),
        (sequential(layer("TFSMLayer", filepath="/tmp/saved")), "Requested the deserialization of a `TFSMLayer`"),
        (layer("Adam", "keras.optimizers"), "it holds Adam, not a network"),
        (layer("Dense", units=3), "it holds Dense, not a network"),
        (sequential(FLAT, *[layer("Dense", units=10**18)] * 3), "its layers are larger than any computer"),
        (sequential(FLAT, layer("Dense", units={"a": ["b" * 10_000]})), "Make it by its own code with Keras"),
        (
            sequential({**FLAT, "config": {"name": "\x1b[31m" + "n" * 9_000}}, layer("Dense", units="x")),
            "Make it by its own code with Keras",
        ),
        (sequential(function("relu", "keras.activations")), "Make it by its own code with Keras"),
    ],
)
def test_a_network_that_can_t_be_rebuilt_is_refused_in_a_sentence(tmp_path, config, found):
    assert found in refused(network_file(tmp_path, config))


@pytest.mark.parametrize(
    ("layers", "params"),
    [
        ([FLAT, layer("Dense", units=10**9)], 193 * 10**9),
        ([FLAT, layer("Embedding", input_dim=10**12, output_dim=10**6)], 10**18),
        ([layer("Conv2D", filters=10**7, kernel_size=10**3, padding="same")], 10**13 * 3 + 10**7),
        ([FLAT, layer("Dense", units=10**9), layer("BatchNormalization")], 197 * 10**9),
    ],
)
def test_layers_of_any_size_are_read_without_making_their_weights(tmp_path, layers, params):
    keras_on_cpu()  # whose own memory is not asked for
    with at_most(64):
        records = read(network_file(tmp_path, sequential(*layers))).records
    assert sum(record.params for record in records) == params


def test_a_network_without_weights_reads_as_with_them(tmp_path):
    from benchmarks.lib.layer_models import MODELS

    for name in ("CNN 2,16", "Transformer block", "text CNN", "separable convolutions"):
        model = MODELS[name]()
        model.save(tmp_path / "x.keras")
        whole = read_layers(model)
        assert read(tmp_path / "x.keras").records == whole.records


def test_a_stateful_network_is_read_with_its_weights(tmp_path):
    import keras

    model = keras.Sequential([keras.Input(batch_shape=(4, 8, 3)), keras.layers.LSTM(5, stateful=True)])
    model.save(tmp_path / "x.keras")
    assert read(tmp_path / "x.keras").records == read_layers(model).records


def test_what_a_network_was_compiled_with_is_not_needed_to_read_its_optimizer(tmp_path):
    compiled = {
        "optimizer": layer("SGD", "keras.optimizers", momentum=0.9),
        "loss": function("loss_of_its_author", "builtins"),
        "metrics": [layer("Mine", "mine")],
    }
    inner = {**SMALL, "compile_config": compiled}
    for config in ({**SMALL, "compile_config": compiled}, sequential(inner, compile_config=compiled)):
        subject = read(network_file(tmp_path, config))
        assert (subject.optimizer, subject.optimizer_passes, subject.notes) == ("sgd", 5, ())
    unknown = {**SMALL, "compile_config": {"optimizer": layer("Mine", "mine")}}
    subject = read(network_file(tmp_path, unknown))
    assert subject.notes == ("what its optimizer Mine moves is not known: adam is taken; --code FILE.py may show it",)


def test_weights_are_not_opened(tmp_path):
    config = json.dumps(SMALL)
    whole = archive(tmp_path, [("config.json", config)])
    expected = read(whole).records
    path = archive(tmp_path, [("config.json", config), ("model.weights.h5", b"no HDF5"), ("assets/../../x", b"")])
    assert read(path).records == expected


def places(value, path=()):
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ()):
        yield from places(inner, (*path, key))


ODD = [
    None,
    True,
    -1,
    0,
    1.5,
    1e308,
    float("nan"),
    10**12,
    2**63,
    "",
    "x",
    "../x",
    [],
    [None],
    {},
    {"a": 1},
    CODE,
    "\x00",
]


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 99))])
def test_any_odd_value_anywhere_is_read_or_refused_in_a_sentence(tmp_path, seed):
    chosen = random.Random(seed)
    convolution = layer("Conv2D", filters=3, kernel_size=[3, 3], activation="relu", kernel_initializer="zeros")
    config = json.loads(json.dumps(sequential(convolution, FLAT, layer("Dense", units=4))))
    *path, last = chosen.choice([path for path in places(config) if path])
    inner = config
    for key in path:
        inner = inner[key]
    inner[last] = chosen.choice(ODD)
    file = network_file(tmp_path, config)
    try:
        read(file)
    except (ValueError, OSError):
        refused(file)


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(20, 99))])
def test_a_damaged_file_is_read_or_refused_in_a_sentence(tmp_path, seed):
    chosen = random.Random(seed)
    path = archive(tmp_path, [("config.json", json.dumps(SMALL))], chosen.choice([0, zipfile.ZIP_DEFLATED]))
    content = bytearray(path.read_bytes())
    if seed % 3:
        for _ in range(chosen.choice([1, 3, 20])):
            content[chosen.randrange(len(content))] = chosen.randrange(256)
    else:
        del content[chosen.randrange(len(content)) :]
    path.write_bytes(content)
    try:
        read_saved(path)
    except (ValueError, OSError):
        refused(path)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_work_without_an_end_is_stopped():
    def endless():
        while True:
            try:
                time.sleep(0)
            except Exception:  # as a library might
                pytest.fail("a library's handler kept the stop")

    start = time.monotonic()
    with pytest.raises(LimitError, match=r"more than 0\.1 s"):
        call_within(endless, 0.1, MIB << 9)
    assert time.monotonic() - start < 10


def test_a_stop_that_meets_a_finalizer_is_not_printed_and_ends_the_work_all_the_same(capsys):
    def busy():
        end = time.monotonic() + 0.15
        while time.monotonic() < end:
            pass

    class Slow:
        def __del__(self):
            busy()

    def endless():
        while True:
            Slow()
            busy()

    for _ in range(3):
        with pytest.raises(LimitError):
            call_within(endless, 0.05, MIB << 9)
    assert capsys.readouterr().err == ""


def test_work_that_takes_memory_is_stopped_piece_by_piece_and_at_once():
    def growing():
        kept = []
        while True:
            kept.append(bytes(MIB) + b"1")

    for work in (growing, lambda: bytes(1 << 40)):
        with pytest.raises(LimitError, match="more than 64 MiB of memory"):
            call_within(work, 10, 64 * MIB)
    assert call_within(lambda: len(bytearray(MIB)), 10, 256 * MIB) == MIB


def test_a_mac_s_sizes_without_data_still_stop_work_that_grows(monkeypatch):
    of_linux = psutil.Process.memory_info
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: SimpleNamespace(rss=of_linux(self).rss))
    kept = []
    before = resource.getrlimit(resource.RLIMIT_DATA)

    def growing():
        while True:
            assert resource.getrlimit(resource.RLIMIT_DATA) == before
            kept.append(bytes(MIB) + b"1")

    with pytest.raises(LimitError, match="more than 64 MiB of memory"):
        call_within(growing, 10, 64 * MIB)


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), FileNotFoundError(2, "none"), ValueError("odd")])
def test_where_no_sizes_are_reported_work_is_only_limited_in_time(monkeypatch, error):
    def fail(self):
        raise error

    monkeypatch.setattr(psutil.Process, "memory_info", fail)
    assert call_within(lambda: len(bytes(8 * MIB)), 10, MIB) == 8 * MIB
    with pytest.raises(LimitError, match=r"more than 0\.05 s"):
        call_within(lambda: [None for _ in iter(int, 1)], 0.05, MIB)


def test_work_within_its_limits_returns_or_raises_as_it_does():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert call_within(lambda: 7, 10, MIB << 8) == 7
    with pytest.raises(KeyError):
        call_within(lambda: {}["x"], 10, MIB << 8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.parametrize("kind", [SystemExit, BaseException, GeneratorExit])
def test_work_that_ends_the_program_is_an_error_with_its_cause(kind):
    def ending():
        raise kind(3)

    with pytest.raises(EndedError, match=kind.__name__) as caught:
        call_within(ending, 10, MIB << 8)
    assert isinstance(caught.value.__cause__, kind)


def test_work_that_waits_is_stopped_by_the_wall_clock():
    with pytest.raises(LimitError, match=r"more than 0\.2 s by the wall clock") as caught:
        call_within(lambda: time.sleep(0.6), 10, MIB << 8, wall_sec=0.2)
    assert caught.value.lines[-1][0] == __file__


def test_a_network_that_takes_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(explain_network, "REBUILDING_SEC", 0.3)
    repeated = [layer("Reshape", target_shape=[192]), layer("RepeatVector", n=10**9)]
    many = sequential(*repeated, layer("TimeDistributed", layer=layer("Dense", units=3)))
    assert refused(network_file(tmp_path, many)).startswith("rebuilding this network takes more than 0.3 s")


def test_shortened_text_is_one_printable_line():
    assert keras_files.shortened("a\n\x1b[31mb\u202e" + "c" * 1000, 20) == "a [31mb ccccccccc..."
