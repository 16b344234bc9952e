"""Explanations of a user's own network, from a file that Keras saved."""

from __future__ import annotations

import json
import zipfile

import pytest

from epochcast.facts.assumptions import assumption
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.rates import law_rates, limit_of
from epochcast.gpus.ratio import Ratio
from epochcast.interval import Interval
from epochcast.model.explanation import epoch_time as explain_time
from epochcast.model.time_model.saved_model import load_model
from epochcast.roofline.network import attainable_sec
from epochcast.roofline.network_law import LawNumbers, step_seconds, step_work
from epochcast.schema import RunConfig
from epochcast.text_sinks import shortened
from epochcast.workload.shape import layer_records, trained_cnn, work_of
from tests.support.models.explanations import A100, H100, PRETRAINED, ask, cpu_model, explained
from tests.support.rows import assert_one_clear_error

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Networks as Keras saves them."""
    from epochcast.machine.framework import keras_on_cpu

    keras = keras_on_cpu()
    from epochcast.workload.cnn import build_model, compile_model

    folder = tmp_path_factory.mktemp("networks")
    cnn = build_model(RunConfig(2, 16))
    compile_model(cnn)
    cnn.save(folder / "cnn.keras")
    inputs = keras.Input((16, 8))
    plain = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
    plain.save(folder / "uncompiled.keras")
    plain.compile(keras.optimizers.SGD(momentum=0.9), "mse")
    plain.save(folder / "momentum.keras")

    @keras.saving.register_keras_serializable(package="tests")
    class Doubling(keras.layers.Layer):
        def build(self, shape):
            self.factor = self.add_weight(shape=())

        def call(self, inputs):
            return inputs * self.factor

    odd = keras.Model(inputs, keras.layers.Dense(4, name="tail")(Doubling(name="odd")(inputs)))
    odd.save(folder / "odd.keras")
    inputs = keras.Input((None, 8))
    keras.Model(inputs, keras.layers.SimpleRNN(4)(inputs)).save(folder / "open.keras")
    inputs = keras.Input((16, 8))
    doubled = keras.layers.Lambda(lambda x: 2 * x, name="lambda")(inputs)
    keras.Model(inputs, keras.layers.Dense(4)(doubled)).save(folder / "code.keras")
    with zipfile.ZipFile(folder / "empty.keras", "w"):
        pass
    return folder


def test_our_cnn_read_from_a_file_is_our_cnn(saved):
    flags = ("--network", saved / "cnn.keras", "--batch_size", 256, "--json")
    answer = json.loads(ask(*flags).out)
    own = explained(RunConfig(2, 16, 256))
    for read, known in zip(answer["layers"], own["layers"], strict=True):
        for name in ("name", "kind", "output_shape", "params", "flop", "bytes", "bound", "attainable_sec"):
            assert read[name] == known[name]
    law = load_model(PRETRAINED).plain_law
    parts = law.parts_of(work_of(RunConfig(2, 16, 256), 50_000))
    without_input = sum(parts.values()) - parts["per_epoch"]
    assert answer["predicted_avg_time_sec"] == pytest.approx(without_input)
    bar = assumption("other_network_bar_convolutional", "gpu").value
    assert answer["predicted_avg_time_sec_high"] == pytest.approx(bar * answer["predicted_avg_time_sec"])
    assert "extrapolated to another family of networks" in answer["basis_words"]
    assert (answer["network"], answer["optimizer"], answer["not_counted"]) == ("cnn.keras", "adam", [])


def test_optimizer_and_samples_of_a_network_are_its_own(saved):
    def read(name, *flags):
        return json.loads(ask("--network", saved / name, "--batch_size", 32, "--json", *flags).out)

    adam, momentum = read("uncompiled.keras", "--train_n", 640), read("momentum.keras", "--train_n", 640)
    assert (adam["train_n"], adam["steps_per_epoch"]) == (640, 20)
    assert any("no optimizer is saved" in note for note in adam["notes"])
    assert (momentum["optimizer"], momentum["notes"]) == ("sgd", [])
    weights = 16 * 8 * 4 + 4
    assert adam["layers"][0]["bytes"] - momentum["layers"][0]["bytes"] == 20 * weights * 4 * 2  # 7 passes, not 5
    bar = assumption("other_network_bar", "gpu").value
    assert adam["predicted_avg_time_sec_low"] == pytest.approx(adam["predicted_avg_time_sec"] / bar)
    assert bar > assumption("other_network_bar_convolutional", "gpu").value


def test_an_unknown_layer_stops_unless_it_is_allowed_and_is_named_either_way(saved):
    flags = ("--network", saved / "odd.keras")
    assert_one_clear_error(ask(*flags, code=1), "odd (Doubling)")
    said = ask(*flags, "--allow_unknown").out
    assert "not counted: odd (Doubling)" in said
    answer = json.loads(ask(*flags, "--allow_unknown", "--json").out)
    assert len(answer["not_counted"]) == len(answer["layers"]) == 1


def test_an_open_dimension_is_asked_for(saved):
    flags = ("--network", saved / "open.keras")
    assert_one_clear_error(ask(*flags, code=1), "--sample_shape")
    answer = json.loads(ask(*flags, "--sample_shape", "12,8", "--json").out)
    assert sum(layer["kernels_per_step"] for layer in answer["layers"]) > 12  # a step of the loop after another


def test_a_file_that_brings_code_or_nothing_is_refused(saved):
    for name, found in (("code", "layer 'lambda' holds a lambda function"), ("empty", "not a .keras file")):
        printed = ask("--network", saved / f"{name}.keras", code=1)
        assert_one_clear_error(printed, f"{name}.keras: {found}")


def test_a_class_that_keras_does_not_know_is_named(saved, monkeypatch):
    from epochcast.machine.framework import keras_on_cpu

    monkeypatch.delitem(keras_on_cpu().saving.get_custom_objects(), "tests>Doubling")
    printed = ask("--network", saved / "odd.keras", code=1)
    where = shortened(__name__, 20)
    assert_one_clear_error(printed, f"odd.keras: layer 'odd' needs class Doubling ({where}), its author's code.")
    assert printed.err.rstrip().endswith("by --code FILE.py, or --allow_unknown leaves it out.")
    answer = network_answer(saved / "odd.keras", "--allow_unknown")
    assert (answer["not_counted"], [layer["name"] for layer in answer["layers"]]) == (["odd (Doubling)"], ["tail"])


def network_answer(name, *flags):
    return json.loads(ask("--network", name, "--batch_size", 256, "--json", *flags).out)


def test_a_network_is_carried_to_another_gpu_or_precision_as_the_cnn_is(saved):
    own = network_answer(saved / "cnn.keras")
    for flags in (("--gpu", "L40S"), ("--gpu", H100), ("--precision", "mixed_float16")):
        answer = network_answer(saved / "cnn.keras", *flags)
        assert (answer["calibrated"], answer["basis"]) == (False, "law of the CNN, carried over")
        assert "law of the CNN, within a factor of 2.4" in answer["basis_words"]
        ratio, share = answer["device_time_ratio"], answer["device_share"]
        for group, sec in known_of(answer["parts"]).items():
            scale = ratio if group in ("arithmetic", "memory") else 1
            assert sec == pytest.approx(scale * own["parts"][group], rel=1e-9)
        total = answer["predicted_avg_time_sec"]
        assert sum(known_of(answer["parts"]).values()) == pytest.approx(total)
        assert total == pytest.approx(own["predicted_avg_time_sec"] * (1 - share + share * ratio))
        # the law's own bar and the ratio's
        kept_high = own["predicted_avg_time_sec_high"] * (1 - share + share * answer["device_time_ratio_high"])
        assert answer["predicted_avg_time_sec_high"] == pytest.approx(kept_high)
        assert own["predicted_avg_time_sec_low"] * (1 - share) < answer["predicted_avg_time_sec_low"] < total
        assert f"efficiency elsewhere, on {A100} in float32" in ask("--network", saved / "cnn.keras", *flags).out
    assert answer["arithmetic"] == "fp16"
    same = network_answer(saved / "cnn.keras", "--gpu", "A100-PCIE-80GB")
    assert (same["calibrated"], same["basis"]) == (True, "law of the CNN")


def known_of(parts):
    """The parts that are known for a network of the user's own: all but input and host."""
    assert parts["input and host"] is None
    return {group: sec for group, sec in parts.items() if sec is not None}


