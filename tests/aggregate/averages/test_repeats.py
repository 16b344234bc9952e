"""Runs that are averaged though they are no repeats are named: by check, by merge and by train."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from epochcast.aggregate.aggregate_runs import main as aggregate_main
from epochcast.aggregate.averages.averaging import aggregate
from epochcast.aggregate.averages.repeats import disagreements, spread_warning
from epochcast.aggregate.averages.source import write_agg
from epochcast.aggregate.checks.report import check_file, check_lines
from epochcast.aggregate.merge import main as merge_main
from epochcast.aggregate.merging.tables import merge
from epochcast.facts.assumptions import assumption
from epochcast.model.train import main as train_main
from epochcast.paths import CODE_ROOT
from epochcast.schema import Conditions, RunRecord
from epochcast.storage.cells import format_rows, header_line
from epochcast.storage.tables import RunTable, read_runs, read_table, write_table
from tests.support.rows import agg_row, run_row

CPU = "A Processor (2 cores)"


def findings(rows):
    lines = (header_line(RunRecord) + format_rows(rows)).splitlines(keepends=True)
    return [finding for finding in check_lines(lines).findings if finding.rule == "repeats"]


def of_seconds(*seconds, device="NVIDIA A100 80GB PCIe", **more):
    conditions = Conditions(device_name=device)
    return [run_row((3 * s, s, s), conditions=conditions, run_id=str(i), **more) for i, s in enumerate(seconds)]


# --- the rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("kind", "device"), [("gpu", None), ("gpu", "NVIDIA A100 80GB PCIe"), ("cpu", CPU)])
def test_noise_is_no_disagreement_and_another_machine_is(seed, kind, device):
    draw = random.Random(seed)
    sd = assumption("repeat_sd_steady", kind).value
    times = [10 * draw.lognormvariate(0, sd) for _ in range(draw.randint(2, 6))]
    assert findings(of_seconds(*times, device=device)) == []
    factor = draw.uniform(1.5, 4) if kind == "gpu" else draw.uniform(4, 8)  # a shared CPU's repeats spread by 19 %
    rows = of_seconds(*times, 10 * factor, device=device)
    (found,) = findings(rows)
    assert ("names its device" in found.found) == (device is None)
    assert len(disagreements(rows)) == 1
    assert disagreements([*rows[:-1], replace(rows[-1], flags=("busy_host",))]) == []  # it enters no mean
    assert disagreements([*rows[:-1], replace(rows[-1], precision="mixed_float16")]) == []


def test_the_run_that_differs_is_named_with_the_others():
    (found,) = findings(of_seconds(2.0, 2.01, 5.0, 1.99, 2.02, 2.03))
    assert (found.line, found.severity) == (4, "warning")
    assert found.found == "5.00 s, but line 2 2.00 s, line 3 2.01 s, line 5 1.99 s and 2 more"
    assert found.expected == "times that spread by at most 16 %"


@pytest.mark.parametrize("name", ["cpu_repeats", "cpu/tensorflow", "cpu/jax"])
def test_the_repeats_that_we_measured_are_repeats(name):
    assert disagreements(read_runs(CODE_ROOT / "results" / name / "runs.csv").rows) == []


def test_repeats_of_the_reference_are_repeats_and_averages_of_them_need_no_warning(reference_data):
    runs = read_runs(reference_data / "a100" / "runs.csv")
    assert disagreements(runs.rows) == []
    assert spread_warning(aggregate(runs).rows) is None


CONFIGS = [(depth, filters, batch) for depth in (2, 3) for filters in (16, 32) for batch in (64, 128)]


def shared(factor, seed, n_shifted=8, device=None, sd=0.0065):
    """Two runs of each of eight configurations, the second of some of them by another machine."""
    draw = random.Random(seed)
    rows = []
    for i, config in enumerate(CONFIGS):
        noise = [draw.lognormvariate(0, sd) for _ in range(2)]
        times = (10 * noise[0], 10 * noise[1] * (factor if i < n_shifted else 1))
        rows += [
            run_row((3 * s, s, s), config=config, conditions=Conditions(device_name=device), run_id=f"{i}-{at}")
            for at, s in enumerate(times)
        ]
    return rows


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 10))])
@pytest.mark.parametrize("factor", [1.1, 1.15, 1.24])
def test_a_small_factor_between_two_machines_is_found_where_most_configurations_share_it(seed, factor):
    rows = shared(factor, seed)
    assert len(findings(rows)) == len(disagreements(rows)) == len(CONFIGS)
    assert "names its device" in findings(rows)[0].found
    averages = aggregate(RunTable(None, rows, [])).rows
    assert spread_warning(averages).startswith("8 of 8 averages")
    assert spread_warning(averages).count("names its device") == 1
    assert findings(shared(1.0, seed)) == []
    limit = 1.22  # of each alone
    assert factor > limit or findings(shared(factor, seed, n_shifted=4)) == []  # of half of them: other work, rather
    assert findings(shared(factor, seed, device=CPU)) == []
    assert factor > limit or findings(rows[:6]) == []  # of three configurations


@pytest.mark.parametrize("device", [None, "NVIDIA A100 80GB PCIe"])
@pytest.mark.parametrize("n", [3, 20, 200])
def test_one_run_far_off_is_found_among_any_number(n, device):
    times = [10.0 + 0.01 * (i % 7) for i in range(n - 1)]
    (found,) = findings(of_seconds(*times, 15.0, device=device))
    assert found.line == n + 1
    assert findings(of_seconds(*times, 11.0, device=device)) == []


def test_aggregate_says_that_runs_are_no_repeats(tmp_path, caplog):
    write_table(tmp_path / "runs.csv", shared(1.15, 1), RunRecord)
    assert aggregate_main(["--runs", str(tmp_path / "runs.csv"), "--out", str(tmp_path / "agg.csv")]) == 0
    assert "runs that differ by more than noise are averaged: (2,16,64) " in caplog.text
    assert "and 5 more; no row names its device: runs of two machines? Find them: epochcast check" in caplog.text


# --- two machines in one table ----------------------------------------------------------------------------------------


@pytest.fixture
def tables(tmp_path, reference_data):
    """The published table, which names no device, and what a machine of half the speed would have published."""
    rows = read_table(reference_data / "a100" / "runs.csv", RunRecord)[:20]
    slow = [
        replace(
            row,
            timestamp_utc=row.timestamp_utc.replace("2025-12", "2025-11"),
            epoch_times_json=tuple(2 * sec for sec in row.epoch_times_json),
            avg_time_sec=2 * row.avg_time_sec,
            images_per_sec=row.images_per_sec / 2,
        )
        for row in rows
    ]
    for name, own in (("fast", rows), ("slow", slow)):
        write_table(tmp_path / name / "runs.csv", own, RunRecord)
    return [tmp_path / "fast" / "runs.csv", tmp_path / "slow" / "runs.csv"]


def test_merge_check_and_train_all_say_that_two_machines_are_averaged(tmp_path, tables, monkeypatch, capsys, caplog):
    out = tmp_path / "both" / "runs.csv"
    assert merge_main([*map(str, tables), "--out", str(out), "--json"]) == 0
    warning = json.loads(capsys.readouterr().out)["warning"]
    assert warning.startswith("runs of 2 tables name no device, and count as one machine's, though they differ by more")
    n_configs = len({row.config for row in read_table(out, RunRecord)})
    found = [finding for finding in check_file(out).findings if finding.rule == "repeats"]
    assert len(found) == n_configs
    assert all("no row names its device: runs of two machines?" in finding.found for finding in found)
    write_agg(out, out.with_name("runs_agg.csv"))
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    monkeypatch.setattr("epochcast.model.train.train", lambda *_, **__: {})
    assert train_main(["--runs_agg", str(out.with_name("runs_agg.csv")), "--json"]) == 0
    assert f"{n_configs} of {n_configs} averages are of runs that differ by more than noise" in caplog.text
    assert "runs of two machines?" in caplog.text


def test_a_table_merged_with_a_copy_of_itself_is_one_machine_s(tmp_path, tables):
    copy = tmp_path / "copy" / "runs.csv"
    write_table(copy, read_table(tables[0], RunRecord)[:10], RunRecord)
    assert merge([tables[0], copy], tmp_path / "both" / "runs.csv").warning is None


def test_named_devices_need_no_warning(tmp_path):
    for i, seconds in enumerate((2.0, 4.0)):
        write_table(tmp_path / str(i) / "runs.csv", of_seconds(seconds, device=f"NVIDIA {i}"), RunRecord)
    both = [tmp_path / "0" / "runs.csv", tmp_path / "1" / "runs.csv"]
    assert merge(both, tmp_path / "both" / "runs.csv").warning is None


def test_the_warning_of_averages_names_the_worst():
    rows = [agg_row(n=2, std=0.01), agg_row(3, seconds=86.5, n=2, std=40.3), agg_row(4, n=3, std=0.5), agg_row(5)]
    text = spread_warning(rows)
    assert text.startswith(
        "2 of 4 averages are of runs that differ by more than noise (worst: (3,16,64) 86.5 s, sd 40.3 s)"
    )
    assert spread_warning(rows[:1] + rows[3:]) is None
