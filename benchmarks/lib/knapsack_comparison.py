"""CPU time and correctness of our knapsack solver and of others, on the same instances in one process.

- `pareto`: planner.plan.knapsack.solve.
- `plain`: the textbook table over every unit of budget, its rows by NumPy, one bit of choice per item and unit.
- `milp`: scipy.optimize.milp (HiGHS) with mip_rel_gap 0 and a time limit.
- `ortools`: the branch and bound of OR-Tools' KnapsackSolver with the same time limit, if that package is installed.
- `one_parent`: a table that keeps only the last item that improved each cell, as the planner this project began with
  did, and stops where an item comes again; by NumPy too. Only on the A100 cases and the two that it gets wrong.

An answer is right if its set, summed again from the instance, fits the budget and is worth as much as the best set that
any solver returned. The tables are complete, so where `plain` runs, right means optimal. CPU time is that of all
threads of the process; our solver uses one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from benchmarks.lib.knapsack_instances import Instance, a100_instances, counterexamples, family_instances
from epochcast.planner.plan.knapsack import solve

PLAIN_CELL_LIMIT = 2_000_000_000  # items x budget; 250 MB of choices
LIMIT_SEC, QUICK_LIMIT_SEC = 5.0, 1.0  # of milp and OR-Tools on one instance
REPEATS = 5
ENOUGH_SEC = 1.0  # no further repeat once a solver has used this much CPU time on one instance
MOST_MB, SLACK_SEC = 1.0, 0.010
BY_ORIGINAL = ("A100", "counterexample")  # groups that `one_parent` is run on


@dataclass(frozen=True, slots=True)
class Answer:
    indices: list[int]
    is_claimed_optimal: bool
    bound: float | None = None  # no set is worth more


@dataclass(frozen=True, slots=True)
class Result:
    """One solver on one instance. `cpu_ratio` is its CPU time over ours."""

    case: str
    group: str
    draw: int
    n_items: int
    budget: int
    solver: str
    n_repeats: int
    cpu_sec_median: float
    cpu_sec_min: float
    cpu_sec_max: float
    cpu_ratio: float
    value: int
    cost: int
    is_claimed_optimal: bool
    is_right: bool
    value_lost_fraction: float
    bound_above_fraction: float | None  # bound over value, less 1
    peak_mb: float | None  # 10^6 bytes, ours on the A100 cases


@dataclass(frozen=True, slots=True)
class Target:
    """What the benchmark should show, and what it showed."""

    what: str
    found: str
    is_reached: bool


def solve_pareto(instance: Instance) -> Answer:
    solution = solve(instance.costs, instance.values, instance.budget)
    return Answer(list(solution.indices), solution.is_proven, solution.bound)


def solve_plain(instance: Instance) -> Answer | None:
    """The textbook programme; None where its table would be too large."""
    if len(instance.costs) * instance.budget > PLAIN_CELL_LIMIT:
        return None
    best = np.zeros(instance.budget + 1, np.int64)
    rows = []
    for cost, value in zip(instance.costs, instance.values, strict=True):
        fits = best[cost:]  # of length 0 where the item costs more than the budget
        with_it = best[: fits.size] + value
        rows.append(np.packbits(with_it > fits))
        np.maximum(fits, with_it, out=fits)
    indices, room = [], instance.budget
    for i in range(len(rows) - 1, -1, -1):
        cell = room - instance.costs[i]
        if cell >= 0 and rows[i][cell // 8] >> (7 - cell % 8) & 1:
            indices.append(i)
            room = cell
    return Answer(indices, True)


def solve_one_parent(instance: Instance) -> Answer | None:
    """The original planner's way: its value is right, its set often not. None where its table would be too large."""
    if len(instance.costs) * instance.budget > PLAIN_CELL_LIMIT or instance.group not in BY_ORIGINAL:
        return None
    best = np.full(instance.budget + 1, -1, np.int64)  # -1: no set costs exactly this much
    best[0] = 0
    last_item = np.full(instance.budget + 1, -1, np.int32)
    for i, (cost, value) in enumerate(zip(instance.costs, instance.values, strict=True)):
        below = best[: best[cost:].size]
        with_it = np.where(below >= 0, below + value, -1)
        is_better = with_it > best[cost:]
        best[cost:][is_better] = with_it[is_better]
        last_item[cost:][is_better] = i
    indices: list[int] = []
    cell = int(best.argmax())
    while cell > 0 and (i := int(last_item[cell])) not in indices:
        indices.append(i)
        cell -= instance.costs[i]
    return Answer(indices, True)


