"""Peak memory of a step: counts that can be done by hand, and what must hold of any network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epochcast.facts.assumptions import assumption
from epochcast.roofline.network_memory import (
    FLOAT32,
    LAW_NUMBERS,
    MIB,
    MIXED,
    MOST_SAMPLES,
    PURE_HALF,
    Formats,
    MemoryLaw,
    count_memory,
    formats_of,
    largest_batch,
)
from epochcast.roofline.roofline import LayerRecord
from epochcast.schema import RunConfig
from epochcast.workload.shape import layer_records


def layer(kind, inputs, outputs, params=0, **others):
    return LayerRecord(kind, kind, (outputs,), params, 0, inputs, outputs, 0, params, **others)


# x (100) -> conv (400) -> norm (400) -> relu (400) -> dense (10)
CHAIN = (
    layer("conv", 100, 400, 50, has_input_gradient=False, keeps_output=False),
    layer("norm", 400, 400, 20, keeps_output=False),
    layer("activation", 400, 400, keeps_input=False, is_linear=False),
    layer("dense", 400, 10, 4000, keeps_output=False),
)
PARAMS = 4070
LAW = MemoryLaw(base_bytes=1000.0, slack=1.0, work=1.0, spread=1.25)


def test_what_the_backward_pass_reads_is_kept_once():
    """The input, the convolution's output for the norm, the activation's for itself and the dense layer."""
    counted = count_memory(CHAIN, slots=2)
    assert counted.kept == 4 * (100 + 400 + 400)
    assert (counted.weights, counted.slots, counted.casts, counted.gradients) == (4 * PARAMS, 8 * PARAMS, 0, 4 * PARAMS)


def test_the_peak_is_the_most_that_is_held_along_the_backward_pass():
    counted = count_memory(CHAIN, slots=0)
    # at the activation all is kept, the dense layer's gradient is there, and 400 numbers are read and written
    assert counted.peak(1) == 4 * (PARAMS + 4000 + 900 + 800)
    assert counted.peak(1000) == 4 * (PARAMS + 4000 + 1000 * (900 + 800))
    assert counted.peak(1000, slack=1.5, work=2.0) == 4 * (PARAMS + 4000 + 1000 * (1.5 * 900 + 2 * 800))


def test_all_gradients_are_held_at_the_end_of_a_step_with_few_samples():
    huge_head = (replace(CHAIN[0], params=10**6), *CHAIN[1:])
    assert count_memory(huge_head, 0).peak(1) >= 8 * 10**6


def test_mixed_precision_halves_activations_and_adds_copies_of_weights():
    plain, mixed, half = (count_memory(CHAIN, 1, formats) for formats in (FLOAT32, MIXED, PURE_HALF))
    assert mixed.kept == 2 * 800 + 6 * 100  # the samples in both formats
    assert mixed.casts == 2 * PARAMS
    assert half.state == plain.state / 2
    assert (formats_of(4), formats_of(2), formats_of(1)) == (FLOAT32, MIXED, Formats(1, 4))


def test_mixed_precision_keeps_a_float32_copy_of_what_layer_normalisation_reads():
    layers = (CHAIN[0], replace(CHAIN[1], is_linear=False), *CHAIN[2:])
    assert count_memory(layers, 0, MIXED).kept - count_memory(CHAIN, 0, MIXED).kept == 4 * 400
    assert count_memory(layers, 0).kept == count_memory(CHAIN, 0).kept


def test_parallel_branches_of_the_same_size_keep_both_inputs_of_their_norms():
    branches = (
        layer("conv", 100, 400, 50, keeps_output=False),
        layer("conv", 100, 400, 50, keeps_output=False),
        layer("norm", 400, 400, keeps_output=False),
        layer("norm", 400, 400, keeps_output=False),
        layer("merge", 800, 400, keeps_input=False, keeps_output=False),
        layer("activation", 400, 400, keeps_input=False),
    )
    kept = count_memory(branches, 0).kept
    assert kept == 4 * (2 * 100 + 3 * 400)  # each branch reads samples of its own


def test_attention_that_computes_its_scores_again_keeps_none():
    scores = (
        layer("dense", 64, 64, keeps_output=False),
        layer("dense", 64, 64, keeps_output=False),
        replace(layer("attention", 128, 1000, keeps_output=False), name="mha/scores"),
        replace(layer("activation", 1000, 1000, keeps_input=False), name="mha/softmax"),
    )
    kept, fused = (count_memory(scores, 0, fuses_attention=fuses).kept for fuses in (False, True))
    assert kept - fused == 4 * 1000


def test_a_layer_that_is_called_again_has_its_weights_once():
    again = (*CHAIN, replace(CHAIN[3], inputs=10, outputs=10, is_repeat=True))
    assert count_memory(again, 2).weights == 4 * PARAMS


@pytest.mark.parametrize("config", [RunConfig(2, 16, 128), RunConfig(5, 64, 64)], ids=str)
def test_more_samples_never_take_less_and_the_largest_batch_is_the_largest(config):
    counted, law = count_memory(layer_records(config), 2), MemoryLaw.shipped()
    peaks = [law.peak(counted, batch).value for batch in (1, 2, 64, 65, 4096)]
    assert peaks == sorted(peaks)
    board = 24e9
    surely = largest_batch(lambda size: law.peak(counted, size).high <= board)
    probably = largest_batch(lambda size: law.peak(counted, size).value <= board)
    assert law.peak(counted, probably).value <= board < law.peak(counted, probably + 1).value
    assert law.peak(counted, surely).high <= board < law.peak(counted, surely + 1).high
    assert 1 < surely < probably


def test_nothing_fits_a_board_that_is_smaller_than_the_base():
    assert largest_batch(lambda size: LAW.peak(count_memory(CHAIN, 0), size).value <= 999.0) == 0


def test_a_batch_is_looked_for_up_to_a_bound():
    assert largest_batch(lambda size: LAW.peak(count_memory(CHAIN, 0), size).high <= 1e15) == MOST_SAMPLES


def test_the_shipped_numbers_are_sourced_assumptions():
    law = MemoryLaw.shipped()
    rows = {name: assumption(f"network_memory_{name}", "gpu") for name in LAW_NUMBERS}
    numbers = {"base": law.base_bytes / MIB, "slack": law.slack, "work": law.work, "spread": law.spread}
    assert {name: row.value for name, row in rows.items()} == numbers
    assert rows["base"].source.startswith("own fit (python benchmarks/external/memory_judge.py)")
    assert all(rows[name].source.startswith("same fit: ") for name in ("slack", "work", "spread"))
    assert {row.unit for name, row in rows.items() if name != "base"} == {"1"}
    assert rows["base"].unit == "MiB"
    found = law.peak(count_memory(CHAIN, 0), 1)
    assert found.value / found.low == pytest.approx(found.high / found.value) == pytest.approx(law.spread)


def test_no_layers_are_refused():
    with pytest.raises(ValueError, match="needs layers, got none"):
        count_memory((), 0)
