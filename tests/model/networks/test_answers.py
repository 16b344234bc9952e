"""`predict_perf --network`: what a network takes on GPUs that it was never run on, read from a file of Keras."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest

from epochcast.facts.assumptions import assumption
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.rates import law_rates
from epochcast.keras_files import file_network
from epochcast.keras_files.read_file import known_file
from epochcast.live.fits import append_fit
from epochcast.model import explain, predict_perf
from epochcast.model.explanation.own_rows import factors_path, network_factors
from epochcast.model.networks.answers import NetworkRequest, network_answers
from epochcast.paths import fits_csv
from epochcast.roofline.network_law import LawNumbers, step_seconds, step_work
from epochcast.roofline.network_memory import MOST_SAMPLES
from tests.support.cli import run_cli
from tests.support.rows import assert_one_clear_error, fit_row

pytestmark = pytest.mark.usefixtures("home")
H100, A100 = "H100 SXM5", "A100 SXM4 80GB"
TRAINING = ("--train_n", 1_281_167, "--epochs", 2)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A network of convolutions whose steps take longer than the least that the law answers."""
    from epochcast.machine.framework import keras_on_cpu

    keras = keras_on_cpu()
    inputs = keras.Input((224, 224, 3))
    x = inputs
    for filters in (64, 128, 256):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
        x = keras.layers.MaxPooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(1000)(keras.layers.GlobalAveragePooling2D()(x)))
    model.compile("adam", "mse")
    model.save(path := tmp_path_factory.mktemp("wide") / "wide.keras")
    return path


def ask(path, *flags, code=0):
    return run_cli(predict_perf.main, "--network", path, *flags, code=code)


def asked(path, *flags):
    return ask(path, *flags, "--json").json["answers"]


def test_a_step_is_that_of_explain_and_its_epoch_and_training_are_sums_of_it(wide):
    (answer,) = asked(wide, "--gpu", H100, "--batch_size", 128, "--train_n", 12_800, "--epochs", 3)
    flags = ("--network", wide, "--gpu", H100, "--batch_size", 128, "--train_n", 12_800, "--precision", "float32")
    explained = run_cli(explain.main, *flags, "--json").json
    assert answer["epoch_sec"] == pytest.approx(explained["predicted_avg_time_sec"])
    assert (answer["basis"], answer["basis_words"]) == (explained["basis"], explained["basis_words"])
    assert answer["epoch_sec"] == pytest.approx(100 * answer["step_sec"])
    assert answer["training_sec_high"] == pytest.approx(3 * answer["epoch_sec_high"])
    assert answer["images_per_sec"] == pytest.approx(128 / answer["step_sec"])
    assert answer["images_per_sec_low"] == pytest.approx(128 / answer["step_sec_high"])
    assert answer["memory"] == explained["memory"]
    (place,) = answer["footprints"]
    assert place["cloud_usd"] == pytest.approx(place["usd_per_gpu_hour"] * answer["training_sec"] / 3600)


def test_without_samples_a_step_alone_is_told_and_the_input_is_not_in_it(wide):
    printed = ask(wide, "--gpu", f"{H100};{A100}", "--batch_size", "64:256:x2").out
    assert "the device's share alone" in printed
    table = re.findall(rf"^({H100}|{A100}) +(\d+) ", printed, re.MULTILINE)
    assert table == [(gpu, batch) for batch in ("64", "128", "256") for gpu in (H100, A100)]
    header = next(line for line in printed.splitlines() if line.startswith("GPU"))
    assert "ms/step" in header and "epoch" not in header and "USD" not in printed
    for each in asked(wide, "--gpu", H100, "--batch_size", 64):
        assert (each["epoch_sec"], each["training_sec"], each["footprints"]) == (None, None, [])


