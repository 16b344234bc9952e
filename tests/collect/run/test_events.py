"""What a measuring process may say, and what is believed of it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epochcast.collect.grid.grid_loop import run_grid
from epochcast.collect.grid.specs import grid_runs
from epochcast.collect.records.recovery import recover
from epochcast.collect.records.reserved import reserved_space
from epochcast.collect.run import child
from epochcast.collect.run.child import ChildReport
from epochcast.collect.run.events import Heard
from epochcast.collect.run.listener import Listener
from epochcast.collect.run.monitor import Observations
from epochcast.collect.run.outcome import failure_of, record_of
from epochcast.collect.run.place import RunPlace
from epochcast.collect.run.runner import RunRefusedError, run
from epochcast.paths import failures_csv
from epochcast.schema import FailureRecord, RunRecord, to_json_dict
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_table
from epochcast.validation import is_sec
from tests.support.light_child import EPOCH_SEC, FIRST_SEC, command, light_spec, starts

STARTED = {"event": "started", "device_name": "a box", "train_n": 1000, "params": 10, "tf_version": None}
DONE = {"event": "done", "stop_reason": "epochs", "test_acc": 0.5, "peak_memory_bytes": None, "n_epochs": 4}


def epoch(number):
    return {"event": "epoch", "sec": 0.5, "edges": [number, number + 0.5], "logs": {"loss": 1.0}}


def lines_of(*events):
    return [json.dumps(event).encode() for event in events]


WHOLE = lines_of(STARTED, *map(epoch, range(4)), DONE)
odd_numbers = st.sampled_from([0, -1, 0.0, math.nan, math.inf, -math.inf, 1e308, 1e-320, 10**18, 10**400, True])
odd_values = st.recursive(
    st.none() | st.booleans() | odd_numbers | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def odd_lines(draw):
    """The words of a process that finished, one of them spoilt."""
    lines = list(WHOLE)
    number = draw(st.integers(0, len(lines) - 1))
    way = draw(st.sampled_from(["bytes", "value", "missing", "twice", "left out", "cut", "other event"]))
    event = json.loads(lines[number])
    name = draw(st.sampled_from(sorted(event)))
    if way == "bytes":
        lines.insert(number, draw(st.binary(max_size=40)).replace(b"\n", b""))
    elif way == "value":
        lines[number] = json.dumps(event | {name: draw(odd_values)}).encode()
    elif way == "missing":
        del event[name]
        lines[number] = json.dumps(event).encode()
    elif way == "twice":
        lines.insert(number, lines[number])
    elif way == "left out":
        del lines[number]
    elif way == "cut":
        lines[number] = lines[number][: draw(st.integers(0, len(lines[number]) - 1))]
    else:
        lines.insert(number, json.dumps({"event": draw(odd_values)}).encode())
    return lines


@settings(max_examples=150, deadline=None, derandomize=True)
@given(odd_lines())
def test_whatever_a_process_says_ends_in_a_row_or_in_a_failure_that_holds_its_epochs(tmp_path_factory, lines):
    report = ChildReport(exit_code=0, wall_sec=10.0, cpu_time_sec=1.0)
    for line in lines:
        report.take(line)
    assert all(map(is_sec, report.epoch_times))
    if report.fault is None and report.done is not None and len(report.epoch_times) > 1:
        with contextlib.suppress(ValueError, TypeError):
            record, _ = record_of(light_spec(), report, "a", None, Observations())
            assert record.epoch_times_json == tuple(report.epoch_times)
            assert round_trips(tmp_path_factory, record)
            return
    if report.refusal is not None and report.fault is None:
        assert report.epoch_times == []
        return
    failure = failure_of(light_spec(), report, "a", None, problem="no row")
    assert failure.epoch_times_json == tuple(report.epoch_times)
    assert round_trips(tmp_path_factory, failure)


def round_trips(tmp_path_factory, record):
    table = tmp_path_factory.mktemp("table") / "table.csv"
    append_row(table, record)
    return read_table(table, type(record)) == [record]


def test_lines_that_are_no_events_are_passed_over_and_noted():
    heard = Heard()
    for line in (WHOLE[0], b"Fatal: a library printed here", b"", b"[" * 100_000, b"\xff\xfe", *WHOLE[1:]):
        heard.take(line)
    assert heard.fault is None
    assert len(heard.epoch_times) == 4
    assert len(heard.odd) == 4
    assert "a library printed here" in heard.odd[0]


@pytest.mark.parametrize("sec", [0, -1.0, math.nan, math.inf, 1e300, "0.5", None, True, [0.5]])
def test_after_a_time_that_no_epoch_takes_only_times_are_kept(sec):
    heard = Heard()
    for line in (*WHOLE[:3], json.dumps({**epoch(2), "sec": sec}).encode(), *WHOLE[4:]):
        heard.take(line)
    assert heard.epoch_times == [0.5] * 3  # those of the first, second and fourth, for the row of failures
    assert "epoch 3" in heard.fault
    assert heard.done is None


def test_epochs_that_take_longer_than_the_process_make_no_row():
    report = ChildReport(exit_code=0, wall_sec=1.9, cpu_time_sec=1.0)
    for line in WHOLE:
        report.take(line)
    with pytest.raises(ValueError, match=r"its epochs take 2 s together, the whole process 1\.9 s"):
        record_of(light_spec(), report, "a", None, Observations())


@pytest.mark.parametrize("name", ["test_acc", "stop_reason", "peak_memory_bytes", "compile_cache"])
@pytest.mark.parametrize("value", [-1, "much", [1], 1e300, {"a": 1}])
def test_an_odd_word_of_something_optional_leaves_its_cell_empty(name, value):
    report = ChildReport(exit_code=0, wall_sec=9.0, cpu_time_sec=1.0)
    for line in (*WHOLE[:-1], *lines_of(DONE | {name: value})):
        report.take(line)
    record, left_out = record_of(light_spec(), report, "a", None, Observations())
    assert getattr(record, name) is None
    assert len(left_out) == 1
    assert name in left_out[0]


# --- through whole runs ----------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHT_CHILD_TRACE", str(tmp_path / "trace"))
    return tmp_path / "results" / "runs.csv"


def says(tmp_path, data, behaviour="say"):
    words = tmp_path / "words"
    words.write_bytes(data)
    return command(behaviour, str(words))


@pytest.mark.parametrize(
    "data", [b"no JSON at all\n", b"\xff\x00{}\n\n[1]\n", b'{"event": "new in a later version"}\n']
)
def test_a_line_among_the_events_that_is_none_costs_no_row(runs, tmp_path, data):
    said = []
    saying = says(tmp_path, data)
    row = run(light_spec(), "a", RunPlace(runs, tmp_path / "logs", child=saying), Listener(said.append, said.append))
    assert read_table(runs, RunRecord) == [row]
    assert row.epochs == 4
    assert any(line.startswith("WARNING: passed over from the measuring process: ") for line in said)
    assert json.loads((tmp_path / "logs" / "a.json").read_text())["problems"]["events"]


@pytest.mark.parametrize(
    "event",
    [epoch(1) | {"sec": 0}, epoch(1) | {"sec": math.nan}, epoch(1) | {"sec": 1e5}, STARTED, DONE | {"n_epochs": 7}],
    ids=["0 s", "NaN", "longer than the process", "started twice", "epochs lost"],
)
def test_a_grid_meets_no_run_again_whose_process_can_not_be_believed(runs, tmp_path, event):
    saying = says(tmp_path, json.dumps(event).encode() + b"\n")
    planned = grid_runs([light_spec()], 1, {})
    for n_failures, n_before in ((1, 0), (0, 1)):
        result = run_grid(planned, RunPlace(runs, tmp_path / "logs", child=saying))
        assert (len(result.failures), result.n_failed_before) == (n_failures, n_before)
    assert len(starts(tmp_path / "trace")) == 1
    (failure,) = read_table(failures_csv(runs), FailureRecord)
    assert failure.status == "crash"
    assert failure.epoch_times_json[:2] == (FIRST_SEC, EPOCH_SEC)
    assert "can't be believed" in failure.message
    assert read_table(runs, RunRecord) == []


def test_a_process_that_refuses_after_it_has_timed_epochs_is_a_failure_that_holds_them(runs, tmp_path):
    saying = says(tmp_path, b'{"event": "refused", "message": "no"}\n', "say-last")
    failure = run(light_spec(), "a", RunPlace(runs, tmp_path / "logs", child=saying))
    assert isinstance(failure, FailureRecord)
    assert failure.epoch_times_json == (FIRST_SEC, EPOCH_SEC)


def test_a_refusal_without_words_is_still_a_sentence():
    heard = Heard()
    heard.take(b'{"event": "refused"}')
    assert heard.refusal == "the measuring process refused the run without a reason"
    with pytest.raises(RunRefusedError):
        raise RunRefusedError(heard.refusal)


def test_a_process_that_dies_once_all_is_timed_costs_only_what_is_optional(runs, tmp_path):
    """Killed while it evaluates, say out of memory there: the times are what the run was for."""
    row = run(light_spec(), "a", RunPlace(runs, tmp_path / "logs", child=command("die-when-timed")))
    assert isinstance(row, RunRecord)
    assert (row.test_acc, row.overhead_sec, row.epochs) == (None, None, 2)
    kept = json.loads((tmp_path / "logs" / "a.json").read_text())
    assert "ended after its last epoch" in kept["problems"]["row"][0]
    assert kept["row"] == to_json_dict(row)


@pytest.mark.parametrize("arguments", [(), ("interrupt",)], ids=["timeout", "Ctrl-C"])
def test_a_timed_run_whose_process_never_ends_is_a_row(runs, tmp_path, monkeypatch, arguments):
    monkeypatch.setattr(child, "GRACE_SEC", 0.2)
    row = run(
        light_spec(),
        "a",
        RunPlace(runs, tmp_path / "logs", child=command("hang-when-timed", *arguments)),
        timeout_sec=1.5,
    )
    assert isinstance(row, RunRecord)
    assert read_table(runs, RunRecord) == [row]
    assert row.test_acc is None


@pytest.mark.parametrize(
    "problems", [[1, 2], "all of them", None, 5, {"a": {"b": [float("nan")]}}, {"\ud800": "\udfff"}]
)
@pytest.mark.parametrize("name", ["problems", "framework"])
def test_odd_words_for_the_json_cost_no_row_and_can_be_recovered_from(runs, tmp_path, name, problems):
    done = json.dumps(DONE | {"n_epochs": 2, name: problems}).encode()
    row = run(light_spec(), "a", RunPlace(runs, tmp_path / "logs", child=says(tmp_path, done + b"\n", "say-last")))
    assert isinstance(row, RunRecord)
    runs.write_text(runs.read_text().splitlines(keepends=True)[0])
    assert recover(runs, tmp_path / "logs").appended == [row]


@pytest.mark.parametrize(
    ("before", "n_kept"),
    [
        ([STARTED, {"event": "refused", "message": "no"}, *map(epoch, range(4)), DONE], 4),
        ([STARTED, *map(epoch, range(2)), DONE | {"n_epochs": 2}, *map(epoch, range(2, 4))], 4),
        ([STARTED, *map(epoch, range(2)), {"event": "timed", "stop_reason": "epochs"}, epoch(3), DONE], 3),
        ([*map(epoch, range(4)), DONE], 4),
    ],
    ids=["refused first", "done early", "timed early", "never started"],
)
def test_no_epoch_that_was_reported_is_thrown_away(runs, tmp_path, before, n_kept):
    report = ChildReport(exit_code=0, wall_sec=10.0)
    for line in lines_of(*before):
        report.take(line)
    assert len(report.epoch_times) == n_kept


def test_an_event_behind_what_a_library_printed_is_heard():
    heard = Heard()
    for line in (WHOLE[0], *(b"Epoch done. " + line for line in WHOLE[1:])):
        heard.take(line)
    assert (len(heard.epoch_times), heard.odd, heard.done is None) == (4, [], False)


def test_images_that_nobody_asked_for_make_no_row(runs, tmp_path):
    report = ChildReport(exit_code=0, wall_sec=10.0)
    for line in lines_of(STARTED | {"train_n": 5}, *map(epoch, range(4)), DONE):
        report.take(line)
    with pytest.raises(ValueError, match="it trained on 5 images, asked for were 1000"):
        record_of(light_spec(), report, "a", None, Observations())


def test_a_process_that_goes_on_talking_after_its_parent_keeps_nobody(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(child, "LAST_WORDS_SEC", 0.3)
    pid_file = tmp_path / "pid"
    try:
        row = run(light_spec(), "a", RunPlace(runs, tmp_path / "logs", child=command("flood", str(pid_file))))
        assert isinstance(row, RunRecord)
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_space_is_taken_for_as_many_epochs_as_anybody_times(runs, tmp_path):
    spec = light_spec(epochs=None, max_epochs=10**9)
    with reserved_space(spec, runs, tmp_path / "logs"):
        taken = sum(path.stat().st_blocks * 512 for path in (tmp_path / "logs").iterdir())
    assert taken < 10_000_000


def test_a_pipe_in_place_of_a_log_is_an_error(runs, tmp_path):
    (tmp_path / "logs").mkdir()
    os.mkfifo(tmp_path / "logs" / "a.txt")
    with pytest.raises(OSError, match=r"a\.txt"):
        run(light_spec(), "a", RunPlace(runs, tmp_path / "logs", child=command("ok")))
