"""Why a network of a file is not explained, each a line that says the cause and a remedy that works."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from epochcast.keras_files.author_code import location_of
from epochcast.keras_files.foreign import Wanted, WantedError
from epochcast.keras_files.inputs import SampleShape, why_shape_fails
from epochcast.keras_files.rebuild import SavedNetwork, remedy_of_version
from epochcast.keras_layers.read_layers import DataShapeError, DoesNotRunError, NetworkLayers, UnbuiltError, reason_of
from epochcast.machine.limits import EndedError, LimitError, lines_of
from epochcast.machine.packages import BACKENDS
from epochcast.text_sinks import shortened

LONGEST = 200  # characters of a message about a file, without its path
SHOWN = 3  # layers of many that a message names
GIVE_CODE = "Give its Python file by --code FILE.py"
ONLY_KERAS = "; the Keras layers in it are counted"  # what the author's code computes by itself is not
# errors of TensorFlow and JAX where code asks for a number that only data have
LOOKS_AT_DATA = frozenset(
    {"OperatorNotAllowedInGraphError", "ConcretizationTypeError"}
    | {f"Tracer{kind}ConversionError" for kind in ("Array", "Bool", "Integer")}
)
AGAIN = "Call the network once on a batch, and save it again."


def why_too_much(error: LimitError, code: Sequence[Path]) -> str:
    """Return the line for a network that takes too much time or memory, with the author's line that was running."""
    if place := location_of(code, error.lines):
        return f"rebuilding this network takes {error}, in {place}. Correct this code, or give it fewer layers."
    return f"rebuilding this network takes {error}. Save one with fewer or smaller layers."


def why_ended(error: EndedError, code: Sequence[Path]) -> str:
    """Return the line for code that tries to end the program."""
    place = location_of(code, lines_of(error.__cause__)) or "code of this network"
    return f"{place} raises {shortened(str(error), 40)}, which ends a program. Take that out of this code."


def why_code_fails(error: Exception, code: Sequence[Path]) -> str:
    """Return the line for an error that the author's code raised, or that it led Keras to; empty for any other."""
    place = location_of(code, lines_of(error))
    return f"it does not run: {_reason(error)}. Correct {place}, or give the code that it was saved with." * bool(place)


def why_other_backend(error: BaseException) -> str:
    """Return the line for code that calls another framework than Keras's backend.

    Empty for any other error.
    """
    import keras

    own = keras.backend.backend()
    folders = {
        name: f"{Path(str(sys.modules[name].__file__)).parent}{os.sep}"
        for name in BACKENDS
        if name != own and name in sys.modules
    }
    waiting: BaseException | None = error
    while waiting is not None:
        for file, _ in lines_of(waiting):
            if called := [name for name, folder in folders.items() if file.startswith(folder)]:
                return f"its code calls {called[0]}, and Keras runs on {own} here: set KERAS_BACKEND={called[0]}."
        waiting = waiting.__cause__ or waiting.__context__
    return ""


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {shortened(reason_of(error), 70).rstrip('.')}"


def why_not_run(
    model: Any,  # a Keras model
    saved_shape: Any,  # as `network_inputs.saved_shape` returns it
    asked: SampleShape,
    error: Exception,
    code: Sequence[Path],
) -> str:
    """Return the line for a network that was rebuilt, and can't be traced."""
    if isinstance(error, UnbuiltError):
        layer = f"its layer {shortened(error.layer, 60)}" if error.layer else "it"
        return f"{layer} was not built when it was saved. {AGAIN}"
    if isinstance(error, DataShapeError):
        return (
            f"the shapes of its layer {shortened(error.layer, 60)} depend on data. Replace it by one of fixed shapes."
        )
    cause = error.__cause__ if isinstance(error, DoesNotRunError) and isinstance(error.__cause__, Exception) else error
    if elsewhere := why_other_backend(cause):
        return elsewhere
    if name := re.search(r"'([^']*)' is not a valid (root )?scope name", str(cause)):  # other backends take any
        what = "network" if name[2] else "layer"
        return (
            f"TensorFlow takes no {what} of the name {shortened(name[1], 30)!r}. Name it by English letters, digits, "
            "dots and underscores (no underscore first), save it again, or set KERAS_BACKEND=jax."
        )
    failed = error.layer if isinstance(error, DoesNotRunError) else None
    found = f"its layer {shortened(failed, 60)}" if failed else "it"
    in_code = why_code_fails(cause, code)
    if type(cause).__name__ in LOOKS_AT_DATA and not in_code:
        return f"what {found} does depends on data, and can't be counted. Save the part that you train without it."
    reason = _reason(cause)
    if asked is not None:
        try:
            return why_shape_fails(model, saved_shape, asked, reason)
        except Exception:  # of the author's code, which is asked for the arguments that it takes
            return f"it does not run with --sample_shape: {reason}. Give the shape that you train with."
    return in_code or f"{found} does not run: {reason}. Correct it until it runs on a batch, and save that."


