"""The flags of `dp_budget_planner`, and the request that they make."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict

from epochcast.cli import (
    add_config_flags,
    add_filter_flag,
    add_json_flag,
    add_plot_flag,
    add_table_flags,
    config_lists,
    configs_of,
    make_parser,
)
from epochcast.flag_types import (
    duration_sec,
    figure_path,
    fraction,
    memory_size,
    not_negative_float,
    not_negative_sec,
    params_int,
    path_of,
    positive_float,
    positive_int,
    positive_sec,
    repeats_int,
)
from epochcast.footprint.flags import add_footprint_flags, given_flags, rules_of
from epochcast.output.text import listed
from epochcast.paths import plans_dir
from epochcast.planner.costs.budget import KGCO2, KWH, SECONDS, USD, Budget
from epochcast.planner.costs.candidates import CostRules
from epochcast.planner.costs.values import VALUES, values_help
from epochcast.planner.costs.wishes import Wishes
from epochcast.planner.request.request import DEFAULT_CONFIDENCE, MAX_CANDIDATES, Request
from epochcast.schema import AXES, AXIS_NAMES, DEFAULT_CONFIG, RunConfig, RunSpec

DEFAULT_EPOCHS = 50
_ENERGY_FLAGS = {"--host_w", "--board_w", "--pue", "--energy_formula"}
USED_FLAGS: dict[str, set[str]] = {  # flags of the footprint that say something to a budget in this unit
    SECONDS.name: set(),
    KWH.name: _ENERGY_FLAGS,
    USD.name: _ENERGY_FLAGS | {"--region", "--usd_per_kwh"},
    KGCO2.name: _ENERGY_FLAGS | {"--region", "--gco2_per_kwh", "--embodied"},
}


def _first_epoch(text: str) -> str | float:
    return text if text in ("measured", "none") else positive_sec(text)


def _at_least_two(text: str) -> int:
    value = positive_int(text)
    if value < 2:
        raise argparse.ArgumentTypeError("expected at least 2 epochs: the first is untimed")
    return value


def _confidence(text: str) -> float:
    value = fraction(text)
    if not 0.5 <= value <= 0.999:
        raise argparse.ArgumentTypeError(f"expected a share between 0.5 (no margin) and 0.999, got {text}")
    return value


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags of a command line; end with an error where they contradict each other."""
    parser = make_parser(
        "dp_budget_planner",
        "Choose the runs worth most that fit into a budget of time, energy, money or CO2, exactly; start-up and first "
        "epochs are priced.",
        "dp_budget_planner --budget 1h --epochs 50 --confidence 0.95 --front --out results/plans/hour.json",
    )
    _add_budget(parser.add_mutually_exclusive_group(required=True))
    _add_runs(parser.add_argument_group("what may be run"))
    _add_goal(parser.add_argument_group("what for"))
    _add_costs(parser.add_argument_group("what it costs"))
    add_footprint_flags(
        parser.add_argument_group("what energy costs (budgets of energy, money or CO2)"),
        {
            "region": "one place",
            "usd_per_gpu_hour": "rent of a GPU: a budget of USD is then one of rent; default: of electricity",
            "embodied": "the CO2e of making the GPU counts in a budget of CO2 as well",
        },
    )
    _add_outputs(parser.add_argument_group("output"))
    arguments = parser.parse_args(argv)
    if problem := _contradiction(arguments):
        parser.error(problem)
    return arguments


def _add_budget(budget: argparse._ActionsContainer) -> None:
    budget.add_argument("--budget_sec", type=positive_sec, metavar="SEC", help="wall seconds that the runs may take")
    budget.add_argument("--budget", type=duration_sec, metavar="TIME", help="the same as 90s, 15m or 1h30m")
    budget.add_argument("--budget_kwh", type=positive_float, metavar="KWH", help="energy at the wall, instead of time")
    budget.add_argument(
        "--budget_usd",
        type=positive_float,
        metavar="USD",
        help="rent where --usd_per_gpu_hour says what an hour costs, else electricity",
    )
    budget.add_argument("--budget_kgco2", type=positive_float, metavar="KG", help="CO2e of the electricity")


