"""The evaluation as a user sees it: printed, in files, and honest about what each prediction did not see."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.interval import Interval
from epochcast.model import evaluate
from epochcast.model.evaluation import evaluation as evaluation_run
from epochcast.model.evaluation.evaluation import cross_conformal
from epochcast.model.evaluation.learning_curves import learning_curves
from epochcast.model.evaluation.report import MetricSpreads, ModelErrors, Spread
from epochcast.model.evaluation.report_text import report_markdown, report_text
from epochcast.model.time_model.intervals import conformal_half_width
from epochcast.model.time_model.startup import to_json
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.cross_validation import CrossValidation, cross_validate
from epochcast.model.training.fit_startup import fit_excess, fit_overhead
from epochcast.model.training.recipes import PHYSICS, fit_time_models
from epochcast.schema import AggRow, RunConfig
from epochcast.stats import regression_metrics
from epochcast.storage.tables import read_runs, write_table
from epochcast.text_sinks import markdown_text
from tests.support.models.quick_networks import use_quick_networks
from tests.support.rows import ROWS

NEVER, FAR = RunConfig(5, 64, 500), RunConfig(12, 64, 512)
FIGURES = (
    "predicted_against_measured_time",
    "predicted_against_measured_throughput",
    "error_by_axis",
    "physics_shares",
    "learning_curves",
)
FILES = {"report.md", "report.json", "predictions.csv"} | {
    f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")
}
MODELS = ["physics", "linear_on_logs", "affine_in_steps"]


def run(folder, rows, *flags, draws=True):
    """Run the command on a table of `rows`; what it printed, and the folder that it wrote."""
    write_table(folder / "runs_agg.csv", rows, AggRow)
    argv = ["--runs_agg", folder / "runs_agg.csv", "--out", folder / "out", *flags]
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPOCHCAST_HOME", str(folder))
        if not draws:
            patch.setattr(evaluation_run, "draw_evaluation", lambda *_: [])
        assert evaluate.main([str(word) for word in argv]) == 0
    return out.getvalue(), folder / "out"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluate")


@cache
def reference_rows(reference_data):
    """All reference rows, each with an overhead; every eleventh of them, 13, are too few for a network."""
    return [
        replace(r, overhead_sec_mean=15 + 0.1 * i)
        for i, r in enumerate(aggregate(read_runs(reference_data / "a100" / "runs.csv")).rows)
    ]


@pytest.fixture
def rows(reference_data):
    return reference_rows(reference_data)[::11]


@cache
def evaluated_as_json(reference_data, folder):
    """Of --json, no figures; kept out are one configuration that was measured, one that never was, and one far away."""
    (folder / "json").mkdir()
    rows = reference_rows(reference_data)[::11]
    names = ("depth", "base_filters", "batch_size")
    lines = [",".join(str(getattr(c, name)) for name in names) for c in (rows[5].config, NEVER, FAR)]
    (folder / "json" / "unseen.csv").write_text("\n".join([",".join(names), *lines]))
    return run(folder / "json", rows, "--json", "--unseen", folder / "json" / "unseen.csv", draws=False)


@cache
def evaluated_as_text(reference_data, folder):
    """Of the plain command on the twelve others, the fourth row's time being ten times what it was."""
    (folder / "text").mkdir()
    rest = [row for i, row in enumerate(reference_rows(reference_data)[::11]) if i != 5]
    rest[3] = replace(rest[3], avg_time_mean=10 * rest[3].avg_time_mean)
    return run(folder / "text", rest)


@pytest.fixture
def as_json(reference_data, folder):
    return evaluated_as_json(reference_data, folder)


@pytest.fixture
def as_text(reference_data, folder):
    return evaluated_as_text(reference_data, folder)


# --- files ------------------------------------------------------------------------------------------------------------


