"""`make run`: a small grid measured on this box, averages, figures, a time model, a prediction and a plan, in one go.

It stands in the last stage because it calls all of them; each is the code that its own command runs.
"""

from __future__ import annotations

import itertools
import math
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from epochcast.aggregate.averages.averaging import Aggregation, report_lines
from epochcast.aggregate.averages.source import write_agg
from epochcast.aggregate.figures import draw_figures
from epochcast.aggregate.migrate import migrate
from epochcast.cli import make_parser, print_home, run_command
from epochcast.collect.grid.grid_loop import GridOptions, Limits, run_grid
from epochcast.collect.grid.host_now import HostNow
from epochcast.collect.grid.result import GridResult
from epochcast.collect.grid.specs import PlannedRun, grid_runs
from epochcast.collect.grid.wall_estimate import WallEstimate
from epochcast.collect.run.device_lock import WAITING, Sharing
from epochcast.collect.run.flags import add_sharing_flags, output_printer, sharing_of
from epochcast.collect.run.listener import Listener
from epochcast.collect.run.place import RunPlace
from epochcast.facts.assumptions import assumption
from epochcast.guard import EXIT_FAILED, EXIT_INTERRUPTED, say
from epochcast.interval import coverage_text
from epochcast.machine.gpu_driver import device_of
from epochcast.model.answers.prediction import Prediction, predict
from epochcast.model.evaluation.evaluation import evaluate
from epochcast.model.evaluation.figures import NAMES
from epochcast.model.evaluation.report import ErrorTable
from epochcast.model.time_model.card_text import half_width_text
from epochcast.model.time_model.physics import MIN_ROWS
from epochcast.model.time_model.saved_model import Choice, load_model
from epochcast.model.training.save import train
from epochcast.output.text import clock, percent, significant, table_text
from epochcast.paths import command_text, demo_dir, failures_csv
from epochcast.planner.costs.budget import Budget
from epochcast.planner.costs.candidates import CostRules
from epochcast.planner.plan.plan import Plan
from epochcast.planner.request.plan_budget import plan_budget
from epochcast.planner.request.request import Request
from epochcast.schema import Exclusion, RunConfig, RunRecord, RunSpec
from epochcast.storage.files import write_json_atomically
from epochcast.storage.tables import read_table_if_any

GRID = {"depth": (2, 3), "base_filters": (8, 16), "batch_size": (64, 128, 256)}
WINDOWS = 5  # the first is not timed
WINDOW_STEPS = 15
NEW_CONFIG = RunConfig(3, 16, 192)  # not in the grid
PLAN_SEC = 600.0
PLAN_EPOCHS = 5
TIMEOUT_SEC = 300.0
MOST_TIMES = 2.0  # what is promised at the start


def demo_specs(device: str = "auto") -> list[RunSpec]:
    """The grid of the demonstration: step windows instead of whole epochs, so that a CPU is done in minutes."""
    return [
        RunSpec(**asdict(RunConfig(*values)), epochs=WINDOWS, window_steps=WINDOW_STEPS, device=device)
        for values in itertools.product(*GRID.values())
    ]


