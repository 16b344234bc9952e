"""A saved model's three files, which change as one: network, JSON card, card for people.

A new network is first written under a hidden name; replacing the JSON card is what makes it the model; then the cards
for people and the network's own name follow. A reader that finds a card whose network still waits takes that one, and
brings the rest to an end where it may write. So nothing that was killed, and no other training at the same time, leaves
a card that vouches for another network, or a model that can't be read.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import shlex
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from epochcast.model.time_model.card import card_path, markdown_path, read_card
from epochcast.model.time_model.card_text import markdown
from epochcast.storage.files import (
    json_bytes,
    make_folder,
    read_bytes,
    refuse_another_kind,
    sync_folder,
    write_bytes_atomically,
)
from epochcast.storage.locks import NoLocksError

logger = logging.getLogger(__name__)

NETWORK_NAME = "log_time"  # of the Keras model within a time model's file


def waiting_path(model: Path) -> Path:
    """Where a new network waits for its card."""
    return model.with_name(f".{model.name}.new")


def save_model(path: Path, network: bytes, card: Mapping[str, Any]) -> None:
    """Replace a model and its cards: whatever comes between, the old or the new model is read, never a mixture.

    Raises:
        ValueError: if a file that is no model of ours stands in the way; nothing is changed then.
        OSError: if the files can't be written.
    """
    path = path.absolute()
    text, readable = json_bytes(card), markdown(card, path.stem).encode()
    make_folder(path.parent)
    is_card_broken = _refuse_what_is_not_ours(path, text, readable)
    with _lock(path):
        _bring_to_an_end(path)  # else the network that a card already stands for would be overwritten
        write_bytes_atomically(waiting_path(path), network)
        if is_card_broken:
            card_path(path).unlink(missing_ok=True)  # it would be taken for a file of another kind
        write_bytes_atomically(card_path(path), text)
        write_bytes_atomically(markdown_path(path), readable)
        _rename(path)


def read_pair(path: Path) -> tuple[bytes, dict[str, Any]]:
    """A model's network and the card that is of it.

    Raises:
        FileNotFoundError: if the model or its card is missing.
        OSError: if a file can't be read.
        ValueError: if the card is wrong, or of another network.
    """
    before = None
    while True:
        data, waiting = _read_if_any(path), _read_if_any(waiting_path(path))
        if data is None and waiting is None:
            raise _no_such_model(path)
        card = read_card(card_path(path))
        if data is not None and _is_of(card, data):
            return data, card
        if waiting is not None and _is_of(card, waiting):
            with contextlib.suppress(OSError, ValueError), _lock(path):  # whoever may not write reads all the same
                _bring_to_an_end(path)
            return waiting, card
        if card == before:  # read twice: nobody is about to replace it
            break
        before = card
    if data is None:
        raise _no_such_model(path)
    raise ValueError(f"{path}: not the file that {card_path(path).name} describes (SHA-256 differs). Train it again.")


def _no_such_model(path: Path) -> FileNotFoundError:
    if path.suffix != ".keras":
        return FileNotFoundError(f"{path}: no such model; the name of one ends in .keras.")
    return FileNotFoundError(f"{path}: no such model. Train one: epochcast train --model {shlex.quote(str(path))}")


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Keep other processes from writing the same model; the lock is a hidden file beside it."""
    from epochcast.storage.table_appends import locked  # only writers need the tables

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(path.with_name(f".{path.name}.lock")))
        except NoLocksError:
            logger.warning("%s: this file system has no locks: let one command at a time train there", path)
        yield


def _bring_to_an_end(path: Path) -> None:
    """Do what is left of a replacement that was killed after its card was written. The lock is held."""
    if (waiting := _read_if_any(waiting_path(path))) is None:
        return
    try:
        card = read_card(card_path(path))
    except (ValueError, FileNotFoundError):
        return
    if _is_of(card, waiting):
        write_bytes_atomically(markdown_path(path), markdown(card, path.stem).encode())
        _rename(path)


def _rename(path: Path) -> None:
    os.replace(waiting_path(path), path)  # noqa: PTH105  # as in migrate: a seam that tests kill at
    sync_folder(path.parent)


def _is_of(card: Mapping[str, Any], network: bytes) -> bool:
    return bool(card["keras_sha256"] == hashlib.sha256(network).hexdigest())


def _read_if_any(path: Path) -> bytes | None:
    try:
        return read_bytes(path)
    except FileNotFoundError:
        return None


def _refuse_what_is_not_ours(path: Path, card: bytes, readable: bytes) -> bool:
    """Raise a ValueError where a user's network, or another file, stands where a model's files go.

    True where what stands as the card of a network of ours is none: a damaged one.
    """
    found = _read_if_any(path)
    is_ours = _is_time_model(found)
    if found and not is_ours and not card_path(path).exists():
        raise ValueError(
            f"{path} is no time model of ours: it has no card, and is not replaced. Name another with --model, or move "
            "it away first."
        )
    refuse_another_kind(markdown_path(path), readable)
    try:
        refuse_another_kind(card_path(path), card)
    except ValueError:
        if not is_ours:
            raise
        return True
    return False


def _is_time_model(data: bytes | None) -> bool:
    """Whether a file is the network of a time model, as `model.training.time_ann` saves it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data or b"")) as archive, archive.open("config.json") as file:
            return f'"name": "{NETWORK_NAME}"' in file.read(1 << 20).decode(errors="replace")
    except (zipfile.BadZipFile, LookupError, ValueError, RuntimeError, EOFError, OSError):
        return False
