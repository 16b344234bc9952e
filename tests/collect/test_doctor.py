"""`epochcast doctor` on boxes that are fit to measure and on boxes with one fault each."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from epochcast.collect import doctor
from epochcast.collect.checks import box as box_checks
from epochcast.collect.checks import examination
from epochcast.collect.checks import framework as framework_checks
from epochcast.collect.checks.box import (
    Check,
    clock_check,
    cpu_energy_check,
    data_check,
    disk_check,
    folders_check,
    host_load_check,
    judged,
    memory_check,
    processor_check,
    table_check,
)
from epochcast.collect.checks.examination import screen, verdict
from epochcast.collect.checks.framework import deep_check, versions_check
from epochcast.collect.checks.gpu import (
    board_memory_check,
    clocks_check,
    cuda_libraries_check,
    device_check,
    energy_check,
    neighbours_check,
)
from epochcast.collect.grid.memory_guard import check_fits
from epochcast.machine import cuda_packages
from epochcast.machine import packages as installed
from epochcast.machine.gpu.nvml_gpu import NvmlGpu
from epochcast.machine.gpu.vendor import Device, Refusal
from epochcast.machine.gpu_driver import device_of
from epochcast.machine.host.host import cpu_count, cpu_name
from epochcast.machine.packages import backend_name
from epochcast.paths import CODE_ROOT
from epochcast.schema import Exclusion, FailureRecord, RunRecord, RunSpec
from epochcast.storage.cells import columns, header_line
from epochcast.storage.table_appends import append_row
from epochcast.workload.memory import gib_text
from tests.support.cli import run_cli
from tests.support.machines import fake_nvml
from tests.support.machines.boxes import Board, plug_in
from tests.support.real_child import lean_keras
from tests.support.rows import fit_row, run_row

DOCTOR = str(CODE_ROOT / "collect" / "doctor.py")


def status_and_remedy(check):
    assert (check.remedy is None) == (check.status in ("ok", "unknown")), check
    return check.status, check.remedy or ""


# --- the whole command ------------------------------------------------------------------------------------------------


@pytest.fixture
def quiet_box(tmp_path, monkeypatch):
    """A box without a GPU where nobody else works, with images, and an empty home."""
    for n in range(10):
        (tmp_path / "images" / "train" / str(n)).mkdir(parents=True)
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EPOCHCAST_DATA_DIR", str(tmp_path / "images"))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setattr(examination, "LOOK_SEC", 0.0)
    plug_in(monkeypatch, tmp_path)
    monkeypatch.setattr(examination, "other_cores", lambda before, after: 0.01)
    return tmp_path


def test_a_quiet_box_without_a_gpu_is_fit_on_one_screen(quiet_box, capsys):
    assert doctor.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 30
    assert lines[0].startswith("ok       device")
    assert f"no NVIDIA GPU: runs measure {cpu_name()}" in lines[0]
    assert lines[-1].startswith("fit to measure")
    assert not (quiet_box / "home").exists()  # looking changes nothing


def test_one_problem_makes_the_exit_code_1_and_stands_in_the_last_line(quiet_box, capsys):
    results = quiet_box / "home" / "results"
    results.mkdir(parents=True)
    (results / "runs.csv").write_text("this,is,no,table\n")
    assert doctor.main([]) == 1
    out = capsys.readouterr().out
    assert "PROBLEM  table" in out
    assert out.splitlines()[-1] == "NOT FIT to measure: table"


def test_json_holds_the_checks_with_their_remedies_and_the_environment(quiet_box, monkeypatch):
    monkeypatch.setenv("EPOCHCAST_DATA_DIR", str(quiet_box / "nowhere"))
    answer = run_cli(doctor.main, "--json", code=1).json
    (data,) = (check for check in answer["checks"] if check["name"] == "data")
    assert (answer["is_fit"], data["status"]) == (False, "problem")
    assert "EPOCHCAST_DATA_DIR" in data["found"]
    assert data["remedy"]
    assert answer["environment"]["cpu"]["cores_usable"] == cpu_count()


def test_a_wish_for_a_gpu_where_there_is_none_is_a_problem(quiet_box):
    answer = run_cli(doctor.main, "--device", "gpu:0", "--json", code=1).json
    checks = {check["name"]: check for check in answer["checks"]}
    assert checks["device"]["status"] == "problem"
    assert "--device cpu" in checks["device"]["remedy"]
    unknown = ("driver", "clocks", "energy", "neighbours", "board memory")
    assert [checks[name]["status"] for name in unknown] == ["unknown"] * 5


def test_a_device_that_is_none_is_refused(quiet_box, capsys):
    assert doctor.main(["--device", "tpu"]) == 1
    assert "device" in capsys.readouterr().err


def test_the_screen_keeps_to_its_width_but_leaves_paths_whole():
    path = "/" + "long/" * 30
    checks = [
        Check("table", "problem", f"{path} is {'word ' * 40}", f"mend {path} {'word ' * 40}"),
        Check("a", "ok", "b"),
    ]
    lines = list(screen(checks))
    assert [line for line in lines if len(line) > examination.WIDTH] == [line for line in lines if path in line]
    assert sum(path in line for line in lines) == 2
    assert sum("-> " in line for line in lines) == 1


def test_the_verdict_names_problems_else_warnings():
    checks = [Check("a", "ok", ""), Check("b", "warning", "", "x"), Check("c", "unknown", "")]
    assert verdict(checks) == "fit to measure; look at: b"
    assert verdict([*checks, Check("d", "problem", "", "x")]) == "NOT FIT to measure: d"
    assert verdict(checks[:1]) == "fit to measure"


def test_a_check_is_as_bad_as_its_worst_complaint():
    check = judged("clocks", "hot", [("warning", "cool"), ("problem", "stop"), ("warning", "cool")])
    assert check == Check("clocks", "problem", "hot", "cool; stop")
    assert judged("clocks", "fine") == Check("clocks", "ok", "fine")


# --- with a GPU, by a fake driver -------------------------------------------------------------------------------------


SHORT_LOOK = """
import runpy, sys
from epochcast.collect.checks import examination
examination.LOOK_SEC = 0.05
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""  # nothing is asserted of the host's load


