"""Which device an explanation is of: the model that answers, whether its rows are of it, and the peaks if known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from epochcast.facts.assumptions import device_kind_of
from epochcast.facts.tables import Gpu
from epochcast.gpus.lookup import arithmetic_of, find_gpu, known_gpu, place_in_box, roof_of
from epochcast.gpus.ratio import GpuArithmetic, device_ratio, source_device
from epochcast.model.answers.correction import carried_time
from epochcast.model.answers.other_gpus import Asked, GpuAnswer, answer_on, can_scale
from epochcast.model.time_model.saved_model import Choice, SavedModel, choose_model, pretrained
from epochcast.roofline.roofline import Roof
from epochcast.schema import DEFAULT_PRECISION, PRECISIONS, AggRow, RunConfig

FLOAT32 = DEFAULT_PRECISION  # where nothing says more


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """The device explained. Without `roof` its peaks are not known."""

    name: str | None
    precision: str
    arithmetic: str | None  # of `epochcast.facts.tables.ARITHMETIC`
    gpu: Gpu | None
    roof: Roof | None
    notes: tuple[str, ...]  # what was taken for granted, or is not known
    choice: Choice  # the model that answers
    is_calibrated: bool  # whether that model's rows are of this device in this precision
    answer: GpuAnswer | None = None  # of our CNN: measured here, or carried over from the model's device
    ratio: float | None = None  # seconds of arithmetic and memory over those on the model's device; None: not known
    carried_to: GpuArithmetic | None = None  # this one, where another network's time is carried over from the model's

    @property
    def is_here(self) -> bool:
        """Whether this box has it, under whatever name."""
        names = (self.name, None if self.gpu is None else self.gpu.name)
        return any(place_in_box(name) is not None for name in names)


def device_of(
    config: RunConfig | None,
    gpu_name: str | None = None,
    path: Path | None = None,
    wanted: Mapping[str, str] | None = None,
    precision: str | None = None,
    rows: Sequence[AggRow] = (),
) -> Device:
    """The device that is asked for: by `gpu_name`, else that of the model that answers.

    Args:
        config: of our CNN, whose time a row of `rows` may tell, or may be carried over; None for another network.
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
    choices = [choice]
    if path is None and not wanted and not can_scale(choice.model):
        choices.append(pretrained(f"as nothing carries over from {own.device_name or 'an unknown device'}"))
    for each in choices:
        answer = None if config is None else _answer(gpu, each.model, Asked(config, used), rows)
        of, learned_in = known_gpu(each.model.device_name), each.model.conditions.precision or FLOAT32
        if of is not None and (of.name, learned_in) == (gpu.name, used):
            is_measured = answer is not None and answer.ratio is None
            return replace(_calibrated(each), answer=answer if is_measured else None)
        if config is not None and answer is not None:
            return _answered(each, answer, config, used)
        if config is None and can_scale(each.model):
            return _carried_to(GpuArithmetic.of(gpu, used, each.model.conditions.tf32), each)
    tf32 = own.tf32 if known_gpu(own.device_name) is not None else None
    arithmetic = arithmetic_of(used, tf32 or "on", gpu)
    from_ = own.device_name or "an unknown device"
    notes = [f"nothing carries over from {from_}: with --model PATH a GPU's model answers, and its time does"]
    if arithmetic == "tf32" and tf32 is None:
        notes.append("tf32 is taken to be on")
    return Device(gpu.name, used, arithmetic, gpu, roof_of(gpu, arithmetic), tuple(notes), choice, False)


def _answer(gpu: Gpu, saved: SavedModel, asked: Asked, rows: Sequence[AggRow]) -> GpuAnswer | None:
    """What `predict_perf --gpu` says; None where it has nothing to carry over from.

    Raises:
        ValueError: if the GPU is not known to have the precision.
    """
    try:
        return answer_on(gpu, saved, asked, rows)
    except ValueError:
        if can_scale(saved):
            raise
        return None


def _answered(choice: Choice, answer: GpuAnswer, config: RunConfig, precision: str) -> Device:
    """A GPU, or a precision, that the model's rows are not of."""
    own, gpu = choice.model.conditions, answer.gpu
    of = known_gpu(own.device_name)
    name = own.device_name if of is not None and of.name == gpu.name else gpu.name
    tf32 = answer.conditions.tf32 or own.tf32
    try:
        here = GpuArithmetic.of(gpu, precision, tf32)
    except ValueError as error:  # measured all the same
        return Device(name, precision, None, gpu, None, (f"no roofs: {error}",), choice, False, answer)
    scale = None if answer.ratio is None else answer.ratio.value.value
    if answer.ratio is None and can_scale(choice.model):  # measured: it splits as the time carried over would
        scale = carried_time(choice.model, config, device_ratio(source_device(own), here), here).ratio.value
    roof = roof_of(gpu, here.arithmetic)
    return Device(name, precision, here.arithmetic, gpu, roof, (), choice, False, answer, scale)


def _carried_to(target: GpuArithmetic, choice: Choice) -> Device:
    """A GPU, or a precision, to which the time of a network that is not our CNN is carried over."""
    own = choice.model.conditions
    of = known_gpu(own.device_name)
    name = own.device_name if of is not None and of.name == target.gpu.name else target.gpu.name
    roof = roof_of(target.gpu, target.arithmetic)
    return Device(name, target.precision, target.arithmetic, target.gpu, roof, (), choice, False, carried_to=target)


def _calibrated(choice: Choice) -> Device:
    """The device of a model's rows, with its peaks where they are known."""
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
    return Device(name, precision or FLOAT32, arithmetic, gpu, roof, tuple(notes), choice, True, None, 1.0)
