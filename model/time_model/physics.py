"""Seconds as a sum of terms that are known in advance, each with a unit and a meaning; the only fitter of such laws.

t = sum of coefficient x column, coefficients >= 0. With S steps per epoch, N images per epoch, D blocks, P parameters,
F training FLOP per image and A bytes of activations of one image's forward pass, an epoch costs

    per_epoch 1 | per_step S | per_step_and_block S * D | per_param_step S * P | per_flop N * F
    per_activation_byte N * 3 A | per_step_flop S * F | per_wide_flop N * F of the layers with 256 channels or more

Columns are functions of `EpochWork` alone, so that a law also tells the time of a network that is not our CNN.

Every term grows with depth and filters or stays (parameters may fall where a pool makes the dense layer smaller).
Fitted by non-negative least squares (Lawson and Hanson 1974) on relative error, reweighted (pseudo-Huber) so that one
slow run does not pull.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from epochcast.aggregate.averages.condition_order import LEARNABLE_ROWS
from epochcast.output.text import significant
from epochcast.roofline.epoch_work import WIDE_CHANNELS, EpochWork
from epochcast.schema import RunConfig
from epochcast.stats import MAD_TO_SD
from epochcast.workload.shape import work_of

Array = npt.NDArray[np.float64]

ACTIVATION_PASSES = 3  # over one forward pass's activations, as a law counts what an image's training moves
MIN_ROWS = LEARNABLE_ROWS  # as many as the smallest law has coefficients
ROBUST_SCALE = 0.02  # log error above which a row weighs less; repeats of one configuration differ by 0.65 %
ROBUST_ROUNDS = 8
PRIOR_SPREAD = (
    1.0  # natural log: a coefficient of another device is likely within a factor of 2.7, once its speed is known
)
PRIOR_NOISE = 0.05  # natural log: of a row about a law
PRIOR_ROUNDS = 60
GATE = 0.20  # log error: a row this much slower than the law was disturbed
GATE_SPREADS = 5.0  # and this many standard deviations (from the median error) slower, where a table is noisier
GATE_MIN_ROWS = 12


@dataclass(frozen=True, slots=True)
class Term:
    """One column of a law. `group` is its share's name; `reading` turns a coefficient into words."""

    group: str
    column: Callable[[EpochWork], float]
    reading: Callable[[float], str]


HOST_GROUP, STEPS_GROUP, ARITHMETIC_GROUP, MEMORY_GROUP = GROUPS = ("input and host", "steps", "arithmetic", "memory")
TERMS = {
    "per_epoch": Term(HOST_GROUP, lambda w: 1.0, lambda b: f"{significant(b)} s per epoch"),
    "per_step": Term(STEPS_GROUP, lambda w: w.steps, lambda b: f"{significant(1e3 * b)} ms per step"),
    "per_step_and_block": Term(
        STEPS_GROUP, lambda w: w.steps * w.blocks, lambda b: f"{significant(1e3 * b)} ms per step and block"
    ),
    "per_param_step": Term(
        MEMORY_GROUP, lambda w: w.steps * w.params, lambda b: f"{significant(1e12 * b)} ps per parameter and step"
    ),
    "per_flop": Term(
        ARITHMETIC_GROUP, lambda w: w.images * w.train_flop, lambda b: f"{significant(1e-12 / b)} TFLOP/s"
    ),
    "per_activation_byte": Term(
        MEMORY_GROUP,
        lambda w: w.images * ACTIVATION_PASSES * w.activation_bytes,
        lambda b: f"{significant(1e-9 / b)} GB/s of activations",
    ),
    "per_step_flop": Term(
        ARITHMETIC_GROUP,
        lambda w: w.steps * w.train_flop,
        lambda b: f"{significant(1e12 * b)} ms per step and GFLOP of one image",
    ),
    "per_wide_flop": Term(
        ARITHMETIC_GROUP,
        lambda w: w.images * w.wide_flop,
        lambda b: f"{significant(1e15 * b)} s more per PFLOP in layers of {WIDE_CHANNELS} channels or more",
    ),
    # of the first epoch, beyond a steady one: tracing, compiling, autotuning
    "once": Term("start", lambda w: 1.0, lambda b: f"{significant(b)} s"),
    "per_block": Term("start", lambda w: w.blocks, lambda b: f"{significant(b)} s per block"),
    "per_image_of_batch": Term(
        "start", lambda w: w.batch_size, lambda b: f"{significant(1e3 * b)} ms per image of the batch"
    ),
    "per_batch_flop": Term(
        "start",
        lambda w: w.forward_flop * w.batch_size,
        lambda b: f"{significant(1e12 * b)} s per TFLOP of one batch's forward pass",
    ),
}
FORMS = {
    "physics_6": ("per_epoch", "per_step", "per_step_and_block", "per_param_step", "per_flop", "per_activation_byte"),
    "first_epoch_4": ("once", "per_block", "per_image_of_batch", "per_batch_flop"),
}
FORMS["physics_8"] = (*FORMS["physics_6"], "per_step_flop", "per_wide_flop")


