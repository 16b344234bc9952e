"""Boxes with other drivers, for tests in this process: faked at the edge of the driver's Python package.

    plug_in(monkeypatch, tmp_path, [Board("NVIDIA H200"), Board("NVIDIA L4")])  # two GPUs, by NVML alone
    plug_in(monkeypatch, tmp_path, proc=["NVIDIA H200"])                        # known to the kernel alone
    plug_in(monkeypatch, tmp_path)                                              # a plain box

What other processes are to see is faked by `fake_nvml`, a real library.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pynvml
import pytest

from epochcast.machine import gpu_driver
from epochcast.machine.gpu import driver_signs, nvml

GIB = 1 << 30
VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Board:
    """A GPU as its driver reports it: an exception is raised, a number is an error code of NVML."""

    name: object = "NVIDIA H200"
    gib: object = 80.0
    limit_w: object = 700.0
    instances: tuple[Board, ...] = ()
    is_cut: bool = False  # into instances, of which there may be none yet
    uuid: object = None  # None: by its place
    address: object = None
    lost: object = None  # answered, or raised, instead of its handle

    @property
    def is_mig(self) -> bool:
        return self.is_cut or bool(self.instances)


def uuid_of(place: int) -> str:
    return f"GPU-{place}0000000-fa4e-0000-0000-000000000000"


def mig_uuid_of(place: int, instance: int) -> str:
    return f"MIG-{place}{instance}000000-fa4e-0000-0000-000000000000"


def answer(value: object) -> object:
    if isinstance(value, BaseException):
        raise value
    if isinstance(value, int) and not isinstance(value, bool):
        raise pynvml.NVMLError(value)
    return value


class _Library:
    """Stands for the C library, whose functions are asked for power and clocks: it has none of them."""

    def __getattr__(self, name):
        return lambda *arguments: pynvml.NVML_ERROR_NOT_SUPPORTED


def binding(
    boards: Sequence[Board],
    init: object = None,
    count: object = None,
    handle: object = None,
    no_instance: object = None,
) -> ModuleType:
    """A module like pynvml whose driver has these boards; the other arguments are answered instead."""
    made = ModuleType("pynvml")
    vars(made).update({name: value for name, value in vars(pynvml).items() if not name.startswith("__")})

    def unsupported(*arguments):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    for name, value in vars(pynvml).items():
        if name.startswith("nvml") and callable(value):
            setattr(made, name, unsupported)

    def board_of(at):
        place, instance = at
        return boards[place] if instance is None else boards[place].instances[instance]

    def uuid(at):
        place, instance = at
        given = board_of(at).uuid
        default = uuid_of(place) if instance is None else mig_uuid_of(place, instance)
        return answer(default if given is None else given)

    def handle_of(index):
        answer(boards[index].lost if handle is None else handle)
        return (index, None)

    def handle_of_instance(at, number):
        answer(no_instance)
        if number >= len(boards[at[0]].instances):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return (at[0], number)

    def address(at):
        given = boards[at[0]].address
        return SimpleNamespace(busId=answer(f"00000000:{at[0] + 1:02X}:00.0" if given is None else given))

    def memory(at):
        gib = answer(board_of(at).gib)
        total = int(gib * GIB) if isinstance(gib, float) else gib
        return SimpleNamespace(total=total, used=0, free=total)

    def limit(at):
        watts = answer(board_of(at).limit_w)
        return 1000 * watts if isinstance(watts, float) else watts

    made.nvmlLib = _Library()
    made.nvmlInit = lambda: answer(init)
    made.nvmlShutdown = lambda: None
    made.nvmlSystemGetDriverVersion = lambda: "580.65.06"
    made.nvmlDeviceGetCount = lambda: len(boards) if count is None else answer(count)
    made.nvmlDeviceGetHandleByIndex = handle_of
    made.nvmlDeviceGetName = lambda at: answer(board_of(at).name)
    made.nvmlDeviceGetUUID = uuid
    made.nvmlDeviceGetPciInfo = address
    made.nvmlDeviceGetMemoryInfo = memory
    made.nvmlDeviceGetEnforcedPowerLimit = limit
    made.nvmlDeviceGetMigMode = lambda at: unsupported() if at[1] is not None else [int(boards[at[0]].is_mig)] * 2
    made.nvmlDeviceGetMaxMigDeviceCount = lambda at: 7 if boards[at[0]].is_mig else 0
    made.nvmlDeviceGetMigDeviceHandleByIndex = handle_of_instance
    made.nvmlDeviceGetGpuInstanceId = lambda at: 2 * at[1] + 1
    made.nvmlDeviceGetComputeInstanceId = lambda at: 0
    return made


def cuda_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds a fake `libcuda.so.1`, compiled at the first call of a test session."""
    folder = tmp_path_factory.getbasetemp() / "fake_cuda"
    if not folder.exists():
        if (compiler := shutil.which("cc", path="/usr/local/bin:/usr/bin:/bin")) is None:
            pytest.skip("no C compiler (cc) to build the fake CUDA library with")
        folder.mkdir()
        source = Path(__file__).with_name("fake_cuda.c")
        command = [compiler, "-Wall", "-Wextra", "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(source)]
        subprocess.run(command, check=True, timeout=60, env={"PATH": "/usr/local/bin:/usr/bin:/bin"})
    return folder


def plug_in(
    monkeypatch,
    tmp_path: Path,
    boards: Sequence[Board] | None = None,
    *,
    proc: Sequence[str | bytes] = (),
    smi: bool = False,
    devices: Sequence[str] = (),
    container: str | None = None,
    **driver: object,
) -> None:
    """Make this box one with such a driver; `boards` None: without its library. The environment names no GPU.

    Args:
        proc: models in /proc/driver/nvidia, whose UUIDs are those of the boards at their places.
        smi: whether nvidia-smi is on the PATH.
        devices: files below /, e.g. dev/nvidia0.
        container: the kind that this process seems to run in.
        driver: as for `binding`.
    """
    root = tmp_path / f"box-{len(list(tmp_path.glob('box-*')))}"
    kernel, tools = root / "proc" / "driver" / "nvidia", root / "bin"
    tools.mkdir(parents=True)
    if smi:
        (tools / "nvidia-smi").touch(mode=0o755)
    for name in devices:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for place, model in enumerate(proc):
        information = kernel / "gpus" / f"0000:{place + 1:02x}:00.0" / "information"
        information.parent.mkdir(parents=True)
        text = model if isinstance(model, bytes) else model.encode()
        information.write_bytes(b"Model: \t\t " + text + f"\nGPU UUID: \t {uuid_of(place)}\n".encode())
    if boards is None:
        driver = {"init": pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)}
    monkeypatch.setitem(sys.modules, "pynvml", binding(boards or (), **driver))
    monkeypatch.setattr(driver_signs, "ROOT", root)
    monkeypatch.setattr(driver_signs, "NVIDIA_PROC", kernel)
    monkeypatch.setattr(driver_signs, "container", lambda: container)
    for module in (driver_signs, nvml):
        monkeypatch.setattr(module, "has_nvml_library", lambda: boards is not None)
    monkeypatch.setenv("PATH", str(tools))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    gpu_driver.forget()
