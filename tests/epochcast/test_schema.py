"""What a configuration, a run and a row are: bounds, conditions, and the order of columns that others rely on."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from epochcast.schema import (
    DEFAULT_CONFIG,
    SCHEMA_VERSION,
    TRAIN_N,
    AggRow,
    Conditions,
    Exclusion,
    FailureRecord,
    NewerSchemaError,
    RunConfig,
    RunRecord,
    RunSpec,
    from_json_dict,
    to_json_dict,
)
from epochcast.storage.cells import columns

NAN, INF = math.nan, math.inf

PUBLISHED = {
    "timestamp_utc": "2025-12-18T07:44:40",
    "tf_version": "2.20.0",
    "depth": 2,
    "base_filters": 16,
    "batch_size": 128,
    "epochs": 3,
    "params": 280218,
    "epoch_times_json": (11.06, 1.15, 1.11),
    "avg_time_sec": 1.13,
    "images_per_sec": 44123.5,
    "test_acc": 0.657,
}
FAILURE = {
    "timestamp_utc": "2026-01-02T03:04:05+00:00",
    "run_id": "run-1",
    "grid_id": None,
    "status": "oom",
    "exit_code": 1,
    "signal": None,
    "depth": 3,
    "base_filters": 32,
    "batch_size": 128,
    "epochs": 4,
    "epoch_times_json": (),
    "wall_sec": 12.0,
    "message": "",
    "spec_json": "{}",
}
AVERAGE = {
    "depth": 2,
    "base_filters": 16,
    "batch_size": 128,
    "params": 280218,
    "n": 1,
    "steps_per_epoch": 391,
    "avg_time_mean": 1.13,
    "avg_time_std": None,
    "thr_mean": 44123.5,
    "thr_std": None,
    "acc_mean": 0.657,
    "acc_std": None,
}
VALID = {
    RunConfig: {},
    RunSpec: {},
    RunRecord: PUBLISHED,
    FailureRecord: FAILURE,
    Exclusion: {"run_id": "run-1", "reason": "the fan stood still", "date": "2026-01-02"},
    AggRow: AVERAGE,
}


def not_positive(*names):
    return [(name, value) for name in names for value in (0, -1, NAN, INF, "3")]


def negative(*names):
    return [(name, value) for name in names for value in (-1, NAN, INF, "3")]


BAD = {
    RunConfig: [(n, v) for n in ("depth", "base_filters", "batch_size") for v in (0, -1, 2.0, "3", None)],
    RunSpec: [
        *((n, v) for n in ("depth", "base_filters", "batch_size") for v in (0, -1)),
        *(("epochs", v) for v in (1, 0, -4, 4.0, "4", True)),
        *(("window_steps", v) for v in (0, -1, 2.5, "5")),
        *(("seed", v) for v in (-1, 0.5, None)),
        *(("train_n", v) for v in (0, -1, 100.0, None)),
        ("dataset", "cifar100"),
        ("pipeline", "numpy"),
        ("precision", "float16"),
        ("jit_compile", True),
        *(("steps_per_execution", v) for v in (0, -1, 2.0, "2", "all", None, True)),
        *(("target_ci", v) for v in (0, -0.01, NAN, INF, "0.01", None)),
        *(("max_epochs", v) for v in (1, 0, 10.0, None)),
        *(("max_sec", v) for v in (0, -1.0, NAN, INF, None)),
        *(("compile_cache", v) for v in ("warm", True, None)),
        *(("device", v) for v in ("tpu", "", "gpu:", "gpu:x", "gpu:-1", "gpu:٣", "GPU", "GPU-", "cpu:0")),
    ],
    RunRecord: [
        *not_positive("epochs", "params", "avg_time_sec", "images_per_sec", "schema_version", "train_n"),
        *not_positive("steps_per_execution", "steady_time_sec", "n_timed", "wall_sec"),
        *negative("n_stalled", "seed", "overhead_sec", "cpu_time_sec", "load_avg"),
        *negative("rel_spread", "rel_ci95", "host_busy_cores", "idle_sec", "max_gap_sec"),
        *not_positive("peak_memory_bytes", "device_memory_bytes", "sm_clock_mhz", "power_limit_w", "cpu_energy_j"),
        *not_positive("energy_j_per_epoch", "energy_lo_j", "energy_hi_j", "energy_j_window", "energy_window_sec"),
        *not_positive("energy_n_epochs", "mean_power_w", "max_power_w"),
        *(("rel_trend", v) for v in (NAN, INF, "0.1")),
        ("stop_reason", "bored"),
        ("compile_cache", "on"),
        ("energy_source", "guess"),
        *(("energy_estimated", v) for v in (2, -1, "yes")),
        *(("depth", v) for v in (0, -1, 2.0)),
        *(("timestamp_utc", v) for v in ("yesterday", "", None)),
        *(("test_acc", v) for v in (-0.1, 1.1, 70.0, NAN)),
        *(("epoch_times_json", v) for v in ((), (1.0, 2.0), (1.0,) * 4, (1.0, 0.0, 1.0), (1.0, -1.0, 1.0))),
        *(("epoch_times_json", v) for v in ((1.0, NAN, 1.0), (1.0, INF, 1.0), (1.0, "2", 1.0))),
        ("tf32", "yes"),
        ("jit_compile", "auto"),
        ("timing_mode", "batches"),
        ("window_steps", 5),  # without timing_mode steps_extrapolated
        ("flags", ("slow",)),
    ],
    FailureRecord: [
        ("status", "failed"),
        ("status", ""),
        ("run_id", ""),
        ("depth", 0),
        ("timestamp_utc", "yesterday"),
        ("epoch_times_json", (1.0, -1.0)),
        *not_positive("epochs", "schema_version"),
        *negative("wall_sec"),
    ],
    Exclusion: [("run_id", ""), ("reason", ""), ("date", "")],
    AggRow: [
        *not_positive("params", "n", "steps_per_epoch", "avg_time_mean", "thr_mean", "first_epoch_sec_mean"),
        *negative("avg_time_std", "thr_std", "acc_std", "first_epoch_sec_std", "overhead_sec_mean"),
        *negative("overhead_sec_std", "n_stalled", "n_flagged", "n_energy", "energy_j_per_epoch_mad", "rel_ci95"),
        *not_positive("energy_j_per_epoch_median", "mean_power_w_median", "peak_memory_bytes", "device_memory_bytes"),
        *(("acc_mean", v) for v in (-0.1, 1.1, NAN)),
        ("batch_size", 0),
    ],
}


@pytest.mark.parametrize(
    ("kind", "name", "value"), [(kind, *bad) for kind, several in BAD.items() for bad in several], ids=repr
)
def test_a_bad_value_is_refused_by_a_message_that_names_field_and_value(kind, name, value):
    valid = kind(**VALID[kind])
    with pytest.raises(ValueError) as caught:
        dataclasses.replace(valid, **{name: value})
    assert f".{name} must be " in str(caught.value)
    assert f"got {value!r}." in str(caught.value)


@pytest.mark.parametrize("kind", [RunRecord, FailureRecord])
def test_a_row_of_a_newer_schema_asks_for_an_update(kind):
    kind(**VALID[kind], schema_version=SCHEMA_VERSION)
    with pytest.raises(NewerSchemaError, match=r"schema_version must be at most 2, got 3: a newer Epochcast wrote"):
        kind(**VALID[kind], schema_version=SCHEMA_VERSION + 1)


def test_a_windowed_run_has_window_steps_and_no_other_run_has():
    windowed = RunRecord(**PUBLISHED, timing_mode="steps_extrapolated", window_steps=5)
    assert windowed.window_steps == 5
    for mode in (None, "full_epoch"):
        with pytest.raises(ValueError, match=r"window_steps must be set exactly for windowed runs, got 5"):
            dataclasses.replace(windowed, timing_mode=mode)
    with pytest.raises(ValueError, match=r"window_steps must be set exactly for windowed runs, got None"):
        dataclasses.replace(windowed, window_steps=None)


def test_a_row_with_stalled_epochs_carries_the_flag_and_no_other_row_does():
    assert RunRecord(**PUBLISHED, n_stalled=1, flags=("stalled",)).n_stalled == 1
    assert RunRecord(**PUBLISHED, n_stalled=0, flags=("unstable",)).flags == ("unstable",)
    assert RunRecord(**PUBLISHED, n_stalled=None, flags=("stalled",)).n_stalled is None
    for n_stalled, flags in ((1, ()), (0, ("stalled",))):
        with pytest.raises(ValueError, match=f"flags must be with 'stalled' exactly where n_stalled .*{n_stalled}"):
            RunRecord(**PUBLISHED, n_stalled=n_stalled, flags=flags)


@pytest.mark.parametrize("device", ["auto", "cpu", "gpu", "gpu:0", "gpu:12", "GPU-8f2c", "MIG-8f2c"])
def test_a_spec_takes_every_way_to_name_a_device(device):
    assert RunSpec(device=device).device == device


def test_a_spec_runs_at_least_one_epoch_that_is_timed():
    assert RunSpec(epochs=2).epochs == 2
    with pytest.raises(ValueError, match="the first is untimed"):
        RunSpec(epochs=1)


def test_a_spec_names_its_configuration_and_timing_mode():
    spec = RunSpec(depth=2, base_filters=16, batch_size=64)
    assert spec.config == RunConfig(2, 16, 64)
    assert spec.timing_mode == "full_epoch"
    assert dataclasses.replace(spec, window_steps=5).timing_mode == "steps_extrapolated"
    assert RunSpec().config == DEFAULT_CONFIG == RunConfig(3, 32, 128)


@pytest.mark.parametrize(
    ("batch_size", "train_n", "steps"),
    [(128, TRAIN_N, 391), (50_000, TRAIN_N, 1), (60_000, TRAIN_N, 1), (1, TRAIN_N, 50_000), (64, 128, 2), (64, 129, 3)],
)
def test_the_last_partial_batch_is_a_step(batch_size, train_n, steps):
    assert RunConfig(batch_size=batch_size).steps_per_epoch(train_n) == steps
    assert steps * batch_size >= train_n > (steps - 1) * batch_size


def test_steps_count_the_images_of_cifar10_unless_told():
    assert RunConfig(batch_size=128).steps_per_epoch() == math.ceil(50_000 / 128)


def test_a_window_is_extrapolated_by_steps_to_the_full_epoch():
    assert RunRecord(**PUBLISHED).window_factor == 1
    windowed = RunRecord(**PUBLISHED, timing_mode="steps_extrapolated", window_steps=10)
    assert windowed.window_factor == pytest.approx(39.1, rel=1e-12)  # 391 steps in windows of 10
    assert dataclasses.replace(windowed, train_n=1280).window_factor == 1


def test_configurations_sort_by_depth_then_filters_then_batch_and_print_shortly():
    configs = [RunConfig(3, 16, 32), RunConfig(2, 32, 64), RunConfig(2, 16, 512), RunConfig(2, 16, 64)]
    assert [str(c) for c in sorted(configs)] == ["(2,16,64)", "(2,16,512)", "(2,32,64)", "(3,16,32)"]


# --- conditions ------------------------------------------------------------------------------------------------------


def test_unknown_conditions_equal_only_unknown_ones():
    known = Conditions(device_name="A", backend="tensorflow", steps_per_execution=1, train_n=50_000, window_steps=5)
    assert Conditions() == Conditions()
    for field in dataclasses.fields(Conditions):
        some = dataclasses.replace(Conditions(), **{field.name: getattr(known, field.name) or "something"})
        assert some != Conditions()
        assert some == dataclasses.replace(some)
        assert len({some, Conditions()}) == 2


def test_a_published_row_has_its_tensorflow_version_as_its_backend_version():
    assert RunRecord(**PUBLISHED).conditions == Conditions(backend_version="2.20")


def test_patch_versions_of_a_backend_are_the_same_conditions_and_minor_ones_are_not():
    def conditions_of(version):
        return RunRecord(**PUBLISHED, backend="jax", backend_version=version).conditions

    assert conditions_of("0.10.1").backend_version == "0.10"
    assert conditions_of("0.10.1") == conditions_of("0.10.2") != conditions_of("0.11.0")


def test_a_row_without_any_version_has_an_unknown_one():
    assert RunRecord(**{**PUBLISHED, "tf_version": None}).conditions == Conditions()


def test_every_condition_of_a_row_and_of_an_average_is_among_its_conditions():
    values = {
        "device_name": "NVIDIA A100 80GB PCIe",
        "backend": "tensorflow",
        "backend_version": "2.21",
        "precision": "mixed_bfloat16",
        "tf32": "on",
        "pipeline": "tfdata",
        "jit_compile": "off",
        "steps_per_execution": 1,
        "dataset": "cifar10",
        "train_n": 50_000,
        "timing_mode": "steps_extrapolated",
        "window_steps": 5,
    }
    assert list(values) == [field.name for field in dataclasses.fields(Conditions)]
    expected = Conditions(**values)
    assert RunRecord(**PUBLISHED, **values).conditions == expected
    assert AggRow(**AVERAGE, **values).conditions == expected


def test_conditions_are_described_by_what_is_known():
    assert Conditions(device_name="A100", train_n=50_000).describe() == "device_name=A100, train_n=50000"
    assert "unknown" in Conditions().describe()


# --- columns and JSON ------------------------------------------------------------------------------------------------


def test_the_eleven_published_columns_come_first_under_their_published_names(reference_data):
    header = (reference_data / "a100" / "runs.csv").read_text().partition("\n")[0].split(",")
    assert columns(RunRecord)[:11] == header == list(PUBLISHED)


def test_the_twelve_published_average_columns_come_first_under_their_published_names(reference_data):
    header = (reference_data / "a100" / "runs_agg.csv").read_text().partition("\n")[0].split(",")
    assert columns(AggRow)[:12] == header == list(AVERAGE)


def test_our_columns_follow_in_the_order_of_the_contract():
    ours = columns(RunRecord)[11:36]  # later columns follow these
    assert " ".join(ours) == (
        "schema_version run_id grid_id device_name backend backend_version keras_version precision tf32 pipeline "
        "jit_compile steps_per_execution dataset train_n timing_mode window_steps seed steady_time_sec n_timed "
        "n_stalled wall_sec overhead_sec cpu_time_sec load_avg flags"
    )


@pytest.mark.parametrize("kind", list(VALID), ids=lambda kind: kind.__name__)
def test_a_record_comes_back_from_json_as_it_was(kind):
    record = kind(**VALID[kind])
    values = to_json_dict(record)
    assert list(values) == [field.name for field in dataclasses.fields(kind)]
    assert from_json_dict(kind, json.loads(json.dumps(values, allow_nan=False))) == record


def test_a_record_with_every_column_comes_back_from_json_as_it_was():
    record = RunRecord(**PUBLISHED, schema_version=1, n_stalled=1, flags=("stalled", "diverged"), load_avg=0.1 + 0.2)
    assert from_json_dict(RunRecord, json.loads(json.dumps(to_json_dict(record)))) == record


def test_json_that_no_record_can_be_made_of_is_refused():
    values = to_json_dict(RunSpec())
    with pytest.raises(ValueError, match="RunSpec has no watts"):
        from_json_dict(RunSpec, {**values, "watts": 300})
    with pytest.raises(ValueError, match="epochs"):
        from_json_dict(RunSpec, {**values, "epochs": 1})


@pytest.mark.parametrize("kind", list(VALID), ids=lambda kind: kind.__name__)
def test_a_record_can_not_be_changed_after_it_was_checked(kind):
    record = kind(**VALID[kind])
    name = dataclasses.fields(kind)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, 0)


def test_a_depth_that_no_network_can_have_is_refused_before_it_is_computed_with():
    with pytest.raises(ValueError, match=r"RunConfig\.depth must be at most 16"):
        RunConfig(1_000_000, 16, 128)
