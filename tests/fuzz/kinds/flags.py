"""Hostile flags of every sub-command, in a home with sound files; what measures is given a light child."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import epochcast.collect.run.child
import epochcast.collect.run_grid
import epochcast.collect.run_one
import epochcast.planner.demo
import epochcast.planner.run_plan
from epochcast.mlperf.records import write_records
from epochcast.mlperf.regressor.stored import SHIPPED
from tests.fuzz.box import Box
from tests.fuzz.kinds.events import WITH_CHILD, child, sound_events, written
from tests.fuzz.kinds.flag_values import Flag, command_line
from tests.fuzz.oracles import Call, Heard
from tests.fuzz.samples import TABLE, samples
from tests.support.mlperf.entries import few_entries, runs_of
from tests.support.mlperf.repositories import a_log
from tests.support.parsers import EVERY_COMMAND

# of a hundred tries; what is not named has the weight 8
WEIGHTS = {
    "demo": 2,
    "doctor": 0.4,
    "train": 5,
    "evaluate": 1.5,
    "figures": 0.6,
    "plan": 14,
    "predict": 12,
    "estimate": 1,
    "tune": 1,
    "mlperf": 0.2,
    "mlperf extract": 3,
    "mlperf predict": 2,
    "mlperf train": 1,
    "mlperf evaluate": 0.02,  # minutes, without a table of its own
}
MOST_RUNS = 3  # of a grid that really measures
IN_PLACE = ("run", "grid", "recover", "run_plan", "demo")  # commands that append to tables
OUTPUTS = ("out", "csv", "sh", "optuna", "plot", "front")
SUFFIXES = {"plot": ".png", "front": ".svg", "sh": ".sh", "csv": ".csv"}
NETWORK = "network.keras"
FILES = {  # a sound file for a flag, below the try's folder
    "runs": "home/results/runs.csv",
    "table": "home/results/runs.csv",
    "tables": "second/runs.csv",
    "runs_agg": "home/results/runs_agg.csv",
    "model": "model.keras",
    "start_from": "model.keras",
    "network": NETWORK,
    "configs": "configs.csv",
    "candidates": "configs.json",
    "unseen": "configs.csv",
    "held_out": "configs.csv",
    "plan": "plan.json",
    "log_dir": "home/logs",
    "data_dir": "home",
    "source": "v4.0",
    "records": "records.csv",
    "trained": "trained",
}


def _lay_out(box: Box) -> dict[Path, bytes]:
    """A home with sound files; those that hold measurements, by path, which no command may replace."""
    table = box.write("home/results/runs.csv", samples().older_runs)
    kept = samples().kept[0].replace(TABLE.encode(), str(box.path("lost.csv")).encode())
    protected = [
        table,
        box.write("home/results/failures.csv", samples().failures),
        box.write("second/runs.csv", samples().runs),
        box.write("home/logs/kept.json", kept),
        box.write("notes.txt", b"what nobody else has\n"),
        box.write(NETWORK, samples().keras),  # for Keras a network as any other
    ]
    box.write("configs.csv", samples().configs_csv)
    box.write("configs.json", samples().configs_json)
    box.write("model.keras", samples().keras)
    box.write("model.json", samples().card)
    box.write("plan.json", samples().plan)
    shutil.copytree(SHIPPED, box.path("trained"))
    write_records(box.path("records.csv"), runs_of(few_entries()[:40]))
    box.write("v4.0/ACME/results/box/bert/result_0.txt", a_log(0).encode())
    os.mkfifo(box.path("pipe"))
    box.path("loop").symlink_to("loop")
    box.path("dangling").symlink_to("nowhere")
    return {path: path.read_bytes() for path in protected}


def _path(box: Box, draw: Random, flag: Flag, is_hostile: bool) -> str:
    """A path for a flag: what belongs there, or anything else that lies about."""
    if not is_hostile:
        if flag.name in OUTPUTS or draw.random() < 0.1:
            return str(box.path(f"new{draw.choice(('', '/deep/er'))}/{flag.name}{SUFFIXES.get(flag.name, '.json')}"))
        return str(box.path(FILES.get(flag.name, "new.json")))
    odd = (
        *map(str, map(box.path, {*FILES.values()})), *map(str, map(box.path, ("pipe", "loop", "dangling", "nowhere"))),
        str(box.folder), str(box.path("notes.txt")), str(box.path("notes.txt/x")), str(box.path("model.json")),
        str(box.path("home/logs/kept.json")), str(box.path("home/results/failures.csv")), "/dev/null", "/dev/full",
        "~nosuchuser/x", f"~/../{box.folder.name}/x", "", ".", "..", "../../x",
        "\udcff.csv", "a" * 300, "a\nb.png", "\x1b[31m.json", "é.png",
        str(box.path("pipe/x")), str(box.path("loop/x")), str(box.path("x.png")), str(box.path("x.svg")),
        str(box.path("home/results/failures.csv.png")), str(box.path("second/../second/runs.csv")), "$HOME/x.json",
        str(box.path("x.keras")), str(box.path("x.csv")), str(box.path("x.json")), str(box.path("runs.csv")),
    )  # fmt: skip
    return draw.choice(sorted(odd))


def flags(draw: Random, box: Box) -> Iterator[Call]:
    """A command line of one of the sub-commands, some of its values hostile."""
    command = draw.choices(EVERY_COMMAND, [WEIGHTS.get(name, 8.0) for name in EVERY_COMMAND])[0]
    argv = command_line(draw, command, functools.partial(_path, box))
    protected = _lay_out(box)
    call = box.command(*command.split(), *argv, programs=tuple(WITH_CHILD))
    light = child(box.write("events.jsonl", b"\n".join(written(sound_events())) + b"\n"), "0")

    def with_light_child() -> Any:
        with _light(light):
            return call.function()

    def check(answer: Any, heard: Heard) -> list[str]:
        return [f"{command} {_change(path, was)}" for path, was in protected.items() if not _is_kept(path, was)]

    def _is_kept(path: Path, was: bytes) -> bool:
        now = path.read_bytes() if path.is_file() else b""
        if now == was:
            return True
        if command in IN_PLACE and path.suffix == ".csv":
            return now.startswith(was)
        # lifted in place: the old file lies beside it
        return command == "migrate" and any(p.read_bytes() == was for p in path.parent.iterdir() if p.is_file())

    yield replace(call, function=with_light_child, check=check)
    # a refusal must leave them alone as well
    yield Call("what a command left", lambda: None, check, named=())


def _change(path: Path, was: bytes) -> str:
    if not path.exists():
        return f"removed {path.name}"
    return f"changed {path.name}, {len(was)} bytes, which now begins with {path.read_bytes()[:40]!r}"


def _light(command: tuple[str, ...]) -> ExitStack:
    """What measures is measured by a light child; a grid of more than a few runs is looked at only."""
    stack = ExitStack()
    run_grid = epochcast.collect.run_grid.run_grid

    def few(planned: Any, place: Any, options: Any, listener: Any) -> Any:
        is_dry = options.is_dry or len(planned) > MOST_RUNS
        return run_grid(planned, place, replace(options, is_dry=is_dry), listener)

    for module, name, function in (
        (epochcast.collect.run.child, "CHILD", command),
        (epochcast.collect.run_grid, "run_grid", few),
        (epochcast.planner.demo, "run_grid", few),
        (epochcast.planner.demo, "learn_and_plan", lambda folder: ["planned"]),
    ):
        stack.enter_context(mock.patch.object(module, name, function))
    return stack
