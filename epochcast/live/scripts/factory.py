"""`train.py:make_training`: a function that returns a training."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from epochcast.text_sinks import shortened

CONTRACT = (
    'a dict such as {"model": model, "x": x, "y": y, "epochs": 50}: a compiled model, and the arguments of its fit'
)
MOST_NAMES = 8  # of functions in a message


class FactoryError(ValueError):
    """A function that is no factory of a training."""


def split_factory(text: str) -> tuple[Path, str | None]:
    """Return script and function of `SCRIPT:FUNCTION`; a file that is called so is a script."""
    path, colon, function = text.rpartition(":")
    if not colon or not path or not function.isidentifier() or Path(text).exists():
        return Path(text), None
    return Path(path), function


def imported(script: Path) -> Any:
    """Import a file under its own name, not as `__main__`.

    Raises:
        FactoryError: if another module has its name.
    """
    name = script.stem
    if name in sys.modules:
        raise FactoryError(f"another module is called {name!r}. Rename the file.")
    spec = spec_from_file_location(name, script.absolute())
    if spec is None or spec.loader is None:
        raise FactoryError("its name does not end in .py.")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def function_of(module: Any, name: str) -> Callable[[], Any]:
    """Return a module's function.

    Raises:
        FactoryError: if it has none of this name.
    """
    function = getattr(module, name, None)
    if callable(function):
        return function  # type: ignore[no-any-return]  # of a user's module
    own = [
        each
        for each, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not each.startswith("_")
    ]
    has = f"its functions: {', '.join(own[:MOST_NAMES])}" if own else "it has no function"
    raise FactoryError(f"there is no function {name!r} in it; {has}.")


def training_of(name: str, made: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Return model, x, y and options of fit of what a factory returned.

    Raises:
        FactoryError: if it is not what CONTRACT says.
    """
    if not isinstance(made, Mapping):
        raise FactoryError(f"{name} returned {_a(type(made).__name__)}; expected {CONTRACT}.")
    given = dict(made)
    missing = [each for each in ("model", "x") if given.get(each) is None]
    if missing:
        raise FactoryError(f"{name} returned a dict without {' and '.join(missing)}; expected {CONTRACT}.")
    model = given.pop("model")
    if not callable(getattr(model, "fit", None)) or not hasattr(model, "compiled"):
        raise FactoryError(f"{name} returned {_a(type(model).__name__)} as model; expected a Keras model.")
    if not model.compiled:
        raise FactoryError(f"{name} returned a model that is not compiled: call its compile before.")
    names = list(inspect.signature(model.fit).parameters)
    if unknown := [str(each) for each in given if each not in names]:
        raise FactoryError(
            f"{name} returned {shortened(', '.join(unknown))}, which fit does not have; it has {', '.join(names)}."
        )
    return model, given.pop("x"), given.pop("y", None), given


def _a(noun: str) -> str:
    return noun if noun == "NoneType" else f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
