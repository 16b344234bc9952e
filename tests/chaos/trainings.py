"""Models and their cards, saved while they are killed: what answers is one training's model, whole, or says what to do.

Keras itself, which takes seconds to start, is replaced where a network is written: by the shipped network, changed a
little for every training, so that a card with another training's network would answer otherwise than either. A few
whole commands with Keras are killed as well.
"""

from __future__ import annotations

import functools
import io
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from epochcast.aggregate.averages.source import write_agg
from epochcast.model.time_model.card import markdown_path
from epochcast.model.time_model.network_file import PLAIN, with_plain_weights
from epochcast.model.time_model.saved_model import load_model
from epochcast.model.training.save import train
from epochcast.paths import pretrained_dir
from epochcast.schema import RunConfig, RunRecord
from epochcast.storage.tables import write_table
from tests.chaos import injection
from tests.chaos.injection import HALF, KILL, NOTHING, Call, Injection
from tests.chaos.invariants import Found, leftover_faults
from tests.chaos.material import CONFIGS, row_of
from tests.chaos.processes import Process, call
from tests.chaos.trials import Subject, Trial
from tests.support.light_child import environment
from tests.support.rows import ROWS

KILLS = 60
SLOWER = {"old": 1.0, "new": 1.7, "other": 2.9}  # the trainings, by the times of their rows
ASKED = [RunConfig(2, 16, 64), RunConfig(3, 32, 128), RunConfig(2, 32, 200)]
SAVING_SEC = 0.03  # measured: about 0.01 on an idle core


@functools.cache
def _network(name: str) -> bytes:
    """The shipped `.keras` file, its last weights times a number of this training's."""
    out = io.BytesIO()
    with zipfile.ZipFile(pretrained_dir() / "a100.keras") as source, zipfile.ZipFile(out, "w") as archive:
        for entry in source.namelist():
            if entry != PLAIN:
                archive.writestr(entry, source.read(entry))
    shipped = load_model(pretrained_dir() / "a100.keras").time_model.ensemble
    *first, last = shipped.kernels
    return with_plain_weights(out.getvalue(), replace(shipped, kernels=(*first, last * SLOWER[name])))


@dataclass(frozen=True, slots=True)
class _WrittenNetwork:
    """Stands for a Keras model; says on a pipe when it is written, which begins the saving."""

    data: bytes
    says: int | None

    def save(self, file: Path) -> None:
        file.write_bytes(self.data)
        if self.says is not None:
            os.write(self.says, b".")


def train_as(name: str, path: Path, says: int | None = None) -> None:
    factor = SLOWER[name]
    rows = [replace(r, avg_time_mean=r.avg_time_mean * factor, thr_mean=r.thr_mean / factor) for r in ROWS]
    time_ann = "epochcast.model.training.time_ann"
    with (
        mock.patch(f"{time_ann}.keras_model", lambda network: _WrittenNetwork(_network(name), says)),
        mock.patch(f"{time_ann}.with_plain_weights", lambda data, network: data),
    ):
        train(rows, path)


def trained(path: Path, name: str) -> None:
    """Train in a process of its own; what a training imports is loaded first, for the forks to come."""
    answers_of(path.parent.parent)
    call(lambda: train_as(name, path)).returned()


def _answers(path: Path) -> tuple[float, ...]:
    saved = load_model(path)
    return tuple(saved.forecast(config).steady.value for config in ASKED)


@functools.cache
def answers_of(base: Path) -> dict[str, tuple[float, ...]]:
    """What each training answers that nobody disturbs; loads what a training imports, for the forks to come."""
    found = {}
    for name in SLOWER:
        path = base / f"undisturbed {name}" / "m.keras"
        train_as(name, path)
        found[name] = _answers(path)
    assert len(set(found.values())) == len(SLOWER)
    return found


def model_faults(path: Path, known: Sequence[tuple[float, ...]], must_answer: bool) -> Found:
    answered = call(lambda: _answers(path))
    if answered.error is not None:
        says_what_to_do = isinstance(answered.error, ValueError | FileNotFoundError) and "rain" in str(answered.error)
        if must_answer or not says_what_to_do:
            return [("wrong", f"the model can't be read | {type(answered.error).__name__}: {answered.error}")]
        return []
    if answered.value not in known:
        return [("wrong", f"a card vouches for another training's network | {answered.value}")]
    card = load_model(path).card
    if (markdown := markdown_path(path)).exists() and card["keras_sha256"] not in markdown.read_text():
        return [("wrong", "the card for people is another training's | " + markdown.name)]
    return []


def _check(trial: Trial, path: Path, names: Sequence[str], when: str, must_answer: bool = False) -> None:
    answers = answers_of(trial.folder.parent)
    trial.promise(1)
    trial.faults(model_faults(path, [answers[name] for name in names], must_answer), when)
    call(lambda: train_as("other", path)).returned()
    trial.faults(model_faults(path, [answers["other"]], must_answer=True), f"{when}, then trained again")
    trial.faults(leftover_faults(path.parent), when)


