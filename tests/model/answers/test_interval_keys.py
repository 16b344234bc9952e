"""In the JSON of every command the ends of an interval are `K_low` and `K_high`, beside the value `K`."""

from __future__ import annotations

import json
import re

import pytest

from epochcast.__main__ import main
from epochcast.model.evaluation.evaluation import evaluate
from epochcast.schema import AggRow, RunConfig, RunRecord
from epochcast.storage.tables import write_table
from tests.support.rows import BOX, agg_row, run_row

OTHER_ENDS = re.compile(r"(^|_)(lo|hi|upper|lower|band|90|95|ci95)(_|$)")
RULE_OF_OTHERS = {"upper_sec", "upper_kwh", "rel_ci95"}  # a promise with a margin; a column of runs.csv


def keys_of(value):
    """Every object's keys in a JSON value."""
    if isinstance(value, dict):
        yield set(value)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys_of(item)


def assert_named_alike(value):
    for keys in keys_of(value):
        named = {key for key in keys if key.endswith(("_low", "_high"))}
        for key in named:
            name = key.rpartition("_")[0]
            assert {name, f"{name}_low", f"{name}_high"} <= keys, key
        assert not [key for key in keys - RULE_OF_OTHERS if OTHER_ENDS.search(key)]


@pytest.fixture
def home(home, tmp_path):
    """A home with averages that measured energy, and two tables of runs."""
    known = {"device_name": BOX.device_name, "precision": "float32", "backend": "tensorflow", "dataset": "cifar10"}
    rows = [
        agg_row(3, 32, batch, 200 / batch, n_energy=6, energy_j_per_epoch_median=30_000 / batch, train_n=50_000,
                energy_j_per_epoch_mad=9.0, mean_power_w_median=150.0, overhead_sec_mean=9.0, **known)
        for batch in (64, 128, 256)
    ]  # fmt: skip
    write_table(tmp_path / "results" / "runs_agg.csv", rows, AggRow)
    for name, factor in (("a", 1.0), ("b", 1.2)):
        runs = [
            run_row([9.0, *(factor * (2.0 + 0.01 * n) for n in range(6))], config=(2, 16, 32 * k), run_id=f"{name}{k}")
            for k in range(1, 8)
        ]
        write_table(tmp_path / f"{name}.csv", runs, RunRecord)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("predict --epochs 5 --gpu H100_PCIe --region DE --embodied", "peak_memory_gib_low"),
        ("predict --epochs 5", "board_energy_j_per_epoch_high"),
        ("predict --batch_size 64,128", None),
        ("explain --gpu H100_PCIe", "predicted_avg_time_sec_low"),
        ("plan --budget_sec 200 --epochs 5 --overhead_sec 5 --first_epoch none", None),
        ("plan --budget_kwh 0.1 --epochs 5 --overhead_sec 5 --first_epoch none", "total_kwh_low"),
        ("facts electricity --region DE", None),
        ("compare a.csv b.csv", None),
    ],
)
def test_ends_of_intervals_are_named_low_and_high(home, monkeypatch, capsys, words, key):
    monkeypatch.chdir(home)
    assert main([word.replace("_PCIe", " PCIe") for word in [*words.split(), "--json"]]) == 0
    value = json.loads(capsys.readouterr().out)
    assert_named_alike(value)
    assert key is None or key in value
    assert "place" not in value or words.startswith("facts")  # there it is the region
    if words.startswith("compare"):
        assert value["coverage"] == 0.95
        assert value["overall"]["ratio_low"] <= value["overall"]["ratio"] <= value["overall"]["ratio_high"]


def test_ends_of_an_evaluation_s_report_are_too(tmp_path, monkeypatch):
    monkeypatch.setattr("epochcast.model.evaluation.evaluation.draw_evaluation", lambda *_: [])  # only time
    rows = [agg_row(2, 16, batch, 100 / batch) for batch in range(32, 432, 32)]
    evaluation, _ = evaluate(rows, [RunConfig(2, 16, 32)], tmp_path, repeats=1)
    report = evaluation.to_json()
    assert_named_alike(report)
    assert {"predicted_sec", "predicted_sec_low", "predicted_sec_high"} <= set(report["unseen"][0])
    assert report["intervals"]["coverage"] == 0.9