def solve_milp(instance: Instance, limit_sec: float) -> Answer | None:
    """HiGHS; None where it found no set within its time limit."""
    values = np.array(instance.values, dtype=float)
    result = milp(
        -values,
        constraints=LinearConstraint(np.array([instance.costs], dtype=float), ub=instance.budget),
        integrality=np.ones_like(values),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0, "time_limit": limit_sec},
    )
    if result.x is None:
        return None
    return Answer([int(i) for i in np.flatnonzero(result.x > 0.5)], result.status == 0, -result.mip_dual_bound)


@functools.cache
def ortools_module() -> ModuleType | None:
    try:
        return importlib.import_module("ortools.algorithms.python.knapsack_solver")
    except ImportError:
        return None


def solve_ortools(instance: Instance, limit_sec: float) -> Answer | None:
    """OR-Tools; None where it is not installed."""
    if (module := ortools_module()) is None:
        return None
    branch_and_bound = module.SolverType.KNAPSACK_MULTIDIMENSION_BRANCH_AND_BOUND_SOLVER
    solver = module.KnapsackSolver(branch_and_bound, "knapsack")
    solver.set_time_limit(limit_sec)
    solver.init(instance.values, [instance.costs], [instance.budget])
    solver.solve()
    indices = [i for i in range(len(instance.costs)) if solver.best_solution_contains(i)]
    return Answer(indices, bool(solver.is_solution_optimal()))


@contextlib.contextmanager
def _without_stdout() -> Iterator[None]:
    """Drops what compiled code prints: HiGHS lets lines of its own debugging slip through."""
    sys.stdout.flush()
    kept = os.dup(1)
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def measure(instance: Instance, limit_sec: float) -> list[Result]:
    """Run every solver on `instance`. Inside the timed region: the solver's call, its input ready as Python lists."""
    solvers: dict[str, Callable[[Instance], Answer | None]] = {
        "pareto": solve_pareto,
        "plain": solve_plain,
        "milp": functools.partial(solve_milp, limit_sec=limit_sec),
        "ortools": functools.partial(solve_ortools, limit_sec=limit_sec),
        "one_parent": solve_one_parent,
    }
    answers: dict[str, Answer] = {}
    cpu_sec: dict[str, list[float]] = {}
    for name, solver in solvers.items():
        cpu_sec[name] = []
        while len(cpu_sec[name]) < REPEATS and sum(cpu_sec[name]) < ENOUGH_SEC:
            start = time.process_time()
            answer = solver(instance)
            cpu_sec[name].append(time.process_time() - start)
            if answer is None:
                break
            answers[name] = answer
    peak_mb = _peak_mb(instance) if instance.group == "A100" else None
    costs = {name: sum(instance.costs[i] for i in answer.indices) for name, answer in answers.items()}
    values = {name: sum(instance.values[i] for i in answer.indices) for name, answer in answers.items()}
    best = max(values[name] for name in answers if costs[name] <= instance.budget)
    ours = statistics.median(cpu_sec["pareto"])
    return [
        Result(
            case=instance.case,
            group=instance.group,
            draw=instance.draw,
            n_items=len(instance.costs),
            budget=instance.budget,
            solver=name,
            n_repeats=len(cpu_sec[name]),
            cpu_sec_median=statistics.median(cpu_sec[name]),
            cpu_sec_min=min(cpu_sec[name]),
            cpu_sec_max=max(cpu_sec[name]),
            cpu_ratio=statistics.median(cpu_sec[name]) / ours,
            value=values[name],
            cost=costs[name],
            is_claimed_optimal=answer.is_claimed_optimal,
            is_right=costs[name] <= instance.budget and values[name] == best,
            value_lost_fraction=1 - values[name] / best,
            bound_above_fraction=None if answer.bound is None else answer.bound / values[name] - 1,
            peak_mb=peak_mb if name == "pareto" else None,
        )
        for name, answer in answers.items()
    ]


