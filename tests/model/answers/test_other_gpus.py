"""Answers for other GPUs: what is carried over, what was measured instead, in which order, and what a run costs."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest

from epochcast.facts.assumptions import assumption
from epochcast.facts.regions import find_region
from epochcast.facts.tables import gpus
from epochcast.footprint.rules import FootprintRules
from epochcast.gpus.board_power import board_power
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.rates import limit_of
from epochcast.gpus.ratio import LAYERS, SAME, GpuArithmetic, Ratio, device_ratio, source_device
from epochcast.gpus.scaled_time import LIMITED, LIMITED_LOW, LIMITED_WORDS, scaled_time
from epochcast.interval import Interval
from epochcast.machine.gpu import driver_signs
from epochcast.model.answers import correction
from epochcast.model.answers.measured import measured_steady
from epochcast.model.answers.other_gpus import MEASURED, answer_on, answers_on, without_number
from epochcast.model.answers.other_gpus_text import gpu_lines
from epochcast.model.answers.prediction import RunRequest
from epochcast.model.time_model.intervals import HALF_WIDTH_SDS
from epochcast.model.time_model.physics import device_share
from epochcast.model.time_model.saved_model import load_model
from epochcast.paths import pretrained_dir
from epochcast.roofline.network import attainable_sec
from epochcast.schema import Conditions, RunConfig
from epochcast.storage.cells import columns
from epochcast.workload.shape import trained_cnn, work_of
from tests.support.rows import agg_row

SAVED = load_model(pretrained_dir() / "a100.keras")
CONFIG = RunConfig(3, 32, 128)
H100, H200, T4, V100 = (find_gpu(n) for n in ("NVIDIA H100 80GB HBM3", "H200 SXM", "T4", "V100 SXM2 16GB"))
ASKED = RunRequest(CONFIG, "float32")
RUN = RunRequest(CONFIG, "float32", epochs=50, rules=FootprintRules())


@pytest.fixture(autouse=True)
def home(home, monkeypatch):
    """An empty home on a box without a GPU."""
    monkeypatch.setattr(driver_signs, "NVIDIA_PROC", home / "no driver")
    return home


def cnn(config):
    return trained_cnn(config, 50_000, "float32")


def measured(seconds=0.9, *, config=CONFIG, n=3, std=0.01, device_name="NVIDIA H100 80GB HBM3", **changes):
    """A row of the same configuration on an H100, under the model's conditions but for its device and `changes`."""
    known = {name: getattr(SAVED.conditions, name) for name in columns(Conditions)}
    known |= {"device_name": device_name, "backend_version": "2.21"}
    more = {name: changes.pop(name) for name in list(changes) if name not in known}
    return agg_row(config.depth, config.base_filters, config.batch_size, seconds, n, std, **known | changes, **more)


# --- carried over -----------------------------------------------------------------------------------------------------


def test_a_carried_time_is_the_model_s_with_only_the_device_s_share_scaled():
    answer = answer_on(H100, SAVED, ASKED, [])
    ratio = device_ratio(source_device(SAVED.conditions), GpuArithmetic.of(H100, "float32", "on"), cnn(CONFIG))
    share = device_share(SAVED.plain_law, work_of(CONFIG, 50_000))
    assert (answer.basis, answer.ratio, answer.share) == (LAYERS, ratio, share)
    assert answer.times.steady == scaled_time(SAVED.forecast(CONFIG).steady, share, ratio).seconds
    assert answer.limited is None
    assert 0.1 < share < 0.6


def test_a_run_that_mostly_waits_gains_less_from_a_faster_gpu_than_one_that_computes():
    gains = {}
    for config in (RunConfig(2, 16, 32), RunConfig(5, 64, 2048)):
        own = SAVED.forecast(config).steady.value
        gains[config] = own / answer_on(H200, SAVED, replace(ASKED, config=config), []).times.steady.value
    waiting, computing = gains.values()
    assert 1 < waiting < 1.06
    assert 1.5 < computing < 1 / answer_on(H200, SAVED, replace(ASKED, config=config), []).ratio.value.value


