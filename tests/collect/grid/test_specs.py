"""What a run of a configuration is asked for with, under the conditions that other runs were measured under."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest

from epochcast.collect.grid.grid_loop import GridOptions, run_grid
from epochcast.collect.grid.specs import grid_runs, names_of_run, spec_under
from epochcast.collect.records.names import spec_id, spec_ids
from epochcast.collect.run.place import RunPlace
from epochcast.machine.gpu_driver import box_device_name
from epochcast.schema import SPEC_CHOICES, Conditions, RunConfig, RunSpec
from epochcast.storage.table_appends import append_row
from tests.support.rows import BOX, run_row

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


# --- the names of runs ------------------------------------------------------------------------------------------------


@pytest.fixture
def takes(tmp_path, monkeypatch):
    """Have Keras take a backend, by its settings file or by $KERAS_BACKEND."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def take(in_file, in_environment=None):
        (tmp_path / "keras.json").write_text(json.dumps({"backend": in_file}))
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
        if in_environment is not None:
            monkeypatch.setenv("KERAS_BACKEND", in_environment)

    return take


def test_ids_of_runs_are_what_they_were():
    assert spec_ids(RunSpec(), [("A100", ""), ("A100", "tensorflow")]) == [
        "d3_f32_b128-730d6cd8",  # where $KERAS_BACKEND was not set
        "d3_f32_b128-ad184526",
    ]
    assert spec_ids(RunSpec(seed=1, steps_per_execution=8), [("NVIDIA H200", "jax")]) == ["d3_f32_b128-78ffaae0"]


def test_the_id_of_a_run_is_of_the_backend_that_keras_takes(takes):
    ids = {}
    for backend in ("tensorflow", "torch", "jax"):
        takes(backend)
        ids[backend] = spec_id(RunSpec(), "A100")
        takes("tensorflow", backend)
        assert spec_id(RunSpec(), "A100") == ids[backend]
    assert len(set(ids.values())) == 3


@pytest.mark.parametrize(
    ("id_backend", "row_backend", "is_done"),
    [
        ("tensorflow", "tensorflow", True),
        ("", "tensorflow", True),  # measured where $KERAS_BACKEND was not set
        ("", None, True),
        ("", "torch", False),  # by keras.json
        ("torch", "torch", False),
    ],
)
def test_a_run_that_was_done_is_done_by_its_backend_alone(takes, tmp_path, id_backend, row_backend, is_done):
    takes("tensorflow")
    planned = grid_runs([RunSpec()], 2, {})
    (base,) = spec_ids(RunSpec(), [(box_device_name(), id_backend)])
    row = run_row(run_id=f"{base}-r2", conditions=dataclasses.replace(BOX, backend=row_backend))
    append_row(tmp_path / "runs.csv", row)
    result = run_grid(
        planned, RunPlace(tmp_path / "runs.csv", tmp_path), GridOptions(repeats_flagged=True, is_dry=True)
    )
    assert result.n_done_before == is_done


def test_a_run_that_an_old_plan_names_is_known_by_its_new_name(takes):
    takes("torch")
    (new,) = grid_runs([RunSpec()], 1, {})
    (base,) = spec_ids(RunSpec(), [(box_device_name(), "")])
    old = dataclasses.replace(new, run_id=f"{base}-r1")
    assert names_of_run(old) == names_of_run(new) and {new.run_id, old.run_id} <= names_of_run(new)
    assert names_of_run(dataclasses.replace(new, run_id="by-hand")) == {"by-hand"}