@pytest.mark.parametrize("name", ["cnn.keras", "uncompiled.keras"])
@pytest.mark.parametrize("train_n", [640, 50_000, 1_281_167])
@pytest.mark.parametrize("flags", [(), ("--gpu", "L40S")])
def test_input_and_host_of_another_network_are_unknown_and_no_part_of_its_time(saved, name, train_n, flags):
    flags = ("--train_n", train_n, *flags)
    answer = network_answer(saved / name, *flags)
    assert answer["terms"]["per_epoch"] is answer["of_no_layer"]["per_epoch"] is None
    known = known_of(answer["parts"])
    assert set(known) == {"steps", "arithmetic", "memory"}
    total = answer["predicted_avg_time_sec"]
    layers = sum(layer["attributed_sec"] for layer in answer["layers"])
    assert sum(known.values()) == pytest.approx(total)
    assert layers + answer["of_no_layer"]["per_step"] == pytest.approx(total)
    if not flags[2:]:
        assert answer["law_sec"] == pytest.approx(total)
    out = ask("--network", saved / name, "--batch_size", 64, *flags).out
    assert "without input and host: not known for this network" in out
    assert "where it goes: input and host not known for this network, steps " in out
    assert "for input and host" not in out  # no efficiency of them either
    (row,) = (line for line in out.splitlines() if line.startswith("(input and host)"))
    assert row.split()[3:] == ["-"]


