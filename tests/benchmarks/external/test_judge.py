"""Fits on planted steps: laws are found again, groups are left out, and figures are those of what was left out."""

from __future__ import annotations

import csv
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest

from benchmarks.external import shipped_numbers
from benchmarks.external.features import GROUPS, KINDS, features_of, kind_of
from benchmarks.external.forms import (
    BASE,
    SHIPPED,
    SMALL_KERNELS,
    STEP,
    TERMS,
    larger,
    numbers_of,
    shipped_seconds,
    summed,
)
from benchmarks.external.judge import choice_words, range_factor, used_lines
from benchmarks.external.left_out import ErrorFactor, Judged, errors, errors_left_out, fitted, judged
from benchmarks.external.own_rows import corrected_errors
from benchmarks.external.shipped_numbers import write_numbers
from benchmarks.external.tables import MIXED, PLAIN, Measured, gpu_times_dir, read_tables
from epochcast.gpus.lookup import find_gpu
from epochcast.roofline.network_law import LawNumbers
from epochcast.roofline.roofline import LayerRecord
from epochcast.schema import RunConfig
from epochcast.workload.shape import layer_records

PLANTED = LawNumbers(0.004, 3e-5, 0.7, 0.6, 0.6, 0.8, 4.0)
GPU_NAMES = ("V100 SXM2 16GB", "A100 SXM4 40GB", "RTX 2080 Ti", "T4", "RTX 3090")
NAMES = {"vgg11": (2, 64), "resnet18": (3, 32), "squeezenet1_1": (4, 16), "mobilenet_v2": (5, 32)}


def depthwise(record: LayerRecord) -> LayerRecord:
    return replace(record, kind="depthwise", macs=record.macs // 8, forward_flop=record.forward_flop // 8)


def planted_records():
    found = {}
    for name, (depth, filters) in NAMES.items():
        own = layer_records(RunConfig(depth, filters))
        found[name, 32] = tuple(
            depthwise(each) if name == "mobilenet_v2" and i % 2 else each for i, each in enumerate(own)
        )
    return found


@pytest.fixture(scope="module")
def rows():
    """Steps that follow PLANTED exactly."""
    measured = [
        Measured("one" if i % 2 else "two", "made", find_gpu(gpu), name, 32, batch, precision, True, "pytorch", 3, 1.0)
        for i, (gpu, name, batch, precision) in enumerate(
            (gpu, name, batch, precision)
            for gpu in GPU_NAMES
            for name in NAMES
            for batch in (64, 1024, 8192)
            for precision in (PLAIN, MIXED)
        )
    ]
    found = features_of(measured, planted_records())
    return replace(found, seconds=shipped_seconds(PLANTED, found))


def test_a_planted_law_is_found_again(rows):
    numbers = numbers_of(fitted(SHIPPED, rows))
    assert asdict(numbers) == pytest.approx(asdict(PLANTED), rel=0.02)
    assert np.abs(errors(SHIPPED, fitted(SHIPPED, rows), rows)).max() < 0.01


def test_what_is_left_out_is_not_fitted(rows):
    """One GPU three times as slow as the law: as left out it is missed by that, and spoils no other."""
    is_slow = rows.labels(GROUPS["GPU"]) == "T4"
    slower = replace(rows, seconds=np.where(is_slow, 3 * rows.seconds, rows.seconds))
    found = errors_left_out(SHIPPED, slower, GROUPS["GPU"])
    assert np.exp(found[is_slow]) == pytest.approx(1 / 3, rel=0.02)
    assert np.median(np.abs(found[~is_slow])) < 0.2


def test_error_factors_count_either_side_and_leave_out_what_has_no_answer():
    found = ErrorFactor.of(np.log(np.array([0.5, 1.0, 2.0, 4.0, np.nan])))
    assert (found.median, found.n) == (2.0, 4)
    assert found.p90 == pytest.approx(3.4)
    assert found.bias == pytest.approx(np.sqrt(2))
    assert str(ErrorFactor.of(np.array([np.nan]))) == "-"


def test_the_library_s_law_and_the_form_that_is_fitted_are_one(rows):
    x = fitted(SHIPPED, rows)
    assert SHIPPED.seconds(x, rows) == pytest.approx(shipped_seconds(numbers_of(x), rows), rel=1e-9)


def test_every_further_number_changes_something_and_starts_near_nothing(rows):
    plain = summed()
    for term in TERMS:
        form = summed([term])
        assert len(form.start) == len(plain.start) + 1
        assert np.isfinite(form.seconds(form.start, rows)).all(), term.name


def test_the_larger_of_arithmetic_and_memory_is_less_than_their_sum_and_more_than_half_of_it(rows):
    x = (*BASE, np.log(0.004), np.log(0.6))
    both, either = (form([STEP, SMALL_KERNELS]).seconds(x, rows) for form in (summed, larger))
    fixed = 0.004 + np.exp(BASE[0]) * rows.work.operations
    assert ((either < both) & (either - fixed >= 0.499 * (both - fixed))).all()


def test_by_kind_and_in_all_the_work_is_one(rows):
    assert rows.flop.sum(axis=1) == pytest.approx(rows.work.flop)
    assert rows.bytes.sum(axis=1) == pytest.approx(rows.work.bytes)
    assert rows.kind("depthwise", "bytes").max() > 0
    assert {kind_of(record) for own in planted_records().values() for record in own} <= set(KINDS)


def test_one_measured_network_sets_a_constant_factor_of_its_box_right(rows):
    labels = rows.labels(lambda row: f"{row.gpu.name}|{row.dataset}|{row.precision}")
    factor = {label: 1.0 + i % 3 for i, label in enumerate(np.unique(labels))}
    planted = np.log(np.array([factor[label] for label in labels]))
    for measured in (1, 3):
        found = corrected_errors(rows, planted, measured)
        assert (found.median, found.p90) == (1.0, 1.0)


def test_a_range_holds_its_share_in_each_precision(rows):
    planted = np.where(rows.labels(lambda row: row.precision) == MIXED, np.log(2.0), np.log(1.1))
    found = Judged(SHIPPED, np.zeros(1), dict.fromkeys(GROUPS, planted))
    assert range_factor(found, np.ones(len(rows), bool), rows) == pytest.approx(2.0)


def test_the_choice_names_what_each_number_is_good_for(rows):
    everything = np.ones(len(rows), bool)
    bad, good = (Judged(SHIPPED, np.zeros(1), {g: np.full(len(rows), e) for g in GROUPS}) for e in (0.3, 0.1))
    worse = replace(bad, form=summed())
    better = replace(good, form=summed([TERMS[3]]))
    words = choice_words([worse], [better], everything, good.score(everything))
    assert "costs at least 1.200" in words and f"the best, {TERMS[3].name}, gains 0.000" in words


def test_numbers_are_written_where_the_others_stay(rows, tmp_path):
    path = tmp_path / "assumptions.csv"
    shutil.copy(shipped_numbers.ASSUMPTIONS, path)
    found = judged(SHIPPED, rows, ("GPU", "family", "set"))
    everything = {"convolutional": np.ones(len(rows), bool)}
    before = path.read_text(encoding="utf-8").splitlines()
    for _ in range(2):  # the second time nothing doubles
        measured = {1: ErrorFactor(1.1, 1.6, 9, 1.0), 3: ErrorFactor(1.05, 1.3, 9, 1.0)}
        write_numbers(PLANTED, {"convolutional": 1.5}, found, rows, everything, measured, path)
    after = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in before if not line.startswith("network_")] == [
        line for line in after if not line.startswith("network_")
    ]
    with path.open(encoding="utf-8", newline="") as file:
        cells = {row["name"]: row for row in csv.DictReader(file)}
    assert float(cells["network_launch_sec"]["value"]) == 3e-5
    assert float(cells["network_range_convolutional"]["value"]) == 1.5
    assert [float(cells[f"network_range_after_{n}"]["value"]) for n in ("one", "three")] == [1.6, 1.3]
    assert "with the GPU left out" in cells["network_step_sec"]["source"]


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tables(reference_data):
    return read_tables()


