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
_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){0,4}")
# what drivers say for a board that they do not know, and for none at all
_NO_NAMES = frozenset(
    [
        *(
            "na",
            "n/a",
            "none",
            "null",
            "nil",
            "error",
            "err",
            "err!",
            "invalid",
            "unknown",
            "unknownerror",
            "unknowngpu",
        ),
        *("unknowndevice", "notsupported", "notavailable", "notfound", "uninitialized", "insufficientpermissions"),
        *("gpuislost", "gpu", "device", "genericdevice", "graphicsdevice", "nvidia", "nvidiacorporation", "nvidiagpu"),
        *("nvidiagraphicsdevice", "nvidiadevice"),
    ]
)


def clean_name(value: object) -> str | None:
    """Return a GPU's name as reported, without commas; None for whatever can't be one.

    Commas go, because a name stands in `--conditions device_name=...,backend=...`.
    """
    text = _text(value)
    if text is None or len(text) > LONGEST_NAME or not _NAME.fullmatch(text) or "\\" in text:
        return None
    name = " ".join(text.replace(",", " ").split())
    word = re.sub(r"[\s\[\]()<>_.-]+", "", name.casefold())
    is_processor = name.endswith(" cores)")  # by which rows tell the two apart
    return None if word in _NO_NAMES or word.startswith(UNKNOWN_GPU.replace(" ", "")) or is_processor else name


def clean_uuid(value: object) -> str | None:
    """Return the UUID of a GPU or of an instance; None for whatever can't be one."""
    text = _text(value)
    return text if text is not None and _UUID.fullmatch(text) else None


def clean_version(value: object) -> str | None:
    """Return a driver's version, e.g. `580.65.06`; None for whatever can't be one."""
    text = _text(value)
    return text if text is not None and _VERSION.fullmatch(text) else None


def unknown_gpu(*marks: object) -> str:
    """Return the name of a GPU whose name is unknown: equal only to itself, by what else is known of it."""
    return f"{UNKNOWN_GPU} {hashlib.sha256(repr(marks).encode()).hexdigest()[:8]}"


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return None
    return value.strip() if isinstance(value, str) else None
