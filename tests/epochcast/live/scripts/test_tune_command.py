"""The command that tunes a fit, with a Keras of few lines whose fastest setting is known."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from epochcast.commands import tune

MODEL = "import keras\nmodel = keras.Model()\n"
COMPILED = MODEL + "model.jit_compile = True\n"  # with which its steps take twice as long
FIT = COMPILED + "model.fit([1] * 640, epochs=30)\n"


@pytest.fixture
def run(runner):
    """Return exit code, output and messages of the command on a script."""
    return runner(tune.main, "--budget_sec", "2")


def test_the_fastest_setting_is_found_and_its_line_printed(run):
    exit_code, out, err = run(FIT, flags=("--budget_sec", "2", "--steps_per_execution", "1", "-v"))
    assert exit_code == 0, err
    lines = out.splitlines()
    assert lines[0] == "setting: jit_compile off"
    assert lines[1].startswith("gain: ") and lines[1].endswith(" pairs of blocks")
    assert "change: model.compile(..., jit_compile=False)" in lines
    assert {line.split("  ")[0] for line in lines[-2:]} == {"jit_compile off", "as it is"}
    assert err[0] == "note: train.py runs until its fit; whatever it does before that is done for real."
    assert err[1].startswith("note: caught the fit of Model (1,234 parameters) after ")
    assert err[2] == "note: 2 settings are built and compiled first; after 4 s no more of them."
    assert err[3] == "note: 2 settings are timed for 2 s."


def test_json_is_one_object_with_all_settings(run):
    exit_code, out, err = run(FIT, flags=("--budget_sec", "2", "--json"))
    assert exit_code == 0, err
    found = json.loads(out)
    assert found["caught"]["model"] == "Model"
    assert [
        (each["setting"]["jit_compile"], each["setting"]["steps_per_execution"]) for each in found["candidates"]
    ] == [
        ("on", 1),
        ("on", 4),
        ("off", 1),
        ("off", 4),
    ]
    assert (found["setting"]["jit_compile"], found["why_kept"]) == ("off", None)
    assert found["gain"]["value"] == pytest.approx(2, rel=0.5)  # what the toy sleeps, and more
    assert found["fit_sec"] == pytest.approx(30 * found["epoch_sec"])
    assert found["not_tried"]["steps_per_execution 16"] == "an epoch of 20 batches has too few executions to time"
    assert found["not_tried"]["precision mixed_float16, mixed_bfloat16"].startswith("a processor is seldom faster")


def test_where_nothing_is_faster_the_script_is_left_as_it_is(run):
    code = MODEL + "model.fit([1] * 640, epochs=30)\n"
    exit_code, out, err = run(code, flags=("--budget_sec", "2", "--jit_compile", "on", "--steps_per_execution", "1"))
    assert exit_code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("setting: keep what the script has (float32, jit_compile off, steps_per_execution 1")
    assert lines[1].startswith("gain: none. The fastest other, jit_compile on: 0.")
    assert lines[1].endswith("The spread supports no gain.")
    assert not any(line.startswith("change: ") for line in lines)


def test_a_fit_with_nothing_to_tune_is_not_timed(run):
    flags = ("--budget_sec", "60", "--jit_compile", "on", "--steps_per_execution", "1")
    exit_code, out, _ = run(FIT, flags=flags)
    assert exit_code == 0
    assert out.splitlines()[1] == "gain: none. No other setting can be tried."


# --- precision --------------------------------------------------------------------------------------------------------

LAYERS = """
class Layer:
    def __init__(self, policy):
        self.weights, self.dtype_policy = [1], policy

