"""Mutated models: cards, our own `.keras` files, and users' networks."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from epochcast.model.time_model.card import card_sha256, read_card
from epochcast.model.time_model.saved_model import SavedModel, load_model
from epochcast.schema import RunConfig
from tests.fuzz.box import Box
from tests.fuzz.json_mutate import mutate_json, mutate_json_file, twice_named
from tests.fuzz.mutate import mutate_bytes, mutate_file, put
from tests.fuzz.oracles import Call, Heard
from tests.fuzz.samples import samples

ASKED = [RunConfig(2, 16, 128), RunConfig(6, 256, 7), RunConfig(1, 1, 50_000)]


def _rehashed(data: bytes, keras: bytes | None = None) -> bytes:
    """A card with its own hash, and that of a network, made anew, so that what lies behind the hashes is tried."""
    try:
        card = json.loads(data)
        if keras is not None:
            card["keras_sha256"] = hashlib.sha256(keras).hexdigest()
        twice = twice_named(data) is not None
        digest = card_sha256(card)
    except (ValueError, RecursionError, TypeError, AttributeError):
        return data
    if not twice:
        card["card_sha256"] = digest
        return json.dumps(card).encode()
    old = json.loads(samples().card)["card_sha256"].encode()
    return data.replace(old, digest.encode())  # else the doubled name would be lost


def _value(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def cards(draw: Random, box: Box) -> Iterator[Call]:
    """A mutated card beside a sound network; with its hash made anew half of the time."""
    data = mutate_json_file(draw, samples().card)
    if is_vouched := draw.random() < 0.5:
        data = _rehashed(data)
    path, network = box.path("model.json"), box.write("model.keras", samples().keras)
    put(draw, path, data)
    data = path.read_bytes() if path.is_file() and path.resolve() == path else samples().card

    def check(card: dict[str, Any], heard: Heard) -> list[str]:
        if (twice := twice_named(data)) is not None:
            return [f"a card with {twice!r} twice was taken"]
        is_edited = not is_vouched and _value(data) != _value(samples().card)
        return ["an edited card was taken"] if is_edited else []

    yield Call("read_card", lambda: read_card(path), check, named=(path,))
    yield Call("load_model", lambda: _forecast(load_model(network)), _finite, named=(path, network))
    yield _asked(draw, box, network)


def keras_files(draw: Random, box: Box) -> Iterator[Call]:
    """A mutated network of ours beside its card; with the hashes in the card made anew half of the time."""
    original = samples().keras
    data = _mutate_archive(draw, original) if draw.random() < 0.6 else mutate_file(draw, original, mutate_bytes)
    is_vouched = draw.random() < 0.5
    card = box.write("model.json", _rehashed(samples().card, data) if is_vouched else samples().card)
    path = box.path("model.keras")
    put(draw, path, data)
    is_same = path.is_file() and path.resolve() == path and path.read_bytes() == original

    def check(answers: Any, heard: Heard) -> list[str]:
        return _finite(answers, heard) if is_vouched or is_same or path.is_symlink() else ["another network was taken"]

    yield Call("load_model", lambda: _forecast(load_model(path)), check, named=(path, card))
    if draw.random() < 0.3:
        yield _asked(draw, box, path)


def _forecast(saved: SavedModel) -> list[float | None]:
    """The seconds that a model answers with; None where it refuses one configuration."""
    answers: list[float | None] = []
    for config in ASKED:
        try:
            forecast = saved.forecast(config, epochs=10)
        except ValueError:
            answers.append(None)
        else:
            answers += [forecast.steady.value, forecast.run.wall.value if forecast.run.wall else None]
    return answers


def _finite(answers: list[float | None], heard: Heard) -> list[str]:
    odd = [value for value in answers if value is not None and not (math.isfinite(value) and value > 0)]
    return [f"a forecast of {odd[0]!r} s"] if odd else []


def _asked(draw: Random, box: Box, model: Path) -> Call:
    """A command that answers with the model, named or found among those of this box."""
    flags = ["--json"] if draw.random() < 0.5 else []
    command = draw.choices(("predict", "explain", "plan", "next_runs", "local"), (4, 1, 2, 1, 2))[0]
    if command == "local":  # one odd model must not stop those that do not ask for it
        for part in (model, model.with_suffix(".json")):
            if part.is_file():
                box.write(f"home/results/models/{part.name}", part.read_bytes())
        return box.command("predict", "--depth", "2", *flags)
    if command == "plan":
        agg = box.write("runs_agg.csv", samples().agg)
        flags += ["--budget", "1h", "--depth", "2,3", "--batch_size", "64,128", "--runs_agg", str(agg)]
    return box.command(command, "--model", model, *flags)


def _mutate_archive(draw: Random, data: bytes) -> bytes:
    """A `.keras` file with one of its members mutated, dropped, doubled, swollen or renamed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [[info.filename, archive.read(info)] for info in archive.infolist()]
    at = draw.randrange(len(members))
    name, content = members[at]
    how = draw.choices(("mutate", "drop", "double", "bomb", "rename"), (20, 1, 1, 0.2, 1))[0]
    if how == "mutate":
        is_json = str(name).endswith(".json")
        members[at][1] = mutate_json(draw, content) if is_json else mutate_bytes(draw, content)
    elif how == "drop":
        del members[at]
    elif how == "double":
        members.append([name, content[::-1]])
    elif how == "bomb":
        members[at][1] = b" " * (1 << 30) if draw.random() < 0.1 else b" " * (1 << 27)
    else:
        members[at][0] = draw.choice(("../../x", "/x", "config.json", "x/", "é" * 200))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            with_warning_off(archive, str(name), content)
    return written.getvalue()


def with_warning_off(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a member, also under a name that stands in the archive already."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(name, content)


# --- users' networks -------------------------------------------------------------------------------------------------


@functools.cache
def user_networks() -> list[bytes]:
    """Small networks as a user saves them; Keras is imported once in a process, which takes seconds."""
    import keras
    from keras import layers

    dense = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="relu"), layers.Dense(2)])
    dense.compile("adam", "mse")
    conv = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten(), layers.Dense(2)]
    )
    conv.compile(keras.optimizers.SGD(momentum=0.9), "mse")
    inputs = keras.Input((6,), dtype="int32")
    sequence = keras.Model(inputs, layers.GRU(3)(layers.Embedding(11, 4)(inputs)))
    saved = []
    for network in (dense, conv, sequence):
        with tempfile.TemporaryDirectory() as folder:
            network.save(path := Path(folder) / "network.keras")
            saved.append(path.read_bytes())
    return saved


def networks(draw: Random, box: Box) -> Iterator[Call]:
    """A user's network, mutated, explained layer by layer or predicted."""
    original = draw.choice(user_networks())
    chance = draw.random()
    if chance < 0.75:
        data = _mutate_archive(draw, original)
    else:
        data = mutate_file(draw, original, mutate_bytes)
    path = box.path("network.keras")
    put(draw, path, data)
    more = ["--allow_unknown"] if draw.random() < 0.3 else []
    more += ["--json"] if draw.random() < 0.5 else []
    command = ["explain"] if draw.random() < 0.7 else ["predict", "--gpu", "RTX 4090"]
    if command == ["explain"] and draw.random() < 0.3:
        more += ["--epochs", "3", "--region", "DE,US"]
    yield box.command(*command, "--network", path, "--batch_size", "32", *more)
