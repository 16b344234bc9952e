"""Peak memory as `predict_perf` reports it: the estimate, and rows that were measured under the same conditions."""

from __future__ import annotations

import dataclasses
import json

import pytest

from epochcast.model import predict_perf
from epochcast.model.answers.measured import measured_rows
from epochcast.model.time_model.saved_model import load_model
from epochcast.paths import CODE_ROOT, pretrained_dir, runs_agg_csv
from epochcast.roofline.network_memory import MemoryLaw
from epochcast.schema import AggRow, Conditions, RunConfig
from epochcast.storage.tables import write_table
from epochcast.workload.memory import MemoryModel, plain_arrays
from tests.support.cli import run_cli
from tests.support.rows import agg_row

CONDITIONS = load_model(pretrained_dir() / "a100.keras").conditions
CONFIG = RunConfig(3, 32, 512)
LAW = MemoryLaw.shipped()
MEASURED = [RunConfig(3, 32, b) for b in (128, 256, 1024)]
FIELDS = ("peak_memory_gib", "peak_memory_gib_low", "peak_memory_gib_high")


pytestmark = pytest.mark.usefixtures("home")


def write_rows(share=0.5, **conditions):
    """The default table, with peaks of this share of the plain estimate."""
    known = dataclasses.asdict(dataclasses.replace(CONDITIONS, **conditions))
    rows = [
        agg_row(c.depth, c.base_filters, c.batch_size, **known, peak_memory_bytes=round(share * plain(c).value))
        for c in MEASURED
    ]
    runs_agg_csv().parent.mkdir(parents=True, exist_ok=True)
    write_table(runs_agg_csv(), rows, AggRow)


def plain(config=CONFIG):
    return plain_arrays(config, CONDITIONS)


def ask(*flags):
    return run_cli(predict_perf.main, "--batch_size", "512", *flags)


def test_without_rows_the_answer_is_the_plain_estimate_by_the_driver_s_count_and_says_so():
    answer = json.loads(ask("--json").out)
    peak = plain().with_context()
    assert [2**30 * answer[name] for name in FIELDS] == pytest.approx([peak.value, peak.low, peak.high])
    assert 2**30 * answer["peak_memory_arrays_gib"] == pytest.approx(plain().value)
    assert answer["peak_memory_basis"].startswith("not calibrated")
    assert MemoryModel.of(CONDITIONS, measured_rows()) == MemoryModel(CONDITIONS)


def test_measured_peaks_calibrate_the_answer():
    write_rows()
    answer = json.loads(ask("--json").out)
    assert answer["peak_memory_arrays_gib"] == pytest.approx(plain().value / 2 / 2**30)
    context = LAW.base_bytes / 2**30
    assert answer["peak_memory_gib"] == pytest.approx(answer["peak_memory_arrays_gib"] + context)
    assert answer["peak_memory_gib_low"] < answer["peak_memory_gib"] < answer["peak_memory_gib_high"]
    high = answer["peak_memory_gib_high"] - LAW.spread * context
    assert 1 < high / (answer["peak_memory_gib_low"] - context / LAW.spread) < 1.05
    assert answer["peak_memory_basis"] == "calibrated by 3 rows, plus the driver's context"


def test_peaks_of_other_conditions_do_not():
    write_rows(precision="mixed_bfloat16")
    assert json.loads(ask("--json").out)["peak_memory_basis"].startswith("not calibrated")


def test_lines_say_the_value_its_band_and_what_it_rests_on():
    write_rows()
    lines = dict(line.split(": ", 1) for line in ask().out.splitlines())
    answer = json.loads(ask("--json").out)
    assert float(lines["peak_memory_gib"]) == pytest.approx(answer["peak_memory_gib"], rel=5e-3)  # 3 digits
    ends = [float(end) for end in lines["peak_memory_band_gib"].split(" to ")]
    assert ends == pytest.approx([answer["peak_memory_gib_low"], answer["peak_memory_gib_high"]], rel=5e-3)
    assert lines["peak_memory_basis"] == "calibrated by 3 rows, plus the driver's context"
    assert not {"peak_memory_gib_low", "peak_memory_gib_high"} & set(lines)


def test_a_table_that_can_t_be_read_is_no_reason_not_to_answer(caplog):
    runs_agg_csv().parent.mkdir(parents=True)
    runs_agg_csv().write_text("who,what\n")
    answer = json.loads(ask("--json").out)
    assert answer["peak_memory_basis"].startswith("not calibrated")
    assert "answered without measured rows" in caplog.text
    assert str(runs_agg_csv()) in caplog.text


def test_a_model_whose_conditions_are_unknown_is_estimated_all_the_same():
    peak = MemoryModel.of(Conditions(), measured_rows()).peak(CONFIG)
    assert 0 < peak.low < peak.value < peak.high


# --- energy beside it -------------------------------------------------------------------------------------------------


def test_energy_is_said_when_rows_measured_it_and_else_not_at_all():
    write_rows()
    assert "board_energy" not in ask().out
    assert json.loads(ask("--json").out)["board_energy_j_per_epoch"] is None
    known = dataclasses.asdict(CONDITIONS) | {"n_energy": 2, "mean_power_w_median": 250.0}
    rows = [
        agg_row(3, 32, 512, **known, energy_j_per_epoch_median=200.0),
        agg_row(3, 32, 256, **known, energy_j_per_epoch_median=300.0),
    ]
    write_table(runs_agg_csv(), rows, AggRow)
    assert "board_energy_j_per_epoch: 200\n" in ask().out
    assert "board_energy_basis: measured, 2 runs" in ask().out
    answer = json.loads(ask("--json", "--base_filters", "16").out)
    assert answer["board_energy_j_per_epoch"] == pytest.approx(250.0 * answer["predicted_avg_time_sec"])
    table = ask("--batch_size", "256:512:x2").out
    assert "board J/epoch" in table


def test_an_answer_leaves_no_file_behind(tmp_path):
    runs = tmp_path / "results" / "runs.csv"
    runs.parent.mkdir()
    source = CODE_ROOT / "results" / "cpu" / "jax" / "runs.csv"
    runs.write_bytes(source.read_bytes())
    ask()
    assert [path.name for path in runs.parent.iterdir()] == ["runs.csv"]