def test_twice_the_samples_take_twice_the_time_of_a_network_whose_input_is_unknown(saved):
    once, twice = (network_answer(saved / "cnn.keras", "--train_n", n) for n in (64_000, 128_000))
    assert twice["predicted_avg_time_sec"] == pytest.approx(2 * once["predicted_avg_time_sec"])


def test_a_network_on_a_gpu_agrees_with_itself_on_the_model_s_where_steps_take_most(saved):
    """A faster GPU can not take less than the steps that stay."""
    own, there = (network_answer(saved / "cnn.keras", *flags) for flags in ((), ("--gpu", H100)))
    stays = own["parts"]["steps"]
    assert stays > 0.5 * own["predicted_avg_time_sec"]
    assert stays < there["predicted_avg_time_sec"] < own["predicted_avg_time_sec"]


def test_the_kind_of_a_network_says_by_what_and_with_which_range_it_is_scaled(saved):
    dense = network_answer(saved / "uncompiled.keras", "--gpu", H100)
    assert "carried over by rates: " in dense["basis_words"]  # the law was not judged on such a network
    ratio, high = dense["device_time_ratio"], dense["device_time_ratio_high"]
    assert high / ratio == pytest.approx(assumption("ratio_range_other", "gpu").value)
    convolutional = network_answer(saved / "cnn.keras", "--gpu", H100)
    assert "carried over by its layers: arithmetic and memory by the law of networks" in convolutional["basis_words"]


# --- the law of networks ----------------------------------------------------------------------------------------------

WIDE = ("--batch_size", 32_768)  # steps long enough for the law


def law_answer(name, *flags):
    return json.loads(ask("--network", name, "--json", *WIDE, *flags).out)


def test_a_network_on_a_gpu_is_answered_by_the_law_of_networks_with_its_range(saved):
    answer = law_answer(saved / "cnn.keras", "--gpu", "RTX 4090")
    assert (answer["basis"], answer["calibrated"], answer["model"]) == ("law of networks", False, None)
    gpu = find_gpu("RTX 4090")
    work = [step_work(layer_records(RunConfig(2, 16)), batch) for batch in (32_768, 50_000 - 32_768)]
    rates = law_rates(gpu, "tf32")
    total = sum(step_seconds(each, rates, LawNumbers.shipped()) for each in work)  # the last step is short
    assert answer["predicted_avg_time_sec"] == pytest.approx(total)
    factor = assumption("network_range_convolutional", "gpu").value
    assert answer["predicted_avg_time_sec_high"] == pytest.approx(factor * total)
    least = attainable_sec(trained_cnn(RunConfig(2, 16, 32_768), 50_000, "float32"), limit_of(gpu, "tf32"))
    assert answer["predicted_avg_time_sec_low"] == pytest.approx(max(total / factor, least))
    known = known_of(answer["parts"])
    layers = sum(layer["attributed_sec"] for layer in answer["layers"])
    assert sum(known.values()) == pytest.approx(total)
    assert layers + answer["of_no_layer"]["per_step"] == pytest.approx(total)
    assert answer["of_no_layer"]["per_step"] == pytest.approx(2 * LawNumbers.shipped().step_sec)
    assert answer["efficiencies"] is answer["law_sec"] is answer["readings"] is answer["measured_elsewhere"] is None


