"""Which values are tried for a caught fit, and why others are not."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from epochcast.live.estimate import device_of_training
from epochcast.live.tuning.inputs import Inputs
from epochcast.live.tuning.settings import INPUTS, Setting
from epochcast.machine.framework import framework_details
from epochcast.schema import DEFAULT_PRECISION, PRECISIONS

STEPS_PER_EXECUTION = (1, 4, 16)
TIMED_EXECUTIONS = 2  # of an epoch, at least; one more stops the pass
FIRST_CAPABILITY = {"mixed_float16": 7, "mixed_bfloat16": 8}  # major, of NVIDIA's GPUs that compute faster in it


class Axes:
    """The values to try of each name of a Setting, and the reasons against others.

    Args:
        wanted: the values that were asked for, by name; what is missing is chosen here.
        batches: of an epoch.
    """

    def __init__(
        self,
        model: keras.Model,
        baseline: Setting,
        inputs: Inputs,
        wanted: Mapping[str, list[Any]],
        batches: int,
        epochs: int,
    ) -> None:
        self._model, self._baseline, self._wanted = model, baseline, wanted
        self._batches = batches
        self.not_tried: dict[str, str] = {}  # why, by name and values
        self.values: dict[str, list[Any]] = {
            "precision": self._precisions(),
            "jit_compile": self._jit_values(),
            "steps_per_execution": self._execution_values(),
            "input": self._input_values(inputs, epochs),
            "batch_size": self._batch_sizes(inputs),
        }

    def _asked(self, name: str, default: Iterable[Any]) -> list[Any]:
        """Return the values that were asked for, else some, without the baseline's."""
        own = getattr(self._baseline, name)
        return [each for each in self._wanted.get(name, list(default)) if each != own]

    def _unless(self, reason: str | None, name: str, values: list[Any]) -> list[Any]:
        """Return the values; none if a reason speaks against them, which is kept."""
        if reason is None or not values:
            return values
        self.not_tried[f"{name} {', '.join(map(str, values))}"] = reason
        return []

    def _precisions(self) -> list[str]:
        values = self._asked("precision", (each for each in PRECISIONS if each != DEFAULT_PRECISION))
        policy = keras.config.dtype_policy().name
        if policy != keras.config.floatx():
            return self._unless(f"the script sets a policy of its own ({policy})", "precision", values)
        if "precision" in self._wanted:
            return values
        if device_of_training().kind == "cpu":
            reason = "a processor is seldom faster in it; --precision tries it"
            return self._unless(reason, "precision", values)
        slow = [each for each in values if not _is_fast(each)]
        self._unless("this GPU is not known to be faster in it; --precision tries it", "precision", slow)
        return [each for each in values if each not in slow]

    def _jit_values(self) -> list[str]:
        values = self._asked("jit_compile", ("on", "off"))
        reason = None
        if self._model.run_eagerly:
            reason = "the model is compiled with run_eagerly=True, which is slow: leave that out"
        elif values == ["off"] and keras.backend.backend() == "jax":
            reason = "JAX would do each operation by itself"
        elif values == ["on"] and not _supports_jit(self._model):
            reason = "this model does not support it"
        return self._unless(reason, "jit_compile", values)

    def _execution_values(self) -> list[int]:
        values = self._asked("steps_per_execution", STEPS_PER_EXECUTION)
        reason = None
        if keras.backend.backend() == "torch":
            reason = "Keras has none with PyTorch"
        elif self._model.run_eagerly:
            reason = "the model is compiled with run_eagerly=True"
        if reason is not None:
            return self._unless(reason, "steps_per_execution", values)
        few = [each for each in values if not enough_executions(self._batches, each)]
        self._unless(few_executions_text(self._batches), "steps_per_execution", few)
        return [each for each in values if each not in few]

    def _input_values(self, inputs: Inputs, epochs: int) -> list[str]:
        asked = self._asked("input", INPUTS)
        if not asked:  # nothing is imported for it
            return []
        why = {form: reason for form, reason in inputs.forms(self._batches, epochs).items() if form in asked}
        return [form for form, reason in why.items() if self._unless(reason, "input", [form])]

    def _batch_sizes(self, inputs: Inputs) -> list[int]:
        reason = None if inputs.has_any_batch_size else "only whole epochs of arrays are cut into batches by fit"
        return self._unless(reason, "batch_size", self._asked("batch_size", ()))


def enough_executions(batches: int, steps_per_execution: int) -> bool:
    """Whether an epoch has enough executions for a pass to be timed."""
    return batches > TIMED_EXECUTIONS * steps_per_execution


def few_executions_text(batches: int) -> str:
    """Return why such steps_per_execution are not tried."""
    return f"an epoch of {batches} batch{'es' * (batches != 1)} has too few executions to time"


def precision_of(model: keras.Model) -> str:
    """Return the policy that the model computes by: the global one where a layer has it."""
    names = [layer.dtype_policy.name for layer in model._flatten_layers(include_self=False) if layer.weights]
    policy = str(keras.config.dtype_policy().name)
    return policy if policy in names or not names else Counter(names).most_common(1)[0][0]


def _supports_jit(model: keras.Model) -> bool:
    """Whether Keras lets the model be compiled by XLA, by what it makes of the attribute."""
    before = model.jit_compile
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.jit_compile = True
    found = bool(model.jit_compile)
    model.jit_compile = before
    return found


def _is_fast(precision: str) -> bool:
    """Whether this process's GPU is known to compute faster in a precision."""
    gpus = framework_details(keras.backend.backend()).get("gpus") or [{}]
    capability = re.match(r"\(?(\d+)[.,]", str(gpus[0].get("compute_capability")))  # 8.0, or (8, 0)
    return capability is not None and int(capability[1]) >= FIRST_CAPABILITY[precision]