def _add_runs(runs: argparse._ActionsContainer) -> None:
    runs.add_argument("--epochs", type=_at_least_two, default=DEFAULT_EPOCHS, help="epochs of every run, at least 2")
    runs.add_argument("--repeats", type=repeats_int, default=1, help="runs of every configuration: all of them or none")
    runs.add_argument(
        "--candidates", type=path_of, metavar="PATH", help="CSV or JSON of configurations; default: what was measured"
    )
    defaults = asdict(DEFAULT_CONFIG)
    texts = {
        axis.name: f"of the candidates, e.g. {axis.example}; {defaults[axis.name]} where only other lists are named"
        for axis in AXES
    }
    add_config_flags(runs, as_lists=AXIS_NAMES, defaults={}, texts=texts)
    for name, what in (("must", "runs that have to be in"), ("exclude", "runs that may not be in")):
        add_filter_flag(runs, f"--{name}", f"{what}, e.g. depth=3,base_filters=32")
    runs.add_argument("--exclude_measured", action="store_true", help="only what was never measured")
    runs.add_argument("--min_acc", type=fraction, metavar="ACC", help="leave out runs below this test accuracy")
    runs.add_argument("--max_params", type=params_int, metavar="N", help="leave out larger networks")
    runs.add_argument(
        "--device_memory",
        type=memory_size,
        metavar="SIZE",
        help="leave out what will not fit into this by the estimate, e.g. 80GB; default: as the rows or this box tell",
    )
    runs.add_argument("--include_diverged", action="store_true", help="also what learned nothing when it was measured")


def _add_goal(goal: argparse._ActionsContainer) -> None:
    goal.add_argument(
        "--value",
        choices=tuple(VALUES),
        help=f"{values_help()}; default: acc if all are measured, else count",
    )
    goal.add_argument(
        "--confidence",
        type=_confidence,
        metavar="SHARE",
        help=f"share of such plans that keep the budget; 0.5: no margin; default: {DEFAULT_CONFIDENCE}",
    )
    goal.add_argument(
        "--common_sd",
        type=not_negative_float,
        metavar="SD",
        help="relative spread of a factor common to all runs, e.g. 0.02 where days differ by 2 %%; default: as "
        "replayed plans had it (docs/method.md)",
    )


def _add_costs(cost: argparse._ActionsContainer) -> None:
    cost.add_argument(
        "--time_source", choices=("measured", "pred"), help="default: measured where it was, else predicted"
    )
    cost.add_argument(
        "--overhead_sec", type=not_negative_sec, metavar="SEC", help="of a run, outside epochs; default: measured"
    )
    cost.add_argument(
        "--first_epoch",
        type=_first_epoch,
        default="measured",
        metavar="measured|none|SEC",
        help="what the first epoch costs: as measured, none: as any other, or that many seconds",
    )
    add_table_flags(cost, is_optional=True)
    cost.add_argument(
        "--model", type=path_of, metavar="PATH", help="time model that predicts what was not measured; default: chosen"
    )


def _add_outputs(out: argparse._ActionsContainer) -> None:
    add_json_flag(out, "print one JSON object, the runs under chosen")
    out.add_argument(
        "--out", type=path_of, metavar="PATH", help="write the plan as JSON: what epochcast run_plan takes"
    )
    out.add_argument("--csv", type=path_of, metavar="PATH", help="write the runs as a table")
    out.add_argument("--sh", type=path_of, metavar="PATH", help="write the commands of the runs, a shell script")
    out.add_argument(
        "--optuna", type=path_of, metavar="PATH", help="write the runs as trials for Optuna's enqueue_trial"
    )
    add_plot_flag(out, "the plan along the clock")
    out.add_argument(
        "--front",
        type=figure_path,
        nargs="?",
        const=plans_dir() / "front.png",
        metavar="PATH",
        help="print and draw what a larger budget would buy; default: results/plans/front.png",
    )


