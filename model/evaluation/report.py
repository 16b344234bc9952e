"""The evaluation of a time model: its errors on configurations that it has not seen, and its intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from epochcast.interval import COVERAGE, Interval, with_ends
from epochcast.model.evaluation.learning_curves import CurvePoint
from epochcast.model.time_model.intervals import Range
from epochcast.model.time_model.physics import Law
from epochcast.model.time_model.startup import Excess, Overhead, to_json
from epochcast.model.training.calibration import Calibration
from epochcast.schema import Conditions, RunConfig


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation of one metric over repeats; None is unknown."""

    mean: float | None
    std: float | None


@dataclass(frozen=True, slots=True)
class MetricSpreads:
    """Every metric over repeats; `mape` and `p90_ape` are fractions."""

    mae: Spread
    rmse: Spread
    r2: Spread
    mape: Spread
    p90_ape: Spread


@dataclass(frozen=True, slots=True)
class ModelErrors:
    """Errors of one model on rows it has not seen."""

    n_answered: int
    time_sec: MetricSpreads
    images_per_sec: MetricSpreads


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """Errors of every model by one split; `form` is the model that is reported."""

    form: str
    split: str
    repeats: int
    n: int
    models: dict[str, ModelErrors]


@dataclass(frozen=True, slots=True)
class CoverageCheck:
    """How often the intervals of other folds cover a row, and their relative half-widths."""

    coverage: float
    half_width: float
    largest: float


@dataclass(frozen=True, slots=True)
class UnseenPrediction:
    """The prediction of a configuration kept from all fitting."""

    config: RunConfig
    measured_sec: float | None
    predicted: Interval

    @property
    def error(self) -> float | None:
        """The relative error, signed; None where it was not measured."""
        return None if self.measured_sec is None else self.predicted.value / self.measured_sec - 1

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self.config),
            "measured_sec": self.measured_sec,
            **with_ends("predicted_sec", self.predicted),
            "error": self.error,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The evaluation of a recipe on one table."""

    created_utc: str
    table: str | None  # where the rows are from
    rows_sha256: str
    conditions: Conditions
    seed: int
    recipe: str
    errors: ErrorTable
    range: Range
    calibration: Calibration
    checked: CoverageCheck | None
    order_violations: int
    unseen: tuple[UnseenPrediction, ...]
    law: Law  # of six terms
    shares: dict[str, float]  # of an epoch by group of terms, mean of all configurations
    outliers: tuple[RunConfig, ...]
    excess: Excess | None
    overhead: Overhead | None
    curves: tuple[CurvePoint, ...]

    def to_json(self) -> dict[str, Any]:
        errors, widths = self.errors, self.calibration.widths
        return {
            "created_utc": self.created_utc,
            "table": self.table,
            "rows_sha256": self.rows_sha256,
            "conditions": asdict(self.conditions),
            "seed": self.seed,
            "recipe": self.recipe,
            "form": errors.form,
            "split": errors.split,
            "repeats": errors.repeats,
            "n": errors.n,
            "range": self.range.to_json(),
            "models": {name: asdict(model) for name, model in errors.models.items()},
            "intervals": {
                "coverage": COVERAGE,
                "within": widths.within,
                "beyond": widths.beyond,
                "n_missing": widths.n_missing,
                "checked": None if self.checked is None else asdict(self.checked),
            },
            "levels": self.calibration.levels_json(),
            "order_violations": self.order_violations,
            "unseen": [prediction.to_json() for prediction in self.unseen],
            "physics": {
                "form": self.law.form,
                "coefficients": self.law.coefficients.tolist(),
                "readings": self.law.readings(),
                "shares": self.shares,
                "disturbed": [str(config) for config in self.outliers],
            },
            "startup": to_json(self.excess, self.overhead),
            "learning_curves": [asdict(point) for point in self.curves],
        }