def test_start_up_is_not_scaled_and_a_run_s_time_follows_the_carried_epochs():
    own, there = SAVED.forecast(CONFIG, 50), answer_on(T4, SAVED, RUN, []).times
    assert there.run.overhead == own.run.overhead
    assert there.run.first_epoch.value - there.steady.value == pytest.approx(
        own.run.first_epoch.value - own.steady.value
    )
    slower = there.steady.value - own.steady.value
    assert slower > 1
    assert there.run.wall.value == pytest.approx(own.run.wall.value + 50 * slower)
    assert there.run.wall.low < there.run.wall.value < there.run.wall.high


def test_the_model_s_own_gpu_is_answered_by_the_model_itself():
    answer = answer_on(find_gpu("A100 PCIe 80GB"), SAVED, ASKED, [])
    assert answer.basis == SAME
    assert answer.times.steady == SAVED.forecast(CONFIG).steady


def test_far_outside_the_range_there_is_a_number_and_no_interval():
    steady = answer_on(H100, SAVED, replace(ASKED, config=RunConfig(9, 32, 128)), []).times.steady
    assert steady.value > 0
    assert (steady.low, steady.high) == (None, None)


def test_a_model_of_a_processor_has_nothing_to_carry():
    card = {**SAVED.card, "conditions": {**SAVED.card["conditions"], "device_name": "AMD EPYC 9B14 (2 cores)"}}
    with pytest.raises(ValueError, match="nothing to carry a time over from: the model is of AMD EPYC 9B14"):
        answer_on(H100, replace(SAVED, card=card), ASKED, [])


# --- measured ---------------------------------------------------------------------------------------------------------


def test_a_measured_row_wins_over_a_carried_time_and_is_called_measured():
    answer = answer_on(H100, SAVED, ASKED, [measured(0.9)])
    assert (answer.basis, answer.ratio) == (MEASURED, None)
    assert answer.times.steady.value == 0.9
    assert answer.words.startswith("measured on NVIDIA H100 80GB HBM3, 3 runs, tensorflow 2.21")


@pytest.mark.parametrize(
    "row",
    [
        measured(config=RunConfig(3, 32, 256)),
        measured(device_name="NVIDIA H100 PCIe"),
        measured(device_name="NVIDIA H100 80GB HBM3 MIG 1g.10gb"),
        measured(device_name=None),
        measured(precision="mixed_float16"),
        measured(pipeline="device"),
        measured(backend="jax"),
        measured(jit_compile="off"),
        measured(tf32="off"),
        measured(train_n=10_000),
        measured(dataset="synthetic"),
    ],
    ids=[
        "configuration",
        "GPU",
        "instance",
        "unknown_device",
        "precision",
        "pipeline",
        "backend",
        "jit",
        "tf32",
        "train_n",
        "dataset",
    ],
)
def test_what_was_measured_of_something_else_does_not_win(row):
    answer = answer_on(H100, SAVED, ASKED, [row])
    assert (answer.basis, answer.correction) == (LAYERS, None)


def test_real_images_of_another_folder_are_no_other_dataset():
    assert answer_on(H100, SAVED, ASKED, [measured(dataset="cifar10_images")]).basis == MEASURED


def test_steps_extrapolated_to_an_epoch_are_named_and_give_way_to_a_full_one():
    steps = measured(0.8, n=9, timing_mode="steps_extrapolated", window_steps=100, backend_version="2.20")
    assert "tensorflow 2.20, steps_extrapolated" in answer_on(H100, SAVED, ASKED, [steps]).words
    whole = answer_on(H100, SAVED, ASKED, [steps, measured(0.9)])
    assert whole.times.steady.value == 0.9
    assert "extrapolated" not in whole.words


def test_a_gpu_without_tf32_may_have_it_off_where_the_model_has_it_on():
    row = measured(3.0, device_name="Tesla V100-SXM2-16GB", tf32="off")
    assert answer_on(V100, SAVED, ASKED, [row]).times.steady.value == 3.0