def run_doctor(tmp_path, tmp_path_factory, mode, *flags, cuda_visible=None, **settings):
    environ = {**os.environ, **fake_nvml.environment(fake_nvml.library(tmp_path_factory), mode, **settings)}
    environ["EPOCHCAST_HOME"] = str(tmp_path)
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        environ.pop(name, None)
    if cuda_visible is not None:
        environ["CUDA_VISIBLE_DEVICES"] = cuda_visible
    command = [sys.executable, "-c", SHORT_LOOK, DOCTOR, "--json", *flags]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    answer = json.loads(done.stdout)
    assert done.returncode == (0 if answer["is_fit"] else 1)
    return {check["name"]: SimpleNamespace(**check) for check in answer["checks"]}, answer["environment"]


def test_an_idle_gpu_is_well_but_lacks_the_cuda_libraries(tmp_path, tmp_path_factory):
    checks, environment = run_doctor(tmp_path, tmp_path_factory, "", duty=0, names="NVIDIA H200,NVIDIA L4")
    for name in ("device", "driver", "clocks", "energy", "neighbours", "board memory"):
        assert checks[name].status == "ok", checks[name]
    assert checks["device"].found == f"NVIDIA H200, 80.0 GiB, {fake_nvml.gpu_uuid()}, one of 2"
    assert "energy counter" in checks["energy"].found
    assert environment["gpu"]["uuid"] == fake_nvml.gpu_uuid()
    if checks["cuda"].status == "problem":  # else this box has them
        assert "requirements-gpu.txt" in checks["cuda"].remedy


