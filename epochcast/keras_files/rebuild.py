"""Networks in files that Keras saved: read within bounds, rebuilt without weights and without code of the file's.

Of the archive only the configuration is read, which is all that layers, shapes and the optimizer need. No weight is
made either: a network of any size is rebuilt in the memory that its description takes.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from epochcast.keras_files.foreign import Prepared, prepare
from epochcast.keras_files.keras_2 import of_keras_2
from epochcast.keras_layers.parts import Layer
from epochcast.keras_layers.read_layers import reason_of
from epochcast.storage.archives import MIB, TooLargeError, open_archive, read_member
from epochcast.storage.files import open_regular
from epochcast.text_sinks import shortened

CONFIG, METADATA = "config.json", "metadata.json"
MOST_BYTES = 8 * MIB  # of either; NASNetLarge's configuration, of 1,041 layers, takes 1 MB
MOST_PARTS = 500_000  # lists and objects of either: each takes a hundred times the memory of its two characters
LARGEST_NUMBER = 1 << 62  # larger sizes don't fit into a shape
KERAS_2 = '"batch_input_shape"'  # a setting that Keras 3 calls batch_shape
HDF5 = b"\x89HDF\r\n\x1a\n"
HDF5_CONFIG, HDF5_START = b"model_config", 16 * MIB  # an attribute of a whole model, and where Keras writes it
SAVE = "Give a network that Keras saved by model.save('NAME.keras')."
HDF5_MODEL = (
    "a model in HDF5, as older Keras saved it. Save it as .keras: "
    "keras.models.load_model('NAME.h5', compile=False).save('NAME.keras')."
)
HDF5_WEIGHTS = f"an HDF5 file of weights alone, which names no layers. {SAVE}"
SAVED_BY_KERAS_2 = (
    "a SavedModel of Keras 2, not a .keras file. Install tf_keras, and save it as one: "
    "tf_keras.models.load_model('NAME', compile=False).save('NAME.keras')."
)
# what a network is described by; keras.utils, keras.saving and the like read and write files
MODULES = frozenset(
    {"activations", "constraints", "dtype_policies", "initializers", "layers", "losses", "metrics", "models", "ops"}
    | {"optimizers", "quantizers", "random", "regularizers", "engine"}  # the last in Keras 2
)
INNER_MODULES = MODULES | {"backend", "legacy"}  # of keras.src
# layers beside networks that are built, and whose weights are loaded, by functions of the same modules
OF_APPLICATIONS = frozenset(
    f"keras.src.applications.{name}"
    for name in ("convnext.LayerScale", "convnext.StochasticDepth", "inception_resnet_v2.CustomScaleLayer")
)


@dataclass(frozen=True, slots=True)
class SavedNetwork:
    """What a `.keras` file says of its network."""

    config: dict[str, Any]  # Any: JSON; what networks inside it were compiled with is left out
    optimizer: Any  # as Keras describes it; None: it was not compiled
    keras_version: str | None  # that saved it


def read_saved(path: Path) -> SavedNetwork:
    """What a file says of its network.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if it can't be read, or is no regular file.
        ValueError: if it is no `.keras` file, is damaged, too large, or asks for what no network needs.
    """
    try:
        with open_regular(path) as file:
            _refuse_other_formats(file)
            with open_archive(file) as archive:
                text = read_member(archive, CONFIG, MOST_BYTES)
                is_dated = METADATA in archive.namelist()
                metadata = read_member(archive, METADATA, MOST_BYTES) if is_dated else b"{}"
        config = _parsed(text, CONFIG)
        version = _parsed(metadata, METADATA).get("keras_version")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file. {SAVE}") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: {_folder_line(path)}") from None
    except PermissionError:
        remedy = "Give yourself the right: chmod u+r for the file, u+x for its folders."
        raise PermissionError(f"{path}: it may not be read by this user. {remedy}") from None
    except OSError as error:  # a pipe, a circle of links, a file in place of a folder
        raise OSError(f"{path}: {error.strerror or error}. {SAVE}") from None
    except TooLargeError as error:
        remedy = "Save it with fewer layers, and large constants as weights of a layer."
        raise ValueError(f"{path}: too large to be read: {error}. {remedy}") from None
    except _OtherFormatError as error:
        raise ValueError(f"{path}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not a .keras file: {shortened(str(error))}. {SAVE}") from None
    compiled = config.get("compile_config")
    optimizer = compiled.get("optimizer") if isinstance(compiled, dict) else None
    try:
        _screen([config, optimizer])
    except ValueError as error:
        raise ValueError(f"{path}: Keras can't rebuild this network: {shortened(str(error))}. {SAVE}") from None
    return SavedNetwork(config, optimizer, version if isinstance(version, str) else None)


def _folder_line(path: Path) -> str:
    """Return the line for a folder, which may be a SavedModel of TensorFlow or Keras 2."""
    if (path / "keras_metadata.pb").exists():
        return SAVED_BY_KERAS_2
    kind = "a SavedModel, which keeps no layers" if (path / "saved_model.pb").exists() else "a folder"
    return f"{kind}, not a .keras file. {SAVE}"


class _OtherFormatError(ValueError):
    """A file of another kind; says what to do with it."""


def _refuse_other_formats(file: IO[bytes]) -> None:
    begin = file.read(len(HDF5))
    file.seek(0)
    if begin == HDF5:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            is_model = content.find(HDF5_CONFIG, 0, HDF5_START) >= 0
        raise _OtherFormatError(HDF5_MODEL if is_model else HDF5_WEIGHTS)
    if not begin:
        raise ValueError("it is empty")
    if not begin.startswith(b"PK"):
        raise ValueError("it is no zip archive")


def _parsed(text: bytes, name: str) -> dict[str, Any]:
    """A JSON object as Keras reads it: of a name that stands twice the last counts, NaN and infinities are numbers."""
    if text.count(b"{") + text.count(b"[") > MOST_PARTS:
        raise TooLargeError(f"its {name} has more than {MOST_PARTS:,} parts")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"its {name} is not JSON ({shortened(reason)})") from None
    if not isinstance(value, dict):
        raise ValueError(f"its {name} holds no JSON object")
    return value


def _screen(values: list[Any]) -> None:
    """Refuse what is no part of a network in a configuration; takes out what inner networks were compiled with.

    Raises:
        ValueError: for a number that is no size, and for what is no part of a network.
    """
    while values:
        value = values.pop()
        if isinstance(value, list):
            values += value
        elif isinstance(value, dict):
            if isinstance(name := value.get("class_name"), str):
                value.pop("compile_config", None)
                function = value.get("config") if name == "function" else name
                _screen_name(f"{value.get('module')}.{function}")
            values += value.values()
        elif isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            raise ValueError(f"it asks for a size of {len(str(value))} digits")


def _screen_name(name: str) -> None:
    first, *inner = name.split(".")
    allowed = MODULES
    if inner[:1] == ["src"]:
        inner, allowed = inner[1:], INNER_MODULES
    if first == "keras" and len(inner) > 1 and inner[0] not in allowed and name not in OF_APPLICATIONS:
        raise ValueError(f"it asks for {name}, which is no part of a network")


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Networks that are rebuilt or traced in this block have weights in name and shape only.

    Leave the thread soon after: Keras keeps a list of such weights for each, to make them at its next chance.
    """
    import keras

    with keras.StatelessScope(initialize_variables=False):
        yield


