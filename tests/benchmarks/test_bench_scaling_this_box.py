"""Carried times against rows measured on that GPU: planted ones, as no second GPU has been measured yet."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from benchmarks.estimates.bench_scaling_this_box import judge, main, summary
from epochcast.gpus.lookup import find_gpu
from epochcast.model.answers.other_gpus import answer_on
from epochcast.model.answers.prediction import RunRequest
from epochcast.model.time_model.saved_model import load_model
from epochcast.paths import pretrained_dir
from epochcast.schema import AggRow, RunConfig
from epochcast.storage.tables import write_table
from tests.support.rows import agg_row

CONFIGS = [RunConfig(3, 32, batch) for batch in (128, 256, 512, 1024, 2048)]


@pytest.fixture(scope="module")
def saved():
    return load_model(pretrained_dir() / "a100.keras")


def rows_of(saved, factor, device_name="NVIDIA H100 80GB HBM3", **changes):
    """Rows that took `factor` times what is carried over to an H100."""
    conditions = replace(saved.conditions, device_name=device_name, **changes)
    known = {name: value for name, value in asdict(conditions).items() if value is not None}
    found = []
    for config in CONFIGS:
        asked = RunRequest(config, "float32")
        seconds = factor * answer_on(find_gpu("NVIDIA H100 80GB HBM3"), saved, asked, []).times.steady.value
        found.append(agg_row(*asdict(config).values(), seconds, **known))
    return found


def test_rows_as_carried_are_told_right_and_slower_ones_set_right_by_the_others(saved):
    as_carried = judge(rows_of(saved, 1.0), saved)
    assert summary(as_carried, "carried") == ["carried", 5, pytest.approx(1.0), pytest.approx(1.0), 100.0]
    slower = judge(rows_of(saved, 1.3), saved)
    assert summary(slower, "carried")[2] == pytest.approx(1.3)
    assert summary(slower, "corrected")[2:4] == [pytest.approx(1.0), pytest.approx(1.0)]
    far = judge(rows_of(saved, 4.0), saved)
    assert summary(far, "carried")[4] == 0.0  # outside the range
    assert summary(far, "corrected")[4] == 100.0


def test_each_set_of_conditions_is_judged_by_itself_and_what_differs_is_named(saved, tmp_path, capsys):
    table = tmp_path / "runs_agg.csv"
    rows = [*rows_of(saved, 1.2), *rows_of(saved, 0.8, backend="jax", pipeline="device")]
    write_table(table, [*rows, agg_row(3, 32, 64, 9.0, device_name="AMD EPYC (2 cores)")], AggRow)
    assert main(["--runs_agg", str(table), "--out", str(tmp_path / "out.json")]) == 0
    told = capsys.readouterr().out
    assert "differs from a100.keras: nothing but the GPU" in told
    assert "backend jax, not tensorflow, pipeline device, not tfdata" in told
    assert "nothing is carried: AMD EPYC (2 cores): no GPU whose rates are known." in told
    written = json.loads((tmp_path / "out.json").read_text())
    assert [len(one["judged"]) for one in written["sets"]] == [5, 5]


def test_other_epochs_and_the_model_s_own_gpu_are_not_judged(saved):
    with pytest.raises(ValueError, match=r"epochs of 5,000 images, the model's have 50,000\."):
        judge(rows_of(saved, 1.0, train_n=5000), saved)
    with pytest.raises(ValueError, match=r"A100 PCIe 80GB in float32 is the model's own\."):
        judge(rows_of(saved, 1.0, device_name="NVIDIA A100 80GB PCIe"), saved)


def test_a_missing_table_is_one_line(tmp_path, capsys):
    assert main(["--runs_agg", str(tmp_path / "none.csv")]) == 1
    assert capsys.readouterr().err.count("error: ") == 1
