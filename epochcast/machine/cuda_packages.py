"""Whether a backend is installed with its CUDA libraries, and how to install it so; none of them is loaded."""

from __future__ import annotations

import ctypes.util

from epochcast.machine.packages import installed

INSTALL_GPU = "pip install --require-hashes -r requirements-gpu.txt"
CUDA_PACKAGES = {  # by backend, newest first
    "tensorflow": ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12"),
    "jax": ("jax-cuda13-plugin", "jax-cuda12-plugin"),
    "torch": ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12"),
}


def install_gpu(backend: str) -> str:
    """Return the command that installs a backend with its CUDA libraries."""
    if backend == "torch":
        return "pip uninstall torch, then pip install torch (2.8 GB on Linux)"
    return INSTALL_GPU if backend == "tensorflow" else f'pip install "{backend}[cuda12]"'


def lacks_cuda_libraries(backend: str) -> bool:
    """Return whether a backend that needs CUDA libraries is installed without; False where that is unknown."""
    if backend == "torch":
        return torch_build(backend).startswith(("cpu", "rocm", "xpu"))
    if backend not in CUDA_PACKAGES or cuda_packages(backend):
        return False
    return not (backend == "tensorflow" and ctypes.util.find_library("cudnn"))


def torch_build(backend: str) -> str:
    """Return the build of torch: `cpu`, `cu130`, ...; empty for PyPI's own, and for another backend."""
    return (installed("torch") or "").partition("+")[2] if backend == "torch" else ""


def cuda_packages(backend: str) -> list[str]:
    """Return the installed packages that bring the backend's CUDA libraries, with their versions."""
    return [f"{name} {number}" for name in CUDA_PACKAGES.get(backend, ()) if (number := installed(name))]
