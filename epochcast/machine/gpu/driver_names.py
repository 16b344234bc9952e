"""What a driver, a framework or the kernel may call a GPU, and what is no name: None, never another GPU's.

Drivers have answered with bytes that are no text, with nothing, and with the words of an error.
"""

from __future__ import annotations

import hashlib
import re

LONGEST_NAME = 95  # characters; nvml.h: NVML_DEVICE_NAME_V2_BUFFER_SIZE less the end
UNKNOWN_GPU = "unknown GPU"
_NAME = re.compile(r"(?=.*[A-Za-z].*[A-Za-z])[A-Za-z0-9][ -~]*")  # printable ASCII, as all names on sale are
_UUID = re.compile(r"(GPU|MIG)-[A-Za-z0-9/-]{4,90}")
_ADDRESS = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})(?:\.([0-9a-f]))?", re.IGNORECASE)
_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){0,4}")
# what drivers say for a board that they do not know, and for none at all
_NO_NAMES = frozenset(
    [
        *("na", "n/a", "none", "null", "nil", "tbd", "cpu", "cuda", "device", "genericdevice", "graphicsdevice", "gpu"),
        *("nvidia", "nvidiacorporation", "nvidiadevice", "nvidiagpu", "nvidiagraphicsdevice"),
        *("notsupported", "notavailable", "notfound", "gpuislost", "insufficientpermissions"),
    ]
)
# words of a message, and none of a board's name: NVMLError has its own, nvidia-smi and CUDA others
_MESSAGE = re.compile(
    r"\b(err|error|errors|fail|failed|failure|fault|invalid|unknown|unspecified|unsupported|undefined|not|no|lost|"
    r"requires?|required|timed?|timeout|denied|blocked|corrupted|insufficient|initiali[sz]ed|uninitiali[sz]ed|"
    r"mismatch|unable|cannot|can't|could|interrupt|library|driver|deprecated|loaded|found|reset|restart|exception|"
    r"traceback|missing|unavailable)\b",
    re.IGNORECASE,
)
_FRAMEWORK_DEVICE = re.compile(
    r"(physical device|cuda ?device|cuda|gpu|xla|tpu|mps|cpu|hip|rocm|xpu)?[ :]*\d*([:(].*)?"
)


def clean_name(value: object) -> str | None:
    """Return a GPU's name as reported, without commas; None for whatever can't be one.

    Commas go, because a name stands in `--conditions device_name=...,backend=...`.
    """
    text = text_of(value)
    if text is None or len(text) > LONGEST_NAME or not _NAME.fullmatch(text) or "\\" in text:
        return None
    name = " ".join(text.replace(",", " ").split())
    word = re.sub(r"[\s\[\]()<>_.-]+", "", name.casefold())
    is_processor = name.endswith(" cores)")  # by which rows tell the two apart
    spaced = re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", name)  # a message in one word, as of an enumeration
    is_message = word.startswith("unknown") or _MESSAGE.search(spaced)
    is_device = word in _NO_NAMES or _FRAMEWORK_DEVICE.fullmatch(spaced.casefold())
    return None if is_message or is_device or is_processor else name


def clean_uuid(value: object) -> str | None:
    """Return the UUID of a GPU or of an instance; None for whatever can't be one."""
    text = text_of(value)
    return text if text is not None and _UUID.fullmatch(text) else None


def clean_version(value: object) -> str | None:
    """Return a driver's version, e.g. `580.65.06`; None for whatever can't be one."""
    text = text_of(value)
    return text if text is not None and _VERSION.fullmatch(text) else None


def address_of(bus_id: str | None) -> tuple[int, ...] | None:
    """Return a PCI address, `domain:bus:device.function`, as numbers; None where it is none."""
    parts = _ADDRESS.fullmatch(bus_id or "")
    return None if parts is None else tuple(int(digits or "0", 16) for digits in parts.groups())


def is_instance(name: str | None) -> bool:
    """Return whether a device's name is that of a GPU's instance (MIG)."""
    return name is not None and "MIG" in name


def unknown_gpu(*marks: object) -> str:
    """Return the name of a GPU whose name is unknown: equal only to itself, by what else is known of it."""
    return f"{UNKNOWN_GPU} {hashlib.sha256(repr(marks).encode()).hexdigest()[:8]}"


def text_of(value: object) -> str | None:
    """Return a driver's answer as text; None for whatever is none."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return None
    return value.strip() if isinstance(value, str) else None
