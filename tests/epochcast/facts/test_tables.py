"""The tables of facts hold what can be: units, ranges, sources, dense rates, and each name once."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections import Counter

import pytest

from epochcast.facts import tables as facts
from epochcast.facts.tables import (
    ARITHMETIC,
    GPU,
    CarbonIntensity,
    accelerators,
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
from epochcast.gpus.lookup import find_gpu, words_of
from epochcast.storage.cells import columns, format_rows, header_line
from epochcast.storage.tables import read_table

TABLES = {
    function.__name__: function
    for function in (
        accelerators,
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
    "ampere": (TWO, FULL, FULL),
    "ampere_throttled": (ONE, HALF, HALF),  # the A10G, as a gaming card is
    "ada": (TWO, FULL, FULL),
    "ada_throttled": (ONE, HALF, HALF),  # the L40
    "ampere_ga100": ((7.8, 8.2), (15.8, 16.3), (15.8, 16.3)),
    "hopper": ((6.9, 7.5), (13.8, 15), (13.8, 15)),
    "hopper_export": ((1.6, 1.75), (3.3, 3.45), (3.3, 3.45)),  # the H20
    "blackwell": ((14.5, 16), (29, 32), (29, 32)),
    "cdna1": (None, (7.8, 8.2), (3.9, 4.1)),
    "cdna2": (None, (7.8, 8.2), (7.8, 8.2)),
    "cdna3": ((3.9, 4.1), (7.8, 8.2), (7.8, 8.2)),
    "cdna4": (None, (15.5, 16.2), (15.5, 16.2)),
    "rdna3": (None, TWO, TWO),
    "gaudi": (None, None, None),
    "tpu": (None, None, None),
    "ipu": (None, None, None),
    "ascend": (None, None, None),
}
KINDS_BY_FAMILY = {"gaudi": "hpu", "tpu": "tpu", "ipu": "ipu", "ascend": "npu"}  # of all others gpu
# where a kind has others than RANGES: an IPU's memory is inside the processor
RANGES_BY_KIND = {"ipu": {"memory_gb": (0.3, 2), "memory_bandwidth_gbs": (40_000, 70_000)}}


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
    """Names that two GPUs, or two spellings of one, share after normalising, if no column says that they do."""
    names = [name for gpu in rows for name in (gpu.name, *gpu.aliases)]
    names += dict.fromkeys(gpu.shared_name for gpu in rows if gpu.shared_name is not None)
    counts = Counter("".join(words_of(name)) for name in names)
    return [name for name, n in counts.items() if n > 1 or not name]


def complaints_about_cells(rows):
    """Values out of range, years and confidences of another form, rows without a source."""
    found = []
    for row in rows:
        ranges = RANGES | RANGES_BY_KIND.get(getattr(row, "kind", None), {})
        for name in columns(type(row)):
            value = getattr(row, name)
            if name in ranges and value is not None and not ranges[name][0] <= value <= ranges[name][1]:
                found.append(f"{name} {value}")
        if row.year is not None and not YEAR.fullmatch(row.year):
            found.append(f"year {row.year}")
        if row.confidence not in CONFIDENCE:
            found.append(f"confidence {row.confidence}")
        if len(row.source.split()) < 1 or "not stated" in format_rows([row]):
            found.append(f"source {row.source}")
    return found


def gpu(name):
    return next(g for g in accelerators() if g.name == name)


# --- what the tables hold ---------------------------------------------------------------------------------------------


def test_all_facts_are_carried():
    counts = {name: len(table()) for name, table in TABLES.items()}
    assert counts.pop("accelerators") >= 92
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
    assert [complaint for g in accelerators() for complaint in complaints_about_rates(g)] == []
    assert {g.family for g in accelerators()} == set(RATIOS)


def test_the_kind_of_an_accelerator_is_its_family_s_and_gpus_are_those_of_one_kind():
    assert [a.name for a in accelerators() if a.kind != KINDS_BY_FAMILY.get(a.family, GPU)] == []
    assert [a.name for a in gpus()] == [a.name for a in accelerators() if a.kind == GPU]
    assert {a.name for a in accelerators()} - {a.name for a in gpus()} >= {"TPU v4", "Gaudi2", "Bow IPU", "Ascend 910"}


def test_a_form_factor_is_the_one_in_the_name():
    for each in accelerators():
        for form in ("PCIe", "SXM"):
            if form in each.name:
                assert (each.form_factor or "").startswith(form), each.name


def test_no_two_gpus_share_a_name():
    assert complaints_about_names(accelerators()) == []


def test_rows_of_prices_and_speeds_are_of_gpus_that_are_known():
    names = {g.name for g in accelerators()}
    assert {row.gpu for row in (*cloud_prices(), *speed_rows(), *gpu_disputes())} <= names


def test_a_disputed_value_is_another_than_ours():
    for dispute in gpu_disputes():
        assert getattr(gpu(dispute.gpu), dispute.column) != dispute.value


def test_what_a_second_source_confirms_is_a_field_that_has_a_value():
    of = {"bandwidth": "memory_bandwidth_gbs", "memory": "memory_gb", "tdp": "tdp_w", "fp16": "fp16_tflops"}
    for g in accelerators():
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


# --- the same as in the collection ------------------------------------------------------------------------------------

# what the collection leaves open in words is empty here; a span that is a whole file's stays one
YEARS = {
    "not stated": "",
    "not stated in file": "",
    "2023-2025 (per file header)": "2023-2025",
    "eGRID 2023 (per file header)": "2023",
    "2020-2025-05": "2020-2025",
}
UNKNOWN_LICENCES = {"none stated in repo", "see repo", "repo LICENSE not checked here"}
KINDS = {"US eGRID subregion": "us_egrid", "Nordic bidding zone": "nordic_zone", "cloud region": "cloud_region"}
OUR_NAMES = {"H20": "H20 96GB", "ZZ": "WORLD", "gcp:me-cenrtal1": "gcp:me-central1"}


def collection(folder, name):
    with (folder / "facts" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def year_of(text):
    return YEARS.get(text, text) or None


def named(text):
    return OUR_NAMES.get(text, text)


def number(text):
    return float(text) if text else None


def licence_of(text):
    return None if text in UNKNOWN_LICENCES else text


def test_every_gpu_is_the_collection_s(reference_data):
    theirs = collection(reference_data, "gpus.csv")
    assert len(theirs) == 92
    for row in theirs:
        ours = gpu(named(row["name"]))
        rates = {f"{a}_tflops": number(row[f"{a}_tflops{'' if a == 'fp32' else '_dense'}"]) for a in ARITHMETIC}
        others = {name: number(row[name]) for name in ("memory_gb", "memory_bandwidth_gbs", "tdp_w")}
        texts = {name: row[name] or None for name in ("vendor", "year")}
        expected = {**rates, **others, **texts}
        assert {name: getattr(ours, name) for name in expected} == expected, row["name"]
        assert set(filter(None, row["corroborated_fields"].split(";"))) <= set(ours.corroborated)
        if row["confidence"] == "two":
            assert ours.confidence == "two"
        for alias in filter(None, row["aliases"].split(";")):
            assert find_gpu(alias, ours.memory_gb).name == ours.name


def said(row):
    return float(row["g_co2e_per_kwh"]), year_of(row["year"]), row["source"].lower(), licence_of(row["licence"])


def test_every_intensity_is_the_collection_s_and_stands_at_its_place(reference_data):
    expected = Counter()
    for row in collection(reference_data, "carbon_intensity.csv"):
        place = ("world", "WORLD", None) if row["iso2"] == "ZZ" else ("country", row["iso2"], row["iso3"])
        expected[(*place, row["country"], *said(row))] += 1
    for row in collection(reference_data, "carbon_intensity_subnational.csv"):
        name = row["name"] if row["kind"] == "cloud region" else None  # the other zones we named
        expected[(KINDS[row["kind"]], named(row["code"]), row["country"], name, *said(row))] += 1
    ours = Counter()
    for row in carbon_intensities():
        name = None if row.kind in ("us_egrid", "nordic_zone") else row.name
        said_here = row.g_co2e_per_kwh, row.year, source_name(row).lower(), row.licence
        ours[(row.kind, row.code, row.iso3, name, *said_here)] += 1
    assert ours == expected
    assert ours.total() == 572


def test_every_electricity_price_is_the_collection_s_and_stands_at_its_place(reference_data):
    expected = Counter()
    for row in collection(reference_data, "electricity_prices.csv"):
        tariff, year = year_of(row["tariff"]), year_of(row["year"])
        said_there = float(row["usd_per_kwh"]), tariff, year, row["source"].lower(), licence_of(row["licence"])
        expected[(named(row["iso2"]), *said_there)] += 1
    ours = Counter(
        (r.code, r.usd_per_kwh, r.tariff, r.year, source_name(r).lower(), r.licence) for r in electricity_prices()
    )
    assert ours == expected
    names = {
        r["iso2"]: r["region"] for r in collection(reference_data, "electricity_prices.csv") if r["preferred"] == "1"
    }
    for row in electricity_prices():
        if row.kind == "country" and source_name(row) == "green-love":
            assert row.name == names[row.code]


def test_every_offer_of_a_cloud_is_the_collection_s(reference_data):
    expected = Counter()
    for row in collection(reference_data, "cloud_prices.csv"):
        instance, _, offer = row["instance"].partition(" (")
        key = row["provider"], instance, row["gpu"], int(row["gpus"]), offer.removesuffix(")") or "on-demand"
        expected[(*key, float(row["usd_per_gpu_hour"]), year_of(row["as_of"]), row["confidence"])] += 1
    assert expected == Counter(
        (r.provider, r.instance, r.gpu, r.gpus, r.offer, r.usd_per_gpu_hour, r.year, r.confidence)
        for r in cloud_prices()
    )


def test_every_speed_is_the_collection_s(reference_data):
    texts = ("gpu", "task", "precision", "unit", "confidence")
    expected = Counter(
        (*(r[name] for name in texts), float(r["throughput"]), int(r["gpus"]))
        for r in collection(reference_data, "speed_benchmarks.csv")
    )
    assert expected == Counter((*(getattr(r, name) for name in texts), r.throughput, r.gpus) for r in speed_rows())


def test_every_pue_and_equivalence_is_the_collection_s(reference_data):
    assert [(r.scope, r.pue, r.year) for r in pues()] == [
        (r["scope"], float(r["pue"]), year_of(r["year"])) for r in collection(reference_data, "pue.csv")
    ]
    theirs = {r["key"]: r for r in collection(reference_data, "co2_equivalences.csv")}
    assert {r.key for r in equivalences()} == set(theirs)
    for ours in equivalences():
        row = theirs[ours.key]
        assert (ours.label, ours.unit, ours.year) == (row["label"], row["unit"], year_of(row["as_of"]))
        assert ours.kg_co2e_per_unit == float(row["kg_co2e_per_unit"])
        assert ours.confidence in (row["confidence"], "disputed")  # what is not to be shown we call disputed


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
        ("L40", {"tf32_tflops": 181.0, "fp16_tflops": 362.0, "bf16_tflops": 362.0}),  # what is dense for an L40S
        ("L40S", {"tf32_tflops": 90.5, "fp16_tflops": 181.0, "bf16_tflops": 181.0}),  # the L40's
        ("L40S", {"tf32_tflops": 366.0, "fp16_tflops": 733.0, "bf16_tflops": 733.0}),
        ("A10G", {"tf32_tflops": 70.0, "fp16_tflops": 140.0, "bf16_tflops": 140.0}),
        ("A10G", {"tf32_tflops": 62.5, "fp16_tflops": 125.0, "bf16_tflops": 125.0}),  # the A10's
        ("H20 96GB", {"tf32_tflops": 148.0, "fp16_tflops": 296.0, "bf16_tflops": 296.0}),
    ],
)
def test_a_rate_with_sparsity_or_of_other_cores_is_noticed(name, fault):
    assert complaints_about_rates(dataclasses.replace(gpu(name), **fault))


def test_doubled_rates_of_any_gpu_are_noticed():
    """As a table with sparsity has them, all at once or one alone."""
    n_checked = 0
    for g in accelerators():
        rates = {f"{name}_tflops": rate for name in ("tf32", "fp16", "bf16") if (rate := g.tflops(name))}
        if g.fp32_tflops is None or not rates:
            continue
        for names in (list(rates), *([name] for name in rates)):
            assert complaints_about_rates(dataclasses.replace(g, **{name: 2 * rates[name] for name in names})), names
        n_checked += 1
    assert n_checked > 70


def test_a_name_that_stands_twice_is_noticed():
    doubled = dataclasses.replace(gpu("A100 PCIe 80GB"), aliases=("Tesla A100-SXM4-80GB",))
    others = [g for g in accelerators() if g.name != doubled.name]
    assert complaints_about_names([*others, doubled]) == ["a100sxm480gb"]


def test_a_name_that_boards_of_different_memory_share_is_no_other_board_s_name():
    plain = dataclasses.replace(gpu("RTX 3080 Ti"), aliases=("RTX 3080",))
    others = [g for g in accelerators() if g.name != plain.name]
    assert complaints_about_names([*others, plain]) == ["rtx3080"]
    twin = dataclasses.replace(gpu("RTX 3080 10GB"), name="RTX 3080 12GB")
    assert complaints_about_names([*accelerators(), twin]) == []


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


def test_a_missing_table_of_facts_says_that_it_comes_with_the_program(monkeypatch, tmp_path):
    monkeypatch.setattr(facts, "FACTS", tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        pues.__wrapped__()
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'pue.csv'}: no such table of facts")
    assert "install it again" in message
    assert "Measure" not in message


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
    with (reference_data / "facts" / "carbon_intensity.csv").open(encoding="utf-8", newline="") as file:
        marked = {r["iso2"]: float(r["g_co2e_per_kwh"]) for r in csv.DictReader(file) if r["preferred"] == "1"}
    marked["WORLD"] = marked.pop("ZZ")
    for code, value in marked.items():
        rows = [r for r in carbon_intensities() if r.code == code and r.kind in ("country", "world")]
        assert preferred(rows).g_co2e_per_kwh == value, code


@pytest.mark.parametrize("name", TABLES)
def test_a_source_that_is_a_program_has_its_address(name):
    programs = ("MLCost", "EcoCompute", "green-love", "codecarbon", "carbontracker")
    for row in TABLES[name]():
        assert not row.source.startswith(programs) or "(github.com/" in row.source, row.source
        assert "[" not in row.source


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
