"""The answer that a race gives, and its words."""

from __future__ import annotations

import json

import pytest

from epochcast.live.tuning.answer import Prepared, judged
from epochcast.live.tuning.halving import Race, Standing
from epochcast.live.tuning.settings import Setting
from epochcast.live.tuning.text import candidate_lines, tuned_lines, tuned_notes

OWN = Setting("float32", "on", 1, "arrays", 32)
FAST = Setting("float32", "off", 4, "cached", 32)
KNOWN = {
    "model": "Functional",
    "params": 1234,
    "batches": 391,
    "backend": "tensorflow",
    "device_name": "AMD EPYC (2 cores)",
    "not_tried": {"precision mixed_float16": "a processor is seldom faster in it"},
    "budget_sec": 120.0,
    "prepared_sec": 6.2,
    "script_sec": 3.0,
    "other_cores": 0.25,
    "is_contended": True,
    "notes": ("a note",),
}
DATA_LINES = (
    "data = tf.data.Dataset.from_tensor_slices((x, y)).batch(32).cache()",
    "model.fit(data, ...)",
)


def answer(pairs, chosen=FAST, epochs=30, compiles_sec=2.0, others=((FAST, (20.0, 20.2)),), own=(25.0,)):
    race = Race((Standing(OWN, own), *(Standing(*each) for each in others)), chosen, tuple(pairs), 118.0)
    prepared = [
        Prepared(OWN, 2.0, 0.0, ()),
        *(
            Prepared(setting, compiles_sec, 0.5, DATA_LINES if setting.input == "cached" else ())
            for setting, _ in others
        ),
    ]
    return judged(race, prepared, epochs, **KNOWN)


PAIRS = [(25.0, 20.0), (25.2, 20.0), (24.8, 20.0), (25.0, 20.2)]


def test_a_gain_that_the_spread_supports_is_the_answer():
    found = answer(PAIRS)
    assert (found.setting, found.why_kept, found.n_pairs) == (FAST, None, 4)
    assert found.gain.value == pytest.approx(25 / 20.05, rel=1e-3)
    assert found.gain.low > 1.2
    assert found.epoch_sec / found.fastest_epoch_sec == pytest.approx(found.gain.value)
    assert found.fit_sec == pytest.approx(30 * found.epoch_sec)
    assert found.fastest_fit_sec == pytest.approx(30 * found.fastest_epoch_sec + 0.5)  # of filling the cache
    assert [change.name for change in found.changes] == ["jit_compile", "steps_per_execution", "input"]
    assert found.lines == ("model.compile(..., jit_compile=False, steps_per_execution=4)", *DATA_LINES)


def test_the_answer_comes_first_in_words():
    assert tuned_lines(answer(PAIRS)) == [
        "setting: jit_compile off, steps_per_execution 4, input cached",
        "gain: 1.25 times as fast (1.23 to 1.26, 95 %), from 4 pairs of blocks",
        "fit: 10 min 02 s, epochs of 20.0 s, instead of 12 min 30 s for 30 epochs of 25.0 s; without validation and "
        "callbacks",
        "change: model.compile(..., jit_compile=False, steps_per_execution=4)",
        *(f"change: {line}" for line in DATA_LINES),
        "jit_compile: the result differs by rounding only: the same arithmetic in another order.",
        "steps_per_execution: the result is the same. Callbacks and logs see batches once in 4 steps, and a stop waits "
        "for that.",
        "input: changes the result: each epoch has the same batches, in another order.",
        "of: Functional, 1,234 parameters, 30 epochs of 391 batches, tensorflow on AMD EPYC (2 cores)",
        "measured: 2 of 2 settings, 11 blocks in 118 s; 6.20 s to build, compile and fill caches before, 3.00 s of the "
        "script's own",
        "not_tried: precision mixed_float16: a processor is seldom faster in it",
    ]
    assert tuned_notes(answer(PAIRS)) == [
        "a note",
        "--keep_result tries only settings that leave the result as it is.",
        "other programs kept 0.2 cores busy meanwhile.",
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"pairs": [(25.0, 20.0), (20.0, 25.0), (25.0, 20.0), (25.0, 20.0)]}, "The spread supports no gain."),
        ({"pairs": [(20.0, 25.0)] * 4}, "The spread supports no gain."),
        ({"pairs": [(20.2, 20.0), (20.3, 20.0)] * 4}, "A gain of less than 2% is no reason to change a script."),
        ({"pairs": PAIRS[:3]}, "3 of at least 4 pairs of blocks fit the budget. A larger --budget_sec gives more."),
        ({"pairs": PAIRS, "epochs": 3, "compiles_sec": 30.0}, "In so few epochs it does not save what it costs once."),
        ({"pairs": [], "chosen": OWN}, "None of 1 other setting was faster."),
        (
            {"pairs": [], "others": ((FAST, ()),), "own": ()},
            "The budget is too small to compare settings. A larger --budget_sec is needed.",
        ),
        ({"pairs": [], "chosen": OWN, "others": ()}, "No other setting can be tried."),
    ],
)
def test_else_the_script_s_own_setting_is_kept_and_the_reason_is_said(given, words):
    found = answer(**given)
    assert (found.setting, found.why_kept) == (OWN, words)
    assert (found.changes, found.lines) == ((), ())
    setting, gain, *_ = tuned_lines(found)
    kept = "float32, jit_compile on, steps_per_execution 1, input arrays, batch_size 32"
    assert setting == f"setting: keep what the script has ({kept})"
    assert gain.startswith("gain: none. ") and gain.endswith(words)


def test_a_budget_in_which_nothing_was_compared_is_too_small():
    others = tuple((Setting("float32", "on", steps, "arrays", 32), ()) for steps in (4, 16))
    found = answer([], chosen=OWN, others=others)
    assert found.why_kept == "The budget is too small to compare settings. A larger --budget_sec is needed."
    assert found.fit_sec == 30 * 25.0


def test_what_was_not_measured_is_unknown():
    found = answer([], own=(), others=((FAST, ()),))
    assert (found.epoch_sec, found.fit_sec, found.gain) == (None, None, None)
    assert not any(line.startswith("fit: ") for line in tuned_lines(found))


def test_precision_is_set_before_the_model_is_made():
    mixed = Setting("mixed_bfloat16", "on", 1, "arrays", 32)
    found = answer(PAIRS, chosen=mixed, others=((mixed, (20.0,)),))
    assert found.lines == ('keras.config.set_dtype_policy("mixed_bfloat16")  # before the model is made',)


def test_all_settings_are_a_table_with_the_fastest_first():
    slow = Setting("float32", "on", 16, "arrays", 32)
    lines = candidate_lines(answer(PAIRS, others=((slow, ()), (FAST, (20.0, 20.2)))))
    assert [line.split("  ")[0] for line in lines] == [
        "setting",
        "jit_compile off, steps_per_execution 4, input cached",
        "as it is",
        "steps_per_execution 16",
    ]
    assert lines[1].split()[-5:] == ["20.0", "1.25", "6", "2.00", "0.500"]


def test_json_has_everything():
    found = json.loads(json.dumps(answer(PAIRS).to_json()))
    assert found["setting"] == {
        "precision": "float32",
        "jit_compile": "off",
        "steps_per_execution": 4,
        "input": "cached",
        "batch_size": 32,
    }
    assert found["gain"]["low"] < found["gain"]["value"] < found["gain"]["high"]
    assert [each["n_blocks"] for each in found["candidates"]] == [5, 6]  # those of the pairs among them
    assert [each["changes_result"] for each in found["changes"]] == ["rounding", "no", "yes"]
