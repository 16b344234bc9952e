"""One constant is the coverage of every interval, and the words for it on every screen."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import astuple, replace

import pytest

from epochcast.interval import COVERAGE, coverage_digits, coverage_text
from epochcast.model import explain, predict_perf
from epochcast.model.time_model.card import card_sha256
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS, half_width_sds
from epochcast.model.time_model.saved_model import load_model
from epochcast.paths import CODE_ROOT, pretrained_dir
from epochcast.planner.costs.candidates import CostRules
from epochcast.planner.costs.make_candidates import make_candidates
from epochcast.schema import AggRow, RunConfig
from epochcast.storage.tables import write_table
from tests.support.rows import agg_row

SHIPPED = pretrained_dir() / "a100.keras"
CONFIGS = [RunConfig(d, filters, 32 * n) for d in (2, 3) for filters in (8, 16) for n in (1, 2, 4, 6, 8)][:19]
# runs commands in a fresh process whose constant says otherwise, and prints what each of them printed
PROGRAM = """
import contextlib, io, json, sys
from epochcast import interval
interval.COVERAGE = 0.95
from epochcast.model.evaluation import evaluation
evaluation.draw_evaluation = lambda *_: []  # only time: no test reads the figures
from epochcast.__main__ import main
from epochcast.model.train import card_lines

asked, card = json.loads(sys.argv[1])
printed = {"train": "\\n".join(card_lines(json.load(open(card))))}
for name, words in asked.items():
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        assert main(words) == 0, name
    printed[name] = out.getvalue()
print(json.dumps(printed))
"""
SAYS = {  # what each screen says, runs of blanks as one
    "train": "interval_95: within the range ±",
    "help": "with 95 % intervals",
    "predict": "predicted_avg_time_sec_95: ",
    "table": " s/epoch 95 % images/s 95 % ",
    "explain": "with its 95 % interval",
    "plan": " 97.5 % within ",  # of what a run costs only the high end counts
    "evaluate": "95 % interval within the measured range",
    "report.md": "95 % interval within the measured range",
}


def copy_of_shipped(folder, coverage):
    """The shipped model whose card says another coverage, sealed again."""
    shutil.copy(SHIPPED, folder / "own.keras")
    card = json.loads(SHIPPED.with_suffix(".json").read_text())
    card["intervals"]["coverage"] = coverage
    (folder / "own.json").write_text(json.dumps({**card, "card_sha256": card_sha256(card)}))
    return folder / "own.keras"


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What each command prints where constant and card say 95 %, by its name."""
    home = tmp_path_factory.mktemp("home")
    model = copy_of_shipped(home, 0.95)
    rows = [agg_row(*c, 0.1 + 0.004 * c[0] * c[1] + 50 / c[2]) for c in map(astuple, CONFIGS)]
    write_table(home / "averages.csv", rows, AggRow)
    predict = ["predict", "--model", str(model), "--epochs", "5"]
    plan = ["plan", "--model", str(model), "--budget_sec", "300", "--epochs", "5", "--confidence", "0.8"]
    asked = {
        "help": ["predict", "--help"],
        "predict": predict,
        "table": [*predict, "--batch_size", "64,128"],
        "explain": ["explain", "--model", str(model)],
        "plan": plan,
    }
    asked |= {f"{name} --json": [*words, "--json"] for name, words in asked.items() if name != "help"}
    asked["evaluate"] = ["evaluate", "--runs_agg", str(home / "averages.csv"), "--repeats", "1", "--out", str(home)]
    environ = {**os.environ, "EPOCHCAST_HOME": str(home), "COLUMNS": "200"}
    words = [sys.executable, "-c", PROGRAM, json.dumps([asked, str(home / "own.json")])]
    done = subprocess.run(words, cwd=CODE_ROOT, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "report.md": (home / "report.md").read_text()}


@pytest.mark.parametrize("name", SAYS)
def test_every_screen_says_the_coverage_of_the_constant(printed, name):
    assert SAYS[name] in re.sub(r" +", " ", printed[name])


def test_no_screen_and_no_json_says_another_coverage(printed):
    for name, told in printed.items():
        found = re.search(r"(?<!P)\b90(\.0)? ?%|_90\b|: 0\.90?[,}]", told)  # P90 is a metric
        assert found is None, (name, told[max(0, found.start() - 60) : found.end() + 20])
    assert json.loads(printed["predict --json"])["coverage"] == 0.95


def test_a_model_answers_with_the_coverage_of_its_card(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    flags = ["--model", str(copy_of_shipped(tmp_path, 0.8))]
    assert predict_perf.main(flags) == 0
    assert "predicted_avg_time_sec_80: 1.48 to 1.53\n" in capsys.readouterr().out  # the card's own width, as it is
    assert predict_perf.main([*flags, "--batch_size", "64,128"]) == 0
    assert "80 %" in capsys.readouterr().out
    assert explain.main(flags) == 0
    assert "with its 80 % interval" in capsys.readouterr().out


def test_a_plan_brings_a_model_s_intervals_to_its_own_coverage():
    saved = load_model(SHIPPED)
    assert saved.at_coverage(COVERAGE) is saved
    card = {**saved.card, "intervals": {**saved.card["intervals"], "coverage": 0.8}}
    sds = [
        make_candidates([], each, CostRules(5), [RunConfig(3, 32, 128)]).candidates[0].sd_sec
        for each in (saved, replace(saved, card=card))
    ]
    assert sds[1] / sds[0] == pytest.approx(HALF_WIDTH_SDS / half_width_sds(0.8), rel=0.01)  # upper ends are of logs


def test_words_of_a_coverage():
    assert (coverage_text(), coverage_digits()) == ("90 %", "90")
    assert (coverage_text(0.975), coverage_digits(0.5)) == ("97.5 %", "50")
