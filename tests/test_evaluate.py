"""The evaluation as a user sees it: printed, in files, and honest about what each prediction did not see."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rows import CONFIGS, ROWS

from epochcast.schema import AggRow, RunConfig
from epochcast.stats import regression_metrics
from epochcast.tables import write_table
from model import evaluate
from model.cross_validation import evaluate_unseen

UNSEEN, NEVER = CONFIGS[5], RunConfig(5, 64, 512)
REST = ROWS[:5]
FILES = {"report.txt", "report.json", "predictions.csv"} | {
    f"predicted_against_measured_{what}.{kind}" for what in ("time", "throughput") for kind in ("png", "svg")
}
MODELS = ("ann", "linear_on_logs", "affine_in_steps")


def run(folder, rows, *flags):
    """Run the command on a table of `rows`; what it printed, and the folder that it wrote."""
    write_table(folder / "runs_agg.csv", rows, AggRow)
    argv = ["--runs_agg", folder / "runs_agg.csv", "--out", folder / "out", "--repeats", "2", *flags]
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPOCHCAST_HOME", str(folder))
        assert evaluate.main([str(word) for word in argv]) == 0
    return out.getvalue(), folder / "out"


@pytest.fixture(scope="module")
def as_json(tmp_path_factory):
    """Of --json with one configuration kept out that was measured, and one that never was."""
    folder = tmp_path_factory.mktemp("json")
    names = ("depth", "base_filters", "batch_size")
    lines = [",".join(str(getattr(c, name)) for name in names) for c in (UNSEEN, NEVER)]
    (folder / "unseen.csv").write_text("\n".join([",".join(names), *lines]))
    return run(folder, ROWS, "--json", "--unseen", folder / "unseen.csv")


@pytest.fixture(scope="module")
def as_text(tmp_path_factory):
    """Of the plain command, the fourth row's time being ten times what it was."""
    changed = replace(REST[3], avg_time_mean=10 * REST[3].avg_time_mean)
    return run(tmp_path_factory.mktemp("text"), [*REST[:3], changed, REST[4]])


def test_json_is_one_object_and_the_report_of_the_file(as_json):
    report = json.loads(as_json[0])
    assert report["table"].endswith("runs_agg.csv")
    assert report.pop("table_origin") == "a table without a source, used as it is"
    assert report == json.loads((as_json[1] / "report.json").read_text())
    assert (report["n"], report["repeats"], report["split"]) == (5, 2, "5-fold by configuration")
    assert list(report["models"]) == list(MODELS)


def test_text_names_table_conditions_and_every_file_and_holds_the_report(as_text):
    out, folder = as_text
    assert f"table: {folder.parent / 'runs_agg.csv'} (a table without a source, used as it is)" in out
    assert "conditions: " in out
    origin, report = (folder / "report.txt").read_text().split("\n", 1)
    assert report in out
    assert origin.startswith(f"Rows: {folder.parent / 'runs_agg.csv'} (SHA-256 ")
    assert "Kept from all fitting" not in out
    named = {Path(line.removeprefix("file: ")) for line in out.splitlines() if line.startswith("file: ")}
    assert named == {folder / name for name in FILES}


def test_all_files_are_written(as_json):
    written = {file.name: file.read_bytes() for file in as_json[1].iterdir()}
    assert set(written) == FILES
    assert all(data.startswith(b"\x89PNG") for name, data in written.items() if name.endswith("png"))
    assert all(b"<svg" in data for name, data in written.items() if name.endswith("svg"))


