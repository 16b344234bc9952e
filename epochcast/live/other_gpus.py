"""What a training that was estimated here would take on other GPUs.

From a GPU an epoch's time is scaled by the ratio of both GPUs' seconds for arithmetic and memory. Which share of the
measured step they are was not measured. It is what they take by the law of networks over the measured step. A step that
is shorter than the law's shows that the law is off: the share then lies between that and the whole step. Where the law
does not answer, it lies between the least that this GPU's roofline allows and the whole step. Of two shares the time is
in the middle of what they give, and its range reaches from the lowest to the highest.

From a processor nothing is scaled: the epoch is by the law of networks, which the model's layers and the other GPU's
rates suffice for. Where that has no number, as of short steps, it is by the other GPU's roofline, with the range that
the one GPU that we measured shows.

Building, compiling and checkpoints stay as they were timed here; validations are scaled as the epochs are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from epochcast.facts.assumptions import assumption, device_kind_of
from epochcast.facts.tables import Gpu
from epochcast.footprint.footprint import Footprint, asked_energy, footprint, modelled_energy, rates_of
from epochcast.footprint.rules import FootprintRules
from epochcast.footprint.text import footprint_json, priced_range
from epochcast.gpus.lookup import known_gpu
from epochcast.gpus.network_time import NETWORK_LAW, network_time
from epochcast.gpus.rates import limit_of, network_busy_share, roof_of
from epochcast.gpus.ratio import SAME, GpuArithmetic, LawStep, device_ratio
from epochcast.gpus.scaled_time import LIMITED_WORDS, at_least, scaled_time
from epochcast.interval import Interval, with_ends
from epochcast.output.text import clock, percent, range_text, significant, table_text
from epochcast.roofline.network import TrainedNetwork, attainable_sec, epoch_layers, epoch_roofline
from epochcast.roofline.roofline import ADAM_PASSES, LayerRecord
from epochcast.schema import PRECISIONS

BARE_ROOF, THIS_GPU = "bare roof", "this GPU"


@dataclass(frozen=True, slots=True)
class Source:
    """The training as it was estimated on this device."""

    device_name: str
    epoch: Interval
    total: Interval
    scaled_sec: float  # of the total: epochs and validations
    gpu: Gpu | None  # None: a processor, or a GPU that the facts do not have
    precision: str | None  # as Keras calls it; None: of several
    tf32: str | None
    network: TrainedNetwork | None
    why_no_network: str | None

    @property
    def is_processor(self) -> bool:
        return device_kind_of(self.device_name) == "cpu"


@dataclass(frozen=True, slots=True)
class GpuTime:
    """The training on one other GPU."""

    gpu: Gpu
    epoch: Interval
    total: Interval
    basis: str
    words: str
    share: tuple[float, float] | None  # of arithmetic and memory in an epoch here: least and most; None if not scaled
    footprints: tuple[Footprint, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return everything in full precision; null is unknown."""
        return {
            "gpu": self.gpu.name,
            **with_ends("epoch_sec", self.epoch),
            **with_ends("total_sec", self.total),
            "basis": self.basis,
            "basis_words": self.words,
            "device_share_low": None if self.share is None else self.share[0],
            "device_share_high": None if self.share is None else self.share[1],
            "footprints": [footprint_json(each) for each in self.footprints],
        }


def source_of(caught: Mapping[str, Any], found: Mapping[str, Any], layers: Mapping[str, Any]) -> Source:
    """Return what is to be scaled, of the events of a script's process."""
    total, epoch = Interval(**found["total"]), Interval(**found["epoch"]["interval"])
    kept = found["once_sec"] + found["n_saves"] * (found["save_sec"] or 0.0)
    why = layers["why"]
    if why is None and caught["precision"] not in PRECISIONS:
        why = f"their precision is {caught['precision']}"
    if why is None and caught["batch_size"] is None:
        why = "the batch size is not known of these data"
    return Source(
        found["device_name"],
        epoch,
        total,
        max(0.0, total.value - kept),
        known_gpu(found["device_name"]),
        caught["precision"],
        layers["tf32"],
        None if why is not None else _network(caught, found, layers),
        why,
    )