def test_a_gpu_with_a_neighbour_a_lowered_clock_and_instances_says_so(tmp_path, tmp_path_factory):
    checks, _ = run_doctor(tmp_path, tmp_path_factory, "neighbour,clockdrop,mig", duty=0, neighbour_pid=os.getpid())
    status, remedy = status_and_remedy(checks["neighbours"])
    assert status == "warning" and "shared_gpu" in remedy
    assert (
        f"1 process: {os.getpid()} (" in checks["neighbours"].found and "not visible" not in checks["neighbours"].found
    )
    status, remedy = status_and_remedy(checks["clocks"])
    assert status == "problem" and "cool" in remedy and "instances" in remedy
    assert "1,200 of 1,980 MHz" in checks["clocks"].found and "hw_thermal_slowdown" in checks["clocks"].found


def test_a_desktop_that_draws_is_named_and_not_minded(tmp_path, tmp_path_factory):
    checks, _ = run_doctor(tmp_path, tmp_path_factory, "desktop", duty=0)
    assert checks["neighbours"].status == "ok"
    assert "1 process: 1111 (" in checks["neighbours"].found


def test_a_gpu_at_work_is_a_problem_even_where_nobody_is_listed(tmp_path, tmp_path_factory):
    checks, _ = run_doctor(tmp_path, tmp_path_factory, "powercap,nopower", duty=1)
    assert checks["neighbours"].status == "problem"
    assert "100 % busy" in checks["neighbours"].found and "no process listed" in checks["neighbours"].found
    assert checks["clocks"].status == "warning" and "sw_power_cap" in checks["clocks"].found
    assert checks["energy"].status == "warning" and "estimate" in checks["energy"].found


def test_without_permission_nothing_fails_and_the_energy_is_an_estimate(tmp_path, tmp_path_factory):
    checks, environment = run_doctor(tmp_path, tmp_path_factory, "denied", duty=0)
    assert checks["energy"].status == "warning"
    assert environment["gpu"]["name"] == "NVIDIA Fake 100"


def test_a_driver_that_does_not_answer_and_a_hidden_gpu_are_told_apart(tmp_path, tmp_path_factory):
    checks, _ = run_doctor(tmp_path, tmp_path_factory, "noinit")
    assert checks["device"].status == "problem"
    assert "Driver Not Loaded" in checks["device"].found
    checks, _ = run_doctor(tmp_path, tmp_path_factory, "", cuda_visible="-1")
    assert checks["device"].status == "problem"
    assert "CUDA_VISIBLE_DEVICES='-1'" in checks["device"].found and "NVIDIA Fake 100" in checks["device"].found
    assert "unset" in checks["device"].remedy


def test_a_gpu_that_is_left_alone_is_not_looked_at(tmp_path, tmp_path_factory):
    checks, environment = run_doctor(tmp_path, tmp_path_factory, "neighbour,clockdrop", "--device", "cpu")
    assert checks["device"].status == "ok" and "by --device cpu" in checks["device"].found
    assert not {"clocks", "neighbours", "cuda"}.intersection(checks)
    assert environment["gpu"] is None


class Gpu:
    """A GPU that tells what it is given and answers every other query with None."""

    uuid, tool, power_command = "GPU-1", NvmlGpu.tool, NvmlGpu.power_command

    def __init__(self, name="NVIDIA X", **told):
        self.name = name
        assert all(hasattr(NvmlGpu, query) for query in told)
        self._told = told

    def __getattr__(self, query):
        assert hasattr(NvmlGpu, query)
        return lambda: self._told.get(query)


def test_a_hot_gpu_and_one_whose_driver_is_unloaded_between_runs_are_warned_of():
    status, remedy = status_and_remedy(
        clocks_check(Gpu(sm_clock_mhz=345.0, temperature_c=84.0, persistence_enabled=False))
    )
    assert status == "warning" and "cool" in remedy and "nvidia-smi -pm 1" in remedy
    assert clocks_check(Gpu(sm_clock_mhz=345.0, temperature_c=40.0, persistence_enabled=True)).status == "ok"


def test_a_gpu_that_tells_nothing_is_unknown_not_well():
    assert clocks_check(Gpu()).status == neighbours_check(Gpu()).status == "unknown"
    assert clocks_check(Gpu(temperature_c=90.0)).status == "warning"


