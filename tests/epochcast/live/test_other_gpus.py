"""A training that was estimated here, on other GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epochcast.facts.assumptions import assumption
from epochcast.footprint.rules import FootprintRules
from epochcast.gpus.board_power import board_power
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.network_time import NETWORK_LAW, network_time
from epochcast.gpus.rates import limit_of, network_busy_share, roof_of
from epochcast.gpus.ratio import LAYERS as BY_LAYERS
from epochcast.gpus.ratio import RATES, GpuArithmetic, device_ratio
from epochcast.interval import Interval
from epochcast.live.other_gpus import BARE_ROOF, gpu_lines, source_of, times_on
from epochcast.roofline.network import attainable_sec
from epochcast.roofline.roofline import LayerRecord

A100, H100, T4 = "A100 SXM4 40GB", "H100 SXM5", "T4"
CPU = "AMD EPYC (2 cores)"
CONV = {
    "name": "conv",
    "kind": "conv",
    "output_shape": [32, 32, 64],
    "params": 36928,
    "macs": 32 * 32 * 64 * 576,
    "inputs": 32 * 32 * 64,
    "outputs": 32 * 32 * 64,
    "forward_flop": 2 * 32 * 32 * 64 * 576,
    "weight_reads": 36928,
}
LAYERS = {"records": [CONV], "partial": [], "passes": 7, "tf32": "on", "why": None}
NO_LAYERS = {"records": [], "partial": [], "passes": None, "tf32": "on", "why": "no rule knows odd"}
CAUGHT = {"model": "Functional", "precision": "float32", "batch_size": 128}


def source(device_name, layers=LAYERS, epoch_sec=2.0, save_sec=None, **caught):
    found = {
        "total": {"value": 50 * epoch_sec + 7.0 + 10 * (save_sec or 0.0), "low": None, "high": None},
        "epoch": {"interval": {"value": epoch_sec, "low": 0.9 * epoch_sec, "high": 1.1 * epoch_sec}},
        "once_sec": 7.0,
        "n_saves": 10 if save_sec else 0,
        "save_sec": save_sec,
        "batches": 391,
        "device_name": device_name,
    }
    return source_of({**CAUGHT, **caught}, found, layers)


def on(name, of):
    [found], without = times_on([find_gpu(name)], of, FootprintRules())
    assert without == {}
    return found


@pytest.mark.parametrize("layers", [LAYERS, NO_LAYERS], ids=["layers", "no layers"])
def test_on_the_own_gpu_nothing_is_scaled(layers):
    of = source("NVIDIA A100-SXM4-40GB", layers, save_sec=0.5)
    found = on(A100, of)
    assert (found.epoch, found.basis) == (Interval(2.0, 1.8, 2.2), "this GPU")
    assert found.total.value == pytest.approx(of.total.value)


def test_another_gpu_changes_what_arithmetic_and_memory_take_by_the_law_and_no_more():
    of = source("NVIDIA A100-SXM4-40GB")
    ratio = device_ratio(*(GpuArithmetic.of(find_gpu(name), "float32", "on") for name in (A100, T4)), of.network)
    found = on(T4, of)
    step = 2.0 / 391
    share = ratio.step.device_sec / max(ratio.step.total_sec, step)
    assert (found.basis, found.share) == (BY_LAYERS, pytest.approx((share, share)))
    assert found.epoch.value == pytest.approx(2.0 * (1 - share + share * ratio.value.value))
    assert found.epoch.high == pytest.approx(1.1 * ratio.error_factor * found.epoch.value)
    assert found.epoch.low == pytest.approx(0.9 * found.epoch.value / ratio.error_factor)
    faster = on(H100, of).epoch
    assert faster.low < faster.value < 2.0
    assert faster.low >= attainable_sec(of.network, limit_of(find_gpu(H100), "tf32"))


def test_of_a_longer_step_than_by_the_law_the_rest_stays():
    short, long = (source("NVIDIA A100-SXM4-40GB", epoch_sec=sec) for sec in (5.0, 50.0))
    more = [on(T4, of).epoch.value - of.epoch.value for of in (short, long)]
    assert more[0] == pytest.approx(more[1]) and more[0] > 0
    assert on(T4, long).share[0] == pytest.approx(on(T4, short).share[0] / 10)


def test_kinds_of_layers_that_the_law_was_not_judged_on_have_a_share_between_the_roofline_and_all():
    of = source("NVIDIA A100-SXM4-40GB", {**LAYERS, "records": [{**CONV, "kind": "recurrent"}]})
    found = on(T4, of)
    least, most = found.share
    assert found.basis == RATES
    assert least == pytest.approx(attainable_sec(of.network, limit_of(find_gpu(A100), "tf32")) / 2.0)
    assert (0 < least < 0.2, most) == (True, 1.0)
    assert found.epoch.low < found.epoch.value < found.epoch.high


def test_what_is_no_epoch_stays_as_it_was_timed():
    of = source("NVIDIA A100-SXM4-40GB", save_sec=0.5)
    found = on(T4, of)
    assert found.total.value == pytest.approx(50 * found.epoch.value + 7.0 + 5.0)


def test_without_layers_the_share_may_be_anything_and_the_range_is_that_of_any_network():
    found = on(H100, source("NVIDIA A100-SXM4-40GB", NO_LAYERS))
    assert found.share == (0.0, 1.0)
    ratio = device_ratio(*(GpuArithmetic.of(find_gpu(name), "float32", "on") for name in (A100, H100))).value
    assert (found.epoch.low, found.epoch.high) == pytest.approx((1.8 * ratio.low, 2.2 * max(1.0, ratio.high)))


def test_from_a_processor_the_law_of_networks_answers_whatever_the_time_here():
    slow, fast = (source(CPU, epoch_sec=sec, batch_size=8192) for sec in (200.0, 2.0))
    found = on(T4, slow)
    by_law = network_time(slow.network, find_gpu(T4), "fp32")
    assert (found.basis, found.share, found.epoch) == (NETWORK_LAW, None, by_law.seconds)
    assert found.epoch == on(T4, fast).epoch
    assert found.epoch.high / found.epoch.value == pytest.approx(assumption("network_range_convolutional", "gpu").value)
    lines = "\n".join(gpu_lines([found], slow, has_regions=False))
    assert "an epoch there is by the model's layers, without input and host" in lines
    assert f"{NETWORK_LAW}: a law of networks fitted to published steps" in lines


def test_of_steps_too_short_for_the_law_the_roofline_of_the_gpu_is_taken():
    slow, fast = (source(CPU, epoch_sec=sec, batch_size=8) for sec in (200.0, 2.0))
    found = on(T4, slow)
    assert (found.basis, found.share) == (BARE_ROOF, None)
    assert found.epoch == on(T4, fast).epoch
    low, high = (assumption(f"roofline_factor{end}", "gpu").value for end in ("_low", "_high"))
    assert found.epoch.high / found.epoch.low == pytest.approx(high / low)
    assert found.epoch.low >= low * attainable_sec(slow.network, roof_of(find_gpu(T4), "fp32"))


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (
            source(CPU, NO_LAYERS),
            "a processor's time can't be scaled to a GPU, and one by itself needs the model's layers",
        ),
        (source(CPU, batch_size=None), "the batch size is not known of these data"),
        (source("NVIDIA Imaginary 9000"), "NVIDIA Imaginary 9000 is a GPU that the facts do not have"),
        (source(CPU, precision="float64"), "float64"),
        (source("NVIDIA A100-SXM4-40GB", precision=None), "no precision"),
        (source("NVIDIA A100-SXM4-40GB", precision="mixed_bfloat16"), "T4 has no known bf16 rate"),
    ],
    ids=["no layers", "no batch size", "unknown GPU here", "float64", "several precisions", "no such arithmetic"],
)
def test_why_there_is_no_time_is_said_of_each_gpu(of, words):
    found, without = times_on([find_gpu(T4)], of, FootprintRules())
    assert found == []
    assert list(without) == [T4]
    assert words in without[T4]
    assert gpu_lines(found, of, has_regions=False) == []


def test_a_gpu_without_a_time_leaves_the_others_theirs():
    of = source("NVIDIA A100-SXM4-40GB", precision="mixed_bfloat16")
    found, without = times_on([find_gpu(T4), find_gpu(H100)], of, FootprintRules())
    assert ([each.gpu.name for each in found], list(without)) == ([H100], [T4])


def test_the_fastest_stands_first_with_its_cost_where_a_price_is_known():
    of = source(CPU)
    gpus = [find_gpu(name) for name in (T4, H100, "RTX 4090")]
    found, _ = times_on(gpus, of, FootprintRules(usd_per_gpu_hour=None))
    assert [each.total.value for each in found] == sorted(each.total.value for each in found)
    lines = gpu_lines(found, of, has_regions=False)[0].splitlines()
    rows = {line.split("  ")[0]: line for line in lines[1:]}
    assert lines[0].split()[:2] == ["GPU", "s/epoch"]
    assert " - " in rows["RTX 4090"] and " - " not in rows[T4]
    t4 = next(each for each in found if each.gpu.name == T4)
    price = t4.footprints[0].rates.usd_per_gpu_hour.value.value
    assert t4.footprints[0].cloud_usd.value == pytest.approx(t4.total.value / 3600 * price)


@pytest.mark.parametrize("device_name", [CPU, "NVIDIA A100-SXM4-40GB"])
def test_the_energy_is_by_how_busy_the_law_of_networks_says_the_gpu_is(device_name):
    of, gpu = source(device_name), find_gpu(T4)
    found = on(T4, of)
    busy_share = network_busy_share(of.network, gpu, "fp32")
    assert 0 < busy_share < network_busy_share(replace(of.network, batch_size=1024), gpu, "fp32") < 1
    energy = found.footprints[0].energy
    assert energy.joules.value == pytest.approx(board_power(gpu.tdp_w, busy_share).value * found.total.value)
    assert "by how busy the GPU is" in energy.method


def test_without_layers_nothing_says_how_busy_another_gpu_is():
    found = on(T4, source("NVIDIA A100-SXM4-40GB", NO_LAYERS))
    energy, tdp_w = found.footprints[0].energy, find_gpu(T4).tdp_w
    assert energy.joules.value == pytest.approx(board_power(tdp_w).value * found.total.value)


def test_json_has_every_number():
    found = on(T4, source("NVIDIA A100-SXM4-40GB")).to_json()
    assert found["gpu"] == T4
    assert found["epoch_sec_low"] < found["epoch_sec"] < found["epoch_sec_high"]
    assert found["footprints"][0]["region"] == "WORLD"


def test_records_come_back_as_they_were():
    network = source(CPU).network
    assert network.records == (LayerRecord(**{**CONV, "output_shape": (32, 32, 64)}),)
    assert (network.images, network.optimizer_passes) == (391 * 128, 7)
