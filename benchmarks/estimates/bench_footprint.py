"""What three neighbours and Epochcast say, point by point: python benchmarks/estimates/bench_footprint.py

The neighbours' rules are restated in `lib/neighbour_rules.py`; ours is the library called. Where a measurement
is among the reference data it stands beside both. The table is the one in docs/neighbours.md.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from benchmarks.lib.neighbour_rules import (
    ECOCOMPUTE_H100_EFFICIENCY,
    ECOCOMPUTE_KM_PER_KG,
    GREEN_LOVE_FP16_TFLOPS,
    GREEN_LOVE_KM_KG,
    GREEN_LOVE_SHARE_OF_LIMIT,
    ecocompute_tdp_w,
    green_love_board,
    green_love_forecast,
    mlcost_tdp_w,
)
from benchmarks.lib.reference_table import steady_rows
from epochcast.facts.assumptions import assumption
from epochcast.facts.regions import WORLD_CODE, find_region
from epochcast.facts.tables import (
    CarbonIntensity,
    ElectricityPrice,
    carbon_intensities,
    cloud_prices,
    electricity_prices,
    equivalences,
    gpu_disputes,
    pues,
    source_name,
)
from epochcast.footprint.footprint import J_PER_KWH, BoardEnergy, board_power_model, footprint, mlcost_energy, rates_of
from epochcast.footprint.rules import FootprintRules
from epochcast.footprint.text import data_centre_pue, equivalents
from epochcast.gpus.lookup import UnknownGpuError, find_gpu
from epochcast.interval import Interval
from epochcast.model.evaluation.evaluation import cross_conformal
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.cross_validation import cross_validate
from epochcast.model.training.recipes import PHYSICS
from epochcast.output.text import significant
from epochcast.paths import home, reference_data
from epochcast.storage.files import write_json_atomically

H100, B200 = "NVIDIA H100 80GB HBM3", "NVIDIA B200"
NODE_GPUS = 8
REGIONS = ("DE", "FR", "US")
ECOCOMPUTE, GREEN_LOVE, MLCOST = "EcoCompute", "green-love", "MLCost"  # as sources of facts are called
FORECASTS, SEED = 300, 0
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Case:
    """One case: what each says, and what it is held against."""

    case: str
    mlcost: str
    ecocompute: str
    green_love: str
    compared_with: str
    epochcast: str


HEADER = ("case", "MLCost", "EcoCompute", "Green Love", "measured or published", "Epochcast")


# --- which GPU, how fast ----------------------------------------------------------------------------------------------


def _our_watts(name: str) -> str:
    try:
        return f"{find_gpu(name).tdp_w:g} W"
    except UnknownGpuError:
        return "no such GPU, no number"


def lookup_case(title: str, names: Sequence[str], compared_with: str | None = None) -> Case:
    """The power of a board by its driver's name next to the data sheet's where there is one."""

    def in_words(watts: Callable[[str], str]) -> str:
        return ", ".join(dict.fromkeys(watts(name) for name in names))

    return Case(
        title,
        in_words(lambda name: f"{mlcost_tdp_w(name)} W"),
        in_words(lambda name: f"{ecocompute_tdp_w(name)} W"),
        in_words(lambda name: f"as {green_love_board(name)}"),
        compared_with or f"{in_words(_our_watts)} by data sheet",
        in_words(_our_watts),
    )


def peak_case() -> Case:
    h100, rtx = find_gpu(H100), find_gpu("NVIDIA GeForce RTX 3090")
    sparse = next(row.value for row in gpu_disputes() if row.gpu == h100.name and source_name(row) == ECOCOMPUTE)
    reached = sparse * ECOCOMPUTE_H100_EFFICIENCY
    return Case(
        "fp16 peak of H100 SXM; RTX 3090 (TFLOP/s)",
        NOTHING,
        f"{sparse:g}, of which {ECOCOMPUTE_H100_EFFICIENCY:g} = {reached:.0f} reached; {NOTHING}",
        "; ".join(f"{tflops:g}" for tflops in GREEN_LOVE_FP16_TFLOPS.values()),
        "dense, summing in fp32, as training does",
        f"{h100.fp16_tflops:g}; {rtx.fp16_tflops:g}",
    )


# --- energy -----------------------------------------------------------------------------------------------------------


def node_energy_case() -> Case:
    """Published AC measurements of whole nodes while they train, by each formula as a share of what was measured."""
    tdp_w = find_gpu(H100).tdp_w or 0.0
    with (reference_data() / "mlperf_power" / "published_vs_reproduced_training.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["supply"], row["accelerators"]) == ("AC", str(NODE_GPUS))]
    nodes = [(60 * float(row["reproduced_min"]), 1e3 * float(row["window_clipped_kj_scaled"])) for row in rows]

    def share(joules_of: Callable[[Interval], float]) -> str:
        shares = [joules_of(Interval(sec, sec, sec)) / joules for sec, joules in nodes]
        return f"{min(shares):.2f} to {max(shares):.2f}"

    full_w = tdp_w * NODE_GPUS
    board = [board_power_model(Interval(sec, sec, sec), full_w).joules.times(1 / joules) for sec, joules in nodes]
    ends = f"{min(b.low or 0.0 for b in board):.2f} to {max(b.high or 0.0 for b in board):.2f}"
    return Case(
        f"energy of {len(nodes)} MLPerf trainings on a node of {NODE_GPUS} H100, share of the measured",
        share(lambda sec: mlcost_energy(sec, tdp_w, NODE_GPUS).joules.value),
        share(lambda sec: sec.times(full_w).value),
        f"{share(lambda sec: sec.times(GREEN_LOVE_SHARE_OF_LIMIT * full_w).value)} where it can't measure",
        "1: power of the node between start and end of the run",
        f"GPU boards only: {share(lambda sec: board_power_model(sec, full_w).joules.value)} (band {ends})",
    )


def blackwell_energy_case() -> Case:
    """The same of a node of B200, whose TDP one of the programs has wrong."""
    tdp_w = find_gpu(B200).tdp_w or 0.0
    folder = reference_data() / "mlperf_power" / "training_traces"
    shares_mlcost, shares_true, shares_board = [], [], []
    with (folder / "lenovo_b200x8_bert_v5.0_windows.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            sec = (float(row["run_stop_ms"]) - float(row["run_start_ms"])) / 1e3
            joules = 1e3 * float(row["kj_window_trapezoid"]) / float(row["conversion_eff"])  # as drawn from the wall
            shares_mlcost.append(mlcost_energy(Interval(sec), mlcost_tdp_w(B200), NODE_GPUS).joules.value / joules)
            shares_true.append(mlcost_energy(Interval(sec), tdp_w, NODE_GPUS).joules.value / joules)
            shares_board.append(board_power_model(Interval(sec, sec, sec), NODE_GPUS * tdp_w).joules.times(1 / joules))

    def mean(shares: Iterable[float | None]) -> str:
        return f"{statistics.fmean(share for share in shares if share is not None):.2f}"

    ends = f"{mean(share.low for share in shares_board)} to {mean(share.high for share in shares_board)}"

    return Case(
        f"the same of {len(shares_mlcost)} BERT trainings on {NODE_GPUS} B200, mean",
        f"{mean(shares_mlcost)} ({mlcost_tdp_w(B200)} W a board)",
        NOTHING,
        NOTHING,
        "1",
        f"the same formula with the board's {find_gpu(B200).tdp_w:g} W: {mean(shares_true)}; "
        f"GPU boards only: {mean(share.value for share in shares_board)} (band {ends})",
    )


def small_network_case() -> Case:
    """Mean board power over limit of a small network, which is what a lab with one GPU trains."""
    one = Interval(1.0, 1.0, 1.0)
    low, high = (assumption(f"board_power_share_{name}", "gpu").value for name in ("by_gpu_low", "by_gpu_high"))
    mlcost = mlcost_energy(one, 1.0).joules.value
    ours = board_power_model(one, 1.0).joules
    return Case(
        "mean power of a small CNN over the board's limit",
        f"{mlcost:.2f} ({mlcost / high:.1f} to {mlcost / low:.1f} times too much)",
        f"1.00 ({1 / high:.1f} to {1 / low:.1f} times)",
        f"{GREEN_LOVE_SHARE_OF_LIMIT:.2f} where it can't measure "
        f"({GREEN_LOVE_SHARE_OF_LIMIT / high:.1f} to {GREEN_LOVE_SHARE_OF_LIMIT / low:.1f} times)",
        f"{low:.2f} to {high:.2f} by GPU",
        f"{ours.value:.2f}, band {ours.low:.2f} to {ours.high:.2f}; measured where rows have it",
    )


# --- money and CO2 ----------------------------------------------------------------------------------------------------


def _row_of(rows: Sequence[ElectricityPrice] | Sequence[CarbonIntensity], code: str, source: str) -> str:
    for row in rows:
        if row.code == code and source_name(row) == source:
            return significant(row.usd_per_kwh if isinstance(row, ElectricityPrice) else row.g_co2e_per_kwh)
    return NOTHING


def _ends(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return significant(interval.value)
    return f"{significant(interval.value)} ({significant(interval.low)} to {significant(interval.high)})"


def region_cases() -> list[Case]:
    """A kilowatt-hour in three countries."""
    places = [find_region(code) for code in REGIONS]
    prices, grids = electricity_prices(), carbon_intensities()
    years = {place.carbon.year_words for place in places}
    return [
        Case(
            f"1 kWh in {', '.join(REGIONS)} (USD)",
            "; ".join(_row_of(prices, code, MLCOST) for code in REGIONS),
            f"{_row_of(prices, WORLD_CODE, ECOCOMPUTE)} everywhere",
            "; ".join(_row_of(prices, code, GREEN_LOVE) for code in REGIONS),
            "sources differ by tariff; one has no year",
            "; ".join(_ends(place.electricity.value) for place in places if place.electricity is not None),
        ),
        Case(
            f"1 kWh in {', '.join(REGIONS)} (g CO2e)",
            NOTHING,
            f"{_row_of(grids, WORLD_CODE, ECOCOMPUTE)} everywhere",
            "; ".join(_row_of(grids, code, GREEN_LOVE) for code in REGIONS),
            f"{', '.join(sorted(years))} by the newest source",
            "; ".join(_ends(place.carbon.value) for place in places),
        ),
    ]


def equivalence_case(kg: float = 10.0) -> Case:
    """What emits as much as some CO2."""
    (rates,) = rates_of(FootprintRules(gco2_per_kwh=1000.0), None)
    found = footprint(BoardEnergy(Interval(kg * J_PER_KWH), "given"), Interval(0.0), rates)
    km = next(told.amount.value for told in equivalents(found) if told.fact.unit == "km")
    facts = {fact.key: fact for fact in equivalences()}
    seedling, tree = (facts[f"tree_{age}_year"].kg_co2e_per_unit for age in ("seedling", "mature"))
    shown = ", ".join(told.fact.unit for told in equivalents(found))
    return Case(
        f"{kg:g} kg of CO2 in km by car; in tree-years",
        NOTHING,
        f"{kg * ECOCOMPUTE_KM_PER_KG:.1f}; {NOTHING}",
        f"{kg / GREEN_LOVE_KM_KG:.1f}; {kg / tree:.2f}, called EPA's",
        f"EPA: {kg / facts['car_km_us'].kg_co2e_per_unit:.1f}; {kg / seedling:.2f} of a seedling",
        f"{km:.1f}; no trees (shown: {shown})",
    )


def cloud_case() -> Case:
    gpu = find_gpu(H100)
    (rates,) = rates_of(FootprintRules(), gpu)
    offers = [row for row in cloud_prices() if row.gpu == gpu.name and row.offer == "on-demand"]
    disputed = next(row for row in offers if row.provider == "AWS" and row.confidence == "disputed")
    listed = next(row for row in offers if row.provider == "AWS" and row.confidence != "disputed")
    newest = next(row for row in offers if row.provider == "Crusoe")
    assert rates.usd_per_gpu_hour is not None
    return Case(
        "an hour of one H100 in a cloud (USD)",
        NOTHING,
        f"{disputed.usd_per_gpu_hour:g} (AWS, no date)",
        f"{newest.usd_per_gpu_hour:g} (Crusoe, its only cloud)",
        f"AWS list price {listed.year}: {listed.usd_per_gpu_hour:g}",
        f"{_ends(rates.usd_per_gpu_hour.value)}, each with its date",
    )


def pue_case() -> Case:
    surveyed, overhead = data_centre_pue(), assumption("mlcost_overhead", "gpu").value
    default = next(row.pue for row in pues() if source_name(row) == ECOCOMPUTE)
    return Case(
        "the building's share (PUE)",
        f"{overhead:g} always, called overhead",
        f"{default:g} unless told",
        "none",
        f"surveyed data centres {surveyed.year}: {surveyed.pue:g}",
        "1, a box of one's own, said in the line; --pue",
    )


# --- how sure ---------------------------------------------------------------------------------------------------------


def interval_case() -> Case:
    """How often an interval holds: Green Love's on a known law, ours on the published A100 runs."""
    draw = random.Random(SEED)
    held, bias = 0, 0.0
    for _ in range(FORECASTS):
        told, truth = green_love_forecast(0.010, 50_000, 128, 100, 0.03, draw)
        held += (told.low or 0.0) <= truth <= (told.high or 0.0)
        bias += told.value / truth - 1
    checked = cross_conformal(cross_validate(Table.of(steady_rows()), [PHYSICS]), PHYSICS)
    assert checked is not None
    return Case(
        "how often the interval holds the truth",
        '"95 %": spread of its three models; not run here',
        "stated without a definition",
        f'"95 %": {100 * held / FORECASTS:.0f} % of {FORECASTS} trainings of 10 ms steps with 3 % noise, '
        f"{100 * bias / FORECASTS:+.1f} % off",
        "95 %; 90 %",
        f"90 %: {100 * checked.coverage:.0f} % of the A100 runs left out, by the law alone, "
        f"±{100 * checked.half_width:.1f} %",
    )


