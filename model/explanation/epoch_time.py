"""The time of an explained epoch and how it splits: by a model, measured, scaled, or by the roofline alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from epochcast.facts.assumptions import assumption
from epochcast.gpus.network_time import NETWORK_LAW, network_time
from epochcast.gpus.rates import limit_of
from epochcast.gpus.ratio import LAYERS, GpuArithmetic, device_ratio, source_device
from epochcast.gpus.scaled_time import LIMITED_WORDS, scaled_time
from epochcast.interval import Interval, coverage_text
from epochcast.model.answers.other_gpus import MEASURED
from epochcast.model.explanation.attribution import Attribution, attribute, law_parts
from epochcast.model.explanation.device import ExplainedDevice
from epochcast.model.explanation.network_time import attribution_of, is_of_cnn_family
from epochcast.model.time_model.intervals import WITHIN
from epochcast.model.time_model.physics import share_of_parts
from epochcast.model.time_model.saved_model import PredictedTimes, SavedModel
from epochcast.roofline.network import EpochRoofline, TrainedNetwork, attainable_sec
from epochcast.schema import RunConfig

MODEL, OTHER_NETWORK, OTHER_SCALED, ROOF = "model", "law of the CNN", "law of the CNN, carried over", "bare roof"
UNKNOWN_INPUT = "not known for this network"


@dataclass(frozen=True, slots=True)
class Scaling:
    """How the time of the model's device was scaled to another one."""

    share: float  # of the time on the model's device: arithmetic and memory
    ratio: Interval | None  # of their seconds there over here, as limited; None of a time measured or corrected
    limited: str | None  # by the roofline: one of LIMITED_WORDS


@dataclass(frozen=True, slots=True)
class EpochTime:
    """Seconds of an epoch; `basis` is one of the above or of `GpuPrediction`, `words` say what they rest on."""

    seconds: Interval
    basis: str
    words: str
    attribution: Attribution | None  # None where it is not known how the time splits
    scaling: Scaling | None = None  # None where no time is of another device


def time_of(
    device: ExplainedDevice, network: TrainedNetwork, config: RunConfig | None, least: EpochRoofline | None
) -> EpochTime:
    """Return the seconds of a network's epoch; `config` where it is our CNN, `least` under the device's roof.

    Raises:
        ValueError: if the law says that this work takes no time.
    """
    law = device.choice.model.plain_law
    if config is None and (by_law := _by_law_of_networks(device, network)) is not None:
        return by_law
    if device.answer is not None:
        steady, basis, words = _answered(device)
    elif device.is_calibrated and config is not None:
        forecast = device.choice.model.forecast(config)
        steady, basis = forecast.steady, MODEL
        share = coverage_text(device.choice.model.coverage)
        words = f"the model's prediction with its {share} interval{_extrapolation(forecast)}"
        if unknown := device.choice.model.widths.why_unknown(forecast.domain):
            words = f"the model's prediction{_extrapolation(forecast)}; {forecast.domain}: {unknown}"
    elif device.is_calibrated:
        steady, words = _by_law(device.choice.model, network)
        basis = OTHER_NETWORK
    else:
        assert least is not None  # such a device was named as a GPU whose peaks are known
        if device.scaled_to is None:
            return _by_roof(least)
        limit = limit_of(device.scaled_to.gpu, device.scaled_to.arithmetic)
        return scaled_by_law_of_cnn(device, device.scaled_to, network, attainable_sec(network, limit))
    split = None if device.ratio is None else attribute(law, network, steady.value, device.ratio)
    return EpochTime(steady, basis, words, split, _scaling(device))


def _by_law_of_networks(device: ExplainedDevice, network: TrainedNetwork) -> EpochTime | None:
    """Return a network's time by the law of networks; None where another is nearer."""
    if device.gpu is None or device.arithmetic is None:
        return None
    if device.is_calibrated and is_of_cnn_family(network, device.choice.model):
        return None
    if (found := network_time(network, device.gpu, device.arithmetic, device.network_factor)) is None:
        return None
    return EpochTime(found.seconds, NETWORK_LAW, f"{found.words}: {UNKNOWN_INPUT}", attribution_of(found))


