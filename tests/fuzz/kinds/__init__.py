"""The kinds of inputs, and how many tries of a thousand each is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from tests.fuzz.box import Box
from tests.fuzz.kinds import events, flags, models, plans, tables
from tests.fuzz.oracles import Call


@dataclass(frozen=True)
class Kind:
    """A kind of input: `make` writes one into the box and yields the calls that it is tried with."""

    name: str
    share: float
    make: Callable[[Random, Box], Iterator[Call]]
    needs_keras: bool = False


KINDS = {
    kind.name: kind
    for kind in (
        Kind("runs", 170, tables.runs),
        Kind("fits", 20, tables.fits),
        Kind("failures", 90, tables.failures),
        Kind("averages", 110, tables.averages),
        Kind("cards", 110, models.cards),
        Kind("keras", 70, models.keras_files),
        Kind("networks", 25, models.networks, needs_keras=True),
        Kind("plans", 80, plans.plans),
        Kind("ledgers", 80, plans.ledgers),
        Kind("kept", 70, plans.kept_runs),
        Kind("configs", 70, plans.configs),
        Kind("flags", 55, flags.flags, needs_keras=True),
        Kind("events", 50, events.events),
    )
}


def schedule(names: list[str], n: int) -> list[tuple[str, int]]:
    """`n` tries of the kinds named, as (kind, number), evenly mixed so that a time limit cuts all kinds alike."""
    whole = sum(KINDS[name].share for name in names)
    counts = {name: max(1, round(n * KINDS[name].share / whole)) for name in names}
    tries = [((number + 0.5) / count, name, number) for name, count in counts.items() for number in range(count)]
    return [(name, number) for _, name, number in sorted(tries)]