# --- all of them ------------------------------------------------------------------------------------------------------


def cases() -> list[Case]:
    """All of them, in the order of docs/neighbours.md."""
    return [
        lookup_case("power of an A100 80GB PCIe", ["NVIDIA A100 80GB PCIe"]),
        lookup_case("power of an H100 PCIe, H100 NVL", ["NVIDIA H100 PCIe", "NVIDIA H100 NVL"]),
        lookup_case("power of an RTX A1000", ["NVIDIA RTX A1000"], "another chip than an A100"),
        peak_case(),
        node_energy_case(),
        blackwell_energy_case(),
        small_network_case(),
        *region_cases(),
        equivalence_case(),
        interval_case(),
        cloud_case(),
        pue_case(),
    ]


def markdown(found: Sequence[Case]) -> str:
    """The table as docs/neighbours.md has it, cases numbered."""
    lines = [f"| | {' | '.join(HEADER)} |", "|---" * (len(HEADER) + 1) + "|"]
    lines += [f"| {number} | {' | '.join(astuple(case))} |" for number, case in enumerate(found, 1)]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "footprint.json")
    arguments = parser.parse_args()
    if not reference_data().is_dir():
        print(f"error: no reference data in {reference_data()}; set EPOCHCAST_REFERENCE_DATA", file=sys.stderr)
        return 1
    found = cases()
    print(markdown(found))
    write_json_atomically(arguments.out, [asdict(case) for case in found])
    print(f"written: {arguments.out.absolute()}")
    return 0