def test_memory_that_nobody_visible_holds_is_a_hidden_neighbour():
    kwargs = {"utilization": 0.0, "processes": []}
    assert neighbours_check(Gpu(memory_used_bytes=1 << 30, **kwargs)).status == "ok"
    assert neighbours_check(Gpu(memory_used_bytes=20 << 30, **kwargs)).status == "warning"


@pytest.mark.parametrize("memory_gib", [2.0, 80.0])
def test_the_largest_batch_of_a_board_is_where_a_run_begins_to_say_it_may_not_fit(monkeypatch, tmp_path, memory_gib):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    plug_in(monkeypatch, tmp_path, [Board("NVIDIA H100 80GB HBM3", memory_gib)])
    check = board_memory_check("auto", device_of("auto"), tmp_path / "runs.csv")
    lead, sizes = check.found.split(": largest batch of the CNN of depth 3, 32 base filters: ")
    assert lead == gib_text(memory_gib * 2**30)
    surely, probably = (int(word.split()[0].replace(",", "")) for word in sizes.split("y, "))
    assert 0 < surely < probably
    assert check.status == "ok"
    assert check_fits(RunSpec(batch_size=surely), []) is None
    for size in (surely + 1, probably, probably + 1):
        assert check_fits(RunSpec(batch_size=size), []).startswith("may not fit: ")


def test_a_board_without_room_for_the_default_cnn_is_a_warning_and_one_of_unknown_memory_unknown(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, [Board("NVIDIA T", 1.0)])
    check = board_memory_check("auto", device_of("auto"), tmp_path / "runs.csv")
    assert (check.status, check.found.split(": ")[-1]) == ("warning", "none surely, none probably")
    plug_in(monkeypatch, tmp_path, [Board("NVIDIA T", None)])
    assert board_memory_check("auto", device_of("auto"), tmp_path / "runs.csv").status == "unknown"
    refused = Device("gpu", "NVIDIA T", refusal=Refusal("it is gone", "restart the box"))
    assert board_memory_check("auto", refused, tmp_path / "runs.csv").status == "unknown"


def test_a_gpu_that_cuda_alone_reports_can_be_measured_without_its_energy():
    why = "the Python package nvidia-ml-py is not installed"
    check = device_check("auto", Device("gpu", "NVIDIA X", problems=(why,)), has_driver=False)
    assert check.status == "warning" and why in check.found and "NVIDIA X" in check.found
    assert "no energy" in check.remedy


def test_a_gpu_without_a_name_is_a_warning_and_a_refused_one_a_problem():
    unnamed = Device("gpu", "unknown GPU 1f2e3d4c", is_named=False, why_unnamed="nvmlDeviceGetName: no name: ''")
    check = device_check("auto", unnamed, has_driver=True)
    assert check.status == "warning" and "nvmlDeviceGetName" in check.found
    refused = replace(unnamed, refusal=Refusal("it is gone", "restart the box"))
    check = device_check("auto", refused, has_driver=True)
    assert (check.status, check.found) == ("problem", "it is gone")
    assert check.remedy == "restart the box; --device cpu measures the processor"


def test_only_what_keeps_a_name_unknown_is_said_of_it():
    why = "nvmlDeviceGetName: no name: ''"
    problems = ("nvmlDeviceGetHandleByIndex(2): GPU is lost", why)
    unnamed = Device("gpu", "unknown GPU 1f2e3d4c", is_named=False, problems=problems, why_unnamed=why)
    check = device_check("auto", unnamed, True)
    assert "no name (nvmlDeviceGetName: no name: '')" in check.found


@pytest.mark.parametrize("limit_w", [None, 300.0])
def test_an_estimate_of_energy_is_promised_only_where_there_is_a_power_limit(limit_w):
    check = energy_check(Gpu(power_limit_w=limit_w))
    assert check.status == "warning"
    assert ("estimate" in check.found) == (limit_w is not None)
    assert ("no energy" in check.found) == (limit_w is None)


