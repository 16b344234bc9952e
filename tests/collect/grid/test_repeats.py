"""Which disturbed runs a grid measures once more: where that may help, no more than half, and it says why not."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from epochcast.collect.grid import host_now
from epochcast.collect.grid.grid_loop import Limits
from epochcast.collect.grid.host_now import HostNow
from epochcast.collect.grid.repeats import Repeats, most_repeats
from epochcast.collect.grid.specs import PlannedRun
from epochcast.machine.host.host import cpu_count
from epochcast.schema import Conditions
from tests.collect.test_run_grid import CALM, STALLED, bench  # noqa: F401  # a fixture
from tests.support.light_child import light_spec
from tests.support.machines.made_up_host import others_use
from tests.support.rows import run_row

CPU, GPU = "AMD EPYC 9B14 (2 cores)", "NVIDIA H200"
QUIET, BUSY = HostNow(0.0, 2), HostNow(1.4, 2)


def grid_of(*flags, device=CPU, hosts=(QUIET,), forced=False, n_before=0, n_planned=None):
    """What is measured once more of runs that bear these flags, and what is said."""
    said, looks = [], list(hosts)
    repeats = Repeats(
        n_planned or len(flags), n_before, forced, said.append, lambda: looks.pop(0) if len(looks) > 1 else looks[0]
    )
    row = replace(run_row(), device_name=device)
    for number, own in enumerate(flags):
        repeats.saw(PlannedRun(light_spec(seed=number), f"r{number}"), replace(row, flags=own, n_stalled=None))
    chosen = []
    while (run := repeats.next()) is not None:
        chosen.append(run.run_id.removesuffix("-again"))
    return chosen, said, repeats.closing_line()


@pytest.mark.parametrize("flags", [("busy_host",), ("stalled",), ("unstable", "busy_host"), ("trend",), ("warmup",)])
def test_on_a_busy_host_nothing_is_measured_again_and_one_line_says_why_and_what_forces_it(flags):
    chosen, said, line = grid_of(flags, flags, (), (), hosts=[BUSY])
    assert (chosen, said) == ([], [])
    assert line == (
        "not measured again: 2 flagged runs (other programs use 1.4 of 2 cores now, which would disturb them again); "
        "--again measures them all the same"
    )


@pytest.mark.parametrize(("others", "device", "n"), [(0.19, CPU, 1), (0.21, CPU, 0), (0.9, GPU, 1), (1.1, GPU, 0)])
def test_how_busy_is_too_busy_depends_on_what_is_measured(others, device, n):
    assert len(grid_of(("stalled",), (), (), device=device, hosts=[HostNow(others, 2)])[0]) == n


def test_where_nothing_is_known_of_the_host_a_repeat_is_tried():
    assert grid_of(("stalled",), (), hosts=[HostNow(None, 2)])[0] == ["r0"]


def test_runs_that_the_host_disturbed_are_measured_again_once_it_is_quiet_though_it_disturbed_all():
    chosen, said, line = grid_of(*[("busy_host",)] * 4)
    assert chosen == ["r0", "r1"]
    assert said == ["2 runs (busy_host 2) once more, as something disturbed them; other programs use 0 of 2 cores now"]
    assert "2 flagged runs (more than half of the grid)" in line


def test_a_flag_that_nearly_all_runs_bear_is_how_this_box_is():
    chosen, _, line = grid_of(*[("throttled",)] * 3, ())
    assert chosen == []
    assert "3 flagged runs (throttled in 3 of 4 runs, so not by an accident)" in line
    assert grid_of(*[("throttled",)] * 2, (), ())[0] == ["r0", "r1"]
    assert grid_of(*[("throttled",)] * 3, ("throttled", "stalled"))[0] == ["r3"]  # one has a cause of its own


@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 24])
def test_no_more_than_half_of_a_grid_is_measured_again_by_all_calls_together(n):
    assert most_repeats(n) == max(1, n // 2)
    for n_before in range(n + 1):
        chosen, _, line = grid_of(*[("busy_host",)] * (n - n_before), *[()] * n_before, n_before=n_before)
        assert len(chosen) == min(n - n_before, max(0, most_repeats(n) - n_before))
        assert (line is None) == (len(chosen) == n - n_before)


def test_runs_whose_rows_enter_no_mean_come_first():
    assert grid_of(("stalled",), ("unstable",), (), ())[0] == ["r1", "r0"]


def test_a_host_that_becomes_busy_meanwhile_ends_it():
    chosen, _, line = grid_of(("stalled",), ("stalled",), ("trend",), *[()] * 5, hosts=[QUIET, QUIET, BUSY])
    assert chosen == ["r0", "r1"]
    assert "1 flagged run (other programs use 1.4 of 2 cores now" in line


def test_all_are_measured_again_where_that_is_asked_for_whatever_the_host_does():
    chosen, said, line = grid_of(*[("busy_host",)] * 3, forced=True, hosts=[BUSY])
    assert chosen == ["r0", "r1", "r2"]
    assert line is None
    assert said == ["3 runs (busy_host 3) once more, as --again asks for"]


def test_a_clean_grid_looks_at_no_host_and_says_nothing():
    assert grid_of((), ("short",), ("diverged",), hosts=[]) == ([], [], None)


# --- the grid itself, its host made up --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def short_looks(monkeypatch):
    monkeypatch.setattr(host_now, "LOOK_SEC", 0.25)


def test_a_grid_on_a_busy_host_ends_when_its_runs_are_done_and_goes_on_when_the_host_is_quiet(bench, monkeypatch):  # noqa: F811
    others_use(0.7 * cpu_count(), monkeypatch)
    sizes = (16, 32, 64, 128)
    bench.measure("16=times,32=times,64=ok,128=ok", STALLED, batch_sizes=sizes, repeats_flagged=True)
    assert len(bench.started) == 4
    assert "(up to " in bench.said[0]
    places = [line.partition("]")[0] for line in bench.said if line.startswith("[")]
    assert places == ["[1/4", "[2/4", "[3/4", "[4/4"]
    assert re.match(r"not measured again: 2 flagged runs \(other programs use \S+ of \S+ cores now, ", bench.said[-2])
    assert re.match(r"4 of 4 runs measured in .*, 2 flagged \(stalled 2\)", bench.said[-1])
    others_use(0.0, monkeypatch)  # the same command later
    bench.said.clear()
    bench.measure("times", CALM, batch_sizes=sizes, repeats_flagged=True)
    assert "nothing left to measure but 2 flagged, once more where that may help" in bench.said[0]
    assert [line.partition("]")[0] for line in bench.said if line.startswith("[")] == ["[again 1/2", "[again 2/2"]
    assert sorted(bench.started[4:]) == [16, 32]
    bench.said.clear()
    bench.measure("times", CALM, batch_sizes=sizes, repeats_flagged=True)
    assert bench.said[0].endswith("nothing left to measure")
    assert len(bench.started) == 6


def test_no_more_than_half_are_repeated_however_often_the_grid_is_called(bench):  # noqa: F811
    sizes = (16, 32, 64, 128)
    behaviour = ("16=times,32=times,64=paced,128=paced", STALLED)
    rows = bench.measure(*behaviour[:1], STALLED, batch_sizes=(16, 32), repeats_flagged=False).measured
    assert [row.flags for row in rows] == [("stalled",)] * 2
    for _ in range(2):
        bench.measure("times", STALLED, batch_sizes=(16, 32), repeats_flagged=True)
    assert len(bench.rows) == 3  # half of two
    bench.measure("times", STALLED, batch_sizes=(16, 32), forces_again=True)
    assert len(bench.rows) == 4
    assert sizes[:2] == tuple(sorted({row.batch_size for row in bench.rows}))


def test_what_is_not_expected_to_be_done_in_time_is_not_begun_and_what_is_late_is_ended(bench):  # noqa: F811
    bench.measure("ok", limits=Limits(end_sec=2.0))  # 9 s are expected of each
    assert bench.started == []
    assert "the time is up: the same command goes on from here" in bench.said[-1]
    bench.measure("ok", batch_sizes=(16,))  # 0.1 s: that is what is expected from now on
    result = bench.measure("hang", batch_sizes=(32, 64), limits=Limits(end_sec=2.0))
    assert [failure.status for failure in result.failures] == ["timeout"]
    assert result.is_out_of_time


def test_conditions_are_not_needed_to_choose():
    assert Conditions().device_name is None  # a device without a name counts as a GPU
    assert len(grid_of(("stalled",), (), device=None, hosts=[HostNow(0.9, 2)])[0]) == 1
