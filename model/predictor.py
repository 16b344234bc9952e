"""Answer with a saved time model, by NumPy and h5py alone: no TensorFlow start-up for one prediction.

A model is a `.keras` file and the JSON card beside it. The network takes standardised features, shape (n, 3), and gives
its members' log residuals on a linear law in the same features, shape (n, members), in units of `residual_scale`:
prediction = exp(law + residual_scale * median member). The law keeps a model of few rows from going far astray.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from epochcast.cells import columns
from epochcast.environment import box_device_name
from epochcast.paths import models_dir, pretrained_dir
from epochcast.schema import TRAIN_N, Conditions, RunConfig
from model.features import FEATURE_NAMES, feature_matrix

CARD_SCHEMA_VERSION = 1
LARGEST_LOG_TIME = 500.0  # natural; a time of 1e217 s, or its inverse, is still a number
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Member networks side by side: layer i has a kernel of shape (members, inputs, units) and a bias (members, units).

    SiLU follows every layer but the last, which has one unit.
    """

    kernels: tuple[Array, ...]
    biases: tuple[Array, ...]

    def outputs(self, x: Array) -> Array:
        """Members' outputs, shape (n, members), for standardised features of shape (n, features)."""
        h = np.broadcast_to(x[:, None, :], (len(x), self.kernels[0].shape[0], x.shape[1]))
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            h = np.einsum("nmi,mio->nmo", h, kernel) + bias
            if i < len(self.kernels) - 1:
                h = h * 0.5 * (1 + np.tanh(h / 2))  # h * sigmoid(h), without its overflow far outside
        return h[:, :, 0]


@dataclass(frozen=True, slots=True, eq=False)
class TimeModel:
    """A network with the scaling of its inputs and output, and the law in log time (natural log, s/epoch) below it."""

    network: Network
    feature_mean: Array
    feature_scale: Array
    law: Array  # shape (1 + features,): intercept, then a coefficient for each standardised feature
    residual_scale: float

    def times(self, configs: Sequence[RunConfig]) -> Array:
        """Predicted steady seconds per epoch, shape (n,).

        Raises:
            ValueError: if a configuration lies so far outside that its time is no number.
        """
        x = (feature_matrix(configs) - self.feature_mean) / self.feature_scale
        residual = np.median(self.network.outputs(x), axis=1) * self.residual_scale
        log_time = self.law[0] + x @ self.law[1:] + residual
        if absurd := [str(c) for c, t in zip(configs, log_time, strict=True) if not abs(t) < LARGEST_LOG_TIME]:
            raise ValueError(f"{' '.join(absurd)}: too far outside what the model learned from to be predicted at all.")
        return np.asarray(np.exp(log_time))


@dataclass(frozen=True, slots=True, eq=False)
class SavedModel:
    """A time model with its card: what it was trained on, how far it reaches, how well it predicts."""

    path: Path
    card: dict[str, Any]
    time_model: TimeModel

    @property
    def device_name(self) -> str | None:
        return self.conditions.device_name

    @property
    def conditions(self) -> Conditions:
        return Conditions(**self.card["conditions"])

    @property
    def train_n(self) -> int:
        """Images per epoch of the rows it learned from."""
        return self.conditions.train_n or TRAIN_N

    def outside(self, config: RunConfig) -> list[str]:
        """What of a configuration lies outside the measured range, in words; empty if nothing does."""
        found = []
        for name, (low, high) in self.card["range"].items():
            value = getattr(config, name)
            if not low <= value <= high:
                found.append(f"{name} {value} (measured: {low} to {high})")
        return found


def card_path(model: Path) -> Path:
    """The JSON card of a `.keras` file."""
    return model.with_suffix(".json")


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: a model without its card can't be trusted. Train it again.") from None
    except ValueError as error:
        raise ValueError(f"{path}: not a model card: {error}. Train the model again.") from None
    wanted = {"schema_version", "feature_names", "feature_mean", "feature_scale", "law", "residual_scale"}
    wanted |= {"range", "conditions", "keras_sha256", "errors", "activation", "created_utc"}
    if not isinstance(card, dict):
        raise ValueError(f"{path}: not a model card: it holds no JSON object. Train the model again.")
    if missing := sorted(wanted - card.keys()):
        raise ValueError(f"{path}: not a model card: {', '.join(missing)} missing. Train the model again.")
    if card["schema_version"] != CARD_SCHEMA_VERSION:
        raise ValueError(
            f"{path}: card of schema {card['schema_version']}, this version reads {CARD_SCHEMA_VERSION}. Train again."
        )
    if card["feature_names"] != list(FEATURE_NAMES):
        raise ValueError(
            f"{path}: the model takes {card['feature_names']}, this version gives {list(FEATURE_NAMES)}. Train again."
        )
    if fault := _fault(card):
        raise ValueError(f"{path}: not a model card: {fault}. Train the model again.")
    return card