def columns_of(form: str, configs: Sequence[RunConfig], train_n: int) -> Array:
    """The columns of a form for some configurations, shape (n, terms).

    Raises:
        ValueError: if a configuration is so large that its work is no number.
    """
    rows = []
    for config in configs:
        try:
            rows.append(work_columns(form, work_of(config, train_n)))
        except OverflowError:
            raise ValueError(f"{config}: too far outside what the model learned from to be predicted at all.") from None
    return np.array(rows).reshape(len(configs), len(FORMS[form]))


def work_columns(form: str, work: EpochWork) -> list[float]:
    """The columns of a form for one epoch's work."""
    return [float(TERMS[name].column(work)) for name in FORMS[form]]


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """A fitted form: `coefficients` in FORMS[form]'s order, in seconds per unit of their columns."""

    form: str
    coefficients: Array
    train_n: int

    def parts(self, configs: Sequence[RunConfig]) -> Array:
        """Seconds that each term takes, shape (n, terms)."""
        return columns_of(self.form, configs, self.train_n) * self.coefficients

    def seconds(self, configs: Sequence[RunConfig]) -> Array:
        """Seconds, shape (n,)."""
        return np.asarray(self.parts(configs).sum(axis=1))

    def parts_of(self, work: EpochWork) -> dict[str, float]:
        """Seconds that each term takes of one epoch's work, by term."""
        columns = work_columns(self.form, work)
        return {name: b * x for name, b, x in zip(FORMS[self.form], self.coefficients.tolist(), columns, strict=True)}

    def shares(self, configs: Sequence[RunConfig]) -> dict[str, Array]:
        """Share of each group in a steady time, shape (n,) each; together 1."""
        parts = self.parts(configs)
        total = parts.sum(axis=1)
        groups = [TERMS[name].group for name in FORMS[self.form]]
        return {g: parts[:, [i for i, of in enumerate(groups) if of == g]].sum(axis=1) / total for g in GROUPS}

    def readings(self) -> dict[str, str]:
        """What each coefficient says, by term; `none` where it is 0."""
        pairs = zip(FORMS[self.form], self.coefficients, strict=True)
        return {name: TERMS[name].reading(float(b)) if b > 0 else "none" for name, b in pairs}


def device_share(law: Law, work: EpochWork) -> float:
    """Return the share of arithmetic and memory in an epoch's time, 0 to 1: what another GPU changes.

    Raises:
        ValueError: if the law says that this work takes no time.
    """
    return share_of_parts(law.parts_of(work))


def share_of_parts(parts: Mapping[str, float]) -> float:
    """Return the same share of an epoch's seconds by term."""
    if not (whole := sum(parts.values())) > 0:
        raise ValueError("the model's law gives this network no time, so nothing can be carried over.")
    return sum(sec for term, sec in parts.items() if TERMS[term].group in (ARITHMETIC_GROUP, MEMORY_GROUP)) / whole


def _require_rows(configs: Sequence[RunConfig]) -> None:
    if not configs:
        raise ValueError("no measured row to calibrate a law with: measure a few first (epochcast next_runs).")


