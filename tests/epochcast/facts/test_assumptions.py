"""The assumed values: every one has a unit, a source and a reader."""

from __future__ import annotations

import ast
import csv
import math
import re
from collections.abc import Iterator
from dataclasses import fields

import pytest

from epochcast.facts.assumptions import Assumption, assumption, device_kind_of
from epochcast.paths import CODE_ROOT

TABLE = CODE_ROOT / "epochcast" / "data" / "assumptions.csv"
READERS = ("epochcast", "workload", "collect", "aggregate", "model", "planner", "benchmarks")


def rows():
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_says_what_it_is_of_in_which_unit_and_who_says_so():
    with TABLE.open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)) == [field.name for field in fields(Assumption)]
    for row in rows():
        assert None not in row and None not in row.values(), f"{row['name']}: another number of cells than the header"
        assert row["name"].isidentifier()
        assert row["device_kind"] in ("gpu", "cpu"), row["name"]
        assert math.isfinite(float(row["value"])), row["name"]
        assert row["unit"], row["name"]
        assert len(row["source"]) > 10, f"{row['name']}: {row['source']!r} tells of no source"
        assert row["confidence"] == ("" if row["source"].startswith("assumed") else "single"), row["name"]
        assert "placeholder" not in row["source"].lower(), row["name"]
        assert re.fullmatch(r"(\d{4}(-\d{2}(-\d{2})?)?)?", row["date"]), f"{row['name']}: {row['date']!r}"


def test_no_value_is_assumed_twice():
    keys = [(row["name"], row["device_kind"]) for row in rows()]
    assert len(set(keys)) == len(keys)


def names_read(source: str) -> Iterator[re.Pattern[str]]:
    """What a module may ask for: its texts, and what its f-strings make with its other texts in their gaps."""
    tree = ast.parse(source)
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    words = "|".join(sorted(re.escape(text) for text in texts if text.isidentifier()))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and any(isinstance(part, ast.Constant) for part in node.values):
            parts = [
                re.escape(str(part.value)) if isinstance(part, ast.Constant) else f"(?:{words}|)"
                for part in node.values
            ]
            yield re.compile("".join(parts))
    yield re.compile(words)


def patterns() -> list[re.Pattern[str]]:
    modules = [path for folder in READERS for path in sorted((CODE_ROOT / folder).rglob("*.py"))]
    sources = [path.read_text(encoding="utf-8") for path in modules]
    return [pattern for source in sources if "assumption(" in source for pattern in names_read(source)]


def test_every_assumed_value_is_read_by_some_code():
    read = patterns()
    unread = {row["name"] for row in rows() if not any(pattern.fullmatch(row["name"]) for pattern in read)}
    assert not unread, "nothing reads these: delete them"


def test_a_name_that_nothing_reads_would_be_found():
    assert not any(pattern.fullmatch("board_power_share_lowest") for pattern in patterns())
    assert any(pattern.fullmatch("embodied_kg_co2e_low") for pattern in patterns())  # put together in an f-string


def test_an_assumption_is_looked_up_by_name_and_kind():
    found = assumption("board_power_share", "gpu")
    assert (found.value, found.unit) == (0.468, "1")
    with pytest.raises(KeyError, match="no assumption 'board_power_share' for a cpu"):
        assumption("board_power_share", "cpu")


def test_the_table_is_read_once_per_process():
    assert assumption("board_power_share", "gpu") is assumption("board_power_share", "gpu")


def test_the_kind_of_a_device_is_told_by_its_name():
    assert device_kind_of("AMD EPYC (2 cores)") == "cpu"
    assert device_kind_of("NVIDIA A100 80GB PCIe") == device_kind_of(None) == "gpu"
