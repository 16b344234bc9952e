"""What each second of a run costs in energy, money or CO2, by the rules of a footprint.

What is one configuration's own (the spread of its measured energy, that of the powers its is guessed from) enters its
error. What all runs share (the band of a power model, the spread of a price or of a grid's carbon) is kept as a band,
and what nothing tells the error of is named.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from epochcast.facts.tables import Gpu
from epochcast.footprint.footprint import (
    G_PER_KG,
    J_PER_KWH,
    SEC_PER_HOUR,
    BoardEnergy,
    Footprint,
    Rate,
    Rates,
    embodied,
    footprint,
    rates_of,
    together,
)
from epochcast.footprint.rules import FootprintRules
from epochcast.footprint.text import embodied_words, region_words, wall_words
from epochcast.gpus.lookup import known_gpu
from epochcast.interval import Interval
from epochcast.model.answers.energy import EnergyModel
from epochcast.model.answers.run_energy import MeasuredBoard, RunSeconds, measured_board, run_energy
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS
from epochcast.model.time_model.physics import device_share
from epochcast.model.time_model.saved_model import SavedModel
from epochcast.output.text import range_text, significant
from epochcast.planner.costs.budget import KGCO2, KWH, USD, BoardShare, Price, Unit
from epochcast.planner.costs.candidates import Candidate
from epochcast.schema import AggRow, Conditions
from epochcast.workload.shape import work_of

_NEARLY = 1e-9  # ends as near as that, relative to the value, differ by rounding alone
_NAME_A_PRICE = "Name a price"


def with_prices(
    candidates: Sequence[Candidate],
    unit: Unit,
    rules: FootprintRules,
    rows: Sequence[AggRow],
    conditions: Conditions,
    saved: SavedModel | None = None,
) -> tuple[list[Candidate], list[str]]:
    """The candidates, each with what its seconds cost in a unit other than seconds; notes on how that is known.

    Args:
        rules: of at most one place.
        rows: what was measured under the `conditions` that the times are of.
        saved: the model of those conditions, which knows how busy the GPU is; None: nothing does.

    Raises:
        ValueError: if energy or price is unknown, or a run costs nothing.
    """
    gpu = known_gpu(conditions.device_name)
    (rates,) = rates_of(rules, gpu)
    if unit == USD and rules.usd_per_gpu_hour is not None:
        per_sec = rules.usd_per_gpu_hour / SEC_PER_HOUR
        _refuse_nothing(per_sec, "--usd_per_gpu_hour 0", _NAME_A_PRICE)
        price = Price(Interval(per_sec, per_sec, per_sec), 0.0)
        note = f"USD are rent: {rules.usd_per_gpu_hour:g} a GPU hour, as given, from the start of a process to its exit"
        return [replace(c, price=price) for c in candidates], [note]
    if unit == USD and rates.usd_per_kwh is None:
        raise ValueError(
            f"--budget_usd: no price of electricity is on record for {rates.region.name} ({rates.region.code}). Say it "
            "with --usd_per_kwh, name a --region that has one, or plan the rent with --usd_per_gpu_hour."
        )
    pricer = _EnergyPricer(
        unit, rules, rates, EnergyModel.of(conditions, rows), measured_board(conditions.device_name), gpu, saved
    )
    priced = [replace(c, price=pricer.price(c, conditions.device_name)) for c in candidates]
    return priced, pricer.notes()


def _exactly(value: float) -> Interval:
    return Interval(value, value, value)


def _around(value: float, low: float, high: float) -> Interval:
    """A value with its ends, those that differ by rounding alone taken as the value itself."""
    return Interval(value, *(value if math.isclose(end, value, rel_tol=_NEARLY) else end for end in (low, high)))


def _is_spread(value: Interval) -> bool:
    return value.low is not None and value.high is not None and value.low < value.high


def _as_known(rates: Rates) -> Rates:
    """The rates, one without a range as if exact, so that what else is known is not lost; `_EnergyPricer` names it."""

    def known(rate: Rate) -> Rate:
        return rate if rate.value.low is not None else replace(rate, value=_exactly(rate.value.value))

    electricity = None if rates.usd_per_kwh is None else known(rates.usd_per_kwh)
    return replace(rates, g_per_kwh=known(rates.g_per_kwh), usd_per_kwh=electricity)


def _refuse_nothing(cost: float, what: str, mend: str) -> None:
    if not cost > 0:
        raise ValueError(f"{what} makes every run free: there is nothing to budget. {mend}, or plan in seconds.")


@dataclass(frozen=True, slots=True)
class _Energy:
    """Board energy of a run that takes just its expected seconds: the band all runs share, and its own error."""

    board: BoardEnergy
    sd: float | None  # relative; None: unknown
    basis: str


class _EnergyPricer:
    """Prices one candidate after the other, and counts by what its energy is known."""

    def __init__(
        self,
        unit: Unit,
        rules: FootprintRules,
        rates: Rates,
        measured: EnergyModel,
        board: MeasuredBoard,
        gpu: Gpu | None,
        saved: SavedModel | None,
    ) -> None:
        self.unit, self.rules, self.rates, self.known = unit, rules, rates, _as_known(rates)
        self.measured, self.board, self.gpu, self.saved = measured, board, gpu, saved
        self.bases: Counter[str] = Counter()
        self.n_unknown_errors = 0
        self.found: Footprint | None = None  # of any one run, for the words

    def price(self, candidate: Candidate, device_name: str | None) -> Price:
        energy = self._energy(candidate)
        if energy is None:
            raise ValueError(self._unknown_power(device_name))
        self.bases[energy.basis] += 1
        self.n_unknown_errors += energy.sd is None
        sec, joules = candidate.run.value, energy.board.joules.value
        self.found = footprint(energy.board, _exactly(sec), self.known)
        cost, per_kwh = self._cost(self.found)
        if self.unit == USD:
            _refuse_nothing(cost.value, "--usd_per_kwh 0", _NAME_A_PRICE)
        elif self.unit == KGCO2:
            _refuse_nothing(cost.value, "--gco2_per_kwh 0", "Count the making of the GPU with --embodied")
        shared, unknown = self._range_of(energy)
        if energy.board.has_overhead:  # no measured energy of a board corrects these
            return Price(Interval(cost.value / sec), energy.sd, None, shared, unknown)
        if energy.board.is_in_host:
            return Price(cost.times(1 / sec), energy.sd, None, shared, unknown)
        share = BoardShare(joules / sec, per_kwh * (self.rules.pue or 1.0) / J_PER_KWH)
        assert self.found.wall_kwh is not None
        own = joules * share.per_j / cost.value  # the board's part of the cost; its own error is that much of all
        return Price(cost.times(1 / sec), None if energy.sd is None else own * energy.sd, share, shared, unknown)

    def _range_of(self, energy: _Energy) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What all runs share that has a known spread, and what nothing tells the error of."""
        shared, unknown = [], []
        if energy.board.has_overhead:
            unknown.append("formula")
        elif energy.sd is None:
            unknown.append("energy")
        elif _is_spread(energy.board.joules):
            shared.append("power")
        rates = {USD: ("price", self.rates.usd_per_kwh), KGCO2: ("carbon", self.rates.g_per_kwh)}
        name, rate = rates.get(self.unit, ("", None))
        if rate is not None and rate.value.low is None:
            unknown.append(name)
        elif rate is not None and _is_spread(rate.value):
            shared.append(name)
        if self.unit == KGCO2 and self.rules.has_embodied and _is_spread(embodied().kg_co2e):
            shared.append("making")
        return tuple(shared), tuple(unknown)

    def _cost(self, found: Footprint) -> tuple[Interval, float]:
        """What a run costs, and what a kWh does."""
        assert found.wall_kwh is not None
        if self.unit == KWH:
            return found.wall_kwh, 1.0
        if self.unit == USD:
            assert found.electricity_usd is not None and self.rates.usd_per_kwh is not None
            return found.electricity_usd, self.rates.usd_per_kwh.value.value
        assert found.operational_kg_co2e is not None
        emitted, made = found.operational_kg_co2e, found.embodied_kg_co2e
        both = emitted if made is None else together(emitted, made)
        return both, self.rates.g_per_kwh.value.value / G_PER_KG

    def _energy(self, candidate: Candidate) -> _Energy | None:
        """Return the energy of a run; None where nothing is known of it."""
        seconds = RunSeconds(
            steady=_exactly(candidate.steady.value),
            first_epoch=_exactly(candidate.first_epoch.value),
            overhead=_exactly(candidate.overhead.value),
            whole=_exactly(candidate.run.value),
        )
        config, saved = candidate.config, self.saved
        busy_share = None if saved is None else device_share(saved.plain_law, work_of(config, saved.train_n))
        found = run_energy(
            config, candidate.epochs, seconds, self.measured, self.board, self.gpu, self.rules, busy_share
        )
        if found is None:
            return None
        board, epoch = found.board, found.epoch
        if epoch is None:
            return _Energy(board, 0.0, board.method)
        basis = "measured" if epoch.was_measured else epoch.basis
        own, all_in = epoch.joules.times(candidate.epochs), board.joules
        if own.low is None or own.high is None or all_in.low is None or all_in.high is None:
            return _Energy(replace(board, joules=Interval(all_in.value)), None, basis)
        shared = _around(all_in.value, all_in.low + own.value - own.low, all_in.high - own.high + own.value)
        half = max(own.value - own.low, own.high - own.value)
        return _Energy(replace(board, joules=shared), half / HALF_WIDTH_SDS / all_in.value, basis)

    def _unknown_power(self, device_name: str | None) -> str:
        mend = "--usd_per_gpu_hour prices the hours without any energy" if self.unit == USD else "plan in seconds"
        return (
            f"--budget_{self.unit.key}: what {device_name or 'an unknown device'} draws is unknown: no row has its "
            "energy or power limit, the facts no TDP. Say what it draws with --board_w (--host_w is all of a box only "
            f"where it trains on its processor), measure on a GPU whose driver reports its power, or {mend}."
        )

    def notes(self) -> list[str]:
        """How the prices are known, and what the error of a run's cost does not hold."""
        assert self.found is not None
        n = sum(self.bases.values())
        notes = [
            f"energy of {count} of {n} candidates: {basis}" if count < n else f"energy: {basis}"
            for basis, count in self.bases.items()
        ]
        if self.n_unknown_errors:
            notes.append(
                f"how far the energy of {self.n_unknown_errors} of {n} candidates is off is unknown (too few runs that "
                "measured it): no margin holds it"
            )
        if self.found.energy is None or not self.found.energy.has_overhead:
            notes.append(f"energy at the wall: {wall_words(self.found)}")
        if self.unit == USD and (electricity := self.rates.usd_per_kwh) is not None:
            notes.append(f"electricity at {self._rate_words(electricity, self.rules.usd_per_kwh, 'USD/kWh')}")
        if self.unit == KGCO2:
            notes.append(f"carbon at {self._rate_words(self.rates.g_per_kwh, self.rules.gco2_per_kwh, 'g CO2e/kWh')}")
            made = f"with the making of the GPU, {embodied_words()}"
            notes.append(made if self.rules.has_embodied else "without the making of the GPU (--embodied)")
        return notes

    def _rate_words(self, rate: Rate, given: float | None, unit: str) -> str:
        """A price or an intensity, with its source, its range and its place where it was not given."""
        assert self.found is not None
        amount = f"{significant(rate.value.value)} {unit}"
        if given is not None:
            return f"{amount}, as given"
        ends = range_text(rate.value.low, rate.value.high)
        return f"{amount} ({rate.words}; range {ends}); {region_words(self.found)}"