def test_predictions_have_a_line_for_each_configuration_and_repeat_and_give_the_metrics(as_json):
    table = pd.read_csv(as_json[1] / "predictions.csv")
    assert list(table["repeat"]) == [1] * 5 + [2] * 5
    for _, part in table.groupby("repeat"):
        configs = part[["depth", "base_filters", "batch_size"]].itertuples(index=False)
        assert [RunConfig(*map(int, c)) for c in configs] == CONFIGS[:5]
        assert list(part["measured_sec"]) == [row.avg_time_mean for row in REST]
    report = json.loads((as_json[1] / "report.json").read_text())
    errors = [regression_metrics(part["measured_sec"], part["ann_sec"]) for _, part in table.groupby("repeat")]
    mape = report["models"]["ann"]["time_sec"]["mape"]
    assert mape["mean"] == pytest.approx(np.mean([e.mape for e in errors]), rel=1e-12)  # order of sums
    assert mape["std"] == pytest.approx(np.std([e.mape for e in errors], ddof=1), rel=1e-12)
    # most networks here were measured at one batch size: their affine cells are empty, and counted as no answer
    answered = table.groupby("repeat")["affine_in_steps_sec"].count()
    assert report["models"]["affine_in_steps"]["n_answered"] == answered.min() < 5
    assert report["models"]["ann"]["n_answered"] == 5


def test_unseen_configurations_are_predicted_as_if_the_table_did_not_hold_them(as_json):
    measured, never = json.loads(as_json[0])["unseen"]
    found, rest = evaluate_unseen(REST, [UNSEEN, NEVER])
    assert rest == REST
    assert [measured["predicted_sec"], never["predicted_sec"]] == [result.predicted_sec for result in found]
    assert [found[0].measured_sec, found[0].error] == [None, None]
    assert measured["measured_sec"] == ROWS[5].avg_time_mean
    assert measured["error"] == measured["predicted_sec"] / measured["measured_sec"] - 1
    assert (never["measured_sec"], never["error"]) == (None, None)
    assert [never[name] for name in ("depth", "base_filters", "batch_size")] == [5, 64, 512]


def test_unseen_configurations_are_reported_one_by_one(as_json):
    text = (as_json[1] / "report.txt").read_text()
    section = text[text.index("Kept from all fitting") :].splitlines()
    assert section[2].split()[0] == str(UNSEEN)
    assert section[3].split()[0] == str(NEVER)
    assert [section[3].split()[i] for i in (1, 3)] == ["-", "-"]
    assert section[4].startswith("mean absolute error of 1: ")


def test_a_row_s_own_time_has_no_part_in_its_out_of_fold_prediction(as_json, as_text):
    before, after = (pd.read_csv(folder / "predictions.csv") for _, folder in (as_json, as_text))
    is_changed = before["measured_sec"] != after["measured_sec"]
    assert is_changed.sum() == 2  # one configuration in two repeats
    for name in MODELS:
        own = [frame[f"{name}_sec"][is_changed] for frame in (before, after)]
        np.testing.assert_array_equal(*own)
    assert not np.isclose(before["ann_sec"][~is_changed], after["ann_sec"][~is_changed]).all()


def test_large_errors_are_printed_without_exponents():
    cell = {"mean": 12_345.6, "std": 78.9}
    share = {"mean": 0.5, "std": None}
    metrics = {"mape": share, "p90_ape": share, "mae": cell, "rmse": cell}
    model = {"n_answered": 5, "time_sec": {**metrics, "r2": {"mean": 0.99765, "std": 0.0001}}}
    model["images_per_sec"] = {**metrics, "r2": {"mean": None, "std": None}}
    report = {"split": "5-fold by configuration", "repeats": 2, "n": 5, "models": {"ann": model}, "unseen": []}
    text = evaluate.report_text(report)
    assert "12,350 ± 79" in text
    assert "0.9976 ± 0.00010" in text or "0.9977 ± 0.00010" in text
    assert "e+" not in text


def test_too_few_configurations_exit_1_with_one_line(tmp_path, capsys):
    write_table(tmp_path / "runs_agg.csv", ROWS[:3], AggRow)
    argv = ["--runs_agg", str(tmp_path / "runs_agg.csv"), "--out", str(tmp_path / "out")]
    assert evaluate.main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: 3 configurations are too few" in err
    assert not (tmp_path / "out").exists()
