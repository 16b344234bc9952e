"""What `predict_perf` says of one configuration: the model's answer, that for this box, and those for other GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epochcast.facts.tables import Gpu, gpus
from epochcast.footprint.footprint import Footprint
from epochcast.footprint.rules import FootprintRules
from epochcast.footprint.text import footprint_json
from epochcast.gpus.lookup import find_gpu, known_gpu
from epochcast.model.answers.energy import EnergyModel, measured_board
from epochcast.model.answers.other_gpus import Asked, GpuAnswer, answer_on, answers_on, run_footprints, without_number
from epochcast.model.answers.other_gpus_text import gpu_json
from epochcast.model.answers.prediction import predict, unanswered
from epochcast.model.answers.this_box import Difference, Here, estimate_here, here_json
from epochcast.model.time_model.saved_model import Choice, SavedModel
from epochcast.schema import AggRow, RunConfig


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """All that is said of one configuration; where the model has no number for it, the `problem` in `answer` alone."""

    answer: Mapping[str, Any]
    here: Here | None = None  # None where nothing differs from this box
    on_gpus: Sequence[GpuAnswer] = ()
    footprints: Sequence[Footprint] = ()
    footprint_of: str | None = None  # device and precision of the footprints; None without any

    @property
    def problem(self) -> str | None:
        """Why the model has no number for this configuration; None where it has one."""
        return self.answer.get("problem")


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What is asked beside the configurations."""

    choice: Choice
    on_gpus: Choice  # the model whose times are scaled to other GPUs: that of `choice`, where its device allows it
    epochs: int | None
    precision: str
    gpus: Sequence[Gpu]
    left_out: Mapping[str, Sequence[str]]  # names of GPUs by the reason
    sort: str
    rules: FootprintRules | None
    rows: Sequence[AggRow]
    differences: Sequence[Difference]

    @property
    def saved(self) -> SavedModel:
        return self.choice.model


def reply_to(config: RunConfig, question: Question) -> Reply:
    """The answer of the model, what it says for this box, and for the GPUs asked for."""
    saved, rows, epochs = question.saved, question.rows, question.epochs
    try:
        saved.forecast(config, epochs)
    except ValueError as error:  # so far outside that the law can't be evaluated
        return Reply(unanswered(config, question.choice, str(error)))
    asked = Asked(config, question.precision, epochs, question.rules)
    footprints, footprint_of = _own_footprints(asked, question)
    return Reply(
        predict(config, question.choice, epochs, rows),
        estimate_here(saved, asked, rows, question.differences) if question.differences else None,
        answers_on(question.gpus, question.on_gpus.model, asked, rows, question.sort),
        footprints,
        footprint_of,
    )


def _own_footprints(asked: Asked, question: Question) -> tuple[Sequence[Footprint], str | None]:
    """The footprints on the model's own device in the precision asked for, and what they are of.

    Raises:
        ValueError: if another precision than the model's is asked for, and nothing tells of that device in it.
    """
    saved, rows, epochs = question.saved, question.rows, asked.epochs
    if asked.rules is None or epochs is None or question.gpus:
        return (), None
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
    forecast, energy = saved.forecast(asked.config, epochs), EnergyModel.of(conditions, rows)
    found = run_footprints(asked.config, epochs, forecast, energy, measured_board(name), gpu, asked.rules)
    return found, f"{name or 'an unknown device'}, {conditions.precision or 'an unknown precision'}"


def gpus_asked(
    names: Sequence[str], has_all: bool, saved: SavedModel, asked: Sequence[Asked], rows: Sequence[AggRow]
) -> tuple[list[Gpu], dict[str, list[str]]]:
    """The GPUs to answer for, each once, and with `has_all` the names of those left out by the reason.

    Raises:
        ValueError: if a name is no GPU's.
    """
    named = {gpu.name: gpu for gpu in map(find_gpu, names)}
    if not has_all:
        return list(named.values()), {}
    left_out: dict[str, list[str]] = {}
    answered = []
    for gpu in gpus():
        reason = next((words for each in asked if (words := without_number(gpu, saved, each, rows))), None)
        if reason is None:
            answered.append(gpu)
        else:
            left_out.setdefault(reason, []).append(gpu.name)
    return answered, left_out


def reply_json(reply: Reply, question: Question) -> dict[str, Any]:
    """One reply as JSON values; footprints and GPUs only where they were asked for."""
    values = {**reply.answer, **here_json(question.differences, reply.here)}
    if reply.problem is not None:
        return values
    if reply.footprints:
        values["footprint_of"] = reply.footprint_of
        values["footprints"] = [footprint_json(found) for found in reply.footprints]
    if question.gpus or question.left_out:
        scaled = question.on_gpus.model
        values["gpus"] = [gpu_json(answer, scaled, question.epochs) for answer in reply.on_gpus]
        values["gpus_left_out"] = question.left_out
    return values
