"""`epochcast.estimate`: how long a fit of your own program will take.

Keras is imported when it is called, not before: a program may still choose its backend after it imported this.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from epochcast.live.program.interrupts import Interrupts

if TYPE_CHECKING:
    import keras

    from epochcast.footprint.footprint import Footprint
    from epochcast.live.estimate import Estimate


def estimate(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    epochs: int,
    budget_sec: float = 30.0,
    seed: int = 0,
    region: str | None = None,
    **fit_options: Any,
) -> Estimate:
    """Estimate how long `model.fit(x, y, epochs=epochs, **fit_options)` will take, and leave the model as it was.

    The model is trained for about `budget_sec` by its own `fit`. Then everything is put back: all variables, the
    states of random generators, the history and the names that Keras gives next; also after an error in a step and
    after Ctrl-C. A fit afterwards gives, bit for bit, the numbers that it gives without an estimate. What was put back
    is in `Estimate.kept`, what can't be promised in `Estimate.notes`. The model is built as its fit would do it, and
    keeps what was compiled.

    Callbacks are not run. ModelCheckpoint is timed by saving into a temporary folder; `notes` names the others.

    Random operations of TensorFlow's own (`tf.random.*`) in a traced step can't be put back and are refused. They are
    seen in TensorFlow's graphs only: not in operations of other libraries (`tf.py_function`), nor in data pipelines,
    which begin anew with each epoch. Plain attributes that a layer sets in Python are not put back either.

    Args:
        model: a compiled model; it may have been trained before.
        x: inputs as `fit` takes them: arrays, a tf.data.Dataset, a keras.utils.PyDataset, a torch DataLoader. Data sets
            are copied for the trial; your own are not gone through.
        y: targets as `fit` takes them.
        epochs: of the fit, from 1; with `initial_epoch` among the options, the epoch at which it ends.
        budget_sec: seconds to train for. Building, compilation, a first epoch and the copy of a tf.data.Dataset come
            on top.
        seed: of the random generators during the trial; what they draw afterwards does not depend on it.
        region: a country or zone, as DE or US-CA, for whose electricity `Estimate.footprint` is computed.
        fit_options: other arguments of `fit`: batch_size, validation_data, callbacks and so on.

    Raises:
        TypeError: if `model` is no Keras model, or an option is none of `fit`'s.
        ValueError: if the model is not compiled, `epochs`, `budget_sec` or `region` is no sensible value, or the fit is
            one that can't be tried and put back; the message says why, and what to do.
    """
    with Interrupts() as interrupts:  # from here: a Ctrl-C in an import or a hook of JAX's is lost otherwise
        import keras

        from epochcast.live.fits import rows_or_why
        from epochcast.live.program.trial import Trial
        from epochcast.paths import fits_csv

        if not isinstance(model, keras.Model):
            raise TypeError(f"model must be a keras.Model, got {type(model).__name__}.")
        _check(model, epochs, budget_sec, fit_options)
        footprint_of = None if region is None else _footprints_in(region)
        rows, notes = rows_or_why(fits_csv())
        trial = Trial(model, x, y, {**fit_options, "epochs": epochs}, budget_sec, seed, rows)
        found = trial.estimated(interrupts)
        notes += _keep(found)
        footprint = None if footprint_of is None else footprint_of(found)
        return replace(found, footprint=footprint, notes=(*found.notes, *notes))


def _check(model: keras.Model, epochs: int, budget_sec: float, fit_options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(model.fit).parameters
    known = [name for name in parameters if name not in ("x", "y", "epochs")]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())  # a `fit` of its own
    if unknown := [name for name in fit_options if name not in known and not takes_any]:
        raise TypeError(f"fit has no option {', '.join(unknown)}. It has {', '.join(known)}.")
    if isinstance(epochs, bool) or not isinstance(epochs, Integral) or epochs < 1:
        raise ValueError(f"epochs must be a whole number of at least 1, got {epochs!r}.")
    if not isinstance(budget_sec, Real) or not 0 < budget_sec < math.inf:
        raise ValueError(f"budget_sec must be a positive number of seconds, got {budget_sec!r}.")
    if not model.compiled:
        raise ValueError("this model is not compiled. Call model.compile(...) as for its fit, then estimate it.")


def _footprints_in(region: str) -> Callable[[Estimate], Footprint]:
    """Return what gives an estimate's footprint in a region.

    Raises:
        ValueError: if no such region is known.
    """
    from epochcast.facts.regions import find_region
    from epochcast.footprint.rules import FootprintRules
    from epochcast.live.footprints import footprints

    rules = FootprintRules(regions=(find_region(region),))
    return lambda found: footprints(found.total, found.power, found.device_name, rules)[0]


def _keep(found: Estimate) -> list[str]:
    """Append an estimate to fits.csv; return a note where it can't be."""
    from epochcast.error_text import describe_error
    from epochcast.live.fit_rows import estimate_row
    from epochcast.live.fits import append_fit
    from epochcast.paths import fits_csv

    try:
        if (row := estimate_row(found)) is not None:
            append_fit(fits_csv(), row)
    except (OSError, ValueError) as error:
        return [f"this estimate is not in {fits_csv()}: {describe_error(error)}"]
    return []
