"""Filters of rows by NAME=VALUE pairs, as a flag gives them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from epochcast.storage.cells import shown


def filter_of(text: str) -> dict[str, str]:
    """Return the pairs of a filter such as `depth=3,base_filters=32`; every pair must hold.

    Of a repeated flag, a row has to satisfy one filter.
    """
    return _pairs(text, "repeat the flag for either")


def conditions_of(text: str) -> dict[str, str]:
    """Return the pairs of conditions such as `backend=jax,tf32=on`.

    Every pair must hold, of a repeated flag too (`epochcast.cli.AllPairs`).
    """
    return _pairs(text, "one value can hold")


def _pairs(text: str, remedy: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in text.split(","):
        name, separator, value = part.partition("=")
        if not separator or not name.strip():
            raise argparse.ArgumentTypeError(f"expected NAME=VALUE[,NAME=VALUE...], got {shown(text)}")
        if name.strip() in pairs:
            raise argparse.ArgumentTypeError(f"{name.strip()} stands twice in {shown(text)}; {remedy}")
        pairs[name.strip()] = value.strip()
    return pairs


def matches(row: Any, filters: Iterable[Mapping[str, str]]) -> bool:
    """Return whether a record satisfies all pairs of at least one filter.

    An empty value asks for unknown.

    Raises:
        ValueError: if a filter names something that the record does not have.
    """
    is_match = False
    for pairs in filters:
        for name in pairs:
            if not hasattr(row, name):
                raise ValueError(f"no column {name!r} to filter by; use one of {', '.join(type(row).__slots__)}.")
        is_match |= all(_as_text(getattr(row, name)) == value for name, value in pairs.items())
    return is_match


def _as_text(value: Any) -> str:
    return "" if value is None else str(value)
