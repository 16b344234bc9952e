"""The device of an explanation: the model that answers, whether its rows are of it, and the peaks if known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from epochcast.facts.assumptions import device_kind_of
from epochcast.facts.tables import Gpu
from epochcast.gpus.lookup import find_gpu, index_in_box, known_gpu
from epochcast.gpus.network_time import NetworkFactor
from epochcast.gpus.rates import arithmetic_of, roof_of
from epochcast.gpus.ratio import GpuArithmetic
from epochcast.model.answers.correction import scaled_steady_time
from epochcast.model.answers.other_gpus import GpuPrediction, answer_on, can_scale
from epochcast.model.answers.prediction import RunRequest
from epochcast.model.explanation.network_factor import factor_for
from epochcast.model.time_model.saved_model import Choice, SavedModel, choose_model, pretrained
from epochcast.roofline.roofline import Roof
from epochcast.schema import DEFAULT_PRECISION, PRECISIONS, TRAIN_N, AggRow, RunConfig

FLOAT32 = DEFAULT_PRECISION  # where nothing says more


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedDevice:
    """The device explained. Without `roof` its peaks are not known."""

    name: str | None
    precision: str
    arithmetic: str | None  # of `epochcast.facts.tables.ARITHMETIC`
    gpu: Gpu | None
    roof: Roof | None
    notes: tuple[str, ...]  # what was taken for granted, or is not known
    choice: Choice  # the model that answers
    is_calibrated: bool  # whether that model's rows are of this device in this precision
    answer: GpuPrediction | None = None  # of our CNN: measured, or scaled from the model's device
    ratio: float | None = None  # seconds of arithmetic and memory over those on the model's device; None: not known
    scaled_to: GpuArithmetic | None = None  # this one, where another network's time is scaled from the model's
    network_factor: NetworkFactor | None = None  # of other networks that were measured on it; None: none was

    def with_factor_of(self, factors: Iterable[NetworkFactor]) -> ExplainedDevice:
        """Return it with what other networks took on it, where some were measured there."""
        return self if self.gpu is None else replace(self, network_factor=factor_for(factors, self.gpu, self.precision))

    @property
    def is_this_box(self) -> bool:
        """Whether this box has it, under whatever name."""
        names = (self.name, None if self.gpu is None else self.gpu.name)
        return any(index_in_box(name) is not None for name in names)

    @property
    def train_n(self) -> int:
        """Images of an epoch: the model's, but those of CIFAR-10 where the roofline alone answers."""
        rests_on_model = self.is_calibrated or self.answer is not None or self.scaled_to is not None
        return self.choice.model.train_n if rests_on_model else TRAIN_N


def explained_device(
    config: RunConfig | None,
    gpu_name: str | None = None,
    path: Path | None = None,
    wanted: Mapping[str, str] | None = None,
    precision: str | None = None,
    rows: Sequence[AggRow] = (),
) -> ExplainedDevice:
    """Return the device that is asked for: by `gpu_name`, else that of the model that answers.

    Args:
        config: of our CNN, whose time may be measured in `rows`, or scaled; None for another network.
        path: of the model; default: chosen, among those that meet `wanted`.
        precision: explained in; default: the model's.

    Raises:
        ValueError: if no GPU has this name, or it does not compute in this precision, or no model fits.
    """
    choice = choose_model(path, wanted=wanted, precision=precision)
    own = choice.model.conditions
    used = precision or own.precision or FLOAT32
    if used not in PRECISIONS:
        raise ValueError(
            f"{choice.model.path}: learned in a precision that is not known, {used[:60]!r}. Name one of "
            f"{', '.join(PRECISIONS)} with --precision."
        )
    if gpu_name is None and used == (own.precision or FLOAT32):
        return _calibrated(choice)
    gpu = known_gpu(own.device_name) if gpu_name is None else find_gpu(gpu_name)
    if gpu is None:
        raise ValueError(
            f"{choice.model.path}: learned in {own.precision or FLOAT32} on {own.device_name or 'an unknown device'}; "
            f"nothing tells of {used} there. Take a model that was: --conditions precision={used}, or name --gpu."
        )
    choices = [choice, *(scaling_choices(choice) if path is None and not wanted else ())]
    if config is None:
        if (found := device_of_network(gpu, used, choices)) is not None:
            return found
    else:
        for each in choices:
            answer = _answer(gpu, each.model, RunRequest(config, used), rows)
            if _is_of(each, gpu, used):
                is_measured = answer is not None and answer.ratio is None
                return replace(_calibrated(each), answer=answer if is_measured else None)
            if answer is not None:
                return _answered(each, answer, config, used)
    tf32 = own.tf32 if known_gpu(own.device_name) is not None else None
    arithmetic = arithmetic_of(used, tf32 or "on", gpu)
    from_ = own.device_name or "an unknown device"
    notes = [f"nothing carries over from {from_}: with --model PATH a GPU's model answers, and its time does"]
    if arithmetic == "tf32" and tf32 is None:
        notes.append("tf32 is taken to be on")
    return ExplainedDevice(gpu.name, used, arithmetic, gpu, roof_of(gpu, arithmetic), tuple(notes), choice, False)