def test_json_is_one_object_and_the_report_of_the_file(as_json):
    report = json.loads(as_json[0])
    assert report["table"].endswith("runs_agg.csv")
    assert report.pop("table_origin") == "a table without a source, used as it is"
    assert (report.pop("conditions_chosen"), report.pop("other_conditions")) == (None, [])
    assert report == json.loads((as_json[1] / "report.json").read_text())
    assert (report["n"], report["repeats"], report["split"]) == (12, 1, "leave-one-out")
    assert (report["form"], report["recipe"]) == ("physics", "physics_ann")
    assert list(report["models"]) == MODELS


def test_report_predictions_and_five_figures_are_written(as_text):
    written = {file.name: file.read_bytes() for file in as_text[1].iterdir()}
    assert set(written) == FILES
    assert all(data.startswith(b"\x89PNG") for name, data in written.items() if name.endswith("png"))
    assert all(b"<svg" in data for name, data in written.items() if name.endswith("svg"))


def test_text_names_table_conditions_and_every_file_and_says_what_the_page_says(as_text):
    out, folder = as_text
    assert f"table: {folder.parent / 'runs_agg.csv'} (a table without a source, used as it is)" in out
    assert "conditions: " in out
    page = (folder / "report.md").read_text()
    assert page.startswith("# How well the time model predicts\n")
    assert f"Rows: {folder.parent / 'runs_agg.csv'} (SHA-256 " in page
    titles = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert len(titles) == 5
    assert all(title in out.splitlines() for title in titles)
    assert all(line.removeprefix("- ") in out for line in page.splitlines() if line.startswith("- "))
    assert "Kept from all fitting" not in out
    named = {Path(line.removeprefix("file: ")) for line in out.splitlines() if line.startswith("file: ")}
    assert named == {folder / name for name in FILES}


def test_the_page_has_a_table_row_for_each_model_level_and_term(as_json):
    report, page = json.loads(as_json[0]), (as_json[1] / "report.md").read_text()
    for name in ("physics alone", "linear on logs", "affine in steps"):
        assert page.count(f"| {name} | ") == 2  # time and throughput
    assert all(f"| {markdown_text(level['label'])} | {level['n']} | " in page for level in report["levels"])
    assert all(f"| {term} | {words} |" in page for term, words in report["physics"]["readings"].items())
    assert "shares of an epoch" in page


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_predictions_have_a_line_for_each_configuration_and_give_the_metrics(as_json, rows):
    table = pd.read_csv(as_json[1] / "predictions.csv")
    rest = rows[:5] + rows[6:]
    configs = table[["depth", "base_filters", "batch_size"]].itertuples(index=False)
    assert [RunConfig(*map(int, c)) for c in configs] == [row.config for row in rest]
    assert list(table["repeat"]) == [1] * 12
    assert list(table["measured_sec"]) == [row.avg_time_mean for row in rest]
    report = json.loads((as_json[1] / "report.json").read_text())
    errors = regression_metrics(table["measured_sec"], table["physics_sec"])
    mape = report["models"]["physics"]["time_sec"]["mape"]
    assert mape["mean"] == pytest.approx(errors.mape, rel=1e-12)  # order of sums
    assert mape["std"] is None  # one repeat
    # most networks here were measured at one batch size: their affine cells are empty, and counted as no answer
    answered = table["affine_in_steps_sec"].count()
    assert report["models"]["affine_in_steps"]["n_answered"] == answered < 12
    assert report["models"]["physics"]["n_answered"] == 12


def test_the_report_s_parts_are_those_of_the_library(as_json, rows):
    report = json.loads(as_json[0])
    rest = rows[:5] + rows[6:]
    table = Table.of(rest)
    validation = cross_validate(table, [PHYSICS])
    assert report["intervals"]["within"] == conformal_half_width(validation.log_errors(PHYSICS)[0])
    assert report["intervals"]["within"] <= report["intervals"]["beyond"]
    assert report["startup"] == json.loads(json.dumps(to_json(fit_excess(rest, 0), fit_overhead(rest))))
    points = learning_curves(table, 0)
    assert [p["mape_mean"] for p in report["learning_curves"]] == [p.mape_mean for p in points]
    assert sum(report["physics"]["shares"].values()) == pytest.approx(1)
    assert report["range"]["depth"] == [2, 5]


