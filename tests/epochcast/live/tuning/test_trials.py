"""Settings of a real fit, prepared and timed in one process."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from epochcast.live.tuning.inputs import NotPossibleError
from epochcast.live.tuning.settings import Setting, combinations
from epochcast.machine.framework import keras_on_cpu

keras = keras_on_cpu()

from epochcast.live.tuning import axes as axes_module  # noqa: E402  # Keras starts on the processor
from epochcast.live.tuning.axes import precision_of  # noqa: E402  # as above
from epochcast.live.tuning.trials import Trials  # noqa: E402  # as above

N, BATCH = 70, 8
X, Y = np.zeros((N, 4), "float32"), np.zeros((N, 1), "float32")


def compiled(**how):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", **how)
    return model


def trials(model=None, x=X, y=Y, **options):
    return Trials(model or compiled(run_eagerly=True), x, y, {"batch_size": BATCH, "epochs": 3, **options}, None, 5.0)


def axes(tried, **wanted):
    found = tried.axes(wanted)
    return found["values"], found["not_tried"]


# --- what is tried ----------------------------------------------------------------------------------------------------


def test_an_eager_model_has_its_data_alone_to_tune():
    values, why = axes(trials(), batch_size=[16])
    assert values == {
        "precision": [],
        "jit_compile": [],
        "steps_per_execution": [],
        "input": ["tfdata", "cached"],
        "batch_size": [16],
    }
    assert why["jit_compile on"] == "the model is compiled with run_eagerly=True, which is slow: leave that out"
    assert why["steps_per_execution 4, 16"] == "the model is compiled with run_eagerly=True"
    assert why["precision mixed_float16, mixed_bfloat16"].startswith("a processor is seldom faster in it")


def test_values_that_were_asked_for_are_the_only_ones():
    values, why = axes(trials(), precision=["mixed_bfloat16"], input=["arrays"], jit_compile=["off"], batch_size=[8])
    assert values["precision"] == ["mixed_bfloat16"]
    assert values["input"] == values["batch_size"] == values["jit_compile"] == []
    assert "jit_compile on" not in why


def test_a_policy_of_the_script_s_own_stays():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        values, why = axes(trials(), precision=["mixed_bfloat16"])
    finally:
        keras.config.set_dtype_policy("float32")
    assert (values["precision"], why["precision mixed_bfloat16"]) == (
        [],
        "the script sets a policy of its own (mixed_float16)",
    )


@pytest.mark.parametrize(
    ("capability", "fast"),
    [
        ("(8, 0)", ["mixed_float16", "mixed_bfloat16"]),
        ("7.5", ["mixed_float16"]),
        ("6.1", []),
        ("gfx90a", []),
        (None, []),
    ],
)
def test_precisions_are_those_that_the_gpu_is_faster_in(monkeypatch, capability, fast):
    """A double of the driver's answer: this machine has no GPU."""
    gpu = type("Device", (), {"kind": "gpu"})()
    monkeypatch.setattr(axes_module, "device_of_training", lambda: gpu)
    monkeypatch.setattr(
        axes_module, "framework_details", lambda backend: {"gpus": [{"compute_capability": capability}]}
    )
    values, why = axes(trials())
    assert values["precision"] == fast
    assert any("not known to be faster" in reason for reason in why.values()) == (len(fast) < 2)


def test_a_model_keeps_the_precision_of_its_layers():
    inputs = keras.Input((4,))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        own = keras.Model(
            inputs, keras.layers.Dense(1, dtype="float32")(keras.layers.Dense(2, dtype="float32")(inputs))
        )
        mixed = keras.Model(inputs, keras.layers.Dense(1, dtype="float32")(keras.layers.Dense(2)(inputs)))
        assert (precision_of(own), precision_of(mixed)) == ("float32", "mixed_bfloat16")
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("x", "options", "words"),
    [
        (iter([(X, Y)]), {}, "a generator is gone through once"),
        (X, {"epochs": 0}, "this fit trains no epoch"),
    ],
)
def test_what_can_not_be_timed_again_and_again_is_refused(x, options, words):
    with pytest.raises(ValueError, match=words):
        trials(x=x, y=None if x is not X else Y, **options)


