"""The chaos harness in its short form, and its judges: what they exist to find is found when it is planted."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos import injection
from tests.chaos.invariants import row_faults
from tests.chaos.material import row_of

ROOT = Path(__file__).resolve().parents[1]
BEGIN = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
"""
MAIN = """
from tests.chaos.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return injection.environment_with_library(tmp_path_factory.mktemp("library"))


def run(environment, *words):
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, cwd=ROOT)


QUICK = ("writers", "writers_calls", "migrations", "migrations_calls", "trainings", "files_calls")


def harness(environment, *flags):
    """Run the harness, which must find nothing; return the kills of each kind that was tried."""
    done = run(environment, "-m", "tests.chaos", "--kills", "6", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 faults in" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    header = next(i for i, words in enumerate(lines) if words[:1] == ["kind"])
    end = next(i for i, words in enumerate(lines) if words[:1] == ["all"])
    return {words[0]: int(words[2]) for words in lines[header + 1 : end]}


def test_a_few_kills_of_writers_leave_nothing_wrong(environment):
    """The other kinds of trouble take seconds a try; each has tests of its own beside what it troubles."""
    kills = harness(environment, *(word for kind in QUICK for word in ("--kind", kind)))
    assert kills["writers"] >= 4
    assert sum(kills.values()) >= 7


@pytest.mark.slow
def test_a_few_kills_full_disks_and_failing_calls_leave_nothing_wrong(environment):
    kills = harness(environment)
    assert kills["writers"] >= 4
    assert {"grids", "plans", "averages", "full_disks", "failing_calls", "failing_runs"} <= kills.keys()


# --- planted faults ---------------------------------------------------------------------------------------------------

EVERY_SEVENTH = """
import dataclasses, itertools
from epochcast.storage import table_appends
from epochcast.storage.cells import format_rows
append, count = table_appends.append_row, itertools.count(1)
def raw(path, text):  # past the checks of an append
    with path.open("a") as file:
        file.write(text)
def append_row(path, record):
    if next(count) % 7:
        append(path, record)
    else:
        {instead}
table_appends.append_row = append_row
"""
PLANTS = {
    "lost": ("writers", EVERY_SEVENTH.format(instead="pass")),
    "doubled": ("writers", EVERY_SEVENTH.format(instead="append(path, record); raw(path, format_rows([record]))")),
    "torn": ("writers", EVERY_SEVENTH.format(instead="append(path, dataclasses.replace(record, test_acc=0.5))")),
    "torn in two": (
        "writers",
        EVERY_SEVENTH.format(instead="append(path, record); raw(path, format_rows([record])[:60] + chr(10))"),
    ),
    "wrong averages": (
        "averages",
        """
import dataclasses
from epochcast.aggregate.averages import table as agg_table
load_agg = agg_table.load_agg
agg_table.load_agg = lambda *a, **k: (t := load_agg(*a, **k)) and dataclasses.replace(t, rows=t.rows[:-1])
""",
    ),
    "a short grid": (
        "grids",
        """
from epochcast.collect.grid import grid_loop
run_grid = grid_loop.run_grid
grid_loop.run_grid = lambda planned, *values: run_grid(planned[1:], *values)
""",
    ),
    "a budget that forgets": (
        "plans",
        """
from epochcast.planner.execution import ledger
ledger.Ledger.used_sec = property(lambda self: 0.001)
""",
    ),
    "a lossy migration": (
        "migrations",
        """
from epochcast.aggregate import migrate as module
migrate = module.migrate
def lossy(runs, out=None):
    done = migrate(runs, out)
    lines = (out or runs).read_bytes().splitlines(keepends=True)
    (out or runs).write_bytes(b"".join(lines[:-1]))
    return done
module.migrate = lossy
""",
    ),
    "another card": (
        "trainings",
        """
