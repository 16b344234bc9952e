"""A saved network for any batch size and precision, and how it is kept."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from epochcast.machine.packages import backend_name, installed
from epochcast.paths import PACKAGE, cache_dir
from epochcast.roofline.network import TrainedNetwork
from epochcast.roofline.roofline import LayerRecord
from epochcast.storage.files import sha256_of
from epochcast.storage.private_folder import make_private_folder, read_private
from epochcast.storage.temporary_files import temporary_file_for

MOST_KEPT = 100  # files; the oldest go
READERS = ("keras_files", "keras_layers", "roofline")  # packages whose code makes the records
RECURRENT_NOTE = (
    "recurrent layers at least: weights read once, and one launch for all steps where a GPU's cuDNN takes them; on a "
    "processor each step is a launch"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FileNetwork:
    """A network as its file has it."""

    name: str  # of the file
    records: tuple[LayerRecord, ...]
    unknown: tuple[str, ...]  # layers that no rule knows, by name and class
    partial: tuple[str, ...]  # layers that are counted in part
    policies: tuple[str, ...]  # precisions
    batch: int | None  # that it is saved for
    left_out: tuple[str, ...]  # what is not counted and no layer
    optimizer: str
    passes: int  # over the parameters
    optimizer_notes: tuple[str, ...]

    def trained(self, batch_size: int, images: int, precision: str) -> TrainedNetwork:
        """Return it in training, with notes on what its file says differently."""
        return TrainedNetwork(
            self.name,
            self.records,
            batch_size,
            images,
            precision,
            self.optimizer,
            self.passes,
            self.unknown,
            tuple(self._notes(batch_size, precision)),
            is_cnn=False,
        )

    def _notes(self, batch_size: int, precision: str) -> list[str]:
        notes = [f"counted in part, by the layers inside: {', '.join(self.partial)}"] if self.partial else []
        if self.left_out:
            notes.append(f"not counted: {', '.join(self.left_out)}")
        if any(record.kind == "recurrent" for record in self.records):
            notes.append(RECURRENT_NOTE)
        if set(self.policies) - {precision}:
            notes.append(f"it was saved in {', '.join(self.policies)} and is explained in {precision}")
        if self.batch not in (None, batch_size):
            notes.append(
                f"its file fixes the batch size at {self.batch}: each sample is counted as there, {batch_size} a step"
            )
        return [*notes, *self.optimizer_notes]

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> FileNetwork:
        """Return it from what `asdict` made of it."""
        of: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in values.items()}
        of["records"] = tuple(
            LayerRecord(**{**each, "output_shape": tuple(each["output_shape"])}) for each in values["records"]
        )
        return cls(**of)


# --- kept -------------------------------------------------------------------------------------------------------------


def kept_path(path: Path, *asked: Any) -> Path:  # Any: JSON values
    """Return where a file's network is kept, by all that reading depends on.

    Raises:
        OSError: if the file can't be read.
    """
    by = [sha256_of(path), path.name, _reader_digest(), installed("keras"), backend_name(), *asked]
    return cache_dir() / "networks" / f"{hashlib.sha256(json.dumps(by).encode()).hexdigest()[:32]}.network"


def kept_network(file: Path) -> FileNetwork | None:
    """Return the network in a file of the cache; None without one that is whole."""
    try:
        digest, _, values = read_private(file).partition(b"\n")
    except OSError:
        return None
    if digest != _digest(values):
        return None  # it is read anew, and kept over what is broken
    return FileNetwork.of_json(json.loads(values))


def keep_network(file: Path, network: FileNetwork) -> None:
    """Keep a network, or warn where nothing can be written or others can write."""
    try:
        make_private_folder(file.parent)
        with temporary_file_for(file) as (stream, temporary):  # also over one that is broken
            values = json.dumps(asdict(network)).encode()
            stream.write(_digest(values) + b"\n" + values)
            stream.flush()
            temporary.replace(file)
        kept = sorted(file.parent.glob("*.network"), key=lambda each: each.stat().st_mtime)
        for old in kept[:-MOST_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        _warn_not_kept(file.parent, str(error.strerror or error))


def _digest(values: bytes) -> bytes:
    return hashlib.sha256(values).hexdigest().encode()


@functools.cache  # once for a folder
def _warn_not_kept(folder: Path, why: str) -> None:
    logger.warning(
        "%s: cannot keep what was read of a network (%s), so every command reads it again. "
        "Set EPOCHCAST_CACHE_DIR to a folder that you can write, and nobody else.",
        folder,
        why,
    )


def _reader_digest() -> str:
    """Return a digest of the code that makes records: other rules read another network."""
    digest = hashlib.sha256()
    for folder in READERS:
        for source in sorted((PACKAGE / folder).glob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()
