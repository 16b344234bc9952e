"""A run that will not fit is refused before anything is allocated, by every command that measures a run by itself."""

from __future__ import annotations

import math

import pytest

from epochcast.collect import run_one
from epochcast.collect.grid import memory_guard
from epochcast.collect.grid.memory_guard import TooLargeError, check_fits
from epochcast.collect.run import child
from epochcast.machine.host import host
from epochcast.machine.host.host import cpu_name
from epochcast.schema import Conditions, RunRecord
from epochcast.storage.tables import read_table
from epochcast.workload.memory import MemoryModel
from tests.support.light_child import command, isolate, light_spec, starts
from tests.support.machines.boxes import Board, plug_in
from tests.support.machines.made_up_host import memory_is
from tests.support.rows import assert_one_clear_error, run_row

GIB = 2**30
LARGE = light_spec(depth=9, base_filters=32, batch_size=128, device="cpu")  # about 18 GiB
FLAGS = ["--train_n", "1000", "--dataset", "synthetic", "--epochs", "4", "--device", "cpu"]
DEEP = [*FLAGS, "--depth", "9", "--base_filters", "32", "--batch_size", "128"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    monkeypatch.setattr(child, "CHILD", command("ok"))
    return tmp_path


@pytest.fixture
def box(tmp_path, monkeypatch):
    """Make up what psutil says of the memory, and the files of the control group."""

    def make(total_gib, available_gib, group_gib=None, used_gib=0.0):
        root = tmp_path / "root"
        (root / "proc" / "self").mkdir(parents=True, exist_ok=True)
        memory_is(round(total_gib * GIB), round(available_gib * GIB), monkeypatch)
        if group_gib is not None:
            (root / "proc" / "self" / "cgroup").write_text("0::/\n")
            group = root / "sys" / "fs" / "cgroup"
            group.mkdir(parents=True, exist_ok=True)
            (group / "memory.max").write_text(f"{round(group_gib * GIB)}\n")
            (group / "memory.current").write_text(f"{round(used_gib * GIB)}\n")
        monkeypatch.setattr(host, "ROOT", root)

    return make


@pytest.mark.parametrize(
    ("memory", "verdict"),
    [
        ((64, 60), None),
        ((64, 19), "may not fit"),
        ((64, 9), "will not fit"),  # others have the rest
        ((16, 15), "may not fit"),
        ((8, 7), "will not fit"),
        ((64, 60, 8), "will not fit"),  # by the control group
        ((64, 60, 48, 40), "will not fit"),
        ((64, 60, 48, 2), None),
    ],
)
def test_a_run_on_the_processor_is_judged_by_what_is_free_and_granted(box, memory, verdict):
    box(*memory)
    if verdict == "will not fit":
        with pytest.raises(
            TooLargeError, match=r"\(9,32,128\) needs about .* GiB are free: it will not fit"
        ) as refused:
            check_fits(LARGE, [])
        assert "--ignore_memory" in str(refused.value) and "--device_memory SIZE" in str(refused.value)
        return
    line = check_fits(LARGE, [])
    assert line is None if verdict is None else line.startswith("may not fit: (9,32,128) needs about ")


def test_the_user_s_word_counts_more_than_the_box_s(box):
    box(8, 7)
    assert check_fits(LARGE, [], 64 * GIB) is None
    with pytest.raises(TooLargeError, match=r"--device_memory says 1\.00 GiB: it will not fit"):
        check_fits(LARGE, [], GIB)


def test_what_ran_here_before_fits_and_what_is_unknown_is_not_refused(box, monkeypatch):
    box(8, 7)
    conditions = Conditions(
        device_name=cpu_name(),
        backend="tensorflow",
        precision="float32",
        pipeline="tfdata",
        jit_compile="off",
        train_n=1000,
    )
    row = run_row((9.0, 2.0), config=(9, 32, 128), conditions=conditions, peak_memory_bytes=5 * GIB)
    assert check_fits(LARGE, [row]) is None
    monkeypatch.setattr(memory_guard, "memory_bytes", lambda: (None, None))
    assert check_fits(LARGE, []) is None


def test_a_gpu_is_judged_by_its_own_memory(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, [Board("NVIDIA T", gib=2.0)])
    with pytest.raises(TooLargeError, match=r"the device has 2\.00 GiB: it will not fit"):
        check_fits(light_spec(depth=9, base_filters=64, batch_size=4096), [])


@pytest.mark.parametrize(("jit_compile", "high"), [("off", 1.29), ("on", None)])
def test_a_gpu_s_low_and_high_ends_decide_by_the_driver_s_count(monkeypatch, tmp_path, jit_compile, high):
    plug_in(monkeypatch, tmp_path, [Board("NVIDIA T", gib=80.0)])
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    spec = light_spec(depth=3, base_filters=32, batch_size=4096, jit_compile=jit_compile)
    peak = MemoryModel(Conditions(device_name="NVIDIA T", jit_compile=jit_compile, train_n=1000)).peak(spec.config)
    assert peak.context == 1521 * 2**20
    assert check_fits(spec, [], math.ceil(peak.high)) is None
    line = check_fits(spec, [], math.floor(peak.high))
    assert line.startswith("may not fit: (3,32,4096) needs about ") and "by the driver's count" in line
    assert check_fits(spec, [], math.ceil(peak.low)).startswith("may not fit: ")
    with pytest.raises(TooLargeError, match="by the driver's count"):
        check_fits(spec, [], math.floor(peak.low))
    assert peak.low == pytest.approx(peak.value / 1.29)
    assert high is None or peak.high == pytest.approx(high * peak.value)


@pytest.mark.parametrize("more", [[], ["--split_input"]])
def test_run_refuses_before_anything_is_started_and_measures_where_that_is_forced(home, box, capsys, more):
    box(8, 7)
    assert run_one.main([*DEEP, *more]) == 1
    assert_one_clear_error(capsys.readouterr(), "will not fit")
    assert starts(home / "trace") == []
    assert not (home / "results").exists()
    if not more:
        assert run_one.main([*DEEP, "--ignore_memory"]) == 0
        assert len(read_table(home / "results" / "runs.csv", RunRecord)) == 1


def test_a_doubt_is_said_and_the_run_is_measured(home, box, capsys):
    box(64, 19)
    assert run_one.main(DEEP) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("may not fit: (9,32,128) needs about ")
