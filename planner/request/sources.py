"""What a plan rests on: rows of a table, the model that predicts, and the configurations that may be run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epochcast.aggregate.averages.condition_sets import ChosenSet, one_set_of_conditions
from epochcast.aggregate.averages.table import AggTable, load_agg_if_any
from epochcast.gpus.lookup import box_name_for, is_same_device
from epochcast.machine.packages import backend_name, backend_words
from epochcast.model.time_model.saved_model import SavedModel, choose_model, choose_model_of, load_model
from epochcast.paths import runs_agg_csv
from epochcast.planner.costs.make_candidates import default_grid
from epochcast.planner.costs.values import Combination
from epochcast.planner.request.request import Request
from epochcast.schema import AggRow, Conditions, RunConfig
from epochcast.storage.files import sha256_of

MAX_ROWS = 5_000  # years of measuring; laws are fitted to them


@dataclass(frozen=True, slots=True)
class Sources:
    """What a plan rests on, with notes on how it was found."""

    rows: list[AggRow]  # of one set of conditions
    saved: SavedModel | None  # None: all is measured
    configs: Sequence[RunConfig] | None  # that may be run; None: what was measured, else the default grid
    files: dict[str, Any]  # table and model as plan.json has them
    notes: list[str]

    @property
    def conditions(self) -> Conditions:
        """Conditions that the times are of."""
        return self.rows[0].conditions if self.rows else self.saved.conditions  # type: ignore[union-attr]  # one of them is there

    @property
    def is_windowed(self) -> bool:
        """Whether the rows were measured in windows of steps instead of whole epochs."""
        return bool(self.rows) and self.rows[0].timing_mode == "steps_extrapolated"


def sources_of(request: Request) -> Sources:
    """Read the table that a request names and choose the model that its configurations need.

    Raises:
        ValueError: if the table has several sets of conditions or too many rows, or no model fits.
        FileNotFoundError: if a table or model that was named does not exist.
    """
    notes = list(request.notes)
    files: dict[str, Any] = {"table": None, "model": None}
    chosen = ChosenSet([])
    if (table := load_agg_if_any(request.runs_agg, request.is_frozen)) is not None:
        chosen = one_set_of_conditions(table.rows, request.conditions, table.source)
        notes += _table_notes(table, chosen)
        files["table"] = _source(table.path, sha256_of(table.path) if table.path.exists() else None)
    saved = _model_of(request, chosen, notes)
    configs = request.configs
    if _learns_more(request, chosen.rows) and saved is not None:
        grid, ranges = default_grid()
        configs = [config for config in grid if not saved.outside(config)]
        notes.append(
            f"candidates: the default grid ({ranges}) within the range of {saved.path.name}, less what is measured"
        )
    if saved is not None:
        files["model"] = _source(saved.path, saved.card["keras_sha256"])
    return Sources(chosen.rows, saved, configs, files, notes)


def _table_notes(table: AggTable, chosen: ChosenSet) -> list[str]:
    """Return what is planned from, and what of it is another box's."""
    rows = chosen.rows
    if len(rows) > MAX_ROWS:
        raise ValueError(
            f"{table.path}: {len(rows):,} configurations of one set of conditions: at most {MAX_ROWS:,} are "
            "planned from. Plan from a part of the table."
        )
    notes = [f"{len(rows)} measured configurations in {table.path} ({table.origin})", *chosen.notes]
    device, box = rows[0].device_name, box_name_for(rows[0].device_name)
    if device is not None and not is_same_device(device, box):
        notes.append(f"measured on {device}, NOT this box ({box})")
    if under := backend_words(rows[0].backend).strip():
        notes.append(f"measured under {rows[0].backend}, but a run here takes {backend_name()}: set {under}")
    return notes


def _learns_more(request: Request, rows: Sequence[AggRow]) -> bool:
    """Whether unmeasured configurations are meant though none is named: what is measured has nothing to teach."""
    is_asked = request.value is not None and request.value.combination is Combination.INFORMATION
    return is_asked and request.configs is None and bool(rows)


def _model_of(request: Request, chosen: ChosenSet, notes: list[str]) -> SavedModel | None:
    """The model that predicts, None where all is measured; a note says which and why."""
    rows = chosen.rows
    if request.time_source == "measured":
        if request.model is not None:
            raise ValueError(
                f"--model {request.model} predicts, --time_source measured does not: leave one of them out."
            )
        if not rows:
            raise ValueError(
                f"--time_source measured: there is no table {runs_agg_csv()}. Measure first, or use --time_source pred."
            )
        return None
    measured = {row.config for row in rows}
    unmeasured = [config for config in request.configs or () if config not in measured]
    is_needed = not rows or request.time_source == "pred" or unmeasured or _learns_more(request, rows)
    if not is_needed:
        if request.model is not None:
            load_model(request.model)  # one that can't be read was not meant
            notes.append(f"{request.model} predicts nothing: all was measured (--time_source pred predicts it)")
        return None
    if rows:  # the table's own model, though it may extrapolate: candidates say so, and their errors are wider
        choice = choose_model_of(chosen, request.model)
    else:
        choice = choose_model(request.model, wanted=request.conditions[0] if len(request.conditions) == 1 else None)
    notes.append(f"{choice.model.path.name} predicts: {choice.reason}")
    return choice.model


def _source(path: Path, sha256: str | None) -> dict[str, str | None]:
    """Return a file that a plan rests on, with its hash."""
    return {"path": str(path.absolute()), "sha256": sha256}
