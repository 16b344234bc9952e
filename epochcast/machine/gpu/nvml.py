"""The library of the NVIDIA driver (NVML): opened, its GPUs, and why it can't be used.

NVML needs no CUDA and no framework, and asking it does not touch a program that computes. It numbers the GPUs by their
PCI address; which of them a run uses is decided by `cuda_visible`. Only `gpu.nvidia` imports this.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

from epochcast.machine.gpu.cuda_visible import Listed, UnknownOrderError, seen_by
from epochcast.machine.gpu.driver_names import address_of, clean_version
from epochcast.machine.gpu.driver_signs import has_nvml_library
from epochcast.machine.gpu.nvml_answers import LONGEST_PROBLEM, count_of, words_of
from epochcast.machine.gpu.nvml_gpu import NvmlGpu

_CUDA_VERSIONS = range(1000, 100_000)  # 13020 is 13.2
NO_LIBRARY = "no NVIDIA driver: its library libnvidia-ml.so.1 is not found"


@dataclass(frozen=True, slots=True)
class NvmlFailure:
    """Why the driver's library can't be used, in words, with its error code; None: it was not the driver's answer."""

    words: str
    code: int | None = None


class Nvml:
    """The driver's library, open; `with` closes it."""

    runtime = "CUDA"

    def __init__(self, pynvml: ModuleType) -> None:
        self._pynvml = pynvml
        self.problems: dict[str, str] = {}  # query: what its package raised that is not the driver's answer
        self.unusable: dict[int, NvmlFailure] = {}  # GPUs that the driver counts and does not answer for
        self.count_failure: NvmlFailure | None = None
        self.driver_version = clean_version(self._answer("nvmlSystemGetDriverVersion"))
        cuda = self._answer("nvmlSystemGetCudaDriverVersion")
        is_version = isinstance(cuda, int) and cuda in _CUDA_VERSIONS
        self.runtime_version = f"{cuda // 1000}.{cuda % 1000 // 10}" if is_version else None

    def gpus(self) -> list[NvmlGpu]:
        """The GPUs that the driver lets this process see, in the order of their PCI addresses.

        `index` is a GPU's place in that order, as CUDA and nvidia-smi number them. Where an address is unknown, or a
        GPU is lost, the order and `index` are NVML's own. A GPU that is another user's is not counted, as by CUDA.
        """
        gpus, self.unusable, self.count_failure = [], {}, None
        for index in range(self._n_gpus()):
            try:
                handle = self._pynvml.nvmlDeviceGetHandleByIndex(index)
            except BaseException as error:
                self.problems[f"nvmlDeviceGetHandleByIndex({index})"] = words_of(error)
                self.unusable[index] = _failure_of(error, self._pynvml, f"GPU {index}: ")
            else:
                gpus.append(NvmlGpu(self._pynvml, index, handle))
        if self.lost:
            return gpus
        places = [address_of(gpu.pci_bus_id) for gpu in gpus]
        if None not in places:
            gpus = [gpu for _, gpu in sorted(zip(places, gpus, strict=True), key=lambda pair: (pair[0], pair[1].index))]
        for place, gpu in enumerate(gpus):
            gpu.index = place
        return gpus

    @property
    def lost(self) -> dict[int, NvmlFailure]:
        """The GPUs that the driver counts, and that nobody can use, by their index; as of the last `gpus()`."""
        forbidden = self._pynvml.NVML_ERROR_NO_PERMISSION
        return {index: failure for index, failure in self.unusable.items() if failure.code != forbidden}

    def listed(self) -> tuple[Listed, ...]:
        """Return the GPUs as they are listed, those that are lost in their places: CUDA's numbers count them."""
        return self._with_lost(self.gpus())

    def gpu_of(self, device: str, environ: Mapping[str, str]) -> NvmlGpu | None:
        """Return the GPU that a run with `--device device` uses, to be asked while the library is open.

        None where it is not known which one it is. Of a GPU that is cut into instances (MIG) it is the whole one with
        `instance` set.
        """
        gpus = self.gpus()
        try:
            seen = seen_by(device, self._with_lost(gpus), environ)
        except UnknownOrderError:
            return None
        gpu = next((gpu for gpu in gpus if seen is not None and gpu.index == seen.gpu.index), None)
        if seen is None or gpu is None:
            return None
        instances = {instance.index: instance for instance in (gpu.instances() if seen.instance else ())}
        gpu.instance = None if seen.instance is None else instances.get(seen.instance.index)
        return gpu

    def _with_lost(self, gpus: Sequence[NvmlGpu]) -> tuple[Listed, ...]:
        lost = [Listed(index, is_lost=True, problems=(failure.words,)) for index, failure in self.lost.items()]
        listed = [_listed(gpu) for gpu in gpus]
        return tuple(sorted([*listed, *lost], key=lambda gpu: gpu.index) if lost else listed)

    def _n_gpus(self) -> int:
        try:
            return count_of(self._pynvml.nvmlDeviceGetCount())
        except BaseException as error:
            self.problems["nvmlDeviceGetCount"] = words_of(error)
            self.count_failure = _failure_of(error, self._pynvml, "the NVIDIA driver does not count its GPUs: ")
            return 0

    def close(self) -> None:
        self._answer("nvmlShutdown")

    def _answer(self, query: str, *arguments: Any) -> Any:
        try:
            return getattr(self._pynvml, query)(*arguments)
        except BaseException as error:
            words = words_of(error)
            if not isinstance(error, self._pynvml.NVMLError):
                self.problems[query] = words
            return None

    def __enter__(self) -> Nvml:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def start_nvml() -> Nvml | NvmlFailure:
    """The driver's library, open, or why it can't be used."""
    if "pynvml" not in sys.modules and not has_nvml_library():  # its import takes longer than a prediction
        return NvmlFailure(NO_LIBRARY)
    try:
        import pynvml
    except ImportError:
        return NvmlFailure("the Python package nvidia-ml-py is not installed (pip install nvidia-ml-py)")
    except BaseException as error:
        return NvmlFailure(f"the Python package nvidia-ml-py can't be imported: {words_of(error)}")
    if not hasattr(pynvml, "NVML_FI_DEV_POWER_INSTANT"):
        return NvmlFailure(
            "the abandoned package pynvml hides nvidia-ml-py (pip uninstall pynvml; pip install nvidia-ml-py)"
        )
    try:
        pynvml.nvmlInit()
        return Nvml(pynvml)
    except BaseException as error:
        failure = _failure_of(error, pynvml, "the NVIDIA driver does not answer: ")
        return NvmlFailure(NO_LIBRARY) if failure.code == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND else failure


def _failure_of(error: BaseException, pynvml: ModuleType, lead: str) -> NvmlFailure:
    words, code = words_of(error), getattr(error, "value", None) if isinstance(error, pynvml.NVMLError) else None
    return NvmlFailure(f"{lead}{words if code is None else error}"[:LONGEST_PROBLEM].rstrip("."), code)


def _listed(gpu: NvmlGpu, is_part: bool = False) -> Listed:
    is_mig = not is_part and gpu.is_mig
    instances = tuple(_listed(instance, True) for instance in gpu.instances()) if is_mig else ()
    return Listed(
        gpu.index,
        gpu.name,
        gpu.uuid,
        gpu.pci_bus_id,
        gpu.own_memory_bytes(),
        None if is_part else gpu.power_limit_w(),
        is_mig,
        instances,
        gpu.instance_ids() if is_part else (None, None),
        tuple(f"{query}: {words}" for query, words in gpu.problems.items()),
        lacks_instances=is_mig and not instances and gpu.lacks_instances(),
    )