def _network(caught: Mapping[str, Any], found: Mapping[str, Any], layers: Mapping[str, Any]) -> TrainedNetwork:
    records = tuple(LayerRecord(**{**each, "output_shape": tuple(each["output_shape"])}) for each in layers["records"])
    return TrainedNetwork(
        caught["model"],
        records,
        caught["batch_size"],
        found["batches"] * caught["batch_size"],
        caught["precision"],
        optimizer_passes=layers["passes"] or ADAM_PASSES,
        notes=tuple(layers["partial"]),
        is_cnn=False,
    )


def times_on(gpus: Sequence[Gpu], source: Source, rules: FootprintRules) -> tuple[list[GpuTime], dict[str, str]]:
    """Return the time on each GPU, and why some have none."""
    found, without = [], {}
    for gpu in gpus:
        try:
            time = _by_ratio(gpu, source) if source.gpu is not None else _by_layers(gpu, source)
            energy = asked_energy(time.total, rules, gpu, False) or modelled_energy(
                time.total, rules, gpu, False, busy_share=_busy_share(gpu, source)
            )
        except ValueError as error:  # of an arithmetic that it lacks, and of what is not known here
            without[gpu.name] = str(error)
            continue
        prices = tuple(footprint(energy, time.total, rates) for rates in rates_of(rules, gpu))
        found.append(replace(time, footprints=prices))
    return sorted(found, key=lambda each: each.total.value), without


def _busy_share(gpu: Gpu, source: Source) -> float | None:
    """Return the share of arithmetic and memory in a step there; None without layers."""
    if source.network is None:
        return None
    arithmetic = GpuArithmetic.of(gpu, str(source.precision), source.tf32).arithmetic
    return network_busy_share(source.network, gpu, arithmetic)


# --- from a GPU -------------------------------------------------------------------------------------------------------


def _by_ratio(gpu: Gpu, source: Source) -> GpuTime:
    assert source.gpu is not None
    here, there = (GpuArithmetic.of(each, str(source.precision), source.tf32) for each in (source.gpu, gpu))
    network = source.network
    ratio = device_ratio(here, there, network)
    least, most, attainable = 0.0, 1.0, 0.0
    if network is not None:
        least = min(1.0, attainable_sec(network, limit_of(source.gpu, here.arithmetic)) / source.epoch.value)
        attainable = attainable_sec(network, limit_of(gpu, there.arithmetic))
    if network is not None and ratio.step is not None:
        least, most = _shares(ratio.step, source.epoch.value / network.work.steps)
        ends = [scaled_time(source.epoch, share, ratio.without_range(), attainable) for share in (least, most)]
        # the error of the ratio was judged on whole steps
        times = [at_least(ratio.range_of(each.seconds, source.epoch), attainable) for each in ends]
    else:
        ends = [scaled_time(source.epoch, share, ratio, attainable) for share in (least, most)]
        times = [each.seconds for each in ends]
    epoch = _between(*times)
    if ratio.basis == SAME:
        return GpuTime(gpu, epoch, _total(source, epoch), THIS_GPU, "as it was estimated here", (least, most))
    limits = [LIMITED_WORDS[each.limited] for each in ends if each.limited is not None]
    words = "; ".join([ratio.words, ratio.range_words, *dict.fromkeys(limits)])
    return GpuTime(gpu, epoch, _total(source, epoch), ratio.basis, words, (least, most))


def _shares(law: LawStep, measured_sec: float) -> tuple[float, float]:
    """Return the least and most share of arithmetic and memory in a measured step."""
    share = min(1.0, law.device_sec / measured_sec)
    return share, share if law.total_sec <= measured_sec else 1.0


def _between(one: Interval, other: Interval) -> Interval:
    """Return the geometric mean of two times, with their outer ends."""
    value = math.sqrt(one.value * other.value)
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Interval(value)
    return Interval(value, min(one.low, other.low), max(one.high, other.high))


def _total(source: Source, epoch: Interval) -> Interval:
    """Return the training's time with another epoch's time."""
    scaled = epoch.times(source.scaled_sec / source.epoch.value)
    kept = source.total.value - source.scaled_sec
    if scaled.low is None or scaled.high is None:
        return Interval(scaled.value + kept)
    return Interval(scaled.value + kept, scaled.low + kept, scaled.high + kept)


