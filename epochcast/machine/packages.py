"""Which framework Keras will take, whether it can, and which versions are installed; none of them is imported."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from epochcast.error_text import requirement_of

PACKAGES = {  # how each is called in Python: the packages that bring it
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tf-nightly"),
    "keras": ("keras", "keras-nightly"),
    "jax": ("jax",),
    "torch": ("torch",),
}
BACKENDS = ("tensorflow", "jax", "torch")  # of Keras, that train
SETTINGS = {  # that Keras takes from its settings file, and nothing else
    "floatx": ("float16", "float32", "float64"),
    "image_data_format": ("channels_last", "channels_first"),
}
MISNOMERS = {"pytorch": "torch", "tf": "tensorflow"}  # no close match by letters


def backend_name(environ: Mapping[str, str] = os.environ) -> str:
    """The backend that Keras will take: $KERAS_BACKEND, else its own settings file, else TensorFlow."""
    if chosen := environ.get("KERAS_BACKEND"):
        return chosen
    try:
        return str(json.loads(_settings_path(environ).read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


def backend_words(backend: str | None) -> str:
    """Return what a shell needs before a command for this backend.

    Empty where the command takes it anyway.
    """
    return "" if backend in (None, backend_name()) else f"KERAS_BACKEND={shlex.quote(str(backend))} "


def _settings_path(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser() / "keras.json"


def _settings_problem(path: Path) -> str | None:
    """Return what in Keras's settings file keeps Keras from starting; None if nothing does."""
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError):  # Keras passes over what is no JSON, and says itself what it can't open
        return None
    if not isinstance(settings, dict):
        return "it holds no JSON object"
    for name, allowed in SETTINGS.items():
        if name in settings and settings[name] not in allowed:
            return f"{name} is none of {', '.join(allowed)}"
    return None if isinstance(settings.get("epsilon", 1e-7), float) else "epsilon is no number with a decimal point"


def backend_problem(name: str) -> tuple[str, str] | None:
    """Return what is wrong with a backend that was asked for, and a remedy; None if it is known and installed."""
    if name not in BACKENDS:
        shown = name if len(name) <= 40 else f"{name[:37]}..."
        return f"{shown!r} is no backend that trains: {', '.join(BACKENDS)} are", _likely(name)
    install = f"pip install {shlex.quote(requirement_of(name))}"
    if first_installed(PACKAGES[name]) is None:
        others = [other for other in BACKENDS if first_installed(PACKAGES[other]) is not None]
        instead = f", or set KERAS_BACKEND={others[0]}" if others else ""
        return f"the backend {name} is not installed", f"{install}{instead}"
    if first_installed(PACKAGES["keras"]) is None:
        return f"Keras, which {name} trains under, is not installed", install
    return None


def _likely(name: str) -> str:
    """What a name that is no backend was meant to be."""
    import difflib

    plain = name.strip().lower()
    close = [MISNOMERS[plain]] if plain in MISNOMERS else difflib.get_close_matches(plain, BACKENDS, n=1)
    return f"did you mean KERAS_BACKEND={close[0]}?" if close else f"set KERAS_BACKEND={BACKENDS[0]}"


def require_backend() -> None:
    """Refuse a backend that is misspelt or missing, and settings that Keras refuses, before Keras starts.

    Raises:
        ValueError: one sentence, with a remedy.
    """
    if "keras" in sys.modules:  # it has its backend
        return
    settings = _settings_path(os.environ)
    if (wrong := _settings_problem(settings)) is not None:
        raise ValueError(f"{settings}: Keras does not start with it: {wrong}. Correct this file, or delete it.")
    if (problem := backend_problem(backend_name())) is not None:
        found, remedy = problem
        raise ValueError(f"KERAS_BACKEND: {found}; {remedy}{'' if remedy.endswith('?') else '.'}")


def installed(name: str) -> str | None:
    """Return the version of an installed package, None where it is not."""
    if (named := _named_by_folder(name)) is not None:
        return named
    from importlib.metadata import PackageNotFoundError, version  # slow to import: it brings the e-mail parser

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _named_by_folder(name: str) -> str | None:
    """Return the version in the name of a package's `.dist-info` folder, as installers write it.

    None where the first folder of sys.path that has the package has it in another form, or where none has it.
    """
    package = name.lower().replace("-", "_")
    for folder in sys.path:
        try:
            entries = os.listdir(folder or os.curdir)  # noqa: PTH208  # pathlib is slower
        except OSError:  # missing, or an archive
            continue
        for entry in entries:
            stem, dot_info = os.path.splitext(entry)  # noqa: PTH122  # as above
            found, _, version = stem.partition("-")
            if dot_info in (".dist-info", ".egg-info") and found.lower() == package:
                is_whole = dot_info == ".dist-info" and Path(folder, entry, "METADATA").exists()
                return version if is_whole else None
    return None


def installed_minor(backend: str) -> str | None:
    """Return major and minor number of an installed backend, None where it is not installed."""
    version = first_installed(PACKAGES.get(backend, (backend,)))
    return None if version is None else ".".join(version.split(".")[:2])


def first_installed(names: Sequence[str]) -> str | None:
    """Version of the first of the packages that is installed."""
    return next((number for name in names if (number := installed(name))), None)
