"""Overhead and first epoch of runs that did not measure theirs: from other rows, the model's card, or an assumption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from epochcast.facts.assumptions import assumption, device_kind_of
from epochcast.interval import Interval
from epochcast.model.time_model.saved_model import SavedModel
from epochcast.model.time_model.startup import Excess, Overhead, whole_run
from epochcast.model.training.fit_startup import fit_excess, fit_overhead
from epochcast.output.text import significant
from epochcast.schema import AggRow, RunConfig

_SEED = 0  # of the folds behind the widths of what stands in for unmeasured parts
_Part = TypeVar("_Part", Overhead, Excess)


@dataclass(frozen=True, slots=True)
class StartUp:
    """What stands in for an overhead or an excess that was not measured, each with the words for where it is from."""

    overhead: Overhead | float
    overhead_words: str
    excess: Excess | float
    excess_words: str

    @classmethod
    def of(cls, rows: Sequence[AggRow], saved: SavedModel | None, device_name: str | None) -> StartUp:
        """From the rows, else from the model's card, else from the assumptions."""

        def chosen(name: str, own: _Part | None, card: _Part | None) -> tuple[_Part | float, str]:
            if own is not None:
                if own.widths.within is None and card is not None:  # too few rows to tell their error: the card's
                    own = _with_error_of(own, card)
                return own, _of_rows(own, f"{own.n} measured rows")
            if card is not None:
                assert saved is not None
                return card, _of_rows(card, f"{card.n} rows behind {saved.path.name}")
            fact = assumption(name, device_kind_of(device_name))
            words = f"an assumption for a {fact.device_kind}: {fact.source} ({fact.date})"
            return fact.value, f"{significant(fact.value)} s, {words}"

        overhead = chosen("overhead_sec", fit_overhead(rows), None if saved is None else saved.overhead)
        excess = chosen("first_epoch_excess_sec", fit_excess(rows, _SEED), None if saved is None else saved.excess)
        return cls(*overhead, *excess)

    def overhead_of(self, domain: str) -> Interval:
        """Return the overhead of a configuration at a domain of the model's range."""
        if isinstance(self.overhead, Overhead):
            return self.overhead.interval(domain)
        return Interval(self.overhead)

    def first_epoch_of(self, config: RunConfig, steady: Interval, domain: str) -> Interval:
        """Return the first epoch of a configuration at a domain of the model's range."""
        if not isinstance(self.excess, Excess):
            return Interval(self.excess + steady.value)
        first_epoch = whole_run(config, steady, domain, self.excess, None).first_epoch
        assert first_epoch is not None
        return first_epoch


def _with_error_of(own: _Part, card: _Part) -> _Part:
    if isinstance(own, Excess) and isinstance(card, Excess):
        return replace(own, widths=card.widths, range=card.range)
    return replace(own, widths=card.widths)


def _of_rows(part: Overhead | Excess, rows: str) -> str:
    if isinstance(part, Excess) and part.law is not None:
        return f"about {significant(part.median)} s, as the {rows} tell for each configuration"
    return f"{significant(part.median)} s, the median of {rows}"
