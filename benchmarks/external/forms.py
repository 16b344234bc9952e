"""The forms of a law that are tried, fitted as natural logs but for exponents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.external.features import ELEMENTWISE, Array, Features
from benchmarks.external.tables import MIXED, PURE_HALF
from epochcast.roofline.network_law import LawNumbers, step_seconds

Predict = Callable[[Any, Features], Array]  # numbers and rows: seconds


@dataclass(frozen=True)
class Form:
    """One form: its name, where its numbers start, and the seconds that it gives."""

    name: str
    start: tuple[float, ...]
    seconds: Predict


@dataclass(frozen=True)
class Term:
    """A number beyond the sum of four; its log, or exponent, changes parts of the time.

    `needs` is why it is not kept whatever it gains: what an answer would have to know, say.
    """

    name: str
    start: float
    change: Callable[[float, Features, dict[str, Array]], None]
    needs: str | None = None


BASE = (np.log(45e-6), 0.2, 0.55, -0.3)  # launch, share of the mean rate, exponent of the dense rate, of the bandwidth


def _parts(x: Sequence[float], rows: Features) -> dict[str, Array]:
    """Return what changes act on: seconds of a step, its work, and the rates."""
    rates = rows.rates
    return {
        "step": np.zeros(len(rows)),
        "launches": np.exp(x[0]) * rows.work.operations,
        "flop": rows.work.flop.copy(),
        "bytes": rows.work.bytes.copy(),
        "flops": np.exp(x[1]) * rates.dense_flops ** x[2] * rates.plain_flops ** (1 - x[2]),
        "bytes_per_sec": np.exp(x[3]) * rates.bytes_per_sec,
        "power": np.ones(len(rows)),  # 1: arithmetic and memory add; more: the larger of the two counts more
    }


def summed(terms: Sequence[Term] = ()) -> Form:
    """Return the sum of launches, arithmetic and memory with further terms."""

    def seconds(x: Sequence[float], rows: Features) -> Array:
        parts = _parts(x, rows)
        for term, value in zip(terms, x[len(BASE) :], strict=True):
            term.change(value, rows, parts)
        arithmetic, memory = parts["flop"] / parts["flops"], parts["bytes"] / parts["bytes_per_sec"]
        power = parts["power"]
        both = (arithmetic**power + memory**power) ** (1 / power)
        return np.asarray(parts["step"] + parts["launches"] + both)

    name = " + ".join(["sum", *(term.name for term in terms)])
    return Form(name, (*BASE, *(term.start for term in terms)), seconds)


def _add_share(part: str, of: Callable[[Features], Array]) -> Callable[[float, Features, dict[str, Array]], None]:
    """Return a change that counts a share of FLOP or bytes exp(x) times."""

    def change(x: float, rows: Features, parts: dict[str, Array]) -> None:
        parts[part] = parts[part] + (np.exp(x) - 1) * of(rows)

    return change


def _scale(part: str, where: Callable[[Features], Array]) -> Callable[[float, Features, dict[str, Array]], None]:
    """Return a change that takes a part exp(x w) times."""

    def change(x: float, rows: Features, parts: dict[str, Array]) -> None:
        parts[part] = parts[part] * np.exp(x * where(rows))

    return change


def _step(x: float, rows: Features, parts: dict[str, Array]) -> None:
    parts["step"] = parts["step"] + np.exp(x)


def _power(x: float, rows: Features, parts: dict[str, Array]) -> None:
    parts["power"] = parts["power"] * np.exp(x)


def _elementwise(rows: Features) -> Array:
    return np.asarray(sum(rows.kind(name, "bytes") for name in ELEMENTWISE))


def _flop_of(name: str) -> Callable[[Features], Array]:
    return lambda rows: rows.kind(name)


def _solid(rows: Features) -> Array:
    return rows.kind("conv") * rows.where(lambda row: row.network.family == "unet3d")


STEP = Term("time of a step", np.log(5e-3), _step)
SMALL_KERNELS = Term(
    "small kernels in plain fp32",
    -0.4,
    _add_share("flop", lambda rows: np.asarray(rows.work.small_kernel_flop * rows.rates.is_plain)),
)
DEPTHWISE = Term("bytes of depthwise", 1.5, _add_share("bytes", lambda rows: rows.work.depthwise_bytes))
TERMS = (
    STEP,
    SMALL_KERNELS,
    DEPTHWISE,
    Term("FLOP of depthwise", 3.0, _add_share("flop", _flop_of("depthwise"))),
    Term("FLOP of grouped", 0.5, _add_share("flop", _flop_of("grouped"))),
    Term("FLOP of 1x1", -0.3, _add_share("flop", _flop_of("conv1"))),
    # left out, a family that alone has such layers leaves nothing to fit its number to
    Term("FLOP of 3-d", 0.3, _add_share("flop", _solid), "a second family of such networks"),
    Term("FLOP of dense", 0.0, _add_share("flop", _flop_of("dense"))),
    Term("FLOP of attention", 0.0, _add_share("flop", _flop_of("attention"))),
    Term("bytes of element-wise", -0.5, _add_share("bytes", _elementwise)),
    Term("bytes of BatchNorm", -0.5, _add_share("bytes", lambda rows: rows.kind("norm", "bytes"))),
    Term("bytes of weights", 0.5, _add_share("bytes", lambda rows: rows.weight_bytes)),
    Term("larger of the two more", 0.4, _power),
    Term("exponent of the rate", 0.0, _scale("flops", lambda rows: np.log(rows.rates.plain_flops / 1e13))),
    Term(
        "exponent of the bandwidth", 0.0, _scale("bytes_per_sec", lambda rows: np.log(rows.rates.bytes_per_sec / 7e11))
    ),
    Term("arithmetic in half", 0.0, _scale("flops", lambda rows: rows.where(lambda row: row.element_bytes == 2))),
    Term(
        "launches by the GPU's year",
        0.0,
        _scale("launches", lambda rows: np.array([float(row.gpu.year or 2018) - 2018 for row in rows.rows])),
    ),
    Term(
        "bytes in pure half",
        0.0,
        _add_share(
            "bytes",
            lambda rows: rows.work.bytes * rows.where(lambda r: r.precision == PURE_HALF and not r.is_tensorflow),
        ),
        "to know whether weights are half precision",
    ),
    Term(
        "bytes in AMP",
        0.0,
        _add_share("bytes", lambda rows: rows.work.bytes * rows.where(lambda row: row.precision == MIXED)),
    ),
    Term(
        "element-wise under XLA",
        -0.5,
        _add_share("bytes", lambda rows: _elementwise(rows) * rows.where(lambda row: row.is_xla)),
        "to know whether XLA compiles",
    ),
    Term(
        "launches in TensorFlow",
        -0.3,
        _scale("launches", lambda rows: rows.where(lambda row: row.is_tensorflow)),
        "to know the framework",
    ),
    Term(
        "bytes in NHWC",
        0.0,
        _add_share("bytes", lambda rows: rows.work.bytes * rows.where(lambda row: row.setting == "nhwc")),
        "to know the order of axes",
    ),
    Term(
        "copy of the batch",
        np.log(1 / 2e9),
        lambda x, rows, parts: parts.update(step=parts["step"] + np.exp(x) * _copied_bytes(rows)),
        "to know whether the host copies each batch",
    ),
)


def _copied_bytes(rows: Features) -> Array:
    """Return the bytes of the batches that the source says are copied inside the timed region."""
    is_copied = rows.where(lambda row: row.dataset == "torch_cnn_bs12")
    return is_copied * np.array([3.0 * row.batch * row.size**2 * row.element_bytes for row in rows.rows])


SHIPPED_TERMS = (STEP, SMALL_KERNELS, DEPTHWISE)
SHIPPED = summed(SHIPPED_TERMS)


def numbers_of(x: Sequence[float]) -> LawNumbers:
    """Return the law's numbers from those that were fitted for SHIPPED."""
    launch, compute, exponent, memory, step, small, depthwise = x
    return LawNumbers(
        step_sec=float(np.exp(step)),
        launch_sec=float(np.exp(launch)),
        compute_share=float(np.exp(compute)),
        dense_exponent=float(exponent),
        small_kernel_share=float(np.exp(small)),
        memory_share=float(np.exp(memory)),
        depthwise_passes=float(np.exp(depthwise)),
    )