def test_every_row_is_used_or_counted_with_a_reason(tables):
    texts = [path.read_text(encoding="utf-8") for path in gpu_times_dir().glob("*.csv")]
    n = sum(len(list(csv.DictReader(text.splitlines()))) for text in texts)
    assert len(tables.rows) + sum(tables.excluded.values()) == n
    assert len(tables.rows) > 900
    assert tables.excluded["neusight", "forward: no training step"] == 85
    assert not any("TITAN" in reason and "Maxwell" not in reason for table, reason in tables.excluded)


def test_in_what_a_row_multiplies(tables):
    def arithmetic(**wanted):
        return {
            row.arithmetic
            for row in tables.rows
            if all(str(getattr(row, name)).startswith(value) for name, value in wanted.items())
        }

    a100 = [row for row in tables.rows if row.gpu.name == "A100 SXM4 40GB" and row.precision == PLAIN]
    by_setting = {row.setting: row.arithmetic for row in a100}
    assert by_setting["torch1.7 cu11.1"] == "tf32"
    assert by_setting["TF2.3"] == by_setting["TF2.3 XLA"] == "fp32"  # TensorFlow has TF32 from 2.4 on
    assert arithmetic(dataset="neusight") == {"fp32"}
    titan = [row for row in tables.rows if row.gpu.name == "TITAN Xp" and row.precision != PLAIN]
    assert {(row.arithmetic, row.element_bytes) for row in titan} == {("fp32", 2)}


def test_what_is_used_and_why_not_is_printed(tables):
    text = "\n".join(used_lines(tables))
    assert f"used: {len(tables.rows)} steps of" in text
    assert "resnet50 " in text and "RTX 3090 " in text
    assert "detector: its anchors and losses are in no layer" in text


def test_a_folder_without_tables_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tables of measured steps"):
        read_tables(tmp_path)