def why_unknown(layers: NetworkLayers, quantized: str | None, has_others: bool) -> str:
    """Return the line for layers that can't be counted."""
    if quantized is not None:
        rest = ", or --allow_unknown counts the rest" if has_others else ""
        return f"its layer {quantized} is quantized, which is not counted. Save it before quantize() is called{rest}."
    names, why = layers.unknown, layers.reasons[0]
    which = "the first" if len(names) > 1 else "it"
    if has_others:
        return f"{some(names, 2)} can't be counted: {which} {why}. --allow_unknown counts the rest."
    return (
        f"{some(names, 1)} can't be counted: {which} {why}, and there is nothing else to count. Write them with "
        "layers of Keras, and save it again."
    )


def why_wanted(error: WantedError, saved: SavedNetwork, code: Sequence[Path], can_leave_out: bool) -> str:
    """Return the line for a network that needs what is not there; only what works is offered."""
    wanted = error.wanted
    remedies = []
    if all(one.is_keras for one in wanted):
        found = f"it needs {_shown(wanted)}, which this Keras does not have"
        remedies.append(remedy_of_version(saved).rstrip("."))
    elif all(one.is_countable for one in wanted if not one.is_keras):
        found = _of_author(wanted, code)
        is_alone = not can_leave_out and not error.why_needed
        remedies.append(_remedy_by_code(wanted[0], code) or GIVE_CODE + (ONLY_KERAS if is_alone else ""))
    else:
        hidden = next(one for one in wanted if not one.is_countable)
        why = (
            "code in the file, which is never run" if hidden.is_lambda else "its author's code, which can't be counted"
        )
        found = f"layer {hidden.layer!r} holds {hidden.what}, {why}"
    if error.why_needed:
        found += f"; it can't be left out: {error.why_needed}"
    if can_leave_out:
        remedies.append(
            "--allow_unknown counts the rest without it" if not remedies else "--allow_unknown leaves it out"
        )
    options = [remedies, remedies[-1:]] if remedies else [["Replace it by one of Keras's own"]]
    lines = [f"{found}. {', or '.join(some)}." for some in options]
    return next((line for line in lines if len(line) <= LONGEST), lines[-1])


def _of_author(wanted: Sequence[Wanted], code: Sequence[Path]) -> str:
    first = wanted[0]
    where = f"layer {first.layer!r} needs" if first.layer else "the network is of" if first.is_network else "it needs"
    if not code:
        return f"{where} {_shown(wanted)}, its author's code"
    files = shortened(", ".join(path.name for path in code), 40)
    if first.is_misfit:
        return f"{where} {_shown(wanted)}, which {files} defines, but not as a Keras class"
    return f"{where} {_shown(wanted)}, which {files} does not define"


def _remedy_by_code(first: Wanted, code: Sequence[Path]) -> str:
    """Return what to write in a code file where a known package has the class."""
    if first.package is None:
        return ""
    if code:
        return f"Write `{first.imported}` in it"
    return f"Install {first.package}, and give a file that says `import {first.package}` by --code"


def _shown(wanted: Sequence[Wanted]) -> str:
    names = list(dict.fromkeys(one.what for one in wanted))
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def some(names: Sequence[str], most: int = SHOWN) -> str:
    """Return the first of many names, short enough for a line."""
    shown = ", ".join(shortened(name, 30) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
