"""Layer records of the networks, read by the project's own reader and kept between calls."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from multiprocessing import get_context
from pathlib import Path

from benchmarks.external.networks import ALL, Network
from epochcast.paths import PACKAGE, home
from epochcast.roofline.roofline import LayerRecord
from epochcast.storage.files import write_text_atomically

Records = tuple[LayerRecord, ...]
PROCESSES, WORTH_PROCESSES = 2, 8  # from so many networks on


def records_dir() -> Path:
    """Return where records are kept."""
    return home() / "results" / "benchmarks" / "external_records"


def record_path(name: str, size: int) -> Path:
    """Return the file of a network's records; another one after any change of what makes them."""
    digest = hashlib.sha256(f"{ALL[name]} {[f.name for f in fields(LayerRecord)]}".encode())
    builders = Path(__file__).with_name("builders")
    module = builders / f"{ALL[name].builder.partition('.')[0]}.py"
    makers = [builders / "blocks.py", *sorted((PACKAGE / "keras_layers").glob("*.py"))]
    for path in [*makers, *([module] if module.exists() else [])]:
        digest.update(path.read_bytes())
    return records_dir() / f"{name}_{size}_{digest.hexdigest()[:12]}.json"


def records_of(wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Records]:
    """Return the records of each network at each size; those not kept yet are built."""
    paths = {each: record_path(*each) for each in sorted(set(wanted))}
    missing = [each for each, path in paths.items() if not path.exists()]
    records_dir().mkdir(parents=True, exist_ok=True)
    if len(missing) < WORTH_PROCESSES:
        for each in missing:
            _make(*each)
    else:  # each starts Keras, which takes as long as building a few
        with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
            made = [pool.submit(_make, *each) for each in missing]
            for i, (each, done) in enumerate(zip(missing, made, strict=True), 1):
                done.result()
                print(f"built {i} of {len(missing)}: {each[0]} for {each[1]}", file=sys.stderr, flush=True)
    return {each: _kept(path) for each, path in paths.items()}


def _make(name: str, size: int) -> None:
    """Build a network and keep its records."""
    values = [list(asdict(record).values()) for record in read(ALL[name], size)]
    write_text_atomically(record_path(name, size), json.dumps(values))


def _kept(path: Path) -> Records:
    rows = json.loads(path.read_text(encoding="utf-8"))
    return tuple(LayerRecord(*(tuple(value) if isinstance(value, list) else value for value in row)) for row in rows)


def read(network: Network, size: int) -> Records:
    """Return a network's records, from weights that have shapes but no numbers.

    Raises:
        ValueError: if the reader does not know all of its layers.
    """
    from epochcast.keras_layers.read_layers import read_layers
    from epochcast.machine.framework import keras_on_cpu

    keras = keras_on_cpu()
    keras.backend.clear_session()
    with keras.StatelessScope(initialize_variables=False):
        layers = read_layers(network.build(size))
    if layers.unknown or layers.partial:
        raise ValueError(f"{network.builder}: not read: {', '.join((*layers.unknown, *layers.partial))}")
    return layers.records


def trained_params(records: Iterable[LayerRecord]) -> int:
    """Return the parameters that a training changes, those of a shared layer once."""
    return sum(record.trainable_params for record in records if not record.is_repeat)