def test_of_several_measured_rows_the_one_most_like_the_model_s_conditions_answers():
    rows = [measured(0.7, n=9), measured(0.8, backend_version="2.20"), measured(0.9, steps_per_execution=None)]
    assert answer_on(H100, SAVED, ASKED, rows).times.steady.value == 0.8


def test_the_asked_precision_is_the_one_that_a_row_must_have():
    row = measured(0.6, precision="mixed_float16")
    assert answer_on(H100, SAVED, replace(ASKED, precision="mixed_float16"), [row]).times.steady.value == 0.6


def test_a_gpu_whose_rate_is_unknown_is_answered_where_it_was_measured():
    asked, row = (
        replace(ASKED, precision="mixed_bfloat16"),
        measured(device_name="Tesla T4", precision="mixed_bfloat16"),
    )
    assert without_number(T4, SAVED, asked, []) == "without a known rate in mixed_bfloat16"
    assert without_number(T4, SAVED, asked, [row]) is None
    assert answer_on(T4, SAVED, asked, [row]).basis == MEASURED
    with pytest.raises(ValueError, match="T4 has no known bf16 rate"):
        answer_on(T4, SAVED, asked, [])


def test_the_interval_of_a_measured_time_is_its_runs_spread_or_that_assumed_of_repeats():
    many, few = measured_steady(measured(1.0, n=5, std=0.1)), measured_steady(measured(1.0, n=2, std=0.1))
    assert math.log(many.high) == pytest.approx(0.1645, rel=1e-3)  # 90 % of a normal distribution, in logs
    assert math.log(many.low) == pytest.approx(-0.1645, rel=1e-3)
    assert 0 < few.high - few.value < 0.02
    assert "spread of repeats assumed" in answer_on(H100, SAVED, ASKED, [measured(n=1, std=None)]).words
    assert "assumed" not in answer_on(H100, SAVED, ASKED, [measured(n=5, std=0.1)]).words


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize(
    ("own", "is_wider"), [(0.696, True), (0.05, True), (0.001, False), (0.0, False), (None, False)]
)
def test_of_few_runs_the_wider_of_their_own_interval_and_that_of_repeats_counts(n, own, is_wider):
    row = measured(1.0, n=n, std=None if n == 1 else 0.5, rel_ci95=own)
    assumed = HALF_WIDTH_SDS * assumption("repeat_sd_steady", "gpu").value
    steady, words = measured_steady(row), answer_on(H100, SAVED, ASKED, [row]).words
    assert steady.high - steady.value == pytest.approx(own if is_wider else assumed)
    assert steady.value / steady.low == pytest.approx(1 + (own if is_wider else assumed))
    assert ("spread of repeats assumed" in words) != is_wider
    assert ("own 95 % interval" in words) == is_wider


def test_the_spread_of_many_runs_is_measured_and_their_own_intervals_add_nothing():
    row = measured(1.0, n=5, std=0.1, rel_ci95=0.7)
    assert measured_steady(row) == measured_steady(measured(1.0, n=5, std=0.1))


@pytest.mark.parametrize("std", [None, 0.0])
def test_runs_that_tell_no_spread_have_that_of_repeats_and_say_so(std):
    row = measured(1.0, n=6, std=std)
    assert measured_steady(row).low < 1.0 < measured_steady(row).high
    assert "spread of repeats assumed" in answer_on(H100, SAVED, ASKED, [row]).words


def test_a_measured_time_of_wild_runs_is_told_and_never_reaches_zero():
    answer = answer_on(H100, SAVED, ASKED, [measured(1.0, n=6, std=0.9)])
    told = answer.to_json()
    assert 0 < told["predicted_avg_time_sec_low"] < 1.0 < told["predicted_avg_time_sec_high"]
    assert told["predicted_images_per_sec_derived_high"] == 50_000 / told["predicted_avg_time_sec_low"]