def test_unseen_configurations_are_predicted_as_if_the_table_did_not_hold_them(as_json, rows):
    report = json.loads(as_json[0])
    measured, never, far = report["unseen"]
    table = Table.of(rows[:5] + rows[6:])
    (model,) = fit_time_models(PHYSICS, table, np.ones((1, 12), bool), 0)
    configs = [rows[5].config, NEVER, FAR]
    assert [u["predicted_sec"] for u in report["unseen"]] == model.times(configs).tolist()
    assert measured["measured_sec"] == rows[5].avg_time_mean
    assert measured["error"] == measured["predicted_sec"] / measured["measured_sec"] - 1
    expected = Interval.of_log(measured["predicted_sec"], report["intervals"]["within"])
    assert (measured["predicted_sec_low"], measured["predicted_sec_high"]) == (expected.low, expected.high)
    assert (never["measured_sec"], never["error"]) == (None, None)
    assert [never[name] for name in ("depth", "base_filters", "batch_size")] == [5, 64, 500]
    assert (far["predicted_sec_low"], far["predicted_sec_high"]) == (None, None)


def test_unseen_configurations_are_reported_one_by_one(as_json, rows):
    text = (as_json[1] / "report.md").read_text()
    section = text[text.index("## Kept from all fitting") :].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section[4:7]]
    assert [row[0] for row in cells] == [str(rows[5].config), str(NEVER), str(FAR)]
    assert [cells[1][i] for i in (1, 4)] == ["-", "-"]
    assert cells[2][3] == "unknown"
    assert section[8].startswith("- mean absolute error of 1: ")


def test_a_row_s_own_time_has_no_part_in_its_out_of_fold_prediction(as_json, as_text):
    before, after = (pd.read_csv(folder / "predictions.csv") for _, folder in (as_json, as_text))
    is_changed = before["measured_sec"] != after["measured_sec"]
    assert is_changed.sum() == 1
    for name in MODELS:
        own = [frame[f"{name}_sec"][is_changed] for frame in (before, after)]
        np.testing.assert_array_equal(*own)
    assert not np.isclose(before["linear_on_logs_sec"], after["linear_on_logs_sec"])[~is_changed].all()


def test_a_disturbed_row_is_named_and_no_part_of_the_interval(as_json, as_text, rows):
    out, folder = as_text
    before, after = json.loads(as_json[0]), json.loads((folder / "report.json").read_text())
    assert before["physics"]["disturbed"] == []
    assert after["physics"]["disturbed"] == [str(rows[3].config)]
    assert f"left out as disturbed, slower than the law by over 22.1 %: {rows[3].config}\n" in out
    # eleven errors beside it; the width is the largest of them, and none knows of a row that took ten times as long
    assert after["intervals"]["within"] < 0.5
    assert after["intervals"]["beyond"] < np.log(10)