def test_an_input_that_is_slower_than_the_gpu_binds(wide):
    def bound(rate):
        flags = ("--gpu", H100, "--batch_size", 128, *TRAINING, "--input_images_per_sec", rate)
        return asked(wide, *flags)[0]

    (alone,) = asked(wide, "--gpu", H100, "--batch_size", 128, *TRAINING)
    fast, slow, near = bound(1e6), bound(10), bound(alone["images_per_sec"])
    assert [each["binds"] for each in (fast, slow, near)] == ["device", "input", "either"]
    assert fast["epoch_sec"] == alone["epoch_sec"]
    assert [slow[f"epoch_sec{end}"] for end in ("", "_low", "_high")] == [pytest.approx(TRAINING[1] / 10)] * 3
    assert near["epoch_sec_low"] == pytest.approx(TRAINING[1] / alone["images_per_sec"])
    watts = [each["footprints"][0]["board_kwh"] * 3.6e6 / each["training_sec"] for each in (alone, fast, slow)]
    assert watts[0] == pytest.approx(watts[1])
    idle_w = assumption("board_power_idle_share", "gpu").value * find_gpu(H100).tdp_w
    assert watts[2] == pytest.approx(idle_w, rel=0.02)  # it waits for nearly all of the time
    assert watts[0] > 2 * idle_w
    assert [alone["is_device_share_alone"], slow["is_device_share_alone"]] == [True, False]
    assert "the input" in ask(wide, "--gpu", H100, *TRAINING, "--input_images_per_sec", 10).out


def test_all_gpus_are_sorted_and_those_without_the_precision_are_named(wide):
    found = ask(wide, "--all_gpus", *TRAINING, "--precision", "mixed_bfloat16", "--sort", "cost", "--json").json
    costs = [each["footprints"][0]["cloud_usd"] for each in found["answers"]]
    known = [cost for cost in costs if cost is not None]
    assert costs == [*sorted(known), *[None] * (len(costs) - len(known))]
    left_out = {name for names in found["gpus_left_out"].values() for name in names}
    assert left_out and not left_out & {each["gpu"] for each in found["answers"]}
    assert_one_clear_error(ask(wide, "--gpu", sorted(left_out)[0], "--precision", "mixed_bfloat16", code=1), "bf16")


def test_the_second_answer_starts_no_framework(wide, monkeypatch):
    before = asked(wide, "--gpu", H100)
    monkeypatch.setattr("epochcast.keras_files.read_file.keras_on_cpu", lambda: pytest.fail("it is read again"))
    assert asked(wide, "--gpu", H100) == before
    monkeypatch.undo()
    for broken in ("{", "[]", "null", "5", '{"records": [5]}', None):
        for kept in (file_network.cache_dir() / "networks").glob("*.network"):
            kept.write_text(kept.read_text().replace("64", '"x"') if broken is None else broken)
        assert asked(wide, "--gpu", H100) == before  # what is broken is read anew


def test_another_file_of_the_same_name_is_read_anew(wide, tmp_path):
    from epochcast.machine.framework import keras_on_cpu

    keras = keras_on_cpu()
    found = []
    for units in (4, 8):
        inputs = keras.Input((16,))
        keras.Model(inputs, keras.layers.Dense(units)(inputs)).save(tmp_path / "net.keras")
        found.append(known_file(tmp_path / "net.keras").records[0].params)
    assert found == [68, 136]


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o722])
def test_a_cache_folder_that_others_can_write_is_not_used_after_one_warning(wide, tmp_path, monkeypatch, caplog, mode):
    monkeypatch.setattr(file_network, "cache_dir", lambda: tmp_path)
    folder = tmp_path / "networks"
    folder.mkdir()
    folder.chmod(mode)
    found = [known_file(wide) for _ in range(2)]
    assert found[0] == found[1]
    assert not list(folder.iterdir())
    (message,) = caplog.messages
    assert f"{folder} can be written by others: chmod go-w {folder}" in message
    assert "EPOCHCAST_CACHE_DIR" in message