def test_a_corrected_time_tells_no_ratio_and_that_all_of_it_is_corrected():
    asked = RunRequest(RunConfig(3, 32, 128), "float32")
    times = {64: 4.0, 256: 1.4, 512: 0.8}
    others = [measured(seconds, config=RunConfig(3, 32, batch)) for batch, seconds in times.items()]
    plain, corrected = answer_on(H100, SAVED, asked, []), answer_on(H100, SAVED, asked, others)
    assert plain.to_json()["device_time_ratio"] == plain.ratio.value.value
    assert corrected.to_json()["device_time_ratio"] is None
    blocks, _ = gpu_lines([[corrected]], SAVED, {})
    text = "\n".join(line for block in blocks for line in block)
    assert "corrected: the factor is on the whole time, input, host and steps included" in text
    assert "stay as they were" not in text


def test_a_measured_start_counts_in_the_run_and_the_model_s_where_none_was_measured():
    knows = measured(1.0, first_epoch_sec_mean=6.0, overhead_sec_mean=4.0)
    run = answer_on(H100, SAVED, RUN, [knows]).times.run
    assert (run.first_epoch.value, run.overhead.value) == (6.0, 4.0)
    assert run.wall.value == pytest.approx(4 + 6 + 49 * 1.0)
    guessed = answer_on(H100, SAVED, RUN, [measured(1.0)]).times.run
    own = SAVED.forecast(CONFIG).run
    assert guessed.overhead == own.overhead
    assert guessed.wall.value > 50


def test_a_run_s_time_names_whose_start_up_it_has():
    told = "start-up of NVIDIA A100 80GB PCIe"
    of = SAVED.device_name
    whole = measured(first_epoch_sec_mean=6.0, overhead_sec_mean=4.0)
    for rows, start_up_of in (([whole], None), ([measured()], of), ([measured(overhead_sec_mean=4.0)], of), ([], of)):
        answer = answer_on(H100, SAVED, RUN, rows)
        assert answer.start_up_of == start_up_of
        assert answer.words.endswith(told) == (answer.basis == MEASURED and start_up_of is not None)
        assert told not in answer_on(H100, SAVED, ASKED, rows).words  # no run, no start-up
    assert answer_on(find_gpu("A100 PCIe 80GB"), SAVED, RUN, []).start_up_of is None


# --- carried, and set right by others measured there ------------------------------------------------------------------


OTHERS = [RunConfig(3, 32, size) for size in (64, 256, 512)]


def there(factors, configs=OTHERS, **changes):
    """Rows on an H100 that took `factors` times as long as carried."""
    of = {config: answer_on(H100, SAVED, replace(ASKED, config=config), []).times.steady.value for config in configs}
    return [
        measured(factor * of[config], config=config, **changes) for factor, config in zip(factors, configs, strict=True)
    ]


def test_three_configurations_measured_there_set_the_carried_time_right_and_narrow_it():
    plain = answer_on(H100, SAVED, ASKED, []).times.steady
    rows = there([1.2, 1.25, 1.3])
    answer = answer_on(H100, SAVED, ASKED, rows)
    steady = answer.times.steady
    assert answer.basis == "carried, corrected by 3 measured there"
    assert steady.value == pytest.approx(1.25 * plain.value)
    logs = [math.log(factor) for factor in (1.2, 1.25, 1.3)]
    half = 2.919986 * statistics.stdev(logs) * math.sqrt(1 + 1 / 3)  # Student's t, 2 degrees of freedom, 95 %
    for ratio in (steady.high / steady.value, steady.value / steady.low):
        assert ratio == pytest.approx(math.exp(half), rel=1e-5)
    assert "times 1.250, the median of measured over carried" in answer.words
    assert "carried by layers: arithmetic and memory by the law of networks" in answer.words
    assert answer.ratio is not None
    assert (answer.n_there, answer.correction.factor) == (3, pytest.approx(1.25))


def test_rows_that_agree_leave_no_narrower_bar_than_repeats_have():
    steady = answer_on(H100, SAVED, ASKED, there([1.1, 1.1, 1.1])).times.steady
    repeats = HALF_WIDTH_SDS * assumption("repeat_sd_steady", "gpu").value
    assert math.log(steady.high / steady.value) == pytest.approx(repeats)


