"""The benchmark keeps what it measures, whatever becomes of a backend, and sets a GPU against its data sheet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from benchmarks.bench_pipelines import main, measure_all, report_text
from benchmarks.lib.pipeline_rates import TINY, Job, Rate, Setting
from benchmarks.lib.roofline import peaks_notes, roofline_table
from epochcast.gpus.lookup import find_gpu
from epochcast.paths import CODE_ROOT

SETTINGS = (Setting("arrays", "on"), Setting("device", "on"))
PLANNED = {backend: [Job(TINY, 32, 64, 1, SETTINGS)] for backend in ("tensorflow", "jax")}
RATE = Rate("tensorflow", "AMD EPYC 9B14 (2 cores)", "fp32", TINY, 32, 64, SETTINGS[0], "on", (0.02,), 0.5)
ON_A100 = replace(
    RATE,
    device="NVIDIA A100 80GB PCIe",
    precision="tf32",
    model="2,16",
    batch_size=2048,
    train_n=50_000,
    epoch_sec=(0.25,),
)
REFUSED = "print('an NVIDIA driver is installed, but jax sees no usable GPU.', file=sys.stderr); sys.exit(1)"


@pytest.fixture
def light_child(tmp_path):
    """A command in place of the process that measures: a line of code for each backend, `say()` tells a rate."""

    def command(**codes):
        file = tmp_path / "child.py"
        file.write_text(
            "import json, os, sys, time\n"
            "backend = os.environ['KERAS_BACKEND']\n"
            f"rate = {json.dumps(asdict(RATE))!r}\n"
            "say = lambda: print(json.dumps({**json.loads(rate), 'backend': backend}), flush=True)\n"
            f"exec({codes!r}[backend])\n"
        )
        return [sys.executable, str(file)]

    return command


@pytest.fixture
def hide(tmp_path, monkeypatch):
    """Makes the processes that are started find a package not installed."""

    def without(*packages):
        for name in packages:
            (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError({f'No module named {name}'!r})")

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return without


def written(out):
    return json.loads(out.read_text())


# --- backends that end early ------------------------------------------------------------------------------------------


def test_a_backend_that_cannot_use_the_device_costs_no_rate_of_the_other_and_is_named(light_child, tmp_path):
    out = tmp_path / "out.json"
    report = measure_all(PLANNED, out, light_child(tensorflow="say(); say()", jax=REFUSED))
    assert [rate.backend for rate in report.rates] == ["tensorflow"] * 2
    (skipped,) = written(out)["skipped"]
    reason = "an NVIDIA driver is installed, but jax sees no usable GPU."
    assert skipped == {"backend": "jax", "n_measured": 0, "n_planned": 2, "reason": reason}
    assert (len(written(out)["rates"]), written(out)["is_complete"]) == (2, True)
    assert f"jax      0 of 2  {reason}" in report_text(report)


def test_a_backend_that_is_killed_leaves_what_it_had_measured_and_the_next_has_its_turn(light_child, tmp_path):
    out = tmp_path / "out.json"
    killed = "say(); print('{\"torn', end='', flush=True); os.kill(os.getpid(), 9)"
    report = measure_all(PLANNED, out, light_child(tensorflow=killed, jax="say(); say()"))
    assert [rate.backend for rate in report.rates] == ["tensorflow", "jax", "jax"]
    assert [str(s) for s in report.skipped] == ["tensorflow ended after 1 of 2 rates: signal 9"]
    assert len(written(out)["rates"]) == 3


def test_an_interrupted_benchmark_keeps_what_it_measured_and_leaves_no_child(light_child, tmp_path):
    out = tmp_path / "out.json"
    pid = tmp_path / "pid"
    sleeping = f"open({str(pid)!r}, 'w').write(str(os.getpid())); say(); time.sleep(60)"
    command = light_child(tensorflow=sleeping, jax="say()")
    code = (
        "import sys; from pathlib import Path; from benchmarks.bench_pipelines import *\n"
        "planned = {b: [Job('tiny', 32, 64, 1, JAX)] for b in ('tensorflow', 'jax')}\n"
        f"measure_all(planned, Path({str(out)!r}), {command!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=CODE_ROOT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)  # to it alone: the child sleeps on unless it is ended
    _, errors = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in errors
    assert (len(written(out)["rates"]), written(out)["is_complete"]) == (1, False)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.slow  # JAX loaded and its training compiled: ten seconds
def test_without_tensorflow_jax_is_measured(hide, monkeypatch, tmp_path):
    hide("tensorflow")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    report = measure_all({backend: [Job(TINY, 32, 64, 1, SETTINGS[:1])] for backend in PLANNED}, tmp_path / "out.json")
    assert [str(s) for s in report.skipped] == ["tensorflow skipped: No module named tensorflow"]
    assert [(rate.backend, rate.precision) for rate in report.rates] == [("jax", "fp32")]


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_the_command_fails_if_nothing_could_be_measured_and_leaves_an_earlier_result(hide, tmp_path, capsys, backend):
    hide(backend)
    out = tmp_path / "out.json"
    out.write_text("an earlier result")
    assert main(["--backends", backend, "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert f"No module named {backend}" in printed.out
    assert "no backend could be measured" in printed.err
    assert out.read_text() == "an earlier result"


# --- a GPU against its peaks ------------------------------------------------------------------------------------------


def share(table):
    """The last cell of the last line of the roofline's table."""
    return table.splitlines()[-1].split()[-1].replace(",", "")


def test_an_a100_or_h200_has_its_share_of_the_roofline_without_a_flag():
    for device in ("NVIDIA A100 80GB PCIe", "NVIDIA H200"):
        rates = [replace(ON_A100, device=device)]
        gpu = find_gpu(device)
        given = roofline_table(rates, gpu.tf32_tflops, gpu.memory_bandwidth_gbs)
        assert roofline_table(rates) == given
        assert float(share(given)) > 1
        (note,) = peaks_notes(rates, None, None)
        assert gpu.source in note


def test_flags_override_each_by_itself():
    table = roofline_table([ON_A100])
    # the memory bounds all layers of this one
    assert float(share(roofline_table([ON_A100], None, 1935.0 / 2))) == pytest.approx(2 * float(share(table)), rel=0.01)
    assert roofline_table([ON_A100], 312.0) == table
    assert "1000 GB/s: --peak_gb_per_sec; NVIDIA" in peaks_notes([ON_A100], None, 1000.0)[0]


def test_without_tf32_the_peak_of_fp32_counts():
    table = roofline_table([replace(ON_A100, model="4,64", precision="fp32")])
    assert table == roofline_table([replace(ON_A100, model="4,64", precision="fp32")], 19.5)
    assert float(share(table)) > float(share(roofline_table([replace(ON_A100, model="4,64")])))


@pytest.mark.parametrize("device", ["NVIDIA A100 80GB PCIe MIG 1g.10gb", "NVIDIA RTX A1000", "NVIDIA A100"])
def test_a_gpu_whose_name_is_not_known_has_no_share_and_says_so(device):
    rates = [replace(ON_A100, device=device)]
    assert share(roofline_table(rates)) == "-"
    (note,) = peaks_notes(rates, None, 1000.0)
    assert note.startswith(f"{device}: its peaks are not known")
    assert "--peak_tflops" in note
    assert float(share(roofline_table(rates, 156.0, 1935.0))) > 1


def test_the_published_a100_reaches_8_15_and_33_percent(reference_data):
    lines = roofline_table([]).splitlines()[1:]
    assert [float(line.split()[-1]) for line in lines] == pytest.approx([8.15, 15.1, 33.0], rel=0.01)