# --- preparing and timing ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fit():
    """A model whose settings share it, and its trials."""
    model = compiled(jit_compile=False)
    return model, trials(model)


def test_what_is_compiled_for_a_setting_is_kept_while_another_is_timed(fit):
    model, tried = fit
    own = tried.baseline
    assert own == Setting("float32", "off", 1, "arrays", BATCH)
    four = Setting("float32", "off", 4, "arrays", BATCH)
    assert tried.prepare(four)["first_step_sec"] > 0
    functions = {}
    for _ in range(2):
        for setting in (own, four):
            found = tried.block(setting, 0.02)
            assert found.wall_sec > 0 and found.cpu_sec > 0
            assert model.steps_per_execution == setting.steps_per_execution
            assert functions.setdefault(setting, model.train_function) is model.train_function
    assert functions[own] is not functions[four]


def test_all_forms_of_the_data_and_batch_sizes_are_timed(fit):
    _, tried = fit
    values, why = axes(tried, batch_size=[10], jit_compile=["off"])
    assert values["steps_per_execution"] == [4]
    assert why["steps_per_execution 16"] == "an epoch of 9 batches has too few executions to time"
    settings = combinations(tried.baseline, values | {"steps_per_execution": []})
    assert len(settings) == 6
    for setting in settings[1:]:
        told = tried.prepare(setting)
        assert bool(told["lines"])
        assert (told["data_sec"] > 0) == (setting.input != "arrays")
    assert all(tried.block(setting, 0.01).wall_sec > 0 for setting in settings)


def test_too_few_executions_are_seen_before_anything_is_compiled(fit):
    model, tried = fit
    before = model.train_function
    with pytest.raises(NotPossibleError, match="an epoch of 4 batches has too few executions to time"):
        tried.prepare(Setting("float32", "off", 4, "arrays", 20))
    assert model.train_function is before


def test_garbage_is_not_collected_inside_of_a_block(fit, monkeypatch):
    _, tried = fit
    training = tried._trials[tried.baseline].training
    passes, seen = training.passes, []

    def noted(*given):
        seen.append(gc.isenabled())
        return passes(*given)

    monkeypatch.setattr(training, "passes", noted)
    tried.block(tried.baseline, 0.01)
    assert (seen, gc.isenabled()) == ([False], True)


class NotForXla(keras.layers.Layer):
    """Calls Python, which XLA can't compile."""

    def call(self, x):
        tf = pytest.importorskip("tensorflow")
        return x + tf.reshape(tf.py_function(lambda: 0.0, [], tf.float32), ())


def test_a_setting_that_fails_is_not_possible_and_the_others_go_on():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the layer is TensorFlow's")
    model = keras.Sequential([keras.Input((4,)), NotForXla(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    tried = trials(model)
    values, why = axes(tried, input=["arrays"], steps_per_execution=[1])
    assert (values["jit_compile"], "jit_compile on" in why) == (["on"], False)
    with pytest.raises(NotPossibleError, match="EagerPyFunc"):
        tried.prepare(Setting("float32", "on", 1, "arrays", BATCH))
    assert tried.block(tried.baseline, 0.01).wall_sec > 0


def test_a_layer_that_says_that_it_can_not_be_compiled_is_not_tried():
    model = compiled(jit_compile=False)
    model.layers[0].supports_jit = False
    values, why = axes(trials(model), input=["arrays"])
    assert (values["jit_compile"], why["jit_compile on"]) == ([], "this model does not support it")


def test_epochs_of_few_steps_are_timed_as_a_whole():
    model = compiled(run_eagerly=True)
    tried = trials(model, batch_size=40)
    assert tried.axes({})["batches"] == 2
    assert tried.block(tried.baseline, 0.05).wall_sec > 0


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_data_that_end_are_an_error():
    def batches():
        for _ in range(12):
            yield X[:BATCH], Y[:BATCH]

    with pytest.raises(ValueError, match="the data ended while they were tried"):
        tried = trials(x=batches(), y=None, batch_size=None, shuffle=False, steps_per_epoch=9)
        for _ in range(9):
            tried.block(tried.baseline, 0.01)