def test_the_screen_says_what_the_law_rests_on_and_that_the_input_is_not_in_it(saved, tmp_path):
    plot = tmp_path / "roofline.svg"
    out = ask("--network", saved / "cnn.keras", *WIDE, "--gpu", "RTX 4090", "--plot", plot).out
    (basis,) = (line for line in out.splitlines() if line.startswith("basis: "))
    assert "a law of networks fitted to published steps on many GPUs, within a factor of " in basis
    assert basis.endswith("the device's share alone, without input and host: not known for this network")
    assert "\nlaw of networks: " in out and "efficiency" not in out
    assert plot.exists()


def test_the_cnn_s_family_on_its_own_gpu_and_short_steps_are_answered_as_they_were_measured(saved):
    assert law_answer(saved / "cnn.keras")["basis"] == "law of the CNN"
    assert network_answer(saved / "cnn.keras", "--gpu", "RTX 4090")["basis"] == "law of the CNN, carried over"


def test_a_gpu_whose_plain_rate_is_not_known_has_no_law(saved):
    answer = law_answer(saved / "cnn.keras", "--gpu", "B100", "--precision", "mixed_bfloat16")
    assert answer["basis"] == "law of the CNN, carried over"


def test_the_law_answers_where_no_model_of_a_gpu_does(saved):
    answer = law_answer(saved / "cnn.keras", "--gpu", H100, "--model", cpu_model())
    assert answer["basis"] == "law of networks"


def test_a_kind_of_network_that_was_never_judged_has_a_guessed_range(saved):
    flags = ("--batch_size", 2**21, "--train_n", 2**22, "--gpu", "T4")
    answer = json.loads(ask("--network", saved / "uncompiled.keras", "--json", *flags).out)
    assert answer["basis"] == "law of networks" and "guessed: no such network was judged" in answer["basis_words"]
    ratio = answer["predicted_avg_time_sec_high"] / answer["predicted_avg_time_sec"]
    assert ratio == pytest.approx(assumption("other_network_bar", "gpu").value)


def test_a_network_that_only_moves_memory_is_held_at_the_roof_and_still_sums(saved, monkeypatch):
    monkeypatch.setattr(explain_time, "device_ratio", lambda *_: Ratio(Interval(1e-3, 1e-4, 1e-2), "rates", "planted"))
    answer = network_answer(saved / "cnn.keras", "--gpu", H100)
    assert answer["held_at_roof"] == "value"
    assert answer["parts"]["arithmetic"] + answer["parts"]["memory"] == pytest.approx(answer["roofs"]["attainable_sec"])
    layers = sum(layer["attributed_sec"] for layer in answer["layers"])
    assert layers + answer["of_no_layer"]["per_step"] == pytest.approx(answer["predicted_avg_time_sec"])
    text = ask("--network", saved / "cnn.keras", "--gpu", H100).out
    assert "arithmetic and memory limited by its data sheet's rates" in text
    assert any(line.startswith("scaled: ") and line.endswith("held at the roof)") for line in text.splitlines())


def test_a_network_where_no_model_of_a_gpu_answers_gets_the_bare_roof_and_is_told_what_it_leaves_out(saved):
    flags = ("--network", saved / "cnn.keras", "--gpu", H100, "--model", cpu_model())
    answer = json.loads(ask(*flags, "--json").out)
    assert (answer["basis"], answer["parts"], answer["device_share"]) == ("bare roof", None, None)
    assert "input and host are not in it, and small networks take longer" in ask(*flags).out


def test_shapes_that_the_network_does_not_take_are_told_by_rank_and_size(saved):
    for name, shape, found in (
        ("open.keras", "12,9", "samples of shape (any, 8) of rank 2, and --sample_shape gives (12, 9) of rank 2."),
        ("open.keras", "64", "samples of shape (any, 8) of rank 2, and --sample_shape gives (64) of rank 1."),
        (
            "uncompiled.keras",
            "16,8,3",
            "samples of shape (16, 8) of rank 2, and --sample_shape gives (16, 8, 3) of rank 3.",
        ),
    ):
        printed = ask("--network", saved / name, "--sample_shape", shape, code=1)
        assert_one_clear_error(printed, found)
        assert printed.err.rstrip().endswith(".")
        assert "Invalid input shape" not in printed.err
    printed = ask("--network", saved / "open.keras", code=1)
    assert_one_clear_error(
        printed, "samples of shape (any, 8) of rank 2. Give the sizes that you train with by --sample_shape."
    )
    assert "shape=)" not in printed.err


def test_a_lambda_is_refused_in_one_sentence_of_ours(saved):
    printed = ask("--network", saved / "code.keras", code=1)
    assert_one_clear_error(printed, "code in the file, which is never run. --allow_unknown counts the rest without it.")
    assert "deserialization" not in printed.err