def _peak_mb(instance: Instance) -> float:
    tracemalloc.start()
    try:
        solve_pareto(instance)
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def compare(
    seed: int, is_quick: bool = False, say: Callable[[float], None] = lambda share: None
) -> tuple[list[Result], list[Target]]:
    """Every solver on every instance, and what was to be reached. `say` is told the share that is done."""
    sizes, n_draws, limit_sec = ((100, 500), 1, QUICK_LIMIT_SEC) if is_quick else ((100, 500, 2000), 3, LIMIT_SEC)
    instances = [*a100_instances(), *counterexamples(), *family_instances(seed, sizes, n_draws)]
    measure(instances[0], limit_sec)  # first calls into NumPy and HiGHS import and allocate
    results = []
    for n_done, instance in enumerate(instances, start=1):
        with _without_stdout():
            results += measure(instance, limit_sec)
        say(n_done / len(instances))
    return results, _targets(results)


def _targets(results: list[Result]) -> list[Target]:
    ours = [r for r in results if r.solver == "pareto"]
    milp_cpu_sec = {(r.group, r.case, r.draw): r.cpu_sec_median for r in results if r.solver == "milp"}

    def ahead_of_milp(result: Result) -> float:
        """Seconds by which we are faster; where milp returned nothing, for ever."""
        return milp_cpu_sec.get((result.group, result.case, result.draw), float("inf")) - result.cpu_sec_median

    def all_hold(what: str, among: list[Result], holds: Callable[[Result], bool], more: str = "") -> Target:
        n = sum(map(holds, among))
        return Target(what, f"{n} of {len(among)}{more}", n == len(among) > 0)

    a100 = [r for r in ours if r.group == "A100"]
    small = [r for r in ours if r.group == "10^3"]
    large = [r for r in ours if r.group == "10^6"]
    hard = [r for r in ours if r.group.startswith("hard")]
    peak_mb = max(r.peak_mb for r in a100 if r.peak_mb is not None)
    slowest = min(small, key=ahead_of_milp)
    lead_ms = 1000 * ahead_of_milp(slowest)
    lag = f"; at worst {abs(lead_ms):.3g} ms {'faster' if lead_ms >= 0 else 'slower'} ({slowest.case})"

    def is_proven_or_bounded(result: Result) -> bool:
        return result.is_right and (result.is_claimed_optimal or result.bound_above_fraction is not None)

    def unproven(among: list[Result]) -> str:
        gaps = [r.bound_above_fraction or 0.0 for r in among if not r.is_claimed_optimal]
        return f", {len(among) - len(gaps)} proven" + (f"; widest bound {100 * max(gaps):.2g} %" if gaps else "")

    return [
        all_hold("right on every instance", ours, lambda r: r.is_right),
        all_hold("A100 cases proven", a100, lambda r: r.is_claimed_optimal),
        all_hold("A100 cases no slower than milp", a100, lambda r: ahead_of_milp(r) >= 0),
        Target(f"A100 cases under {MOST_MB:g} MB", f"at most {peak_mb:.2g} MB", peak_mb < MOST_MB),
        all_hold("costs to 10^3: families proven", small, lambda r: r.is_claimed_optimal),
        all_hold(
            f"costs to 10^3: no slower than milp, or by {1000 * SLACK_SEC:g} ms at most",
            small,
            lambda r: ahead_of_milp(r) >= -SLACK_SEC,
            lag,
        ),
        all_hold("costs to 10^6: families proven, or with a bound", large, is_proven_or_bounded, unproven(large)),
        all_hold("harder families: proven, or with a bound", hard, is_proven_or_bounded, unproven(hard)),
    ]
