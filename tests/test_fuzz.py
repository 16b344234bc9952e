"""The short form of `make fuzz`, and whether its oracles see the faults that they are for."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import audit, box, drops, mutate, oracles
from tests.fuzz.__main__ import N, Worker
from tests.fuzz.box import sandbox
from tests.fuzz.json_mutate import mutate_json, mutate_json_lines, twice_named
from tests.fuzz.kinds import KINDS, events, flags, models, plans, schedule, tables
from tests.fuzz.kinds.flag_values import all_flags, command_line
from tests.fuzz.oracles import Call, Judge
from tests.fuzz.samples import samples
from tests.fuzz.tries import attempt, run_tries
from tests.support.parsers import EVERY_COMMAND

SHORT = [name for name, kind in KINDS.items() if name != "networks"]  # which import Keras; make fuzz has them
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
quick = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture
def a_box():
    with sandbox() as made:
        yield made


@pytest.mark.parametrize("name", SHORT)
def test_odd_inputs_end_in_a_sentence_or_an_answer(name, monkeypatch):
    for command in ("train", "evaluate", "explain"):  # may start a framework, which takes seconds: make fuzz has them
        monkeypatch.setitem(flags.WEIGHTS, command, 0.0)
    n = max(6, round(100 * KINDS[name].share / 1000))
    faulty = [result for result in run_tries(schedule([name], n), seed=0) if result.faults]
    assert not faulty, "\n".join(f"{each.kind} {each.number}: {each.faults}" for each in faulty)


# --- the oracles see what they are for -------------------------------------------------------------------------------


def columns_of(verdict):
    return {column for column, _ in verdict.faults}


def judged(function, box_, **more):
    return Judge().call(Call("planted", function, **more))


def fails_with(error):
    raise error


@pytest.mark.parametrize(
    ("error", "column"),
    [
        (KeyError("depth"), "traceback"),
        (RecursionError("deep"), "traceback"),
        (MemoryError(), "traceback"),
        (AssertionError(), "traceback"),
        (ValueError(""), "words"),
        (ValueError("a table of another kind"), "words"),  # names no file
        (ValueError("runs.csv: " + "x" * 5000), "words"),
        (ValueError("runs.csv: \x1b[31m"), "words"),
    ],
)
def test_an_exception_that_is_no_sentence_is_a_fault(error, column, a_box):
    path = a_box.write("runs.csv", b"x")
    assert columns_of(judged(lambda: fails_with(error), a_box, named=(path,))) == {column}


def test_a_refusal_that_names_its_file_is_none(a_box):
    path = a_box.path("runs.csv")
    for error in (ValueError(f"{path}:1: odd"), FileNotFoundError(2, "no such file", str(path))):
        verdict = judged(partial(fails_with, error), a_box, named=(path,))
        assert (verdict.outcome, verdict.faults) == ("refused", [])


def test_a_call_without_end_is_a_hang(a_box, monkeypatch):
    monkeypatch.setattr(oracles, "HANG_SEC", 0.05)
    assert columns_of(judged(lambda: time.sleep(5), a_box)) == {"hang"}


def test_what_uses_too_much_memory_is_named(a_box, monkeypatch):
    oracles.reset_peak()
    monkeypatch.setattr(oracles, "MEMORY_BYTES", oracles.peak_bytes() + (16 << 20))
    monkeypatch.setattr(oracles, "GROWTH_BYTES", 0)
    assert columns_of(judged(lambda: len(b"x" * (64 << 20)), a_box)) == {"memory"}
    oracles.reset_peak()
    assert judged(lambda: len(b"x" * (1 << 20)), a_box).faults == []


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: (folder / "decoys" / "runs.csv").write_text("gone"),
        lambda folder: (folder / "new").touch(),
        lambda folder: (folder / "decoys" / "runs.csv").unlink(),
        lambda folder: (folder / "decoys" / "notes.txt").rename(folder / "try" / "x"),
        lambda folder: (folder / "made").mkdir(),
        lambda folder: os.truncate(folder / "decoys" / "notes.txt", 0),
        lambda folder: socket.create_connection(("127.0.0.1", 9)),
        lambda folder: subprocess.run(["true"], check=False),
        lambda folder: os.system("true"),
    ],
)
def test_what_touches_anything_else_is_stopped_and_named(act, a_box):
    before = a_box.around()
    verdict = judged(lambda: act(a_box.root), a_box, writes=(a_box.folder,))
    assert "outside" in columns_of(verdict)
    assert audit.changes(before, a_box.around()) == []
    quietly = judged(lambda: _swallowed(act, a_box.root), a_box, writes=(a_box.folder,))
    assert columns_of(quietly) == {"outside"}  # also where the product looks away


def _swallowed(act, folder):
    with contextlib.suppress(OSError):
        act(folder)


def test_a_write_that_no_audit_event_tells_is_seen_afterwards(a_box):
    before = a_box.around()
    with (a_box.root / "decoys" / "notes.txt").open("a") as file:  # opened before the call
        judged(lambda: file.write("x") and file.flush(), a_box)
    assert box.changed_around(a_box, before) == [f"changed '{a_box.root}/decoys/notes.txt'"]


@pytest.mark.parametrize(
    ("end", "column"),
    [
        (lambda: print("Traceback (most recent call last):\nKeyError: 'x'", file=sys.stderr), "traceback"),
        (lambda: print("[1]"), "words"),
        (lambda: print('{"a": NaN}'), "words"),
        (lambda: print("{}\n{}"), "words"),
        (lambda: print('{"a": 1} \x1b[31m'), "words"),
        (lambda: sys.exit(7), "traceback"),
        (lambda: sys.exit(1), "words"),  # without a word
        (lambda: fails_with(ValueError("it leaves main")), "traceback"),
        (lambda: print("error: KeyError: 'depth'", file=sys.stderr) or sys.exit(1), "words"),
    ],
)
def test_a_command_that_ends_badly_is_a_fault(end, column, a_box):
    assert column in columns_of(judged(end, a_box, argv=("check", "--json")))


def planted(monkeypatch, a_box, module, name, function, kind, tries=range(12)):
    """The columns of the faults that a kind finds once a reader is replaced."""
    monkeypatch.setattr(module, name, function)
    return {column for i in tries for column, _, _ in attempt(kind, i, 0, a_box, Judge()).faults}


def test_a_reader_that_drops_or_adds_a_row_is_caught(a_box, monkeypatch):
    true = tables.read_table
    for wrong in (lambda rows: rows[:-1], lambda rows: rows[1:], lambda rows: [*rows, *rows[-1:]]):
        found = planted(monkeypatch, a_box, tables, "read_table", lambda p, k, w=wrong: w(true(p, k)), "failures")
        assert "silent" in found


def test_a_row_that_was_cut_short_must_not_pass():
    lines = samples().published_runs.splitlines()
    whole = lines[1].rpartition(b",")[0] + b",0.7123"
    cut = b"\n".join([lines[0], whole[:-3]])
    from epochcast.schema import RunRecord
    from epochcast.storage.cells import parse_row

    header, row = (drops.cells_of(line) for line in cut.decode().splitlines())
    record = parse_row(row, header, RunRecord)
    assert drops.faults_of(cut, [record], "", frozenset([whole.decode()])) == ["a row cut short passes for a whole one"]
    assert drops.faults_of(cut, [record], "", frozenset()) == []


def test_an_edited_card_that_is_taken_is_caught(a_box, monkeypatch):
    found = planted(
        monkeypatch, a_box, models, "read_card", lambda path: json.loads(path.read_bytes()), "cards", range(60)
    )
    assert {"silent", "words"} <= found


def test_lists_and_plans_that_are_read_leniently_are_caught(a_box, monkeypatch):
    true = plans.read_specs
    lenient = lambda path, defaults: true(path, defaults)[:-1]  # noqa: E731  # a run that was listed is lost
    assert "silent" in planted(monkeypatch, a_box, plans, "read_specs", lenient, "configs", range(30))


def test_epochs_that_are_lost_are_caught(a_box, monkeypatch):
    def loses(spec, *how):
        raise ValueError("an odd word of the measuring process")

    assert "silent" in planted(monkeypatch, a_box, events, "run", loses, "events")


def test_a_command_that_replaces_measurements_is_caught(a_box, monkeypatch):
    def replaces(argv):
        a_box.path("second/runs.csv").write_text("gone")
        return 0

    assert "silent" in planted(monkeypatch, a_box, box, "main", replaces, "flags", range(2))


def test_timed_epochs_are_those_before_the_first_odd_word():
    lines = events.written(events.sound_events())
    whole = b"\n".join(lines) + b"\n"
    assert events.timed(whole) == ([0.0006, 0.0003, 0.0003, 0.0003],) * 2
    odd = b"\n".join([*lines[:3], b"not JSON", *lines[3:]]) + b"\n"
    assert events.timed(odd) == ([0.0006, 0.0003], [0.0006, 0.0003, 0.0003, 0.0003])
    assert events.timed(b"\n".join(lines[1:]) + b"\n") == ([], [0.0006, 0.0003, 0.0003, 0.0003])  # never started
    assert events.timed(b"\n".join([*lines, lines[1]]) + b"\n")[0] == [0.0006, 0.0003, 0.0003, 0.0003]  # after its end


# --- the harness itself ----------------------------------------------------------------------------------------------

_LEAVES = {  # what mutates a file, by module, so that a sound one is tried instead
    tables: ("mutate_table", "mutate_json_file"),
    plans: ("mutate_table", "mutate_json_file", "mutate_json_lines"),
    models: ("mutate_json_file", "mutate_file", "_mutate_archive"),
}


@pytest.mark.parametrize("name", [name for name in SHORT if name not in ("flags", "events")])
def test_sound_inputs_are_accepted(name, a_box, monkeypatch):
    for module, mutators in _LEAVES.items():
        for mutator in mutators:
            monkeypatch.setattr(module, mutator, lambda draw, data, *_: data)
        monkeypatch.setattr(module, "put", lambda draw, path, data: path.write_bytes(data) and "file")
    results = [attempt(name, number, 1, a_box, Judge()) for number in range(8)]
    assert [(result.outcome, result.faults) for result in results] == [("accepted", [])] * 8


def test_sound_events_give_a_row(a_box, monkeypatch):
    whole = b"\n".join(events.written(events.sound_events())) + b"\n"
    monkeypatch.setattr(events, "odd_events", lambda draw: whole)
    results = [attempt("events", number, 1, a_box, Judge()) for number in range(8)]
    assert [result.faults for result in results] == [[]] * 8


def test_a_try_is_the_same_when_it_is_repeated(a_box):
    def inputs(name, number):
        attempt(name, number, 5, a_box, Judge())
        return {path.name: path.read_bytes() for path in a_box.folder.glob("*.*") if path.is_file()}

    for name in ("runs", "cards", "plans", "ledgers", "configs"):
        assert inputs(name, 3) == inputs(name, 3) != inputs(name, 4)


def test_the_default_is_twenty_thousand_tries_over_all_kinds():
    tries = schedule(list(KINDS), N)
    assert len(tries) >= 20_000
    assert len(set(tries)) == len(tries)
    assert {name for name, _ in tries} == set(KINDS)
    assert {name for name, _ in tries[: len(tries) // 20]} == set(KINDS)  # also when the time is short


def test_every_flag_of_every_sub_command_is_drawn():
    drawn = {
        (command, word.partition("=")[0])
        for command in EVERY_COMMAND
        for number in range(400)
        for word in command_line(Random(f"{command}{number}"), command, lambda draw, flag, is_hostile: "x")
    }
    there_are = [(command, flag.option) for command, flag in all_flags() if flag.option not in (None, "--deep")]
    assert len(there_are) > 180
    assert set(there_are) <= drawn


def test_every_flag_has_sound_values():
    unknown = {flag.type_name for _, flag in all_flags() if flag.takes_value and not flag.is_path and not flag.sound}
    assert not unknown, "add sound values for these types to fuzz/kinds/flag_values.py"


def test_a_worker_that_dies_leaves_its_try_as_a_fault():
    worker = Worker(0, None, 0.0)
    worker.process = subprocess.Popen(["sh", "-c", "kill -SEGV $$"])
    worker.take(b'{"at": ["keras", 7]}\n')
    result = worker.died()
    assert (result.kind, result.number, worker.begun) == ("keras", 7, 1)
    assert result.faults == [("traceback", "the process", "ended by SIGSEGV")]


@quick
@given(st.binary(max_size=400), st.integers(0, 2**32))
def test_byte_mutators_take_any_bytes(data, seed):
    for mutator in (*mutate.BYTE_MUTATORS, mutate.mutate_lines, mutate.encode, mutate.shrink):
        assert mutator(Random(seed), data) == mutator(Random(seed), data)


@quick
@given(json_values, st.integers(0, 2**32))
def test_json_mutators_take_any_value(value, seed):
    data = json.dumps(value).encode()
    assert mutate_json(Random(seed), data) == mutate_json(Random(seed), data)
    assert isinstance(mutate_json_lines(Random(seed), data + b"\n" + data), bytes)
    assert twice_named(data) is None
    assert twice_named(b'[{"a": 1, "b": 2, "a": 1}]') == "a"
