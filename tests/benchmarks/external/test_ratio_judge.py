"""The judge of ratios of two GPUs on planted steps: pairs, fits with a GPU left out, ranges, and what is written."""

from __future__ import annotations

import csv
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.external import shipped_numbers
from benchmarks.external.features import features_of
from benchmarks.external.forms import SHIPPED, numbers_of
from benchmarks.external.left_out import fitted
from benchmarks.external.ratio.forms import (
    BANDWIDTH,
    BEFORE,
    DENSE,
    RATES_BEFORE,
    JudgedRatio,
    exponents,
    first_known,
    judged,
    law_of_networks,
    rates_of,
)
from benchmarks.external.ratio.judge import claims_of, masks_of, ranges_of, read_steps
from benchmarks.external.ratio.pairs import POWER_RUNS, Pairs, Step, power_steps, speed_steps, steps_of
from benchmarks.external.records import records_of
from benchmarks.external.shipped_numbers import write_ratio
from benchmarks.external.tables import MIXED, PLAIN, PURE_HALF, Measured
from epochcast.facts.tables import CONVOLUTIONAL
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.ratio import GpuArithmetic, law_step
from epochcast.roofline.network import TrainedNetwork
from epochcast.roofline.network_law import LawNumbers

GPU_NAMES = ("V100 SXM2 16GB", "A100 SXM4 40GB", "RTX 2080 Ti", "T4", "RTX 3090", "GTX 1080 Ti")
PLANTED = {"dense": 0.4, "bandwidth": 0.5}


def arithmetic_of(gpu, precision):
    return "fp16" if precision != PLAIN else "fp32" if gpu.tf32_tflops is None else "tf32"


def step(gpu_name, seconds=1.0, network="one", precision=PLAIN, **changes):
    gpu = find_gpu(gpu_name)
    made = Step(
        "made", "any", network, 224, 64, precision, None, gpu, CONVOLUTIONAL, arithmetic_of(gpu, precision), seconds
    )
    return replace(made, **changes)


@pytest.fixture(scope="module")
def pairs():
    """Pairs whose ratios follow PLANTED exactly."""
    steps = []
    for name in GPU_NAMES:
        for precision in (PLAIN, MIXED):
            made = step(name, precision=precision)
            if made.is_answered:
                dense, _, values = made.rates
                steps.append(replace(made, seconds=dense ** -PLANTED["dense"] * values ** -PLANTED["bandwidth"]))
    return Pairs.of(steps)


def by_rates(pairs):
    return exponents("two", pairs, np.ones(len(pairs), bool), (DENSE, BANDWIDTH))


def test_planted_exponents_are_found_again_without_each_gpu(pairs):
    assert np.abs(judged(by_rates(pairs), pairs).errors).max() < 1e-6
    assert judged(RATES_BEFORE, pairs).factor(np.ones(len(pairs), bool)).median > 1.02


def test_a_gpu_unlike_the_others_is_missed_by_what_was_fitted_without_it(pairs):
    is_slow = [made.gpu.name == "T4" for made in pairs.steps]
    steps = [
        replace(made, seconds=made.seconds * (3 if slow else 1))
        for made, slow in zip(pairs.steps, is_slow, strict=True)
    ]
    slower = Pairs.of(steps)
    errors = judged(by_rates(slower), slower).errors
    has = slower.has_gpu("T4")
    own = [slower.steps[i].gpu.name == "T4" for i in slower.first]
    of_t4 = np.where(own, errors[0], errors[1])[has]
    assert np.exp(np.abs(of_t4)) == pytest.approx(3, rel=0.01)


def test_pairs_share_all_but_gpu_and_software_and_change_precision_where_asked():
    steps = [
        step("T4"),
        step("V100 SXM2 16GB", setting="other"),
        step("T4", network="two"),
        step("V100 SXM2 16GB", batch=128),
        step("T4", setting="again"),
        step("T4", precision=MIXED, seconds=0.5),
    ]
    pairs = Pairs.of(steps)
    assert [(i, j) for i, j in zip(pairs.first, pairs.second, strict=True)] == [(0, 1), (1, 4)]
    assert not pairs.alike(lambda each: each.setting).any()
    half = Pairs.of(steps, to_half=True)
    assert sorted(zip(half.first, half.second, strict=True)) == [(0, 5), (1, 5), (4, 5)]
    assert np.exp(half.log_ratio) == pytest.approx(0.5)


def test_half_precision_on_a_board_without_a_rate_is_not_judged():
    assert not step("GTX 1080 Ti", precision=PURE_HALF, arithmetic="fp32").is_answered
    assert step("GTX 1080 Ti").is_answered and step("T4", precision=PURE_HALF).is_answered


def test_masks_part_small_images_and_sides_in_tf32():
    pairs = Pairs.of(
        [
            *(step(name) for name in ("T4", "A100 SXM4 40GB", "RTX 3090", "GTX 1080 Ti")),
            *(step(name, network="tiny", size=32) for name in ("T4", "A100 SXM4 40GB")),
            *(step(name, network="bert", kind="transformer") for name in ("T4", "A100 SXM4 40GB")),
            *(step(name, network="ncf", kind="recommendation") for name in ("T4", "A100 SXM4 40GB")),
        ]
    )
    counts = {name: int(mask.sum()) for name, mask in masks_of(pairs).items()}
    assert counts == {
        "convolutional": 6,
        "fp32": 6,
        "fp16": 0,
        "amp": 0,
        "one side in TF32": 4,
        "Pascal": 3,
        "same software": 6,
        "transformer": 1,
        "recurrent": 0,
        "small": 1,
        "other": 1,
    }