def test_outside_the_range_measured_there_the_carried_bar_is_kept():
    plain, steady = (
        answer_on(H100, SAVED, replace(ASKED, config=RunConfig(4, 32, 128)), rows).times.steady
        for rows in ([], there([1.2, 1.2, 1.2]))
    )
    assert steady.value == pytest.approx(1.2 * plain.value)
    assert (steady.low, steady.high) == (pytest.approx(1.2 * plain.low), pytest.approx(1.2 * plain.high))
    far = answer_on(H100, SAVED, replace(ASKED, config=RunConfig(9, 32, 128)), there([1.2, 1.2, 1.2])).times.steady
    assert (far.low, far.high) == (None, None)


def test_two_configurations_measured_there_are_too_few_and_it_says_so():
    plain, answer = (answer_on(H100, SAVED, ASKED, rows) for rows in ([], there([2.0, 2.0, 2.0])[:2]))
    assert answer.times.steady == plain.times.steady
    assert (answer.basis, answer.n_there) == (LAYERS, 2)
    assert "2 configurations measured there are not enough to correct it (3)" in answer.words
    (one, *_) = there([2.0, 2.0, 2.0])
    assert (
        "1 configuration measured there is not enough to correct it (3)" in answer_on(H100, SAVED, ASKED, [one]).words
    )
    # another version of the same configuration is none more
    twice = [*there([2.0, 2.0, 2.0])[:2], *there([2.0, 2.0, 2.0], backend_version="2.20")[:2]]
    assert answer_on(H100, SAVED, ASKED, twice).n_there == 2


@pytest.mark.parametrize(
    "changes",
    [{"precision": "mixed_float16"}, {"dataset": "synthetic"}, {"backend": "jax"}, {"device_name": "NVIDIA H200"}],
)
def test_rows_that_contradict_or_of_another_gpu_correct_nothing(changes):
    answer = answer_on(H100, SAVED, ASKED, there([1.2, 1.25, 1.3], **changes))
    assert (answer.basis, answer.n_there) == (LAYERS, 0)


def test_rows_of_the_model_s_own_gpu_are_for_training_and_correct_nothing():
    rows = there([1.2, 1.25, 1.3], device_name="NVIDIA A100 80GB PCIe")
    answer = answer_on(find_gpu("A100 PCIe 80GB"), SAVED, ASKED, rows)
    assert (answer.basis, answer.times.steady) == (SAME, SAVED.forecast(CONFIG).steady)


# --- held at the roof -------------------------------------------------------------------------------------------------

WIDE = RunConfig(5, 128, 2048)


@pytest.fixture
def too_fast(monkeypatch):
    """A ratio by which no GPU's arithmetic and memory take as long as its data sheet asks for."""
    planted = Ratio(Interval(1e-3, 5e-4, 2e-3), LAYERS, "planted")
    monkeypatch.setattr(correction, "device_ratio", lambda *_: planted)


def roof_sec(gpu, config, precision="float32"):
    device = GpuArithmetic.of(gpu, precision, "on")
    return attainable_sec(trained_cnn(config, 50_000, precision), limit_of(gpu, device.arithmetic))


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_no_carried_time_or_end_is_below_what_the_data_sheet_allows(precision):
    held = set()
    for gpu in gpus():
        for config in (WIDE, RunConfig(4, 64, 512), RunConfig(2, 16, 64)):
            asked = RunRequest(config, precision)
            if without_number(gpu, SAVED, asked, []) is not None:
                continue
            answer = answer_on(gpu, SAVED, asked, [])
            steady, least = answer.times.steady, roof_sec(gpu, config, precision)
            assert steady.value >= least
            if steady.low is not None:
                assert least <= steady.low <= steady.value < steady.high
            held.add(answer.limited)
    assert held == {None, LIMITED_LOW}  # by the law no value is below


