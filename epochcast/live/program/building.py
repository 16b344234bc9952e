"""Building of a compiled model before its first fit, as fit does it."""

from __future__ import annotations

from types import FunctionType
from typing import Any

import keras

from epochcast.live.program.state import own_optimizers, put_back, random_states

ARGUMENTS = ("batch_size", "steps_per_epoch", "shuffle", "class_weight", "sample_weight")  # of `fit`, of its batches

WAY_OUT = (
    "Train it for a step before, or use `epochcast estimate train.py`, which estimates the same fit in a process of "
    "its own."
)


class CannotBuildError(ValueError):
    """A model that can't be built before it is trained."""


def build_as_fit_does(model: keras.Model, own: tuple[Any, Any], copied: tuple[Any, Any], options: Any) -> None:
    """Make all variables that a fit of the model would make.

    Args:
        own: inputs and targets of the user. JAX and PyTorch look at one of their batches first, which draws from
            NumPy's and PyTorch's generators and from the data's own. A fit afterwards looks no more, so that this must
            be done here on the same objects.
        copied: the same for TensorFlow, which looks at none.
        options: of the fit.

    Raises:
        CannotBuildError: if the model has a form or optimizers that only its own training step knows.
    """
    own_ones = own_optimizers(model)
    if unbuilt := [name for name, optimizer in own_ones.items() if not optimizer.built]:
        raise CannotBuildError(
            f"this model has optimizers of its own ({', '.join(unbuilt)}) that are not yet built, and only its own "
            f"training step knows for which weights. {WAY_OUT}"
        )
    is_tensorflow = keras.backend.backend() == "tensorflow"
    # the other backends' fit builds it in any case; TensorFlow's own step, where it is first used
    has_optimizer = not (is_tensorflow and own_ones) or _names_optimizer(model)
    if _is_built(model, has_optimizer):
        return
    batches = _batches(model, *(copied if is_tensorflow else own), options)
    try:
        if is_tensorflow:
            _tensorflow_build(model, batches, has_optimizer)
        else:
            model._symbolic_build(iterator=batches)  # no public way builds the loss and the metrics
    except Exception as error:  # whatever the model's call raises
        raise CannotBuildError(
            f"this model can't be built before its first step ({type(error).__name__}: {error}). {WAY_OUT}"
        ) from error
    finally:
        if (enqueuer := getattr(batches.data_adapter, "enqueuer", None)) is not None:
            enqueuer.stop()


def _names_optimizer(model: keras.Model) -> bool:
    """Whether a user's own methods name `self.optimizer`, but for what compiles the model."""
    own = [each for each in type(model).__mro__ if each.__module__.split(".")[0] != "keras"]
    methods = [value for each in own for name, value in vars(each).items() if name not in ("__init__", "compile")]
    return any("optimizer" in method.__code__.co_names for method in methods if isinstance(method, FunctionType))


def _is_built(model: keras.Model, has_optimizer: bool) -> bool:
    """Whether `fit` would build nothing."""
    optimizer = model.optimizer if has_optimizer else None
    parts = (optimizer, getattr(model, "_compile_metrics", None), getattr(model, "_compile_loss", None))
    return all(layer.built for layer in model._flatten_layers()) and all(p is None or p.built for p in parts)


def _batches(model: keras.Model, x: Any, y: Any, options: Any) -> Any:
    """The iterator over an epoch that `fit` makes."""
    given = {name: options[name] for name in ARGUMENTS if name in options}
    given.setdefault("shuffle", True)
    if (share := options.get("validation_split")) and options.get("validation_data") is None:
        from keras.src.trainers.data_adapters import array_slicing

        (x, y, weights), _ = array_slicing.train_validation_split(
            (x, y, given.get("sample_weight")), validation_split=share
        )
        given["sample_weight"] = weights
    given["steps_per_execution"] = model.steps_per_execution
    match keras.backend.backend():
        case "jax":
            from keras.src.backend.jax.trainer import JAXEpochIterator

            return JAXEpochIterator(x=x, y=y, **given)
        case "torch":
            from keras.src.backend.torch.trainer import TorchEpochIterator

            return TorchEpochIterator(x=x, y=y, **given)
        case _:
            from keras.src.trainers.epoch_iterator import EpochIterator

            return EpochIterator(x=x, y=y, **given)


def _tensorflow_build(model: keras.Model, batches: Any, has_optimizer: bool) -> None:
    """Build the model, then the optimizer, as a traced step does."""
    before = random_states()  # a batch of shuffled arrays draws from NumPy's
    _, _, (batch, *_) = next(iter(batches))
    put_back(before)
    x, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
    if not all(layer.built for layer in model._flatten_layers()):
        from keras.src import backend

        inputs = keras.tree.map_structure(_symbolic, x)
        backend.compute_output_spec(model, inputs, training=False)  # draws no seed of a layer, as a plain call would
    optimizer = model.optimizer
    if has_optimizer and optimizer is not None and not optimizer.built:
        with keras.name_scope(optimizer.name, caller=optimizer):
            optimizer.build(model.trainable_variables)
    if has_optimizer:
        model._symbolic_build(data_batch=batch)
        return
    vars(model)["optimizer"] = None  # past the hooks of Keras; it would be built
    try:
        model._symbolic_build(data_batch=batch)
    finally:
        vars(model)["optimizer"] = optimizer


def _symbolic(value: Any) -> Any:
    return None if value is None else keras.KerasTensor(value.shape, keras.backend.standardize_dtype(value.dtype))
