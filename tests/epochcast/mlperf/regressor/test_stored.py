"""A regressor in two files: the same after a round trip, refused where they are damaged or do not belong together."""

from __future__ import annotations

import functools
import json

import pytest

from epochcast.mlperf.regressor.entries import Workload
from epochcast.mlperf.regressor.regressor import TimeRegressor, fit_regressor
from epochcast.mlperf.regressor.stored import ENTRIES, FITTED, SHIPPED, load_regressor, save_regressor
from tests.support.mlperf.entries import few_entries

ASKED = [Workload("resnet", "H100 SXM5", 8), Workload("retinanet", "B200 SXM", 64)]


@functools.cache
def few() -> TimeRegressor:
    return fit_regressor(few_entries())


@pytest.fixture
def folder(tmp_path):
    save_regressor(tmp_path / "deep" / "er", few())
    return tmp_path / "deep" / "er"


def test_a_regressor_answers_the_same_after_a_round_trip(folder):
    before, after = few(), load_regressor(folder)
    assert after.entries == before.entries
    assert after.fitted == before.fitted
    for one, other in zip(map(before.estimate, ASKED), map(after.estimate, ASKED), strict=True):
        assert one == other


def test_the_shipped_files_belong_together_and_are_small():
    assert load_regressor().rounds[-1] == "5.0"
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 300_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda numbers: numbers.pop("variances"), "KeyError: 'variances'"),
        (lambda numbers: numbers["variances"].pop("count"), "variances of other terms"),
        (lambda numbers: numbers["variances"].update(count=0.0), "a number that is not above 0"),
        (lambda numbers: numbers["weights"].pop(), "weights of"),
        (lambda numbers: numbers["weights"].__setitem__(0, "1"), "a number that is not above 0"),
        (lambda numbers: numbers["range_factors"].update({"a guess": 1.0}), "range factors of other bases"),
        (lambda numbers: numbers["errors"].update(resnet=-1.0), "an error below 0"),
        (lambda numbers: numbers.update(entries_sha256="0" * 64), "fitted to other entries than"),
    ],
)
def test_numbers_that_cannot_be_are_refused_in_one_sentence(folder, change, said):
    numbers = json.loads((folder / FITTED).read_text())
    change(numbers)
    (folder / FITTED).write_text(json.dumps(numbers))
    with pytest.raises(ValueError, match=said) as caught:
        load_regressor(folder)
    assert str(caught.value).startswith(str(folder / FITTED))
    assert "epochcast mlperf train" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000])
def test_a_file_that_holds_no_numbers_is_refused(folder, text):
    (folder / FITTED).write_text(text)
    with pytest.raises(ValueError, match="expected the numbers of a regressor"):
        load_regressor(folder)


@pytest.mark.parametrize("name", [ENTRIES, FITTED])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_regressor(folder)
