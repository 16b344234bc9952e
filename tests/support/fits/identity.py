"""A process that prints what fits leave, with an estimate or without.

Called with names of cases, each followed by the variants to try.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from epochcast import estimate
from epochcast.live.program import state
from tests.support.fits.cases import CASES, Fit

SEED, BUDGET_SEC = 7, 0.2
STEP, LONG_SEC = 5, 600.0  # the execution at which some trials end, and a budget that does not end before it
QUIET = {"verbose": 0}


class StepError(Exception):
    """Raised in a step of a trial."""


def fresh(name: str) -> Fit:
    """Build a case from a state that is always the same."""
    keras.utils.clear_session()
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(SEED)
    return CASES[name]()


def digest(values: Any) -> str:
    return hashlib.sha256(b"".join(np.asarray(v).tobytes() for v in values)).hexdigest()[:16]


def arrays_of(variables: Any) -> list[Any]:
    return [keras.ops.convert_to_numpy(variable.value) for variable in variables]


def left_by(model: keras.Model) -> dict[str, Any]:
    """Everything of a process that a later line of its program could see."""
    states = [s for layer in model._flatten_layers() for s in (getattr(layer, "states", None) or ())]
    return {
        "variables": digest(arrays_of(model.variables)),
        "optimizer": digest(arrays_of(model.optimizer.variables)),
        "its own optimizers": [digest(arrays_of(each.variables)) for each in getattr(model, "optimizers", {}).values()],
        "metrics": digest(arrays_of(model.metrics_variables)),
        "states": digest(arrays_of(states)),
        "names": [v.path for v in (*model.variables, *model.optimizer.variables, *model.metrics_variables)],
        "history": {name: [repr(v) for v in values] for name, values in model.history.history.items()},
        "epochs": model.history.epoch,
        "random": random.random(),
        "numpy": np.random.random(),
        "keras": digest([keras.ops.convert_to_numpy(keras.random.normal((2,)))]),
        "next name": keras.layers.Dense(1).name,
    }


def trained(fit: Fit, initial: int = 0) -> dict[str, Any]:
    """Train two epochs."""
    model, x, y, options = fit
    model.fit(x, y, epochs=initial + 2, initial_epoch=initial, **QUIET, **options)
    return left_by(model)


def try_fit(fit: Fit, budget_sec: float = BUDGET_SEC) -> Any:
    model, x, y, options = fit
    found = estimate(model, x, y, epochs=2, budget_sec=budget_sec, region="DE", **QUIET, **options)
    return {"text": str(found), "kept": found.kept, "notes": found.notes, "epochs": found.epochs}


def ending_with(error: type[BaseException]) -> Callable[[Fit], Any]:
    """Return a trial in which a step raises."""

    def trial(fit: Fit) -> Any:
        real, count = keras.callbacks.CallbackList.on_train_batch_begin, [0]

        def step(self: Any, *given: Any, **named: Any) -> None:
            count[0] += 1
            if count[0] == STEP:
                raise error("in a step")
            real(self, *given, **named)

        keras.callbacks.CallbackList.on_train_batch_begin = step
        try:
            try_fit(fit, LONG_SEC)
        except error:
            return None
        finally:
            keras.callbacks.CallbackList.on_train_batch_begin = real
        raise AssertionError("no step raised")

    return trial


def nothing_put_back(fit: Fit) -> Any:
    real = state.SavedState.put_back
    state.SavedState.put_back = lambda self: None
    try:
        return try_fit(fit)
    finally:
        state.SavedState.put_back = real


def refused(fit: Fit) -> Any:
    try:
        try_fit(fit)
    except ValueError as error:
        return {"refused": str(error)}
    raise AssertionError("it was estimated")


def signalled(after_sec: float) -> Callable[[Fit], Any]:
    """Return a trial that gets a real SIGINT after some seconds."""

    def trial(fit: Fit) -> Any:
        timer = threading.Timer(after_sec, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        try:
            for _ in range(100):
                try_fit(fit)
        except KeyboardInterrupt:
            return None
        raise AssertionError("no signal came")

    return trial


TRIALS: dict[str, Callable[[Fit], Any]] = {
    "control": lambda fit: None,
    "estimated": try_fit,
    "raised": ending_with(StepError),
    "interrupted": ending_with(KeyboardInterrupt),
    "nothing put back": nothing_put_back,
    "refused": refused,
}


def trial_of(variant: str) -> Callable[[Fit], Any]:
    return signalled(float(variant.split()[1])) if variant.startswith("signal ") else TRIALS[variant]


def left_after(name: str, variant: str) -> tuple[dict[str, Any], Any]:
    """What two epochs leave after a trial, and what the trial said.

    The model is a new one, or with `resumed` one that was trained before.
    """
    fit = fresh(name)
    if variant.startswith("resumed "):
        model, x, y, options = fit
        model.fit(x, y, epochs=1, **QUIET, **options)
        told = trial_of(variant.removeprefix("resumed "))((model, x, y, {**options, "initial_epoch": 1}))
        return trained(fit, initial=1), told
    told = trial_of(variant)(fit)
    return trained(fit), told


def said_of_arguments() -> dict[str, str]:
    """What is said of wrong arguments of a call."""
    model, x, y, options = fresh("functional_network")
    uncompiled = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    calls: dict[str, Callable[[], Any]] = {
        "no model": lambda: estimate("model", x, y, epochs=1),
        "not compiled": lambda: estimate(uncompiled, x, y, epochs=1),
        "option": lambda: estimate(model, x, y, epochs=1, batchsize=8, **options),
        "no epoch": lambda: estimate(model, x, y, epochs=0, **options),
        "half an epoch": lambda: estimate(model, x, y, epochs=0.5, **options),
        "no epoch left": lambda: estimate(model, x, y, epochs=3, initial_epoch=3, **options),
        "budget 0": lambda: estimate(model, x, y, epochs=1, budget_sec=0, **options),
        "budget nan": lambda: estimate(model, x, y, epochs=1, budget_sec=float("nan"), **options),
        "region": lambda: estimate(model, x, y, epochs=1, region="nowhere", **options),
    }
    said = {}
    for name, call in calls.items():
        try:
            call()
        except (TypeError, ValueError) as error:
            said[name] = f"{type(error).__name__}: {error}"
    return said


def main() -> int:
    warnings.simplefilter("ignore")
    name = ""
    for word in sys.argv[1:]:
        if word in CASES:
            name = word
        elif word == "arguments":
            print(json.dumps(["arguments", "", said_of_arguments(), None]), flush=True)
        elif word == "message":
            print(json.dumps([name, word, refused(fresh(name)), None]), flush=True)
        else:
            try:
                left, told = left_after(name, word)
            except Exception as error:
                left, told = {"error": f"{type(error).__name__}: {error}"}, None
            print(json.dumps([name, word, left, told]), flush=True)
            gc.collect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
