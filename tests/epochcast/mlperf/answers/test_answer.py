"""Questions answered: the screen, the JSON, what is warned of and what is refused."""

from __future__ import annotations

import json

import pytest

from epochcast.__main__ import main
from epochcast.mlperf.answers.answer import MlperfPredictor
from epochcast.mlperf.query.query import QueryError
from epochcast.mlperf.regressor.ranges import KNOWN, NEW_DEVICE
from epochcast.mlperf.regressor.regressor import fit_regressor
from epochcast.mlperf.regressor.stored import save_regressor
from tests.support.mlperf.entries import few_entries

PREDICTOR = MlperfPredictor()  # loads when it is first asked


def test_an_answer_holds_the_published_times_of_its_configuration():
    answer = PREDICTOR.predict("ResNet-50 on 8 H100")
    seconds = answer.estimate.seconds
    assert answer.estimate.basis == KNOWN
    published = [each.time_sec for each in answer.estimate.nearest]
    assert all(seconds.low <= time <= seconds.high for time in published)
    assert answer.warnings == ()


@pytest.mark.parametrize(
    ("question", "warning"),
    [
        ("bert on 100000 A100", "100,000 is outside the counts of its entries, "),
        ("llama2 70b lora on 8 MI355X", "no entry on MI355X: the time is by its data sheet"),
        ("ncf on 8 V100 SXM2 16GB", "only 3 entries of ncf"),
        ("bert on 8 A100 zorblax", "not read: zorblax"),
    ],
)
def test_what_an_answer_does_not_rest_on_is_warned_of(question, warning):
    assert any(each.startswith(warning) for each in PREDICTOR.predict(question).warnings)


def test_the_screen_begins_with_the_answer_and_ends_with_entries(capsys):
    assert main(["mlperf", "predict", "llama2 70b lora on 8 MI355X"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("llama2_70b_lora on 8 MI355X: ")
    assert lines[1].startswith("90 % range: ") and lines[1].endswith(f" s ({NEW_DEVICE})")
    assert lines[-6].split() == ["round", "submitter", "system", "device", "n", "median", "s", "runs"]


def test_the_json_has_the_same_numbers_as_the_library(capsys):
    assert main(["mlperf", "predict", "BERT on 8 A100 GPUs", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    found = PREDICTOR.predict("BERT on 8 A100 GPUs")
    expected = json.loads(json.dumps(found.to_json()))
    assert answer.keys() == expected.keys()
    assert all(answer[name] == expected[name] for name in ("query", "basis", "nearest", "rounds", "warnings"))
    assert answer["seconds"] == pytest.approx(expected["seconds"], rel=1e-9)  # sums of BLAS depend on alignment
    assert answer["seconds_low"] < answer["seconds"] < answer["seconds_high"]
    assert answer["accelerator_hours"] == pytest.approx(8 * answer["seconds"] / 3600)
    assert len(answer["nearest"]) == 5


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("train on 8 gpus", "no benchmark is named"),
        ("flux.1 on 72 B200", "there are no MLPerf results of 'flux1'"),
        ("bert on 0 A100", "0"),
        ("bert or resnet on 8 H100", "bert"),
    ],
)
def test_a_question_that_cannot_be_answered_is_exit_code_2_and_one_sentence(question, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["mlperf", "predict", question])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err.splitlines()[0]
    with pytest.raises(QueryError):
        PREDICTOR.predict(question)


def test_a_regressor_of_ones_own_answers_for_its_own_benchmarks_alone(tmp_path, capsys):
    save_regressor(tmp_path / "mine", fit_regressor(few_entries()))
    assert main(["mlperf", "predict", "resnet on 8 H100", "--trained", str(tmp_path / "mine")]) == 0
    assert "rounds 3.1 to 4.1" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["mlperf", "predict", "bert on 8 H100", "--trained", str(tmp_path / "mine")])
    assert caught.value.code == 2
    assert main(["mlperf", "predict", "bert on 8 H100", "--trained", str(tmp_path / "nowhere")]) == 1
