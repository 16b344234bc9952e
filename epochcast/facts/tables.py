"""Facts as tables, every row with its source: GPUs, prices, carbon of electricity, overheads, published speeds.

Values stand as their source gives them; nothing is averaged, and where sources disagree each has a row. In all tables:

`year`        what the value is of: `2024`, `2025-12`, `2025 Q4` or `2023-2025`; None is unknown
`source`      who says so, and where
`confidence`  `two`: two independent sources agree; `partial`: they agree in part, or go back to the same origin;
              `single`: one source, or recalled and not checked; `disputed`: sources differ by more than a fifth
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar

from epochcast.paths import PACKAGE
from epochcast.storage.tables import read_table

FACTS = PACKAGE / "data"
GPU = "gpu"  # the `kind` that this tool measures and predicts
CONVOLUTIONAL = "convolutional"  # kind of network, as `SpeedRow` names it: that of the CNN which is measured


@dataclass(frozen=True, slots=True)
class Gpu:
    """What an accelerator can do by its data sheet: a GPU, or what `kind` names.

    Rates are dense, never with sparsity; fp16 sums in fp32, as training does.

    Where tensor cores have no rate of a kind it is that of the other cores (`family` pascal_gp100). `tdp_w` is a limit,
    not a draw.
    """

    name: str
    vendor: str
    kind: str  # GPU, or tpu, hpu (Gaudi), ipu or npu (Ascend)
    family: str  # of the ratios between its rates
    form_factor: str | None  # of the board: PCIe, SXM, OAM
    aliases: tuple[str, ...]  # further spellings: drivers, MLPerf, people
    shared_name: str | None  # the driver's name of this board and of others with less or more memory
    fp32_tflops: float | None
    tf32_tflops: float | None
    fp16_tflops: float | None
    bf16_tflops: float | None
    memory_gb: float
    memory_bandwidth_gbs: float
    tdp_w: float | None
    year: str | None
    source: str
    confidence: str
    corroborated: tuple[str, ...]  # fields in which a second source agrees within 4 %
    notes: str | None

    def tflops(self, arithmetic: str) -> float | None:
        """The dense rate of one of ARITHMETIC in TFLOP/s, None where it has none or none is known.

        Raises:
            ValueError: if there is no such arithmetic.
        """
        if arithmetic not in ARITHMETIC:
            raise ValueError(f"no arithmetic {arithmetic!r}; use one of {', '.join(ARITHMETIC)}.")
        rate: float | None = getattr(self, f"{arithmetic}_tflops")
        return rate


ARITHMETIC = tuple(f.name.removesuffix("_tflops") for f in fields(Gpu) if f.name.endswith("_tflops"))


@dataclass(frozen=True, slots=True)
class GpuDispute:
    """Another value that is told of a GPU, and why it does not stand in its row."""

    gpu: str  # `Gpu.name`
    column: str  # of `Gpu`
    value: float
    year: str | None
    source: str
    confidence: str
    notes: str | None


@dataclass(frozen=True, slots=True)
class CloudPrice:
    """What an hour of one GPU costs to rent."""

    provider: str
    instance: str
    gpu: str  # `Gpu.name`
    gpus: int  # of the instance
    offer: str  # on-demand | spot
    usd_per_gpu_hour: float
    year: str | None
    source: str
    confidence: str
    notes: str | None


@dataclass(frozen=True, slots=True)
class CarbonIntensity:
    """Greenhouse gases of a kilowatt-hour of electricity; several rows of one `code` are several sources."""

    kind: str  # country | world | us_egrid | nordic_zone | cloud_region
    code: str  # of a country its iso2
    iso2: str | None
    iso3: str | None
    name: str
    g_co2e_per_kwh: float
    year: str | None
    source: str
    licence: str | None
    confidence: str
    notes: str | None


@dataclass(frozen=True, slots=True)
class ElectricityPrice:
    """Price of a kilowatt-hour under one tariff."""

    kind: str  # country | world | us_state | region
    code: str
    iso2: str | None
    iso3: str | None
    name: str
    usd_per_kwh: float
    tariff: str | None
    year: str | None
    source: str
    licence: str | None
    confidence: str
    notes: str | None


@dataclass(frozen=True, slots=True)
class RegionGroup:
    """Countries that a region is made of."""

    code: str
    name: str
    aliases: tuple[str, ...]
    members: tuple[str, ...]  # iso2
    year: str | None
    source: str
    confidence: str
    notes: str | None


@dataclass(frozen=True, slots=True)
class Pue:
    """Energy of a data centre over that of its computers, as surveyed or as a program assumes it."""

    scope: str
    pue: float
    year: str | None
    source: str
    confidence: str
    notes: str | None


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """Published training speed of one network on one GPU."""

    gpu: str  # `Gpu.name`
    task: str
    kind: str  # of network: convolutional | transformer | recurrent | flow
    precision: str  # fp16 | fp32, in the source's words
    throughput: float
    unit: str
    gpus: int
    year: str | None
    source: str
    confidence: str
    notes: str | None


@dataclass(frozen=True, slots=True)
class Equivalence:
    """What emits as much. With `kwh_per_unit` it is a use of electricity: multiply by the run's own grid instead.

    Rows of confidence `disputed` are kept for the record and not for display.
    """

    key: str
    label: str
    kg_co2e_per_unit: float
    kwh_per_unit: float | None
    unit: str
    year: str | None
    source: str
    confidence: str
    notes: str | None


class Fact(Protocol):
    """What the rows of all tables have."""

    @property
    def year(self) -> str | None: ...
    @property
    def source(self) -> str: ...
    @property
    def confidence(self) -> str: ...
    @property
    def notes(self) -> str | None: ...


FactRow = TypeVar("FactRow", bound=Fact)


# --- tables -----------------------------------------------------------------------------------------------------------


def _shipped(name: str, kind: type[FactRow]) -> tuple[FactRow, ...]:
    """All rows of a table that comes with the program."""
    path = FACTS / name
    try:
        return tuple(read_table(path, kind))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path.absolute()}: no such table of facts. It comes with Epochcast: install it again, or in a checkout "
            "take the file back with git checkout."
        ) from None


@functools.cache
def accelerators() -> tuple[Gpu, ...]:
    """Return GPUs and accelerators of all other kinds."""
    return _shipped("gpus.csv", Gpu)


def gpus() -> tuple[Gpu, ...]:
    """Return the GPUs among the accelerators."""
    return tuple(each for each in accelerators() if each.kind == GPU)


@functools.cache
def gpu_disputes() -> tuple[GpuDispute, ...]:
    return _shipped("gpu_disputes.csv", GpuDispute)


@functools.cache
def cloud_prices() -> tuple[CloudPrice, ...]:
    return _shipped("cloud_prices.csv", CloudPrice)


@functools.cache
def carbon_intensities() -> tuple[CarbonIntensity, ...]:
    return _shipped("carbon_intensity.csv", CarbonIntensity)


@functools.cache
def electricity_prices() -> tuple[ElectricityPrice, ...]:
    return _shipped("electricity_prices.csv", ElectricityPrice)


@functools.cache
def region_groups() -> tuple[RegionGroup, ...]:
    return _shipped("region_groups.csv", RegionGroup)


@functools.cache
def pues() -> tuple[Pue, ...]:
    return _shipped("pue.csv", Pue)


@functools.cache
def speed_rows() -> tuple[SpeedRow, ...]:
    return _shipped("gpu_speed.csv", SpeedRow)


@functools.cache
def equivalences() -> tuple[Equivalence, ...]:
    return _shipped("co2_equivalences.csv", Equivalence)


# --- several sources --------------------------------------------------------------------------------------------------


def preferred(rows: Sequence[FactRow]) -> FactRow:
    """The row to use of several sources: the newest with a year of its own, the first of equals.

    A disputed row comes after one that is not; a span such as `2023-2025`, which is a whole file's and not the row's,
    after a year; no year at all last.
    """
    return max(rows, key=_merit)  # the first of equals


def _merit(row: Fact) -> tuple[bool, int, str]:
    year = row.year or ""
    return row.confidence != "disputed", 2 if year and not re.fullmatch(r"\d{4}-\d{4}", year) else bool(year), year


def source_name(row: Fact) -> str:
    """Who says so, without where: the source up to its address, or the address's first part."""
    return re.split(r" \(|[:,;/]", row.source, maxsplit=1)[0]


def year_words(year: str | None) -> str:
    return year or "year unknown"
