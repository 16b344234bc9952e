"""The seconds of an epoch, spread over terms and layers in the proportions of a model's law."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from epochcast.model.time_model.physics import (
    ARITHMETIC_GROUP,
    FORMS,
    GROUPS,
    HOST_GROUP,
    MEMORY_GROUP,
    TERMS,
    Law,
)
from epochcast.roofline.epoch_work import trained_params, wide_flop
from epochcast.roofline.network import TrainedNetwork
from epochcast.roofline.roofline import LayerRecord

# how a term's time spreads over layers; a term that is not here belongs to none of them
_LAYER_MEASURES: dict[str, Callable[[LayerRecord], float]] = {
    "per_step_and_block": lambda record: record.n_kernels,
    "per_param_step": trained_params,
    "per_flop": lambda record: record.train_flop,
    "per_activation_byte": lambda record: record.outputs,
    "per_step_flop": lambda record: record.train_flop,
    "per_wide_flop": wide_flop,
}


def law_parts(network: TrainedNetwork, law: Law) -> dict[str, float]:
    """Return the seconds of an epoch that a law gives, by term, without those that are not this network's.

    What a law's epoch spends on input and host is a constant of the CNN's small images, however many or large the
    network's own are.
    """
    return {name: sec for name, sec in law.parts_of(network.work).items() if has_term(network, name)}


def has_term(network: TrainedNetwork, name: str) -> bool:
    """Return whether a law's term is known for this network: all of the CNN, no input and host of another."""
    return network.is_cnn or TERMS[name].group != HOST_GROUP


@dataclass(frozen=True, slots=True)
class Attribution:
    """A predicted time, split as a law splits its own; the known parts sum to the time.

    Terms that are not known for the network are None, and not part of the time.
    """

    terms: dict[str, float | None]  # seconds by term
    layers: tuple[dict[str, float], ...]  # seconds of each record by term; terms of no layer are not in them

    @property
    def groups(self) -> dict[str, float | None]:
        """Seconds by group of terms, None of a group that is not known."""
        found: dict[str, float | None] = {}
        for group in GROUPS:
            own = [sec for name, sec in self.terms.items() if TERMS[name].group == group]
            known = [sec for sec in own if sec is not None]
            found[group] = sum(known) if known or not own else None
        return found

    @property
    def of_no_layer(self) -> dict[str, float | None]:
        """Seconds by term of what belongs to no layer."""
        return {name: sec for name, sec in self.terms.items() if name not in _LAYER_MEASURES}


def attribute(law: Law, network: TrainedNetwork, total_sec: float, ratio: float = 1.0) -> Attribution:
    """Return `total_sec` of an epoch, split in the law's proportions.

    Args:
        ratio: of arithmetic and memory on this device over those where the law was measured.

    Raises:
        ValueError: if the law says that this work takes no time.
    """
    parts = {
        name: sec * (ratio if TERMS[name].group in (ARITHMETIC_GROUP, MEMORY_GROUP) else 1.0)
        for name, sec in law_parts(network, law).items()
    }
    if not (own := sum(parts.values())) > 0:
        raise ValueError(f"{network.name}: the law gives it no time, so nothing can be attributed.")
    known = {name: total_sec * sec / own for name, sec in parts.items()}
    spread = {
        name: _spread(_LAYER_MEASURES[name], network, sec) for name, sec in known.items() if name in _LAYER_MEASURES
    }
    return Attribution(
        {name: known.get(name) for name in FORMS[law.form]},
        tuple({name: sec[i] for name, sec in spread.items()} for i in range(len(network.records))),
    )


def _spread(measure: Callable[[LayerRecord], float], network: TrainedNetwork, sec: float) -> list[float]:
    measures = [measure(record) for record in network.records]
    total = sum(measures)
    return [sec * own / total if total else 0.0 for own in measures]


def layer_groups(parts: Mapping[str, float]) -> dict[str, float]:
    """Return one layer's attributed seconds by group; input and host belong to no layer."""
    return {g: sum(sec for name, sec in parts.items() if TERMS[name].group == g) for g in GROUPS[1:]}