# --- from a processor -------------------------------------------------------------------------------------------------


def _by_layers(gpu: Gpu, source: Source) -> GpuTime:
    if not source.is_processor:
        raise ValueError(
            f"nothing to scale from: {source.device_name} is a GPU that the facts do not have. "
            "See epochcast facts gpus."
        )
    if source.network is None:
        raise ValueError(
            f"a processor's time can't be scaled to a GPU, and one by itself needs the model's layers: "
            f"{source.why_no_network}."
        )
    arithmetic = GpuArithmetic.of(gpu, str(source.precision), source.tf32).arithmetic
    if (by_law := network_time(source.network, gpu, arithmetic)) is not None:
        return GpuTime(gpu, by_law.seconds, _total(source, by_law.seconds), NETWORK_LAW, by_law.words, None)
    roof = roof_of(gpu, arithmetic)
    least = epoch_roofline(source.network, epoch_layers(source.network, roof), roof)
    low, factor, high = (assumption(f"roofline_factor{end}", "gpu").value for end in ("_low", "", "_high"))
    sec = least.attainable_sec + least.launch_sec
    epoch = Interval(factor * sec, low * sec, high * sec)
    words = (
        f"{low:g} to {high:g} times the roofline in {arithmetic}, launches included, as a run of the CNN took on the "
        "one GPU measured; small networks take longer"
    )
    return GpuTime(gpu, epoch, _total(source, epoch), BARE_ROOF, words, None)


# --- for people -------------------------------------------------------------------------------------------------------


def gpu_lines(times: Sequence[GpuTime], source: Source, has_regions: bool) -> list[str]:
    """Return a table of the times, and what they rest on.

    Args:
        has_regions: whether energy and CO2 were asked for.
    """
    if not times:
        return []
    header = ["GPU", "s/epoch", "range", "training", "range", "cloud USD", "range"]
    if has_regions:
        header += ["region", "electricity USD", "kg CO2", "range"]
    rows = []
    for each in times:
        total, epoch = each.total, each.epoch
        time = [each.gpu.name, epoch.value, range_text(epoch.low, epoch.high), clock(total.value), _clocks(total)]
        for place in each.footprints if has_regions else each.footprints[:1]:
            usd, kg = place.cloud_usd, place.operational_kg_co2e
            row: list[Any] = [*time, *_money(place.gpu_hours, usd)]
            if has_regions:
                dollars = place.electricity_usd
                row += [place.rates.region.code, None if dollars is None else dollars.value]
                row += _money(place.wall_kwh, kg)
            rows.append([*row, each.basis])
    return [table_text([*header, "basis"], rows), *_basis_lines(times, source)]


def _of_epoch(share: tuple[float, float]) -> str:
    least, most = map(percent, share)
    return f", on {least if least == most else f'{least} to {most}'} of an epoch"


def _clocks(total: Interval) -> str:
    return "unknown" if total.low is None or total.high is None else f"{clock(total.low)} to {clock(total.high)}"


def _money(amount: Interval | None, found: Interval | None) -> list[Any]:
    return [None, None] if found is None else [found.value, priced_range(amount, found)]


def _basis_lines(times: Sequence[GpuTime], source: Source) -> list[str]:
    lines = []
    if times[0].share is not None:
        why = "" if source.network is not None else f"; the layers are not known: {source.why_no_network}"
        lines.append(
            f"scaled: from {source.device_name} in {source.precision}: arithmetic and memory; the rest of an epoch "
            f"stays as it was measured here{why}"
        )
    else:
        lines.append(
            "a processor's time can't be scaled to a GPU: an epoch there is by the model's layers, without input and "
            "host. Estimate on that GPU to know"
        )
        lines += dict.fromkeys(f"{each.basis}: {each.words}" for each in times)
    if source.network is not None and source.network.notes:
        lines.append(f"counted in part, by the layers inside: {', '.join(source.network.notes)}")
    lines += [f"{each.gpu.name}: {each.basis}{_of_epoch(each.share)}: {each.words}" for each in times if each.share]
    for each in times:
        if (price := each.footprints[0].rates.usd_per_gpu_hour) is not None:
            lines.append(f"cloud {each.gpu.name}: {significant(price.value.value)} USD/GPU hour ({price.words})")
    return lines
