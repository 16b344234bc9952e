"""The arguments of the `fit` that runs a callback, which Keras does not give to it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WRAPPER = "traceback_utils.py"  # Keras calls every `fit` of its own through the wrapper of this file


@dataclass(frozen=True, slots=True)
class FitCall:
    """What a `fit` was called with."""

    x: Any
    options: Mapping[str, Any]  # without x and y


def running_fit(model: Any) -> FitCall | None:
    """Return the call of the innermost running `fit` of a model; None outside of one.

    Read from the frames of the calls: callbacks are given epochs and steps, but neither data nor batch size.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.endswith(WRAPPER):
            names = frame.f_locals
            fit: Any = names.get("fn")
            given, named = names.get("args"), names.get("kwargs") or {}
            if getattr(fit, "__name__", None) == "fit" and given and given[0] is model:
                arguments = inspect.signature(fit).bind(*given, **named).arguments
                options = {name: value for name, value in list(arguments.items())[1:] if name not in ("x", "y")}
                return FitCall(arguments.get("x"), options)
        frame = frame.f_back  # type: ignore[assignment]
    return None
