"""Catches a call of `fit` in whatever program imports Keras afterwards."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODEL_MODULE = "keras.src.models.model"  # where Keras defines Model; there is no public hook for what comes after it
KERAS = "keras"  # the package; once it is imported, a policy can be set
OLD_MODEL_MODULE = "tf_keras.src.engine.training"  # the same in Keras 2, which can't be estimated
OWN_LOOP = ("train_on_batch",)  # methods of a model that a program's own loop trains by


@dataclass
class Calls:
    """How often a program called what trains a model, and which fit is caught."""

    number: int | None  # None: none is
    fits: int = 0
    own_loop: str | None = None  # the first of OWN_LOOP that was called outside of a fit


class _Patching(Loader):
    """Loads Keras's module, then changes its class."""

    def __init__(self, loader: Loader, patch: Callable[[ModuleType], None]) -> None:
        self._loader, self._patch = loader, patch

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._patch(module)


class _Finder(MetaPathFinder):
    def __init__(self, patches: Mapping[str, Callable[[ModuleType], None]]) -> None:
        self._patches = patches
        self._is_looking = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self._patches or self._is_looking:
            return None
        self._is_looking = True
        try:
            from importlib.util import find_spec

            spec = find_spec(name)
        finally:
            self._is_looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Patching(spec.loader, self._patches[name])
        return spec


def catch_fit(
    number: int,
    caught: Callable[[Any, Any, Any, dict[str, Any]], Any],
    own_loop: Callable[[str], None],
    old_fit: Callable[[], Any] | None,
    policy: str | None = None,
) -> Calls:
    """Call `caught(model, x, y, options)` in place of the `number`-th `fit`; earlier ones are done.

    Args:
        own_loop: called with the name of a method of OWN_LOOP, the first time that the program itself calls it.
        old_fit: called in place of a fit of Keras 2; without it such a fit is done.
        policy: name of the dtype policy that is set as soon as Keras is imported; None leaves Keras's own.
    """
    calls = Calls(number)

    def patch(module: ModuleType) -> None:
        model_class = module.Model
        real = model_class.fit

        @functools.wraps(real)
        def fit(self: Any, x: Any = None, y: Any = None, *more: Any, **options: Any) -> Any:
            calls.fits += 1
            if calls.fits != calls.number:
                return real(self, x, y, *more, **options)
            model_class.fit = real
            given = inspect.signature(real).bind(self, x, y, *more, **options).arguments
            return caught(self, x, y, {name: given[name] for name in list(given)[3:]})

        model_class.fit = fit
        for name in OWN_LOOP:
            if hasattr(model_class, name):
                setattr(model_class, name, _noticed(getattr(model_class, name), name))

    def _noticed(method: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(method)
        def noticed(self: Any, *given: Any, **named: Any) -> Any:
            if calls.own_loop is None and not calls.fits:
                calls.own_loop = name
                own_loop(name)
            return method(self, *given, **named)

        return noticed

    def patch_old(module: ModuleType) -> None:
        if old_fit is not None:
            module.Model.fit = lambda *given, **named: old_fit()

    def set_policy(module: ModuleType) -> None:
        if policy is not None:
            module.config.set_dtype_policy(policy)

    sys.meta_path.insert(0, _Finder({KERAS: set_policy, MODEL_MODULE: patch, OLD_MODEL_MODULE: patch_old}))
    return calls
