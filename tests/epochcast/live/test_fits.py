"""Rows of fits.csv, which of them count, and damaged tables."""

from __future__ import annotations

import dataclasses
import random
import re

import pytest

from epochcast.live.fits import FitRecord, append_fit, earlier_fits, read_fits, rows_or_why
from epochcast.paths import CODE_ROOT
from epochcast.schema import SCHEMA_VERSION, NewerSchemaError
from epochcast.storage.cells import columns
from tests.support.rows import fit_row

KEY = fit_row().training_key


def random_fit(seed):
    """A valid row with random numbers, random unknowns and names that CSV has to quote."""
    rng = random.Random(seed)

    def maybe(value):
        return None if rng.random() < 0.3 else value

    return fit_row(
        kind=rng.choice(["estimate", "fit"]),
        model_class="".join(rng.choice("abcXYZ,\"';é漢 \t\\=#") for _ in range(rng.randint(1, 20))),
        timed_epoch_sec=rng.uniform(0.5, 2) * 10 ** rng.randint(-9, 9),
        params=maybe(rng.randint(0, 10**9)),
        sample_shape=tuple(rng.choice(["32x32x3", "scalar", "64"]) for _ in range(rng.randint(0, 3))),
        total_sec_low=maybe(0.0),
        n_saves=maybe(0),
        sampling=maybe("pairs"),
        is_contended=maybe(rng.randint(0, 1)),
        tf32=maybe("off"),
        energy_source=maybe("nvml_counter"),
        source=maybe("/home/Jörg/a,b.py"),
        peak_memory_bytes=maybe(rng.randint(1, 2**40)),
        step_flop=maybe(rng.randint(1, 2**60)),
        step_depthwise_bytes=maybe(0),
    )


@pytest.mark.parametrize("seed", range(20))
def test_rows_written_are_the_rows_read(tmp_path, seed):
    rows = [random_fit(10 * seed + i) for i in range(3)]
    for row in rows:
        append_fit(tmp_path / "fits.csv", row)
    assert read_fits(tmp_path / "fits.csv") == rows


def test_what_is_unknown_is_an_empty_cell(tmp_path):
    required = {f.name for f in dataclasses.fields(FitRecord) if f.default is dataclasses.MISSING}
    append_fit(tmp_path / "fits.csv", fit_row())
    header, cells = ((tmp_path / "fits.csv").read_text().splitlines()[i].split(",") for i in (0, 1))
    empty = {name for name, cell in zip(header, cells, strict=True) if cell == ""}
    assert empty == set(columns(FitRecord)) - required - {"schema_version"}


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "guess"},
        {"timed_epoch_sec": 0.0},
        {"batches": 0},
        {"energy_j_per_epoch": 0.0},
        {"peak_memory_bytes": 0},
        {"step_flop": 0},
        {"step_small_kernel_flop": -1},
        {"is_contended": 2},
        {"training_key": ""},
        {"timestamp_utc": "yesterday"},
    ],
)
def test_a_value_that_its_column_can_not_hold_is_refused_by_name(changes):
    with pytest.raises(ValueError, match=f"FitRecord.{next(iter(changes))} must be"):
        fit_row(**changes)


def test_a_row_of_a_newer_version_is_refused():
    with pytest.raises(NewerSchemaError, match="a newer Epochcast wrote this row"):
        fit_row(schema_version=SCHEMA_VERSION + 1)


@pytest.mark.parametrize("first_missing", ["peak_memory_bytes", "step_operations"])
def test_a_table_without_the_newest_columns_is_read_and_not_appended_to(tmp_path, first_missing):
    path = tmp_path / "fits.csv"
    append_fit(path, fit_row())
    n = columns(FitRecord).index(first_missing)
    path.write_text("".join(f"{','.join(line.split(',')[:n])}\n" for line in path.read_text().splitlines()))
    assert read_fits(path) == [fit_row()]
    with pytest.raises(ValueError, match=r"an older schema: .* Move it away: a new table is then begun\."):
        append_fit(path, fit_row())


def test_the_latest_rows_of_the_same_training_and_the_same_contention_count():
    same = [fit_row(run_id=f"same-{n}", is_contended=0) for n in range(6)]
    others = [
        fit_row(training_key="another", is_contended=0),
        fit_row(batches=20, is_contended=0),
        fit_row(is_contended=1),
        fit_row(),  # not known to be as quiet
    ]
    rows = [*same[:3], *others, *same[3:]]
    assert earlier_fits(rows, KEY, 19, is_contended=False) == same[-4:]
    assert earlier_fits(rows, KEY, 19, is_contended=True) == [others[2]]
    assert earlier_fits(rows, "unseen", 19, is_contended=False) == []


def test_a_damaged_table_is_one_note_and_counts_nothing(tmp_path):
    path = tmp_path / "fits.csv"
    assert rows_or_why(None) == rows_or_why(path) == ([], [])
    append_fit(path, fit_row())
    assert rows_or_why(path) == ([fit_row()], [])
    path.write_text(path.read_text().replace(",2.5,", ",soon,", 1))
    rows, (note,) = rows_or_why(path)
    assert rows == []
    assert f"{path}:2, column 'timed_epoch_sec': expected a number, got 'soon'" in note


def test_the_documentation_names_every_column_in_the_order_of_the_file():
    text = (CODE_ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- columns of fits.csv -->\n((?:\|.*\n)+)", text)
    documented = [name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert documented == columns(FitRecord)
