"""Mutated plans, ledgers, kept runs and lists of configurations."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from epochcast.collect.grid.config_lists import read_configs, read_specs
from epochcast.collect.records.recovery import Recovery, recover
from epochcast.planner.execution.ledger import Ledger, looked_at
from epochcast.planner.plan.plan_file import SavedPlan, ledger_of
from epochcast.planner.plan.plan_reader import read_plan
from epochcast.schema import RunConfig, RunRecord, RunSpec
from epochcast.storage.tables import read_table
from tests.fuzz.box import Box
from tests.fuzz.drops import LINE_ENDS, cells_of, is_blank
from tests.fuzz.json_mutate import mutate_json_file, mutate_json_lines, twice_named
from tests.fuzz.mutate import mutate_table, put
from tests.fuzz.oracles import Call, Heard
from tests.fuzz.samples import PLAN_ID, TABLE, samples


def _file_bytes(path: Path) -> bytes | None:
    """What a regular file holds; None for anything else."""
    return path.read_bytes() if path.is_file() and path.resolve() == path else None


def plans(draw: Random, box: Box) -> Iterator[Call]:
    """A mutated plan, read and looked at by run_plan."""
    original = draw.choice((samples().plan, samples().energy_plan))
    path = box.path("plan.json")
    put(draw, path, mutate_json_file(draw, original))
    data = _file_bytes(path)

    def check(plan: SavedPlan, heard: Heard) -> list[str]:
        return [] if data is None else _plan_faults(data, plan)

    yield Call("read_plan", lambda: read_plan(path), check, named=(path,))
    flags = [flag for flag in ("--json", "--replan", "--hard") if draw.random() < 0.4]
    yield box.command("run_plan", path, "--dry_run", *flags)


def _plan_faults(data: bytes, plan: SavedPlan) -> list[str]:
    if (twice := twice_named(data)) is not None:
        return [f"a plan with {twice!r} twice was taken"]
    values = json.loads(data)
    found = []
    for name, runs in (("chosen", plan.chosen), ("left_out", plan.excluded)):
        wanted = [run["run_id"] for run in values[name]]
        if wanted != (read := [run.planned.run_id for run in runs]):
            found.append(f"{name}: runs {wanted!r} were read as {read!r}")
        for each, run in zip(values[name], runs, strict=False):
            for key in ("depth", "base_filters", "batch_size", "epochs"):
                if each["spec"].get(key) is not None and each["spec"][key] != getattr(run.planned.spec, key):
                    found.append(f"{name}: {key} {each['spec'][key]!r} was read as {getattr(run.planned.spec, key)!r}")
    if plan.budget.amount != values["budget"]:
        found.append(f"budget {values['budget']!r} was read as {plan.budget.amount!r}")
    return found[:3]


def ledgers(draw: Random, box: Box) -> Iterator[Call]:
    """A mutated ledger beside its plan and the table with what it calls done."""
    plan = box.write("plan.json", samples().plan)
    runs = box.write("runs.csv", samples().plan_runs)
    path = ledger_of(plan)
    put(draw, path, mutate_json_lines(draw, samples().ledger))
    data = _file_bytes(path)

    def check(ledger: Ledger, heard: Heard) -> list[str]:
        return [] if data is None else _ledger_faults(data, ledger.lines, heard.text)

    yield Call("looked_at", lambda: looked_at(path, PLAN_ID), check, named=(path,))
    flags = [flag for flag in ("--json", "--replan", "--hard") if draw.random() < 0.4]
    yield box.command("run_plan", plan, "--dry_run", "--runs", runs, *flags)


def _ledger_faults(data: bytes, lines: list[dict[str, Any]], said: str) -> list[str]:
    """Sound lines of the file that were neither read nor spoken of, and lines read that are not in it."""
    *whole, last = re.split(rb"\r\n|\n|\r", data.removesuffix(b"\r"))  # which ends no line of ours
    originals = set(samples().ledger.split(b"\n"))
    read = Counter(json.dumps(line, sort_keys=True) for line in lines)
    found = []
    for number, line in enumerate(whole, start=1):
        key = json.dumps(json.loads(line), sort_keys=True) if line in originals and line else None
        if key is not None and not read[key] and f":{number}" not in said:
            found.append(f"line {number} dropped without a word: {line[:80]!r}")
        elif key is not None:
            read[key] -= 1
        if (twice := twice_named(line)) is not None:
            found.append(f"a line with {twice!r} twice was taken")
    known = {json.dumps(value, sort_keys=True) for line in [*whole, last] if (value := _parsed(line)) is not None}
    if made_up := [line for line in lines if json.dumps(line, sort_keys=True) not in known]:
        found.append(f"a line that is not in the file: {str(made_up[0])[:80]}")
    return found[:3]


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def kept_runs(draw: Random, box: Box) -> Iterator[Call]:
    """Kept JSON in logs/, one of them mutated, recovered into a table that lacks them."""
    table = box.path("runs.csv")
    if draw.random() < 0.7:
        table.write_bytes(samples().older_runs.partition(b"\n")[0] + b"\n" if draw.random() < 0.1 else _no_rows())
    at = draw.randrange(len(samples().kept))
    texts: dict[Path, bytes | None] = {}
    for number, kept in enumerate(samples().kept):
        path = box.write(f"logs/{json.loads(kept)['row']['run_id']}.json", b"")
        data = mutate_json_file(draw, kept) if number == at else kept
        path.unlink()
        put(draw, path, data.replace(TABLE.encode(), str(table).encode())) if number == at else path.write_bytes(
            data.replace(TABLE.encode(), str(table).encode())
        )
        texts[path] = _file_bytes(path)
    sound = [json.loads(kept)["row"]["run_id"] for number, kept in enumerate(samples().kept) if number != at]

    def check(found: Recovery, heard: Heard) -> list[str]:
        return _recovery_faults(found, table, texts, sound)

    logs = box.path("logs")
    yield Call("recover", lambda: recover(table, logs), check, named=(table, logs), writes=(box.folder,))
    yield box.command("recover", "--runs", table, "--log_dir", logs)
    if table.exists():
        yield box.command("check", "--runs", table)


def _no_rows() -> bytes:
    return samples().runs.partition(b"\n")[0] + b"\n"


def _recovery_faults(found: Recovery, table: Path, texts: dict[Path, bytes | None], sound: list[str]) -> list[str]:
    appended = [str(record.run_id) for record in found.appended]
    faults = [f"{run_id} was not appended" for run_id in sound if run_id not in appended]
    accounted = len(appended) + found.n_elsewhere + len(found.unreadable)
    if accounted < len(texts):
        faults.append(f"{len(texts)} kept files, {accounted} accounted for")
    try:
        rows = read_table(table, RunRecord) if appended else []
    except ValueError as error:
        return [*faults, f"no reader takes the table any more: {str(error)[-120:]}"]
    if Counter(str(row.run_id) for row in rows) != Counter(set(appended)):
        faults.append(f"{len(appended)} rows appended, the table holds {len(rows)}")
    for data in texts.values():
        value = None if data is None else _parsed(data)
        if not isinstance(value, dict) or not isinstance(value.get("row"), dict):
            continue
        for row in rows:
            if row.run_id == value["row"].get("run_id"):
                if (twice := twice_named(data or b"")) is not None:
                    faults.append(f"a kept run with {twice!r} twice was taken")
                faults += _differences(value["row"], row)
    return faults[:3]


def _differences(kept: dict[str, Any], row: RunRecord) -> list[str]:
    found = []
    for name, value in kept.items():
        read = getattr(row, name)
        same = list(read) == value if isinstance(read, tuple) else read == value
        # an empty text is an empty cell, and a line end in a text becomes a space
        if not same and not (value == "" and read is None) and not (isinstance(value, str) and "\n" in value):
            found.append(f"{name} {str(value)[:40]!r} was appended as {str(read)[:40]!r}")
    return found


def configs(draw: Random, box: Box) -> Iterator[Call]:
    """A mutated list of configurations, CSV or JSON."""
    is_json = draw.random() < 0.4
    path = box.path(f"configs.{'json' if is_json else 'csv'}")
    original = samples().configs_json if is_json else samples().configs_csv
    put(draw, path, mutate_json_file(draw, original) if is_json else mutate_table(draw, original))
    data = _file_bytes(path)

    def check(specs: Any, heard: Heard) -> list[str]:
        return [] if data is None else _list_faults(_listed(data, is_json), specs, heard.text)

    yield Call("read_specs", lambda: read_specs(path, RunSpec()), check, named=(path,))
    if is_json:
        yield box.command("grid", "--configs", path, "--dry_run", "--runs", box.path("runs.csv"))
        return

    yield Call("read_configs", lambda: read_configs(path), check, named=(path,))
    agg = box.write("runs_agg.csv", samples().agg)
    if draw.random() < 0.5:
        yield box.command("plan", "--budget", "1h", "--candidates", path, "--runs_agg", agg, "--json")
    else:
        yield box.command("evaluate", "--unseen", path, "--runs_agg", agg, "--conditions", "depth=2")


Listed = list[tuple[int, dict[str, Any]]] | str  # rows with their numbers, or why the file should have been refused


def _listed(data: bytes, is_json: bool) -> Listed:
    """The rows of a list: no column or name twice, no cell missing, none that is empty."""
    if is_json:
        twice = twice_named(data)
        return list(enumerate(json.loads(data), start=1)) if twice is None else f"a list with {twice!r} twice was taken"
    lines = LINE_ENDS.split(data.decode("utf-8-sig"))
    first = next((number for number, line in enumerate(lines) if not is_blank(line)), 0)
    header = cells_of(lines[first]) or []
    if len(set(header)) < len(header):
        return f"column {Counter(header).most_common(1)[0][0]!r} stands twice, and was taken"
    rows = []
    for number, line in enumerate(lines[first + 1 :], start=first + 2):
        if is_blank(line):
            continue
        if len(cells := cells_of(line) or []) != len(header):
            return f"line {number} of {len(cells)} cells under {len(header)} columns was taken: {line[:60]!r}"
        rows.append((number, dict(zip(header, cells, strict=True))))
    return rows


def _list_faults(rows: Listed, items: list[Any], said: str) -> list[str]:
    """Rows that no run comes of, and the other way round; repetitions may be left out if that is said."""
    if isinstance(rows, str):
        return [rows]
    found = []
    given = [(number, {name: cell for name, cell in row.items() if not _is_empty(cell)}) for number, row in rows]
    names = set(type(items[0]).__slots__)
    for number, row in given:
        if not row:
            found.append(f"row {number} lists nothing, and a run of defaults came of it")
        elif not any(_is_item(row, item, names) for item in items):
            found.append(f"row {number} {row} is none of {len(items)} runs, e.g. {items[0]}"[:300])
    if not all(any(_is_item(row, item, names) for _, row in given) for item in items):
        found.append("a run that nobody listed")
    again = re.search(r"(\d+) of \d+ rows repeat", said)
    is_once = isinstance(items[0], RunConfig)  # each configuration once
    if not is_once and len(items) + int(again[1] if again else 0) != len(rows):
        found.append(f"{len(rows)} rows, {len(items)} runs")
    return found[:3]


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _is_item(row: dict[str, Any], item: Any, names: set[str]) -> bool:
    """Whether a run or configuration says what a row says, of the columns that it has."""
    return all(
        _is_cell(cell, getattr(item, name)) for name, cell in row.items() if name in names and name != "data_dir"
    )


def _is_cell(cell: Any, value: Any) -> bool:
    with contextlib.suppress(TypeError, ValueError):
        if float(cell) == float(value):
            return True
    return bool(cell == value) or str(cell).strip() == str(value)
