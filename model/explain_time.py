"""How long an explained epoch takes, and how that splits: by the model, measured, carried over, or by the bare roof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from epochcast.assumptions import assumption
from epochcast.interval import Interval
from epochcast.schema import RunConfig
from model.carry import SPEED_ROW
from model.explain_device import Device
from model.explain_layers import Attribution, Subject, attribute
from model.gpu_answers import MEASURED
from model.intervals import WITHIN
from model.predictor import Forecast

MODEL, OTHER_NETWORK, ROOF = "model", "law of the CNN", "bare roof"


@dataclass(frozen=True, slots=True)
class EpochTime:
    """Seconds an epoch; `basis` is MODEL, OTHER_NETWORK, ROOF or one of `GpuAnswer`, `words` what they rest on."""

    seconds: Interval
    basis: str
    words: str
    attribution: Attribution | None  # None where nothing tells how the time splits


def time_of(device: Device, subject: Subject, config: RunConfig | None, roofs: Mapping[str, Any] | None) -> EpochTime:
    """The time of a subject; `config` where it is our CNN, `roofs` as an explanation has them.

    Raises:
        ValueError: if the law says that this work takes no time.
    """
    law = device.choice.model.plain_law
    if device.answer is not None:
        steady, basis, words = _answered(device)
    elif device.is_calibrated and config is not None:
        forecast = device.choice.model.forecast(config)
        steady, basis = forecast.steady, MODEL
        words = f"the model's prediction with its 90 % interval{_extrapolation(forecast)}"
    elif device.is_calibrated:
        bar = assumption(f"other_network_bar{'_convolutional' if subject.is_convolutional else ''}", "gpu").value
        sec = sum(law.parts_of(subject.work).values())
        steady, basis = Interval(sec, sec / bar, sec * bar), OTHER_NETWORK
        words = (
            f"extrapolated to another family of networks by a law of the CNN, within a factor of {bar:g}; input and "
            "host are the CNN's"
        )
    else:
        assert roofs is not None  # a device that nothing else tells of was named as a GPU whose peaks are known
        return _by_roof(roofs)
    split = None if device.ratio is None else attribute(law, subject, steady.value, device.ratio)
    return EpochTime(steady, basis, words, split)


def _answered(device: Device) -> tuple[Interval, str, str]:
    """As `predict_perf --gpu` tells it."""
    answer = device.answer
    assert answer is not None  # the caller asked
    steady = answer.forecast.steady
    if answer.correction is not None:
        return steady, answer.basis, f"{answer.basis_text}{_extrapolation(answer.forecast)}"
    if answer.basis != MEASURED:
        words = f"carried over by {'a ' if answer.basis == SPEED_ROW else ''}{answer.basis}: {answer.words}"
        return steady, answer.basis, f"{words}{_extrapolation(answer.forecast)}"
    if device.ratio is None:
        return steady, MEASURED, f"{answer.words}; nothing tells how it splits"
    how = "by the model's law" if device.is_calibrated else "as a time carried over would"
    return steady, MEASURED, f"{answer.words}; it splits {how}"


def _by_roof(roofs: Mapping[str, Any]) -> EpochTime:
    low, factor, high = (assumption(f"roofline_factor{end}", "gpu").value for end in ("_low", "", "_high"))
    sec = roofs["attainable_sec"] + roofs["launch_sec"]
    words = (
        f"uncalibrated: the roofline is a bound; on the one GPU measured a run of the CNN took {low:g} to {high:g} "
        f"times as long as it, {factor:g} in the median"
    )
    return EpochTime(Interval(factor * sec, low * sec, high * sec), ROOF, words, None)


def _extrapolation(forecast: Forecast) -> str:
    return "" if forecast.place == WITHIN else f", extrapolating: {', '.join(forecast.outside)}"
