"""What is done with a script's fit once it is caught: estimate or tune."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from epochcast.live.scripts.caught import sample_shape_of
from epochcast.schema import to_json_dict
from epochcast.validation import FieldError

Tell = Callable[..., None]
# several processes may train on one GPU, of which each framework would take all of the memory
SHARED_GPU = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


@dataclass(frozen=True, slots=True)
class Request:
    """What the process of a script is asked for."""

    script: str
    arguments: tuple[str, ...]
    function: str | None = None  # that makes a training; None: the script is run
    number: int = 1  # of the fit
    budget_sec: float = 30.0
    has_layers: bool = False  # whether to tell the layers of the model, too
    max_batch: bool = False  # whether to look for the largest batch size that fits
    earlier: str | None = None  # the table whose earlier timings of the same training count
    work: str = "estimate"  # what is done with the fit, one of WORKS
    policy: str | None = None  # of precision, set before the script's own lines; None leaves Keras's own
    wanted: dict[str, list[Any]] = field(default_factory=dict)  # values to tune, by the names of a Setting
    keep_result: bool = False  # whether only settings are tried that leave the training's result as it is

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the process that the script itself may have set already."""
        return SHARED_GPU if self.work == "tune" else {}


@dataclass(frozen=True, slots=True)
class CaughtFit:
    """A call of `fit`: its model, its data and its other arguments."""

    model: Any
    x: Any
    y: Any
    options: dict[str, Any]
    fit: Callable[..., Any] | None  # what is called in place of the model's own; None: that one


def estimate(caught: CaughtFit, request: Request, tell: Tell, asked: Iterable[str]) -> None:
    """Tell the estimate of a fit and its row, and first the layers where asked for."""
    from epochcast.live.estimate import estimate_fit
    from epochcast.live.fit_rows import estimate_row
    from epochcast.live.fits import rows_or_why
    from epochcast.live.sampling.pipeline_copies import without_cache_file

    rows, notes = rows_or_why(None if request.earlier is None else Path(request.earlier))
    x, more = without_cache_file(caught.x)
    options = caught.options
    if "validation_data" in options:
        validation, of_validation = without_cache_file(options["validation_data"])
        options, more = {**options, "validation_data": validation}, more or of_validation
    found = estimate_fit(
        caught.model, x, caught.y, options, request.budget_sec, rows, fit=caught.fit, max_batch=request.max_batch
    )
    values = {**asdict(found), "notes": [*found.notes, *more, *notes]}
    del values["footprint"]  # the command's own
    with contextlib.suppress(FieldError):  # a time that nothing can take is no row
        if (row := estimate_row(found, os.path.realpath(request.script))) is not None:
            values["row"] = to_json_dict(row)
    if request.has_layers:
        from epochcast.live.layers import layers_json

        tell("layers", **layers_json(caught.model, sample_shape_of(caught.x)))
    tell("estimate", **values)


def tune(caught: CaughtFit, request: Request, tell: Tell, asked: Iterable[str]) -> None:
    """Tell what can be tuned, then prepare and time settings as lines of JSON ask."""
    from epochcast.live.tuning.inputs import NotPossibleError
    from epochcast.live.tuning.settings import Setting
    from epochcast.live.tuning.trials import Trials

    trials = Trials(caught.model, caught.x, caught.y, caught.options, caught.fit, request.budget_sec)
    tell("axes", **trials.axes(request.wanted))
    for line in asked:
        question = json.loads(line)
        setting = Setting(**question["setting"])
        if question["do"] == "time":
            tell("timed", **asdict(trials.block(setting, question["sec"])))
            continue
        try:
            tell("prepared", **trials.prepare(setting))
        except NotPossibleError as error:
            tell("not_possible", why=str(error))


WORKS = {"estimate": estimate, "tune": tune}