def prepared(saved: SavedNetwork, given: Mapping[str, Any], allow_unknown: bool) -> Prepared:
    """The network's configuration, of its own, with what is not of Keras found in `given` or stood in for.

    Raises:
        WantedError: if something is not found, and may not be stood in for.
    """
    text = json.dumps(saved.config)
    config = json.loads(text)  # Keras changes it
    if (saved.keras_version or "").startswith("2.") or (saved.keras_version is None and KERAS_2 in text):
        config = of_keras_2(config)
    return prepare(config, given, allow_unknown)


def rebuilt(ready: Prepared) -> Layer:
    """The network; raises whatever Keras does, see `why_not_rebuilt`."""
    import keras

    with keras.saving.custom_object_scope(ready.objects):
        model = keras.saving.deserialize_keras_object(ready.config, custom_objects=ready.objects, safe_mode=True)
    if not isinstance(model, keras.Model):
        raise NoNetworkError(f"it holds {type(model).__name__}, not a network. {SAVE}")
    return model


class NoNetworkError(TypeError):
    """A file holds something else that Keras saved; a sentence."""


def needs_weights(error: Exception) -> bool:
    """Whether an error of `rebuilt`'s says that the network can't be made `without_weights`: a stateful RNN's does."""
    return "stateless scope" in str(error)


def why_not_rebuilt(saved: SavedNetwork, error: Exception, objects: Mapping[str, Any]) -> str:
    """What a user can do about an error of `rebuilt`'s, in a sentence or two; `objects` are of the author's code."""
    if isinstance(error, NoNetworkError):
        return str(error)
    text = str(error)
    begin = "Keras can't rebuild this network"
    if isinstance(error, RecursionError):
        return f"{begin}: its layers are nested too deeply. Save it with fewer networks inside networks."
    if outside := re.search(r"Requested the (?:loading|deserialization) of [^.,]*", text):
        return f"{begin}: {shortened(outside[0], 80)}, which is not done. Save it without the layer that asks for this."
    if needs := re.search(r"Layer (\w+) requires TensorFlow", text):  # which is not installed
        remedy = "pip install 'epochcast[tensorflow]', KERAS_BACKEND=tensorflow"
        return f"{begin}: {shortened(needs[1], 30)} needs TensorFlow: {remedy}."
    if own := [name for name, thing in objects.items() if isinstance(thing, type) and repr(thing) in text]:
        found = f"{begin}: class {shortened(own[0], 30)} is not made again by what it saved"
        return f"{found} ({shortened(reason_of(error), 40).rstrip('.')}). Correct its get_config, and save again."
    kind = "" if isinstance(error, ValueError | TypeError) else f"{type(error).__name__}: "
    return f"{begin}: {kind}{shortened(reason_of(error), 80).rstrip('.')}. {remedy_of_version(saved)}"


def remedy_of_version(saved: SavedNetwork) -> str:
    """What helps where the installed Keras doesn't read what another has saved, in a sentence."""
    import keras

    saved_by, own = _numbers(saved.keras_version), _numbers(keras.__version__)
    version = f"Keras {shortened(str(saved.keras_version), 20)}"
    if saved_by > own:
        return f"{version} saved it, this is {keras.__version__}: pip install -U keras."
    again = f"ake it by its own code with Keras {keras.__version__} and save that."
    return f"{version} saved it: m{again}" if saved_by not in ((), own) else f"M{again}"


def _numbers(version: str | None) -> tuple[int, ...]:
    """A version as numbers; empty where it is none."""
    found = re.match(r"\d{1,6}(?:\.\d{1,6}){0,3}", version or "")
    return tuple(map(int, found[0].split("."))) if found else ()
