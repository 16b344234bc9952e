"""Passes over a training's data by its own `fit`, stamped at some steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from epochcast.live.sampling.data_kinds import is_generator, is_pipeline, is_py_dataset, is_torch_loader
from epochcast.live.sampling.estimator import Moment, Pass, Samples, repeated, sample
from epochcast.live.sampling.input_data import stop_workers

EMPTY = "the generator must yield at least one batch"  # Keras's own words of one that has ended
NEVER = 10**9  # a frequency of validation: it is timed by itself
OF_THE_WHOLE = ("epochs", "initial_epoch", "verbose", "callbacks", "validation_freq")  # options that a pass sets itself


class LengthUnknownError(ValueError):
    """How many steps an epoch has can't be found out."""


def require_one_device(model: keras.Model) -> None:
    """Raise ValueError if several devices share the training."""
    # the devices of TensorFlow's strategy that the model was made in
    n_replicas = int(getattr(getattr(model, "distribute_strategy", None), "num_replicas_in_sync", 1))
    if keras.distribution.distribution() is not None or n_replicas > 1:
        raise ValueError("this fit is shared by several devices, of which only one can be timed. Give it one device.")


def epochs_of(options: Mapping[str, Any]) -> int:
    """Return how many epochs a fit trains.

    Raises:
        ValueError: if it trains none.
    """
    epochs = int(options.get("epochs", 1)) - int(options.get("initial_epoch", 0) or 0)
    if epochs < 1:
        raise ValueError(f"this fit trains no epoch: epochs={options.get('epochs', 1)}.")
    return epochs


def moment() -> Moment:
    """Read both clocks."""
    return Moment(time.perf_counter(), time.process_time())