def test_a_range_holds_nine_in_ten_of_each_precision_and_others_ranges_are_without_the_gpu(pairs):
    is_half = pairs.both(lambda each: each.precision == MIXED)
    errors = np.tile(np.where(is_half, math.log(2), math.log(1.1)), (2, 1))
    found, everything = JudgedRatio(by_rates(pairs), pairs, errors), np.ones(len(pairs), bool)
    assert found.range_factor(everything) == pytest.approx(2)
    assert found.held(everything, 1.5) == pytest.approx(np.mean(~is_half))
    assert found.held_by_others(everything) == 1
    lone = np.where(pairs.has_gpu("T4"), math.log(3), math.log(1.1))
    missed = JudgedRatio(by_rates(pairs), pairs, np.tile(lone, (2, 1))).held_by_others(everything)
    assert 0 < missed < 1


def test_what_one_form_does_not_know_the_other_answers(pairs):
    nothing = replace(RATES_BEFORE, predict=lambda pairs, _: np.full(len(pairs), np.nan))
    own = by_rates(pairs)
    both = judged(first_known("both", nothing, own), pairs)
    assert both.errors == pytest.approx(judged(own, pairs).errors)


def test_the_form_of_before_takes_published_speeds_of_another_network_of_the_kind(pairs):
    bert = [each for each in speed_steps() if each.network == "bert_base_squad" and each.precision == MIXED]
    large = {
        each.gpu.name: each.seconds
        for each in speed_steps()
        if each.network == "bert_large_squad" and each.precision == MIXED
    }
    two = Pairs.of(bert[:2])
    expected = math.log(large[bert[1].gpu.name] / large[bert[0].gpu.name])
    assert BEFORE.predict(two, None) == pytest.approx([expected])
    resnet = Pairs.of([each for each in speed_steps() if each.network == "resnet50" and each.precision == MIXED][:2])
    assert BEFORE.predict(resnet, None) == pytest.approx(RATES_BEFORE.predict(resnet, None))  # it is the only one


def test_the_law_that_is_judged_is_the_one_that_answers(home):
    """The form's seconds are those of the library's law, whose arithmetic and memory answers scale."""
    rows = [
        Measured("one", "made", find_gpu(name), "squeezenet1_1", 64, batch, PLAIN, True, "pytorch", 3, 1e-2 * batch)
        for name in GPU_NAMES
        for batch in (256, 1024, 2048, 4096, 8192, 16384)
    ]
    records = records_of([("squeezenet1_1", 64)])
    rows_of_all = features_of(rows, records)
    x = fitted(SHIPPED, rows_of_all)
    seconds = SHIPPED.seconds(x, rows_of_all)
    pairs = Pairs.of(steps_of(rows))
    predicted = law_of_networks(rows_of_all).predict(pairs, None)
    assert predicted == pytest.approx(np.log(seconds[pairs.second] / seconds[pairs.first]))
    numbers = numbers_of(x)
    network = TrainedNetwork("any", records["squeezenet1_1", 64], 256, 256, optimizer_passes=3, is_cnn=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LawNumbers, "shipped", classmethod(lambda cls: numbers))
        found = law_step(network, GpuArithmetic.of(find_gpu("T4"), "float32", "on"))
    i = next(i for i, row in enumerate(rows) if (row.gpu.name, row.batch) == ("T4", 256))
    assert found.total_sec == pytest.approx(seconds[i])


def test_numbers_are_written_where_the_others_stay(pairs, tmp_path):
    path = tmp_path / "assumptions.csv"
    shutil.copy(shipped_numbers.ASSUMPTIONS, path)
    before = path.read_text(encoding="utf-8").splitlines()
    masks = {"convolutional": np.ones(len(pairs), bool)}
    for _ in range(2):  # the second time nothing doubles
        write_ratio(PLANTED, {"convolutional": 1.5, "small": 1.7}, judged(by_rates(pairs), pairs), masks, path)
    with path.open(encoding="utf-8", newline="") as file:
        cells = {row["name"]: row for row in csv.DictReader(file)}
    assert float(cells["ratio_exponent_dense"]["value"]) == 0.4
    assert float(cells["ratio_range_small"]["value"]) == 1.7
    assert "convolutional 1.000 / 1.000" in cells["ratio_exponent_dense"]["source"]
    assert len(before) == len(path.read_text(encoding="utf-8").splitlines())


# --- the public tables ------------------------------------------------------------------------------------------------


def test_runs_count_at_the_largest_limit_of_their_board(reference_data):
    known, others = power_steps()
    assert {row.name for row in known} == {"resnet50", "shufflenet_v2_cifar"}
    (small,) = (row for row in known if row.gpu.name == "A40" and row.name == "shufflenet_v2_cifar" and row.batch == 8)
    assert small.step_sec == pytest.approx(0.037128)
    assert {each.kind for each in others} == {"transformer", "recurrent", "recommendation"}


def test_every_kind_that_has_a_range_has_pairs(reference_data):
    rows, steps, refused = read_steps()
    pairs = Pairs.of(steps)
    masks = masks_of(pairs)
    assert all(mask.any() for mask in masks.values())
    assert refused > 0 and {row.dataset for row in rows} > {POWER_RUNS, "torch_cnn_bs12"}
    assert np.isfinite(rates_of(pairs)).all()
    shipped = judged(by_rates(pairs), pairs)
    ranges = ranges_of(shipped, shipped, masks)
    claims = claims_of(shipped, masks, ranges)
    assert [claim.what for claim in claims][::2] == list(masks)
    held = {claim.what: claim.reached for claim in claims}
    assert held[f"  range x/÷{ranges['recurrent']:.3g} holds"] is True
