"""One figure with what it should reach, and what several parts measure it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from epochcast.model.time_model.physics import Array
from epochcast.model.time_model.time_model import Table, TimeModel
from epochcast.output.text import table_text

RANDOM = np.random.default_rng
SEEDS = 5
STARTS = 15  # first configurations of the designs, drawn at random


@dataclass(frozen=True, slots=True)
class Claim:
    """One figure with what it should reach; `reached` is None where there is no target."""

    what: str
    found: str
    target: str = ""
    reached: bool | None = None


def claims_text(claims: Sequence[Claim]) -> str:
    """Return a table of claims."""
    words = {None: "", True: "yes", False: "NO"}
    rows = [[claim.what, claim.found, claim.target, words[claim.reached]] for claim in claims]
    return table_text(["claim", "found", "target", "reached"], rows)


def at_most(what: str, value: float, limit: float, spread: str = "", unit: str = "%") -> Claim:
    return Claim(what, f"{value:.4g} {unit}{spread}", f"<= {limit:g} {unit}", bool(value <= limit))


def ape(model: TimeModel, table: Table, mask: npt.NDArray[np.bool_]) -> Array:
    """|relative error| in % of the rows in the mask."""
    own = table.take(mask)
    return np.asarray(100 * np.abs(model.times(own.configs) / own.seconds - 1))


def everything(table: Table) -> npt.NDArray[np.bool_]:
    return np.ones((1, len(table)), bool)
