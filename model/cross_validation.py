"""Predictions for configurations that a model has not seen: repeated K-fold splits, and configurations kept out.

A configuration in the test part of a split is in no row used for fitting or for scaling; nothing stops early, so there
is no third part.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from epochcast.schema import TRAIN_N, AggRow, RunConfig
from epochcast.stats import RegressionMetrics, regression_metrics
from model.baselines import affine_in_steps, linear_on_logs
from model.features import feature_matrix
from model.predictor import Array
from model.time_ann import MIN_CONFIGURATIONS, fit_ensembles

FOLDS = 5
REPEATS = 5
ANN = "ann"


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidation:
    """Out-of-fold predictions: `predicted[name]` has shape (repeats, n), NaN where a baseline has no answer."""

    configs: list[RunConfig]
    measured: Array
    train_n: int
    predicted: dict[str, Array]
    folds: int

    def metrics(self, name: str, as_throughput: bool) -> list[RegressionMetrics]:
        """Metrics of each repeat over all configurations that this model has an answer for."""
        found = []
        for row in self.predicted[name]:
            known = np.isfinite(row)
            measured, predicted = self.measured[known], row[known]
            if as_throughput:
                measured, predicted = self.train_n / measured, self.train_n / predicted
            if known.any():
                found.append(regression_metrics(measured, predicted))
        return found


@dataclass(frozen=True, slots=True)
class UnseenResult:
    """One configuration kept from all fitting: what was measured (None if it was not) and what is predicted."""

    config: RunConfig
    measured_sec: float | None
    predicted_sec: float

    @property
    def error(self) -> float | None:
        """Signed relative error of the prediction."""
        return None if self.measured_sec is None else self.predicted_sec / self.measured_sec - 1


def fold_masks(n: int, folds: int, repeats: int, seed: int) -> npt.NDArray[np.bool_]:
    """Training masks of repeated K-fold splits, shape (repeats * folds, n); each repeat is shuffled anew."""
    random = np.random.default_rng(seed)
    masks = np.ones((repeats * folds, n), bool)
    for repeat in range(repeats):
        order = random.permutation(n)
        for fold in range(folds):
            masks[repeat * folds + fold, order[fold::folds]] = False
    return masks


def cross_validate(
    rows: Sequence[AggRow], folds: int = FOLDS, repeats: int = REPEATS, seed: int = 0, with_baselines: bool = True
) -> CrossValidation:
    """Repeated K-fold cross-validation by configuration of the network and the baselines.

    Raises:
        ValueError: if there are fewer than MIN_CONFIGURATIONS configurations, or one stands in two rows.
    """
    configs = [row.config for row in rows]
    require_enough(configs)
    measured = np.array([row.avg_time_mean for row in rows])
    train_n = rows[0].train_n or TRAIN_N
    folds = min(folds, len(rows))
    masks = fold_masks(len(rows), folds, repeats, seed)
    models = fit_ensembles(feature_matrix(configs), np.log(measured), masks, seed)
    baselines: dict[str, Callable[[list[RunConfig], Array, list[RunConfig]], Array]] = {}
    if with_baselines:
        baselines = {
            "linear_on_logs": lambda train, times, test: linear_on_logs(train, times, test, train_n),
            "affine_in_steps": lambda train, times, test: affine_in_steps(train, times, test, train_n),
        }
    predicted = {name: np.full((repeats, len(rows)), np.nan) for name in (ANN, *baselines)}
    for number, (mask, model) in enumerate(zip(masks, models, strict=True)):
        test = [c for c, is_train in zip(configs, mask, strict=True) if not is_train]
        train = [c for c, is_train in zip(configs, mask, strict=True) if is_train]
        predicted[ANN][number // folds, ~mask] = model.times(test)
        for name, fit in baselines.items():
            predicted[name][number // folds, ~mask] = fit(train, measured[mask], test)
    return CrossValidation(configs, measured, train_n, predicted, folds)


def require_enough(configs: Sequence[RunConfig]) -> None:
    """Raise a ValueError unless there are enough different configurations to fit a network to."""
    if len(set(configs)) < len(configs):
        raise ValueError("a configuration stands in two rows: aggregate the runs first.")
    if len(configs) < MIN_CONFIGURATIONS:
        raise ValueError(
            f"{len(configs)} configurations are too few to learn from: measure at least {MIN_CONFIGURATIONS}, "
            "e.g. python collect/run_grid.py --depth 2,3 --base_filters 16,32 --batch_size 64,256"
        )


def evaluate_unseen(
    rows: Sequence[AggRow], unseen: Sequence[RunConfig], seed: int = 0
) -> tuple[list[UnseenResult], list[AggRow]]:
    """Predictions for configurations kept from all fitting, and the rows that were left to learn from.

    Raises:
        ValueError: if too few configurations are left.
    """
    kept_out = set(unseen)
    rest = [row for row in rows if row.config not in kept_out]
    require_enough([row.config for row in rest])
    measured = {row.config: row.avg_time_mean for row in rows}
    log_time = np.log([row.avg_time_mean for row in rest])
    (model,) = fit_ensembles(
        feature_matrix(row.config for row in rest), log_time, np.ones((1, len(rest)), np.bool_), seed
    )
    times = model.times(list(unseen))
    return [UnseenResult(c, measured.get(c), float(t)) for c, t in zip(unseen, times, strict=True)], rest


def read_config_list(path: Path) -> list[RunConfig]:
    """Configurations from a CSV file with (at least) the columns depth, base_filters, batch_size.

    Raises:
        ValueError: names file, line and what is wrong.
        OSError: if the file can't be read.
    """
    path = path.absolute()
    names = ("depth", "base_filters", "batch_size")
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}).") from None
    configs = []
    for row in reader:
        try:
            configs.append(RunConfig(*(int(row[name]) for name in names)))
        except (KeyError, TypeError):
            raise ValueError(f"{path}:{reader.line_num}: expected the columns {', '.join(names)}.") from None
        except ValueError as error:
            raise ValueError(f"{path}:{reader.line_num}: {error}") from None
    if not configs:
        raise ValueError(f"{path}: no configuration in the file.")
    return list(dict.fromkeys(configs))


def rows_sha256(rows: Sequence[AggRow]) -> str:
    """Hash of what a model learns from: every configuration with its steady time, whatever their order."""
    lines = sorted(f"{r.depth},{r.base_filters},{r.batch_size},{r.avg_time_mean!r}" for r in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