model.layers = (Layer(keras.config.dtype_policy()),)
open("runs", "a").write(".")
"""
WITH_LAYERS = MODEL + LAYERS + "model.fit([1] * 640, epochs=30)\n"
MIXED = ("--budget_sec", "2", "--precision", "mixed_bfloat16", "--jit_compile", "off", "--steps_per_execution", "1")


def test_a_precision_is_set_before_the_script_and_timed_in_turns_with_its_own(run, tmp_path):
    exit_code, out, err = run(WITH_LAYERS, flags=(*MIXED, "--json"))
    assert exit_code == 0, err
    found = json.loads(out)
    assert [each["setting"]["precision"] for each in found["candidates"]] == ["float32", "mixed_bfloat16"]
    assert (found["setting"]["precision"], found["n_pairs"] >= 4) == ("mixed_bfloat16", True)
    assert found["lines"] == ['keras.config.set_dtype_policy("mixed_bfloat16")  # before the model is made']
    assert (tmp_path / "runs").read_text() == ".."
    assert found["script_sec"] > found["caught"]["script_sec"]
    (note,) = [line for line in err if "runs once more" in line]
    assert note.startswith("note: train.py runs once more for each of mixed_bfloat16, ")
    assert note.endswith("whatever it does before that is done again.")


@pytest.mark.parametrize(
    ("line", "why", "n_runs"),
    [
        (
            "model.layers[0].dtype_policy = type('Policy', (), {'name': 'float32'})()",
            "the model's layers keep float32",
            2,
        ),
        ("keras.config.set_dtype_policy('float32')", "the policy was float32 again at the fit", 2),
        (
            "assert keras.config.policy == 'float32', 'twice'",
            "train.py failed before its first fit (exit code 1): Asse",
            2,
        ),
        ("keras.config.set_dtype_policy('float64')", "the script sets a policy of its own (float64)", 1),
    ],
)
def test_a_precision_that_does_not_reach_the_model_is_not_tried_and_said(run, tmp_path, line, why, n_runs):
    exit_code, out, err = run(WITH_LAYERS.replace("model.fit(", f"{line}\nmodel.fit("), flags=(*MIXED, "--json"))
    assert exit_code == 0, err
    found = json.loads(out)
    assert len(found["candidates"]) == 1
    (reason,) = [text for values, text in found["not_tried"].items() if "mixed_bfloat16" in values]
    assert reason.startswith(why)
    assert (tmp_path / "runs").read_text() == n_runs * "."


def test_only_what_keeps_the_result_is_tried_where_that_is_asked_for(run, tmp_path):
    exit_code, out, err = run(WITH_LAYERS, flags=(*MIXED, "--keep_result", "--json"))
    assert exit_code == 0, err
    assert len(json.loads(out)["candidates"]) == 1
    assert (tmp_path / "runs").read_text() == "."
    assert not any("runs once more" in line for line in err)


# --- what can't be tuned ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("1 / 0\n", "train.py failed before its first fit (exit code 1): ZeroDivisionError: division by zero."),
        ("print(1)\n", "train.py ended (exit code 0) without its first fit."),
        (
            MODEL + "model.fit(iter([1] * 9))\n",
            "train.py: its first fit can't be tuned: a generator is gone through once, and settings are compared by",
        ),
        (
            MODEL + "model.fit([1] * 640, epochs=0)\n",
            "train.py: its first fit can't be tuned: this fit trains no epoch: epochs=0.",
        ),
        (
            MODEL + "model.fit(iter([1] * 40), steps_per_epoch=9)\n",
            "train.py: its first fit can't be tuned: the data ended while they were tried.",
        ),
        (
            COMPILED + "import os, threading\nthreading.Timer(0.5, os.abort).start()\nmodel.fit([1] * 10**5)\n",
            "train.py failed while its first fit was tuned (signal 6, SIGABRT)",
        ),
        (
            "import argparse\nargparse.ArgumentParser().parse_args()\n",
            "train.py ended (exit code 2) without its first fit; what it said stands above. What comes after train.py "
            "is its own; flags of tune come before it.",
        ),
    ],
)
def test_what_can_not_be_tuned_is_one_line(run, code, words):
    exit_code, out, err = run(code, *(["--lr"] if "argparse" in code else []))
    assert (exit_code, out) == (1, "")
    assert err[-1].startswith(f"error: {words}")


def test_a_function_of_a_module_is_tuned(run):
    code = "import keras\ndef make():\n    return {'model': keras.Model(), 'x': [1] * 640, 'epochs': 3}\n"
    flags = ("--budget_sec", "1", "--steps_per_execution", "1", "--json")
    exit_code, out, err = run(code, function=":make", flags=flags)
    assert exit_code == 0, err
    assert [each["setting"]["jit_compile"] for each in json.loads(out)["candidates"]] == ["off", "on"]


@pytest.mark.parametrize(
    "flags",
    [
        ("--jit_compile", "auto"),
        ("--precision", "float16"),
        ("--input", "numpy"),
        ("--steps_per_execution", "0"),
        ("--batch_size", "-1"),
        ("--budget_sec", "0"),
    ],
)
def test_values_that_are_none_are_refused(run, flags):
    exit_code, out, err = run(FIT, flags=flags)
    assert (exit_code, out) == (2, "")
    assert err[0].startswith(f"error: argument {flags[0]}: ")


def test_keras_is_not_imported_by_the_command():
    code = "import sys; import epochcast.commands.tune; assert 'keras' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