def fit_law(form: str, configs: Sequence[RunConfig], seconds: Array, train_n: int, scale: Array | None = None) -> Law:
    """The law of a form that fits best in relative error; a slow row pulls little.

    Args:
        seconds: shape (n,), what the terms sum to.
        scale: shape (n,), what an error is relative to; default `seconds`.

    Raises:
        ValueError: if there is no row.
    """
    _require_rows(configs)
    from scipy.optimize import nnls  # 0.2 s: not at every start

    scale = seconds if scale is None else scale
    a, b = columns_of(form, configs, train_n) / scale[:, None], seconds / scale
    unit = a.mean(axis=0)
    unit[unit == 0] = 1.0
    a = a / unit
    weight = np.ones(len(b))
    for _ in range(1 + ROBUST_ROUNDS):
        share = np.asarray(nnls(a * weight[:, None], b * weight)[0], float)
        weight = (1 + ((a @ share - b) / ROBUST_SCALE) ** 2) ** -0.25
    return Law(form, share / unit, train_n)


def fit_law_from(prior: Law, configs: Sequence[RunConfig], seconds: Array) -> Law:
    """A law of another device, moved to what a few rows of this one say; one row is enough.

    The most probable coefficients where each, relative to the prior's and to one overall speed that is left open, is
    log-normal (PRIOR_SPREAD), and so is a row about the law (PRIOR_NOISE), a slow row pulling little. A term that the
    prior lacks stays out.

    Raises:
        ValueError: if there is no row.
    """
    _require_rows(configs)
    columns = columns_of(prior.form, configs, prior.train_n)
    known = prior.coefficients > 0
    theta0 = np.log(prior.coefficients[known]) + np.median(np.log(seconds / prior.seconds(configs)))
    theta = theta0.copy()
    k = len(theta)
    precision = (np.eye(k) - 1 / k) / PRIOR_SPREAD**2  # of deviations from their mean: the overall speed is free
    for _ in range(PRIOR_ROUNDS):  # Gauss-Newton; the shares of a time are the derivatives of its logarithm
        parts = columns[:, known] * np.exp(theta)
        total = parts.sum(axis=1)
        shares, error = parts / total[:, None], np.log(seconds / total)
        weight = (1 + (error / PRIOR_NOISE) ** 2) ** -0.5 / PRIOR_NOISE**2
        normal = shares.T @ (shares * weight[:, None]) + precision
        step = np.linalg.solve(normal + 1e-9 * np.eye(k), shares.T @ (weight * error) - precision @ (theta - theta0))
        theta = theta + np.clip(step, -1.0, 1.0)
    coefficients = np.zeros(len(known))
    coefficients[known] = np.exp(theta)
    return Law(prior.form, coefficients, prior.train_n)


def outlier_rows(law: Law, configs: Sequence[RunConfig], seconds: Array) -> npt.NDArray[np.bool_]:
    """Rows so much slower than the law that something else must have slowed them, shape (n,); none of few rows."""
    if len(seconds) < GATE_MIN_ROWS:
        return np.zeros(len(seconds), bool)
    error = np.log(seconds / law.seconds(configs))
    spread = MAD_TO_SD * float(np.median(np.abs(error - np.median(error))))
    return np.asarray(error > max(GATE, GATE_SPREADS * spread))


Gated = tuple[Law, npt.NDArray[np.bool_]]


def fit_gated_law(form: str, configs: Sequence[RunConfig], seconds: Array, train_n: int) -> Gated:
    """A law fitted without the rows that were disturbed, and the mask of those, shape (n,)."""
    return _gated(lambda c, s: fit_law(form, c, s, train_n), configs, seconds)


def fit_gated_law_from(prior: Law, configs: Sequence[RunConfig], seconds: Array) -> Gated:
    """As `fit_gated_law`, by `fit_law_from`."""
    return _gated(lambda c, s: fit_law_from(prior, c, s), configs, seconds)


def _gated(fit: Callable[[Sequence[RunConfig], Array], Law], configs: Sequence[RunConfig], seconds: Array) -> Gated:
    law = fit(configs, seconds)
    outliers = outlier_rows(law, configs, seconds)
    if outliers.any():
        law = fit([c for c, out in zip(configs, outliers, strict=True) if not out], seconds[~outliers])
    return law, outliers