def _contradiction(arguments: argparse.Namespace) -> str | None:
    """Return why flags that are right by themselves can't be meant together; None if they can."""
    if arguments.out is not None and arguments.out.suffix != ".json":
        return f"--out {arguments.out}: the name must end in .json"
    named = [getattr(arguments, name) for name in ("out", "csv", "sh", "optuna", "plot", "front")]
    paths = [path.absolute() for path in named if path is not None]
    if len(set(paths)) < len(paths):
        return "two outputs have the same name: each needs a file of its own"
    are_named = any(getattr(arguments, name) for name in AXIS_NAMES)
    if arguments.candidates is not None and are_named:
        return f"--candidates names the configurations: leave {listed([f'--{name}' for name in AXIS_NAMES])} out"
    if arguments.exclude_measured and arguments.time_source == "measured":
        return "--exclude_measured leaves nothing whose time is measured: leave --time_source out"
    return _idle_footprint(arguments)


def _budget(arguments: argparse.Namespace) -> Budget:
    for unit in (KWH, USD, KGCO2):
        if (amount := getattr(arguments, f"budget_{unit.key}")) is not None:
            return Budget(amount, unit)
    return Budget(arguments.budget_sec or arguments.budget)


def _idle_footprint(arguments: argparse.Namespace) -> str | None:
    """Return which flags of the footprint say nothing to this budget, as an error; None if all do."""
    unit = _budget(arguments).unit
    used = USED_FLAGS[unit.name]
    if unit == USD and arguments.usd_per_gpu_hour is not None:
        used = {"--usd_per_gpu_hour"}
    if idle := [flag for flag in given_flags(arguments) if flag not in used]:
        of_what = "rent" if used == {"--usd_per_gpu_hour"} else "seconds" if unit == SECONDS else unit.word
        return f"{', '.join(idle)}: of no use to a budget of {of_what}; leave out, or name another budget"
    if len({region.code for region in arguments.region or ()}) > 1:
        return "--region: a plan is for one place"
    return None


def _configs(arguments: argparse.Namespace) -> tuple[list[RunConfig] | None, list[str]]:
    """The candidates that a user names, None where the measured ones are meant; notes."""
    if arguments.candidates is not None:
        from epochcast.collect.grid.config_lists import read_specs  # the measuring of runs comes with it

        specs = read_specs(arguments.candidates, RunSpec())
        says_more = any(spec != RunSpec(**asdict(spec.config)) for spec in specs)
        notes = [f"of {arguments.candidates} only {', '.join(AXIS_NAMES)} are used"] if says_more else []
        configs = list(dict.fromkeys(spec.config for spec in specs))
        if n_again := len(specs) - len(configs):
            notes.append(f"{n_again} of {len(specs)} rows of {arguments.candidates} repeat a configuration: taken once")
        return configs, notes
    if not any(getattr(arguments, name) for name in AXIS_NAMES):
        return None, []
    if (n := math.prod(map(len, config_lists(arguments)))) > MAX_CANDIDATES:
        raise ValueError(f"{n:,} candidates: at most {MAX_CANDIDATES:,} are taken. Shorten a list.")
    return configs_of(arguments), []


def request_of(arguments: argparse.Namespace) -> Request:
    """Return the request that flags make."""
    configs, notes = _configs(arguments)
    return Request(
        budget=_budget(arguments),
        rules=CostRules(arguments.epochs, arguments.overhead_sec, arguments.first_epoch, arguments.repeats),
        value=None if arguments.value is None else VALUES[arguments.value],
        wishes=Wishes(
            must=arguments.must,
            exclude=arguments.exclude,
            exclude_measured=arguments.exclude_measured,
            min_acc=arguments.min_acc,
            max_params=arguments.max_params,
            include_diverged=arguments.include_diverged,
        ),
        confidence=arguments.confidence,
        common_sd=arguments.common_sd,
        time_source=arguments.time_source,
        configs=configs,
        notes=notes,
        runs_agg=arguments.runs_agg,
        model=arguments.model,
        conditions=[arguments.conditions],
        is_frozen=arguments.frozen,
        device_memory_bytes=arguments.device_memory,
        footprint=rules_of(arguments),
    )