def device_wait(model: keras.Model) -> Callable[[], None]:
    """Return what waits until the device has done all steps that were given to it.

    Keras hands steps to a GPU, and under JAX to a processor too, and goes on; a clock read then says nothing.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        # during `fit` the state is here, and the variables hold nothing; a list, for its own type is taken for a leaf
        def wait_for_state() -> None:
            jax.block_until_ready(list(model._jax_state["trainable_variables"]))

        return wait_for_state
    if backend == "torch":
        import torch

        return torch.cuda.synchronize if torch.cuda.is_available() else _no_wait
    variables = model.trainable_variables or model.variables
    if not variables:
        return _no_wait
    smallest = min(variables, key=lambda variable: math.prod(variable.shape))

    def wait() -> None:
        smallest.value.numpy()

    return wait


def unit_of(model: keras.Model) -> int:
    """Return how many steps are one execution.

    Not to be asked in a hook of a step: under JAX a callback that reads its `model` has Keras copy the state of the
    training back into it.
    """
    return int(getattr(model, "steps_per_execution", 1) or 1)


def trained_steps(begun: int) -> int:
    """Return how many steps of data without a length did something.

    TensorFlow and JAX notice the end of the data in a step more; with PyTorch Keras takes a batch before its step.
    """
    return begun if keras.backend.backend() == "torch" else max(1, begun - 1)


def _no_wait() -> None:
    """Return at once: the device has finished."""


class Stamps(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Reads the clocks at the start of an epoch and after some steps.

    It has no hook after a step: with one Keras would fetch the logs of every step, and no step would overlap the next.
    To stop costs one more step, which is not timed.
    """

    def __init__(self, marks: Sequence[int], most: int = 1, end: float = math.inf) -> None:
        super().__init__()
        self.marks, self.most, self.end = list(marks), most, end
        self.passes: list[Pass] = []
        self.steps: int | None = None  # of an epoch, as Keras knows them
        self.begin_sec = self._epoch_sec = 0.0  # of the first epoch, of this one
        self._wait: Callable[[], None] = _no_wait
        self.ended_after: int | None = None  # batches of an epoch in which the data ended
        self._last_step: int | None = None  # of this epoch
        self._unit = 1

    def on_train_begin(self, logs: Any = None) -> None:
        self.steps = self.params.get("steps")
        self._unit = unit_of(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._wait = device_wait(self.model)
        self._last_step, self._epoch_sec = None, time.perf_counter()
        self.begin_sec = self.begin_sec or self._epoch_sec
        self.passes.append({0: moment()})

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        stamps = self.passes[-1]
        self._last_step = step
        is_late = step > 0 and time.perf_counter() > self.end
        if (is_late or step in self.marks) and step > max(stamps):
            self._wait()
            stamps[step] = moment()
        if is_late or (step == self.marks[-1] and len(self.passes) >= self.most):
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        done = 0 if self._last_step is None else self._last_step + self._unit
        if self.steps is not None and done < self.steps and not self.model.stop_training:
            self.ended_after, self.model.stop_training = done, True
        if done and len(self.passes[-1]) == 1:  # the epoch is shorter than the first mark
            self.passes[-1][done] = moment()
        if len(self.passes) >= self.most or now + (now - self._epoch_sec) > self.end:
            self.model.stop_training = True


class Epochs(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Reads the clocks between whole epochs, and stops at a time."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self.end = end
        self.moments: list[Moment] = []
        self.steps: int | None = None
        self.begin_sec = 0.0
        self.ended_after: int | None = None  # batches of an epoch that was not whole, where the data ended
        self._is_cut = False
        self._done = 0  # batches of this epoch
        self._unit = 1

    def on_train_begin(self, logs: Any = None) -> None:
        self._unit = unit_of(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.moments.append(moment())
        self.begin_sec = self.moments[0].wall_sec
        self._done = 0

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        self._done = step + self._unit
        if time.perf_counter() > self.end:
            self._is_cut = self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._is_cut:
            return
        known = self.params.get("steps")
        done = self._done if known is not None else trained_steps(self._done)
        if known is not None and done < known:
            self.ended_after = done
            self._is_cut = self.model.stop_training = True
            return
        self.steps = done if known is None else known
        self._end = moment()

    def on_train_end(self, logs: Any = None) -> None:
        if not self._is_cut:
            self.moments.append(self._end)


class FitTraining:
    """A training of a compiled model by `model.fit(x, y, **options)`, as the estimator asks for it.

    A step here is one execution: where several steps are one (`steps_per_execution`), they begin and end together.

    Args:
        fit: called in place of the model's own method, as `fit(model, x, y, ...)`.
        batches: of an epoch, where that is known and the data do not say it.

    Raises:
        LengthUnknownError: if an epoch's number of steps is not known, and no epoch ends within `budget_sec`.
    """

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        y: Any,
        options: Mapping[str, Any],
        budget_sec: float,
        fit: Callable[..., Any] | None = None,
        batches: int | None = None,
    ) -> None:
        self.model, self.x, self.y = model, x, y
        self._known_batches = batches
        self._own_fit = type(model).fit if fit is None else fit
        self.ended_after: int | None = None  # batches of an epoch in which the data ended; None: they did not
        self.options = {name: value for name, value in options.items() if name not in OF_THE_WHOLE}
        self.is_endless = self.options.get("steps_per_epoch") is not None  # Keras keeps one iterator for all epochs
        self._unit = unit_of(model)
        self.fit_start_secs: list[float] = []  # wall, from each call of `fit` to its first epoch
        # XLA compiles each shape of a batch; Keras chooses it by default under JAX, and where it can under TensorFlow
        self.compiles_each_shape = bool(model.jit_compile) and keras.backend.backend() in ("jax", "tensorflow")
        self._begin(budget_sec)

    def _begin(self, budget_sec: float) -> None:
        """Do the first step, and find out how many an epoch has."""
        first = Stamps([self._unit])
        self._fit(first, 1)
        (stamps,) = first.passes
        self.first_step_sec = stamps[max(stamps)].since(stamps[0]).wall_sec  # with what is compiled
        self.batches = first.steps or self._known_batches or self._count(budget_sec)
        self.steps = self.batches / self._unit
        # after the last step of an epoch nothing is called before the logs are fetched
        self.most_steps = (self.batches if self.is_endless else self.batches - 1) // self._unit

    def whole_epochs(self, epochs: int) -> float:
        """Return how many passes over all batches so many epochs are."""
        return epochs

    def notes(self, epochs: int) -> list[str]:
        """Return what is special about so many epochs of these data, in sentences."""
        if self.ended_after is None:
            return []
        return ["The data ended while they were tried: a generator gives its batches once."]

    def try_batch_size(self, size: int) -> bool:
        """Train the first steps with batches of `size`; return whether these data can be cut so."""
        if self.ended_after is not None or is_generator(self.x) or is_py_dataset(self.x) or is_torch_loader(self.x):
            return False
        other = {"x": self.x.rebatch(size, drop_remainder=True)} if is_pipeline(self.x) else {"batch_size": size}
        self._fit(Stamps([self._unit]), 1, **other)
        return True

    def sampled(self, budget_sec: float) -> Samples:
        """Return the samples of an epoch."""
        return sample(self, budget_sec, time.perf_counter)

    def _count(self, budget_sec: float) -> int:
        whole = Epochs(time.perf_counter() + budget_sec)
        self._fit(whole, 1)
        if whole.steps is None:
            raise LengthUnknownError(
                f"these data do not say how many steps an epoch has, and none ended within {budget_sec:g} s. Give "
                "steps_per_epoch, or a data set with a length (tf.data.experimental.assert_cardinality)."
            )
        return whole.steps

    def _fit(self, callback: Any, epochs: int, **more: Any) -> None:
        options = {**self.options, **more}
        if options.get("validation_data") is not None or options.get("validation_split"):
            options["validation_freq"] = NEVER
        if self.ended_after is not None:
            return
        x = options.pop("x", self.x)
        begin = time.perf_counter()
        try:
            self._own_fit(self.model, x, self.y, epochs=epochs, verbose=0, callbacks=[callback], **options)
        except ValueError as error:
            if not (is_generator(self.x) and EMPTY in str(error) and self.fit_start_secs):
                raise
            self.ended_after = 0
            return
        finally:
            stop_workers(self.x)
        self.fit_start_secs.append(callback.begin_sec - begin)
        ended_after = getattr(callback, "ended_after", None)
        self.ended_after = self.ended_after if ended_after is None else ended_after

    def validation_data(self) -> tuple[Any, Any, Any] | None:
        """Return what the fit validates on: inputs, targets and weights of samples; None without."""
        if (given := self.options.get("validation_data")) is not None:
            return keras.utils.unpack_x_y_sample_weight(given)  # type: ignore[no-any-return]
        if not (share := self.options.get("validation_split")):
            return None
        from keras.src.trainers.data_adapters import array_slicing  # `fit` splits by it; Keras has no other door

        of = (self.x, self.y, self.options.get("sample_weight"))
        return array_slicing.train_validation_split(of, validation_split=share)[1]  # type: ignore[no-any-return]

    def passes(self, marks: Sequence[int], most: int, end: float) -> list[Pass]:
        batches = [mark * self._unit for mark in marks]
        if self.is_endless:  # Keras keeps one iterator: short epochs of one fit, of which the first waits for the data
            stamps = Stamps(batches, most + 1, end)
            self._fit(stamps, most + 1, steps_per_epoch=batches[-1] + self._unit)
            found = stamps.passes[1:] if len(stamps.passes) > 1 else stamps.passes
        else:

            def one_pass() -> Pass:
                stamps = Stamps(batches, 1, end)
                self._fit(stamps, 1)
                return stamps.passes[0] if stamps.passes else {}

            found = repeated(one_pass, most, end, time.perf_counter)
        return [{at // self._unit: stamp for at, stamp in each.items()} for each in found if len(each) > 1]

    def epochs(self, most: int, end: float) -> list[Moment]:
        epochs = Epochs(end)
        self._fit(epochs, most)
        return epochs.moments
