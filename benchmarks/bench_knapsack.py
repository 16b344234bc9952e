"""CPU time and correctness of our knapsack solver beside two others, on the same instances in one process.

- `pareto`: planner.knapsack.solve.
- `plain`: the textbook table over every unit of budget, in plain Python, with one row of choices per item.
- `milp`: scipy.optimize.milp (HiGHS) with mip_rel_gap 0 and a time limit.

An answer is right if its set, summed again from the instance, fits the budget and is worth as much as the best set that
any of the three returned. The table is complete, so where `plain` runs, right means optimal.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

if not __package__:  # run by path: import from the checkout, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from epochcast.paths import home, reference_data
from planner.knapsack import budget_milliseconds, solve, to_milliseconds_up

PLAIN_CELL_LIMIT = 80_000_000  # items x budget; about 5 s of plain Python
MILP_LIMIT_SEC = 5.0
REPEATS = 5
ENOUGH_SEC = 1.0  # no further repeat once a solver has used this much CPU time on one instance


@dataclass(frozen=True, slots=True)
class Instance:
    name: str
    costs: list[int]
    values: list[int]
    budget: int


@dataclass(frozen=True, slots=True)
class Answer:
    indices: list[int]
    is_claimed_optimal: bool


@dataclass(frozen=True, slots=True)
class Result:
    """One solver on one instance. `cpu_ratio` is its CPU time over ours."""

    instance: str
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


def a100_instances() -> list[Instance]:
    """50 and 3,000 epochs of the published A100 configurations, worth their accuracy; empty without the table."""
    path = reference_data() / "a100" / "runs_agg.csv"
    if not path.is_file():
        print(f"{path} not found: the A100 instances are left out.", file=sys.stderr)
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    values = [round(float(row["acc_mean"]) * 1e6) for row in rows]

    def costs(epochs: int) -> list[int]:
        return [to_milliseconds_up(epochs * float(row["avg_time_mean"])) for row in rows]

    in_sec = [-(-cost // 1000) for cost in costs(50)]
    return [
        Instance("A100 50 epochs, 3600 s in s", in_sec, values, 3600),
        Instance("A100 50 epochs, 3600 s in ms", costs(50), values, budget_milliseconds(3600)),
        Instance("A100 3000 epochs, 7 d in ms", costs(3000), values, budget_milliseconds(7 * 86_400)),
    ]


def random_instances(seed: int) -> list[Instance]:
    """Weights 1 to 1000, budget half their sum; values that follow the weights not at all, nearly and exactly."""
    instances = []
    for n in (100, 500):
        for family in ("uncorrelated", "weakly correlated", "strongly correlated"):
            rng = random.Random(f"{seed} {n} {family}")
            costs = [rng.randint(1, 1000) for _ in range(n)]
            if family == "uncorrelated":
                values = [rng.randint(1, 1000) for _ in costs]
            elif family == "weakly correlated":
                values = [max(1, cost + rng.randint(-100, 100)) for cost in costs]
            else:
                values = [cost + 100 for cost in costs]
            instances.append(Instance(f"{family}, n={n}", costs, values, sum(costs) // 2))
    return instances


def solve_pareto(instance: Instance) -> Answer:
    solution = solve(instance.costs, instance.values, instance.budget)
    return Answer(list(solution.indices), solution.is_proven)


def solve_plain(instance: Instance) -> Answer | None:
    """The textbook programme; None where it would take too long."""
    n, budget = len(instance.costs), instance.budget
    if n * budget > PLAIN_CELL_LIMIT:
        return None
    best = [0] * (budget + 1)
    takes = []
    for cost, value in zip(instance.costs, instance.values, strict=True):
        take = bytearray(budget + 1)
        for b in range(budget, cost - 1, -1):
            candidate = best[b - cost] + value
            if candidate > best[b]:
                best[b] = candidate
                take[b] = 1
        takes.append(take)
    indices, room = [], budget
    for i in range(n - 1, -1, -1):
        if takes[i][room]:
            indices.append(i)
            room -= instance.costs[i]
    return Answer(indices, True)


def solve_milp(instance: Instance) -> Answer | None:
    """HiGHS; None where it found no set within its time limit."""
    values = np.array(instance.values, dtype=float)
    result = milp(
        -values,
        constraints=LinearConstraint(np.array([instance.costs], dtype=float), ub=instance.budget),
        integrality=np.ones_like(values),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0, "time_limit": MILP_LIMIT_SEC},
    )
    if result.x is None:
        return None
    return Answer([int(i) for i in np.flatnonzero(result.x > 0.5)], result.status == 0)


SOLVERS: dict[str, Callable[[Instance], Answer | None]] = {
    "pareto": solve_pareto,
    "plain": solve_plain,
    "milp": solve_milp,
}


def measure(instance: Instance) -> list[Result]:
    """Run every solver on `instance`. Inside the timed region: the solver's call, its input ready as Python lists."""
    answers: dict[str, Answer] = {}
    cpu_sec: dict[str, list[float]] = {}
    for name, solver in SOLVERS.items():
        cpu_sec[name] = []
        while len(cpu_sec[name]) < REPEATS and sum(cpu_sec[name]) < ENOUGH_SEC:
            start = time.process_time()
            answer = solver(instance)
            cpu_sec[name].append(time.process_time() - start)
            if answer is None:
                break
            answers[name] = answer
    costs = {name: sum(instance.costs[i] for i in answer.indices) for name, answer in answers.items()}
    values = {name: sum(instance.values[i] for i in answer.indices) for name, answer in answers.items()}
    best = max(values[name] for name in answers if costs[name] <= instance.budget)
    ours = statistics.median(cpu_sec["pareto"])
    return [
        Result(
            instance=instance.name,
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
        )
        for name, answer in answers.items()
    ]


def print_table(results: list[Result]) -> None:
    print(f"{'instance':<30} {'solver':<7} {'n':>2} {'CPU ms':>9} {'x ours':>8}  {'set':<5} claims")
    for result in results:
        print(
            f"{result.instance:<30} {result.solver:<7} {result.n_repeats:>2} {1000 * result.cpu_sec_median:>9.3g} "
            f"{result.cpu_ratio:>8.3g}  {'right' if result.is_right else 'WRONG':<5} "
            f"{'optimal' if result.is_claimed_optimal else 'not proven'}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare our knapsack solver with plain Python and scipy's milp.")
    default_out = home() / "results" / "benchmarks" / "knapsack.json"
    parser.add_argument("--out", type=Path, default=default_out, help="JSON file to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random instances (default: %(default)s)")
    args = parser.parse_args(argv)

    instances = a100_instances() + random_instances(args.seed)
    solve_pareto(instances[0])  # warm-up: first calls into NumPy and HiGHS import and allocate
    solve_milp(instances[0])
    results = []
    for done, instance in enumerate(instances, start=1):
        results += measure(instance)
        print(f"{done}/{len(instances)} {instance.name}", file=sys.stderr)
    print_table(results)
    answered = {(result.instance, result.solver) for result in results}
    for instance in instances:
        for name in SOLVERS:
            if (instance.name, name) not in answered:
                print(f"no answer: {name} on {instance.name} (table or time limit)")

    report = {
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "scipy": version("scipy"),
        "machine": platform.machine(),
        "n_cpu": os.cpu_count(),
        "load_avg_1min": os.getloadavg()[0],
        "seed": args.seed,
        "milp_limit_sec": MILP_LIMIT_SEC,
        "plain_cell_limit": PLAIN_CELL_LIMIT,
        "results": [asdict(result) for result in results],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written: {args.out.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
