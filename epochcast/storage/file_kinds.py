"""What kind of file stands at a path, so that no output replaces a file of another kind: measurements above all."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from epochcast.schema import AXIS_NAMES, RunConfig, RunSpec

START_BYTES = 1 << 16
MOST_BYTES = 1 << 26  # of a JSON file that is read whole; a longer one is never replaced
PLAN_SCRIPT_MARK = "# Nothing here watches the budget; `epochcast run_plan` does."  # stands in every script of a plan
REPORT_TITLE = "# How well the time model predicts"  # begins the report of an evaluation
GZIP = b"\x1f\x8b"  # begins every such file (RFC 1952)
TABLE_KINDS = {  # by the name of the record that a row is
    "RunRecord": "a table of runs",
    "FailureRecord": "a table of failed runs",
    "Exclusion": "a list of runs taken back",
    "AggRow": "a table of averages",
    "FitRecord": "a table of estimates and fits",
    "MlperfRecord": "a table of MLPerf runs",
}
_MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF file",
    b"PK\x03\x04": "a .keras or zip file",
    GZIP: "a gzip file",
}
# of a CSV file by its first columns, the longer ones first
_TABLES = {
    ("timestamp_utc", "tf_version", "depth"): TABLE_KINDS["RunRecord"],
    ("timestamp_utc", "run_id", "grid_id"): TABLE_KINDS["FailureRecord"],
    ("timestamp_utc", "kind", "run_id"): TABLE_KINDS["FitRecord"],
    ("run_id", "reason", "date"): TABLE_KINDS["Exclusion"],
    ("round", "submitter", "system", "benchmark"): TABLE_KINDS["MlperfRecord"],
    ("run_id", *AXIS_NAMES, "epochs", "params", "overhead_sec"): "the runs of a plan",
    (*AXIS_NAMES, "params"): TABLE_KINDS["AggRow"],
    (*AXIS_NAMES, "measured_sec", "repeat"): "a table of predictions",
}
_CONFIG_COLUMNS = tuple(field.name for field in fields(RunConfig))
_SPEC_COLUMNS = frozenset(field.name for field in fields(RunSpec))
# of a JSON object by a name that only this kind has
_OBJECTS = {
    "row": "the kept JSON of a finished run",
    "card_sha256": "a model card",
    "agg_sha256": "the source record of a table of averages",
    "event": "a ledger",  # its first line has a plan_id too
    "plan_id": "a plan",
    "learning_curves": "the report of an evaluation",
}
_TRIAL = frozenset({"params", "user_attrs"})
_CARD_LINES = ("library_name: keras\n", "\nkeras_sha256: ")  # in the front matter of a model's Markdown


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is, in words; of JSON that is known by no name of ours, the names that it has."""

    words: str
    names: frozenset[str] | None = None

    def may_replace(self, found: Kind) -> bool:
        """Whether a file is an older one of this kind: of a report by its names, of which one may lack some."""
        if self.names is None or found.names is None:
            return self == found
        has_shared = bool(self.names & found.names)
        return self.words == found.words and has_shared and (self.names <= found.names or found.names <= self.names)


def is_json(start: bytes) -> bool:
    """Return whether bytes begin as a JSON object or list does."""
    return start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")


def kind_of(data: bytes) -> Kind:
    """The kind of a file, from its bytes: of JSON all of them, of another file the first ones."""
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            return Kind(kind)
    if is_json(data):
        return _json_kind(data)
    start = data[:START_BYTES]
    if b"\0" in start and b"\0" in start.partition(b"\n")[0]:  # in a table's cell it may stand
        return Kind("a binary file")
    text = start.removeprefix(b"\xef\xbb\xbf").decode(errors="replace").lstrip()
    if text.startswith("<"):
        return Kind("an SVG or HTML file")
    line = text.splitlines()[0] if text else ""
    if line.startswith("#!"):
        return Kind("the script of a plan" if f"\n{PLAN_SCRIPT_MARK}\n" in text else "a script")
    if line == "---":
        front = text.partition("\n---\n")[0]
        is_ours = all(part in front for part in _CARD_LINES)
        return Kind("a model card for people" if is_ours else "a page with a head of its own")
    if line in (REPORT_TITLE, "```"):
        return Kind("a report")
    return _table_kind(line)


def _table_kind(line: str) -> Kind:
    columns = tuple(name.strip().strip('"') for name in line.split(","))
    for first, kind in _TABLES.items():
        if columns[: len(first)] == first:
            return Kind(kind)
    if columns[: len(_CONFIG_COLUMNS)] == _CONFIG_COLUMNS and _SPEC_COLUMNS.issuperset(columns):
        return Kind("a list of configurations")
    if len(columns) > 1:
        return Kind(f"a table of {', '.join(columns[:3])[:100]}")
    return Kind("a text file")


def _json_kind(data: bytes) -> Kind:
    """Of an object its names decide, of a list those of all its objects; of JSON lines those of the first one."""
    text = data.decode("utf-8-sig", errors="replace")
    for part in (text, text.lstrip().partition("\n")[0]):
        try:
            value: Any = json.loads(part)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, list):
            objects = [frozenset(item) if isinstance(item, dict) else frozenset() for item in value]
            if all(names == _TRIAL for names in objects):
                return Kind("a list of trials")
            return Kind("a list in JSON", frozenset().union(*objects))
        names = frozenset(value)
        own = next((kind for name, kind in _OBJECTS.items() if name in names), None)
        return Kind("a JSON file", names) if own is None else Kind(own)
    return Kind("broken JSON", frozenset())
