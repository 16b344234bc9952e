"""A user's script, run unchanged until one of its fits, which is estimated in its place.

The script chooses the backend by what it sets before it imports Keras, so that nothing here imports Keras before it.
"""

from __future__ import annotations

import inspect
import json
import os
import runpy
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from epochcast.guard import die_with_parent
from epochcast.paths import CODE_ROOT

MODEL_MODULE = "keras.src.models.model"  # where Keras defines Model; there is no public hook for what comes after it


class Estimated(BaseException):
    """Ends a script whose fit was estimated: no `except Exception` of the script's holds it up."""


class _Patching(Loader):
    """Loads Keras's module, then puts another `fit` into its class."""

    def __init__(self, loader: Loader, patch: Callable[[ModuleType], None]) -> None:
        self._loader, self._patch = loader, patch

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._patch(module)


class _Finder(MetaPathFinder):
    def __init__(self, patch: Callable[[ModuleType], None]) -> None:
        self._patch = patch
        self._is_looking = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != MODEL_MODULE or self._is_looking:
            return None
        self._is_looking = True
        try:
            from importlib.util import find_spec

            spec = find_spec(name)
        finally:
            self._is_looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Patching(spec.loader, self._patch)
        return spec


def catch_fit(number: int, caught: Callable[[Any, Any, Any, dict[str, Any]], None]) -> None:
    """Call `caught(model, x, y, options)` in place of the `number`-th `fit`; earlier ones are done."""
    count = 0

    def patch(module: ModuleType) -> None:
        model_class = module.Model
        real = model_class.fit

        def fit(self: Any, x: Any = None, y: Any = None, *more: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count != number:
                return real(self, x, y, *more, **options)
            model_class.fit = real
            given = inspect.signature(real).bind(self, x, y, *more, **options).arguments
            return caught(self, x, y, {name: given[name] for name in list(given)[3:]})

        model_class.fit = fit

    sys.meta_path.insert(0, _Finder(patch))


def run_script(script: Path, arguments: list[str], number: int, budget_sec: float, tell: Callable[..., None]) -> None:
    """Run a script as `__main__` until its fit; `tell` hears what came of it."""
    begin = time.perf_counter(), time.process_time()
    own = os.getpid()
    is_caught = False

    def caught(model: Any, x: Any, y: Any, options: dict[str, Any]) -> None:
        nonlocal is_caught
        is_caught = True
        if os.getpid() != own:
            tell("failed", message="its fit is called in a forked process, where no framework can be timed.")
            os._exit(0)
        sec, cpu_sec = time.perf_counter() - begin[0], time.process_time() - begin[1]
        tell("caught", script_sec=sec, script_cpu_sec=cpu_sec, model=type(model).__name__, params=model.built and
             int(model.count_params()), options=sorted(options))  # fmt: skip
        from epochcast.live.estimate import estimate_fit

        try:
            found = asdict(estimate_fit(model, x, y, options, budget_sec))
            del found["footprint"]  # the command's own
            tell("estimate", **found)
        except Exception as error:  # whatever the model, its data or the framework raise in a step
            tell("failed", message=f"{type(error).__name__}: {error}")
        model_class = sys.modules[MODEL_MODULE].Model
        model_class.fit = lambda *_, **__: os._exit(0)  # of a script that goes on all the same
        raise Estimated

    catch_fit(number, caught)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except Estimated:
        return
    except SystemExit as error:
        if not is_caught:
            tell("ended", code=error.code if isinstance(error.code, int) else 0 if error.code is None else 1)
        return
    if not is_caught:
        tell("ended", code=0)


def command(descriptor: int, number: int, budget_sec: float, script: Path, arguments: list[str]) -> list[str]:
    """The command of a process that runs a script and writes events as JSON."""
    code = (
        f"import sys; sys.path.insert(0, {str(CODE_ROOT)!r}); import epochcast.live.script as script; "
        "sys.path.pop(0); sys.exit(script.main())"  # of the checkout, a script's own imports see nothing
    )
    how = [str(descriptor), str(os.getpid()), str(number), str(budget_sec), str(script)]
    return [sys.executable, "-P", "-c", code, *how, *arguments]


def main() -> int:
    descriptor, parent, number, budget_sec, script, *arguments = sys.argv[1:]
    die_with_parent(int(parent))
    with os.fdopen(int(descriptor), "w", encoding="utf-8") as events:

        def tell(event: str, **values: Any) -> None:
            print(json.dumps({"event": event, **values}), file=events, flush=True)

        run_script(Path(script), arguments, int(number), float(budget_sec), tell)
    return 0