def test_without_a_place_to_keep_a_network_it_is_read_with_a_warning(wide, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(file_network, "cache_dir", lambda: tmp_path / "file")
    assert known_file(wide).records
    assert "cannot keep what was read of a network (Not a directory)" in caplog.text


def test_the_largest_batch_is_none_or_a_number_or_more_than_is_looked_for(wide, tmp_path):
    from epochcast.machine.framework import keras_on_cpu

    keras = keras_on_cpu()
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(1)(inputs)).save(small := tmp_path / "small.keras")
    inputs = keras.Input((10**9, 8))  # 32 GB a sample
    keras.Model(inputs, keras.layers.Conv1D(8, 1)(inputs)).save(large := tmp_path / "large.keras")

    def row(path):
        printed = ask(path, "--gpu", H100, "--batch_size", 1, "--max_batch").out
        return next(line for line in printed.splitlines() if line.startswith(H100))

    assert re.search(rf" {MOST_SAMPLES:,} or more +{MOST_SAMPLES:,} or more$", row(small))
    assert re.search(r" none +none$", row(large))
    (answer,) = asked(wide, "--gpu", H100, "--batch_size", 1, "--max_batch")
    sizes = answer["memory"]["max_batch"]
    assert 0 < sizes["surely"] < sizes["probably"] < MOST_SAMPLES
    assert re.search(rf" {sizes['surely']:,} +{sizes['probably']:,}$", row(wide))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--epochs", 3), "give --train_n"),
        (("--depth", 3), "--depth describe our CNN"),
        (("--params", 3), "--params"),
        (("--plot", "a.png"), "--plot"),
        (("--region", "FR"), "give --epochs"),
        (("--input_images_per_sec", 0), "--input_images_per_sec"),
    ],
)
def test_flags_that_do_not_go_together_are_a_wrong_command(wide, capsys, flags, message):
    with pytest.raises(SystemExit) as end:
        predict_perf.main([str(word) for word in ("--network", wide, "--gpu", H100, *flags)])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flags", [("--train_n", 3), ("--max_batch",), ("--code", "a.py"), ("--allow_unknown",)])
def test_flags_of_a_network_need_one(capsys, flags):
    with pytest.raises(SystemExit) as end:
        predict_perf.main([str(word) for word in flags])
    assert end.value.code == 2
    assert "go with --network" in capsys.readouterr().err


def test_a_box_without_a_known_gpu_asks_for_one(wide):
    assert_one_clear_error(ask(wide, code=1), "Name one with --gpu")


# --- networks that were measured --------------------------------------------------------------------------------------


def measured(network, gpu, precision, times, model_key="a", **more):
    """A row of a network whose steps took so many times as long as the law says."""
    work = step_work(network.records, 128, 4 if precision == "float32" else 2, network.passes)
    rates = law_rates(find_gpu(gpu), "tf32" if precision == "float32" else "fp16")
    values = {f"step_{name}": int(getattr(work, name)) for name in work.__slots__}
    return fit_row(
        device_name=f"NVIDIA {gpu}",
        precision=precision,
        model_key=model_key,
        network_kind="convolutional",
        batch_size=128,
        batches=10,
        timed_epoch_sec=10 * times * step_seconds(work, rates, LawNumbers.shipped()),
        **values | more,
    )


def another(network, gpu, precision, times, model_key="a", **more):
    """A row of a network like it, but for an operation more."""
    row = measured(network, gpu, precision, times, model_key)
    return replace(row, **{"step_operations": row.step_operations + 1, **more})


