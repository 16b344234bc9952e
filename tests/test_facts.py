"""The tables of facts hold what can be: units, ranges, sources, dense rates, and each name once."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

import pytest

from epochcast.cells import columns, format_rows, header_line
from epochcast.facts import (
    ARITHMETIC,
    CarbonIntensity,
    carbon_intensities,
    cloud_prices,
    electricity_prices,
    equivalences,
    gpu_disputes,
    gpus,
    preferred,
    pues,
    source_name,
    speed_rows,
    year_words,
)
from epochcast.hardware import words_of
from epochcast.tables import read_table

TABLES = {
    function.__name__: function
    for function in (
        gpus,
        gpu_disputes,
        cloud_prices,
        carbon_intensities,
        electricity_prices,
        pues,
        speed_rows,
        equivalences,
    )
}
CONFIDENCE = {"two", "partial", "single", "disputed"}
YEAR = re.compile(r"20\d\d(-(0[1-9]|1[0-2])|-20\d\d| Q[1-4])?")
# lowest and highest value that is no slip of the pen or of the unit
RANGES = {
    "fp32_tflops": (4, 200),
    "tf32_tflops": (8, 1300),
    "fp16_tflops": (16, 2600),
    "bf16_tflops": (16, 2600),
    "memory_gb": (4, 300),
    "memory_bandwidth_gbs": (100, 8100),
    "tdp_w": (50, 1500),
    "usd_per_gpu_hour": (0.1, 20),
    "g_co2e_per_kwh": (0, 1400),
    "usd_per_kwh": (0.01, 0.6),
    "pue": (1, 2),
    "throughput": (10, 2_000_000),
    "gpus": (1, 8),
    "kg_co2e_per_unit": (0.0001, 2000),
    "kwh_per_unit": (0.001, 100),
}
# the ratios to fp32 that a family's dense rates can have, by its cores and by how far products are throttled:
# (tf32, fp16, bf16), each (lowest, highest), None where the family has no such rate
HALF = (1.97, 2.03)  # fp16 with sums in fp32 at half the rate of sums in fp16: gaming cards
FULL = (3.9, 4.1)
CHIP = (7.8, 8.2)
ONE, TWO = (0.98, 1.02), (1.95, 2.05)
RATIOS = {
    "pascal": (None, None, None),
    "pascal_gp100": (None, HALF, None),
    "volta": (None, CHIP, None),
    "turing": (None, CHIP, None),
    "turing_geforce": (None, FULL, None),
    "ampere_geforce": (ONE, HALF, HALF),
    "ada_geforce": (ONE, HALF, HALF),
    "blackwell_geforce": (ONE, HALF, HALF),
    "blackwell_pro": (None, None, None),
    "ampere": ((0.98, 2.05), (1.97, 4.1), (1.97, 4.1)),  # the A10G is throttled as a gaming card is
    "ada": ((0.98, 2.05), (1.97, 4.1), (1.97, 4.1)),  # so is the L40
    "ampere_ga100": ((7.8, 8.2), (15.8, 16.3), (15.8, 16.3)),
    "hopper": ((1.6, 7.5), (3.2, 15), (3.2, 15)),  # the H20 is cut for export
    "blackwell": ((14.5, 16), (29, 32), (29, 32)),
    "cdna1": (None, (7.8, 8.2), (3.9, 4.1)),
    "cdna2": (None, (7.8, 8.2), (7.8, 8.2)),
    "cdna3": ((3.9, 4.1), (7.8, 8.2), (7.8, 8.2)),
    "cdna4": (None, (15.5, 16.2), (15.5, 16.2)),
    "gaudi": (None, None, None),
    "tpu": (None, None, None),
}


def complaints_about_rates(gpu):
    """What cannot be of a GPU's rates: a sparse rate is twice a dense one, and far outside its family's ratios."""
    found = []
    for name, ends in zip(("tf32", "fp16", "bf16"), RATIOS[gpu.family], strict=True):
        rate = gpu.tflops(name)
        if rate is None or gpu.fp32_tflops is None:
            continue
        if ends is None or not ends[0] <= rate / gpu.fp32_tflops <= ends[1]:
            found.append(f"{gpu.name}: {name} {rate:g} is {rate / gpu.fp32_tflops:.2f} x fp32")
    if gpu.tf32_tflops and gpu.fp16_tflops and not TWO[0] <= gpu.fp16_tflops / gpu.tf32_tflops <= 2.06:
        found.append(f"{gpu.name}: fp16 is not twice tf32")
    if gpu.fp16_tflops and gpu.bf16_tflops and gpu.family != "cdna1" and gpu.fp16_tflops != gpu.bf16_tflops:
        found.append(f"{gpu.name}: fp16 differs from bf16")
    if gpu.family == "hopper" and (gpu.fp16_tflops or 0) >= 1000:
        found.append(f"{gpu.name}: fp16 is with sparsity")
    return found


def complaints_about_names(rows):
    """Names that two GPUs, or two spellings of one, share after normalising."""
    counts = Counter("".join(words_of(name)) for gpu in rows for name in (gpu.name, *gpu.aliases))
    return [name for name, n in counts.items() if n > 1 or not name]


def complaints_about_cells(rows):
    """Values out of range, years and confidences of another form, rows without a source."""
    found = []
    for row in rows:
        for name in columns(type(row)):
            value = getattr(row, name)
            if name in RANGES and value is not None and not RANGES[name][0] <= value <= RANGES[name][1]:
                found.append(f"{name} {value}")
        if row.year is not None and not YEAR.fullmatch(row.year):
            found.append(f"year {row.year}")
        if row.confidence not in CONFIDENCE:
            found.append(f"confidence {row.confidence}")
        if len(row.source.split()) < 1 or "not stated" in format_rows([row]):
            found.append(f"source {row.source}")
    return found


def gpu(name):
    return next(g for g in gpus() if g.name == name)


# --- what the tables hold ---------------------------------------------------------------------------------------------


def test_all_facts_are_carried():
    counts = {name: len(table()) for name, table in TABLES.items()}
    assert counts.pop("gpus") >= 92
    assert counts.pop("gpu_disputes") >= 13
    assert counts == {
        "cloud_prices": 25,
        "carbon_intensities": 502 + 70,
        "electricity_prices": 87,
        "pues": 9,
        "speed_rows": 168,
        "equivalences": 9,
    }


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_a_source_and_plausible_values(name):
    rows = TABLES[name]()
    assert complaints_about_cells(rows) == []
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("name", TABLES)
def test_every_number_of_a_table_has_a_range_that_it_is_held_to(name):
    (kind,) = {type(row) for row in TABLES[name]()}
    numbers = {f.name for f in dataclasses.fields(kind) if re.match(r"(float|int)\b", str(f.type))}
    assert numbers - {"value"} <= set(RANGES)


def test_no_rate_is_impossible_for_its_family():
    assert [complaint for g in gpus() for complaint in complaints_about_rates(g)] == []
    assert {g.family for g in gpus()} == set(RATIOS)


def test_no_two_gpus_share_a_name():
    assert complaints_about_names(gpus()) == []


def test_rows_of_prices_and_speeds_are_of_gpus_that_are_known():
    names = {g.name for g in gpus()}
    assert {row.gpu for row in (*cloud_prices(), *speed_rows(), *gpu_disputes())} <= names


def test_a_disputed_value_is_another_than_ours():
    for dispute in gpu_disputes():
        assert getattr(gpu(dispute.gpu), dispute.column) != dispute.value


def test_what_a_second_source_confirms_is_a_field_that_has_a_value():
    of = {"bandwidth": "memory_bandwidth_gbs", "memory": "memory_gb", "tdp": "tdp_w", "fp16": "fp16_tflops"}
    for g in gpus():
        for field in g.corroborated:
            assert getattr(g, of.get(field, f"{field}_tflops")) is not None, (g.name, field)
        assert (g.confidence == "single") == (not g.corroborated), g.name


def test_codes_of_places_have_their_form_and_one_country_each():
    countries = {}
    for row in (*carbon_intensities(), *electricity_prices()):
        if row.iso2 is not None:
            assert re.fullmatch("[A-Z]{2}", row.iso2)
            assert re.fullmatch("[A-Z]{3}", row.iso3)
            assert countries.setdefault(row.iso2, row.iso3) == row.iso3
        assert (row.iso2 is None) == (row.kind in ("world", "region"))
        assert row.kind != "country" or row.code == row.iso2
    assert len(countries) > 200


def test_the_values_are_those_of_the_tables_they_come_from(reference_data):
    import csv

    def read(name):
        with (reference_data / "facts" / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    theirs = Counter(float(row["g_co2e_per_kwh"]) for row in read("carbon_intensity.csv"))
    theirs += Counter(float(row["g_co2e_per_kwh"]) for row in read("carbon_intensity_subnational.csv"))
    assert Counter(row.g_co2e_per_kwh for row in carbon_intensities()) == theirs
    prices = Counter((row["iso3"], float(row["usd_per_kwh"])) for row in read("electricity_prices.csv"))
    assert sum(prices.values()) == len(electricity_prices())
    assert Counter(price for _, price in prices) == Counter(
        price for _, price in {((r.iso3 or r.code), r.usd_per_kwh) for r in electricity_prices()}
    )
    speeds = {(r["gpu"], r["task"], r["precision"]): float(r["throughput"]) for r in read("speed_benchmarks.csv")}
    assert {(r.gpu, r.task, r.precision): r.throughput for r in speed_rows()} == speeds
    for row in read("gpus.csv"):
        ours = gpu(row["name"])
        for theirs_name, name in (("fp16_tflops_dense", "fp16_tflops"), ("memory_bandwidth_gbs",) * 2):
            assert (row[theirs_name] or None) == (None if (v := getattr(ours, name)) is None else f"{v:g}")


# --- planted faults ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("H100 SXM5", {"fp16_tflops": 1979.0, "bf16_tflops": 1979.0, "tf32_tflops": 989.4}),  # all with sparsity
        ("H100 SXM5", {"fp16_tflops": 1979.0}),
        ("A100 SXM4 80GB", {"fp16_tflops": 624.0, "bf16_tflops": 624.0}),
        ("RTX 3090", {"fp16_tflops": 142.0, "bf16_tflops": 142.0}),  # sums in fp16
        ("Quadro RTX 8000", {"fp16_tflops": 32.6}),  # of the CUDA cores
        ("L4", {"fp16_tflops": 242.0, "bf16_tflops": 242.0}),
        ("P4", {"fp16_tflops": 11.0}),
        ("V100 SXM2 16GB", {"bf16_tflops": 125.0}),  # it has none
        ("MI300X", {"fp16_tflops": 2614.9, "bf16_tflops": 2614.9}),
    ],
)
def test_a_rate_with_sparsity_or_of_other_cores_is_noticed(name, fault):
    assert complaints_about_rates(dataclasses.replace(gpu(name), **fault))


def test_a_name_that_stands_twice_is_noticed():
    doubled = dataclasses.replace(gpu("A100 PCIe 80GB"), aliases=("Tesla A100-SXM4-80GB",))
    others = [g for g in gpus() if g.name != doubled.name]
    assert complaints_about_names([*others, doubled]) == ["a100sxm480gb"]


@pytest.mark.parametrize(
    "fault",
    [
        {"tdp_w": 0.3},
        {"memory_gb": 81920.0},
        {"memory_bandwidth_gbs": 2.0},
        {"fp32_tflops": 19_500.0},
        {"year": "about 2020"},
        {"year": "2025-13"},
        {"source": ""},
        {"confidence": "sure"},
    ],
)
def test_a_slip_of_unit_year_source_or_confidence_is_noticed(fault):
    assert complaints_about_cells([dataclasses.replace(gpu("A100 PCIe 80GB"), **fault)])


def test_a_table_with_a_wrong_cell_is_refused_by_line_and_column(tmp_path):
    path = tmp_path / "carbon_intensity.csv"
    row = format_rows([carbon_intensities()[0]]).replace(str(carbon_intensities()[0].g_co2e_per_kwh), "about 500")
    path.write_text(header_line(CarbonIntensity) + row)
    with pytest.raises(ValueError, match=r"carbon_intensity\.csv:2, column 'g_co2e_per_kwh'.*'about 500'"):
        read_table(path, CarbonIntensity)


# --- what is made of them ---------------------------------------------------------------------------------------------


def row_of(year, confidence="single"):
    return dataclasses.replace(carbon_intensities()[0], year=year, confidence=confidence)


def test_the_newest_row_with_a_year_of_its_own_is_preferred():
    assert preferred([row_of("2022"), row_of("2024"), row_of("2023-2025"), row_of(None)]).year == "2024"
    assert preferred([row_of(None), row_of("2023-2025")]).year == "2023-2025"
    assert preferred([row_of("2024"), row_of("2025 Q4")]).year == "2025 Q4"
    assert preferred([row_of("2024", "disputed"), row_of(None)]).year is None
    first = row_of("2024")
    assert preferred([first, row_of("2024")]) is first


def test_the_preferred_row_is_the_one_that_the_collection_marks(reference_data):
    import csv

    with (reference_data / "facts" / "carbon_intensity.csv").open(encoding="utf-8", newline="") as file:
        marked = {r["iso2"]: float(r["g_co2e_per_kwh"]) for r in csv.DictReader(file) if r["preferred"] == "1"}
    marked["WORLD"] = marked.pop("ZZ")
    for code, value in marked.items():
        rows = [r for r in carbon_intensities() if r.code == code and r.kind in ("country", "world")]
        assert preferred(rows).g_co2e_per_kwh == value, code


def test_an_unknown_year_is_said_and_a_source_has_a_short_name():
    assert (year_words(None), year_words("2024")) == ("year unknown", "2024")
    assert {source_name(row) for row in carbon_intensities()} == {
        "carbontracker",
        "codecarbon",
        "green-love",
        "EcoCompute",
    }


def test_only_known_arithmetic_has_a_rate():
    assert [gpu("A100 PCIe 80GB").tflops(name) for name in ARITHMETIC] == [19.5, 156.0, 312.0, 312.0]
    assert gpu("T4").tflops("bf16") is None
    with pytest.raises(ValueError, match="no arithmetic 'int8'; use one of fp32, tf32, fp16, bf16"):
        gpu("T4").tflops("int8")
