"""What kind of file stands at a path, so that no output replaces a file of another kind: measurements above all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

START_BYTES = 1 << 16
GZIP = b"\x1f\x8b"  # begins every such file (RFC 1952)
TABLE_KINDS = {  # by the name of the record that a row is
    "RunRecord": "a table of runs",
    "FailureRecord": "a table of failed runs",
    "Exclusion": "a list of runs taken back",
    "AggRow": "a table of averages",
}
_MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF file",
    b"PK\x03\x04": "a .keras or zip file",
    GZIP: "a gzip file",
    b"#!": "a script",
    b"---\n": "a model card for people",
}
# of a CSV file by its first columns, the longer ones first
_TABLES = {
    ("timestamp_utc", "tf_version", "depth"): TABLE_KINDS["RunRecord"],
    ("timestamp_utc", "run_id", "grid_id"): TABLE_KINDS["FailureRecord"],
    ("run_id", "reason", "date"): TABLE_KINDS["Exclusion"],
    ("depth", "base_filters", "batch_size", "params"): TABLE_KINDS["AggRow"],
    ("depth", "base_filters", "batch_size"): "a list of configurations",
}
# of a JSON object by a name that only this kind has
_OBJECTS = {
    "row": "the kept JSON of a finished run",
    "card_sha256": "a model card",
    "agg_sha256": "the source record of a table of averages",
    "event": "a ledger",  # its first line has a plan_id too
    "plan_id": "a plan",
}


def refuse_another_kind(path: Path, data: bytes) -> None:
    """Raise unless `data` may replace what stands at `path`: nothing, an empty file, or a file of the same kind.

    Raises:
        ValueError: names both kinds.
    """
    from epochcast.files import naming, open_regular, read_some  # which imports this

    try:
        with naming(path), open_regular(path) as file:
            start = read_some(file, START_BYTES)
            is_whole = not read_some(file, 1)
    except FileNotFoundError:
        return
    if not start.strip():
        return
    found, new = kind_of(start, is_whole), kind_of(data[:START_BYTES], len(data) <= START_BYTES)
    if found != new:
        raise ValueError(
            f"{path} is {found}, and is not replaced by {new}. Name another file, or move this one away first."
        )


def kind_of(start: bytes, is_whole: bool) -> str:
    """The kind of a file, in words, from its first bytes."""
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    if b"\0" in start:
        return "a binary file"
    text = start.removeprefix(b"\xef\xbb\xbf").decode(errors="replace").lstrip()
    if text.startswith("<"):
        return "an SVG or HTML file"
    if text.startswith(("{", "[")):
        return _json_kind(text, is_whole)
    line = text.splitlines()[0] if text else ""
    columns = tuple(name.strip().strip('"') for name in line.split(","))
    for first, kind in _TABLES.items():
        if columns[: len(first)] == first:
            return kind
    return f"a table of {', '.join(columns[:3])}" if len(columns) > 1 else "a text file"


def _json_kind(text: str, is_whole: bool) -> str:
    names = _names(text, is_whole)
    return next((kind for name, kind in _OBJECTS.items() if name in names), "a JSON file")


def _names(text: str, is_whole: bool) -> frozenset[str]:
    """The names of a JSON object, or of the first of JSON lines; of a long file those in its first bytes."""
    for part in (text, text.splitlines()[0]):
        try:
            value: Any = json.loads(part)
        except (ValueError, RecursionError):
            continue
        return frozenset(value) if isinstance(value, dict) else frozenset()
    if is_whole:
        return frozenset()
    return frozenset(
        name for name in _OBJECTS if f'\n "{name}":' in text
    )  # outermost names, as json_bytes indents them