@pytest.mark.parametrize("limit_w", [3.0, 4900.0])
def test_a_limit_that_no_row_would_have_is_not_shown_and_promises_nothing(limit_w):
    told = {"power_limit_w": limit_w, "sm_clock_mhz": 1980.0}
    gpu = Gpu("NVIDIA H200", **told)
    assert "no energy" in energy_check(gpu).found
    assert "limit" not in clocks_check(gpu).found
    assert "estimate" in energy_check(Gpu(**told)).found  # of a board that the facts do not know it may be right


@pytest.mark.parametrize(("watts", "shown"), [(320.0, "; 320 W now"), (3.7e6, ""), (0.001, "")])
def test_a_power_that_no_board_draws_is_not_shown(watts, shown):
    for name in ("NVIDIA H200", None):
        assert energy_check(Gpu(name, energy_j=5.0, power_instant_w=watts)).found == (
            f"energy counter, power at an instant{shown}"
        )


def test_cuda_libraries_are_found_as_packages_or_in_the_system(monkeypatch):
    monkeypatch.setattr(cuda_packages, "installed", {"nvidia-cudnn-cu12": "9.28.0"}.get)
    assert cuda_libraries_check("tensorflow").found == "nvidia-cudnn-cu12 9.28.0"
    assert status_and_remedy(cuda_libraries_check("jax"))[0] == "problem"
    monkeypatch.setattr(cuda_packages, "installed", lambda name: None)
    for library, status in ((None, "problem"), ("libcudnn.so.9", "ok")):
        monkeypatch.setattr("ctypes.util.find_library", lambda name, library=library: library)
        assert status_and_remedy(cuda_libraries_check("tensorflow"))[0] == status
    assert cuda_libraries_check("openvino").status == "unknown"


@pytest.mark.parametrize(
    ("packages", "status"),
    [
        ({"torch": "2.13.0+cpu", "nvidia-cudnn-cu12": "9.28.0"}, "problem"),  # TensorFlow's, not torch's
        ({"torch": "2.13.0+rocm6.4"}, "problem"),
        ({"torch": "2.13.0+cu130"}, "ok"),
        ({"torch": "2.13.0", "nvidia-cudnn-cu13": "9.28.0"}, "ok"),
        ({"torch": "2.13.0"}, "unknown"),
        ({"torch": "2.13.0a0+872d972e41.nv26.08"}, "unknown"),  # a container's own build
    ],
)
def test_whether_torch_has_cuda_is_read_off_its_build(monkeypatch, packages, status):
    monkeypatch.setattr(cuda_packages, "installed", packages.get)
    assert status_and_remedy(cuda_libraries_check("torch"))[0] == status


# --- the host ---------------------------------------------------------------------------------------------------------


def test_a_busy_host_is_a_warning_and_for_a_run_on_a_lost_processor_a_problem():
    cores = cpu_count()
    shares = {0.05: ("ok", "ok"), 0.2: ("warning", "ok"), 0.6: ("problem", "warning")}
    for share, statuses in shares.items():
        found = tuple(status_and_remedy(host_load_check(share * cores, 1.0, kind))[0] for kind in ("cpu", "gpu"))
        assert found == statuses
    assert host_load_check(None, None, "cpu").status == "unknown"


def test_granted_time_below_the_cores_and_a_saving_governor_are_warned_of(monkeypatch):
    assert processor_check("cpu").status in ("ok", "warning")
    monkeypatch.setattr(box_checks, "cpu_quota_cores", lambda: cpu_count() / 2)
    monkeypatch.setattr(box_checks, "cpu_governor", lambda: "powersave")
    status, remedy = status_and_remedy(processor_check("cpu"))
    assert status == "warning" and "--cpuset-cpus" in remedy and "cpupower" in remedy
    assert "cpupower" not in (processor_check("gpu").remedy or "")
    monkeypatch.setattr(box_checks, "cpu_quota_cores", lambda: float(cpu_count()))
    assert processor_check("gpu").status == "ok"


