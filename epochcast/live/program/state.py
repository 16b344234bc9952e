"""What a trial of a fit changes in its process: saved before, put back after it."""

from __future__ import annotations

import contextlib
import gc
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

GLOBAL_SEED_GENERATOR, AUTO_NAMES = "global_seed_generator", "object_name_uids"  # Keras's own words
ATTRIBUTES = (  # of a model, that its fit and its evaluation set
    "history",
    "stop_training",
    "stop_evaluating",
    "_initial_epoch",
    "_jax_state",
    "_jax_state_synced",
    "_eval_epoch_iterator",
    "_compiled_trainable_state",
)
MOST_DEPTH = 3  # of lists and dicts in an attribute
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Part:
    """Something that was saved."""

    name: str  # in words
    put_back: Callable[[], None]


class SavedState:
    """The state of a built model and of all random generators.

    Variables are copied to the memory of the host: as many bytes as weights, optimizer and metrics have.
    """

    def __init__(self, model: keras.Model) -> None:
        self._parts = [*_variables(model), _attributes(model), _auto_names()]
        self._parts += [*random_states(), _global_seed_generator()]
        if keras.backend.backend() == "torch":
            self._parts.append(_torch_modules(model))

    @property
    def kept(self) -> tuple[str, ...]:
        """What is put back, in words."""
        return tuple(part.name for part in self._parts)

    def put_back(self) -> None:
        """Put everything back; what fails keeps nothing else from it."""
        put_back(self._parts)


def put_back(parts: Iterable[Part]) -> None:
    """Put all parts back, in their order, then raise what one of them raised."""
    with contextlib.ExitStack() as stack:
        for part in reversed(list(parts)):
            stack.callback(part.put_back)


# --- variables --------------------------------------------------------------------------------------------------------


def _variables(model: keras.Model) -> list[Part]:
    """Save all variables that a training step may assign, each once."""
    groups: dict[str, Iterable[Any]] = {
        "weights and states of the layers": model.variables,
        "optimizer": [v for optimizer in _optimizers(model) for v in optimizer.variables],
        "metrics": model.metrics_variables,
        "states that Keras lists nowhere": _unlisted(model),
        "seeds": _seed_states(),
    }
    parts, seen = [], set[int]()
    for name, variables in groups.items():
        own = [variable for variable in variables if id(variable) not in seen]
        seen |= {id(variable) for variable in own}
        if own:
            parts.append(_saved(name, own))
    return parts


def _saved(name: str, variables: list[Any]) -> Part:
    # copies: JAX gives its buffers away to the next step, and NumPy's arrays may be views of them
    values = [_copied(variable) for variable in variables]

    def put_back() -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    return Part(name, put_back)


def _copied(variable: Any) -> np.ndarray:
    value = variable.value if isinstance(variable, keras.Variable) else variable.numpy()
    return np.array(keras.ops.convert_to_numpy(value), copy=True)


def own_optimizers(model: keras.Model) -> dict[str, Any]:
    """Return a model's own optimizers, as of a GAN, by attribute name."""
    found: dict[str, Any] = {}
    seen = {id(model.optimizer), id(getattr(model.optimizer, "inner_optimizer", None))}
    for layer in model._flatten_layers():
        for name, value in sorted(
            vars(layer).items(), key=lambda item: item[0].startswith("_")
        ):  # TensorFlow's own last
            for where, optimizer in _inside(value, (keras.optimizers.Optimizer,), name):
                if id(optimizer) not in seen:
                    seen.add(id(optimizer))
                    found[where] = optimizer
    return found


def _optimizers(model: keras.Model) -> list[Any]:
    """The model's optimizer and its own ones."""
    compiled = [model.optimizer] if isinstance(model.optimizer, keras.optimizers.Optimizer) else []
    return [*compiled, *own_optimizers(model).values()]


def _unlisted(model: keras.Model) -> list[Any]:
    """Return variables of layers that Keras lists nowhere, as a stateful RNN's states."""
    tensorflow = sys.modules.get("tensorflow")
    kinds = (keras.Variable,) if tensorflow is None else (keras.Variable, tensorflow.Variable)
    values = [value for layer in model._flatten_layers() for value in list(vars(layer).values())]
    return [variable for value in values for _, variable in _inside(value, kinds)]


