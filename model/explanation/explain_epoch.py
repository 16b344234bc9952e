"""Explain an epoch: its time, and how that spreads over layers under their roofs."""

from __future__ import annotations

from epochcast.gpus.network_time import NETWORK_LAW
from epochcast.machine.gpu_driver import box_device_name
from epochcast.model.answers.this_box import differences
from epochcast.model.explanation.attribution import has_term, law_parts
from epochcast.model.explanation.device import ExplainedDevice
from epochcast.model.explanation.efficiency import efficiencies
from epochcast.model.explanation.epoch_time import ROOF, EpochTime, time_of
from epochcast.model.explanation.explanation import ABOVE_ROOF_NOTE, ExplainedLayer, Explanation
from epochcast.model.explanation.memory import NetworkMemory
from epochcast.roofline.network import NO_ROOF, TrainedNetwork, epoch_layers, epoch_roofline
from epochcast.schema import RunConfig


def explain(
    device: ExplainedDevice, network: TrainedNetwork, config: RunConfig | None, memory: NetworkMemory | None = None
) -> Explanation:
    """Return the whole explanation; `config` where the network is our CNN, which models predict.

    Raises:
        ValueError: if nothing is known of the network's time.
    """
    layers = epoch_layers(network, device.roof or NO_ROOF)
    least = None if device.roof is None else epoch_roofline(network, layers, device.roof)
    time = time_of(device, network, config, least)
    own = [None] * len(layers) if time.attribution is None else time.attribution.layers
    explained = tuple(ExplainedLayer(layer, device.roof, parts) for layer, parts in zip(layers, own, strict=True))
    law = device.choice.model.plain_law
    is_calibrated = device.is_calibrated and time.basis != NETWORK_LAW
    return Explanation(
        network=network,
        config=config,
        device=device,
        this_box=box_device_name(),
        is_this_box=device.is_this_box,
        domain=_domain(device, config, time),
        time=time,
        roofline=least,
        layers=explained,
        efficiencies=tuple(efficiencies(law, network, device.roof, device.arithmetic)) if is_calibrated else None,
        law_sec=sum(law_parts(network, law).values()) if is_calibrated else None,
        readings={name: words for name, words in law.readings().items() if has_term(network, name)},
        notes=(
            *device.notes,
            *_framework_notes(device),
            *network.notes,
            *([ABOVE_ROOF_NOTE] if any(layer.is_above_roof for layer in explained) else []),
        ),
        memory=memory,
    )


def _domain(device: ExplainedDevice, config: RunConfig | None, time: EpochTime) -> str | None:
    """Return where our CNN's configuration lies against what the model learned from."""
    if config is None or time.basis == ROOF:
        return None
    saved = device.choice.model
    return saved.range.domain(config, saved.widths.axes)


def _framework_notes(device: ExplainedDevice) -> list[str]:
    """Return a note for a run on this box that takes another framework than the model."""
    found = differences(device.choice.model.conditions, device.precision) if device.is_this_box else []
    return [f"{each}: what that changes is not known" for each in found if each.name not in ("device", "precision")]