def test_memory_too_small_for_the_images_is_a_problem(monkeypatch):
    for available, status in ((64 << 30, "ok"), (1 << 30, "warning"), (1 << 29, "problem"), (None, "unknown")):
        monkeypatch.setattr(box_checks, "memory_bytes", lambda available=available: (64 << 30, available))
        assert status_and_remedy(memory_check())[0] == status


def test_a_slow_clock_is_warned_of(monkeypatch):
    assert status_and_remedy(clock_check())[0] == "ok"
    ticks = iter(range(10**9))
    monkeypatch.setattr(box_checks.time, "perf_counter", lambda: next(ticks) * 1e-4)
    assert status_and_remedy(clock_check())[0] == "warning"


def test_energy_of_the_processor_hidden_from_users_comes_with_its_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(box_checks, "POWERCAP", tmp_path)
    monkeypatch.setattr(box_checks, "open_rapl", lambda: None)
    assert cpu_energy_check().status == "unknown"
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "energy_uj").write_text("1")
    monkeypatch.setattr(box_checks.os, "access", lambda path, mode: False)  # root may read anything
    status, remedy = status_and_remedy(cpu_energy_check())
    assert status == "warning" and "chmod" in remedy


# --- files ------------------------------------------------------------------------------------------------------------


def test_folders_that_can_t_be_written_are_named(tmp_path, monkeypatch):
    assert folders_check((tmp_path / "a" / "results", tmp_path / "a" / "logs")).status == "ok"
    assert not list(tmp_path.iterdir())  # nothing is left behind
    (tmp_path / "file").touch()
    status, remedy = status_and_remedy(folders_check((tmp_path / "file" / "results", tmp_path)))
    assert status == "problem" and "EPOCHCAST_HOME" in remedy

    def refuse(number):
        def temporary_file(**kwargs):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(tempfile, "TemporaryFile", temporary_file)
        return folders_check((tmp_path,))

    assert refuse(errno.EROFS).found == f"{tmp_path}: Read-only file system"
    full = refuse(errno.ENOSPC)
    assert (full.status, "were the disk not full" in full.found) == ("ok", True)  # the disk's check judges


def test_a_folder_that_may_not_be_entered_is_a_problem_with_a_remedy(quiet_box, monkeypatch, capsys):
    closed = quiet_box / "closed"
    exists = Path.exists

    def refuse(path, *more):
        if closed in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))  # root may enter any
        return exists(path, *more)

    monkeypatch.setattr(Path, "exists", refuse)
    paths = ["--runs", str(closed / "results" / "runs.csv"), "--log_dir", str(closed / "logs")]
    answer = run_cli(doctor.main, *paths, "--data_dir", closed / "images", "--json", code=1).json
    checks = {check["name"]: check for check in answer["checks"]}
    for name in ("folders", "disk", "table", "data"):
        assert checks[name]["status"] == "problem"
        assert "Permission denied" in checks[name]["found"]
        assert str(closed) in checks[name]["found"]
        assert checks[name]["remedy"]
    assert doctor.main(paths) == 1
    assert "NOT FIT to measure: folders, disk, table" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (4000, "under 1 MiB"),
        (1 << 20, "1.00 MiB"),
        (100 << 20, "100 MiB"),
        (1 << 30, "1.00 GiB"),
        (80 << 30, "80.0 GiB"),
    ],
)
def test_sizes_are_told_in_a_unit_that_fits_them(n_bytes, text, monkeypatch, tmp_path):
    monkeypatch.setattr(box_checks.os, "statvfs", lambda path: SimpleNamespace(f_bavail=n_bytes, f_frsize=1))
    assert disk_check(tmp_path).found.startswith(f"{text} free at ")


def test_a_full_disk_is_a_problem_and_a_nearly_full_one_a_warning(tmp_path, monkeypatch):
    for free, status in ((100 << 30, "ok"), (100 << 20, "warning"), (1000, "problem")):
        space = SimpleNamespace(f_bavail=free, f_frsize=1)
        monkeypatch.setattr(box_checks.os, "statvfs", lambda path, space=space: space)
        check = disk_check(tmp_path / "results" / "deep")
        assert status_and_remedy(check)[0] == status
        assert str(tmp_path) in check.found