def _inside(value: Any, kinds: tuple[type, ...], name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Objects of some kinds in a value, also inside lists and dicts, each after its name."""
    if isinstance(value, kinds):
        yield name, value
    elif depth < MOST_DEPTH and isinstance(value, list | tuple):
        for i, each in enumerate(value):
            yield from _inside(each, kinds, f"{name}[{i}]", depth + 1)
    elif depth < MOST_DEPTH and isinstance(value, Mapping):
        for key, each in list(value.items()):
            yield from _inside(each, kinds, f"{name}[{key!r}]", depth + 1)


def _seed_states() -> list[Any]:
    """Return the states of all seed generators, also outside the model."""
    tensorflow = sys.modules.get("tensorflow")
    own = keras.random.SeedGenerator
    kinds = (own,) if tensorflow is None else (own, tensorflow.random.Generator)
    generators = [each for each in gc.get_objects() if issubclass(type(each), kinds)]
    return [each.state for each in generators if getattr(each, "state", None) is not None]


# --- attributes and names ---------------------------------------------------------------------------------------------


def _attributes(model: keras.Model) -> Part:
    values = {name: vars(model).get(name, _MISSING) for name in ATTRIBUTES}

    def put_back() -> None:
        for name, value in values.items():
            if value is _MISSING:
                vars(model).pop(name, None)
            else:
                vars(model)[name] = value  # past the hooks of Keras, which track what is set

    return Part("history and flags of the model", put_back)


def _auto_names() -> Part:
    """Save the numbers with which Keras names its next objects."""
    from keras.src.backend.common import global_state

    counts = global_state.get_global_attribute(AUTO_NAMES)
    values = {} if counts is None else dict(counts)

    def put_back() -> None:
        now = global_state.get_global_attribute(AUTO_NAMES)
        if now is not None:
            now.clear()
            now.update(values)

    return Part("numbers of automatic names", put_back)


# --- random generators ------------------------------------------------------------------------------------------------


def random_states() -> list[Part]:
    """Save the generators of Python, NumPy, TensorFlow and PyTorch."""
    state, numpy_state = random.getstate(), np.random.get_state()
    parts = [
        Part("Python's random", lambda: random.setstate(state)),
        Part("NumPy's random", lambda: np.random.set_state(numpy_state)),
    ]
    if sys.modules.get("tensorflow") is not None:
        parts += _tensorflow_random()
    if (torch := sys.modules.get("torch")) is not None:
        parts.append(_torch_random(torch))
    return parts


def seed_all(seed: int) -> None:
    """Seed the random generators that a trial uses."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)


def _global_seed_generator() -> Part:
    """Save the seed generator of Keras that layers without one of their own use.

    Traced functions keep the one that they first used. One that a trial made is therefore kept, and seeded as the fit
    would have done it: from Python's generator, which must have been put back before.
    """
    from keras.src.backend.common import global_state

    before = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    value = None if before is None else _copied(before.state)

    def put_back() -> None:
        now = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
        if before is not None:
            before.state.assign(value)
            global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, before)
        elif now is not None:
            now.state.assign(np.array([random.randint(1, int(1e9)), 0]))  # as Keras draws its first one

    return Part("Keras's global seed generator", put_back)


def _tensorflow_random() -> list[Part]:
    """Save the generator of TensorFlow's eager operations, which exists once a seed was set."""
    from tensorflow.python.eager import context

    generator = getattr(context.context(), "_rng", None)
    if generator is None:
        return []
    state = generator.getstate()
    return [Part("TensorFlow's eager random", lambda: generator.setstate(state))]


def _torch_random(torch: Any) -> Part:
    state = torch.get_rng_state()
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    def put_back() -> None:
        torch.set_rng_state(state)
        if on_gpus:
            torch.cuda.set_rng_state_all(on_gpus)

    return Part("PyTorch's random", put_back)


def _torch_modules(model: Any) -> Part:
    """Save each module's mode and the gradients: those of the last step stay otherwise."""
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(p, None if p.grad is None else p.grad.detach().clone()) for p in model.parameters()]

    def put_back() -> None:
        for module, mode in modes:
            module.training = mode
        for parameter, gradient in gradients:
            parameter.grad = gradient

    return Part("modes and gradients of the modules", put_back)