def shipped_seconds(numbers: LawNumbers, rows: Features) -> Array:
    """Return the seconds that the library's own law gives."""
    return np.asarray(step_seconds(rows.work, rows.rates, numbers))


# --- forms of before --------------------------------------------------------------------------------------------------


def larger(terms: Sequence[Term] = ()) -> Form:
    """Return the form of the larger of arithmetic and memory of each pass, with launches."""

    def seconds(x: Sequence[float], rows: Features) -> Array:
        values = dict(zip((term.name for term in terms), x[len(BASE) :], strict=True))
        parts = _parts(x, rows)
        (flop, moved, small), begins, row_of = rows.passes
        spared = (1 - np.exp(values.get(SMALL_KERNELS.name, 0.0))) * rows.rates.is_plain
        arithmetic = (flop - spared[row_of] * small) / parts["flops"][row_of]
        layers = np.add.reduceat(np.maximum(arithmetic, moved / parts["bytes_per_sec"][row_of]), begins)
        optimizer = rows.work.bytes - np.add.reduceat(moved, begins)
        step = np.exp(values[STEP.name]) if STEP.name in values else 0.0
        return np.asarray(step + parts["launches"] + layers + optimizer / parts["bytes_per_sec"])

    name = " + ".join(["larger of the two per layer", *(term.name for term in terms)])
    return Form(name, (*BASE, *(term.start for term in terms)), seconds)


BEFORE = (
    Form("today", (), lambda x, rows: rows.today),
    Form("today x constant", (0.0,), lambda x, rows: np.exp(x[0]) * rows.today),
    Form("roof x constant", (0.5,), lambda x, rows: np.exp(x[0]) * rows.roof),
    larger(),
    larger((STEP, SMALL_KERNELS)),
)
