"""Networks that Keras 2 saved, described as Keras 3 describes them: names of modules, settings and calls."""

from __future__ import annotations

from typing import Any

from epochcast.keras_files.foreign import FUNCTIONAL, Json, is_graph, places

# settings that Keras 3 doesn't have, at the value at which they change nothing
NEUTRAL: Json = {"time_major": False, "groups": 1}
BY_ITS_OWN_NAME = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")  # of a separable convolution's two
HAS_GROUPS = ("Conv1D", "Conv2D", "Conv3D")


def of_keras_2(config: Json) -> Json:
    """Return a configuration that Keras 2 saved as Keras 3 would have; `config` is changed."""
    holder = {"network": config}
    for place in places(holder):
        value = place.value
        module, kind, inner = str(value.get("module")), value.get("class_name"), value.get("config")
        if module.partition(".")[0] == "tf_keras":
            value["module"] = module = module.removeprefix("tf_")
        if kind == "Functional" and ".engine" in module and module.startswith("keras."):
            value.update(FUNCTIONAL)
        if isinstance(kind, str) and isinstance(inner, dict) and module.partition(".")[0] == "keras":
            _translate(kind, inner)
        if is_graph(value):
            _renumber(value["config"])
    return holder["network"]


def _translate(kind: str, settings: Json) -> None:
    """Leave out what Keras 3 says otherwise or not at all."""
    if kind != "InputLayer":
        settings.pop("batch_input_shape", None)  # the InputLayer before it has it
    for name, value in NEUTRAL.items():
        if settings.get(name) == value and not (name == "groups" and kind in HAS_GROUPS):
            settings.pop(name)
    if kind.startswith("SeparableConv"):
        for name in BY_ITS_OWN_NAME:
            settings.pop(name, None)
    axis = settings.get("axis")
    if kind == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        settings["axis"] = axis[0]


def _renumber(graph: Json) -> None:
    """Count the calls of Sequential models in a network from 0: Keras 2 counts their own making as the first."""
    names = {
        layer.get("name")
        for layer in graph["layers"]
        if isinstance(layer, dict) and layer.get("class_name") == "Sequential"
    }
    waiting: list[Any] = [graph.get("output_layers")]
    waiting += [layer.get("inbound_nodes") for layer in graph["layers"] if isinstance(layer, dict)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            if len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int):
                value[1] -= value[0] in names and value[1] > 0
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
