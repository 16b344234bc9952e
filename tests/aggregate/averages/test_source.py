"""A table of averages and its record are two files: whatever comes between them, what is read is right."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epochcast.aggregate.averages.averaging import aggregate
from epochcast.aggregate.averages.source import sha256, source_file_of, write_agg
from epochcast.aggregate.averages.table import AggTable, load_agg
from epochcast.aggregate.checks.report import check_file
from epochcast.schema import AggRow, RunRecord
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import read_runs, read_table, write_table
from tests.support.cuts import THOROUGH, cuts
from tests.support.faults import exit_code, in_child, is_failed_at, is_killed_at
from tests.support.rows import run_row

pytestmark = pytest.mark.usefixtures("fast_disk")


def row(n):
    return run_row((9.0, 2.0 + n, 2.0 + n), config=(2, 16, 64 + n), run_id=f"run-{n}")


@pytest.fixture
def runs(tmp_path):
    """A table of two runs whose averages, fresh, lie beside it."""
    path = tmp_path / "results" / "runs.csv"
    write_table(path, [row(0), row(1)], RunRecord)
    write_agg(path, agg_of(path))
    return path


def agg_of(runs):
    return runs.with_name("runs_agg.csv")


def expected(runs):
    return aggregate(read_runs(runs)).rows


def assert_right(runs):
    """What any reader gets, at once and after another run."""
    agg, rows = agg_of(runs), expected(runs)
    assert load_agg(agg, keeps=False).rows == rows
    assert load_agg(agg).rows == rows
    assert load_agg(agg, is_frozen=True).origin == f"up to date with {runs}"
    append_row(runs, row(9))
    again = load_agg(agg).rows
    assert again == expected(runs)
    assert 73 in {agg_row.batch_size for agg_row in again}


# after one of so many first faults a second one follows
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("interrupted", [is_killed_at, is_failed_at])
@pytest.mark.parametrize("is_first", [False, True], ids=["anew", "first"])
def test_killed_at_any_call_no_later_run_is_missed(tmp_path, runs, interrupted, is_first, every):
    for n in itertools.count(1):
        copy = tmp_path / str(n) / "runs.csv"
        shutil.copytree(runs.parent, copy.parent)
        if is_first:
            agg_of(copy).unlink()
            source_file_of(agg_of(copy)).unlink()
        else:
            append_row(copy, row(2))
        is_over = not interrupted(n, lambda copy=copy: load_agg(agg_of(copy)))
        if n % every == 0 or is_over:
            again = interrupted(n, lambda copy=copy: load_agg(agg_of(copy)))  # and the next one, too
            assert not (is_over and again)
        assert_right(copy)
        if is_over:
            assert n > 10
            return


def test_a_cache_that_an_earlier_version_made_gains_the_columns_that_it_lacks(runs):
    agg, lines = agg_of(runs), agg_of(runs).read_text().splitlines()
    older = "".join(line.rpartition(",")[0] + "\n" for line in lines)  # without the last column
    record = json.loads(source_file_of(agg).read_text())
    agg.write_text(older)
    source_file_of(agg).write_text(json.dumps({**record, "agg_sha256": sha256(older.encode())}))
    with pytest.raises(ValueError, match="--frozen forbids"):
        load_agg(agg, is_frozen=True)
    assert load_agg(agg).rows == expected(runs)
    assert all(row.rel_ci95 is not None for row in load_agg(agg).rows)
    assert_right(runs)


@pytest.mark.parametrize("named", ["runs_agg.csv", "mine.csv"])
@pytest.mark.parametrize("record", ["ours", "none", "broken"])
def test_a_table_that_we_did_not_make_is_not_replaced(runs, named, record):
    out = runs.with_name(named)
    write_agg(runs, out)
    edited = read_table(out, AggRow)[:1]
    write_table(out, edited, AggRow)
    if record == "none":
        source_file_of(out).unlink()
    elif record == "broken":
        source_file_of(out).write_text('{\n "sour')
    before = {path.name: path.read_bytes() for path in runs.parent.iterdir()}
    with pytest.raises(ValueError, match=r"may be the only copy .*Name another file with --out, or move this one"):
        write_agg(runs, out)
    assert {path.name: path.read_bytes() for path in runs.parent.iterdir()} == before
    out.unlink()
    write_agg(runs, out)
    assert load_agg(out).origin == f"up to date with {runs}"


NOT_RECORDS = [
    '{"row": {"a": 1}, "table": "x"}',
    '{"my": "notes"}',
    '{"source": "a book", "notes": "mine"}',
    "precious text",
    "timestamp_utc,tf_version,depth\n1,2,3\n",
    "[1, 2]",
]


@pytest.mark.parametrize("text", NOT_RECORDS)
@pytest.mark.parametrize("is_there", [True, False], ids=["beside a table", "alone"])
def test_what_is_no_record_of_ours_is_never_replaced_by_one(runs, text, is_there):
    source_file_of(agg_of(runs)).write_text(text)
    if not is_there:
        agg_of(runs).unlink()
    before = {path.name: path.read_bytes() for path in runs.parent.iterdir()}
    with pytest.raises(ValueError, match=r"is not replaced"):
        write_agg(runs, agg_of(runs))
    assert {path.name: path.read_bytes() for path in runs.parent.iterdir()} == before


@THOROUGH
def test_a_record_cut_anywhere_is_made_anew(runs, thorough):
    whole = source_file_of(agg_of(runs)).read_bytes()
    for n in cuts(whole[:-3], thorough):  # longer ones lack blanks alone
        source_file_of(agg_of(runs)).write_bytes(whole[:n])
        write_agg(runs, agg_of(runs))
        assert source_file_of(agg_of(runs)).read_bytes().startswith(whole[:60])


def test_averages_leave_no_lock_behind_whether_they_are_made_or_refused(tmp_path, runs):
    write_agg(runs, tmp_path / "a" / "agg.csv")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["agg.csv", "agg.csv.source.json"]
    runs.write_text(runs.read_text().replace(",2.0,", ",two,"))
    with pytest.raises(ValueError, match="expected a number"):
        write_agg(runs, tmp_path / "b" / "agg.csv")
    assert not (tmp_path / "b").exists()


def test_an_edited_table_is_used_as_it_is_also_after_a_kill(runs):
    append_row(runs, row(2))
    assert is_killed_at(12, lambda: load_agg(agg_of(runs)))
    edited = read_table(agg_of(runs), AggRow)[:1]
    write_table(agg_of(runs), edited, AggRow)
    table = load_agg(agg_of(runs))
    assert (table.rows, table.origin) == (edited, "a table edited since it was aggregated, used as it is")


def test_many_makers_at_once_end_with_a_right_table(runs):
    def work(worker):
        for n in range(4):
            append_row(runs, row(10 * worker + n))
            found = load_agg(agg_of(runs)).rows
            assert 64 + 10 * worker + n in {agg_row.batch_size for agg_row in found}
            write_agg(runs, agg_of(runs))

    children = [in_child(lambda worker=worker: work(worker)) for worker in (1, 2, 3, 4)]
    assert [exit_code(child) for child in children] == [0] * 4
    assert load_agg(agg_of(runs), is_frozen=True).rows == expected(runs)
    assert_right(runs)


def test_rows_and_hash_come_from_one_reading(runs, monkeypatch):
    append_row(runs, row(2))
    write = os.open

    def appending(path, *args, **kwargs):
        if str(path).endswith(".runs_agg.csv.lock"):
            return write(path, *args, **kwargs)
        if str(path).endswith("source.json") and args[0] & os.O_CREAT == 0 and not appended:
            appended.append(1)
            append_row(runs, row(3))
        return write(path, *args, **kwargs)

    appended = []
    monkeypatch.setattr(os, "open", appending)
    load_agg(agg_of(runs))
    monkeypatch.undo()
    assert appended
    assert_right(runs)


def refuse_new_files(monkeypatch):
    opened = os.open

    def read_only(path, flags, *args, **kwargs):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", read_only)


def refuse_locks(monkeypatch):
    def no_lock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_lock)


@pytest.mark.parametrize("fault", [refuse_new_files, refuse_locks])
def test_where_nothing_can_be_kept_the_answer_is_right_all_the_same(runs, fault, monkeypatch, caplog):
    append_row(runs, row(2))
    before = agg_of(runs).read_bytes()
    with monkeypatch.context() as patch:
        fault(patch)
        assert load_agg(agg_of(runs)).rows == expected(runs)
    assert agg_of(runs).read_bytes() == before
    assert "the averages could not be kept" in caplog.text
    assert_right(runs)


def test_without_locks_averages_are_made_on_demand_with_a_word(runs, monkeypatch, caplog):
    append_row(runs, row(2))
    with monkeypatch.context() as patch:
        refuse_locks(patch)
        write_agg(runs, agg_of(runs))
    assert not list(runs.parent.glob(".*.lock"))
    assert "no locks: make averages there by one command at a time" in caplog.text
    assert load_agg(agg_of(runs), is_frozen=True).rows == expected(runs)


def test_a_record_of_an_earlier_version_is_still_believed(runs):
    record = source_file_of(agg_of(runs))
    values = json.loads(record.read_text())
    del values["replaces"]
    record.write_text(json.dumps(values))
    assert load_agg(agg_of(runs), is_frozen=True).origin == f"up to date with {runs}"
    assert_right(runs)


def test_both_remedies_for_a_broken_record_work(runs):
    record = source_file_of(agg_of(runs))
    record.write_text('{"source": ')
    write_agg(runs, agg_of(runs))
    assert load_agg(agg_of(runs)).origin == f"up to date with {runs}"
    record.write_text('{"source": ')
    record.unlink()
    assert load_agg(agg_of(runs)).origin == "a table without a source, used as it is"


HOSTILE = [None, [], {}, "", "\0", "\ud800", "x" * 5000, "..", "/dev/null", -1, 1e308, 10**18, True, [[[[]]]]]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_whatever_a_record_holds_averages_are_read_or_refused(tmp_path_factory, data):
    runs = tmp_path_factory.mktemp("record") / "runs.csv"
    write_table(runs, [row(0)], RunRecord)
    write_agg(runs, agg_of(runs))
    record = source_file_of(agg_of(runs))
    values = json.loads(record.read_text())
    for name in data.draw(st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=2, unique=True)):
        values[name] = data.draw(st.sampled_from(HOSTILE))
    text = json.dumps(data.draw(st.sampled_from([values, [values], values["source"]])))
    record.write_text(data.draw(st.sampled_from([text, text[:-2], "[" * 10_000, text.replace("null", "NaN")])))
    try:
        table = load_agg(agg_of(runs))
    except (ValueError, OSError) as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(table, AggTable)
        assert table.rows == expected(runs)
    check_file(runs)
