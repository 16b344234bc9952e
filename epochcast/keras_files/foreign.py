"""What a saved network asks for beyond Keras: its author's code where that is given, else stand-ins of the same shapes.

Nothing is imported by a name that stands in the file: a class or function of another package than Keras is in `given`,
or it is not known. Where that is allowed, a layer that is not known is replaced by a stand-in, which the trace meets as
a layer that it can't count, so that the layers behind it are counted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from epochcast.keras_files.stand_ins import Stand, identity, stand_in
from epochcast.text_sinks import shortened

UNSEEN = ("Lambda", "RNN", "Bidirectional")  # layers whose function or cell is not seen when they are traced
LAMBDA = "__lambda__"  # what Keras names code that stands in a file
VALUES = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"})
KERAS_PACKAGES = ("keras_hub", "keras_cv", "keras_nlp")  # of Keras's own team
BUILTIN = ("activations", "constraints", "initializers", "losses", "metrics", "optimizers", "regularizers")
Json = dict[str, Any]  # Any: what a file holds
GRAPHS = frozenset({"Functional", "Sequential"})
GRAPH_KEYS = ("name", "trainable", "layers", "input_layers", "output_layers")
FUNCTIONAL = {"module": "keras.src.models.functional", "class_name": "Functional", "registered_name": "Functional"}
ZEROS: Json = {"module": "keras.initializers", "class_name": "Zeros", "config": {}, "registered_name": None}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something that a configuration names and nothing has."""

    what: str  # e.g. `class Mine (mymodule)`
    layer: str  # in which it stands; empty: it is the network
    is_countable: bool  # once its code is there
    is_keras: bool = False  # of another version of Keras
    is_lambda: bool = False  # code in the file
    package: str | None = None  # that brings it
    is_misfit: bool = False  # the author's code has the name for something else
    is_network: bool = False  # it is the whole, else a part of it
    imported: str | None = None  # how a class of `package` is imported


class WantedError(ValueError):
    """A network can't be rebuilt without these."""

    def __init__(self, wanted: tuple[Wanted, ...], why_needed: str = "") -> None:
        super().__init__(", ".join(one.what for one in wanted))
        self.wanted = wanted
        self.why_needed = why_needed  # although unknown layers are allowed; empty: they were not


@dataclass(slots=True)
class Prepared:
    """A configuration that Keras can rebuild."""

    config: Json
    objects: dict[str, Any] = field(default_factory=dict)  # custom objects by the names that it uses
    left_out: list[str] = field(default_factory=list)  # what is not counted and no layer


def prepare(config: Json, given: Mapping[str, Any], allow_unknown: bool) -> Prepared:
    """Return a configuration with what is not of Keras found or stood in for; `config` is changed.

    An initializer is never needed, as no weight is made; a regularizer or constraint of its author's is left out.

    Raises:
        WantedError: if a layer, or the network, is known to nothing here, unless `allow_unknown`.
    """
    prepared = Prepared(config)
    holder = {"network": config}
    wanted: list[Wanted] = []
    stands: dict[tuple[int, int], Stand] = {}
    for place in places(holder):
        key = str(place.key)
        if "activation" in key and _is_code(place.value):
            place.holder[place.key] = {"class_name": LAMBDA}
        found = _unknown_in(place.value, given, prepared.objects)
        if found is None:
            continue
        # a function of an author's has no FLOP that could be read, in an activation or a Lambda layer
        is_countable = not (found.is_lambda or "activation" in key or place.kind in UNSEEN)
        one = Wanted(
            found.what,
            place.layer,
            is_countable,
            found.is_keras,
            found.is_lambda,
            found.package,
            found.is_misfit,
            is_network=key == "network",
            imported=found.imported,
        )
        if key.endswith("initializer"):
            place.holder[place.key] = dict(ZEROS)
        elif key.endswith(("regularizer", "constraint")):
            place.holder[place.key] = None
            prepared.left_out.append(f"{key.rpartition('_')[2]} {found.name} of {place.layer or 'the network'}")
        elif "activation" in key:
            wanted.append(one)
            name = "lambda_function" if found.is_lambda else found.name
            prepared.objects[name] = identity(name)
            place.holder[place.key] = _function(name)
        elif place.owner is not None:
            wanted.append(one)
            layers, index = place.owner
            is_inner = layers is not (config.get("config") or {}).get("layers")
            stands[id(layers), index] = Stand(layers, index, is_inner)
        else:
            wanted.append(one)
            if not is_graph(place.value):
                raise WantedError((one,))
            inner = place.value["config"]
            prepared.left_out.append(f"what {found.what} does beyond its layers")
            place.value.update(FUNCTIONAL, config={key: inner[key] for key in GRAPH_KEYS if key in inner})
    if wanted and not allow_unknown:
        raise WantedError(tuple(wanted))
    for number, stand in enumerate(stands.values()):
        name = f"stand-in>{number}"
        try:
            prepared.objects[name] = stand_in(stand)
        except ValueError as error:
            raise WantedError(tuple(wanted), str(error)) from None
        stand.replace(name)
    prepared.config = holder["network"]
    return prepared