def test_a_table_of_the_present_schema_is_well_and_an_older_one_is_to_be_migrated(tmp_path):
    runs = tmp_path / "runs.csv"
    assert table_check(runs).status == "ok"
    assert not runs.exists()
    append_row(runs, run_row())
    assert status_and_remedy(table_check(runs))[0] == "ok"
    assert "1 rows" in table_check(runs).found
    older = ",".join(columns(RunRecord)[:35]) + "\n"
    runs.write_text(older)
    status, remedy = status_and_remedy(table_check(runs))
    assert status == "problem" and remedy == f"epochcast migrate --runs {runs}"
    assert runs.read_text() == older


def test_exclusions_are_counted_and_one_of_an_unknown_run_is_a_problem(tmp_path):
    runs = tmp_path / "runs.csv"
    for run_id in ("r1", "r2"):
        append_row(runs, run_row(run_id=run_id))
    append_row(tmp_path / "excluded.csv", Exclusion("r2", "a slip", "2026-01-01"))
    check = table_check(runs)
    assert (check.status, check.found) == ("ok", f"{runs}: 2 rows of the present schema, 1 of them excluded")
    append_row(tmp_path / "excluded.csv", Exclusion("ghost", "a slip", "2026-01-01"))
    check = table_check(runs)
    assert status_and_remedy(check)[0] == "problem"
    assert "ghost" in check.found


def test_a_broken_table_or_table_of_failures_is_a_problem_that_names_the_file(tmp_path):
    runs = tmp_path / "runs.csv"
    append_row(runs, run_row())
    failures = tmp_path / "failures.csv"
    failures.write_text(header_line(FailureRecord) + "half a row\n")
    check = table_check(runs)
    assert status_and_remedy(check)[0] == "problem"
    assert str(failures) in check.found
    failures.unlink()
    fits = tmp_path / "fits.csv"
    append_row(fits, fit_row())
    assert table_check(runs).found.endswith(", 1 estimates and fits beside it")
    fits.write_text("half a header\n")
    check = table_check(runs)
    assert status_and_remedy(check)[0] == "warning"
    assert str(fits) in check.found
    fits.unlink()
    runs.write_text("")
    assert table_check(runs).status == "problem"
    runs.unlink()
    runs.mkdir()
    assert table_check(runs).status == "problem"


def test_images_are_looked_for_where_a_run_does_and_never_fetched(tmp_path, monkeypatch):
    for name, value in (("EPOCHCAST_REFERENCE_DATA", "none"), ("KERAS_HOME", "keras")):
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.delenv("EPOCHCAST_DATA_DIR", raising=False)
    status, remedy = status_and_remedy(data_check(None))
    assert status == "warning" and "--data_dir" in remedy
    assert not (tmp_path / "keras").exists()
    assert status_and_remedy(data_check(tmp_path / "nowhere"))[0] == "problem"
    images = tmp_path / "images"
    images.mkdir()
    assert "no known form" in data_check(images).found
    for n in range(10):
        assert status_and_remedy(data_check(images))[0] == "problem"
        (images / "train" / str(n)).mkdir(parents=True)
    assert status_and_remedy(data_check(images)) == ("ok", "")
    batches = tmp_path / "batches"
    batches.mkdir()
    for n in range(1, 6):
        (batches / f"data_batch_{n}").touch()
        assert (data_check(batches).status == "ok") == (n == 5)
    archive = tmp_path / "cifar.npz"
    archive.touch()
    assert str(archive) in data_check(archive).found


# --- versions ---------------------------------------------------------------------------------------------------------


def test_the_backend_is_what_keras_will_take(tmp_path):
    assert backend_name({"KERAS_BACKEND": "jax"}) == "jax"
    home = {"KERAS_HOME": str(tmp_path)}
    assert backend_name(home) == "tensorflow"
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    assert backend_name(home) == "torch"
    (tmp_path / "keras.json").write_text("[]")
    assert backend_name(home) == "tensorflow"