def test_another_network_measured_on_the_gpu_is_a_factor_of_its_kind_there(wide):
    network = known_file(wide)
    (before,) = asked(wide, "--gpu", A100, "--batch_size", 128)
    append_fit(fits_csv(), another(network, A100, "float32", 1.3))
    (after,) = asked(wide, "--gpu", A100, "--batch_size", 128)
    assert after["step_sec"] == pytest.approx(1.3 * before["step_sec"], rel=1e-2)
    assert "times 1.3, what one network of yours took there over it with their input" in after["basis_words"]
    assert after["step_sec_high"] / after["step_sec"] < before["step_sec_high"] / before["step_sec"]
    assert [before["is_device_share_alone"], after["is_device_share_alone"]] == [True, False]
    (elsewhere,) = asked(wide, "--gpu", H100, "--batch_size", 128)
    assert "of yours" not in elsewhere["basis_words"]
    (half,) = asked(wide, "--gpu", A100, "--batch_size", 128, "--precision", "mixed_float16")
    assert "of yours" not in half["basis_words"]
    kept = json.loads(factors_path().read_text())["factors"]
    of = [(each["gpu"], each["precision"], each["arithmetic"], each["kind"], each["n_networks"]) for each in kept]
    assert of == [(A100, "float32", "tf32", "convolutional", 1)]
    assert kept[0]["factor"] == pytest.approx(1.3, rel=1e-2)
    fits_csv().unlink()
    assert asked(wide, "--gpu", A100, "--batch_size", 128) == [before]
    assert json.loads(factors_path().read_text())["factors"] == []


@pytest.mark.parametrize(
    "more",
    [
        {"network_kind": "transformer"},
        {"network_kind": "other"},
        {"tf32": "off"},  # it multiplied in another arithmetic
        {"is_contended": 1},
        {"step_flop": None},
        {"step_flop": 1, "step_small_kernel_flop": 0, "step_bytes": 1, "step_operations": 1},  # too short for the law
        {"device_name": "NVIDIA A100-SXM4-80GB MIG 1g.10gb"},
    ],
    ids=str,
)
def test_rows_that_say_nothing_of_the_network_change_nothing(wide, more):
    (before,) = asked(wide, "--gpu", A100, "--batch_size", 128)
    append_fit(fits_csv(), another(known_file(wide), A100, "float32", 1.3, **more))
    assert asked(wide, "--gpu", A100, "--batch_size", 128) == [before]


def test_the_network_that_was_measured_is_answered_by_its_own_rows(wide):
    network = known_file(wide)
    (before,) = asked(wide, "--gpu", A100, "--batch_size", 128, *TRAINING)
    ends = {"epoch_sec": 4.0, "epoch_sec_low": 3.6, "epoch_sec_high": 4.4}
    row = measured(network, A100, "float32", 1.3, **ends, peak_memory_bytes=5 * 2**30)
    row = replace(row, energy_j_per_epoch=200.0 * row.timed_epoch_sec, energy_source="nvml_counter")
    append_fit(fits_csv(), row)
    (after,) = asked(wide, "--gpu", A100, "--batch_size", 128, *TRAINING)
    assert (after["basis"], after["is_device_share_alone"]) == ("measured", False)
    assert after["step_sec"] == pytest.approx(row.timed_epoch_sec / 10)
    assert after["step_sec_high"] == pytest.approx(1.1 * after["step_sec"])
    assert after["epoch_sec"] == pytest.approx(after["step_sec"] * TRAINING[1] / 128)
    assert row.run_id in after["basis_words"]
    assert after["memory"]["peak_memory_arrays_gib"] == pytest.approx(5)
    (place,) = after["footprints"]
    assert place["board_kwh"] == pytest.approx(200 * after["training_sec"] / 3.6e6)
    assert "measured" in place["energy_method"]
    assert "time: with the input and host of your own rows" in ask(wide, "--gpu", A100, "--batch_size", 128).out
    assert "but where your own rows answer" in ask(wide, "--gpu", f"{A100};{H100}", "--batch_size", 128).out
    (other_batch,) = asked(wide, "--gpu", A100, "--batch_size", 64, *TRAINING)
    assert "of yours" in other_batch["basis_words"]
    assert before["basis"] == "law of networks"