def start_over(folder: Path) -> Path | None:
    """Move an earlier demonstration aside (never delete it); the folder it is in now, None if there was none."""
    if not folder.exists():
        return None
    aside = folder.with_name(f"{folder.name}-until-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    while aside.exists():  # shutil.move would put it inside
        aside = aside.with_name(f"{aside.name}-again")
    shutil.move(folder, aside)
    return aside


def expected_sec(folder: Path, device: str = "auto") -> tuple[float, HostNow]:
    """Seconds that the whole demonstration will take, and the host that they were estimated on.

    Assumed rates are of a quiet host: what other programs take now is counted in. Rows that this box has measured tell
    of it as it is.
    """
    rows = read_table_if_any(folder / "runs.csv", RunRecord)
    measured = {row.run_id for row in rows}
    estimate, host = WallEstimate(rows, {device}), HostNow.look()
    slowdown = host.slowdown if device_of(device).kind == "cpu" and estimate.n_runs == 0 else 1.0
    waiting = [item for item in _planned(device) if item.run_id not in measured]
    runs_sec = slowdown * sum(estimate.expected_sec(item.spec) for item in waiting)
    return runs_sec + host.slowdown * learn_sec(), host


def learn_sec() -> float:
    """Return the seconds that everything after measuring takes on a quiet host; no GPU takes part in it."""
    return assumption("learn_sec", "cpu").value


def _planned(device: str) -> list[PlannedRun]:
    no_exclusions: dict[str, Exclusion] = {}
    return grid_runs(demo_specs(device), 1, no_exclusions)


def measure(
    folder: Path,
    device: str = "auto",
    sharing: Sharing = WAITING,
    end_after_sec: float | None = None,
    child: Sequence[str] | None = None,
) -> GridResult:
    """Measure what of the grid is not measured yet; after `end_after_sec` nothing goes on.

    Raises:
        ValueError, OSError: if this box can't measure, or the table can't be written.
    """
    runs = folder / "runs.csv"
    if runs.exists():  # perhaps of an earlier version: the rows stay, and the demonstration goes on
        migrate(runs)
    return run_grid(
        _planned(device),
        RunPlace(runs, folder / "logs", child=None if child is None else tuple(child), sharing=sharing),
        GridOptions(limits=Limits(TIMEOUT_SEC, end_sec=math.inf if end_after_sec is None else end_after_sec)),
        Listener(report=lambda line: print(line, flush=True), output=output_printer()),
    )


def measure_in_time(
    folder: Path, device: str, sharing: Sharing, say: Callable[[str], None], child: Sequence[str] | None = None
) -> GridResult:
    """Say how long all will take, and measure so that it is done in MOST_TIMES that at most."""
    start = time.monotonic()
    about_sec, host = expected_sec(folder, device)
    most_sec = MOST_TIMES * about_sec
    say(f"about {clock(about_sec)} in all, at most {clock(most_sec)}; {host}")
    end_after_sec = most_sec - host.slowdown * learn_sec() - (time.monotonic() - start)
    waited = replace(sharing, wait_sec=min(sharing.wait_sec, end_after_sec))
    return measure(folder, device, waited, end_after_sec, child)


def learn_and_plan(folder: Path) -> list[str]:
    """Everything after measuring; the closing screen, line by line.

    Raises:
        ValueError: if too few runs were measured to learn from, or under different conditions.
    """
    runs_agg = folder / "runs_agg.csv"
    aggregation = write_agg(folder / "runs.csv", runs_agg)
    if (n_sets := len({row.conditions for row in aggregation.rows})) > 1:
        raise ValueError(
            f"{folder / 'runs.csv'} mixes {n_sets} sets of conditions: this box has changed since the first runs. "
            "Start over (the old results are kept): make run FRESH=1"
        )
    print("\n".join(report_lines(aggregation)), flush=True)
    figures, _ = draw_figures(aggregation.rows, folder / "figures")
    print("training the time model and checking it on configurations it has not seen ...", flush=True)
    model_path = folder / "models" / "demo.keras"
    train(aggregation.rows, model_path)
    evaluation, report_files = evaluate(aggregation.rows, [], folder / "evaluation", table=str(runs_agg))
    saved = load_model(model_path)
    prediction = predict(NEW_CONFIG, Choice(saved, "just trained"))
    answer = plan_budget(Request(Budget(PLAN_SEC), CostRules(PLAN_EPOCHS), runs_agg=runs_agg, time_source="measured"))
    plan = answer.plan
    write_json_atomically(folder / "plan.json", answer.to_json())
    files = [folder / "runs.csv", runs_agg, figures[0].parent, model_path, *report_files[:1], folder / "plan.json"]
    n_flagged = sum(bool(row.flags) for row in read_table_if_any(folder / "runs.csv", RunRecord))
    return closing_screen(aggregation, evaluation.errors, prediction, plan, [*files, folder / "logs"], n_flagged)


def closing_screen(
    aggregation: Aggregation,
    report: ErrorTable,
    prediction: Prediction,
    plan: Plan,
    files: Sequence[Path],
    n_flagged: int = 0,
) -> list[str]:
    """What was measured on what, the model's error, the prediction, the plan, and where every file is.

    `n_flagged` counts runs as the grid's last line does: those that bear any flag.
    """
    rows = aggregation.rows
    conditions = rows[0].conditions
    fastest, slowest = (pick(rows, key=lambda row: row.avg_time_mean) for pick in (min, max))
    images = "synthetic images (no real ones found)" if conditions.dataset == "synthetic" else "real CIFAR-10 images"
    errors = []
    for name, found in report.models.items():
        mape = found.time_sec.mape
        spread = "" if mape.std is None else f" ± {percent(mape.std)}"
        answered = f"{found.n_answered} of {report.n}"
        errors.append([NAMES[name], "-" if mape.mean is None else f"{percent(mape.mean)}{spread}", answered])
    better = _better_baseline(report)
    chosen = sorted(plan.chosen, key=lambda c: c.config)
    model = shlex.quote(str(prediction.saved.path))
    averages, plan_path = (shlex.quote(str(path.absolute())) for path in (files[1], files[-2]))
    return [
        "",
        f"=== Epochcast on {conditions.device_name} ===",
        f"measured    {aggregation.n_used} runs of {len(rows)} configurations, {conditions.backend} "
        f"{conditions.backend_version}, {conditions.precision}, {images}",
        f"            windows of {conditions.window_steps} steps, extrapolated to {conditions.train_n:,} images/epoch",
        f"            fastest {fastest.config} {significant(fastest.avg_time_mean)} s/epoch, "
        f"slowest {slowest.config} {significant(slowest.avg_time_mean)} s/epoch",
        *(
            []
            if not n_flagged
            else [f"            {n_flagged} runs flagged, as something disturbed them: expect larger errors"]
        ),
        f"error       mean absolute relative error on unseen configurations, {report.split}, "
        f"{report.repeats} repeat{'' if report.repeats == 1 else 's'}:",
        *(f"            {line}" for line in table_text(["", "MAPE", "answered"], errors).splitlines()),
        *([] if better is None else [f"            {better} than the model: {report.n} configurations are few"]),
        f"prediction  {prediction.config}, never measured: {significant(prediction.times.steady.value)} s/epoch "
        f"({coverage_text(prediction.saved.coverage)} interval {half_width_text(prediction.half_width_log)}), "
        f"{significant(prediction.images_per_sec.value)} images/s",
        f"plan        {clock(PLAN_SEC)}: {len(chosen)} runs of {PLAN_EPOCHS} epochs in {clock(plan.total_sec)}, "
        f"{'proven optimal' if plan.is_proven else 'not proven optimal'} for {plan.value.goal}:",
        f"            {' '.join(str(c.config) for c in chosen)}",
        *(f"{'files' if i == 0 else '':11} {path.absolute()}" for i, path in enumerate(files)),
        f"next        {command_text('predict')} --model {model} {' '.join(RunConfig(2, 12, 100).flags)}",
        f"            {command_text('plan')} --budget 30m --epochs 10 --runs_agg {averages}",
        f"            {command_text('run_plan')} {plan_path} --replan",
    ]


def _better_baseline(report: ErrorTable) -> str | None:
    """The baseline that answered for every configuration with less error than the model, in words."""
    errors = {
        name: mape
        for name, model in report.models.items()
        if model.n_answered == report.n and (mape := model.time_sec.mape.mean) is not None
    }
    best = min(errors, key=lambda name: errors[name])
    return None if best == report.form else f"{NAMES[best]} predicts better"


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("epochcast demo", (__doc__ or "").partition("\n")[0], "make run FRESH=1")
    parser.add_argument("--fresh", action="store_true", help="start over; what was measured before is moved aside")
    parser.add_argument("--device", default="auto", help="auto, cpu, gpu, gpu:N or a GPU's UUID")
    add_sharing_flags(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        print_home()
        folder = demo_dir()
        if arguments.fresh and (aside := start_over(folder)) is not None:
            print(f"moved the earlier results to {aside}", flush=True)
        result = measure_in_time(folder, arguments.device, sharing_of(arguments), lambda line: print(line, flush=True))
        if result.was_interrupted:
            return EXIT_INTERRUPTED
        if result.is_out_of_time and (n := len(read_table_if_any(folder / "runs.csv", RunRecord))) < MIN_ROWS:
            say(f"error: {n} runs done in the time promised, {MIN_ROWS} are needed: `make run` goes on from here")
            return EXIT_FAILED
        print("\n".join(learn_and_plan(folder)), flush=True)
        # what was ended for want of time is begun anew by a second call
        failed = [each for each in result.failures if not (result.is_out_of_time and each.status == "timeout")]
        if failed:
            print(f"{len(failed)} runs failed: see {failures_csv(folder / 'runs.csv')}", flush=True)
            return EXIT_FAILED
        return 0

    return run_command(work, outlives_readers=True)
