"""Which framework Keras will take here and which versions are installed, without importing any of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

PACKAGES = {  # how each is called in Python: the packages that bring it
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tf-nightly"),
    "keras": ("keras", "keras-nightly"),
    "jax": ("jax",),
    "torch": ("torch",),
}


def backend_name(environ: Mapping[str, str] = os.environ) -> str:
    """The backend that Keras will take: $KERAS_BACKEND, else its own settings file, else TensorFlow."""
    if chosen := environ.get("KERAS_BACKEND"):
        return chosen
    settings = Path(environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser() / "keras.json"
    try:
        return str(json.loads(settings.read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


def installed(name: str) -> str | None:
    """Version of an installed package, None where it is not."""
    from importlib.metadata import PackageNotFoundError, version  # not light, and not every command asks

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def first_installed(names: Sequence[str]) -> str | None:
    """Version of the first of the packages that is installed."""
    return next((number for name in names if (number := installed(name))), None)
