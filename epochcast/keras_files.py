"""Networks in files that Keras saved: read within bounds, rebuilt without weights and without code of the file's.

Of the archive only the configuration is read, which is all that layers, shapes and the optimizer need. No weight is
made either: a network of any size is rebuilt in the memory that its description takes.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epochcast.archives import MIB, open_archive, read_member
from epochcast.files import open_regular
from epochcast.keras_layers import reason_of
from epochcast.keras_parts import Layer

CONFIG, METADATA = "config.json", "metadata.json"
MOST_BYTES = 8 * MIB  # of either; NASNetLarge's configuration, of 1,041 layers, takes 1 MB
LARGEST_NUMBER = 1 << 62  # larger sizes don't fit into a shape
SAVE = "Save the network with model.save('NAME.keras')."
CODE = "lambda"  # what Keras names code that stands in a file
# what a network is described by; keras.utils, keras.saving and the like read and write files
MODULES = frozenset(
    {"activations", "constraints", "dtype_policies", "initializers", "layers", "losses", "metrics", "models", "ops"}
    | {"optimizers", "quantizers", "random", "regularizers", "src"}
)


@dataclass(frozen=True, slots=True)
class SavedNetwork:
    """What a `.keras` file says of its network."""

    config: dict[str, Any]  # Any: JSON; what networks inside it were compiled with is left out
    optimizer: Any  # as Keras describes it; None: it was not compiled
    keras_version: str | None  # that saved it
    classes: dict[str, str]  # name: module


def read_saved(path: Path) -> SavedNetwork:
    """What a file says of its network.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if it can't be read, or is no regular file.
        ValueError: if it is no `.keras` file, is damaged, too large, or asks for what no network needs.
    """
    try:
        with open_regular(path) as file:
            if path.suffix != ".keras":
                raise ValueError("its name does not end in .keras")
            with open_archive(file) as archive:
                text = read_member(archive, CONFIG, MOST_BYTES)
                is_dated = METADATA in archive.namelist()
                metadata = read_member(archive, METADATA, MOST_BYTES) if is_dated else b"{}"
        config = _parsed(text, CONFIG)
        version = _parsed(metadata, METADATA).get("keras_version")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file. {SAVE}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not a .keras file: {shortened(str(error))}. {SAVE}") from None
    compiled = config.get("compile_config")
    optimizer = compiled.get("optimizer") if isinstance(compiled, dict) else None
    try:
        classes = _screened([config, optimizer])
    except ValueError as error:
        raise ValueError(f"{path}: Keras can't rebuild this network: {shortened(str(error))}.") from None
    return SavedNetwork(config, optimizer, version if isinstance(version, str) else None, classes)


def _parsed(text: bytes, name: str) -> dict[str, Any]:
    """A JSON object as Keras reads it: of a name that stands twice the last counts, NaN and infinities are numbers."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"its {name} is not JSON ({shortened(reason)})") from None
    if not isinstance(value, dict):
        raise ValueError(f"its {name} holds no JSON object")
    return value


def _screened(values: list[Any]) -> dict[str, str]:
    """The classes named anywhere in a configuration; takes out what inner networks were compiled with.

    Raises:
        ValueError: for a number that is no size, and for what is no part of a network.
    """
    classes: dict[str, str] = {}
    while values:
        value = values.pop()
        if isinstance(value, list):
            values += value
        elif isinstance(value, dict):
            if isinstance(name := value.get("class_name"), str):
                value.pop("compile_config", None)
                module = str(value.get("module"))
                classes[name] = module
                function = value.get("config") if name == "function" else name
                first, *inner = f"{module}.{function}".split(".")
                if first == "keras" and len(inner) > 1 and inner[0] not in MODULES:
                    raise ValueError(f"it asks for {module}.{function}, which is no part of a network")
            values += value.values()
        elif isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            raise ValueError(f"it asks for a size of {len(str(value))} digits")
    return classes


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Networks that are rebuilt or traced in this block have weights in name and shape only.

    Leave the thread soon after: Keras keeps a list of such weights for each, to make them at its next chance.
    """
    import keras

    with keras.StatelessScope(initialize_variables=False):
        yield


def rebuilt(saved: SavedNetwork) -> Layer:
    """The network; raises whatever Keras does, see `why_not_rebuilt`."""
    import keras

    model = keras.saving.deserialize_keras_object(copy.deepcopy(saved.config), safe_mode=True)  # Keras changes it
    if not isinstance(model, keras.Model):
        raise TypeError(f"it holds a {type(model).__name__}, not a network")
    return model


def needs_weights(error: Exception) -> bool:
    """Whether an error of `rebuilt`'s says that the network can't be made `without_weights`: a stateful RNN's does."""
    return "stateless scope" in str(error)


def optimizer_name(config: Any) -> str:  # Any: JSON of the file
    """What an optimizer's description calls it."""
    name = config.get("registered_name") or config.get("class_name") if isinstance(config, dict) else config
    return shortened(str(name), 40)


def why_not_rebuilt(saved: SavedNetwork, error: Exception) -> str:
    """What a user can do about an error of `rebuilt`'s, in a sentence or two."""
    import keras

    text = str(error)
    unknown = re.search(r"Could not locate (?:class|function) '([^']*)'", text)  # far down in the text
    module = saved.classes.get(unknown[1], "") if unknown else ""
    begin = "Keras can't rebuild this network"
    foreign = f"{begin} without code of its author's"
    if f"__{CODE}__" in saved.classes or (unknown is None and "Lambda" in saved.classes):
        what = "a Lambda layer" if "Lambda" in saved.classes else "a lambda function"
        return f"{foreign}: {what} holds some, which is not run; replace it by a layer of Keras."
    if unknown and module.split(".")[0] != "keras":
        return f"{foreign}: {shortened(unknown[0])}. Replace it by one of Keras's own."
    if outside := re.search(r"Requested the (?:loading|deserialization) of [^.,]*", text):
        return f"{begin}: {shortened(outside[0])}, which is not done. Save it without the layer that asks for this."
    if named := re.search(r"Could not deserialize '([^']*)'", text):
        found = f"this Keras has no layer or the like named {shortened(named[1], 60)}"
    elif unknown:
        found = f"this Keras has no {shortened(unknown[1], 40)} in {shortened(module, 40)}"
    else:
        kind = "" if isinstance(error, ValueError | TypeError) else f"{type(error).__name__}: "
        found = f"{kind}{shortened(reason_of(error))}"
    again = f"Save it again by Keras {keras.__version__}, which reads it here"
    if saved.keras_version not in (None, keras.__version__):
        again = f"It was saved by Keras {shortened(str(saved.keras_version), 20)}: s{again[1:]}"
    return f"{begin}: {found.rstrip('.')}. {again}."


def shortened(text: str, most: int = 100) -> str:
    """A text of a file's, or of a library's about it, for a message: one line without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * most]).split())
    return line if len(line) <= most else f"{line[: most - 3]}..."
