"""What a log says about its run: of complete logs the same as of the same logs cut to the lines that matter."""

from __future__ import annotations

import dataclasses
import tarfile

import pytest

from epochcast.mlperf.logs.run_log import RunLog, read_run


def log(*lines):
    return read_run(["\n".join(lines).encode()])


def third(key, time_ms, value="null", metadata="{}"):
    return f':::MLLOG {{"time_ms": {time_ms}, "key": "{key}", "value": {value}, "metadata": {metadata}}}'


def test_complete_logs_say_what_their_cut_ones_do(raw_logs, reference_data):
    wanted = {path.relative_to(raw_logs).as_posix(): path for path in raw_logs.rglob("results/**/*") if path.is_file()}
    compared = 0
    with tarfile.open(reference_data / "mlperf" / "training_results.tar.xz") as tar:
        for member in tar:
            if member.name not in wanted or member.name.endswith(".json"):
                continue
            cut = read_run([tar.extractfile(member).read()])
            whole = read_run([wanted[member.name].read_bytes()])
            assert dataclasses.replace(whole, n_lines=0) == dataclasses.replace(cut, n_lines=0), member.name
            compared += 1
    assert compared == 87


def test_a_run_lasts_from_its_first_start_to_its_last_stop():
    run = log(third("run_start", 1000), third("run_start", 1500), third("run_stop", 2000), third("run_stop", 61000))
    assert (run.start_sec, run.stop_sec, run.fault) == (1.0, 61.0, None)


@pytest.mark.parametrize(
    ("value", "metadata", "status"),
    [
        ("null", '{"status": "success"}', "success"),
        ("null", '{"status": "aborted"}', "aborted"),
        ("null", '{"status": "abort"}', "aborted"),
        ("null", '{"status": "fail"}', "aborted"),
        ("null", '{"status": "whatever"}', None),
        ("null", "{}", None),
        ('{"success": false}', "{}", "aborted"),
        ('{"success": "true"}', "{}", "success"),
        ('{"success": "perhaps"}', "{}", None),
    ],
)
def test_the_status_has_many_spellings_and_is_unknown_where_it_has_none_of_them(value, metadata, status):
    assert log(third("run_start", 1000), third("run_stop", 2000, value, metadata)).status == status


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ([], "no line of MLPerf's logging"),
        (["nothing of MLPerf"], "no line of MLPerf's logging"),
        ([third("run_start", 1)], "no run_stop that can be read"),
        ([third("seed", 1)], "no run_start and no run_stop that can be read"),
        ([third("run_start", 5), third("run_stop", 5)], "run_stop is not after run_start"),
        ([third("run_start", '"x"'), third("run_stop", 5)], "no run_start that can be read"),
    ],
)
def test_a_log_without_a_time_says_why(lines, fault):
    assert log(*lines).fault == fault


def test_settings_have_several_names_and_odd_values_are_unknown():
    run = log(
        third("opt_gradient_accumulation_steps", 1, 4),
        third("global_batch_size", 1, 256),
        third("global_batch_size", 1, 512),
        third("seed", 1, 1),
        third("seed", 1, 2),
        third("opt_base_learning_rate", 1, "[0.32, 0.03]"),
        third("eval_accuracy", 1, '"18.5"'),
        third("eval_accuracy", 1, '{"value": 25.5, "epoch": 3}'),
        third("train_samples", 1, "1e400"),
        third("max_sequence_length", 1, "true"),
        third("eval_samples", 1, 10.5),
    )
    assert (run.gradient_accumulation_steps, run.global_batch_size, run.seed) == (4, 256, 1)
    assert (run.base_learning_rate, run.final_quality) == (0.32, 25.5)
    assert (run.train_samples, run.max_sequence_length, run.eval_samples) == (None, None, None)


def test_a_text_of_a_megabyte_is_cut():
    run = log(third("submission_benchmark", 1, f'"{"x" * 900_000}"'), third("opt_name", 1, f'"{"y" * 900_000}"'))
    assert (len(run.benchmark), len(run.optimizer)) == (200, 200)


def test_no_line_is_nothing_known():
    assert read_run([]) == RunLog()