@dataclass(slots=True)
class Location:
    """A value in a configuration, and the layer of a network's list that it is or stands in."""

    holder: Any
    key: Any
    owner: tuple[list[Any], int] | None

    @property
    def value(self) -> Any:
        return self.holder[self.key]

    @property
    def layer(self) -> str:
        """The name of that layer; empty without one."""
        if self.owner is None:
            return ""
        return shortened(Stand(*self.owner, is_inner=False).name, 20)

    @property
    def kind(self) -> Any:
        """The class of that layer."""
        return None if self.owner is None else self.owner[0][self.owner[1]].get("class_name")


def places(holder: Json) -> Iterator[Location]:
    """Every dictionary of a configuration, those around it first, in the order of the file."""
    lists: set[int] = set()  # of layers, by id
    waiting = [Location(holder, "network", None)]
    while waiting:
        place = waiting.pop()
        value = place.value
        if isinstance(value, list):
            is_layers = id(value) in lists
            inner = [Location(value, i, (value, i) if is_layers and isinstance(value[i], dict) else place.owner)
                     for i in range(len(value))]  # fmt: skip
        elif isinstance(value, dict):
            yield place
            value = place.value  # as it may have been replaced
            if not isinstance(value, dict) or value.get("class_name") in VALUES:
                continue
            if value.get("class_name") in GRAPHS and is_graph(value):
                lists.add(id(value["config"]["layers"]))
            inner = [Location(value, key, place.owner) for key in value]
        else:
            continue
        waiting += reversed(inner)


def is_graph(value: Json) -> bool:
    """Whether it describes a network by a list of its layers."""
    inner = value.get("config")
    return isinstance(inner, dict) and isinstance(inner.get("layers"), list)


@dataclass(frozen=True, slots=True)
class _Unknown:
    what: str
    name: str
    is_lambda: bool = False
    is_keras: bool = False
    package: str | None = None
    is_misfit: bool = False
    imported: str | None = None


def _unknown_in(value: Json, given: Mapping[str, Any], objects: dict[str, Any]) -> _Unknown | None:
    """What a dictionary asks for that neither Keras nor `given` has; what `given` has is put into `objects`."""
    kind, module, inner = value.get("class_name"), value.get("module"), value.get("config")
    if kind == LAMBDA:
        return _Unknown("a lambda function", "lambda", is_lambda=True)
    if not isinstance(kind, str) or kind in VALUES or "config" not in value or "module" not in value:
        return None
    is_function = kind == "function"
    name = str(inner) if is_function else kind
    is_keras = str(module).partition(".")[0] == "keras"
    if is_keras and _has(str(module), name):
        return None
    if is_function and (module == "builtins" or is_keras) and any(_has(f"keras.{part}", name) for part in BUILTIN):
        return None
    asked = (name,) if is_function else (value.get("registered_name"), name)
    names = [text for text in asked if isinstance(text, str) and text in given]
    names = names or [known for known in given if known.endswith(f">{name}")]
    is_misfit = bool(names) and not is_function and not _can_be_made(given[names[0]])
    if names and not is_misfit:
        objects[names[0]] = given[names[0]]
        value["config" if is_function else "registered_name"] = names[0]
        return None
    shown = shortened(name, 24)
    word = "function" if is_function else "class"
    if is_keras:
        return _Unknown(f"{shortened(str(module), 30)}.{shown}", shown, is_keras=True)
    where = "" if module in (None, "builtins", "__main__") else f" ({shortened(str(module), 20)})"
    package: str | None = str(module).partition(".")[0]
    package = package if package in KERAS_PACKAGES else None
    imported = f"from {shortened(str(module), 60)} import {shown}" if package else None
    return _Unknown(f"{word} {shown}{where}", shown, package=package, is_misfit=is_misfit, imported=imported)


def _can_be_made(thing: Any) -> bool:
    """Whether it is a class that Keras makes objects of: one of no base of Keras's has no `from_config`."""
    return isinstance(thing, type) and hasattr(thing, "from_config")


def _is_code(value: Json) -> bool:
    """Whether it is what Keras writes for a lambda function that is no layer's own."""
    code = value.get("value")
    return len(value) == 1 and isinstance(code, list) and len(code) == 3 and isinstance(code[0], str)


def _function(name: str) -> Json:
    return {"class_name": "function", "module": "builtins", "config": name, "registered_name": "function"}


def _has(module: str, name: str) -> bool:
    """Whether Keras has a class or function of this name."""
    if module.startswith("keras.src."):
        return hasattr(sys.modules.get(module), name)
    thing = sys.modules.get("keras")
    for part in (*module.split(".")[1:], name):
        thing = getattr(thing, part, None)
    return thing is not None
