"""Which device a run uses on 50-odd boxes, and that names, ids, resumption, models and plans follow from it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pynvml
import pytest

from epochcast.collect.checks.gpu import device_check
from epochcast.collect.grid.grid_loop import GridOptions, run_grid
from epochcast.collect.grid.specs import grid_runs, names_of_run
from epochcast.collect.records.names import spec_id
from epochcast.collect.run import devices
from epochcast.collect.run.devices import choose_devices
from epochcast.collect.run.listener import Listener
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import RunRefusedError, run
from epochcast.facts.tables import gpus
from epochcast.gpus.lookup import box_name_for, is_same_device, known_gpu, other_gpu_uuid
from epochcast.machine.gpu.driver_names import clean_name
from epochcast.machine.gpu_driver import box_device_name, device_of, environment_of, gpu_of, open_driver, refusal_notes
from epochcast.machine.host.host import cpu_name
from epochcast.model import explain, next_runs, predict_perf
from epochcast.model.time_model.saved_model import choose_model
from epochcast.model.training.save import default_model_path
from epochcast.paths import CODE_ROOT, models_dir
from epochcast.planner import dp_budget_planner, run_plan
from epochcast.storage.table_appends import append_row
from tests.support.light_child import isolate, light_spec
from tests.support.machines import fake_nvml
from tests.support.machines.boxes import Board, cuda_library, mig_uuid_of, plug_in, uuid_of
from tests.support.plans import LIGHT, light_run, write_plan
from tests.support.rows import BOX, run_row

A100, OLD_A100 = "NVIDIA A100-SXM4-40GB", "A100-SXM4-40GB"
H200, L4 = Board("NVIDIA H200", 140.4), Board("NVIDIA L4", 22.5, 72.0)
TWO = [H200, L4]
MIG = Board(
    A100,
    40.0,
    instances=(Board("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 5.0), Board("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 20.0)),
)
LOST = [replace(H200, lost=pynvml.NVML_ERROR_GPU_IS_LOST), L4]
GARBAGE = b"\xf8\x9f\xb0"
UNDECODABLE = UnicodeDecodeError("utf-8", GARBAGE, 0, 1, "invalid start byte")
SEEN, ORDER, IN_CONTAINER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES"
CPU, UNKNOWN = "the processor", "an unknown GPU"


@dataclass(frozen=True)
class Box:
    """A driver, an environment, a `--device`, and the device that a run then uses."""

    id: str
    name: str
    boards: list | None = None
    device: str = "auto"
    environ: dict = field(default_factory=dict)
    refusal: str | None = None  # words of its cause or remedy
    uuid: str | None = None
    more: dict = field(default_factory=dict)


def hidden(value, **more):
    return Box(f"{SEEN}={value!r}", CPU, TWO, environ={SEEN: value}, refusal=f"{SEEN}={value!r} hides", **more)


def seen(value, name, place, **more):
    return Box(f"{SEEN}={value}", name, TWO, environ={SEEN: value}, uuid=uuid_of(place), **more)


def failing(code):
    name = next(n for n, v in vars(pynvml).items() if n.startswith("NVML_ERROR_") and v == code)
    return Box(f"init {name}", CPU, [], refusal="the NVIDIA driver does not answer", more={"init": code})


INIT_CODES = [
    value
    for name, value in sorted(vars(pynvml).items())
    if name.startswith("NVML_ERROR_") and value != pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
]
BOXES = [
    # one GPU, two GPUs
    Box("plain", CPU),
    Box("plain, hidden", CPU, environ={SEEN: ""}),
    Box("one GPU", A100, [Board(A100, 40.0)], uuid=uuid_of(0)),
    Box("renamed", OLD_A100, [Board(OLD_A100, 40.0)], uuid=uuid_of(0)),
    Box("one GPU, --device cpu", CPU, TWO, "cpu"),
    Box("two GPUs", "NVIDIA H200", TWO, uuid=uuid_of(0)),
    Box("gpu:1", "NVIDIA L4", TWO, "gpu:1", uuid=uuid_of(1)),
    Box("gpu:1, whatever is visible", "NVIDIA L4", TWO, "gpu:1", {SEEN: "0", ORDER: "FASTEST_FIRST"}, uuid=uuid_of(1)),
    Box("gpu:2 of two", UNKNOWN, TWO, "gpu:2", refusal="--device gpu:2 is none of: NVIDIA H200, NVIDIA L4"),
    Box("a UUID", "NVIDIA L4", TWO, uuid_of(1), uuid=uuid_of(1)),
    Box("a UUID of none", UNKNOWN, TWO, "GPU-77", refusal="none of"),
    Box("bytes", "NVIDIA L4", [Board(b"NVIDIA L4", 22.5)], uuid=uuid_of(0)),
    # CUDA_VISIBLE_DEVICES
    seen("1", "NVIDIA L4", 1),
    seen("1,0", "NVIDIA L4", 1),
    seen(" 1 , 0", "NVIDIA L4", 1),
    seen("1x", "NVIDIA L4", 1),
    seen("0,-1,1", "NVIDIA H200", 0),
    seen("0,7", "NVIDIA H200", 0),
    seen("0,GPU-1", "NVIDIA H200", 0),
    seen("GPU-1", "NVIDIA L4", 1),
    seen(uuid_of(1).lower().replace("gpu", "GPU"), "NVIDIA L4", 1),
    hidden(""),
    hidden("-1"),
    hidden("-1,0"),
    hidden("NoDevFiles"),
    hidden("none"),
    hidden("void"),
    hidden("all"),
    hidden(" "),
    hidden(","),
    hidden("2"),
    hidden("9" * 30),
    hidden("1,1"),
    hidden("GPU-1,GPU-10"),
    hidden("GPU-"),
    hidden("GPU-7"),
    hidden("MIG-1"),
    Box("by speed, two models", UNKNOWN, TWO, environ={ORDER: "FASTEST_FIRST"}, refusal="--device UUID"),
    Box("by speed, one model", "NVIDIA L4", [L4, L4], environ={ORDER: "FASTEST_FIRST"}, uuid=uuid_of(0)),
    Box("by speed, a UUID", "NVIDIA L4", TWO, environ={ORDER: "FASTEST_FIRST", SEEN: "GPU-1"}, uuid=uuid_of(1)),
    # instances
    Box("MIG, first instance", MIG.instances[0].name, [MIG], uuid=mig_uuid_of(0, 0)),
    Box("MIG by UUID", MIG.instances[1].name, [L4, MIG], environ={SEEN: "MIG-11"}, uuid=mig_uuid_of(1, 1)),
    Box("MIG by old name", MIG.instances[1].name, [MIG], f"MIG-{uuid_of(0)}/3/0", uuid=mig_uuid_of(0, 1)),
    Box("MIG without names", f"{A100} MIG", [replace(MIG, instances=(Board(None, 5.0),))], uuid=mig_uuid_of(0, 0)),
    Box("MIG named by the kernel", f"{A100} MIG", [Board(None, instances=(Board(None, 5.0),))], uuid=mig_uuid_of(0, 0),
        more={"proc": [A100]}),
    Box("MIG, whole GPU without a name", f"{A100} MIG", [Board(None, instances=(Board(A100, 5.0),))],
        uuid=mig_uuid_of(0, 0)),
    Box("MIG without an instance", f"{A100} MIG", [Board(A100, 40.0, is_cut=True)], uuid=uuid_of(0),
        refusal="make one: sudo nvidia-smi mig -i 0 -cgi 0 -C"),
    Box("MIG without an instance, second", f"{A100} MIG", [L4, Board(A100, 40.0, is_cut=True)], "gpu:1",
        uuid=uuid_of(1), refusal="or have it whole: sudo nvidia-smi -i 1 -mig 0"),
    Box("MIG without an instance, the other", "NVIDIA L4", [Board(A100, 40.0, is_cut=True), L4], uuid=uuid_of(1),
        environ={SEEN: "1"}),
    Box("MIG, whose instances are not told", f"{A100} MIG", [Board(A100, 40.0, is_cut=True)], uuid=uuid_of(0),
        more={"no_instance": pynvml.NVML_ERROR_NO_PERMISSION}),
    # addresses
    Box("no address", "NVIDIA H200", [H200, replace(L4, address=OSError())], uuid=uuid_of(0)),
    Box("no address of the first", "NVIDIA H200", [replace(H200, address=OSError()), L4], uuid=uuid_of(0)),
    Box("no address, all", "NVIDIA H200", [replace(b, address="x") for b in TWO], uuid=uuid_of(0)),
    Box("addresses of two formats", "NVIDIA L4",
        [replace(H200, address="00000000:0A:00.0"), replace(L4, address="0000:09:00.0")], uuid=uuid_of(1)),
    Box("addresses in small letters", "NVIDIA L4",
        [replace(H200, address="00000000:ff:00.0"), replace(L4, address="0000:1a:00.0")], uuid=uuid_of(1)),
    # nonsense
    Box("name of garbage", UNKNOWN, [Board(GARBAGE)], uuid=uuid_of(0)),
    Box("name not decoded", UNKNOWN, [Board(UNDECODABLE)], uuid=uuid_of(0)),
    *(
        Box(f"name {name!r}", UNKNOWN, [Board(name)], uuid=uuid_of(0))
        for name in ("", "  ", "N/A", "Unknown Error", "[Unknown Error]", "ERR!", "\x00\x01", "x" * 500, "G\x1b[31m")
    ),
    Box("name from the kernel", A100, [Board(GARBAGE)], uuid=uuid_of(0), more={"proc": [A100]}),
    Box("no UUID", "NVIDIA H200", [Board("NVIDIA H200", uuid=UNDECODABLE)]),
    Box("no UUID, asked by it", UNKNOWN, [Board("NVIDIA H200", uuid=UNDECODABLE)], "GPU-1", refusal="does not report"),
    Box("nothing but a GPU", UNKNOWN, [Board(UNDECODABLE, RuntimeError("x"), "x", uuid=b"\xff", address=OSError())]),
    # no usable GPU
    Box("no GPU", CPU, [], refusal="the NVIDIA driver lists no GPU"),
    Box("no GPU, variable set", CPU, [], environ={IN_CONTAINER: "none"}, refusal="the NVIDIA driver lists no GPU"),
    Box("lost GPU", CPU, [L4], refusal="does not answer for GPU 0: GPU is lost",
        more={"handle": pynvml.NVML_ERROR_GPU_IS_LOST}),
    Box("GPU broken", CPU, [L4], refusal="does not answer for GPU 0: RuntimeError: boom",
        more={"handle": RuntimeError("boom")}),
    Box("GPU exits", CPU, [L4], refusal="does not answer for GPU 0: SystemExit: 3", more={"handle": SystemExit(3)}),
    Box("no count", CPU, [L4], refusal="does not count its GPUs: RuntimeError: boom",
        more={"count": RuntimeError("boom")}),
    Box("first lost", UNKNOWN, LOST, refusal="GPU 0: GPU is lost"),
    Box("first lost, and asked", UNKNOWN, LOST, "gpu:0", refusal="or use --device gpu:1 (NVIDIA L4)"),
    Box("first lost, the other", "NVIDIA L4", LOST, "gpu:1", uuid=uuid_of(1)),
    Box("first lost, the other seen", "NVIDIA L4", LOST, environ={SEEN: "1"}, uuid=uuid_of(1)),
    Box("first lost, the other by UUID", "NVIDIA L4", LOST, uuid_of(1), uuid=uuid_of(1)),
    Box("first lost, a third", UNKNOWN, LOST, "gpu:2", refusal="gpu:2 is none of: GPU 0: GPU is lost, NVIDIA L4"),
    Box("second lost", "NVIDIA H200", [H200, replace(L4, lost=15)], uuid=uuid_of(0)),
    Box("first another user's", "NVIDIA L4", [replace(H200, lost=4), L4], uuid=uuid_of(1)),
    Box("first another user's, gpu:0", "NVIDIA L4", [replace(H200, lost=4), L4], "gpu:0", uuid=uuid_of(1)),
    Box("stray nvidia-smi", CPU, refusal="signs of an NVIDIA driver (nvidia-smi)", more={"smi": True}),
    Box("device files", CPU, refusal="/dev/nvidia0", more={"devices": ["dev/nvidia0"]}),
    Box("WSL2", CPU, refusal="LD_LIBRARY_PATH=/usr/lib/wsl/lib",
        more={"devices": ["dev/dxg", "usr/lib/wsl/lib/libnvidia-ml.so.1"]}),
    Box("WSL2 without NVIDIA", CPU, more={"devices": ["dev/dxg"]}),
    Box("kernel alone", "NVIDIA L4", refusal="library", uuid=uuid_of(0), more={"proc": ["NVIDIA L4"]}),
    Box("container without --gpus", CPU, environ={IN_CONTAINER: "all"}, refusal="--gpus all",
        more={"container": "docker"}),
    Box("container, void", CPU, environ={IN_CONTAINER: "void"}, more={"container": "docker"}),
    Box("container, none", CPU, [], environ={IN_CONTAINER: "none"}, refusal="NVIDIA_VISIBLE_DEVICES='none'",
        more={"container": "docker"}),
    Box("plain, gpu asked", UNKNOWN, device="gpu", refusal="there is no NVIDIA driver"),
    Box("mismatch", A100, [], uuid=uuid_of(0), refusal="reload the module", more={"init": 18, "proc": [A100]}),
    Box("binding breaks", CPU, [], refusal="RuntimeError: x", more={"init": RuntimeError("x")}),
    failing(pynvml.NVML_ERROR_DRIVER_NOT_LOADED),
    failing(pynvml.NVML_ERROR_UNKNOWN),
]  # fmt: skip


@pytest.fixture(params=BOXES, ids=[box.id for box in BOXES])
def box(request, monkeypatch, tmp_path):
    found = request.param
    plug_in(monkeypatch, tmp_path, found.boards, **found.more)
    for name, value in found.environ.items():
        monkeypatch.setenv(name, value)
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    return found


@pytest.fixture(scope="module")
def model(walks):
    """A model learned on an A100, trained once: by the last of the boxes below."""
    return Path(walks["renamed"]["model"])


def expected_name(box, found):
    if box.name == UNKNOWN:
        assert found.name.startswith("unknown GPU ") and len(found.name) == 20 and not found.is_named
        return found.name
    return cpu_name() if box.name == CPU else box.name


def test_there_are_boxes_enough():
    assert len({box.id for box in BOXES}) == len(BOXES) >= 80


@pytest.mark.parametrize("code", INIT_CODES)
def test_a_driver_that_does_not_start_is_refused_whatever_its_code(monkeypatch, tmp_path, code):
    """What follows from it, in the test below, is the same for two of the codes."""
    box = failing(code)
    plug_in(monkeypatch, tmp_path, box.boards, **box.more)
    found = device_of(box.device)
    assert (found.kind, found.name, found.uuid) == ("cpu", cpu_name(), None)
    assert found.refusal.is_certain and box.refusal in str(found.refusal)
    assert "measures the processor" in str(found.refusal) and not re.search(r"[.:;][.:;]", str(found.refusal))
    check = device_check(box.device, found, False)
    assert check.status == "problem" and box.refusal in check.found
    with pytest.raises(ValueError, match="measures the processor"):
        choose_devices(box.device)


@pytest.mark.usefixtures("fast_disk")
def test_a_run_uses_one_device_and_every_part_names_it(box, model, monkeypatch, tmp_path):
    device = box.device
    found = device_of(device)
    name = expected_name(box, found)
    assert found.name == box_device_name(device) == name
    assert found.kind == ("cpu" if box.name == CPU else "gpu")
    assert found.uuid == box.uuid
    assert (found.refusal is None) == (box.refusal is None)
    # the meter's GPU is that of the names
    driver = open_driver(device)
    gpu = None if driver is None else gpu_of(driver, device)
    if gpu is not None:
        own = gpu.instance or gpu
        assert (own.uuid, gpu.memory_total_bytes()) == (found.uuid, found.memory_bytes)
        assert own.name is None or found.name in (own.name, f"{own.name} MIG")
    # doctor and run say the same of a box that can't measure; nothing is started
    check = device_check(device, found, driver is not None)
    assert "\x1b" not in check.found + (check.remedy or "")
    runs, logs = tmp_path / "runs.csv", tmp_path / "logs"
    if box.refusal is not None:
        assert check.status == "problem"
        assert box.refusal in f"{check.found}. {check.remedy}"
        assert "--device cpu measures the processor" in check.remedy
        assert "Install the GPU build" not in str(found.refusal)
        with pytest.raises(RunRefusedError if found.refusal.is_certain else OSError) as refused:
            run(light_spec(device=device), "r", RunPlace(runs, logs, child=("/nowhere",)))
        if found.refusal.is_certain:  # else it is the framework that knows
            assert found.refusal.cause in str(refused.value) and not logs.exists()
            with pytest.raises(ValueError, match="measures the processor"):
                choose_devices(device)
    else:
        assert check.status in ("ok", "warning") and name in check.found
    # a grid done on this device is done; one done on another is not
    specs = [light_spec(device=device, batch_size=b) for b in (16, 32)]
    (first, second) = grid_runs(specs, 1, {})
    other = f"{spec_id(specs[1], 'NVIDIA Fake 7')}-r1"
    for item, run_id in ((first, f"{spec_id(specs[0], name)}-r1"), (second, other)):
        row = run_row(config=(1, 2, item.spec.batch_size), run_id=run_id, conditions=replace(BOX, device_name=name))
        append_row(runs, row)
    lines = []
    if found.refusal is not None and found.refusal.is_certain:  # before any estimate, which would be of another device
        with pytest.raises(RunRefusedError, match=re.escape(found.refusal.cause)):
            run_grid([first, second], RunPlace(runs, logs), GridOptions(is_dry=True), Listener(report=lines.append))
        assert not lines and refusal_notes(device) == [f"this box would refuse a run: {found.refusal}"]
    else:
        assert run_grid([first, second], RunPlace(runs, logs), GridOptions(is_dry=True)).n_done_before == 1
        assert refusal_notes(device) == []
    assert run_grid([first], RunPlace(runs, logs), GridOptions(is_dry=True)).n_done_before == 1
    assert not re.search(r"[.:;][.:;]", str(found.refusal))
    # this box's own model answers, and no other's
    local = models_dir() / "own.keras"
    local.parent.mkdir(parents=True)
    for suffix in (".keras", ".json"):
        local.with_suffix(suffix).write_bytes(model.with_suffix(suffix).read_bytes())
    if device == "auto":  # also of a renamed board, an instance and an unknown GPU
        assert (choose_model().model.path == local) == is_same_device(name, A100)
    # a plan is of the device, and another device's is refused
    saved = write_plan(tmp_path / "plan.json", [light_run(16)], conditions=replace(LIGHT, device_name=name))
    assert (saved.chosen[0].planned.run_id.split("-plan-")[0] == spec_id(saved.chosen[0].planned.spec, name)) == (
        box_device_name(saved.chosen[0].planned.spec.device) == name
    )
    monkeypatch.setattr(run_plan, "carry_out", lambda plan, **more: pytest.fail("was begun"))
    other = write_plan(tmp_path / "other.json", [light_run(16)], conditions=replace(LIGHT, device_name="NVIDIA Fake 7"))
    assert run_plan.main([str(other.path)]) == 1


@pytest.mark.parametrize("name", [A100, OLD_A100, "NVIDIA A100-SXM-40GB", "A100-SXM-40GB"])
@pytest.mark.parametrize("before", [A100, OLD_A100, "A100-SXM-40GB"])
def test_a_driver_that_renames_a_board_changes_nothing(monkeypatch, tmp_path, name, before):
    plug_in(monkeypatch, tmp_path, [Board(name, 40.0)])
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    specs = [light_spec(batch_size=b) for b in (16, 32, 64)]
    for spec in specs[:2]:
        row = run_row(config=(1, 2, spec.batch_size), run_id=f"{spec_id(spec, before)}-r1")
        append_row(tmp_path / "runs.csv", replace(row, device_name=before))
    result = run_grid(
        grid_runs(specs, 1, {}), RunPlace(tmp_path / "runs.csv", tmp_path / "logs"), GridOptions(is_dry=True)
    )
    assert result.n_done_before == 2
    paths = {default_model_path(replace(BOX, device_name=n), tmp_path) for n in (name, before)}
    assert len(paths) == 1
    begun = []
    monkeypatch.setattr(run_plan, "carry_out", lambda plan, *_, **more: begun.append(plan) or pytest.skip("begun"))
    saved = write_plan(tmp_path / "plan.json", [light_run(16)], conditions=replace(LIGHT, device_name=before))
    assert saved.differences(run_row(conditions=replace(LIGHT, device_name=name))) == ""
    with pytest.raises(pytest.skip.Exception):
        run_plan.main([str(saved.path)])
    assert begun


@pytest.mark.parametrize("boards", [TWO, None])
def test_a_plan_for_the_processor_of_a_box_with_a_gpu_is_carried_out(monkeypatch, tmp_path, boards):
    plug_in(monkeypatch, tmp_path, boards)
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    begun = []
    monkeypatch.setattr(run_plan, "carry_out", lambda plan, *_, **more: begun.append(plan) or pytest.skip("begun"))
    saved = write_plan(tmp_path / "plan.json", [light_run(16)], conditions=replace(LIGHT, device_name=cpu_name()))
    with pytest.raises(pytest.skip.Exception):
        run_plan.main([str(saved.path)])
    assert begun
    assert box_name_for(cpu_name()) == cpu_name()
    assert box_name_for("NVIDIA H200") == box_name_for(None) == box_device_name()


@pytest.mark.parametrize(
    ("boards", "visible", "name", "uuid"),
    [
        (TWO, None, "L4", uuid_of(1)),
        (TWO, "0,1", "L4", uuid_of(1)),
        (TWO, f"1,{uuid_of(0)}", "NVIDIA H200", uuid_of(0)),
        ([L4, MIG], None, MIG.instances[1].name, mig_uuid_of(1, 1)),
        (TWO, None, "NVIDIA H200", None),  # every run uses it
        (TWO, "1", "L4", None),
    ],
)
def test_a_plan_for_any_visible_gpu_is_carried_out_on_it(monkeypatch, tmp_path, boards, visible, name, uuid):
    plug_in(monkeypatch, tmp_path, boards)
    if visible is not None:
        monkeypatch.setenv(SEEN, visible)
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    begun = []
    monkeypatch.setattr(run_plan, "carry_out", lambda plan, *_, **more: begun.append(plan) or pytest.skip("begun"))
    saved = write_plan(tmp_path / "plan.json", [light_run(16)], conditions=replace(LIGHT, device_name=name))
    with pytest.raises(pytest.skip.Exception):
        run_plan.main([str(saved.path)])
    (planned,) = begun
    assert planned.chosen[0].planned.spec.device == (uuid or "auto")
    assert is_same_device(device_of(planned.chosen[0].planned.spec.device).name, name)
    assert is_same_device(box_name_for(name), name)
    monkeypatch.setenv(SEEN, "-1")  # by now the GPU is somebody else's
    assert run_plan.main([str(saved.path)]) == 1
    assert len(begun) == 1


@pytest.mark.parametrize(
    ("boards", "name", "setting"),
    [
        (TWO, "L4", f"{SEEN}={uuid_of(1)}"),
        ([L4, MIG], MIG.instances[1].name, f"{SEEN}={mig_uuid_of(1, 1)}"),
        ([L4, MIG], A100, None),  # it is cut
        (LOST, "NVIDIA H200", None),
        (TWO, "NVIDIA Fake 7", None),
    ],
)
def test_a_plan_made_elsewhere_for_another_gpu_of_the_box_is_refused_with_its_setting(
    monkeypatch, tmp_path, capsys, boards, name, setting
):
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    plug_in(monkeypatch, tmp_path, [Board(name)])  # where it is the only one
    saved = write_plan(tmp_path / "plan.json", [light_run(16)], conditions=replace(LIGHT, device_name=name))
    plug_in(monkeypatch, tmp_path, boards)
    assert run_plan.main([str(saved.path)]) == 1
    error = capsys.readouterr().err
    assert (f"used ({setting})" in error) == (setting is not None) and "--any_conditions" in error
    if setting is not None:
        monkeypatch.setenv(*setting.split("="))
        assert is_same_device(box_device_name(), name)


@pytest.mark.parametrize("visible", ["0", "GPU-none", "", "0,x,1"])
def test_a_gpu_that_is_hidden_is_not_this_box_s(monkeypatch, tmp_path, model, visible):
    plug_in(monkeypatch, tmp_path, [L4, Board(A100, 40.0)])
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    monkeypatch.setenv(SEEN, visible)
    local = models_dir() / "own.keras"
    local.parent.mkdir(parents=True)
    for suffix in (".keras", ".json"):
        local.with_suffix(suffix).write_bytes(model.with_suffix(suffix).read_bytes())
    assert choose_model().model.path != local
    assert other_gpu_uuid(A100) is None


@pytest.mark.parametrize("boards", [[L4, Board(OLD_A100, 40.0)], [H200, L4, Board(A100, 40.0)]])
def test_a_model_of_another_gpu_of_the_box_answers_before_the_pretrained_one(
    monkeypatch, tmp_path, capsys, model, boards
):
    plug_in(monkeypatch, tmp_path, boards)
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    local = models_dir() / "own.keras"
    local.parent.mkdir(parents=True)
    for suffix in (".keras", ".json"):
        local.with_suffix(suffix).write_bytes(model.with_suffix(suffix).read_bytes())
    choice = choose_model()
    assert choice.model.path == local and choice.model.is_of_this_box
    assert f"of this box ({choice.model.device_name})" in choice.reason
    assert predict_perf.main(["--batch_size", "32"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"device: this box ({choice.model.device_name})")
    assert f"but a run that is not told another uses {boards[0].name}" in said


def test_a_renamed_board_is_answered_by_its_own_model(monkeypatch, tmp_path, model):
    plug_in(monkeypatch, tmp_path, [Board(OLD_A100, 40.0)])
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    local = models_dir() / "own.keras"
    local.parent.mkdir(parents=True)
    for suffix in (".keras", ".json"):
        local.with_suffix(suffix).write_bytes(model.with_suffix(suffix).read_bytes())
    assert choose_model().model.path == local


def test_runs_on_named_devices_keep_their_old_names_on_a_box_of_two(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, TWO)
    for device in ("cpu", "gpu:1", uuid_of(1)):
        (item,) = grid_runs([light_spec(device=device)], 1, {})
        assert f"{spec_id(item.spec, 'NVIDIA H200')}-r1" in names_of_run(item)
    (item,) = grid_runs([light_spec(device="auto")], 1, {})
    monkeypatch.setenv(SEEN, "1")
    assert item.run_id not in names_of_run(grid_runs([light_spec(device="auto")], 1, {})[0])


@pytest.mark.parametrize(
    ("boards", "measured", "environ", "device", "is_done"),
    [
        (TWO, "gpu:1", {SEEN: "1"}, "auto", True),
        (TWO, "gpu:1", {}, uuid_of(1), True),
        (TWO, uuid_of(1), {SEEN: uuid_of(1)}, "gpu", True),
        (TWO, "auto", {}, "gpu:0", True),
        (TWO, "gpu:0", {}, "auto", True),
        (TWO, "auto", {SEEN: "1"}, "auto", False),  # another board
        (TWO, "gpu:0", {}, "gpu:1", False),
        ([L4, L4], "gpu:0", {}, "gpu:1", False),  # two of one kind, asked for apart
        ([L4, L4], "gpu:0", {}, "auto", True),
        (None, "auto", {}, "cpu", True),
        (None, "cpu", {}, "auto", True),
        (TWO, "cpu", {}, "auto", False),
    ],
)
def test_a_grid_goes_on_by_whatever_word_its_device_is_asked_for(
    monkeypatch, tmp_path, boards, measured, environ, device, is_done
):
    plug_in(monkeypatch, tmp_path, boards)
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    (before,) = grid_runs([light_spec(device=measured)], 1, {})
    of_row = replace(BOX, device_name=box_device_name(measured))
    append_row(tmp_path / "runs.csv", run_row(config=(1, 2, 64), run_id=before.run_id, conditions=of_row))
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    again = grid_runs([light_spec(device=device)], 1, {})
    result = run_grid(again, RunPlace(tmp_path / "runs.csv", tmp_path / "logs"), GridOptions(is_dry=True))
    assert result.n_done_before == is_done


def test_an_unknown_gpu_equals_no_other_and_itself(monkeypatch, tmp_path):
    names = set()
    for place in range(3):
        plug_in(monkeypatch, tmp_path, [Board(GARBAGE)] * 3)
        names.add(box_device_name(f"gpu:{place}"))
        assert box_device_name(f"gpu:{place}") == box_device_name(uuid_of(place))
    assert len(names) == 3
    first, second, _ = sorted(names)
    assert not is_same_device(first, second)
    assert is_same_device(first, first) and known_gpu(first) is None


@pytest.mark.parametrize(
    ("name", "gib", "facts"),
    [
        ("NVIDIA GeForce RTX 3080", 10.0, "RTX 3080 10GB"),
        ("NVIDIA GeForce RTX 3080", 12.0, None),
        ("NVIDIA GeForce RTX 4090", 24.0, "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", 48.0, None),
        ("NVIDIA H200", 140.4, "H200 SXM"),
        ("NVIDIA H200", 2**70, "H200 SXM"),  # no memory at all: the name stands
    ],
)
def test_facts_of_another_memory_are_not_this_box_s(monkeypatch, tmp_path, name, gib, facts):
    plug_in(monkeypatch, tmp_path, [Board(name, gib)])
    gpu = known_gpu(box_device_name())
    assert (None if gpu is None else gpu.name) == facts


def test_the_framework_sees_the_gpu_of_the_answer_alone():
    assert environment_of("cpu", {}) == {SEEN: "-1", "JAX_PLATFORMS": "cpu", "KERAS_TORCH_DEVICE": "cpu"}
    assert environment_of("gpu:3", {SEEN: "0", ORDER: "FASTEST_FIRST"}) == {SEEN: "3", ORDER: "PCI_BUS_ID"}
    assert environment_of("auto", {SEEN: " 2 ,1"}) == {SEEN: "2", ORDER: "PCI_BUS_ID"}
    assert environment_of("auto", {}) == {SEEN: "0", ORDER: "PCI_BUS_ID"}
    assert environment_of("GPU-1", {SEEN: "0"}) == {SEEN: "GPU-1", ORDER: "PCI_BUS_ID"}


@pytest.mark.parametrize(("device", "environ"), [("gpu:1", {}), ("auto", {SEEN: "1"}), (uuid_of(1), {})])
def test_where_a_gpu_is_lost_the_framework_is_shown_the_other_by_its_uuid(monkeypatch, tmp_path, device, environ):
    plug_in(monkeypatch, tmp_path, LOST)
    assert environment_of(device, environ)[SEEN] == uuid_of(1)


@pytest.mark.parametrize("boards", [box.boards for box in BOXES if "address" in box.id])
def test_the_number_shown_to_the_framework_is_that_of_the_named_gpu(monkeypatch, tmp_path, boards):
    plug_in(monkeypatch, tmp_path, boards)
    assert device_of() == device_of("gpu:0") and environment_of("auto", {})[SEEN] == "0"
    assert {device_of("gpu:0").name, device_of("gpu:1").name} == {"NVIDIA H200", "NVIDIA L4"}


@pytest.mark.parametrize(
    ("by_driver", "by_framework", "is_refused"),
    [
        ("NVIDIA L4", "NVIDIA H200", True),
        ("NVIDIA L4", "NVIDIA A100-SXM4-40GB", True),
        ("NVIDIA L4", "L4", False),
        (A100, OLD_A100, False),
        ("NVIDIA GeForce RTX 3080", "GeForce RTX 3080", False),
        ("NVIDIA GeForce RTX 3080", "NVIDIA L4", True),
        ("NVIDIA L4", "NVIDIA Fake 7", False),  # what the facts do not know may be a new name
        (GARBAGE, "NVIDIA L4", False),
    ],
)
def test_a_framework_on_another_board_is_refused(monkeypatch, tmp_path, by_driver, by_framework, is_refused):
    plug_in(monkeypatch, tmp_path, [Board(by_driver, 22.5)])
    monkeypatch.setattr(devices, "_jax_gpu", lambda: (by_framework, True))
    if is_refused:
        with pytest.raises(ValueError, match=f"{by_driver} by its driver.*{by_framework}.*--device {uuid_of(0)}"):
            devices.resolve_device("jax", "auto")
    else:
        assert devices.resolve_device("jax", "auto")[0] == (by_framework if by_driver == GARBAGE else by_driver)


@pytest.mark.parametrize(
    ("backend", "variable", "value", "is_named"),
    [
        ("jax", "JAX_PLATFORMS", "cpu", True),
        ("jax", "JAX_PLATFORMS", "cuda,cpu", False),
        ("jax", "JAX_PLATFORMS", "", False),
        ("torch", "KERAS_TORCH_DEVICE", "cpu", True),
        ("torch", "KERAS_TORCH_DEVICE", "cuda:0", False),
        ("tensorflow", "JAX_PLATFORMS", "cpu", False),
    ],
)
def test_a_variable_that_hides_the_gpu_is_named(monkeypatch, tmp_path, backend, variable, value, is_named):
    plug_in(monkeypatch, tmp_path, [H200])
    monkeypatch.setattr(devices, f"_{backend}_gpu", lambda: (None, False))
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match="NVIDIA H200, but") as refused:
        devices.resolve_device(backend, "auto")
    assert (f"{variable}={value!r} keeps {backend} from it. Unset it" in str(refused.value)) == is_named


@pytest.mark.parametrize(
    ("main", "flags"),
    [
        (predict_perf.main, ["--depth", "2", "--base_filters", "16", "--batch_size", "64"]),
        (explain.main, ["--depth", "2", "--base_filters", "16", "--batch_size", "64"]),
        (next_runs.main, []),
        (dp_budget_planner.main, ["--budget_sec", "3600"]),
    ],
    ids=["predict_perf", "explain", "next_runs", "plan"],
)
@pytest.mark.parametrize("is_refused", [True, False])
def test_an_answer_says_that_the_box_would_refuse_a_run(monkeypatch, tmp_path, capsys, main, flags, is_refused):
    plug_in(monkeypatch, tmp_path, TWO)
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    monkeypatch.setenv(SEEN, "NoDevFiles" if is_refused else "1")
    main(flags)
    notes = [line for line in capsys.readouterr().err.splitlines() if "would refuse a run" in line]
    cause = (
        f"note: this box would refuse a run: {SEEN}='NoDevFiles' hides the GPUs of this box (NVIDIA H200, NVIDIA L4)"
    )
    assert len(notes) == is_refused and all(note.startswith(cause) for note in notes)


@pytest.mark.parametrize(
    ("boards", "environ", "more"),
    [
        (TWO, {SEEN: ",".join(f"GPU-{n}7777777-fa4e-0000-0000-000000000000" for n in range(16))}, {}),
        (TWO, {SEEN: "x\n\x1b[31m" * 100}, {}),
        (TWO, {ORDER: "x\n\x1b[31m" * 100}, {}),
        ([H200, replace(L4, uuid=UNDECODABLE)], {SEEN: f"GPU-{'7' * 1000}"}, {}),
        (None, {IN_CONTAINER: "x\n\x1b[31m" * 100}, {"container": "docker"}),
        ([L4] * 128, {SEEN: "-1"}, {}),
        ([L4] * 2, {}, {"handle": StopIteration()}),
        ([L4] * 2, {}, {"count": MemoryError()}),
    ],
)
def test_a_refusal_is_one_line_whatever_the_box_says(monkeypatch, tmp_path, boards, environ, more):
    plug_in(monkeypatch, tmp_path, boards, **more)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    refusal = str(device_of().refusal)
    assert len(refusal) <= 320 and refusal.isprintable()
    assert "measures the processor" in refusal and not re.search(r"(?<!\.)[.:;][.:;]", refusal.replace("...", "."))


def test_signs_that_may_not_be_looked_at_are_none(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path)

    def deny(path, **more):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", deny)
    monkeypatch.setattr(Path, "exists", deny)
    assert device_of().kind == "cpu" and device_of().refusal is None


def test_the_driver_is_asked_once(monkeypatch, tmp_path):
    plug_in(monkeypatch, tmp_path, TWO)
    asked = []
    module = sys.modules["pynvml"]
    monkeypatch.setattr(module, "nvmlInit", lambda: asked.append(1))
    for device in ("auto", "gpu", "gpu:0", "gpu:1", "cpu", "auto"):
        device_of(device)
        box_device_name(device)
    assert len(asked) == 1


NVML_TEXTS = [str(pynvml.NVMLError(code)) for code in (*pynvml.NVMLError._errcode_to_string, *INIT_CODES, 12345)]
OTHER_TEXTS = [
    *("No devices were found", "GPU requires reset", "GPU is lost", "cuda:0", "GPU:0", "gpu 0", "CudaDevice(id=0)"),
    *("Unable to determine the device handle for GPU0000:01:00.0", "Failed to initialize NVML", "[Not Found]"),
    *("unknown GPU 1234abcd", "UnknownError", "unknownGPU", "Unknown_Error", "NotSupported", "CUDA error 999", "TPU"),
]


@pytest.mark.parametrize("gpu", gpus(), ids=lambda gpu: gpu.name)
def test_the_name_of_every_board_is_one(gpu):
    for name in (gpu.name, *gpu.aliases, *([gpu.shared_name] if gpu.shared_name else [])):
        assert clean_name(f"NVIDIA {name}") == f"NVIDIA {name}"


@pytest.mark.parametrize("name", [*NVML_TEXTS, *OTHER_TEXTS])
def test_a_message_is_no_name(name):
    assert clean_name(name) is None
    assert clean_name(name.upper()) is None and clean_name(name.lower()) is None


@pytest.mark.parametrize("name", [GARBAGE, GARBAGE.decode("latin-1"), "\\xf8", "�", "", None, 3, "a", "x (2 cores)"])
def test_what_is_no_name_is_none(name):
    assert clean_name(name) is None


@pytest.mark.parametrize(
    ("driver", "variables", "name", "uuid", "is_refused"),
    [
        ({"boards": [Board(GARBAGE)] * 2}, {}, "NVIDIA L4", uuid_of(0), False),
        ({"boards": [Board(GARBAGE)] * 2}, {"FAKE_CUDA_NAME": "N/A"}, None, uuid_of(0), False),
        ({"boards": [Board(GARBAGE)] * 2}, {"FAKE_CUDA_CODE": "999"}, None, uuid_of(0), False),
        ({"boards": [], "init": 999}, {SEEN: "1"}, "NVIDIA L4", "GPU-10000000-0000-0000-0000-000000000000", False),
        ({"boards": [], "init": 18}, {"FAKE_CUDA_CODE": "803"}, cpu_name(), None, True),
        ({"smi": True}, {}, "NVIDIA L4", "GPU-00000000-0000-0000-0000-000000000000", False),
    ],
)
def test_cuda_is_asked_where_the_driver_s_library_does_not_say(
    monkeypatch, tmp_path, tmp_path_factory, driver, variables, name, uuid, is_refused
):
    plug_in(monkeypatch, tmp_path, **driver)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(cuda_library(tmp_path_factory)))
    for variable, value in {"FAKE_CUDA_NAME": "NVIDIA L4", **variables}.items():
        monkeypatch.setenv(variable, value)
    found = device_of()
    assert (found.uuid, found.refusal is not None) == (uuid, is_refused)
    assert found.name == name if name else found.name.startswith("unknown GPU ")


# --- through a real library -------------------------------------------------------------------------------------------

WALKS = [
    {"name": "the second of two", "steps": [
        [{"FAKE_NVML_NAMES": "NVIDIA H200,NVIDIA L4"}, [16]],
        [{"FAKE_NVML_NAMES": "NVIDIA H200,NVIDIA L4", SEEN: "1"}, [16, 64, 256]],
    ]},
    {"name": "an instance", "steps": [
        [{"FAKE_NVML_NAMES": A100, "FAKE_NVML_MODE": "mig", SEEN: fake_nvml.mig_uuid(0, 1)}, [16, 64, 256]],
    ]},
    {"name": "a name of garbage", "steps": [[{"FAKE_NVML_NAMES": os.fsdecode(GARBAGE)}, [16, 64, 256]]]},
    {"name": "renamed", "steps": [
        [{"FAKE_NVML_NAMES": OLD_A100}, [16, 64]],
        [{"FAKE_NVML_NAMES": A100}, [16, 64, 256]],
    ]},
]  # fmt: skip
SLOW_WALKS = ("an instance", "a name of garbage")


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    """What came of the whole way on two boxes."""
    return walked(tmp_path_factory, [box for box in WALKS if box["name"] not in SLOW_WALKS])


@pytest.fixture(scope="module")
def slow_walks(tmp_path_factory):
    """The same on two more."""
    return walked(tmp_path_factory, [box for box in WALKS if box["name"] in SLOW_WALKS])


def walked(tmp_path_factory, boxes):
    folder = fake_nvml.library(tmp_path_factory)
    environ = {name: value for name, value in os.environ.items() if name not in (SEEN, ORDER, "KERAS_BACKEND")}
    environ |= {**fake_nvml.environment(folder, memory_gib=37.25), "EPOCHCAST_DEBUG": "1"}
    walk = Path(__file__).with_name("support") / "machines" / "box_walk.py"
    command = [sys.executable, str(walk), str(tmp_path_factory.mktemp("walks"))]
    done = subprocess.run(
        command, input=json.dumps(boxes), env=environ, capture_output=True, text=True, timeout=300, cwd=CODE_ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip((box["name"] for box in boxes), json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize(
    ("name", "device", "uuid"),
    [
        ("the second of two", "NVIDIA L4", fake_nvml.gpu_uuid(1)),
        pytest.param("an instance", f"{A100} MIG 2g.20gb", fake_nvml.mig_uuid(0, 1), marks=pytest.mark.slow),
        pytest.param("a name of garbage", None, fake_nvml.gpu_uuid(), marks=pytest.mark.slow),
        ("renamed", A100, fake_nvml.gpu_uuid()),
    ],
)
def test_the_whole_way_is_of_one_device(request, name, device, uuid):
    box = request.getfixturevalue("slow_walks" if name in SLOW_WALKS else "walks")[name]
    device = device or box["device"]
    assert box["device"] == device and box["uuid"] == uuid
    *_, last = box["grids"]
    own = set(box["names"][-6:]) if name != "renamed" else set(box["names"])
    assert own == ({device} if name != "renamed" else {OLD_A100, A100})
    # what was measured before counts as measured, and only that
    assert all(grid["measured"] == 0 for grid in box["again"])
    assert last["measured"] == 2
    # a model of this device answers
    assert box["answer"]["this_box"] == device
    assert box["answer"]["device"] == device
    assert Path(box["model"]).name in str(box["answer"])
    assert box["plan"]["conditions"]["device_name"] == device
    assert box["run"][0] == box["resumed"][0] == 0
    if name == "renamed":
        assert box["sets"] == 1