@pytest.mark.usefixtures("too_fast")
@pytest.mark.parametrize("name", ["H20 96GB", "RTX 3090"])
def test_a_held_time_keeps_input_host_and_steps_and_says_that_it_is_held(name):
    gpu = find_gpu(name)
    least, own = roof_sec(gpu, WIDE), SAVED.forecast(WIDE).steady.value
    answer = answer_on(gpu, SAVED, replace(ASKED, config=WIDE), [])
    assert answer.limited == LIMITED
    assert answer.times.steady.value == pytest.approx(own * (1 - answer.share) + least)
    assert answer.ratio.value.value == pytest.approx(least / (own * answer.share))
    assert answer.words.endswith(f"; {LIMITED_WORDS[LIMITED]}")


def test_the_model_s_own_gpu_is_held_at_nothing(monkeypatch):
    monkeypatch.setattr(correction, "attainable_sec", lambda network, roof: 1e6)
    own = answer_on(find_gpu("A100 PCIe 80GB"), SAVED, ASKED, [])
    assert (own.times.steady, own.limited) == (SAVED.forecast(CONFIG).steady, None)
    assert answer_on(H100, SAVED, ASKED, []).times.steady.value > 1e6


@pytest.mark.usefixtures("too_fast")
def test_rows_correct_the_held_time_and_a_corrected_one_is_held_again():
    wide = [RunConfig(5, 128, size) for size in (512, 1024, 1536)]
    asked = replace(ASKED, config=WIDE)
    gpu = find_gpu("RTX 3090")
    plain = answer_on(gpu, SAVED, asked, []).times.steady.value
    of = {c: answer_on(gpu, SAVED, replace(ASKED, config=c), []).times.steady.value for c in wide}
    for factor in (1.2, 0.5):
        rows = [measured(factor * of[c], config=c, device_name="NVIDIA GeForce RTX 3090") for c in wide]
        answer = answer_on(gpu, SAVED, asked, rows)
        assert answer.correction.factor == pytest.approx(factor)  # of times that are held
        steady, least = answer.times.steady, roof_sec(gpu, WIDE)
        assert steady.low >= least
        assert steady.value == pytest.approx(max(factor * plain, factor * (plain - least) + least))
        assert answer.limited == (LIMITED if factor < 1 else None)


def test_a_measured_row_below_the_roof_is_told_as_it_is():
    row = measured(1.0, config=WIDE, device_name="Tesla V100-SXM2-16GB")
    answer = answer_on(V100, SAVED, replace(ASKED, config=WIDE), [row])
    assert (answer.times.steady.value, answer.limited) == (1.0, None)


@pytest.mark.usefixtures("too_fast")
def test_the_table_names_gpus_that_are_held_and_json_has_it():
    answers = answers_on([find_gpu("RTX 3090"), find_gpu("H20 96GB"), H100], SAVED, replace(ASKED, config=WIDE), [])
    ((lines), _) = gpu_lines([answers], SAVED, {})
    assert f"{LIMITED_WORDS[LIMITED]}: H100 SXM5, H20 96GB, RTX 3090" in lines[0]
    assert [a.to_json()["held_at_roof"] for a in answers] == [a.limited for a in answers]
    assert LIMITED in {a.limited for a in answers}


# --- several GPUs -----------------------------------------------------------------------------------------------------


def values(answers, of):
    return [None if (value := of(answer)) is None else value.value for answer in answers]


def test_gpus_are_sorted_by_time_cost_or_co2_and_what_is_unknown_comes_last():
    some = [find_gpu(name) for name in ("RTX 4090", "GH200 96GB", "T4", "H100 SXM5", "V100 SXM2 16GB", "H200 SXM")]
    by = {
        "time": lambda answer: answer.times.run.wall,
        "cost": lambda answer: answer.footprints[0].cloud_usd,
        "co2": lambda answer: answer.footprints[0].operational_kg_co2e,
    }
    orders = set()
    for sort, of in by.items():
        answers = answers_on(some, SAVED, RUN, [], sort)
        found = values(answers, of)
        known = [value for value in found if value is not None]
        assert known == sorted(known)
        assert found == [*known, *[None] * (len(found) - len(known))]
        if sort == "cost":  # nobody on record rents an RTX 4090
            assert None in found
        orders.add(tuple(answer.gpu.name for answer in answers))
    assert len(orders) == 3


