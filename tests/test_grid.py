"""What a run of a configuration is asked for with, under the conditions that other runs were measured under."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from rows import BOX

from collect.grid import spec_under
from epochcast.schema import SPEC_CHOICES, Conditions, RunConfig, RunSpec

CPU = "AMD EPYC 9B14 (2 cores)"
CONFIG = RunConfig(2, 16, 64)
WINDOWED = dataclasses.replace(BOX, timing_mode="steps_extrapolated", window_steps=20, train_n=10_000)


def test_known_conditions_are_asked_for_and_unknown_ones_left_to_the_box():
    assert spec_under(CONFIG, 7, Conditions()) == RunSpec(2, 16, 64, epochs=7)
    known = Conditions(precision="mixed_float16", pipeline="arrays", jit_compile="off", train_n=1000)
    assert spec_under(CONFIG, 7, known) == RunSpec(
        2, 16, 64, epochs=7, precision="mixed_float16", pipeline="arrays", jit_compile="off", train_n=1000
    )


@pytest.mark.parametrize(
    "known",
    [
        dict(zip(("pipeline", "precision", "jit_compile"), values, strict=True))
        for values in itertools.product(("tfdata", "arrays"), SPEC_CHOICES["precision"], ("on", "off"))
    ],
    ids=lambda known: "-".join(known.values()),
)
def test_every_condition_that_a_row_can_have_can_be_asked_for(known):
    spec = spec_under(CONFIG, 2, Conditions(**known))
    assert {name: getattr(spec, name) for name in known} == known
    assert spec.config == CONFIG


def test_only_who_wants_windows_gets_them():
    assert spec_under(CONFIG, 4, WINDOWED, in_windows=True).window_steps == 20
    assert spec_under(CONFIG, 4, WINDOWED, in_windows=False).window_steps is None
    assert spec_under(CONFIG, 4, WINDOWED) == spec_under(CONFIG, 4, WINDOWED, in_windows=False)
    assert spec_under(CONFIG, 4, BOX, in_windows=True).window_steps is None  # measured in whole epochs
    assert spec_under(CONFIG, 4, WINDOWED, in_windows=True).train_n == 10_000


@pytest.mark.parametrize(("device_name", "device"), [(CPU, "cpu"), ("NVIDIA H200", "auto"), (None, "auto")])
def test_what_was_measured_on_a_cpu_is_asked_for_on_a_cpu_also_where_there_is_a_gpu(device_name, device):
    assert spec_under(CONFIG, 2, Conditions(device_name=device_name)).device == device


@pytest.mark.parametrize(("dataset", "wanted"), [("synthetic", "synthetic"), ("cifar10", "auto"), (None, "auto")])
def test_made_up_images_are_asked_for_where_they_were_used(dataset, wanted):
    assert spec_under(CONFIG, 2, Conditions(dataset=dataset)).dataset == wanted


def test_a_run_of_one_epoch_is_refused():
    with pytest.raises(ValueError, match="epochs must be at least 2"):
        spec_under(CONFIG, 1, BOX)
