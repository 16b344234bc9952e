"""What is claimed of plans: they keep their budget, hold their value, teach the time model, and gain by re-planning.

Parts of benchmarks/claims.py. All on the reference A100 table, with costs predicted by models that have not seen the
configuration; what a run "took" is its measured overhead + first epoch + (epochs - 1) x steady time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.claim_parts.claim import RANDOM, Claim
from benchmarks.claim_parts.plan_figures import DAYS, HOWS, Learned, draw_info, draw_plans, draw_simulated
from benchmarks.lib.knapsack_comparison import compare
from benchmarks.lib.reference_table import steady_rows
from benchmarks.lib.replay import (
    COMMON_SDS,
    CONFIDENCES,
    EPOCHS,
    SUMS,
    Case,
    Replayed,
    Shares,
    by_band,
    calibrated,
    grouped,
    oracle_value,
    replay,
    replayed,
    took_sec,
    unseen_costs,
)
from epochcast.collect.grid.specs import PlannedRun, spec_under
from epochcast.facts.assumptions import assumption
from epochcast.interval import Interval
from epochcast.model.time_model.physics import MIN_ROWS
from epochcast.model.time_model.time_model import Table
from epochcast.model.training.cross_validation import REPEATS, cross_validate, forms_for
from epochcast.model.training.recipes import PHYSICS_ANN, fit_time_models
from epochcast.model.training.splits import fold_masks
from epochcast.output.progress import progress
from epochcast.planner.costs.budget import Budget
from epochcast.planner.costs.candidates import Candidate, CostRules
from epochcast.planner.costs.make_candidates import make_candidates
from epochcast.planner.costs.values import VALUES
from epochcast.planner.costs.wishes import Wishes, select
from epochcast.planner.execution.schedule import Actual, Schedule
from epochcast.planner.plan.make_plan import make_plan
from epochcast.planner.plan.margin import NO_MARGIN, Margin
from epochcast.planner.plan.plan import NOTHING_KNOWN, Plan
from epochcast.planner.plan.plan_file import PlanRun, SavedPlan
from epochcast.schema import Conditions, RunConfig

BUDGETS = range(300, 7201, 150)
FEWER_BUDGETS = range(300, 7201, 300)  # for calibrating
SHIPPED = assumption("plan_common_sd", "gpu").value
SPLITS = 3  # of the configurations into halves, one calibrated on and one planned with


def plans() -> list[Claim]:
    """Share of plans that end within their budget, and share of the oracle's value, costs predicted by models that have
    not seen the configuration; epochs 3, 10, 50, values acc, thr, count, 5 repeats of the folds. A binding plan leaves
    something out."""
    claims = [_naive()]
    by_margin: dict[str, list[Case]] = {}
    for confidence in (0.5, *CONFIDENCES):
        margin = Margin.of_confidence(confidence, SHIPPED) if confidence > 0.5 else NO_MARGIN
        words = f"confidence {confidence:g}" if confidence > 0.5 else "without margin"
        by_margin[words] = cases = replay(margin, BUDGETS)
        if len(by_margin) == 1:
            claims.append(_distinct(cases))
        claims += _shares_of_all(words, cases, is_claimed=confidence == CONFIDENCES[-1])
        claims += _shares_of_binding(words, cases)
    smallest = calibrated(FEWER_BUDGETS, repeats=range(REPEATS))
    what = f"smallest common factor of {', '.join(f'{c:g}' for c in COMMON_SDS)} with which all bands keep as promised"
    claims.append(Claim(what, f"{smallest:g}", f"{SHIPPED:g}, as shipped", smallest == SHIPPED))
    draw_plans(by_margin)
    return [*claims, *_held_out_halves()]


def _distinct(cases: Sequence[Case]) -> Claim:
    outcomes: dict[object, set[bool]] = defaultdict(set)
    for c in cases:
        outcomes[c.epochs, c.value, c.budget_sec].add(c.is_kept)
    alike = 100 * float(np.mean([len(own) == 1 for own in outcomes.values()]))
    found = (
        f"{len(outcomes)} of n = {len(cases)}: in {alike:.0f} % of them all {REPEATS} repeats of the folds end alike"
    )
    return Claim("without margin: distinct cases of (epochs, value, budget)", found)


def _shares_of_all(words: str, cases: Sequence[Case], is_claimed: bool) -> list[Claim]:
    """Of all plans, those that take every candidate among them."""
    worst = 100 * max(c.took_sec / c.budget_sec - 1 for c in cases)
    shares = Shares.of(cases)
    found = f"{shares.kept:.1f} %, {shares.value:.1f} %, {worst:+.1f} % (n = {shares.n})"
    claims = [Claim(f"{words}: kept, value, worst overrun", found)]
    for (low, high), own in by_band(cases).items():
        reached = own.kept >= 95 and own.value >= 95 if is_claimed else None
        target = ">= 95 %, >= 95 %" if is_claimed else ""
        claims.append(Claim(f"{words}: budgets of {low} to {high} s: kept, value", str(own), target, reached))
    return [*claims, _worst_cell(words, cases)]


def _shares_of_binding(words: str, cases: Sequence[Case]) -> list[Claim]:
    """Of the plans that leave something out: one that takes every candidate is hard to get wrong."""
    binding = [c for c in cases if c.is_binding]
    shares = Shares.of(binding)
    found = f"{shares} (n = {shares.n}, {len(cases) - shares.n} not binding)"
    claims = [Claim(f"{words}, binding: kept, value", found)]
    for (low, high), own in by_band(binding).items():
        what = f"{words}, binding: budgets of {low} to {high} s: kept, value"
        claims.append(Claim(what, f"{own} (n = {own.n})"))
    return [*claims, _worst_cell(f"{words}, binding", binding)]


def _worst_cell(words: str, cases: Sequence[Case]) -> Claim:
    cells = {cell: Shares.of(own) for cell, own in grouped(cases, lambda c: (c.epochs, c.value, c.band)).items()}
    (epochs, value, (low, high)), own = min(cells.items(), key=lambda pair: (pair[1].kept, -pair[1].n))
    found = f"{epochs} epochs, {value}, {low} to {high} s: {own.kept:.1f} % (n = {own.n})"
    return Claim(f"{words}: worst of {len(cells)} cells (epochs, value, budgets), kept", found)


def _naive() -> Claim:
    """Plans by epochs x time, as if runs had no start-up."""
    ratios: dict[int, list[float]] = {}
    for epochs in EPOCHS:
        for value in SUMS:
            runs = replayed(0, epochs, value)
            nothing = Interval(0.0)
            bare = [replace(r.candidate, overhead=nothing, first_epoch=r.candidate.steady) for r in runs]
            for budget in BUDGETS:
                ratios.setdefault(epochs, []).append(
                    took_sec(make_plan(bare, Budget(budget), VALUES[value]), runs) / budget
                )
    means = ", ".join(f"x {np.mean(own):.1f}" for own in ratios.values())
    longest = max(max(own) for own in ratios.values())
    return Claim(
        f"epochs x time alone: overrun at {', '.join(map(str, EPOCHS))} epochs", f"{means}; at most x {longest:.1f}"
    )


def _held_out_halves() -> list[Claim]:
    """The common factor calibrated on half of the configurations, judged by plans of the other half."""
    n = len(unseen_costs()[0])
    halves = fold_masks(n, 2, SPLITS, 0)
    found: dict[float, list[Case]] = {confidence: [] for confidence in CONFIDENCES}
    chosen = []
    for mask in halves:
        own, other = tuple(np.flatnonzero(mask).tolist()), tuple(np.flatnonzero(~mask).tolist())
        common = calibrated(FEWER_BUDGETS, own)
        chosen.append(common)
        for confidence in CONFIDENCES:
            found[confidence] += replay(Margin.of_confidence(confidence, common), FEWER_BUDGETS, [0], other)
    claims = [Claim(f"common factor calibrated on halves ({len(halves)})", ", ".join(f"{c:g}" for c in chosen))]
    for confidence, cases in found.items():
        words = f"confidence {confidence:g}, plans of the other half"
        shares, binding = Shares.of(cases), Shares.of([c for c in cases if c.is_binding])
        text = f"{shares} (n = {shares.n}); binding {binding} (n = {binding.n})"
        claims.append(Claim(f"{words}: kept, value", text))
        bound = by_band(c for c in cases if c.is_binding)
        for (low, high), own_shares in by_band(cases).items():
            text = f"{own_shares} (n = {own_shares.n}); binding {bound[low, high]} (n = {bound[low, high].n})"
            claims.append(Claim(f"{words}: budgets of {low} to {high} s: kept, value", text))
    return claims


# --- the exact search -------------------------------------------------------------------------------------------------


def knapsack() -> list[Claim]:
    """The exact search beside a plain table, HiGHS and, if installed, OR-Tools; `make bench` shows each instance."""
    results, targets = compare(seed=0, say=progress("knapsack"))
    claims = [Claim(target.what, target.found, "yes", target.is_reached) for target in targets]
    for group in dict.fromkeys(result.group for result in results):
        ratios = [r.cpu_ratio for r in results if r.group == group and r.solver == "milp"]
        if ratios:
            median, least = float(np.median(ratios)), min(ratios)
            what = f"{group}: CPU time of milp over ours, median, least"
            claims.append(Claim(what, f"x {median:.1f}, x {least:.1f} (n = {len(ratios)})"))
    return claims


# --- what a plan teaches ----------------------------------------------------------------------------------------------

INFO_BUDGETS = (300, 600, 1200)
INFO_EPOCHS = 3
RANDOM_PLANS = 30


def info() -> list[Claim]:
    """Error of the time model on the configurations that were not in a plan, trained on the plan's runs (3 epochs each,
    measured costs), beside 30 random plans that fill the same budget and beside sums of accuracy and of throughput."""
    rows = steady_rows()
    table = Table.of(rows)
    candidates = make_candidates(rows, None, CostRules(INFO_EPOCHS)).candidates
    costs = np.array([c.total_sec for c in candidates])
    claims = []
    learned: dict[int, Learned] = {}
    for budget in INFO_BUDGETS:
        learned[budget] = errors = {}
        for value in ("info", "acc", "thr"):
            _, valued, _ = select(candidates, VALUES[value], Wishes(include_diverged=True))
            plan = make_plan(valued, Budget(budget), VALUES[value])
            errors[value] = [_error_after(table, [c.config for c in plan.chosen])]
        errors["random"] = []
        for seed in range(RANDOM_PLANS):
            chosen: list[int] = []
            for k in RANDOM(seed).permutation(len(candidates)).tolist():
                if costs[[*chosen, k]].sum() <= budget:
                    chosen.append(k)
            errors["random"].append(_error_after(table, [candidates[k].config for k in chosen]))
        drawn = [error for error, _ in errors["random"]]
        median, p90 = float(np.median(drawn)), float(np.quantile(drawn, 0.9, method="higher"))
        own, n = errors["info"][0]
        claims.append(
            Claim(f"info, {budget} s: error on the rest", f"{own:.2f} % ({n} runs)", f"< {median:.2f} %", own < median)
        )
        lacking = sum(not np.isfinite(error) for error in drawn)
        sizes = f"{np.median([size for _, size in errors['random']]):.0f} runs"
        too_few = f"; {lacking} too few rows for a model" if lacking else ""
        claims.append(
            Claim(
                f"{RANDOM_PLANS} random plans, {budget} s: median, p90",
                f"{median:.2f} %, {p90:.2f} % ({sizes}{too_few})",
            )
        )
        for value in ("acc", "thr"):
            error, n = errors[value][0]
            claims.append(Claim(f"sum of {value}, {budget} s: error on the rest", f"{error:.2f} % ({n} runs)"))
    draw_info(learned, INFO_EPOCHS)
    return claims


def _error_after(table: Table, configs: Sequence[RunConfig]) -> tuple[float, int]:
    """Percent of error on all other rows after training on these, by the recipe that ships; infinite with too few."""
    is_in = np.array([config in set(configs) for config in table.configs])
    if is_in.sum() < MIN_ROWS:
        return float("inf"), int(is_in.sum())
    own, rest = table.take(is_in), table.take(~is_in)
    forms = forms_for(PHYSICS_ANN, len(own))
    validation = cross_validate(own, forms, repeats=1) if len(forms) > 1 else None
    form = forms[0] if validation is None else min(forms, key=validation.mape)
    (model,) = fit_time_models(form, table, is_in[None], 0)
    return float(100 * np.abs(model.times(rest.configs) / rest.seconds - 1).mean()), int(is_in.sum())


# --- carried out ------------------------------------------------------------------------------------------------------

SIMULATED_PLANS = 200
SIMULATED_BUDGETS = (600, 3600)
SLOW_DAY = 1.10  # all that a run takes, on the day of every second plan
RUN_SD = {part: assumption(f"repeat_sd_{part}", "gpu").value for part in ("overhead", "first_epoch", "steady")}


def simulated() -> list[Claim]:
    """200 plans at 90 % carried out by the code of `epochcast run_plan` in replayed time: runs as measured, noise as
    between repeats, every second plan on a day that is 10 % slower; without and with re-planning on the same times."""
    kept: dict[str, list[bool]] = defaultdict(list)
    worth: dict[str, list[float]] = defaultdict(list)
    for number in range(SIMULATED_PLANS):
        random = RANDOM(number)
        repeat, epochs = int(random.integers(REPEATS)), int(random.choice(EPOCHS))
        value, budget = str(random.choice(SUMS)), int(random.integers(*SIMULATED_BUDGETS))
        day = SLOW_DAY if number % 2 else 1.0
        runs = []
        for r in replayed(repeat, epochs, value):
            noise = {part: day * float(np.exp(random.normal(0, sd))) for part, sd in RUN_SD.items()}
            actual = Actual(*(getattr(r.actual, part) * factor for part, factor in noise.items()))
            runs.append(Replayed(r.candidate, actual))
        best = oracle_value(runs, budget, value)
        plan = make_plan([r.candidate for r in runs], Budget(budget), VALUES[value], Margin.of_confidence(0.9, SHIPPED))
        kind = DAYS[number % 2]
        for how in HOWS:
            used, done = _carried_out(plan, runs, how)
            for group in (kind, "all"):
                kept[f"{group}, {how}"].append(used <= budget)
                worth[f"{group}, {how}"].append(100 * done / best)
    claims = []
    for name in kept:
        share, mean = 100 * float(np.mean(kept[name])), float(np.mean(worth[name]))
        is_claimed = name == "all, planned again"
        claims.append(
            Claim(
                f"{name}: budget kept, value of the oracle's",
                f"{share:.1f} %, {mean:.1f} % (n = {len(kept[name])})",
                ">= 90 % kept" if is_claimed else "",
                share >= 90 if is_claimed else None,
            )
        )
    for group in (*DAYS, "all"):
        gains = np.array(worth[f"{group}, planned again"]) - np.array(worth[f"{group}, watched"])
        half = 1.96 * gains.std(ddof=1) / np.sqrt(len(gains))
        low, high = gains.mean() - half, gains.mean() + half
        found = f"{gains.mean():+.2f} % of the oracle's value ({low:+.2f} to {high:+.2f})"
        is_claimed = group == "all"
        claims.append(
            Claim(
                f"{group}: gain of re-planning, 95 % interval",
                found,
                "> 0" if is_claimed else "",
                bool(low > 0) if is_claimed else None,
            )
        )
    draw_simulated(kept, worth)
    return claims


def _carried_out(plan: Plan, runs: Sequence[Replayed], how: str) -> tuple[float, float]:
    """Seconds used and value of the runs done."""
    took = {r.candidate.config: r for r in runs}
    if how == "not watched":
        return took_sec(plan, runs), plan.value_dp
    conditions = Conditions()

    def planned(candidates: Sequence[Candidate]) -> list[PlanRun]:
        specs = [spec_under(c.config, c.epochs, conditions) for c in candidates]
        return [PlanRun(PlannedRun(s, str(c.config)), c, False) for s, c in zip(specs, candidates, strict=True)]

    saved = SavedPlan(
        path=Path("simulated"),
        plan_id="simulated",
        budget=plan.budget,
        value=plan.value,
        margin=plan.margin,
        chosen=planned(plan.chosen),
        excluded=planned(plan.excluded),
        knowledge=NOTHING_KNOWN,
        conditions=conditions,
    )
    schedule = Schedule(saved, replans=how == "planned again")
    used = 0.0
    while (run := schedule.next_run(plan.budget.amount - used)) is not None:
        replay_of = took[run.candidate.config]
        used += replay_of.actual_sec
        schedule.finish(run, replay_of.actual)
    return used, sum(run.candidate.value for run, _ in schedule.finished)