def _scaling(device: ExplainedDevice) -> Scaling | None:
    answer = device.answer
    if answer is None or device.ratio is None:
        return None
    return Scaling(answer.share, answer.device_time_ratio, answer.limited)


def _by_law(saved: SavedModel, network: TrainedNetwork) -> tuple[Interval, str]:
    """Return the seconds of a network that is not our CNN on the law's own device, and what they rest on.

    The error factor is of laws that fit the CNN's own times well: the model's own range counts where it is wider, and
    without one there is none.
    """
    factor = assumption(f"other_network_bar{'_convolutional' if network.is_convolutional else ''}", "gpu").value
    own = saved.widths.of(WITHIN)
    if own is None:
        half, how = None, f"the model's own {saved.widths.why_unknown(WITHIN)}"
    else:
        half = max(math.log(factor), own)
        how = f"within a factor of {math.exp(half):.3g}"
    return Interval.of_log(sum(law_parts(network, saved.plain_law).values()), half), (
        f"extrapolated to another family of networks by a law of the CNN, {how}, without input "
        f"and host: {UNKNOWN_INPUT}"
    )


def scaled_by_law_of_cnn(
    device: ExplainedDevice, target: GpuArithmetic, network: TrainedNetwork, attainable_sec: float
) -> EpochTime:
    """Return that time scaled to another GPU, by speeds of the network's own kind where there are any."""
    saved = device.choice.model
    law = saved.plain_law
    seconds, words = _by_law(saved, network)
    share = share_of_parts(law_parts(network, law))
    ratio = device_ratio(source_device(saved.conditions), target, network)
    time = scaled_time(seconds, share, ratio, attainable_sec)
    words = f"{words}; carried over by {_named(ratio.basis)}: {ratio.words}"
    if time.limited is not None:
        words = f"{words}; {LIMITED_WORDS[time.limited]}"
    split = attribute(law, network, time.seconds.value, time.ratio.value)
    return EpochTime(time.seconds, OTHER_SCALED, words, split, Scaling(share, time.ratio, time.limited))


def _answered(device: ExplainedDevice) -> tuple[Interval, str, str]:
    """Return the time as `predict_perf --gpu` reports it, its basis, and what it rests on."""
    answer = device.answer
    assert answer is not None  # the caller asked
    steady = answer.times.steady
    if answer.correction is not None:
        return steady, answer.basis, f"{answer.basis_text}{_extrapolation(answer.times)}"
    if not answer.was_measured:
        words = f"carried over by {_named(answer.basis)}: {answer.words}"
        return steady, answer.basis, f"{words}{_extrapolation(answer.times)}"
    if device.ratio is None:
        return steady, MEASURED, f"{answer.words}; nothing tells how it splits"
    how = "by the model's law" if device.is_calibrated else "as a time carried over would"
    return steady, MEASURED, f"{answer.words}; it splits {how}"


def _by_roof(least: EpochRoofline) -> EpochTime:
    low, factor, high = (assumption(f"roofline_factor{end}", "gpu").value for end in ("_low", "", "_high"))
    sec = least.attainable_sec + least.launch_sec
    words = (
        f"uncalibrated: the roofline is a bound; on the one GPU measured a run of the CNN took {low:g} to {high:g} "
        f"times as long as it, {factor:g} in the median; input and host are not in it, and small networks take longer"
    )
    return EpochTime(Interval(factor * sec, low * sec, high * sec), ROOF, words, None)


def _named(basis: str) -> str:
    return f"its {basis}" if basis == LAYERS else basis


def _extrapolation(forecast: PredictedTimes) -> str:
    return "" if forecast.domain == WITHIN else f", extrapolating: {', '.join(forecast.outside)}"