def test_a_factor_is_the_median_of_networks_and_their_own_spread_where_it_is_wider(wide):
    network = known_file(wide)

    def factor(*times):
        rows = [another(network, A100, "float32", each, str(i)) for i, each in enumerate(times)]
        return network_factors(rows)

    (near,), (far,) = factor(1.1, 1.2, 1.3), factor(0.5, 1.2, 3.0)
    assert [near.factor, far.factor] == pytest.approx([1.2, 1.2], rel=1e-2)
    assert far.range_factor > 2 * near.range_factor
    again = [another(network, A100, "float32", times, "one") for times in (1.0, 1.1, 1.2)]
    (once,) = network_factors(again)  # three times the same network
    assert (once.n_networks, once.factor) == (1, pytest.approx(1.1, rel=1e-2))


def test_a_factor_below_the_least_time_leaves_a_range(wide):
    append_fit(fits_csv(), another(known_file(wide), A100, "float32", 0.1))
    (answer,) = asked(wide, "--gpu", A100, "--batch_size", 128)
    assert "limited by the least time" in answer["basis_words"]
    assert answer["step_sec_high"] > 1.4 * answer["step_sec"]


def test_from_python_the_answers_are_the_same(wide):
    (answer,), without = network_answers(NetworkRequest(known_file(wide), "float32"), [find_gpu(H100)], [64])
    assert without == {}
    assert answer.to_json() == asked(wide, "--gpu", H100, "--batch_size", 64)[0]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"epochs": 3}, "give train_n"),
        ({"train_n": 0}, "train_n must be a whole number"),
        ({"train_n": 10, "epochs": -1}, "epochs must be a whole number"),
        ({"precision": "float8"}, "no precision"),
        ({"input_images_per_sec": math.nan}, "input_images_per_sec must be"),
        ({"input_images_per_sec": 0}, "input_images_per_sec must be"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(wide, asked, message):
    with pytest.raises(ValueError, match=message):
        NetworkRequest(known_file(wide), **{"precision": "float32", **asked})


@pytest.mark.parametrize(("batches", "sort"), [([0], "time"), ([1.5], "time"), ([], "time"), ([8], "name")])
def test_batch_sizes_and_orders_that_make_no_sense_are_refused(wide, batches, sort):
    with pytest.raises(ValueError, match=r"whole number|needed|no order"):
        network_answers(NetworkRequest(known_file(wide), "float32", rows=()), [find_gpu(H100)], batches, sort)


def test_a_step_is_a_whole_one_whatever_the_last_of_an_epoch_is(wide):
    (alone,) = asked(wide, "--gpu", H100, "--batch_size", 128)
    (partial,) = asked(wide, "--gpu", H100, "--batch_size", 128, "--train_n", 200)
    assert partial["step_sec"] == alone["step_sec"]
    assert alone["step_sec"] < partial["epoch_sec"] < 2 * alone["step_sec"]
    (few,) = asked(wide, "--gpu", H100, "--batch_size", 512, "--train_n", 100)
    (exact,) = asked(wide, "--gpu", H100, "--batch_size", 100)
    assert (few["step_sec"], few["memory"]) == (exact["step_sec"], exact["memory"])


def test_step_and_epoch_are_by_the_same_law_whatever_the_last_step_is(wide):
    def both(batch_size):
        flags = ("--gpu", H100, "--batch_size", batch_size, "--train_n", batch_size + 1)
        (answer,) = asked(wide, *flags)
        return answer["basis"], answer["epoch_sec"] / answer["step_sec"]

    found = [both(size) for size in range(1, 20)]
    assert {basis for basis, _ in found} > {"law of networks"}  # the least time of the law lies between
    for basis, ratio in found:  # a step of one sample more is never less than a whole step
        assert 1 < ratio <= 2 + 1e-9, basis


def test_a_gpu_that_two_laws_answer_for_is_told_with_its_batch_sizes(wide):
    printed = ask(wide, "--gpu", f"{H100};{A100}", "--batch_size", "2,128").out
    assert f"time, {H100} batch 128; {A100} batch 128: a law of networks" in printed
    assert "multiplies in: tf32" in printed
