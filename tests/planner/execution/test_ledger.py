"""The account of a plan: on the disk at once, mended after a kill, never another's, never two at once."""

from __future__ import annotations

import errno
import json
import os
import time

import pytest

from epochcast.planner.execution import ledger as module
from epochcast.planner.execution.ledger import looked_at, opened


@pytest.fixture
def path(tmp_path):
    return tmp_path / "plans" / "hour.ledger.jsonl"


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def events_of(path):
    return [line["event"] for line in lines_of(path)]


def begin(path, *used, plan_id="plan-1"):
    """A ledger of a session that was killed; `used` are the seconds of its `alive` lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = [{"event": "begun", "utc": "", "used_sec": 0.0, "plan_id": plan_id}]
    told += [{"event": "alive", "utc": "", "used_sec": seconds} for seconds in used]
    path.write_text("".join(json.dumps(line) + "\n" for line in told))


def test_every_line_is_on_the_disk_when_it_is_written(path, monkeypatch):
    path.parent.mkdir(parents=True)  # its name is pushed, too
    pushed = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (fsync(descriptor), pushed.append(path.read_bytes())))
    with opened(path, "plan-1") as ledger:
        ledger.write("run_started", run_id="a", expected_sec=1.0, upper_sec=2.0)
        ledger.write("run_ended", run_id="a", status="done", wall_sec=0.5)
        assert pushed[-1] == path.read_bytes()
    assert len(pushed) == 4  # the folder's name of the file first
    assert events_of(path) == ["begun", "run_started", "run_ended"]
    assert all(line["utc"].endswith("+00:00") for line in lines_of(path))
    assert [line["event"] for line in ledger.of("run_ended")] == ["run_ended"]


def test_the_time_between_two_sessions_is_not_counted(path):
    with opened(path, "plan-1") as ledger:
        ledger.charge(100.0)
        ledger.write("ended")
    time.sleep(0.3)
    with opened(path, "plan-1") as ledger:
        assert 100.0 <= ledger.used_sec < 100.2
    assert [line["used_sec"] >= 100 for line in lines_of(path)] == [False, True, True]


def test_time_in_which_no_run_went_on_is_the_plans_own_up_to_a_second_for_each(path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def pass_time(sec):
        now[0] += sec
        return ledger.own_sec

    with opened(path, "plan-1") as ledger:
        assert pass_time(0.25) == pytest.approx(0.25)
        ledger.write("run_started", run_id="a", expected_sec=1.0)
        assert pass_time(50.0) == pytest.approx(0.25)
        ledger.write("run_ended", run_id="a", status="done")
        assert pass_time(0.5) == pytest.approx(0.75)
        ledger.charge(30.0)  # a run done by hand
        ledger.write("run_ended", run_id="b", status="done")
        assert pass_time(0.25) <= 1.0
        assert pass_time(1000.0) == 2.0
    assert looked_at(tmp := path.with_name("none.jsonl"), "plan-1").own_sec == 0.0 and not tmp.exists()


def test_a_killed_session_counts_up_to_its_last_line(path):
    begin(path, 5.0, 10.0)
    assert looked_at(path, "plan-1").used_sec == pytest.approx(10, abs=0.1)
    with opened(path, "plan-1") as ledger:
        assert ledger.used_sec == pytest.approx(10, abs=0.1)
        ledger.reach(12.0)
        ledger.reach(7.0)
        assert ledger.used_sec == pytest.approx(12, abs=0.1)


def test_while_a_run_goes_on_the_ledger_tells_that_it_is_alive(path, monkeypatch):
    monkeypatch.setattr(module, "ALIVE_SEC", 0.02)
    with opened(path, "plan-1") as ledger:
        with ledger.kept_alive():
            time.sleep(0.3)
        n = events_of(path).count("alive")
        time.sleep(0.1)
        assert events_of(path).count("alive") == n >= 3
    used = [line["used_sec"] for line in lines_of(path)]
    assert used == sorted(used)
    assert used[-1] > 0.2


@pytest.mark.parametrize("torn", ['{"event": "ali', '{"event": "alive", "utc": "", "used_sec": 7.0}', "\0\0\0"])
def test_a_line_that_a_kill_cut_is_dropped_and_the_rest_kept(path, torn):
    begin(path, 5.0)
    whole = path.read_text()
    path.write_text(whole + torn)
    looked_at(path, "plan-1")
    assert path.read_text() == whole + torn
    with opened(path, "plan-1") as ledger:
        assert ledger.used_sec == pytest.approx(5, abs=0.1)
    assert path.read_text().startswith(whole + '{"event": "resumed"')
    assert len(lines_of(path)) == 3


@pytest.mark.parametrize("text", ["", '{"eve', '{"event": "begun", "utc": "2026-01-01T0'])
def test_a_ledger_whose_first_line_a_kill_cut_is_begun_anew(path, text):
    path.parent.mkdir()
    path.write_text(text)
    with opened(path, "plan-1"):
        pass
    assert events_of(path) == ["begun"]


FOREIGN = [
    "a note without an end",
    "a note\n",
    "[]\n",
    "3\n",
    "\n",
    "\0\0\n",
    '{"event": "begun"}\n',
    '{"event": "lunch", "used_sec": 1.0}\n',
    '{"event": ["begun"], "used_sec": 1.0}\n',
    '{"event": "alive", "used_sec": -1.0}\n',
    '{"event": "alive", "used_sec": NaN}\n',
    '{"event": "alive", "used_sec": Infinity}\n',
    '{"event": "alive", "used_sec": null}\n',
    '{"event": "run_started", "used_sec": 1.0}\n',
    '{"event": "run_ended", "used_sec": 1.0, "run_id": "a"}\n',
]


@pytest.mark.parametrize("text", FOREIGN)
@pytest.mark.parametrize("has_begun", [False, True])
def test_what_is_no_ledger_is_named_with_its_line_and_left_as_it_is(path, text, has_begun):
    begin(path)
    text = path.read_text() * has_begun + (text if has_begun is False else text.removesuffix("\n") + "\n")
    path.write_text(text)
    for take in (looked_at, lambda *names: opened(*names).__enter__()):
        with pytest.raises(ValueError, match=r"not a line of a plan's ledger: .+\. Move the file aside") as error:
            take(path, "plan-1")
        assert str(error.value).startswith(f"{path}:{1 + has_begun}: ")
    assert path.read_text() == text


HOSTILE = [None, [], {}, "", "x" * 10_000, -1, 0, 1, True, 1e308, 10**18, 10**400, "5", "../a", [[[]]], {"a": [None]}]


def of_two_runs(path):
    """The lines of a ledger with all events."""
    with opened(path, "plan-1") as ledger:
        ledger.write("run_started", run_id="a", expected_sec=1.0, upper_sec=2.0)
        ledger.charge(7.0)
        ledger.write("run_ended", run_id="a", status="done", wall_sec=7.0, overhead=1.0, first_epoch=1.0, steady=5.0)
        ledger.write("replanned", factors={"steady": 1.0}, run_ids=["b"])
        ledger.write("run_started", run_id="b", expected_sec=1.0, upper_sec=2.0)
        ledger.write("alive")
        ledger.write("run_ended", run_id="b", status="crash", wall_sec=None, cost=0.5, is_outside=True)
        ledger.write("refused", run_ids=["c"], left_sec=1.0)
        ledger.write("ended", was_interrupted=False)
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda value: repr(value)[:20])
def test_whatever_stands_in_a_line_it_is_read_or_named_with_its_line(path, hostile):
    lines = of_two_runs(path)
    used = looked_at(path, "plan-1").used_sec
    for number, line in enumerate(lines, start=1):
        values = json.loads(line)
        for name in values:
            spoiled = [*lines[: number - 1], json.dumps({**values, name: hostile}).encode() + b"\n", *lines[number:]]
            path.write_bytes(b"".join(spoiled))
            try:
                ledger = looked_at(path, "plan-1")
            except ValueError as error:
                assert str(error).startswith(str(path))
                assert len(str(error)) < 300 + len(str(path))
            else:
                assert abs(ledger.used_sec - used) < 1 or hostile == 10**18
                assert name not in ("event", "status")


def test_a_ledger_that_is_cut_anywhere_in_its_last_line_is_read_up_to_there(path):
    lines = of_two_runs(path)
    whole = b"".join(lines[:-1])
    for size in range(len(lines[-1])):
        path.write_bytes(whole + lines[-1][:size])
        assert len(looked_at(path, "plan-1").lines) == len(lines) - 1
        with opened(path, "plan-1") as ledger:
            assert ledger.used_sec == pytest.approx(7, abs=0.5)
        assert path.read_bytes().startswith(whole + b'{"event": "resumed"')


def test_a_first_line_is_begun_anew_only_where_a_kill_may_have_cut_it(path):
    first, *rest = of_two_runs(path)
    for size in range(len(first)):
        path.write_bytes(first[:size])
        with opened(path, "plan-1"):
            pass
        assert events_of(path) == ["begun"]
    for text in (b"".join([first, *rest]).replace(b"\n", b"\r"), b"".join([first, *rest]).replace(b"\n", b" ")):
        path.write_bytes(text)  # all its line ends are lost: never cut off
        with pytest.raises(ValueError, match=r"jsonl:1: not a line of a plan's ledger: it has no end"):
            opened(path, "plan-1").__enter__()
        assert path.read_bytes() == text


@pytest.mark.parametrize("event", ["begun", "run_started", "run_ended"])
def test_a_line_that_stands_twice_is_an_error(path, event):
    lines = of_two_runs(path)
    number = next(i for i, line in enumerate(lines) if f'"event": "{event}"'.encode() in line)
    path.write_bytes(b"".join([*lines[: number + 1], lines[number], *lines[number + 1 :]]))
    with pytest.raises(ValueError, match=f"jsonl:{number + 2}: not a line of a plan's ledger: "):
        looked_at(path, "plan-1")


def test_line_ends_of_windows_are_read(path):
    path.write_bytes(b"".join(of_two_runs(path)).replace(b"\n", b"\r\n"))
    with opened(path, "plan-1") as ledger:
        assert ledger.used_sec == pytest.approx(7, abs=0.5)
    assert events_of(path)[-1] == "resumed"


def test_a_pipe_is_no_ledger_and_a_file_system_without_locks_is_named(path, monkeypatch):
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(OSError, match="a pipe or a device"):
        opened(path, "plan-1").__enter__()
    with pytest.raises(OSError, match="a pipe or a device"):
        looked_at(path, "plan-1")
    path.unlink()

    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("epochcast.storage.locks.fcntl.flock", no_locks)
    with pytest.raises(OSError, match=r"two processes could carry one plan out\. Copy the plan") as error:
        opened(path, "plan-1").__enter__()
    assert error.value.filename == str(path)


def test_a_ledger_of_five_megabytes_is_read_at_once(path):
    begin(path)
    line = json.dumps({"event": "alive", "utc": "", "used_sec": 7.0}) + "\n"
    path.write_text(path.read_text() + (5_000_000 // len(line)) * line)
    assert looked_at(path, "plan-1").used_sec == pytest.approx(7, abs=5)
    for text in (5_000_000 * "\n", 5_000_000 * "[", 5_000_000 * "a"):
        path.write_text(text)
        with pytest.raises(ValueError, match="jsonl:1: not a line of a plan's ledger"):
            looked_at(path, "plan-1")


def test_the_ledger_of_another_plan_is_refused_and_left_as_it_is(path):
    begin(path, 5.0, plan_id="plan-2")
    before = path.read_bytes()
    for take in (looked_at, lambda *names: opened(*names).__enter__()):
        with pytest.raises(ValueError, match="is the ledger of plan-2, not of plan-1"):
            take(path, "plan-1")
    assert path.read_bytes() == before


def test_a_ledger_is_one_process_s_at_a_time(path):
    with opened(path, "plan-1"):
        before = path.read_bytes()
        with pytest.raises(ValueError, match="another process carries this plan out"), opened(path, "plan-1"):
            pass
        assert path.read_bytes() == before
    with opened(path, "plan-1"):
        pass


def test_a_ledger_that_is_looked_at_is_not_written(path):
    ledger = looked_at(path, "plan-1")
    ledger.charge(3.0)
    ledger.write("run_ended", run_id="a", status="done")
    assert ledger.used_sec == pytest.approx(3, abs=0.1)
    assert len(ledger.of("run_ended")) == 1
    assert not path.parent.exists()


def test_a_line_that_does_not_fit_the_disk_is_taken_back_and_the_file_named(path, monkeypatch):
    def write_half(descriptor, data, write=os.write):
        return write(descriptor, data[: len(data) // 2])

    with opened(path, "plan-1") as ledger:
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write_half)
            with pytest.raises(OSError, match="could not append") as error:
                ledger.write("run_started", run_id="a")
            patch.setattr(module, "ALIVE_SEC", 0.01)
            with ledger.kept_alive():  # a measurement goes on
                time.sleep(0.05)
        assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
        assert path.read_bytes() == before
        ledger.write("ended")
    assert events_of(path) == ["begun", "ended"]
    assert not ledger.of("run_started")


def test_a_folder_or_a_file_in_the_way_is_named(path, tmp_path):
    path.mkdir(parents=True)
    with pytest.raises(IsADirectoryError) as error, opened(path, "plan-1"):
        pass
    assert error.value.filename == str(path)
    (tmp_path / "note").touch()
    with pytest.raises(NotADirectoryError) as error, opened(tmp_path / "note" / "a.ledger.jsonl", "plan-1"):
        pass
    assert error.value.filename == str(tmp_path / "note")
