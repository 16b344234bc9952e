"""One figure with what it should reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RANDOM = np.random.default_rng


@dataclass(frozen=True, slots=True)
class Claim:
    """One figure with what it should reach; `reached` is None where there is no target."""

    what: str
    found: str
    target: str = ""
    reached: bool | None = None


def at_most(what: str, value: float, limit: float, spread: str = "", unit: str = "%") -> Claim:
    return Claim(what, f"{value:.4g} {unit}{spread}", f"<= {limit:g} {unit}", bool(value <= limit))
