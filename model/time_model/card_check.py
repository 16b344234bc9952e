"""What each field of a model's card must be, so that a card that was read is one that can be answered with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from epochcast.model.time_model.card_text import FORM_WORDS
from epochcast.model.time_model.features import FEATURE_NAMES, REFERENCE_FEATURE_NAMES
from epochcast.model.time_model.physics import FORMS
from epochcast.schema import Conditions, RunConfig
from epochcast.storage.cells import columns
from epochcast.validation import LARGEST, is_finite, is_whole

LONGEST_TEXT = 2000  # characters
LONGEST_LIST = 10_000
WIDEST_LOG = 100.0  # half of an interval in natural logs, or relative: any wider says nothing
_SHOWN = 80
_AXES = columns(RunConfig)
_COUNTED = ("steps_per_execution", "train_n", "window_steps")

Check = Callable[[Any, str], str | None]  # a value and its name -> what is wrong with it; None if nothing is


def card_fault(card: Mapping[str, Any]) -> str | None:
    """What is wrong with the values of a card that has all its fields; None if nothing is."""
    if card["feature_names"] not in (list(FEATURE_NAMES), list(REFERENCE_FEATURE_NAMES)):
        return f"the model takes {_found(card['feature_names'])}, this version gives {list(FEATURE_NAMES)}"
    numbers = _list(_number(), len(card["feature_names"]))
    checks = {
        **_FIELDS,
        "feature_mean": numbers,
        "feature_scale": _list(_number(1 / LARGEST), len(card["feature_names"])),
        "feature_low": _or_null(numbers),
        "feature_high": _or_null(numbers),
    }
    faults = (check(card[name], name) for name, check in checks.items())
    return next((fault for fault in faults if fault is not None), None)


# --- kinds of values --------------------------------------------------------------------------------------------------


def _found(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _wrong(name: str, expected: str, value: Any) -> str:
    return f"{name} must be {expected}, found {_found(value)}"


def _number(least: float = -LARGEST, most: float = LARGEST) -> Check:
    bounds = "" if (least, most) == (-LARGEST, LARGEST) else f" from {least:g} to {most:g}"

    def check(value: Any, name: str) -> str | None:
        is_sound = is_finite(value) and least <= value <= most
        return None if is_sound else _wrong(name, f"a number{bounds}", value)

    return check


def _whole(least: int = 0) -> Check:
    def check(value: Any, name: str) -> str | None:
        return None if is_whole(value, least) else _wrong(name, f"a whole number of at least {least}", value)

    return check


def _text(value: Any, name: str) -> str | None:
    is_sound = isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()
    return None if is_sound else _wrong(name, "one line of text", value)


def _truth(value: Any, name: str) -> str | None:
    return None if isinstance(value, bool) else _wrong(name, "true or false", value)


def _time(value: Any, name: str) -> str | None:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return _wrong(name, "a time", value)
    return None


def _or_null(check: Check) -> Check:
    def checked(value: Any, name: str) -> str | None:
        fault = None if value is None else check(value, name)
        return None if fault is None else f"{fault}; or null"

    return checked


def _one_of(*values: str) -> Check:
    def check(value: Any, name: str) -> str | None:
        is_sound = isinstance(value, str) and value in values
        return None if is_sound else _wrong(name, f"one of {', '.join(values)}", value)

    return check


def _list(check: Check, n: int | None = None) -> Check:
    def checked(value: Any, name: str) -> str | None:
        is_sound = isinstance(value, list) and (len(value) <= LONGEST_LIST if n is None else len(value) == n)
        if not is_sound:
            return _wrong(name, "a list" if n is None else f"a list of {n}", value)
        faults = (check(item, f"{name}[{i}]") for i, item in enumerate(value))
        return next((fault for fault in faults if fault is not None), None)

    return checked


def _object(checks: Mapping[str, Check], is_whole_of_it: bool = False) -> Check:
    """An object with these names; with `is_whole_of_it` no others."""

    def checked(value: Any, name: str) -> str | None:
        has_all = isinstance(value, dict) and checks.keys() <= value.keys()
        if not has_all or (is_whole_of_it and value.keys() != checks.keys()):
            return f"{name} must hold {', '.join(checks)}, found {_found(value)}"
        faults = (check(value[key], f"{name}.{key}") for key, check in checks.items())
        return next((fault for fault in faults if fault is not None), None)

    return checked


def _texts(value: Any, name: str) -> str | None:
    """An object whose values are all texts."""
    if not isinstance(value, dict) or len(value) > LONGEST_LIST:
        return _wrong(name, "an object of texts", value)
    faults = (_text(item, name) for pair in value.items() for item in pair)
    return next((fault for fault in faults if fault is not None), None)


def _law(value: Any, name: str) -> str | None:
    if not (isinstance(value, dict) and isinstance(value.get("form"), str) and value["form"] in FORMS):
        return f"{name} must be of a form of {', '.join(FORMS)}, found {_found(value)}"
    return _list(_number(0), len(FORMS[value["form"]]))(value.get("coefficients"), f"{name}.coefficients")


def _readable_law(value: Any, name: str) -> str | None:
    return _law(value, name) or _texts(value.get("readings"), f"{name}.readings")


def _bounds(value: Any, name: str) -> str | None:
    """The lowest and the highest measured value of an axis."""
    if (fault := _list(_whole(1), 2)(value, name)) is not None:
        return fault
    return None if value[0] <= value[1] else _wrong(name, "a lowest and a highest value", value)


def _excess(value: Any, name: str) -> str | None:
    if (fault := _object(_EXCESS)(value, name)) is not None or value["form"] is None:
        return fault
    return _law(value, name) or _texts(value.get("readings"), f"{name}.readings")


def _errors(value: Any, name: str) -> str | None:
    """Errors of a cross-validation: all of them known, or none."""
    measures = dict.fromkeys(("mape", "p90_ape", "mae"), _or_null(_number(0)))
    if (fault := _object({**measures, "split": _text, "n": _whole()})(value, name)) is not None:
        return fault
    is_known = {value[measure] is not None for measure in measures}
    return None if len(is_known) == 1 else _wrong(name, "known or unknown as a whole", value)


_RANGE = _object(dict.fromkeys(_AXES, _bounds), is_whole_of_it=True)
_WIDTH = _or_null(_number(0, WIDEST_LOG))
_WIDTHS = {"within": _WIDTH, "beyond": _WIDTH, "n_levels": _whole(), "axes": _list(_one_of(*_AXES))}
_CONFIGS = _list(_list(_whole(1), len(_AXES)))
_EXCESS = {"median": _number(0), "n": _whole(), "form": _or_null(_text), "n_errors": _whole(), "range": _RANGE}
_EXCESS |= _WIDTHS
_FIELDS: dict[str, Check] = {
    "recipe": _text,
    "form": _one_of(*FORM_WORDS),
    "reason": _or_null(_text),
    "created_utc": _time,
    "conditions": _object(
        {name: _or_null(_whole(1) if name in _COUNTED else _text) for name in columns(Conditions)}, is_whole_of_it=True
    ),
    "declared": _list(_text),
    "credit": _or_null(_text),
    "law": _or_null(_law),
    "plain_law": _readable_law,
    "residual_scale": _number(),
    "activation": _text,
    "seed": _whole(),
    "range": _RANGE,
    "n_configurations": _whole(1),
    "n_runs": _whole(1),
    "rows_sha256": _text,
    "keras_sha256": _text,
    "held_out": _CONFIGS,
    "disturbed": _CONFIGS,
    "errors": _errors,
    "order_violations": _whole(),
    "intervals": _object({**_WIDTHS, "n": _whole(), "coverage": _number(0, 1)}),
    "levels": _list(_object({"label": _text, "n": _whole(), "is_edge": _truth, "mape": _number(0)})),
    "first_epoch_excess_sec": _or_null(_excess),
    "overhead_sec": _or_null(_object({"median": _number(0), "n": _whole(), "within": _WIDTH})),
    "versions": _texts,
}
FIELDS = frozenset(_FIELDS) | {"feature_names", "feature_mean", "feature_scale", "feature_low", "feature_high"}