def _fault(card: dict[str, Any]) -> str | None:
    """What is wrong with the values of a card that has all its fields; None if nothing is."""
    n = len(FEATURE_NAMES)
    for name, length in (("feature_mean", n), ("feature_scale", n), ("law", n + 1)):
        if not (isinstance(card[name], list) and len(card[name]) == length and all(map(_is_number, card[name]))):
            return f"{name} must be {length} numbers, found {card[name]!r}"
    if min(card["feature_scale"]) <= 0:
        return f"feature_scale must be above 0, found {card['feature_scale']!r}"
    if not _is_number(card["residual_scale"]):
        return f"residual_scale must be a number, found {card['residual_scale']!r}"
    ranges, errors = card["range"], card["errors"]
    if not (isinstance(ranges, dict) and set(ranges) == set(columns(RunConfig))):
        return f"range must name {', '.join(columns(RunConfig))}"
    if not all(isinstance(r, list) and len(r) == 2 and all(map(_is_number, r)) for r in ranges.values()):
        return f"range must hold a lowest and a highest value each, found {ranges!r}"
    if not (isinstance(card["conditions"], dict) and set(card["conditions"]) == set(columns(Conditions))):
        return f"conditions must name {', '.join(columns(Conditions))}"
    if not (isinstance(errors, dict) and {"mape", "p90_ape", "mae", "split", "n"} <= errors.keys()):
        return "errors must hold mape, p90_ape, mae, split and n"
    return None if isinstance(card["created_utc"], str) else "created_utc must be a time"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _read_network(data: bytes, path: Path) -> Network:
    """The stacked dense layers of a `.keras` file, in the order that they are applied."""
    import h5py

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        config = json.loads(archive.read("config.json"))
        weights = archive.read("model.weights.h5")
    layers = [layer["class_name"] for layer in config["config"]["layers"]]
    n_dense = layers.count("EinsumDense")
    if layers != ["InputLayer", "RepeatVector", *["EinsumDense"] * n_dense, "Reshape"]:
        raise ValueError(f"{path}: not a time model of this version: its layers are {', '.join(layers)}.")
    with h5py.File(io.BytesIO(weights)) as file:  # Keras names saved layers by class, counting from the second on
        names = [f"layers/einsum_dense{f'_{i}' if i else ''}/vars" for i in range(n_dense)]
        kernels = tuple(np.asarray(file[f"{name}/0"], np.float64) for name in names)
        biases = tuple(np.asarray(file[f"{name}/1"], np.float64) for name in names)
    return Network(kernels, biases)


def load_model(path: Path) -> SavedModel:
    """A saved time model, checked against its card.

    Raises:
        FileNotFoundError: if the model or its card is missing.
        ValueError: if the file is not the one that the card describes, or takes other features than ours.
    """
    path = path.absolute()
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such model. Train one: epochcast train --model {path}") from None
    card = _read_card(card_path(path))
    if hashlib.sha256(data).hexdigest() != card["keras_sha256"]:
        raise ValueError(
            f"{path}: not the file that {card_path(path).name} describes (SHA-256 differs). Train it again."
        )
    if card["activation"] != "silu":
        raise ValueError(f"{path}: activation {card['activation']!r} is not known to this version. Train it again.")
    try:
        network = _read_network(data, path)
    except (zipfile.BadZipFile, json.JSONDecodeError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"{path}: not a Keras model file: {error}. Train it again.") from None
    time_model = TimeModel(
        network,
        np.array(card["feature_mean"], np.float64),
        np.array(card["feature_scale"], np.float64),
        np.array(card["law"], np.float64),
        card["residual_scale"],
    )
    return SavedModel(path, card, time_model)


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The model that answers, and why it and no other."""

    model: SavedModel
    reason: str


def choose_model(
    config: RunConfig | None = None, path: Path | None = None, conditions: Conditions | None = None
) -> Choice:
    """The model for a request: `path`, else a local one of this box that holds it in range, else the pretrained one.

    Among several local ones the newest answers; a model or card that is broken is passed over and named. With `config`
    None range is not asked for. With `conditions`, those of a table that the answer is used beside, only a model
    learned under the same ones answers.

    Raises:
        FileNotFoundError, ValueError: if `path` is no sound model, or no model fits the conditions.
    """
    if path is not None:
        saved = load_model(path)
        if conditions is not None and (differing := _contradictions(saved.conditions, conditions)):
            raise ValueError(f"{path}: learned under other conditions than the table's: {differing}. Name another.")
        return Choice(saved, "named by --model")
    box = box_device_name()
    found: list[tuple[str, SavedModel]] = []
    reasons = []
    for card_file in sorted(models_dir().glob("*.json")):
        try:
            card = _read_card(card_file)
            if conditions is None and (device := card["conditions"]["device_name"]) != box:
                reasons.append(f"{card_file.stem} is of {device or 'an unknown device'}")
                continue
            saved = load_model(card_file.with_suffix(".keras"))
        except (ValueError, FileNotFoundError) as error:
            reasons.append(f"passed over: {error}")
            continue
        if conditions is not None and saved.conditions != conditions:
            reasons.append(f"{card_file.stem} was learned under other conditions")
        elif config is not None and (outside := saved.outside(config)):
            reasons.append(f"{card_file.stem} was not trained on {', '.join(outside)}")
        else:
            found.append((card["created_utc"], saved))
    if found:
        what = f"local model of this box ({box})" if conditions is None else "local model of the table's conditions"
        return Choice(max(found, key=lambda pair: pair[0])[1], f"the newest {what}")
    why = "; ".join(reasons) or f"none in {models_dir()}"
    if conditions is not None:
        raise ValueError(f"no model of the table's conditions ({why}). Train one: epochcast train, or name --model.")
    return Choice(load_model(pretrained_dir() / "a100.keras"), f"the pretrained model, as no local one fits: {why}")


def _contradictions(one: Conditions, other: Conditions) -> str:
    """The conditions that are known in both and differ, in words; what one does not know is no contradiction."""
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in columns(Conditions)}
    return ", ".join(f"{n} {a}, not {b}" for n, (a, b) in pairs.items() if a != b and a is not None and b is not None)