def _begin(trial: Trial) -> tuple[Path, list[str]]:
    """Where the model goes, and the trainings that stand there."""
    answers_of(trial.folder.parent)
    path = trial.folder / "models" / "m.keras"
    if trial.rng.random() < 0.7:
        call(lambda: train_as("old", path)).returned()
        return path, ["old"]
    return path, []


def _killed(trial: Trial) -> None:
    """A training killed while it saves; of every third try two at once are."""
    path, names = _begin(trial)
    n = 2 if trial.number % 3 == 0 else 1
    trainings = ["new", "other"][:n]
    begun = []
    for name in trainings:
        reading, writing = os.pipe()
        begun.append((Process(functools.partial(train_as, name, path, writing)), reading))
        os.close(writing)  # here: where its process dies early, reading comes to an end
    for process, reading in begun:
        os.read(reading, 1)
        os.close(reading)
        time.sleep(trial.rng.uniform(0, SAVING_SEC))
        trial.killed(process.kill())
        process.wait()
    _check(trial, path, [*names, *trainings], f"{n} killed while saving")


def _at_once(trial: Trial) -> None:
    path, names = _begin(trial)
    processes = [Process(functools.partial(train_as, name, path)) for name in SLOWER]
    for process in processes:
        if (ending := process.wait()).error is not None:
            trial.fault("other", f"one of several trainings at once fails | {ending.error}")
    _check(trial, path, [*names, *SLOWER], "three at once, none killed", must_answer=True)


@functools.cache
def _cases(base: Path) -> tuple[tuple[bool, int, Call, int], ...]:
    answers_of(base)
    cases = []
    for has_old in (False, True):
        path = base / f"counted {has_old}" / "m.keras"
        if has_old:
            call(lambda path=path: train_as("old", path)).returned()
        calls = call(lambda path=path: train_as("new", path), Injection(path.parent)).calls
        for n, called in enumerate(calls, start=1):
            cases += [(has_old, n, called, cut) for cut in ((HALF, NOTHING) if called.name == "write" else (NOTHING,))]
    return tuple(cases)


def _at_every_call(trial: Trial) -> None:
    has_old, n, called, cut = _cases(trial.folder.parent)[trial.number]
    path = trial.folder / "m.keras"
    if has_old:
        call(lambda: train_as("old", path)).returned()
    trial.killed(call(lambda: train_as("new", path), Injection(trial.folder, n, KILL, kept=cut)).was_killed)
    _check(trial, path, ["old", "new"] if has_old else ["new"], f"killed at call {n} ({called})")


# --- with Keras ------------------------------------------------------------------------------------------------------


def _command(trial: Trial, path: Path) -> list[str]:
    flags = ["--runs_agg", str(trial.folder / "runs_agg.csv"), "--model", str(path)]
    return [sys.executable, "-m", "epochcast", "train", *flags]


def _whole_commands(trial: Trial) -> None:
    """`epochcast train` killed at a random moment, then given again; a tiny table, so that the law alone is fitted."""
    runs, path = trial.folder / "runs.csv", trial.folder / "models" / "m.keras"

    def write() -> None:
        rows = [replace(row_of("r", i, config), epoch_times_json=(9.0, t, t)) for i, (config, t) in enumerate(TINY)]
        write_table(runs, rows, RunRecord)
        write_agg(runs, runs.with_name("runs_agg.csv"))

    call(write).returned()
    values = {"env": environment(EPOCHCAST_HOME=str(trial.folder), PYTHONWARNINGS=""), "stdout": subprocess.PIPE}
    start = time.monotonic()
    undisturbed = subprocess.run(_command(trial, trial.folder / "m.keras"), **values)
    took_sec = time.monotonic() - start
    assert undisturbed.returncode == 0
    for _ in range(2):
        with subprocess.Popen(_command(trial, path), stderr=subprocess.STDOUT, **values) as process:
            time.sleep(took_sec * trial.rng.uniform(0.5, 1.0))
            trial.killed(process.poll() is None)
            process.kill()
    known = call(lambda: _answers(trial.folder / "m.keras")).returned()
    trial.faults(model_faults(path, [known], must_answer=False), "the whole command killed")
    if subprocess.run(_command(trial, path), stderr=subprocess.STDOUT, **values).returncode != 0:
        trial.fault("other", "the next training fails after a kill")
    trial.faults(model_faults(path, [known], must_answer=True), "trained again")
    trial.faults(leftover_faults(trial.folder))


TINY = [(config, 0.5 + 0.4 * i) for i, config in enumerate(CONFIGS)]
SUBJECTS = [
    Subject("trainings", lambda _: KILLS * 3 // 4, _killed),
    Subject("trainings_at_once", lambda _: 20, _at_once),
    Subject(
        "trainings_calls", lambda base: len(_cases(base)), _at_every_call, is_exhaustive=True, missing=injection.missing
    ),
    Subject("train_commands", lambda _: 3, _whole_commands, is_costly=True),
]
