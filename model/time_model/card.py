"""A saved model's JSON card: read strictly, and refused when it was edited."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epochcast.model.time_model.card_check import FIELDS, card_fault
from epochcast.storage.json_files import read_json

CARD_SCHEMA_VERSION = 2
_WANTED = FIELDS | {"schema_version", "card_sha256"}


def card_path(model: Path) -> Path:
    """Return the path of the JSON card of a `.keras` file."""
    return model.with_suffix(".json")


def markdown_path(model: Path) -> Path:
    """Return the path of the card for people of a `.keras` file."""
    return model.with_suffix(".md")


def card_sha256(card: Mapping[str, Any]) -> str:
    """Return the hash of everything in a card but the hash itself."""
    said = {name: value for name, value in card.items() if name != "card_sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read_card(path: Path) -> dict[str, Any]:
    """Return a card, checked.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is no card of this version, or not as it was written.
    """
    again = "Train the model again."
    try:
        card = read_json(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: a model without its card can't be trusted. Train it again.") from None
    except ValueError as error:
        why = str(error).removeprefix(f"{path.absolute()}: ").rstrip(".")
        raise ValueError(f"{path}: not a model card: {why}. {again}") from None
    if not isinstance(card, dict):
        raise ValueError(f"{path}: not a model card: it holds no JSON object. {again}")
    if (version := card.get("schema_version")) != CARD_SCHEMA_VERSION:
        found = " ".join(str(version)[:20].split())
        raise ValueError(f"{path}: card of schema {found}, this version reads {CARD_SCHEMA_VERSION}. {again}")
    if missing := sorted(_WANTED - card.keys()):
        raise ValueError(f"{path}: not a model card: {', '.join(missing)} missing. {again}")
    if card["card_sha256"] != card_sha256(card):
        raise ValueError(f"{path}: edited since it was written (SHA-256 differs). {again}")
    if (fault := card_fault(card)) is not None:
        raise ValueError(f"{path}: not a model card: {fault}. {again}")
    return card
