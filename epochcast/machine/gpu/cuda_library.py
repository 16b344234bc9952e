"""What CUDA's own library says of the device of a run, for a box whose NVML does not answer, or not with a name."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping

from epochcast.machine.gpu.cuda_visible import ORDER, VISIBLE, shown_to_cuda
from epochcast.machine.gpu.driver_names import clean_name, clean_uuid, unknown_gpu
from epochcast.machine.gpu.vendor import Device

CUDA_TIMEOUT_SEC = 20.0  # a driver that is not loaded yet takes seconds
_ASK_CUDA = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
device, name, uuid = ctypes.c_int(), ctypes.create_string_buffer(256), (ctypes.c_ubyte * 16)()
memory = ctypes.c_size_t()
for code in (cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0), cuda.cuDeviceGetName(name, 256, device)):
    if code:
        raise SystemExit(f"CUDA error {code}")
total = getattr(cuda, "cuDeviceTotalMem_v2", None)
is_known = total is not None and total(ctypes.byref(memory), device) == 0
ask = getattr(cuda, "cuDeviceGetUuid", None)
digits = bytes(uuid).hex() if ask is not None and ask(ctypes.byref(uuid), device) == 0 else ""
print(json.dumps([name.value.decode("latin-1"), digits, memory.value if is_known else None]))
"""


def asked_of_cuda(device: str, environ: Mapping[str, str]) -> Device | None:
    """Return the device as CUDA's library reports it; None where it has none.

    The library may hang or die, so it is asked in a process of its own.
    """
    import subprocess  # slow to import and rarely needed

    variables = {**os.environ, **environ}
    for name in {VISIBLE, ORDER} - environ.keys():
        variables.pop(name, None)
    variables |= shown_to_cuda(device, environ)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _ASK_CUDA],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CUDA_TIMEOUT_SEC,
        )
        if done.returncode != 0:
            return None
        name, digits, memory = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    uuid = clean_uuid(f"GPU-{'-'.join(parts)}") if len(digits) == 32 else None
    known = clean_name(name)
    return Device(
        "gpu", known or unknown_gpu(uuid or platform.node(), device), uuid, memory, is_named=known is not None
    )