def test_every_gpu_of_the_facts_is_answered_or_left_out_with_a_reason():
    for gpu in gpus():
        reason = without_number(gpu, SAVED, ASKED, [])
        if reason is None:
            answer = answer_on(gpu, SAVED, ASKED, [])
            assert answer.basis in (LAYERS, SAME)
            assert answer.times.steady.value > 0
        else:
            assert gpu.fp32_tflops is None
            with pytest.raises(ValueError, match="no known fp32 rate"):
                answer_on(gpu, SAVED, ASKED, [])


def test_each_gpu_s_own_memory_says_whether_the_run_fits():
    large = replace(ASKED, config=RunConfig(5, 64, 8192))
    fits = {name: answer_on(find_gpu(name), SAVED, large, []).fit for name in ("H200 SXM", "RTX 2060")}
    assert fits["H200 SXM"] == "fits"
    assert fits["RTX 2060"] != "fits"


# --- footprint --------------------------------------------------------------------------------------------------------


def test_each_gpu_pays_for_its_own_power_at_every_place():
    rules = FootprintRules(regions=(find_region("DE"), find_region("FR")))
    answer, small = (answer_on(gpu, SAVED, replace(RUN, rules=rules), []) for gpu in (H100, T4))
    assert [found.rates.region.code for found in answer.footprints] == ["DE", "FR"]
    for each, limit_w in ((answer, 700), (small, 70)):
        energy, wall = each.footprints[0].energy, each.times.run.wall
        watts = board_power(limit_w, each.busy_share)
        assert energy.joules.value == pytest.approx(watts.value * wall.value)
        assert energy.joules.low == pytest.approx(watts.low * wall.low)
        assert f"{limit_w} W" in energy.method


def test_a_slower_gpu_is_busy_for_more_of_the_time_and_a_row_measured_elsewhere_says_nothing_of_it():
    fast, small = (answer_on(gpu, SAVED, RUN, []) for gpu in (H100, T4))
    assert 0 < fast.busy_share < small.busy_share < 1
    assert fast.share == small.share  # of the model's time
    assert answer_on(H100, SAVED, RUN, [measured(1.0)]).busy_share is None
    own = answer_on(find_gpu("A100 80GB PCIe"), SAVED, RUN, [])
    assert own.busy_share == own.share


def test_a_measured_energy_is_that_of_the_measured_row():
    row = measured(1.0, n=5, n_energy=5, energy_j_per_epoch_median=300.0, energy_j_per_epoch_mad=1.0)
    energy = answer_on(H100, SAVED, RUN, [row]).footprints[0].energy
    assert energy.method.startswith("measured, 5 runs")
    assert energy.joules.value > 50 * 300


def test_without_epochs_or_rules_there_is_no_footprint():
    assert answer_on(H100, SAVED, ASKED, []).footprints == ()
    assert answer_on(H100, SAVED, replace(ASKED, epochs=50), []).footprints == ()


def test_a_gpu_of_unknown_tdp_is_left_out_where_a_formula_needs_it():
    rules = FootprintRules(energy_formula="mlcost")
    gpu = find_gpu("GH200 96GB")
    assert gpu.tdp_w is None
    assert "TDP" in without_number(gpu, SAVED, replace(RUN, rules=rules), [])
    assert without_number(gpu, SAVED, RUN, []) is None
    assert without_number(H100, SAVED, replace(RUN, rules=rules), []) is None


def test_an_unknown_interval_stays_unknown_in_energy_and_money():
    answer = answer_on(H100, SAVED, replace(RUN, config=RunConfig(9, 32, 128)), [])
    assert answer.times.steady.low is None
    for found in (answer.footprints[0].energy.joules, answer.footprints[0].cloud_usd):
        assert isinstance(found, Interval)
        assert (found.low, found.high) == (None, None)
