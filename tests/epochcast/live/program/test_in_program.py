"""Fits with and without an estimate before: what is left is the same, bit for bit.

One process per backend and case makes all fits of the case; tests/support/fits has the cases.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from epochcast.paths import CODE_ROOT
from tests.support.fits.children import Left, differing, left_by
from tests.support.real_child import lean_keras

SOURCE = (CODE_ROOT / "tests" / "support" / "fits" / "cases.py").read_text(encoding="utf-8")
OF_DATA = {"data_set_shuffled_in_place", "data_set_with_a_lock", "generator", "large_pipeline"}
REFUSED = {  # cases that have no estimate, by backend
    "tensorflow": {*OF_DATA, "noise_by_a_stateful_operation", "adversaries_not_built"},
    "jax": {*OF_DATA, "averaged_weights_and_accumulated_gradients"},
}
OF_TENSORFLOW = {  # Keras refuses them under JAX
    "adversaries",
    "adversaries_not_built",
    "noise_by_a_stateful_operation",
    "noise_by_the_global_seed",
}
OF_TORCH = {"loader_with_its_own_generator", "loader_by_the_global_generator"}  # tests/test_torch.py has them
NOT_PROMISED = {"data_set_with_workers"}  # two fits differ, too, without any estimate
NAMES = re.findall(r"^@case\ndef (\w+)", SOURCE, re.MULTILINE)
PROMISED = [
    (backend, name)
    for backend, refused in REFUSED.items()
    for name in NAMES
    if name not in refused | NOT_PROMISED | OF_TORCH and not (backend == "jax" and name in OF_TENSORFLOW)
]
FRESH = ("control", "estimated", "raised", "interrupted")
RESUMED = ("resumed control", "resumed estimated", "resumed raised", "resumed interrupted")
SIGNALS_SEC = (0.05, 0.3, 0.7, 1.1, 1.6, 2.2, 2.9, 3.7, 4.6, 5.5)  # from its start; a first trial takes 3 to 6 s


# --- three cases on one backend ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def left(tmp_path_factory) -> Left:
    folder = tmp_path_factory.mktemp("fits")
    lean = lean_keras(folder, "tensorflow")  # Keras imports it to seed it
    return left_by(
        "jax",
        folder,
        *("functional_network", "control", "estimated", "nothing put back"),
        *("data_set_with_the_global_generator", "control", "interrupted"),
        *("subclass_with_its_own_step", "control", "raised"),
        *("data_set_with_a_lock", "message", "data_set_shuffled_in_place", "message"),
        *("generator", "message", "averaged_weights_and_accumulated_gradients", "message"),
        *("adversaries_not_built", "message", "arguments"),
        PYTHONPATH=lean,
    )


@pytest.mark.parametrize(
    ("case", "variant"),
    [
        ("functional_network", "estimated"),
        ("data_set_with_the_global_generator", "interrupted"),
        ("subclass_with_its_own_step", "raised"),
    ],
)
def test_a_fit_after_an_estimate_is_the_one_without_it_bit_for_bit(left, case, variant):
    assert differing(left, case, variant) == []


def test_a_fit_differs_where_nothing_is_put_back(left):
    assert {"variables", "optimizer", "history", "numpy"} <= set(
        differing(left, "functional_network", "nothing put back")
    )


def test_an_estimate_says_what_was_put_back_and_prints_the_lines_of_the_command(left):
    _, told = left["functional_network", "estimated"]
    assert told["epochs"] == 2
    assert {"weights and states of the layers", "optimizer", "metrics", "NumPy's random"} <= set(told["kept"])
    names = [line.split(":")[0] for line in told["text"].splitlines()]
    assert names[:3] == ["training", "of", "epoch"]
    assert {"once", "validation", "region"} <= set(names)
    assert "before_the_fit" not in names
    (once,) = [line for line in told["text"].splitlines() if line.startswith("once: ")]
    assert once.endswith("s of it are paid already")  # the fit after it compiles nothing
    assert "Functional, " in told["text"] and "2 epochs of 7 batches, jax on " in told["text"]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("generator", "can be gone through once"),
        ("averaged_weights_and_accumulated_gradients", "use_ema"),
        ("data_set_with_a_lock", "can't be copied"),
        ("adversaries_not_built", "(optimizers['judge'], optimizers['maker']) that are not yet built"),
        ("data_set_shuffled_in_place", "in place"),
    ],
)
def test_what_cannot_be_put_back_is_refused_by_name_with_a_way_out(left, case, words):
    message = left[case, "message"][0]["refused"]
    assert words in message and "`epochcast estimate train.py`" in message


def test_wrong_arguments_are_one_clear_error(left):
    said, _ = left["arguments", ""]
    expected = {
        "no model": "TypeError: model must be a keras.Model, got str.",
        "not compiled": "ValueError: this model is not compiled.",
        "option": "TypeError: fit has no option batchsize. It has batch_size, ",
        "no epoch": "ValueError: epochs must be a whole number of at least 1, got 0.",
        "half an epoch": "ValueError: epochs must be a whole number of at least 1, got 0.5.",
        "no epoch left": "ValueError: this fit trains no epoch",
        "budget 0": "ValueError: budget_sec must be a positive number of seconds, got 0.",
        "budget nan": "ValueError: budget_sec must be a positive number of seconds, got nan.",
        "region": "ValueError: ",
    }
    assert said.keys() == expected.keys()
    assert [name for name, words in expected.items() if not said[name].startswith(words)] == [], said


def test_the_package_imports_no_keras_before_an_estimate_is_called():
    code = (
        "import sys, epochcast; early = 'epochcast.live' in sys.modules; from epochcast import estimate; "
        "print(early, [name for name in ('keras', 'numpy', 'tensorflow') if name in sys.modules], "
        "'estimate' in dir(epochcast))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CODE_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False [] True\n"


# --- all cases --------------------------------------------------------------------------------------------------------


def test_cases_are_found_in_the_source_and_promised_on_two_backends():
    assert len(NAMES) > 25
    assert len({name for backend, name in PROMISED if backend == "jax"}) > 18


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "case"), PROMISED)
def test_every_promised_case_is_the_same_after_every_trial_new_or_resumed(tmp_path, backend, case):
    variants = [*FRESH, *RESUMED]
    left = left_by(backend, tmp_path, case, *variants, "nothing put back")
    assert {variant: differing(left, case, variant) for variant in variants} == {variant: [] for variant in variants}
    assert differing(left, case, "nothing put back") != []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "case"), [(b, c) for b, cases in REFUSED.items() for c in sorted(cases) if c != "large_pipeline"]
)
def test_a_fit_after_a_refused_estimate_is_the_one_without_it(tmp_path, backend, case):
    left = left_by(backend, tmp_path, case, "control", "refused")
    assert "`epochcast estimate train.py`" in left[case, "refused"][1]["refused"]
    assert differing(left, case, "refused") == []


@pytest.mark.slow
@pytest.mark.parametrize("backend", REFUSED)
def test_a_data_set_with_several_workers_is_estimated_and_what_is_not_promised_is_said(tmp_path, backend):
    left = left_by(backend, tmp_path, "data_set_with_workers", "estimated")
    found, told = left["data_set_with_workers", "estimated"]
    assert "error" not in found
    assert any("several workers" in note for note in told["notes"])


@pytest.mark.slow
@pytest.mark.parametrize("backend", REFUSED)
def test_a_pipeline_of_many_tensors_is_refused(tmp_path, backend):
    left = left_by(backend, tmp_path, "large_pipeline", "message")
    message = left["large_pipeline", "message"][0]["refused"]
    assert "more than the 200 MB" in message and "`epochcast estimate train.py`" in message


@pytest.mark.slow
@pytest.mark.parametrize("backend", REFUSED)
def test_ten_real_interrupts_at_any_moment_leave_nothing(tmp_path, backend):
    variants = [f"signal {sec}" for sec in SIGNALS_SEC]
    left = left_by(backend, tmp_path, "functional_network", "control", *variants)
    found = {variant: differing(left, "functional_network", variant) for variant in variants}
    assert found == {variant: [] for variant in variants}
