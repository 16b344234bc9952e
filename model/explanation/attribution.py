"""A network layer by layer: what an epoch of each takes at least, by a roof, and what it takes, by a calibrated law."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from epochcast.epoch_work import EpochWork, trained_params, wide_flop, work_of_layers
from epochcast.model.carry import KIND
from epochcast.model.time_model.physics import ARITHMETIC, FORMS, GROUPS, HOST, TERMS, Law
from epochcast.model.time_model.physics import MEMORY as MEMORY_TERMS
from epochcast.roofline.roofline import (
    ADAM_PASSES,
    COMPUTE,
    MEMORY,
    WEIGHT_BYTES,
    LayerRecord,
    Roof,
    step_roof,
)
from epochcast.schema import DEFAULT_PRECISION, PRECISIONS, RunConfig
from epochcast.workload.shape import layer_records

OTHER_KIND = "other"
NETWORK_KINDS = {"conv": KIND, "depthwise": KIND, "attention": "transformer", "recurrent": "recurrent"}  # by a layer's
NO_ROOF = Roof(math.inf, math.inf)

# how a term's time spreads over layers; a term that is not here belongs to none of them
_LAYER_MEASURES: dict[str, Callable[[LayerRecord], float]] = {
    "per_step_and_block": lambda record: record.n_kernels,
    "per_param_step": trained_params,
    "per_flop": lambda record: record.train_flop,
    "per_activation_byte": lambda record: record.outputs,
    "per_step_flop": lambda record: record.train_flop,
    "per_wide_flop": wide_flop,
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What is explained: a network's layers at one batch size, trained on so many images in one precision."""

    name: str
    records: tuple[LayerRecord, ...]
    batch_size: int
    images: int
    precision: str = DEFAULT_PRECISION
    optimizer: str = "adam"
    optimizer_passes: int = ADAM_PASSES
    not_counted: tuple[str, ...] = ()  # layers that nothing here knows, by name and class
    notes: tuple[str, ...] = ()
    is_cnn: bool = True  # the CNN that laws are fitted on; of another network its input and host are not known

    def law_parts(self, law: Law) -> dict[str, float]:
        """Return the seconds of an epoch that a law gives, by term, without those that are not this network's.

        What a law's epoch spends on input and host is a constant of the CNN's small images, however many or large the
        network's own are.
        """
        return {name: sec for name, sec in law.parts_of(self.work).items() if self.has_term(name)}

    def has_term(self, name: str) -> bool:
        """Return whether a law's term is known for this network: all of the CNN, no input and host of another."""
        return self.is_cnn or TERMS[name].group != HOST

    @property
    def work(self) -> EpochWork:
        return work_of_layers(self.records, self.batch_size, self.images, self.optimizer_passes)

    @property
    def network_kind(self) -> str:
        """What does most of its multiply-adds, as published speeds name networks; OTHER_KIND where nothing does."""
        macs: dict[str, int] = {}
        for record in self.records:
            kind = NETWORK_KINDS.get(record.kind, OTHER_KIND)
            macs[kind] = macs.get(kind, 0) + record.macs
        return next((kind for kind, own in macs.items() if own > sum(macs.values()) / 2), OTHER_KIND)

    @property
    def is_convolutional(self) -> bool:
        """Whether convolutions do most of its multiply-adds."""
        return self.network_kind == KIND

    @property
    def element_bytes(self) -> int:
        """Bytes of an activation."""
        return PRECISIONS[self.precision].element_bytes


def subject_of(config: RunConfig, images: int, precision: str) -> Subject:
    """One configuration of our CNN."""
    return Subject(f"CNN of {config.network_text}", layer_records(config), config.batch_size, images, precision)


@dataclass(frozen=True, slots=True)
class EpochLayer:
    """A layer's work in an epoch, forward, backward and its parameters' optimizer, and what that takes at least."""

    record: LayerRecord
    flop: int
    bytes: int
    sec: float  # attainable: by arithmetic or memory, without launches; 0 without a roof
    n_kernels: int  # of a step

    @property
    def intensity(self) -> float:
        """Arithmetic intensity, FLOP per byte."""
        return self.flop / self.bytes

    def bound(self, roof: Roof) -> str:
        """The roof that this layer is under: COMPUTE or MEMORY."""
        return COMPUTE if self.intensity > roof.ridge else MEMORY


def epoch_layers(subject: Subject, roof: Roof) -> list[EpochLayer]:
    """The layers of an epoch; its last step may have fewer images."""
    full, rest = divmod(subject.images, subject.batch_size)
    steps = [(n, step_roof(subject.records, batch, roof, subject.element_bytes, subject.optimizer_passes))
             for n, batch in ((full, subject.batch_size), (1, rest)) if n and batch]  # fmt: skip
    found = []
    for i, record in enumerate(subject.records):
        optimizer_bytes = subject.optimizer_passes * WEIGHT_BYTES * trained_params(record)
        found.append(
            EpochLayer(
                record=record,
                flop=sum(n * step.layers[i].flop for n, step in steps),
                bytes=sum(n * (step.layers[i].bytes + optimizer_bytes) for n, step in steps),
                sec=sum(n * (step.layers[i].sec + optimizer_bytes / roof.bytes_per_sec) for n, step in steps),
                n_kernels=steps[0][1].layers[i].n_kernels + (trained_params(record) > 0),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Attribution:
    """A predicted time, split as a law splits its own: by term, and each layer's by term. Known parts sum to the time.

    Terms that are not known for the network are None, and not part of the time.
    """

    terms: dict[str, float | None]
    layers: tuple[dict[str, float], ...]  # as the records; terms that belong to no layer are not in them

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


def attribute(law: Law, subject: Subject, total_sec: float, ratio: float = 1.0) -> Attribution:
    """Where `total_sec` of an epoch goes, in the law's proportions; on a device whose arithmetic and memory take
    `ratio` times as long as where the law was measured, with those scaled.

    Raises:
        ValueError: if the law says that this work takes no time.
    """
    parts = {
        name: sec * (ratio if TERMS[name].group in (ARITHMETIC, MEMORY_TERMS) else 1.0)
        for name, sec in subject.law_parts(law).items()
    }
    if not (own := sum(parts.values())) > 0:
        raise ValueError(f"{subject.name}: the law gives it no time, so nothing can be attributed.")
    known = {name: total_sec * sec / own for name, sec in parts.items()}
    spread = {
        name: _spread(_LAYER_MEASURES[name], subject, sec) for name, sec in known.items() if name in _LAYER_MEASURES
    }
    return Attribution(
        {name: known.get(name) for name in FORMS[law.form]},
        tuple({name: sec[i] for name, sec in spread.items()} for i in range(len(subject.records))),
    )


def _spread(measure: Callable[[LayerRecord], float], subject: Subject, sec: float) -> list[float]:
    measures = [measure(record) for record in subject.records]
    total = sum(measures)
    return [sec * own / total if total else 0.0 for own in measures]


def layer_groups(parts: Mapping[str, float]) -> dict[str, float]:
    """One layer's attributed seconds by group; input and host belong to no layer."""
    return {g: sum(sec for name, sec in parts.items() if TERMS[name].group == g) for g in GROUPS[1:]}
