"""Measured energy of MLPerf trainings, from the power logs and result logs of the reference data."""

from __future__ import annotations

import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import fsum
from pathlib import Path, PurePosixPath
from statistics import fmean

from epochcast.energy.samples import integral, time_weighted_mean
from epochcast.gpus.lookup import find_gpu

Series = tuple[list[float], list[float]]  # seconds, watts
LEAST_COVERAGE = 0.95  # of a run's time by the readings, mean of its nodes
_READING = re.compile(rb'"time_ms": ?(\d+)[^\n]*?"power_reading", ?"value": ?([\d.]+)')
_ESTIMATE = re.compile(rb'"key": ?"interconnect_power_est", ?"value": ?([\d.]+)')
_EDGE = {name: re.compile(rb'"time_ms": ?(\d+)[^\n]*"key": ?"' + name + rb'"') for name in (b"run_start", b"run_stop")}


@dataclass(frozen=True, slots=True)
class PowerRun:
    """One training whose nodes were metered."""

    system: str  # round/submitter/system
    benchmark: str
    is_dc: bool  # metered behind the power supplies; a second reading of a run that is also metered before them
    tdp_w: float  # of one GPU
    gpus: int
    sec: float
    node_j: float  # of all nodes, between start and end of the run
    switch_w: float | None  # of the network's switches, None where no log has them
    coverage: float  # of the time by readings, mean of the nodes; the rest counts at the same mean power

    @property
    def k(self) -> float:
        """Mean node power over the TDP of all GPUs."""
        return self.node_j / (self.tdp_w * self.gpus * self.sec)

    @property
    def k_with_network(self) -> float | None:
        return None if self.switch_w is None else self.k + self.switch_w / (self.tdp_w * self.gpus)


def power_runs(folder: Path) -> list[PowerRun]:
    """Return all metered runs of `power_logs.tar.xz`, with time and board from `training_results.tar.xz`.

    Raises:
        ValueError: if a run has no result log, or its readings cover too little of it.
    """
    logs: dict[PurePosixPath, dict[str, bytes]] = defaultdict(dict)
    for path, content in _files(folder / "power_logs.tar.xz", "/power/"):
        if path.stem.startswith(("node_", "sw_")):
            logs[path.parent][path.stem] = content
    results = dict(_files(folder / "training_results.tar.xz", ""))
    return [_run(run, files, results) for run, files in sorted(logs.items())]


def _files(archive: Path, part: str) -> Iterator[tuple[PurePosixPath, bytes]]:
    """The files of an archive with the folder names of a system whose power was metered."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and part in member.name and re.search("-power/|POWER|SR780aV3-8xB200", member.name):
                file = tar.extractfile(member)
                assert file is not None  # it is a file
                yield PurePosixPath(member.name), file.read()


def _run(run: PurePosixPath, files: dict[str, bytes], results: dict[PurePosixPath, bytes]) -> PowerRun:
    benchmark, system, submitter = run.parents[1], run.parents[2], run.parents[4]
    result = results.get(benchmark / f"{run.name}.txt")
    described = results.get(submitter / "systems" / f"{system.name}.json")
    if result is None or described is None:
        raise ValueError(f"{run}: no result log or no description of its system in training_results.tar.xz")
    start, end = (_edge(run, result, name) for name in (b"run_start", b"run_stop"))
    board = json.loads(described)
    switches = [_switch_w(content) for name, content in files.items() if name.startswith("sw_")]
    nodes = [_mean_w(content, start, end) for name, content in files.items() if name.startswith("node_")]
    coverage = fmean(covered_sec for _, covered_sec in nodes) / (end - start)
    if coverage < LEAST_COVERAGE:
        raise ValueError(f"{run}: readings cover {coverage:.1%} of its time")
    return PowerRun(
        system=f"{submitter}/{system.name}",
        benchmark=benchmark.name,
        is_dc="-dc-" in submitter.name,
        tdp_w=find_gpu(board["accelerator_model_name"]).tdp_w or 0.0,
        gpus=int(board["number_of_nodes"]) * int(board["accelerators_per_node"]),
        sec=end - start,
        node_j=(end - start) * fsum(watts for watts, _ in nodes),
        switch_w=fsum(switches) if switches else None,
        coverage=coverage,
    )


def _edge(run: PurePosixPath, result: bytes, name: bytes) -> float:
    found = _EDGE[name].findall(result)
    if len(found) != 1:
        raise ValueError(f"{run}: {len(found)} lines {name.decode()} in its result log, expected one")
    return int(found[0]) / 1e3


def _mean_w(content: bytes, start: float, end: float) -> tuple[float, float]:
    """A node's mean power between start and end, and the seconds that readings cover."""
    times, watts = _readings(content)
    first, last = max(start, times[0]), min(end, times[-1])
    joules = integral(times, watts, first, last)
    assert joules is not None  # from the first to the last reading at most
    return joules / (last - first), last - first


def _readings(content: bytes) -> Series:
    pairs = [(int(time_ms) / 1e3, float(watts)) for time_ms, watts in _READING.findall(content)]
    pairs.sort(key=lambda pair: pair[0])
    return [time for time, _ in pairs], [watts for _, watts in pairs]


def _switch_w(content: bytes) -> float:
    """The power of a switch: the submitter's estimate, else the mean of its readings."""
    if (estimate := _ESTIMATE.search(content)) is not None:
        return float(estimate[1])
    times, watts = _readings(content)
    return time_weighted_mean(times, watts, times[0])