def scaling_choices(choice: Choice) -> list[Choice]:
    """Return the shipped model where nothing carries over from the device of the one that answers."""
    if can_scale(choice.model):
        return []
    return [pretrained(f"as nothing carries over from {choice.model.conditions.device_name or 'an unknown device'}")]


def device_of_network(gpu: Gpu, precision: str, choices: Iterable[Choice]) -> ExplainedDevice | None:
    """Return a GPU for another network; None where no model is of it or scales.

    Raises:
        ValueError: if the GPU is not known to have the precision.
    """
    for each in choices:
        if _is_of(each, gpu, precision):
            return _calibrated(each)
        if can_scale(each.model):
            return scaled_to(GpuArithmetic.of(gpu, precision, each.model.conditions.tf32), each)
    return None


def _is_of(choice: Choice, gpu: Gpu, precision: str) -> bool:
    """Whether a model's rows are of this GPU in this precision."""
    of = known_gpu(choice.model.device_name)
    return of is not None and (of.name, choice.model.conditions.precision or FLOAT32) == (gpu.name, precision)


def _answer(gpu: Gpu, saved: SavedModel, asked: RunRequest, rows: Sequence[AggRow]) -> GpuPrediction | None:
    """Return what `predict_perf --gpu` reports; None where it has nothing to scale from.

    Raises:
        ValueError: if the GPU is not known to have the precision.
    """
    try:
        return answer_on(gpu, saved, asked, rows)
    except ValueError:
        if can_scale(saved):
            raise
        return None


def _answered(choice: Choice, answer: GpuPrediction, config: RunConfig, precision: str) -> ExplainedDevice:
    """Return a GPU, or a precision, that the model's rows are not of."""
    own, gpu = choice.model.conditions, answer.gpu
    of = known_gpu(own.device_name)
    name = own.device_name if of is not None and of.name == gpu.name else gpu.name
    tf32 = answer.conditions.tf32 or own.tf32
    try:
        target = GpuArithmetic.of(gpu, precision, tf32)
    except ValueError as error:  # measured all the same
        return ExplainedDevice(name, precision, None, gpu, None, (f"no roofs: {error}",), choice, False, answer)
    scale = None if answer.ratio is None else answer.ratio.value.value
    if answer.ratio is None and can_scale(choice.model):  # measured: it splits as the scaled time would
        scale = scaled_steady_time(choice.model, config, target).ratio.value
    roof = roof_of(gpu, target.arithmetic)
    return ExplainedDevice(name, precision, target.arithmetic, gpu, roof, (), choice, False, answer, scale)


def scaled_to(target: GpuArithmetic, choice: Choice) -> ExplainedDevice:
    """Return a GPU, or a precision, to which the time of another network is scaled."""
    own = choice.model.conditions
    of = known_gpu(own.device_name)
    name = own.device_name if of is not None and of.name == target.gpu.name else target.gpu.name
    roof = roof_of(target.gpu, target.arithmetic)
    return ExplainedDevice(
        name, target.precision, target.arithmetic, target.gpu, roof, (), choice, False, scaled_to=target
    )


def _calibrated(choice: Choice) -> ExplainedDevice:
    """Return the device of a model's rows, with its peaks where they are known."""
    conditions = choice.model.conditions
    name, precision, tf32 = conditions.device_name, conditions.precision, conditions.tf32
    notes, arithmetic, roof = [], None, None
    gpu = known_gpu(name)
    if gpu is None:
        kind = "a processor's" if device_kind_of(name) == "cpu" else "its"
        notes.append(f"no roofs: {kind} peaks are not known ({name or 'the device of the rows is unknown'})")
    else:
        if precision is None or tf32 is None:
            notes.append(f"the rows don't tell all: {precision or FLOAT32} is taken, with tf32 {tf32 or 'on'}")
        try:
            arithmetic = arithmetic_of(precision or FLOAT32, tf32 or "on", gpu)
            roof = roof_of(gpu, arithmetic)
        except ValueError as error:
            notes.append(f"no roofs: {error}")
    return ExplainedDevice(name, precision or FLOAT32, arithmetic, gpu, roof, tuple(notes), choice, True, None, 1.0)
