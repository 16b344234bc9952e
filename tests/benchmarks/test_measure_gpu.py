"""The one command for a GPU box, without measuring: which runs it asks for, in which order, and what it compares."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys

import pytest

from benchmarks import measure_gpu
from epochcast.__main__ import main
from epochcast.paths import CODE_ROOT

SMALL = ["--depth", "1:2", "--base_filters", "4", "--batch_size", "64,128", "--first", "1", "--bench_flags", "no"]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the command prints where its grids only say what they would measure."""
    out = tmp_path_factory.mktemp("gpu")
    argv = ["benchmarks/measure_gpu.py", "--out", str(out), "--device", "cpu", *SMALL]
    argv += ["--", "--dry_run", "--train_n", "512", "--dataset", "synthetic"]
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPOCHCAST_HOME", str(out / "home"))
        patch.setattr(sys, "argv", argv)
        patch.setattr(measure_gpu, "call", called_here)
        assert measure_gpu.main() == 1  # nothing was measured, so there is nothing to evaluate
    assert (out / "how.txt").read_text().count("measure_gpu.py") == 1
    return printed.getvalue()


def called_here(command, **environ):
    """What `measure_gpu.call` does, without a process for each command; its exit code."""
    print(f"\n$ {shlex.join(command)}")
    argv = command[len(measure_gpu.EPOCHCAST) :]
    if command[1] == "collect/run_grid.py":
        argv = ["grid", *command[2:]]
    else:
        assert command[: len(measure_gpu.EPOCHCAST)] == measure_gpu.EPOCHCAST
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        return main(argv)


def test_the_first_configurations_come_under_every_pipeline_and_precision_then_the_grid(said):
    grids = re.findall(r"(--configs|--depth=1:2).*--pipeline (\w+) --precision (\w+)", said)
    sides = [(p, q) for q in ("float32", "mixed_bfloat16") for p in ("arrays", "device")]
    assert grids == [(which, *side) for which in ("--configs", "--depth=1:2") for side in sides]


def test_a_command_that_is_called_sees_the_variables_given_and_its_exit_code_is_kept(capfd):
    assert measure_gpu.call([sys.executable, "-S", "-c", "import os; os._exit(int(os.environ['N']))"], N="3") == 3
    assert capfd.readouterr().out.startswith("\n$ N=3 ")


def test_it_is_started_by_its_path(tmp_path):
    command = [sys.executable, CODE_ROOT / "benchmarks" / "measure_gpu.py", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("usage: ")


def test_every_condition_is_a_run_of_its_own(said):
    names = re.findall(r"^(grid-\w+): (\d+) runs?, \2 to measure", said, re.MULTILINE)
    assert [int(n) for _, n in names] == [1] * 4 + [4] * 4
    assert len({name for name, _ in names}) == 8


def test_only_sides_that_differ_in_one_thing_are_compared(tmp_path, monkeypatch):
    rows = [type("Row", (), {"pipeline": p, "precision": q}) for p in ("arrays", "device") for q in ("float32", "half")]
    called = []
    monkeypatch.setattr(measure_gpu, "read_table", lambda path, kind: rows)
    monkeypatch.setattr(measure_gpu, "call", lambda command, **environ: called.append(command) or len(called) % 2)
    assert measure_gpu.evaluate(type("Arguments", (), {"out": tmp_path})) == 1  # the worst code is not forgotten
    pairs = [(c[c.index("--a") + 1], c[c.index("--b") + 1]) for c in called if "compare" in c]
    assert sorted(pairs) == [
        ("pipeline=arrays,precision=float32", "pipeline=arrays,precision=half"),
        ("pipeline=arrays,precision=float32", "pipeline=device,precision=float32"),
        ("pipeline=arrays,precision=half", "pipeline=device,precision=half"),
        ("pipeline=device,precision=float32", "pipeline=device,precision=half"),
    ]
