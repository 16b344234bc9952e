"""Medians of submissions: which runs they are of, and what a table of them refuses."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from epochcast.mlperf.regressor.entries import EntryMedian, entry_medians, family_of
from epochcast.storage.tables import read_table, write_table
from epochcast.validation import FieldError
from tests.support.mlperf.entries import few_entries, runs_of, shipped_entries


def test_the_medians_of_the_runs_of_entries_are_those_entries():
    entries = few_entries()
    found = entry_medians(runs_of(reversed(entries)))
    assert found.excluded == {}
    assert Counter(found.entries) == Counter(replace(each, runs=3) for each in entries)
    rounds = [each.round for each in found.entries]
    assert rounds == sorted(rounds)


def test_runs_that_say_nothing_of_an_entry_are_counted_by_their_reason():
    run = runs_of(few_entries()[:1])[0]
    runs = [
        run,
        replace(run, status="aborted", time_sec=1.0),
        replace(run, n_accelerators=None, time_sec=1.0),
        replace(run, division="open", time_sec=1.0),
        replace(run, division=None, time_sec=1.0),
        replace(run, device="CPU", device_kind="cpu", time_sec=1.0),
    ]
    found = entry_medians(runs)
    assert [(each.time_sec, each.runs) for each in found.entries] == [(run.time_sec, 1)]
    assert found.excluded == {
        "not successful, or on an unknown number of accelerators": 2,
        "not of the closed division": 2,
        "on a device that the facts do not have, such as a processor": 1,
    }


def test_a_table_of_entries_is_read_as_it_was_written(tmp_path):
    write_table(tmp_path / "entries.csv", list(few_entries()), EntryMedian)
    assert read_table(tmp_path / "entries.csv", EntryMedian) == list(few_entries())


@pytest.mark.parametrize(
    ("column", "value"), [("device", "H100"), ("n_accelerators", 0), ("time_sec", 0.0), ("runs", 0)]
)
def test_an_entry_that_cannot_be_is_refused(column, value):
    with pytest.raises(FieldError, match=column):
        replace(few_entries()[0], **{column: value})


def test_devices_of_one_generation_are_one_family():
    assert {family_of(name) for name in ("H100 SXM5", "H100 PCIe", "H200 SXM")} == {"hopper"}
    assert {family_of(name) for name in ("A100 SXM4 80GB", "A30", "A40")} == {"ampere"}
    assert family_of("TPU v3") == family_of("TPU v5p") == "tpu"


def test_the_shipped_entries_are_of_twelve_rounds_and_no_run_counts_twice():
    entries = shipped_entries()
    assert len({each.round for each in entries}) == 12
    assert len({(each.entry, each.device, each.n_accelerators) for each in entries}) == len(entries) == 1779
    assert sum(each.runs for each in entries) == 17_592