def test_a_missing_backend_is_a_problem(monkeypatch):
    for module in (framework_checks, installed):
        monkeypatch.setattr(module, "first_installed", lambda names: None if "torch" in names else "1.0")
    assert versions_check("tensorflow").status == "ok"
    status, remedy = status_and_remedy(versions_check("torch"))
    assert status == "problem" and remedy == "pip install 'epochcast[torch]', or set KERAS_BACKEND=tensorflow"
    assert status_and_remedy(versions_check("theano"))[0] == "problem"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("pytorch", "torch"),
        ("PyTorch", "torch"),
        ("Torch", "torch"),
        ("tensorflw", "tensorflow"),
        ("TensorFlow", "tensorflow"),
        ("tf", "tensorflow"),
        ("jaxx", "jax"),
        ("JAX ", "jax"),
    ],
)
def test_a_misspelt_backend_is_asked_about(monkeypatch, name, meant):
    status, remedy = status_and_remedy(versions_check(name))
    assert (status, remedy) == ("problem", f"did you mean KERAS_BACKEND={meant}?")
    monkeypatch.setenv("KERAS_BACKEND", name)
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    with pytest.raises(ValueError, match=f"no backend that trains.*did you mean KERAS_BACKEND={meant}") as caught:
        installed.require_backend()
    assert len(str(caught.value)) <= 200


@pytest.mark.parametrize("name", ["theano", "numpy", "x" * 1000, "\x1b[31m", "nonsense"])
def test_another_name_than_a_backend_s_is_one_short_line(monkeypatch, name):
    monkeypatch.setenv("KERAS_BACKEND", name)
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    with pytest.raises(ValueError, match="set KERAS_BACKEND=tensorflow") as caught:
        installed.require_backend()
    assert len(str(caught.value)) <= 200 and str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[]", "holds no JSON object"),
        ("5", "holds no JSON object"),
        ('{"floatx": "bfloat16"}', "floatx is none of float16, float32, float64"),
        ('{"floatx": []}', "floatx is none of"),
        ('{"image_data_format": "channels"}', "image_data_format is none of channels_last, channels_first"),
        ('{"epsilon": 1}', "epsilon is no number with a decimal point"),
        ("{", None),
        ('{"epsilon": 1e-6, "floatx": "float32", "image_data_format": "channels_last", "of_tomorrow": 1}', None),
    ],
)
def test_settings_that_keras_does_not_start_with_are_named_with_their_file(tmp_path, monkeypatch, text, found):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    (tmp_path / "keras.json").write_text(text)
    if found is None:
        installed.require_backend()
        return
    with pytest.raises(ValueError, match="Keras does not start with it") as caught:
        installed.require_backend()
    assert str(tmp_path / "keras.json") in str(caught.value) and found in str(caught.value)


def test_a_run_and_an_explanation_name_a_misspelt_backend_in_one_line(tmp_path):
    """Each starts a process that reads the setting before any framework starts."""
    network = tmp_path / "x.keras"
    with zipfile.ZipFile(network, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "module": "keras", "config": {}}))
    for command in (["run", "--device", "cpu", "--epochs", "2"], ["explain", "--network", network]):
        done = subprocess.run(
            [sys.executable, "-m", "epochcast", *command],
            env={**os.environ, "KERAS_BACKEND": "pytorch", "EPOCHCAST_HOME": str(tmp_path)},
            cwd=CODE_ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode in (1, 2)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
        assert len(errors) == 1 and "did you mean KERAS_BACKEND=torch?" in errors[0]
        assert "Traceback" not in done.stderr


def test_deep_starts_the_framework_and_tells_its_device(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # the quicker one
    monkeypatch.setenv("PYTHONPATH", lean_keras(tmp_path))
    check = deep_check("cpu")
    assert check.status == "ok", check
    assert check.found.startswith("jax trains on ")


def test_a_framework_that_does_not_start_is_a_problem_with_its_last_words(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "no_such_backend")
    check = deep_check("cpu")
    assert check.status == "problem"
    assert "no_such_backend" in check.found
