"""All that `predict_perf` says of configurations: the prediction, the estimate for this box, footprints, other GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from epochcast.gpus.lookup import find_gpu, known_gpu
from epochcast.machine.gpu_driver import box_device_name
from epochcast.model.answers.energy import EnergyModel
from epochcast.model.answers.prediction import SORTS, NoPrediction, Prediction, RunRequest, predict
from epochcast.model.answers.prediction_text import domain_lines, measured_lines, prediction_lines, prediction_table
from epochcast.model.answers.this_box import (
    BoxDifference,
    ThisBoxEstimate,
    differs_line,
    estimate_for_this_box,
    this_box_json,
)
from epochcast.model.time_model.saved_model import Choice
from epochcast.output.text import named_lines
from epochcast.schema import NETWORK_AXES, AggRow, RunConfig

if TYPE_CHECKING:  # footprints and other GPUs are imported where they are asked for: half of predict_perf's start
    from epochcast.facts.tables import Gpu
    from epochcast.footprint.footprint import Footprint
    from epochcast.footprint.rules import FootprintRules
    from epochcast.model.answers.other_gpus import GpuPrediction

ONE_LINE_EACH = ("peak_memory_basis", "model", "answered_because", "conditions", "error")  # below a table


@dataclass(frozen=True, slots=True, eq=False)
class PredictionRequest:
    """What is asked besides the configurations."""

    choice: Choice
    on_gpus: Choice  # the model whose times are scaled to other GPUs: that of `choice`, where its device allows it
    precision: str
    epochs: int | None = None
    gpus: Sequence[Gpu] = ()
    gpus_left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)  # names of GPUs by the reason
    sort: str = SORTS[0]
    rules: FootprintRules | None = None
    rows: Sequence[AggRow] = ()
    differences: Sequence[BoxDifference] = ()

    def of(self, config: RunConfig) -> RunRequest:
        return RunRequest(config, self.precision, self.epochs, self.rules)


@dataclass(frozen=True, slots=True, eq=False)
class FullAnswer:
    """All that is said of one configuration; without a prediction nothing but the differences."""

    prediction: Prediction | NoPrediction
    differences: Sequence[BoxDifference]
    this_box: ThisBoxEstimate | None = None  # None where nothing differs from this box
    on_gpus: Sequence[GpuPrediction] = ()
    gpus_left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    footprints: Sequence[Footprint] = ()
    footprint_of: str | None = None  # device and precision of the footprints; None without any

    @property
    def problem(self) -> str | None:
        """Return why the model has no number for this configuration; None where it has one."""
        return self.prediction.problem if isinstance(self.prediction, NoPrediction) else None

    def to_json(self) -> dict[str, Any]:
        """Return everything in full precision; footprints and GPUs only where they were asked for."""
        values = {**self.prediction.to_json(), **this_box_json(self.differences, self.this_box)}
        if self.footprints:
            from epochcast.footprint.text import footprint_json

            values["footprint_of"] = self.footprint_of
            values["footprints"] = [footprint_json(found) for found in self.footprints]
        if self.on_gpus or self.gpus_left_out:
            values["gpus"] = [each.to_json() for each in self.on_gpus]
            values["gpus_left_out"] = self.gpus_left_out
        return values


def full_answers(configs: Sequence[RunConfig], request: PredictionRequest) -> list[FullAnswer]:
    """Return the answer for each configuration.

    Raises:
        ValueError: if the model has no number for any of them, or as `full_answer`.
    """
    answers = [full_answer(config, request) for config in configs]
    problems = [each.problem for each in answers if each.problem is not None]
    if len(problems) == len(answers):
        raise ValueError("; ".join(dict.fromkeys(problems)))
    return answers


def full_answer(config: RunConfig, request: PredictionRequest) -> FullAnswer:
    """Return the model's prediction, its estimate for this box, and the predictions for the GPUs asked for."""
    rows, differences, asked = request.rows, request.differences, request.of(config)
    saved = request.choice.model
    try:
        saved.forecast(config, request.epochs)
    except ValueError as error:  # so far outside that the law can't be evaluated
        return FullAnswer(NoPrediction(config, request.choice, box_device_name(), str(error)), differences)
    prediction = predict(config, request.choice, request.epochs, rows)
    footprints, footprint_of = _own_footprints(prediction, asked, request)
    return FullAnswer(
        prediction,
        differences,
        estimate_for_this_box(saved, asked, rows, differences) if differences else None,
        _on_gpus(asked, request) if request.gpus else (),
        request.gpus_left_out,
        footprints,
        footprint_of,
    )


def _on_gpus(asked: RunRequest, request: PredictionRequest) -> list[GpuPrediction]:
    from epochcast.model.answers.other_gpus import answers_on

    return answers_on(request.gpus, request.on_gpus.model, asked, request.rows, request.sort)


