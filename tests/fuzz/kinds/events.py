"""Odd words of the measuring process: whatever it says, its epochs end in a row or in a failure."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from epochcast.collect.grid.grid_loop import GridOptions, run_grid
from epochcast.collect.grid.result import GridResult
from epochcast.collect.grid.specs import PlannedRun
from epochcast.collect.run.listener import Listener
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import RunRefusedError, run
from epochcast.paths import failures_csv
from epochcast.schema import REPEATED_STATUSES, FailureRecord, RunRecord, RunSpec
from epochcast.storage.tables import read_table
from tests.fuzz import words
from tests.fuzz.box import Box
from tests.fuzz.json_mutate import mutate_json
from tests.fuzz.mutate import mutate_bytes
from tests.fuzz.oracles import PROGRAMS, Call, Heard

SCRIPT = Path(__file__).parents[1] / "script_child.py"
WITH_CHILD = PROGRAMS | {Path(sys.executable).name}
SPEC = RunSpec(depth=1, base_filters=2, batch_size=64, train_n=1000, dataset="synthetic", epochs=4)
RUN_ID = "odd-r1"
LEAST_SEC, MOST_SEC = 1e-6, 0.005  # of a sound epoch: a child lives longer than that
KINDS = ("started", "idle", "epoch", "done", "failed", "refused")
Event = dict[str, Any]


def child(events: Path, ending: str) -> tuple[str, ...]:
    """The command of a measuring process that says what `events` holds."""
    return (sys.executable, "-I", "-S", str(SCRIPT), str(events), ending)


def sound_events(n: int = 4, spec: RunSpec = SPEC) -> list[Event]:
    """What a run says that goes well."""
    started = {
        "event": "started", "device_name": "Some CPU (2 cores)", "backend": "tensorflow", "backend_version": "2.99.1",
        "tf_version": "2.99.1", "keras_version": "3.99.0", "precision": "float32", "tf32": "off", "pipeline": "tfdata",
        "jit_compile": "off", "steps_per_execution": 1, "dataset": "synthetic", "train_n": spec.train_n,
        "params": 67048, "data_origin": "nowhere",
    }  # fmt: skip
    epochs = [
        {
            "event": "epoch",
            "sec": 0.0003 if i else 0.0006,
            "edges": [f"@T{0.0007 * i:.4f}@", f"@T{0.0007 * i + (0.0003 if i else 0.0006):.4f}@"],
            "logs": {"loss": 1.0 / (i + 1), "accuracy": 0.5},
            "rel_ci95": None,
        }
        for i in range(n)
    ]
    done = {
        "event": "done", "stop_reason": "epochs", "test_acc": None, "peak_memory_bytes": None, "compile_cache": None,
        "framework": {"keras": "3.99.0"},
    }  # fmt: skip
    return [started, *epochs, done]


def written(events: list[Event]) -> list[bytes]:
    return [json.dumps(event).encode() for event in events]


def _odd_line(draw: Random) -> bytes:
    """A line that is no event, or one that nobody expects."""
    made: tuple[bytes, ...] = (
        b"", b"not JSON", b"{", b"null", b"[]", b"1", b'"epoch"', b"{}", b'{"event": null}', b'{"event": []}',
        b'{"event": "unknown"}', b'{"event": "epoch"}', b'{"event": "done"}', b'{"event": "failed"}',
        b'{"event": "refused"}', b'{"event": "started"}', b'{"event": "idle"}', b"\xff\xfe\x00", b"\0" * 20,
        b'{"event": "failed", "status": "odd", "message": 1}', b'{"event": "failed", "status": "crash", "message": ""}',
        b'{"event": "failed", "status": "oom", "message": "a\\u0000b\\u001b[31m\\ud800"}',
        b'{"event": "refused", "message": null}', b'{"event": "refused", "message": "no such device"}',
        b'{"event": "idle", "edges": ["a", 1]}', b'{"event": "idle", "edges": [3, 1]}', b"[" * 100_000,
        b'{"event": "epoch", "sec": 1e-4, "edges": ["@T0.001@", "@T0.002@"]}',
        b'{"event": "epoch", "sec": 0.0002, "edges": ["@T0.001@", "@T0.0012@"], "logs": null}',
        b'{"event": "done", "stop_reason": "odd", "test_acc": 7, "peak_memory_bytes": -1}',
        b'{"event": "' + b"w" * 200_000 + b'"}',
        b"2026-01-01 00:00:00 I tensorflow/core: a line of a library's log",
    )  # fmt: skip
    return draw.choice(made)


def _odd_epoch(draw: Random) -> bytes:
    sec = draw.choice(
        ("0", "-0.0", "-1", "NaN", "Infinity", "1e308", "1e999", "1e9", "3600", "null", '"0.1"', "true", "[]", "{}",
         "0.5e-400", "1" + "0" * 400, "5e-324", "1e-9", "99")
    )  # fmt: skip
    return f'{{"event": "epoch", "sec": {sec}, "edges": ["@T0.002@", "@T0.0021@"], "logs": {{"loss": 1.0}}}}'.encode()


def odd_events(draw: Random) -> bytes:
    """The events of a run as bytes, odd in one to three places."""
    lines = written(sound_events(draw.choice((1, 2, 4, 4, 4, 8))))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at = draw.randrange(len(lines) + 1)
        i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
        how = draw.choices(range(8), (5, 4, 6, 2, 2, 2, 2, 1))[0]
        if how == 0:
            lines.insert(at, _odd_line(draw))
        elif how == 1:
            lines.insert(at, _odd_epoch(draw))
        elif how == 2:
            lines[i] = _mutated(draw, lines[i])
        elif how == 3:
            lines.insert(at, lines[i])
        elif how == 4:
            lines[i], lines[j] = lines[j], lines[i]
        elif how == 5 and len(lines) > 1:
            del lines[i]
        elif how == 6:
            lines[i] = mutate_bytes(draw, lines[i])
        else:
            lines = lines[:at] or lines
    return b"\n".join(lines) + draw.choice((b"\n", b"\n", b"\n", b"", b"\r\n", b"\n{", b"\n\n"))


def _mutated(draw: Random, line: bytes) -> bytes:
    try:
        return mutate_json(draw, line).rstrip(b"\n")
    except (ValueError, RecursionError):
        return line + words.snippet(draw)


# --- what must come of it --------------------------------------------------------------------------------------------


def timed(data: bytes) -> tuple[list[float], list[float]]:
    """Seconds of the epochs before the first odd word, which must be kept, and all that may be.

    A run says `started` once, then its epochs, then one last word; whatever else stands there is odd.
    """
    must: list[float] = []
    may: list[float] = []
    is_sound, has_started, has_ended = True, False, False
    *lines, last = data.split(b"\n")
    for line in [*lines, *([last] if last else [])]:
        event, sec = _event(line), _seconds(_event(line, is_strict=False))
        kind = event.get("event") if event is not None else None
        if sec is not None:
            may.append(sec)
        is_next = not has_ended and (kind != "started" if has_started else kind in ("started", "refused", "failed"))
        is_sound &= event is not None and kind in KINDS and line is not last and is_next and _is_plain(event)
        is_sound &= kind != "epoch" or (sec is not None and LEAST_SEC <= sec <= MOST_SEC)
        if is_sound and sec is not None:
            must.append(sec)
        has_started |= kind == "started"
        has_ended |= kind in ("done", "failed", "refused")
    return must, may


def _seconds(event: Event | None) -> float | None:
    """The seconds of an epoch, a finite number above 0; None for anything else."""
    sec = event.get("sec") if event is not None and event.get("event") == "epoch" else None
    is_number = isinstance(sec, int | float) and not isinstance(sec, bool)
    return float(sec) if is_number and 0 < sec < 1e308 else None  # type: ignore[arg-type, operator]  # a number


def _event(line: bytes, is_strict: bool = True) -> Event | None:
    """The event of a line; None if it is none, by strict JSON in UTF-8 or by whatever Python takes."""

    def refuse(word: str) -> Any:
        raise ValueError(word)

    try:
        line = re.sub(rb'"@T([-.\de]+)@"', rb"\1", line)
        event = json.loads(line.decode(), parse_constant=refuse) if is_strict else json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _is_plain(event: Event) -> bool:
    """Whether an event says what its kind says when all is well."""
    if event["event"] == "started":
        return event == sound_events()[0]
    if event["event"] in ("epoch", "idle"):
        edges = event.get("edges")
        are_times = isinstance(edges, list) and len(edges) == 2 and all(type(edge) is float for edge in edges)
        return are_times and (event["event"] == "idle" or isinstance(event.get("logs"), dict))
    return True


def _outcome_faults(outcome: RunRecord | FailureRecord, data: bytes, is_sound: bool) -> list[str]:
    must, may = timed(data)
    times = list(outcome.epoch_times_json)
    found = []
    if times[: len(must)] != must:
        found.append(f"{len(must)} epochs were timed, {len(times)} are in the {type(outcome).__name__}")
    rest = iter(may)
    if not all(sec in rest for sec in times):
        found.append(f"an epoch that nobody timed: {times}")
    if isinstance(outcome, RunRecord) and max(times) > MOST_SEC:
        found.append(f"an epoch longer than the process lived, in a row of a sound run: {times}")
    if is_sound and not isinstance(outcome, RunRecord):
        found.append(f"a sound run ended as {outcome.status}: {outcome.message[:100]}")
    return found


def _was_timed(error: BaseException, data: bytes) -> list[str]:
    must, _ = timed(data)
    is_refused = isinstance(error, RunRefusedError)
    if must:
        return [f"{type(error).__name__} after {len(must)} timed epochs, which are in no table"]
    return [] if is_refused else [f"{type(error).__name__} instead of a row: {str(error)[:100]}"]


def _tables_of(runs: Path) -> list[RunRecord | FailureRecord]:
    failed = failures_csv(runs)
    return [
        *(read_table(runs, RunRecord) if runs.exists() else []),
        *(read_table(failed, FailureRecord) if failed.exists() else []),
    ]


def events(draw: Random, box: Box) -> Iterator[Call]:
    """One run whose measuring process says odd things; alone, or in a grid that is asked for twice."""
    is_sound = draw.random() < 0.04
    data = b"\n".join(written(sound_events())) + b"\n" if is_sound else odd_events(draw)
    ending = draw.choices(("0", "1", "3", "kill", "segfault", "close", "noise"), (10, 2, 1, 1, 1, 1, 1))[0]
    script = box.write("events.jsonl", data)
    runs, logs = box.path("runs.csv"), box.path("logs")
    place = RunPlace(runs, logs, child=child(script, ending))

    def check_run(outcome: RunRecord | FailureRecord, heard: Heard) -> list[str]:
        faults = _outcome_faults(outcome, data, is_sound)
        stored = [row for row in _tables_of(runs) if row.run_id == RUN_ID]
        if [list(row.epoch_times_json) for row in stored] != [list(outcome.epoch_times_json)]:
            faults.append(f"{len(stored)} rows of the run in the tables, or with other times than were returned")
        return faults

    def check_grid(result: GridResult, heard: Heard) -> list[str]:
        return check_run([*result.measured, *result.failures][0], heard)

    call = {"writes": (box.folder,), "programs": WITH_CHILD, "refusal_check": lambda error: _was_timed(error, data)}
    if draw.random() < 0.5:
        yield Call("run", lambda: run(SPEC, RUN_ID, place), check_run, **call)  # type: ignore[arg-type]
        return
    planned = [PlannedRun(SPEC, RUN_ID)]
    yield Call("run_grid", lambda: run_grid(planned, place), check_grid, **call)  # type: ignore[arg-type]
    lines: list[str] = []

    def check_again(result: GridResult, heard: Heard) -> list[str]:
        rows = _tables_of(runs)
        if not rows:  # refused, with nothing timed: the grid may ask again
            return []
        is_repeated = isinstance(rows[-1], FailureRecord) and rows[-1].status in REPEATED_STATUSES
        return [] if is_repeated or "nothing left" in lines[0] else [f"the grid meets the run again: {lines[0]}"]

    yield Call(
        "run_grid again",
        lambda: run_grid(planned, place, GridOptions(is_dry=True), Listener(lines.append)),
        check_again,
        writes=(box.folder,),
    )
