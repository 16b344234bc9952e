"""What one log says about its run: times, end and settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from epochcast.mlperf.logs.log_lines import LogLine, number_of, read_lines

# what each quantity is called, by the first name that a log has; names of round 0.5 come last
WHOLE_NUMBERS = {
    "global_batch_size": ("global_batch_size", "input_batch_size"),
    "gradient_accumulation_steps": ("gradient_accumulation_steps", "opt_gradient_accumulation_steps"),
    "train_samples": ("train_samples", "num_train_examples", "preproc_num_train_examples"),
    "eval_samples": ("eval_samples", "num_eval_examples", "preproc_num_eval_examples", "eval_size"),
    "max_sequence_length": ("max_sequence_length",),
    "seed": ("seed", "run_set_random_seed"),
}
NUMBERS = {
    "base_learning_rate": (
        "opt_base_learning_rate",
        "lars_opt_base_learning_rate",
        "sgd_opt_base_learning_rate",
        "opt_learning_rate",
    ),
    "target_quality": ("target_accuracy", "eval_target"),
}
SUCCESS, ABORTED = "success", "aborted"
STATUS_WORDS = {"success": SUCCESS, "aborted": ABORTED, "abort": ABORTED, "fail": ABORTED}
_QUALITY = ("eval_accuracy", "eval_result")
_ENDS = ("run_stop", "run_final", "status")
_TEXTS = ("submission_benchmark", "submission_division", "submission_entry", "opt_name", "s_optimizer")
_COUNTED = (*WHOLE_NUMBERS.values(), *NUMBERS.values())
WANTED = frozenset({"run_start", *_ENDS, *_QUALITY, *_TEXTS}.union(*_COUNTED))
LARGEST = 1e15  # of any number; a seed may be as large as 2^32
LONGEST = 200  # characters of a text, but of the description of a system


@dataclass(frozen=True, slots=True)
class RunLog:
    """What a log says; None is unknown."""

    start_sec: float | None = None  # since 1970
    stop_sec: float | None = None
    status: str | None = None
    benchmark: str | None = None
    division: str | None = None
    entry: str | None = None  # description of the system, in the log itself
    optimizer: str | None = None
    final_quality: float | None = None
    global_batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    train_samples: int | None = None
    eval_samples: int | None = None
    max_sequence_length: int | None = None
    seed: int | None = None
    base_learning_rate: float | None = None
    target_quality: float | None = None
    n_lines: int = 0  # of MLPerf's logging, with a key that is wanted

    @property
    def fault(self) -> str | None:
        """Why no time can be taken from the log; None where one can."""
        if self.n_lines == 0:
            return "no line of MLPerf's logging"
        if self.start_sec is None or self.stop_sec is None:
            missing = [n for n, t in (("run_start", self.start_sec), ("run_stop", self.stop_sec)) if t is None]
            return f"no {' and no '.join(missing)} that can be read"
        return None if self.stop_sec > self.start_sec else "run_stop is not after run_start"


def read_run(parts: Iterable[bytes]) -> RunLog:
    """Return what a log says about its run."""
    first: dict[str, LogLine] = {}  # of each key
    last: dict[str, LogLine] = {}
    status = quality = benchmark = None
    n_lines = 0
    for line in read_lines(parts, WANTED):
        n_lines += 1
        if line.key in _ENDS:
            status = _status_in(line) or status
        elif line.key in _QUALITY and (number := _number_in(line.value)) is not None:
            quality = number
        if line.benchmark is not None and benchmark is None:
            benchmark = line.benchmark
        first.setdefault(line.key, line)
        last[line.key] = line
    numbers: dict[str, Any] = {field: _first_number(first, names) for field, names in NUMBERS.items()}
    numbers |= {field: _whole(_first_number(first, names)) for field, names in WHOLE_NUMBERS.items()}
    texts = {name: _text_in(first[name].value) if name in first else None for name in _TEXTS}
    return RunLog(
        start_sec=first["run_start"].time_sec if "run_start" in first else None,
        stop_sec=last["run_stop"].time_sec if "run_stop" in last else None,
        status=status,
        benchmark=_short(texts["submission_benchmark"] or benchmark),
        division=_short(texts["submission_division"]),
        entry=texts["submission_entry"],
        optimizer=_short(texts["opt_name"] or texts["s_optimizer"]),
        final_quality=quality,
        n_lines=n_lines,
        **numbers,
    )


def _status_in(line: LogLine) -> str | None:
    """Return the status that a run's last line gives, if it is whole."""
    found = line.metadata.get("status", line.value)
    if isinstance(found, dict):  # of round 0.5
        return {"true": SUCCESS, "false": ABORTED}.get(str(found.get("success")).lower())
    return STATUS_WORDS.get(found.strip().lower()) if isinstance(found, str) else None


def _first_number(first: dict[str, LogLine], names: tuple[str, ...]) -> float | None:
    numbers = (_number_in(first[name].value) for name in names if name in first)
    return next((number for number in numbers if number is not None and abs(number) <= LARGEST), None)


def _number_in(value: Any) -> float | None:
    """Return the number in a value, which may be a list or an object."""
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("value")
    return number_of(value)


def _whole(number: float | None) -> int | None:
    return int(number) if number is not None and number == int(number) else None


def _text_in(value: Any) -> str | None:
    if isinstance(value, dict | list):
        return repr(value)
    return value.strip() or None if isinstance(value, str) else None


def _short(text: str | None) -> str | None:
    return None if text is None else text[:LONGEST]
