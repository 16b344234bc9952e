"""The closed form of peak memory, its band, and what measured peaks make of it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import product

import pytest
from rows import BOX, agg_row, run_row

from epochcast.assumptions import assumption
from epochcast.cli import memory_size
from epochcast.schema import Conditions, RunConfig
from workload.memory import DOUBTFUL, FITS, LEAST_ROWS, TOO_LARGE, MemoryModel, PeakMemory, closed_form, named
from workload.shape import activation_bytes, count_params

CPU = Conditions(device_name="AMD EPYC (2 cores)", backend="jax", precision="float32", jit_compile="on")
CONFIG = RunConfig(2, 16, 128)


def test_one_configuration_agrees_with_arithmetic_by_hand():
    # (2,16): 280,218 parameters; 55,434 activations an image, of which the first convolution 32 x 32 x 16 = 16,384
    state, images = 4 * 4 * 280_218, 2 * 4 * 128 * 3_072
    activations = 128 * 4 * (2.2222 * 55_434 + 5.5 * 16_384)
    peak = closed_form(CONFIG, CPU)
    assert peak.value == pytest.approx(state + images + activations, rel=1e-12)
    assert peak.low == pytest.approx(3 * 4 * 280_218 + images / 2 + 0.95 * activations, rel=1e-12)
    assert peak.high == pytest.approx(5 * 4 * 280_218 + images + 1.05 * activations, rel=1e-12)
    assert (peak.n_rows, peak.basis) == (0, "not calibrated")


GRID = [RunConfig(*values) for values in product((1, 2, 4, 6), (1, 8, 64), (1, 32, 1024))]
EVERY = [
    replace(BOX, precision=precision, pipeline=pipeline, device_name=device, jit_compile=jit)
    for precision, pipeline, device, jit in product(
        ("float32", "mixed_float16", None),
        ("arrays", "device", None),
        (BOX.device_name, CPU.device_name),
        ("on", "off", None),
    )
]


@pytest.mark.parametrize("conditions", EVERY, ids=lambda c: f"{c.precision}-{c.pipeline}-{c.device_name}")
def test_the_estimate_is_positive_in_its_band_and_grows_with_filters_and_batch(conditions):
    for config in GRID:
        peak = closed_form(config, conditions)
        assert 0 < peak.low < peak.value < peak.high
        for name in ("base_filters", "batch_size"):
            larger = closed_form(replace(config, **{name: getattr(config, name) + 1}), conditions)
            assert larger.value > peak.value
            assert larger.low > peak.low
            assert larger.high > peak.high


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_a_deeper_network_takes_more_for_its_activations(depth):
    shallow, deep = (closed_form(RunConfig(own, 16, 1024), CPU) for own in (depth, depth + 1))
    params = [16 * count_params(own, 16) for own in (depth, depth + 1)]  # fewer, as long as the first dense layer rules
    assert deep.value - params[1] > shallow.value - params[0]
    assert deep.value > shallow.value  # at a batch of this size


def test_batches_add_up():
    one, two, three = (closed_form(replace(CONFIG, batch_size=n), CPU) for n in (100, 200, 300))
    for end in ("value", "low", "high"):
        assert getattr(three, end) - getattr(two, end) == pytest.approx(getattr(two, end) - getattr(one, end))


def test_half_precision_halves_activations_on_a_gpu_alone():
    half = replace(BOX, precision="mixed_bfloat16")
    difference = closed_form(CONFIG, BOX).value - closed_form(CONFIG, half).value
    factors = 2.2222 * activation_bytes(2, 16) + 5.5 * 4 * 16_384
    assert difference == pytest.approx(128 * factors / 2)
    assert closed_form(CONFIG, CPU).value == closed_form(CONFIG, replace(CPU, precision="mixed_float16")).value


def test_pipeline_device_adds_the_whole_set_and_no_other_does():
    plain = closed_form(CONFIG, BOX)
    held = closed_form(CONFIG, replace(BOX, pipeline="device", train_n=1000))
    assert held.value - plain.value == 1000 * (3_072 + 4)
    assert held.low - plain.low == 1000 * (3_072 + 4)
    for pipeline in ("arrays", "tfdata", "indices"):
        assert closed_form(CONFIG, replace(BOX, pipeline=pipeline)) == plain


def test_the_band_is_narrow_only_where_the_compiler_told():
    narrow = closed_form(CONFIG, CPU)
    for other in (
        replace(CPU, backend="tensorflow"),
        replace(CPU, device_name=None),
        BOX,
    ):
        wide = closed_form(CONFIG, other)
        assert wide.low < narrow.low / 3
        assert wide.high > 1.2 * narrow.high


@pytest.mark.parametrize("jit_compile", ["on", "off", None])
@pytest.mark.parametrize("depth", range(1, 9))
def test_the_low_end_where_nothing_was_read_is_less_than_holding_every_activation_once(depth, jit_compile):
    config = RunConfig(depth, 16, 512)
    assert closed_form(config, replace(BOX, jit_compile=jit_compile)).low < 3 * 4 * count_params(depth, 16) + 512 * (
        activation_bytes(depth, 16) + 4 * 3_072
    )


@pytest.mark.parametrize("device", [BOX.device_name, CPU.device_name])
def test_without_xla_a_network_is_held_as_the_textbook_says(device):
    conditions = replace(BOX, device_name=device, jit_compile="off")
    peak = closed_form(CONFIG, conditions)
    activations = 128 * 4 * (55_434 + 2 * 16_384)  # each once, and two gradients as large as the largest
    assert peak.value == pytest.approx(4 * 4 * 280_218 + 2 * 4 * 128 * 3_072 + activations, rel=1e-12)
    half = closed_form(CONFIG, replace(conditions, precision="mixed_float16"))
    assert half.low < 3 * 4 * 280_218 + 4 * 128 * 3_072 + 128 * 2 * 55_434  # each once in 2 bytes, which may be so


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_every_factor_has_a_source(kind):
    for name in ("memory_kept", "memory_working", "memory_low_without_xla", "memory_high_unread"):
        assert assumption(name, kind).source
        assert assumption(name, kind).date


# --- calibration ------------------------------------------------------------------------------------------------------

CONFIGS = [RunConfig(2, 16, b) for b in (64, 128, 256, 512, 1024)]


def measured(shares, configs=CONFIGS, conditions=BOX, make=run_row):
    """Rows whose peaks are these shares of the closed form."""
    rows = []
    for config, share in zip(configs, shares, strict=False):
        peak = round(share * closed_form(config, conditions).value)
        values = (config.depth, config.base_filters, config.batch_size)
        rows.append(run_row(config=values, conditions=conditions, peak_memory_bytes=peak))
    return rows


def test_measured_peaks_move_the_estimate_and_narrow_the_band():
    model = MemoryModel.of(BOX, measured([0.50, 0.52, 0.48, 0.51, 0.49]))
    plain, scaled = closed_form(CONFIG, BOX), model.peak(CONFIG)
    assert scaled.value == pytest.approx(0.50 * plain.value, rel=1e-6)
    assert scaled.high / scaled.low < 1.2 < plain.high / plain.low
    assert scaled.low < 0.48 * plain.value
    assert scaled.high > 0.52 * plain.value
    assert (scaled.n_rows, scaled.basis) == (5, "calibrated by 5 rows")


def test_rows_of_averages_calibrate_as_runs_do():
    rows = measured([0.5] * 5)
    known = {name: getattr(BOX, name) for name in ("device_name", "backend", "backend_version", "precision")}
    known |= {name: getattr(BOX, name) for name in ("jit_compile", "dataset", "train_n", "timing_mode")}
    averages = [
        agg_row(row.depth, row.base_filters, row.batch_size, peak_memory_bytes=row.peak_memory_bytes, **known)
        for row in rows
    ]
    assert MemoryModel.of(BOX, averages) == MemoryModel.of(BOX, rows)


def test_equal_ratios_do_not_make_an_estimate_certain():
    peak = MemoryModel.of(BOX, measured([0.5] * 5)).peak(CONFIG)
    assert peak.low < 0.99 * peak.value < 1.01 * peak.value < peak.high


def test_too_few_rows_other_conditions_and_unmeasured_peaks_calibrate_nothing():
    plain = MemoryModel(BOX)
    assert MemoryModel.of(BOX, measured([0.5] * (LEAST_ROWS - 1))) == plain
    assert MemoryModel.of(BOX, measured([0.5] * 5, conditions=replace(BOX, precision="mixed_float16"))) == plain
    assert MemoryModel.of(BOX, [replace(row, peak_memory_bytes=None) for row in measured([0.5] * 5)]) == plain
    assert MemoryModel.of(BOX, measured([0.5] * 5, configs=[CONFIG] * 5)) == plain  # one configuration, five times
    assert MemoryModel.of(BOX, measured([0.5] * LEAST_ROWS)).n_rows == LEAST_ROWS


def test_of_repeats_the_largest_peak_counts():
    low, high = measured([0.4] * 5), measured([0.5] * 5)
    assert MemoryModel.of(BOX, [*high, *low]) == MemoryModel.of(BOX, high)


def test_beyond_the_largest_measured_the_band_is_never_narrower_than_unscaled():
    model = MemoryModel.of(BOX, measured([3.0] * 5))  # a framework's own memory, many times what it trains
    larger = RunConfig(4, 128, 4096)
    plain, scaled = closed_form(larger, BOX), model.peak(larger)
    assert scaled.low == plain.low
    assert scaled.high > plain.high
    assert model.peak(CONFIGS[-1]).low > closed_form(CONFIGS[-1], BOX).high


# --- fitting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device_bytes", "fit"),
    [(99, TOO_LARGE), (100, DOUBTFUL), (199, DOUBTFUL), (200, FITS), (201, FITS)],
)
def test_only_what_is_too_large_at_its_low_end_will_not_fit(device_bytes, fit):
    assert PeakMemory(150, 100, 200).fit(device_bytes) == fit


def test_configurations_are_named_up_to_a_few():
    assert named(CONFIGS[:2]) == "(2,16,64), (2,16,128)"
    assert named(CONFIGS) == "(2,16,64), (2,16,128), (2,16,256) and 2 more"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("80GB", 80 * 10**9),
        ("80 gb", 80 * 10**9),
        ("74.5GiB", int(74.5 * 2**30)),
        ("512MiB", 2**29),
        ("1TB", 10**12),
        ("3kB", 3000),
        ("123", 123),
        ("7B", 7),
    ],
)
def test_a_size_of_memory_has_a_decimal_or_a_binary_unit(text, size):
    assert memory_size(text) == size


@pytest.mark.parametrize("text", ["", "80G", "GB", "-1GB", "0GB", "1e3GB", "80 GB free", "9" * 400 + "GB"])
def test_no_size_of_memory_is_taken_for_one(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected"):
        memory_size(text)
