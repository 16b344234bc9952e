"""What a question asks: fields with value, place, and whether assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class QueryError(ValueError):
    """A question that cannot be answered; the message says why, and what could be meant."""


class Span(NamedTuple):
    """A part of a text, from `start` up to but without `end`."""

    start: int
    end: int

    def of(self, text: str) -> str:
        return text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A value of a question; `span` is where the text says it, None where nothing does."""

    value: T
    span: Span | None
    is_assumed: bool = False
    note: str | None = None  # why this value

    def to_json(self) -> dict[str, Any]:
        span = None if self.span is None else list(self.span)
        return {"value": self.value, "span": span, "is_assumed": self.is_assumed, "note": self.note}


@dataclass(frozen=True, slots=True)
class Query:
    """A question about one training; None is what it does not say."""

    text: str
    benchmark: Found[str]
    device: Found[str]  # `Gpu.name` of the facts
    count: Found[int]  # GPUs in all
    nodes: Found[int] | None
    batch_size: Found[int] | None  # global
    tdp_w: Found[float] | None  # the board's power limit, where the text says one
    regions: tuple[Found[str], ...]  # `Region.code` of the facts
    unread: tuple[str, ...]  # words that no field is taken from

    @property
    def found(self) -> dict[str, Found[Any]]:
        """The fields that have a value, by name; of several regions `region`, `region_2` ..."""
        named: dict[str, Found[Any] | None] = {
            "benchmark": self.benchmark,
            "device": self.device,
            "count": self.count,
            "nodes": self.nodes,
            "batch_size": self.batch_size,
            "tdp_w": self.tdp_w,
        }
        named |= {f"region_{i}" if i > 1 else "region": each for i, each in enumerate(self.regions, 1)}
        return {name: each for name, each in named.items() if each is not None}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, and what else a reader should know."""
        return tuple(each.note for each in self.found.values() if each.note is not None)

    def to_json(self) -> dict[str, Any]:
        fields = ("benchmark", "device", "count", "nodes", "batch_size", "tdp_w")
        values = {name: getattr(self, name) for name in fields}
        return {
            "text": self.text,
            **{name: None if each is None else each.to_json() for name, each in values.items()},
            "regions": [each.to_json() for each in self.regions],
            "unread": list(self.unread),
        }