from epochcast.model.time_model.card import markdown_path
from epochcast.model.training import save as module
train = module.train
module.train = lambda rows, path, **values: (train(rows, path, **values), markdown_path(path).write_text("other"))
""",
    ),
}


AT_ONCE = ("lost", "doubled", "torn in two", "wrong averages", "a lossy migration")  # the others take seconds


@pytest.mark.parametrize("plant", [p if p in AT_ONCE else pytest.param(p, marks=pytest.mark.slow) for p in PLANTS])
def test_what_is_planted_is_found(environment, plant):
    kind, code = PLANTS[plant]
    done = run(environment, "-c", BEGIN + code + MAIN, "--kind", kind, "--kills", "5")
    assert done.returncode == 1, done.stdout + done.stderr
    what = {"wrong averages": "wrong", "a budget that forgets": "wrong", "another card": "wrong"}
    expected = what.get(plant, "torn" if plant.startswith("torn") else "doubled" if plant == "doubled" else "lost")
    assert f" x {expected}: " in done.stdout, done.stdout
    assert f"make chaos SEED=0 KIND={kind} NUMBER=" in done.stdout


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda rows: rows, []),
        (lambda rows: rows[1:], ["lost"]),
        (lambda rows: [*rows, rows[0]], ["doubled"]),
        (lambda rows: [*rows[:2], replace(rows[2], git_commit="0")], ["torn"]),
        (lambda rows: [*rows, row_of("stranger", 0)], ["torn"]),
        (lambda rows: [*rows, row_of("new", 3)], []),  # it was being written when its process died
    ],
)
def test_rows_are_held_against_what_was_promised_and_written(change, what):
    written = {f"new-{number}": row_of("new", number) for number in range(4)}
    promised = list(written)[:3]
    found = row_faults(change([written[run_id] for run_id in promised]), promised, written)
    assert [kind for kind, _ in found] == what


# --- injection --------------------------------------------------------------------------------------------------------

INJECT = """
import errno, os
from pathlib import Path
from tests.chaos.injection import FAIL, FULL, KILL, Injection
from tests.chaos.processes import call
folder = Path(sys.argv[1])
(folder / "inside").mkdir()

def write(n_bytes=(10, 10, 10)):
    done = []
    for name in ("inside", "outside"):
        with open(folder / name / "file" if name == "inside" else folder / name, "wb", buffering=0) as file:
            for n in n_bytes:
                try:
                    done.append(file.write(b"x" * n))
                except OSError as error:
                    done.append(errno.errorcode[error.errno])
    return done

inside = folder / "inside"
counted = call(write, Injection(inside))
assert [str(c) for c in counted.calls] == [f"{c} of file" for c in ("open", *["write"] * 3, "close")], counted.calls
assert call(write, Injection(inside, 3, FAIL, errno.EIO)).value == [10, "EIO", 10, 10, 10, 10]
full = call(write, Injection(inside, 3, FULL, errno.ENOSPC))
assert full.value == [10, 5, "ENOSPC", 10, 10, 10], full.value
killed = call(write, Injection(inside, 3, KILL, kept=7))
assert killed.was_killed and (inside / "file").read_bytes() == b"x" * 17

def reserve():  # what is held already can be written on a full disk, and what was removed makes room
    with open(inside / "reserved", "wb", buffering=0) as file, open(inside / "big", "wb", buffering=0) as big:
        os.posix_fallocate(file.fileno(), 0, 100)
        big.write(b"x" * 50)
        done = []
        for place in (file, file, big):
            try:
                done.append(place.write(b"x" * 40))
            except OSError as error:
                done.append(errno.errorcode[error.errno])
        (inside / "reserved").unlink()
        done.append(big.write(b"x" * 40))
    return done

assert call(reserve, Injection(inside, 3, FULL, calls=("write",))).value == [40, 40, "ENOSPC", 40]
"""


def test_the_nth_call_below_the_folder_fails_kills_or_finds_the_disk_full(environment, tmp_path):
    if injection.LIBRARY not in environment:
        pytest.skip(environment[injection.WHY_NOT])
    done = run(environment, "-c", BEGIN + INJECT, str(tmp_path))
    assert done.returncode == 0, done.stderr
