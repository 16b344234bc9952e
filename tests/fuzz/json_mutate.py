"""Mutations of JSON texts at any path: hostile values, names dropped, doubled or renamed, deep nesting."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.fuzz import words
from tests.fuzz.mutate import mutate_bytes, mutate_file, mutate_lines


@dataclass
class Raw:
    """A value as it stands in the text, JSON or not."""

    text: str


Pairs = list[tuple[str, Any]]


@dataclass
class Object:
    """A JSON object whose names may stand twice."""

    pairs: Pairs


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return Object([(name, _read(each)) for name, each in value.items()])
    return [_read(each) for each in value] if isinstance(value, list) else value


def _write(value: Any) -> str:
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Object):
        return "{" + ", ".join(f"{json.dumps(name)}: {_write(each)}" for name, each in value.pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_write, value)) + "]"
    return json.dumps(value)


def _places(value: Any) -> Iterator[tuple[Any, int]]:
    """Every place in a value: the list (of items or of pairs) that holds it, and its number there."""
    items = value.pairs if isinstance(value, Object) else value if isinstance(value, list) else []
    for number, item in enumerate(items):
        yield items, number
        yield from _places(item[1] if isinstance(item, tuple) else item)


def _set(items: Any, number: int, value: Any) -> None:
    items[number] = (items[number][0], value) if isinstance(items[number], tuple) else value


def _get(items: Any, number: int) -> Any:
    return items[number][1] if isinstance(items[number], tuple) else items[number]


def _shallow(draw: Random, places: list[tuple[Any, int]]) -> tuple[Any, int]:
    """A place; one near the top as often as one anywhere, since most values lie deep."""
    return draw.choice(places[:60] if draw.random() < 0.5 else places)


def mutate_json(draw: Random, data: bytes) -> bytes:
    """A JSON text with one to three values, names or items changed."""
    whole = [_read(json.loads(data))]
    for _ in range(draw.choice((1, 1, 1, 1, 2, 3))):
        places = list(_places(whole))
        items, number = _shallow(draw, places)
        other, at = _shallow(draw, places)
        how = draw.choices(range(7), (10, 2, 1, 2, 2, 2, 1))[0]
        if how == 0:
            _set(items, number, Raw(words.json_raw(draw)))
        elif how == 1:
            del items[number]
        elif how == 2:
            items.insert(number, items[number])  # a name that stands twice, or an item
        elif how == 3 and isinstance(items[number], tuple):
            items[number] = (words.text(draw) or "x", items[number][1])
        elif how == 4:
            _set(items, number, _near(draw, _get(items, number)))
        elif how == 5 and not _holds(_get(items, number), other):
            _set(other, at, _get(items, number))
        elif isinstance(items[number], tuple):
            items.insert(number, (words.text(draw) or "x", Raw(words.json_raw(draw))))
        if not whole:
            return b""
    return _write(whole[0]).encode(errors="surrogatepass") + b"\n"


def _holds(value: Any, items: Any) -> bool:
    """Whether a value contains a list: putting it there would make a circle."""
    return any(place is items for place, _ in _places([value]))


def _near(draw: Random, value: Any) -> Any:
    """A value of the same type that is not far off, or of the next type."""
    if isinstance(value, bool):
        return draw.choice((not value, int(value), str(value), None))
    if isinstance(value, int | float):
        return draw.choice((-value, 0, value * 10, value / 3, int(value), str(value), [value], value + 1, 1e9, 1e-9))
    if isinstance(value, str):
        return draw.choice((words.text(draw), value.upper(), value[:-1], value + " ", [value], None))
    if isinstance(value, list):
        return draw.choice((value * 2, value[:-1], value[::-1], Object([]), None, value[0] if value else 0))
    return draw.choice(([], Object([]), "", 0, [value]))


def mutate_json_file(draw: Random, data: bytes) -> bytes:
    return mutate_file(draw, data, mutate_json)


def mutate_json_lines(draw: Random, data: bytes) -> bytes:
    """A file of JSON lines: one of them mutated, or lines as such."""

    def one_line(draw: Random, data: bytes) -> bytes:
        lines = data.splitlines()
        i = draw.randrange(len(lines))
        lines[i] = (mutate_json if draw.random() < 0.85 else mutate_bytes)(draw, lines[i]).rstrip(b"\n")
        return b"\n".join(lines) + b"\n"

    return mutate_file(draw, data, one_line, mutate_lines)


def twice_named(data: bytes) -> str | None:
    """The first name that stands twice in an object of a JSON text; None if none does, or it is no JSON."""
    found: list[str] = []

    def look(pairs: Pairs) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        found.extend(name for name in names if names.count(name) > 1)
        return dict(pairs)

    try:
        json.loads(data, object_pairs_hook=look)
    except (ValueError, RecursionError):
        return None
    return found[0] if found else None
