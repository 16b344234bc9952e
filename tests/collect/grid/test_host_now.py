"""What the host does at this moment, and how much longer a program takes on it."""

from __future__ import annotations

import os

import pytest

from epochcast.collect.grid import host_now
from epochcast.collect.grid.host_now import MOST_SLOWDOWN, HostNow
from epochcast.machine.host.host import cpu_count
from tests.support.machines.made_up_host import others_use


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_a_look_finds_what_other_programs_use(share, monkeypatch):
    monkeypatch.setattr(host_now, "LOOK_SEC", 0.3)
    others_use(share * cpu_count(), monkeypatch)
    host = HostNow.look()
    assert host.others == pytest.approx(share * host.cores, abs=0.1)
    assert host.is_busy("cpu") == (share > 0.1)
    assert host.is_busy("gpu") == (share > 0.5)


@pytest.mark.parametrize(
    ("others", "load_avg", "slowdown"),
    [
        (None, 50.0, 1.0),
        (0.1, 50.0, 1.0),  # a quiet moment after busy minutes
        (1.0, 50.0, 1.5),  # a core is free: nothing waits
        (2.0, None, 2.0),
        (2.0, 0.0, 2.0),
    ],
)
def test_a_program_that_asks_for_all_cores_gets_its_share_of_them(others, load_avg, slowdown):
    assert HostNow(others, 2, load_avg).slowdown == pytest.approx(slowdown)


def test_where_all_cores_are_taken_what_waits_counts_too():
    cores = os.cpu_count()
    assert HostNow(2.0, 2, 3.0 * cores).slowdown == pytest.approx(4.0)
    assert HostNow(2.0, 2, 300.0 * cores).slowdown == MOST_SLOWDOWN
