"""A trial of a fit in the program that will do it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import FunctionType
from typing import Any

import keras

from epochcast.live.estimate import Estimate, estimate_fit
from epochcast.live.fits import FitRecord
from epochcast.live.program.building import build_as_fit_does
from epochcast.live.program.data_copies import COMMAND, DataCopies
from epochcast.live.program.interrupts import Interrupts
from epochcast.live.program.state import SavedState, put_back, random_states, seed_all

OF_DATA = ("validation_data", "sample_weight")  # options of `fit`
CLEARED = ("keras", "tensorflow", "jax", "epochcast")  # libraries whose frames lose their variables after an error
STATEFUL_RANDOM = frozenset(  # TensorFlow's operations that draw from a state of their own
    {
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "SampleDistortedBoundingBox",
        "SampleDistortedBoundingBoxV2",
        "TruncatedNormal",
    }
)


class Trial:
    """A trial of `model.fit(x, y, **options)`.

    Raises:
        ValueError: if a state that it would change can't be put back.
    """

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        y: Any,
        options: Mapping[str, Any],
        budget_sec: float,
        seed: int,
        earlier: Sequence[FitRecord] = (),
    ) -> None:
        self.model, self.own, self.options = model, (x, y), dict(options)
        self.budget_sec, self.seed, self.earlier = budget_sec, seed, earlier
        _refuse_average(model)
        _refuse_random_operations(model)

    def estimated(self, interrupts: Interrupts) -> Estimate:
        """Return the estimate, everything put back.

        Args:
            interrupts: on hold; they are passed on during the trial alone.
        """
        copies, saved, (x, y), options = self._begun()
        try:
            try:
                interrupts.release()
                seed_all(self.seed)
                vars(self.model)["_initial_epoch"] = None  # of a restored backup; passes begin at 0
                found = estimate_fit(
                    self.model,
                    x,
                    y,
                    options,
                    self.budget_sec,
                    self.earlier,
                    after_first_step=lambda: _check_random_operations(self.model),
                    stays=True,
                )
            except BaseException as error:
                _clear_frames(error)
                if isinstance(error, ValueError) and "read-only" in str(error):
                    raise ValueError(
                        "these data change their arrays in place while they are gone through, which a trial must "
                        f"not do to yours. {COMMAND}"
                    ) from error
                raise
            finally:
                interrupts.hold()
        finally:  # a Ctrl-C may have come before the line above: again
            interrupts.hold()
            copies.close()
            saved.put_back()
        return replace(found, kept=saved.kept, notes=(*found.notes, *copies.notes))

    def _begun(self) -> tuple[DataCopies, SavedState, tuple[Any, Any], dict[str, Any]]:
        """Copy the data, build the model and save its state."""
        before = random_states()
        try:
            copies = DataCopies()
            copied = copies.copy(self.own[0]), copies.copy(self.own[1])
            options = {name: copies.copy(value) if name in OF_DATA else value for name, value in self.options.items()}
            put_back(before)  # a copy may have drawn seeds
            build_as_fit_does(self.model, self.own, copied, self.options)
            return copies, SavedState(self.model), copied, options
        except BaseException:
            put_back(before)
            raise


def _clear_frames(error: BaseException) -> None:
    """Clear the libraries' frames in an error: iterators in them go on."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        trace = at.__traceback__
        while trace is not None:
            if str(trace.tb_frame.f_globals.get("__name__")).split(".")[0] in CLEARED:
                with contextlib.suppress(RuntimeError):  # it is still running
                    trace.tb_frame.clear()
            trace = trace.tb_next
        at = at.__cause__ or at.__context__


# --- refusals ---------------------------------------------------------------------------------------------------------


def _refuse_average(model: keras.Model) -> None:
    if keras.backend.backend() != "jax":
        return
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if getattr(optimizer, "use_ema", False):
        raise ValueError(
            "this optimizer has use_ema, with which Keras can't fit a model twice under JAX, so that a trial would "
            f"spoil your fit. {COMMAND}"
        )


def _refuse_random_operations(model: keras.Model) -> None:
    """Refuse a model whose step draws from a state that nothing can read.

    Raises:
        ValueError: if TensorFlow traced such an operation.
    """
    if found := _random_operations(model):
        raise ValueError(
            f"a step of this model draws random numbers by TensorFlow's own {', '.join(sorted(found))}, whose state "
            f"can't be put back. Use keras.random with a SeedGenerator. {COMMAND}"
        )


def _check_random_operations(model: keras.Model) -> None:
    """Refuse as above, and have the next fit trace its step anew."""
    try:
        _refuse_random_operations(model)
    except ValueError:
        vars(model)["train_function"] = None
        raise


def _random_operations(model: keras.Model) -> set[str]:
    """Return the stateful random operations in the traced training step, as far as TensorFlow shows them."""
    if keras.backend.backend() != "tensorflow":
        return set()
    found: set[str] = set()
    for function in _traced(getattr(model, "train_function", None)):
        for concrete in getattr(function, "_list_all_concrete_functions", list)():
            graph = concrete.graph.as_graph_def()
            nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
            found |= {node.op for node in nodes} & STATEFUL_RANDOM
    return found


def _traced(function: Any) -> Iterator[Any]:
    """The functions that TensorFlow traces, among those that a function was made of."""
    import tensorflow as tf

    seen: set[int] = set()
    waiting = [function]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, tf.types.experimental.PolymorphicFunction):
            yield each
        elif isinstance(each, FunctionType):
            for cell in each.__closure__ or ():
                with contextlib.suppress(ValueError):  # an empty cell
                    waiting.append(cell.cell_contents)
