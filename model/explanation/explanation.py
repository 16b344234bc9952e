"""An explanation: where an epoch's time goes, layer by layer, and what the roofline allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from epochcast.gpus.lookup import BYTES_PER_GB
from epochcast.gpus.network_time import NETWORK_LAW
from epochcast.gpus.rates import FLOPS_PER_TFLOPS
from epochcast.interval import with_ends
from epochcast.model.explanation.attribution import layer_groups
from epochcast.model.explanation.device import ExplainedDevice
from epochcast.model.explanation.efficiency import Efficiency
from epochcast.model.explanation.epoch_time import ROOF, EpochTime
from epochcast.model.explanation.memory import NetworkMemory
from epochcast.roofline.network import EpochLayer, EpochRoofline, TrainedNetwork
from epochcast.roofline.roofline import LayerRecord, Roof
from epochcast.schema import Conditions, RunConfig

ABOVE_ROOF_NOTE = (
    "the law spreads memory by outputs and launches by kernels, so that single layers may come out above the roof"
)


@dataclass(frozen=True, slots=True)
class ExplainedLayer:
    """One layer in an epoch: its work, its roof, and the time that the law attributes to it."""

    layer: EpochLayer
    roof: Roof | None  # None where the device's peaks are not known
    parts: Mapping[str, float] | None  # seconds by term; None where the time is not split

    @property
    def record(self) -> LayerRecord:
        return self.layer.record

    @property
    def bound(self) -> str | None:
        return None if self.roof is None else self.layer.bound(self.roof)

    @property
    def attainable_sec(self) -> float | None:
        return None if self.roof is None else self.layer.sec

    @property
    def attributed_sec(self) -> float | None:
        return None if self.parts is None else sum(self.parts.values())

    @property
    def attributed(self) -> dict[str, float] | None:
        """Attributed seconds by group of terms."""
        return None if self.parts is None else layer_groups(self.parts)

    @property
    def flops(self) -> float | None:
        """FLOP/s in the attributed time."""
        return self.layer.flop / sec if (sec := self.attributed_sec) else None

    @property
    def share_of_roof(self) -> float | None:
        """The attainable over the attributed time."""
        if (least := self.attainable_sec) is None or not (sec := self.attributed_sec):
            return None
        return least / sec

    @property
    def is_above_roof(self) -> bool:
        """Whether the attributed time is less than the attainable."""
        return (share := self.share_of_roof) is not None and share > 1

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.record.name,
            "kind": self.record.kind,
            "output_shape": list(self.record.output_shape),
            "params": self.record.params,
            "flop": self.layer.flop,
            "bytes": self.layer.bytes,
            "intensity": self.layer.intensity,
            "kernels_per_step": self.layer.n_kernels,
            "bound": self.bound,
            "attainable_sec": self.attainable_sec,
            "attributed_sec": self.attributed_sec,
            "attributed": self.attributed,
            "flops": self.flops,
            "share_of_roof": self.share_of_roof,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """The whole explanation of one network on one device, in full precision."""

    network: TrainedNetwork
    config: RunConfig | None  # where the network is our CNN
    device: ExplainedDevice
    this_box: str
    is_this_box: bool
    domain: str | None  # where the configuration lies against what was measured
    time: EpochTime
    roofline: EpochRoofline | None  # None where the device's peaks are not known
    layers: tuple[ExplainedLayer, ...]
    efficiencies: tuple[Efficiency, ...] | None  # None where the law is of another device
    law_sec: float | None  # of an epoch by the law alone
    readings: Mapping[str, str]  # of the law's coefficients, of terms that are the network's
    notes: tuple[str, ...]
    memory: NetworkMemory | None = None  # of a step; None of our CNN, and on a processor

    @property
    def parts(self) -> dict[str, float | None] | None:
        """Seconds by group of terms; None where the time is not split."""
        return None if self.time.attribution is None else self.time.attribution.groups

    @property
    def train_flop(self) -> int:
        """FLOP of an epoch, multiply-adds alone."""
        work = self.network.work
        return work.images * work.train_flop

    @property
    def flops(self) -> float | None:
        """FLOP/s over the whole epoch; None of a time that is the roofline's own."""
        return None if self.time.basis == ROOF else self.train_flop / self.time.seconds.value

    @property
    def share_of_peak(self) -> float | None:
        """Those FLOP/s over the peak."""
        if self.flops is None or self.device.roof is None:
            return None
        return self.flops / self.device.roof.flops

    @property
    def model_conditions(self) -> Conditions:
        return self.device.choice.model.conditions

    @property
    def has_model(self) -> bool:
        """Whether the time rests on a model, not on roofline or law of networks."""
        return self.time.basis not in (ROOF, NETWORK_LAW)

    @property
    def is_calibrated(self) -> bool:
        """Whether the time is by a law whose rows are of this device."""
        return self.device.is_calibrated and self.has_model

    def to_json(self) -> dict[str, Any]:
        network, device, time, split = self.network, self.device, self.time, self.time.attribution
        scaling = time.scaling
        return {
            "network": network.name,
            "config": None if self.config is None else asdict(self.config),
            "batch_size": network.batch_size,
            "train_n": network.images,
            "steps_per_epoch": network.work.steps,
            "params": network.params,
            "optimizer": network.optimizer,
            "not_counted": list(network.not_counted),
            "device": device.name,
            "this_box": self.this_box,
            "is_this_box": self.is_this_box,
            "domain": self.domain,
            "precision": device.precision,
            "arithmetic": device.arithmetic,
            "calibrated": self.is_calibrated,
            **with_ends("predicted_avg_time_sec", time.seconds),
            "basis": time.basis,
            "basis_words": time.words,
            "device_share": None if scaling is None else scaling.share,
            **with_ends("device_time_ratio", None if scaling is None else scaling.ratio),
            "held_at_roof": None if scaling is None else scaling.limited,
            "parts": self.parts,
            "terms": None if split is None else split.terms,
            "law_sec": self.law_sec,
            "train_flop_per_epoch": self.train_flop,
            "flops": self.flops,
            "share_of_peak": self.share_of_peak,
            "roofs": self._roofs_json(),
            "efficiencies": None
            if self.efficiencies is None
            else [{**asdict(efficiency), "words": str(efficiency)} for efficiency in self.efficiencies],
            "layers": [layer.to_json() for layer in self.layers],
            "of_no_layer": None if split is None else split.of_no_layer,
            "memory": None if self.memory is None else self.memory.to_json(),
            **self._model_json(),
            "notes": list(self.notes),
        }

    def _roofs_json(self) -> dict[str, Any] | None:
        if (least := self.roofline) is None:
            return None
        return {
            "peak_tflops": least.roof.flops / FLOPS_PER_TFLOPS,
            "peak_gb_per_sec": least.roof.bytes_per_sec / BYTES_PER_GB,
            "ridge_flop_per_byte": least.roof.ridge,
            "attainable_sec": least.attainable_sec,
            "compute_bound_sec": least.compute_bound_sec,
            "memory_bound_sec": least.memory_bound_sec,
            "binds": least.bound,
            "kernels_per_step": least.n_kernels,
            "launch_sec": least.launch_sec,
            "source": None if self.device.gpu is None else self.device.gpu.source,
        }

    def _model_json(self) -> dict[str, Any]:
        """Return the model that answers; where its law is of another device, what it measured there."""
        own, is_calibrated = self.model_conditions, self.is_calibrated
        elsewhere = {"device": own.device_name, "precision": own.precision, "readings": dict(self.readings)}
        return {
            "model": str(self.device.choice.model.path) if self.has_model else None,
            "answered_because": self.device.choice.reason if self.has_model else None,
            "conditions": asdict(own) if self.has_model else None,
            "readings": dict(self.readings) if is_calibrated else None,
            "measured_elsewhere": None if is_calibrated or self.time.basis == NETWORK_LAW else elsewhere,
        }
