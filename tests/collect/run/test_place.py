"""Where and how runs are made, as a value: it goes through JSON, and a fresh process makes the same run of it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from epochcast.collect.grid.sequence import NextRun, SequenceResult, measure_sequence
from epochcast.collect.grid.specs import PlannedRun
from epochcast.collect.run.device_lock import Sharing
from epochcast.collect.run.listener import Listener, RunLog
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import run
from epochcast.schema import FailureRecord, RunRecord, to_json_dict
from epochcast.storage.tables import read_table
from tests.support.light_child import command, environment, isolate, light_spec

FROM_JSON = """
import json, sys
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import run
from epochcast.schema import RunSpec, to_json_dict
spec, place = RunSpec(**json.loads(sys.argv[2])), RunPlace.from_json(json.loads(sys.argv[3]))
print(json.dumps(to_json_dict(run(spec, sys.argv[1], place))))
"""
# what differs between two runs of one spec: when, for how long, and what else went on
OF_THE_MOMENT = ("timestamp_utc", "wall_sec", "overhead_sec", "cpu_time_sec", "load_avg", "host_busy_cores", "flags")


@pytest.fixture
def place(tmp_path, monkeypatch):
    isolate(monkeypatch, tmp_path, tmp_path / "trace")
    sharing = Sharing(wait_sec=60.0, shares=True)
    return RunPlace(tmp_path / "runs.csv", tmp_path / "logs", "grid-1", 0.5, command("ok"), sharing)


def test_a_place_comes_back_from_its_json_as_it_was(place):
    text = json.dumps(place.to_json(), allow_nan=False)
    assert RunPlace.from_json(json.loads(text)) == place
    plain = RunPlace(place.runs, place.log_dir)
    assert RunPlace.from_json(json.loads(json.dumps(plain.to_json()))) == plain
    assert plain.to_json()["child"] is None  # whoever makes the run takes the process of its own installation


def test_the_paths_of_the_json_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = RunPlace(Path("runs.csv"), Path("logs")).to_json()
    assert (values["runs"], values["log_dir"]) == (str(tmp_path / "runs.csv"), str(tmp_path / "logs"))


@pytest.mark.parametrize(
    "change",
    [
        {"runs": 5},
        {"log_dir": None},
        {"grid_id": 7},
        {"idle_sec": -1.0},
        {"idle_sec": "5"},
        {"child": "python"},
        {"child": []},
        {"child": [1]},
        {"sharing": {"wait_sec": "1h"}},
        {"sharing": {"shares": 1}},
        {"sharing": {"say": "x"}},
        {"sharing": None},
        {"timeout_sec": 5},
    ],
    ids=str,
)
def test_values_that_make_no_place_are_refused_by_name(place, change):
    name = next(iter(change))
    with pytest.raises(ValueError, match=f"{name}|wait_sec|shares|say|Sharing"):
        RunPlace.from_json(place.to_json() | change)


def test_values_without_a_table_and_values_that_are_none_are_refused(place):
    values = place.to_json()
    del values["runs"]
    with pytest.raises(ValueError, match="runs"):
        RunPlace.from_json(values)
    with pytest.raises(ValueError, match="RunPlace"):
        RunPlace.from_json([place.to_json()])


def of_the_run(row: RunRecord) -> dict[str, object]:
    return {name: value for name, value in to_json_dict(row).items() if name not in OF_THE_MOMENT}


def test_a_fresh_process_makes_the_same_row_from_the_two_texts_alone(place, tmp_path):
    spec = light_spec(seed=7, dataset="auto")
    direct = run(spec, "a", place)
    elsewhere = replace(place, runs=tmp_path / "other" / "runs.csv", log_dir=tmp_path / "other" / "logs")
    texts = [json.dumps(asdict(spec)), json.dumps(elsewhere.to_json())]
    done = subprocess.run(
        [sys.executable, "-c", FROM_JSON, "a", *texts],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (fresh,) = read_table(elsewhere.runs, RunRecord)
    assert of_the_run(fresh) == of_the_run(direct)
    assert (fresh.grid_id, fresh.run_id, fresh.seed) == ("grid-1", "a", 7)
    assert json.loads(done.stdout) == to_json_dict(fresh)
    assert (elsewhere.log_dir / "a.json").is_file() and (elsewhere.log_dir / "a.txt").is_file()


class TwoRuns:
    """A sequence of two runs, of which the second has a limit."""

    def __init__(self):
        self.waiting = [NextRun(PlannedRun(light_spec(), "a")), NextRun(PlannedRun(light_spec(seed=2), "b"), 30.0)]
        self.outcomes = []

    def next_run(self):
        return self.waiting.pop(0) if self.waiting else None

    def ended(self, planned, outcome):
        self.outcomes.append((planned.run_id, outcome))

    def left_to_another(self, planned):
        self.outcomes.append((planned.run_id, None))


def test_another_executor_is_a_function_that_is_handed_spec_name_and_place(place):
    asked = []

    def execute(spec, run_id, place, listener, *, timeout_sec, interrupts):
        asked.append((spec.seed, run_id, place, timeout_sec))
        return run(spec, run_id, RunPlace.from_json(place.to_json()), listener, timeout_sec=timeout_sec)

    sequence, result = TwoRuns(), SequenceResult()
    measure_sequence(sequence, result, place, execute=execute)
    assert asked == [(light_spec().seed, "a", place, None), (2, "b", place, 30.0)]
    assert [run_id for run_id, _ in sequence.outcomes] == ["a", "b"]
    assert result.measured == [outcome for _, outcome in sequence.outcomes] == read_table(place.runs, RunRecord)


def test_the_lines_of_one_run_are_details_and_no_reports(place):
    lines: dict[str, list[str]] = {"report": [], "detail": []}
    listener = Listener(lines["report"].append, lines["detail"].append)
    row = run(light_spec(), "a", place, listener)
    assert isinstance(row, RunRecord)
    assert lines["report"] == []  # it waited for nobody
    assert sum(line.startswith("epoch ") for line in lines["detail"]) == 4
    failure = run(light_spec(), "b", replace(place, child=command("exit-3")), listener)
    assert isinstance(failure, FailureRecord) and lines["report"] == []
    logged = (place.log_dir / "a.txt").read_text().splitlines()
    assert lines["detail"][: len(logged)] == logged


def test_a_reader_that_left_and_a_full_disk_end_no_run(tmp_path):
    def leave(said):
        raise BrokenPipeError

    with Path("/dev/full").open("wb", buffering=0) as full:
        log = RunLog(full, Listener(leave, leave, leave))
        log.note("a line")
        log.detail("a line")
        log.report("a line")
        log.output(b"bytes")
