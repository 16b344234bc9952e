"""Rows of records.csv: written as they are read, and refused where they say what cannot be."""

from __future__ import annotations

import dataclasses

import pytest

from epochcast.mlperf.records import MlperfRecord, read_records, round_number, write_records
from epochcast.storage.files import refuse_another_kind
from epochcast.validation import FieldError


def record(**changes) -> MlperfRecord:
    values = {
        "round": "4.0",
        "submitter": "Dell",
        "system": "XE9680x8H100-SXM-80GB",
        "benchmark": "bert",
        "time_sec": 319.25,
        "log": "v4.0/Dell/results/XE9680x8H100-SXM-80GB/bert/result_0.txt",
        "sha256": "ab" * 32,
        "status": "success",
        "division": "closed",
        "device": "H100 SXM5",
        "device_kind": "gpu",
        "accelerator": "NVIDIA H100-SXM5-80GB, 700 W",
        "n_accelerators": 8,
    }
    return MlperfRecord(**values | changes)


def test_rows_written_are_the_rows_read(tmp_path):
    rows = [
        record(),
        record(round="5.10", target_quality=-0.5, final_quality=float("1e-7"), seed=0, framework='PyTorch "24,04"'),
        record(status=None, device=None, device_kind=None, accelerator=None, n_accelerators=None, division=None),
    ]
    write_records(tmp_path / "records.csv", rows)
    assert read_records(tmp_path / "records.csv") == rows


def test_only_a_run_that_reached_its_target_on_known_accelerators_is_usable():
    assert record().is_usable
    assert record(device=None).is_usable  # known by its name, though not in the facts
    for name in ("status", "accelerator", "n_accelerators"):
        assert not dataclasses.replace(record(), **{name: None}).is_usable
    assert not record(status="aborted").is_usable


def test_rounds_are_ordered_by_their_numbers():
    names = ["5.0", "0.7", "10.0", "5.1", "0.5"]
    assert sorted(names, key=round_number) == ["0.5", "0.7", "5.0", "5.1", "10.0"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("round", "v4.0"), ("benchmark", ""), ("time_sec", 0.0), ("status", "abort"), ("n_accelerators", 0)],
)
def test_a_value_that_cannot_be_is_refused_by_its_name(name, value):
    with pytest.raises(FieldError, match=f"MlperfRecord.{name} must be"):
        record(**{name: value})


def test_a_table_of_records_replaces_no_table_of_another_kind(tmp_path):
    runs, records = tmp_path / "runs.csv", tmp_path / "records.csv"
    runs.write_text("timestamp_utc,tf_version,depth\nx,y,z\n")
    with pytest.raises(ValueError, match="is a table of runs, and is not replaced by a table of MLPerf runs"):
        write_records(runs, [record()])
    write_records(records, [record()])
    refuse_another_kind(records, records.read_bytes())  # a new extraction replaces the old one
