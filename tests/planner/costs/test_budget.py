"""Units of budgets: whole numbers on the safe side, and amounts as people read them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from epochcast.planner.costs.budget import KGCO2, KWH, SECONDS, UNITS, USD, Budget


@pytest.mark.parametrize(
    ("sec", "up", "down"),
    [
        (0, 0, 0),
        (0.0, 0, 0),
        (0.001, 1, 1),
        (1.001, 1001, 1001),
        (0.0010001, 2, 1),
        (0.1 + 0.2, 301, 300),  # prints as 0.30000000000000004
        (1e-9, 1, 0),
        (3600, 3_600_000, 3_600_000),
        (18.7404, 18741, 18740),
        (1e12, 10**15, 10**15),
        (np.float64(0.007), 7, 7),
    ],
)
def test_seconds_become_milliseconds_on_the_safe_side(sec: float, up: int, down: int) -> None:
    assert SECONDS.up(sec) == up
    assert SECONDS.down(sec) == down


def test_every_whole_millisecond_survives_its_float() -> None:
    assert all(SECONDS.up(ms / 1000) == ms == SECONDS.down(ms / 1000) for ms in range(20_000))


@pytest.mark.parametrize("unit", [KWH, USD, KGCO2])
def test_every_hundred_millionth_of_another_unit_survives_its_float(unit) -> None:
    numbers = [*range(5_000), *range(10**8 - 5, 10**8 + 5), 10**14 + 1]
    assert all(unit.up(n / 10**8) == n == unit.down(n / 10**8) for n in numbers)
    assert (unit.up(0.123456781), unit.down(0.123456789)) == (12_345_679, 12_345_678)
    assert (unit.up(1e-12), unit.down(1e-12)) == (1, 0)  # nothing is free


@pytest.mark.parametrize("amount", [-0.001, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("unit", UNITS.values())
def test_impossible_amounts_are_refused(unit, amount: float) -> None:
    for convert in (unit.up, unit.down):
        with pytest.raises(ValueError, match=f"finite number of at least 0 {unit.word}, got "):
            convert(amount)


def test_amounts_say_their_unit_and_seconds_are_a_clock() -> None:
    assert Budget(600.0).used(10.0) == "10 s of 10 min 00 s"
    assert Budget(0.5, KWH).used(0.42) == "0.420 of 0.500 kWh"
    assert (SECONDS.clock(90.0), USD.clock(90.0)) == ("1 min 30 s", "90.0 USD")
    assert Budget(12.5, KGCO2).text == "12.5 kgCO2e"
    assert list(UNITS) == ["s", "kwh", "usd", "kgco2"]
