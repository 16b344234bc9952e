"""Which set of conditions a command uses out of a table that holds several."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace

import pytest

from epochcast.aggregate.averages import condition_order, condition_sets
from epochcast.aggregate.averages.condition_order import LEARNABLE_ROWS
from epochcast.aggregate.averages.condition_sets import one_set_of_conditions
from epochcast.gpus import lookup as hardware
from epochcast.schema import Conditions
from epochcast.storage.filters import filter_of
from epochcast.storage.table_appends import append_row
from tests.support.rows import BOX, agg_row, run_row

THIS_BOX = BOX.device_name
OTHER = "NVIDIA H100 80GB HBM3"
CPU = "AMD EPYC 9B14 (2 cores)"
HALF = replace(BOX, precision="mixed_float16")
FEW_IMAGES = replace(BOX, train_n=2048)
ELSEWHERE = replace(BOX, device_name=OTHER)
RENAMED = replace(BOX, device_name="NVIDIA A100-PCIE-80GB")
OLD = replace(BOX, backend_version="2.20")
JAX = replace(BOX, backend="jax", backend_version="0.7")
LARGEST = "the largest"
OF_VERSION = "the one of the installed tensorflow 2.21"


@pytest.fixture(autouse=True)
def box(monkeypatch):
    monkeypatch.setattr(hardware, "box_device_names", lambda: [THIS_BOX])
    monkeypatch.setattr(condition_order, "backend_name", lambda: "tensorflow")
    monkeypatch.setattr(condition_order, "installed_minor", lambda backend: "2.21")


def rows_of(*sets):
    """Rows of (conditions, number of configurations), or with the runs of each as a third value."""
    found = []
    for conditions, n, *runs in sets:
        known = {name: value for name, value in asdict(conditions).items() if value is not None}
        found += [agg_row(2, 16, 32 * (i + 1), 2.0, *runs, **known) for i in range(n)]
    return found


@pytest.mark.parametrize(
    ("sets", "chosen", "why"),
    [
        ([(BOX, 3), (FEW_IMAGES, 1)], BOX, LARGEST),
        ([(FEW_IMAGES, 1), (BOX, 3)], BOX, LARGEST),
        ([(BOX, 1), (FEW_IMAGES, 2), (HALF, 5)], HALF, LARGEST),
        ([(ELSEWHERE, 9), (BOX, 1)], BOX, "the only one"),  # this box's own rows first, however few
        ([(ELSEWHERE, 9), (BOX, 1), (HALF, 2)], HALF, LARGEST),
        ([(RENAMED, 2), (ELSEWHERE, 3)], RENAMED, "the only one"),
        ([(replace(BOX, device_name=None), 4), (BOX, 1)], BOX, "the only one"),
        ([(BOX, 2, 1), (HALF, 2, 3)], HALF, "the one with most runs"),  # as many rows
        ([(OLD, 40), (BOX, 12)], BOX, OF_VERSION),  # after an upgrade
        ([(OLD, 40), (BOX, LEARNABLE_ROWS)], BOX, OF_VERSION),
        (
            [(OLD, 40), (BOX, LEARNABLE_ROWS - 1)],
            OLD,
            "the one with 6 configurations or more",
        ),  # nothing to train from yet
        ([(OLD, 40), (BOX, 12), (HALF, 20)], HALF, f"{OF_VERSION}, of those {LARGEST}"),
        ([(JAX, 40), (OLD, 12)], OLD, "the one of the backend in use, tensorflow"),
        ([(JAX, 4), (OLD, 2)], JAX, LARGEST),
    ],
)
def test_the_set_of_this_box_that_goes_first_is_used_and_the_reason_is_true(sets, chosen, why):
    rows = rows_of(*sets)
    found = one_set_of_conditions(rows, [])
    assert {row.conditions for row in found.rows} == {chosen}
    assert found.rows == [row for row in rows if row.conditions == chosen]
    assert f"; used: {why} of this box, --conditions " in found.reason
    assert len(found.others) == len(sets) - 1
    assert len(found.notes) == len(sets)


@pytest.mark.parametrize("own", [CPU, "NVIDIA T4", THIS_BOX])
def test_a_table_of_other_devices_alone_is_used_and_said_to_be_theirs(monkeypatch, own):
    monkeypatch.setattr(condition_sets, "box_device_name", lambda: own)
    monkeypatch.setattr(hardware, "box_device_names", lambda: [own])
    rows = rows_of((ELSEWHERE, 2), (replace(ELSEWHERE, backend="jax"), 3), (replace(ELSEWHERE, device_name=None), 1))
    found = one_set_of_conditions(rows, [])
    assert {row.backend for row in found.rows} == {"jax"}
    assert f"as none is of this box ({own})" in found.reason
    assert OTHER in found.reason


@pytest.mark.parametrize(
    ("sets", "chosen"),
    [
        ([(ELSEWHERE, 9), (replace(BOX, device_name="L4"), 2)], "L4"),
        ([(BOX, 1), (replace(BOX, device_name="L4"), 9)], THIS_BOX),
    ],
)
def test_rows_of_other_gpus_of_the_box_go_behind_its_own_and_before_those_of_other_boxes(monkeypatch, sets, chosen):
    monkeypatch.setattr(hardware, "box_device_names", lambda: [THIS_BOX, "NVIDIA L4"])
    found = one_set_of_conditions(rows_of(*sets), [])
    assert {row.device_name for row in found.rows} == {chosen}
    assert "of this box, --conditions" in found.reason


def test_one_set_needs_no_word_whosever_it_is():
    for conditions in (BOX, ELSEWHERE, replace(BOX, device_name=None)):
        found = one_set_of_conditions(rows_of((conditions, 2)), [])
        assert (len(found.rows), found.notes) == (2, [])
        assert found.to_json() == {"conditions_chosen": None, "other_conditions": []}


def test_filters_choose_among_the_sets_and_the_rest_is_listed():
    rows = rows_of((BOX, 5), (HALF, 2), (replace(HALF, train_n=2048), 1), (ELSEWHERE, 9))
    found = one_set_of_conditions(rows, [{"precision": "mixed_float16"}])
    assert {row.conditions for row in found.rows} == {HALF}
    assert [other.n_rows for other in found.others] == [1]  # what the filter excludes was not asked for
    assert one_set_of_conditions(rows, [{"device_name": OTHER}]).notes == []


MIXED = [
    BOX,
    replace(BOX, precision=None, device_name="Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz (16 cores)"),
    replace(BOX, precision="mixed_float16"),
    replace(BOX, backend="jax", device_name='it\'s a "GPU" $HOME'),
]


def test_every_set_that_is_listed_has_a_flag_that_picks_it():
    rows = rows_of(*((conditions, i + 1) for i, conditions in enumerate(MIXED)))
    found = one_set_of_conditions(rows, [])
    picked = set()
    for other in found.others:
        flag, pairs = shlex.split(other.flag)
        assert flag == "--conditions"
        alone = one_set_of_conditions(rows, [filter_of(pairs)])
        assert (len(alone.rows), alone.notes) == (other.n_rows, [])
        picked.add(alone.rows[0].conditions)
    assert picked | {found.rows[0].conditions} == set(MIXED)
    listed = [{"flag": other.flag, "n_rows": other.n_rows} for other in found.others]
    assert found.to_json()["other_conditions"] == listed


@pytest.mark.parametrize("n", [1, 4])
def test_of_level_averages_without_runs_the_last_set_in_the_table_is_used(n):
    rows = rows_of((BOX, n), (HALF, n), (FEW_IMAGES, n))
    found = one_set_of_conditions(rows, [])
    assert {row.conditions for row in found.rows} == {FEW_IMAGES}
    assert "; used: the last in the table of this box, --conditions " in found.reason
    found = one_set_of_conditions(rows_of((BOX, n), (HALF, n), (FEW_IMAGES, n + 1), (JAX, n + 1)), [])
    assert "; used: the largest, of those the last in the table of this box, " in found.reason


@pytest.mark.parametrize("newest", [BOX, HALF, FEW_IMAGES])
@pytest.mark.parametrize("by", ["time", "place"])
def test_of_level_sets_the_one_of_the_newest_run_is_used(tmp_path, newest, by):
    sets = [conditions for conditions in (BOX, HALF, FEW_IMAGES) if conditions != newest]
    sets = [newest, *sets] if by == "time" else [*sets, newest]  # of one second the last line is the newest
    runs = tmp_path / "runs.csv"
    for i, conditions in enumerate(sets):
        row = run_row(run_id=f"r{i}", conditions=conditions)
        hour = 9 if by == "time" and conditions == newest else 1
        append_row(runs, replace(row, timestamp_utc=f"2026-01-01T0{hour}:00:00+00:00"))
    rows = rows_of((BOX, 2), (HALF, 2), (FEW_IMAGES, 2))
    found = one_set_of_conditions(rows, [], runs)
    assert {row.conditions for row in found.rows} == {newest}
    assert "; used: the newest of this box, --conditions " in found.reason


def test_conditions_that_nothing_satisfies_list_what_there_is():
    rows = rows_of((BOX, 1))
    with pytest.raises(ValueError, match="none of 1 rows satisfies --conditions backend=torch") as error:
        one_set_of_conditions(rows, [{"backend": "torch"}])
    assert "backend=tensorflow" in str(error.value)
    assert one_set_of_conditions(rows, [{"backend": "torch"}, {"backend": "tensorflow"}]).rows == rows


def test_rows_without_any_condition_are_a_set_like_another():
    unknown = Conditions()
    found = one_set_of_conditions(rows_of((unknown, 3), (BOX, 1)), [])
    assert {row.conditions for row in found.rows} == {BOX}  # unknown is not known to be of this box