def _own_footprints(
    prediction: Prediction, asked: RunRequest, request: PredictionRequest
) -> tuple[Sequence[Footprint], str | None]:
    """Return the footprints on the model's own device in the precision asked for, and what they are of.

    Raises:
        ValueError: if another precision than the model's is asked for, and that device's rate in it is unknown.
    """
    if asked.rules is None or asked.epochs is None or request.gpus:
        return (), None
    from epochcast.model.answers.other_gpus import answer_on, run_footprints
    from epochcast.model.answers.run_energy import measured_board
    from epochcast.model.time_model.physics import device_share
    from epochcast.workload.shape import work_of

    saved, rows = request.choice.model, request.rows
    conditions, name = saved.conditions, saved.device_name
    gpu = known_gpu(name)
    if conditions.precision not in (None, asked.precision):
        if gpu is None:
            raise ValueError(
                f"the footprint in {asked.precision}: the model is of {name or 'an unknown device'} in "
                f"{conditions.precision}, and nothing tells of {asked.precision} there. Take a model that was learned "
                f"in it: --conditions precision={asked.precision}, or name --gpu."
            )
        answer = answer_on(gpu, saved, asked, rows)
        return answer.footprints, f"{name}, {asked.precision}, {answer.basis_text}"
    energy = EnergyModel.of(conditions, rows)
    busy_share = device_share(saved.plain_law, work_of(asked.config, saved.train_n))
    found = run_footprints(
        asked.config, asked.epochs, prediction.times, energy, measured_board(name), gpu, asked.rules, busy_share
    )
    return found, f"{name or 'an unknown device'}, {conditions.precision or 'an unknown precision'}"


def with_gpus(
    request: PredictionRequest, names: Sequence[str], has_all: bool, configs: Sequence[RunConfig]
) -> PredictionRequest:
    """Return the request with the GPUs to answer for, each once; with `has_all` all that have a number.

    Raises:
        ValueError: if a name is no GPU's.
    """
    named = {gpu.name: gpu for gpu in map(find_gpu, names)}
    if not has_all:
        return replace(request, gpus=list(named.values()))
    from epochcast.facts.tables import gpus
    from epochcast.model.answers.other_gpus import without_number

    left_out: dict[str, list[str]] = {}
    answered = []
    asked, saved = [request.of(config) for config in configs], request.on_gpus.model
    for gpu in gpus():
        reason = next((words for each in asked if (words := without_number(gpu, saved, each, request.rows))), None)
        if reason is None:
            answered.append(gpu)
        else:
            left_out.setdefault(reason, []).append(gpu.name)
    return replace(request, gpus=answered, gpus_left_out=left_out)


# --- for people -------------------------------------------------------------------------------------------------------


def full_answer_lines(answers: Sequence[FullAnswer], request: PredictionRequest) -> list[str]:
    """Return one answer line by line, several as a table; at least one has a prediction."""
    predictions = [each.prediction for each in answers if isinstance(each.prediction, Prediction)]
    first = prediction_lines(predictions[0])
    lines = named_lines({"device": first.pop("device")})
    estimates = [(each.prediction.config.batch_size, each.this_box) for each in answers if each.this_box is not None]
    if request.differences:
        lines += named_lines({"differs": differs_line(request.differences, estimates)})
    if len(answers) == 1:
        lines += named_lines(first)
    else:
        lines += named_lines({name: first[name] for name in (*(axis.name for axis in NETWORK_AXES), "params")})
        rows = [each.prediction for each in answers]
        lines += [prediction_table(rows), *domain_lines(rows), *measured_lines(predictions)]
        lines += named_lines({name: first[name] for name in ONE_LINE_EACH})
    return lines + elsewhere_lines([each for each in answers if each.problem is None], request)


def elsewhere_lines(answers: Sequence[FullAnswer], request: PredictionRequest) -> list[str]:
    """Return footprints and other GPUs of each batch size; what holds for all of them once, at the end."""
    if not (request.gpus or request.gpus_left_out or any(each.footprints for each in answers)):
        return []
    from epochcast.model.answers.other_gpus_text import domain_text, gpu_lines

    scaled = request.on_gpus
    blocks, shared = gpu_lines([each.on_gpus for each in answers], scaled.model, request.gpus_left_out)
    lines = []
    is_another = scaled.model is not request.choice.model  # its range is not the one that the predictions name
    if request.gpus and is_another:
        lines.append(f"on other GPUs: epochs of {scaled.model.train_n:,} images, by {scaled.reason}")
    for each, block in zip(answers, blocks, strict=True):
        if len(answers) > 1 and (each.footprints or block):
            lines += ["", f"batch_size: {each.prediction.config.batch_size}"]
        lines += _footprint_lines(each)
        if is_another and (domain := domain_text(each.on_gpus, scaled.model)) is not None:
            lines.append(domain)
        lines += block
    return [*lines, "", *shared] if shared else lines


def _footprint_lines(answer: FullAnswer) -> list[str]:
    found = answer.footprints
    if not found:
        return []
    from epochcast.footprint.text import regions_lines

    return [f"footprint_of: {answer.footprint_of}", *regions_lines(found)]
