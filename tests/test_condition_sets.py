"""Which set of conditions a command uses out of a table that holds several."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace

import pytest
from rows import BOX, agg_row

from aggregate import condition_sets
from aggregate.condition_sets import one_set_of_conditions
from epochcast.cli import filter_of
from epochcast.schema import Conditions

THIS_BOX = BOX.device_name
OTHER = "NVIDIA H100 80GB HBM3"
CPU = "AMD EPYC 9B14 (2 cores)"
HALF = replace(BOX, precision="mixed_float16")
FEW_IMAGES = replace(BOX, train_n=2048)
ELSEWHERE = replace(BOX, device_name=OTHER)


@pytest.fixture(autouse=True)
def box(monkeypatch):
    monkeypatch.setattr(condition_sets, "box_device_name", lambda: THIS_BOX)


def rows_of(*sets):
    """Rows of (conditions, number of configurations), or with the runs of each as a third value."""
    found = []
    for conditions, n, *runs in sets:
        known = {name: value for name, value in asdict(conditions).items() if value is not None}
        found += [agg_row(2, 16, 32 * (i + 1), 2.0, *runs, **known) for i in range(n)]
    return found


@pytest.mark.parametrize(
    ("sets", "chosen"),
    [
        ([(BOX, 3), (FEW_IMAGES, 1)], BOX),
        ([(FEW_IMAGES, 1), (BOX, 3)], BOX),
        ([(BOX, 1), (FEW_IMAGES, 2), (HALF, 5)], HALF),
        ([(ELSEWHERE, 9), (BOX, 1)], BOX),  # this box's own rows first, however few
        ([(ELSEWHERE, 9), (BOX, 1), (HALF, 2)], HALF),
        ([(replace(BOX, device_name="NVIDIA A100-PCIE-80GB"), 2), (ELSEWHERE, 3)], "renamed"),
        ([(replace(BOX, device_name=None), 4), (BOX, 1)], BOX),
        ([(BOX, 2, 1), (HALF, 2, 3)], HALF),  # as many rows, more runs
    ],
)
def test_the_largest_set_of_this_box_is_used(sets, chosen):
    if chosen == "renamed":
        chosen = sets[0][0]
    rows = rows_of(*sets)
    found = one_set_of_conditions(rows, [])
    assert {row.conditions for row in found.rows} == {chosen}
    assert found.rows == [row for row in rows if row.conditions == chosen]
    assert "the largest of this box" in found.reason
    assert len(found.others) == len(sets) - 1
    assert len(found.notes) == len(sets)


@pytest.mark.parametrize("own", [CPU, "NVIDIA T4", THIS_BOX])
def test_a_table_of_other_devices_alone_is_used_and_said_to_be_theirs(monkeypatch, own):
    monkeypatch.setattr(condition_sets, "box_device_name", lambda: own)
    rows = rows_of((ELSEWHERE, 2), (replace(ELSEWHERE, backend="jax"), 3), (replace(ELSEWHERE, device_name=None), 1))
    found = one_set_of_conditions(rows, [])
    assert {row.backend for row in found.rows} == {"jax"}
    assert f"as none is of this box ({own})" in found.reason
    assert OTHER in found.reason


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
    assert found.to_json()["other_conditions"] == [asdict(other) for other in found.others]


@pytest.mark.parametrize("n", [1, 4])
def test_sets_of_one_size_stop_with_choices_that_work_as_they_are_printed(n):
    rows = rows_of((BOX, n), (HALF, n), (FEW_IMAGES, n))
    with pytest.raises(ValueError, match=r"mixes 3 sets of conditions, .* none has most rows") as error:
        one_set_of_conditions(rows, [])
    chosen = set()
    for line in str(error.value).splitlines()[1:]:
        flag, pairs, *count = shlex.split(line)
        assert (flag, count) == ("--conditions", [f"({n}", "row)" if n == 1 else "rows)"])
        found = one_set_of_conditions(rows, [filter_of(pairs)])
        assert len(found.rows) == n
        chosen.add(found.rows[0].conditions)
    assert chosen == {BOX, HALF, FEW_IMAGES}


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