def test_what_was_held_out_influences_nothing_but_its_own_error(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(evaluation_run, "draw_evaluation", lambda *_: [])  # only time: the report holds all numbers
    changed = list(rows)
    changed[5] = replace(rows[5], avg_time_mean=100 * rows[5].avg_time_mean, first_epoch_sec_mean=9999.0)
    reports = [evaluation_run.evaluate(r, [rows[5].config], tmp_path)[0].to_json() for r in (rows, changed)]
    for report in reports:
        for name in ("created_utc", "rows_sha256"):
            del report[name]
        (unseen,) = report["unseen"]
        assert unseen.pop("error") is not None
        assert unseen.pop("measured_sec") is not None
    assert reports[0] == reports[1]


def test_coverage_is_judged_with_the_width_of_the_other_folds():
    configs, n = [row.config for row in ROWS] * 5, 30
    random = np.random.default_rng(0)
    masks = np.ones((10, n), bool)
    for repeat in range(2):
        for fold, rows in enumerate(np.split(random.permutation(n), 5)):
            masks[repeat * 5 + fold, rows] = False
    table = Table(configs, np.ones(n), 50_000)
    result = CrossValidation(table, {"physics": np.exp(random.normal(0, 0.02, (2, n)))}, 5, masks)
    inside, widths = [], []
    for i, mask in enumerate(masks):
        errors = np.abs(np.log(result.predicted["physics"][i // 5]))
        widths.append(sorted(errors[mask])[23 - 1])  # 24 others: the ceil(25 * 0.9)-th smallest
        inside.append(np.mean(errors[~mask] <= widths[-1]))
    found = cross_conformal(result, "physics")
    assert found.coverage == pytest.approx(np.mean(inside))
    assert found.half_width == pytest.approx(np.expm1(np.mean(widths)))
    assert found.largest == pytest.approx(np.expm1(max(widths)))


# --- the recipe with its network --------------------------------------------------------------------------------------


def test_twenty_rows_put_the_network_beside_the_law(tmp_path, monkeypatch, reference_data):
    use_quick_networks(monkeypatch)  # the report, not how good a network becomes
    monkeypatch.setattr(evaluation_run, "draw_evaluation", lambda *_: [])
    chosen = reference_rows(reference_data)[3::7]
    shown = {}
    report, _ = evaluation_run.evaluate(
        chosen, [], tmp_path, repeats=1, say=lambda part: shown.setdefault(part, []).append
    )
    assert list(shown) == ["cross-validation", "training", "left-out levels", "learning curves"]
    assert shown["cross-validation"][-1] == 1
    assert all(0 <= share <= 1 for shares in shown.values() for share in shares)
    assert report.errors.split == "5-fold by configuration"
    assert list(report.errors.models) == ["physics_ann", *MODELS]
    mape = {name: report.errors.models[name].time_sec.mape.mean for name in ("physics_ann", "physics")}
    assert report.errors.form == min(mape, key=mape.get)
    assert 0 <= report.checked.coverage <= 1
    assert "| physics + network | 20/20 | " in (tmp_path / "report.md").read_text()


# --- words ------------------------------------------------------------------------------------------------------------


def test_large_errors_are_printed_without_exponents(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(evaluation_run, "draw_evaluation", lambda *_: [])
    report, _ = evaluation_run.evaluate(rows[:6], [], tmp_path, 1, 0)
    cell, share = Spread(12_345.6, 78.9), Spread(0.5, None)
    time, rate = (MetricSpreads(cell, cell, r2, share, share) for r2 in (Spread(0.99765, 0.0001), Spread(None, None)))
    errors = replace(report.errors, models={"physics_ann": ModelErrors(5, time, rate)})
    text = report_text(replace(report, errors=errors))
    assert "12,300 ± 79" in text or "12,350 ± 79" in text
    assert "0.9976 ± 0.00010" in text or "0.9977 ± 0.00010" in text
    assert "e+" not in text


@pytest.mark.parametrize(("n", "words"), [(6, "unknown; 3 more configurations give a range"), (9, "±")])
def test_few_configurations_say_how_many_more_give_a_range(tmp_path, monkeypatch, rows, n, words):
    monkeypatch.setattr(evaluation_run, "draw_evaluation", lambda *_: [])
    report, _ = evaluation_run.evaluate(rows[:n], [], tmp_path, 1, 0)
    for text in (report_text(report), report_markdown(report)):
        assert f"90 % interval within the measured range: {words}" in text
        assert "unknown (95 %" not in text
    assert report.to_json()["intervals"]["n_missing"] == 9 - n


def test_too_few_configurations_exit_1_with_one_line(tmp_path, capsys):
    write_table(tmp_path / "runs_agg.csv", ROWS[:3], AggRow)
    argv = ["--runs_agg", str(tmp_path / "runs_agg.csv"), "--out", str(tmp_path / "out")]
    assert evaluate.main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: 3 configurations are too few" in err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_can_t_be_made_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    write_table(tmp_path / "runs_agg.csv", ROWS[:3], AggRow)  # too few: what the work would begin with
    argv = ["--runs_agg", str(tmp_path / "runs_agg.csv"), "--out", str(tmp_path / "file" / "out")]
    assert evaluate.main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == f"error: {tmp_path / 'file'}: a file, not a folder."
