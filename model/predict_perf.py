"""`predict_perf`: seconds per epoch, throughput and a run's wall time, each with its 90 % interval."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epochcast.cli import (
    add_json_flag,
    filter_of,
    int_list,
    make_parser,
    positive_int,
    print_answer,
    print_home,
    run_command,
    significant,
    table_text,
)
from epochcast.environment import box_device_name
from epochcast.interval import Interval
from epochcast.schema import DEFAULT_CONFIG, AggRow, Conditions, RunConfig
from model.card import error_text, half_width_text
from model.energy import EnergyModel
from model.intervals import BEYOND, WITHIN
from model.measured import measured_rows
from model.predictor import Choice, choose_model
from workload.memory import MemoryModel
from workload.shape import count_params

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FORM_NOTES = {"physics": " (physics alone)", "transferred": " (started from another device's)"}
MOST_EPOCHS = 10**9


def _with_bounds(name: str, interval: Interval | None) -> dict[str, float | None]:
    """A value and the ends of its interval, under three names."""
    found = interval or Interval(float("nan"))
    return {
        name: None if interval is None else interval.value,
        f"{name}_low": found.low,
        f"{name}_high": found.high,
    }


def _memory_of(config: RunConfig, memory: MemoryModel) -> dict[str, Any]:
    peak = memory.peak(config)
    return {
        "peak_memory_gib": peak.value / 2**30,
        "peak_memory_lo_gib": peak.low / 2**30,
        "peak_memory_hi_gib": peak.high / 2**30,
        "peak_memory_basis": peak.basis,
    }


def _energy_of(config: RunConfig, steady: Interval, energy: EnergyModel) -> dict[str, Any]:
    known = energy.per_epoch(config, steady)
    return {
        "board_energy_j_per_epoch": None if known is None else known.joules.value,
        "board_energy_lo_j": None if known is None else known.joules.low,
        "board_energy_hi_j": None if known is None else known.joules.high,
        "board_energy_basis": None if known is None else known.basis,
    }


def predict(
    config: RunConfig, choice: Choice, epochs: int | None = None, rows: Sequence[AggRow] = ()
) -> dict[str, Any]:
    """The whole answer for one configuration: predictions with intervals, the model and why it answers, its range.

    `rows` are what was measured on this box: those under the model's conditions tell of memory and energy.
    """
    saved = choice.model
    forecast = saved.forecast(config, epochs)
    run = {
        "epochs": epochs,
        **_with_bounds("first_epoch_sec", forecast.run.first_epoch),
        **_with_bounds("overhead_sec", forecast.run.overhead),
        **_with_bounds("training_sec", forecast.run.training),
        **_with_bounds("wall_sec", forecast.run.wall),
    }
    return {
        **asdict(config),
        "params": count_params(config.depth, config.base_filters),
        "steps_per_epoch": config.steps_per_epoch(saved.train_n),
        **_with_bounds("predicted_avg_time_sec", forecast.steady),
        **_with_bounds("predicted_images_per_sec_derived", forecast.steady.inverse(saved.train_n)),
        **(run if epochs is not None else {}),
        **_memory_of(config, MemoryModel.of(saved.conditions, rows)),
        **_energy_of(config, forecast.steady, EnergyModel.of(saved.conditions, rows)),
        "coverage": saved.card["intervals"]["coverage"],
        "in_range": forecast.place == WITHIN,
        "place": forecast.place,
        "outside": forecast.outside,
        "half_width_log": saved.widths.of(forecast.place),
        "form": saved.card["form"],
        "device": saved.device_name,
        "this_box": box_device_name(),
        "model": str(saved.path),
        "answered_because": choice.reason,
        "conditions": asdict(saved.conditions),
        "declared_conditions": saved.card.get("declared", []),
        "error": saved.card["errors"],
    }


def range_words(answer: Mapping[str, Any]) -> str:
    """Whether a configuration was within the measured range, and what its interval is worth."""
    if answer["place"] == WITHIN:
        return f"yes, {half_width_text(answer['half_width_log'])}"
    return f"no: {extrapolation_words(answer)}"


def extrapolation_words(answer: Mapping[str, Any]) -> str:
    """What was never measured, and what the interval is worth there."""
    outside = ", ".join(answer["outside"])
    if answer["place"] == BEYOND:
        return f"{outside}: extrapolating, {half_width_text(answer['half_width_log'])}"
    return f"{outside}: extrapolating further than any check reaches, interval unknown"


def _lines(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer for people: intervals beside their values, nested parts in words."""
    device = answer["device"] or "an unknown device"
    form = FORM_NOTES.get(answer["form"], "")
    nested = {
        "in_range": range_words(answer),
        "device": device if device == answer["this_box"] else f"{device} (NOT this box: {answer['this_box']})",
        "model": answer["model"] + form,
        "conditions": Conditions(**answer["conditions"]).describe(),
        "error": error_text(answer["error"]),
    }
    left_out = {"this_box", "outside", "declared_conditions", "coverage", "place", "half_width_log", "form"}
    left_out |= {"peak_memory_hi_gib", "board_energy_hi_j"}
    if answer["board_energy_basis"] is None:  # no row measured energy: nothing to say
        left_out |= {"board_energy_j_per_epoch", "board_energy_lo_j", "board_energy_basis"}
    lines: dict[str, Any] = {}
    for name, value in answer.items():
        if name.endswith(("_low", "_high")) or name in left_out:
            continue
        if name == "peak_memory_lo_gib":
            lines["peak_memory_band_gib"] = _band_text(answer, "peak_memory_lo_gib", "peak_memory_hi_gib")
            continue
        if name == "board_energy_lo_j":
            lines["board_energy_band_j"] = _band_text(answer, "board_energy_lo_j", "board_energy_hi_j")
            continue
        lines[name] = nested.get(name, value)
        if f"{name}_low" in answer:
            lines[f"{name}_90"] = _bounds_text(answer, name) if value is not None else None
    return lines


def _bounds_text(answer: Mapping[str, Any], name: str) -> str:
    return _band_text(answer, f"{name}_low", f"{name}_high")


def _band_text(answer: Mapping[str, Any], low_name: str, high_name: str) -> str:
    low, high = answer[low_name], answer[high_name]
    return "unknown" if low is None or high is None else f"{significant(low)} to {significant(high)}"


def answer_table(answers: Sequence[Mapping[str, Any]]) -> str:
    """Several batch sizes as a table: each value with its interval."""
    has_runs = "wall_sec" in answers[0]
    header = ["batch_size", "steps", "s/epoch", "90 %", "images/s", "90 %"]
    header += ["first epoch s", f"wall s, {answers[0]['epochs']} epochs", "90 %"] if has_runs else []
    header += ["peak GiB", "band"]
    has_energy = any(answer["board_energy_j_per_epoch"] is not None for answer in answers)
    header += ["board J/epoch", "band"] if has_energy else []
    rows = []
    for answer in answers:
        time, rate = answer["predicted_avg_time_sec"], answer["predicted_images_per_sec_derived"]
        row: list[Any] = [answer["batch_size"], answer["steps_per_epoch"]]
        row += [time, _bounds_text(answer, "predicted_avg_time_sec")]
        row += [rate, _bounds_text(answer, "predicted_images_per_sec_derived")]
        if has_runs:
            row += [answer["first_epoch_sec"], answer["wall_sec"], _bounds_text(answer, "wall_sec")]
        row += [answer["peak_memory_gib"], _band_text(answer, "peak_memory_lo_gib", "peak_memory_hi_gib")]
        if has_energy:
            row += [answer["board_energy_j_per_epoch"], _band_text(answer, "board_energy_lo_j", "board_energy_hi_j")]
        rows.append([*row, "" if answer["in_range"] else "extrapolated"])
    return table_text([*header, ""], rows)


def draw_batches(answers: Sequence[Mapping[str, Any]]) -> Figure:
    """Seconds per epoch and images per second over batch size, with their 90 % intervals."""
    from matplotlib.ticker import NullLocator

    from aggregate.figures import COLOURS, new_figure, plain_ticks

    answers = sorted(answers, key=lambda answer: int(answer["batch_size"]))
    figure, axes = new_figure(7.2, 4.6)
    right = axes.twinx()
    right.grid(False)
    batches = [float(a["batch_size"]) for a in answers]
    for on, name, colour, label in (
        (axes, "predicted_avg_time_sec", COLOURS[0], "time (s/epoch)"),
        (right, "predicted_images_per_sec_derived", COLOURS[3], "throughput (images/s)"),
    ):
        on.plot(batches, [a[name] for a in answers], "o-", color=colour, markersize=4)
        known = [a for a in answers if a[f"{name}_low"] is not None]
        x = [float(a["batch_size"]) for a in known]
        on.fill_between(
            x, [a[f"{name}_low"] for a in known], [a[f"{name}_high"] for a in known], color=colour, alpha=0.2
        )
        on.set_ylabel(label, color=colour)
        on.set_ylim(bottom=0)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("batch size (images)")
    plain_ticks(axes, x=batches)
    axes.xaxis.set_minor_locator(NullLocator())
    first = answers[0]
    axes.set_title(
        f"Depth {first['depth']}, {first['base_filters']} base filters, predicted with 90 % intervals\n"
        f"{first['device'] or 'an unknown device'}",
        fontsize=11,
    )
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "predict_perf",
        "Predict seconds per epoch and images per second of one CIFAR-10 CNN, from measured runs, with 90 % intervals.",
        "predict_perf --batch_size 128:1024:x2 --epochs 50 --plot batches.png",
    )
    help_of = {"depth": "blocks", "base_filters": "filters of the first block"}
    for name, text in help_of.items():
        parser.add_argument(f"--{name}", type=positive_int, default=getattr(DEFAULT_CONFIG, name), help=text)
    parser.add_argument(
        "--batch_size",
        type=int_list,
        default=[DEFAULT_CONFIG.batch_size],
        metavar="LIST",
        help="images per step; several, e.g. 64,128 or 64:1024:x2, give a table",
    )
    parser.add_argument("--epochs", type=positive_int, help="also predict a whole run of so many epochs")
    parser.add_argument("--params", type=positive_int, help="number of parameters, checked against the closed form")
    parser.add_argument("--model", type=Path, metavar="PATH", help="a saved .keras time model; default: chosen")
    parser.add_argument(
        "--conditions",
        type=filter_of,
        default={},
        metavar="NAME=VALUE[,...]",
        help="take only a model that was learned under these, e.g. precision=mixed_float16",
    )
    parser.add_argument("--plot", type=Path, metavar="PATH", help="a .png or .svg of time and throughput to write")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)
    if arguments.epochs is not None and arguments.epochs > MOST_EPOCHS:
        parser.error(f"--epochs: at most {MOST_EPOCHS:,}")
    if arguments.plot is not None and arguments.plot.suffix not in (".png", ".svg"):
        parser.error(f"--plot {arguments.plot}: the name must end in .png or .svg")

    def work() -> int:
        print_home()
        configs = [RunConfig(arguments.depth, arguments.base_filters, b) for b in arguments.batch_size]
        params = count_params(arguments.depth, arguments.base_filters)
        if arguments.params not in (None, params):
            raise ValueError(
                f"--params {arguments.params}: depth {arguments.depth} with {arguments.base_filters} base filters has "
                f"{params} parameters. Leave --params out, or correct depth and base_filters."
            )
        choice = choose_model(configs, arguments.model, wanted=arguments.conditions)
        rows = measured_rows()
        answers = [predict(config, choice, arguments.epochs, rows) for config in configs]
        if arguments.plot is not None:
            from aggregate.figures import save_figure_as

            save_figure_as(draw_batches(answers), arguments.plot)
        _print(answers, arguments.json)
        if arguments.plot is not None and not arguments.json:
            print(f"plot: {arguments.plot.absolute()}")
        return 0

    return run_command(work)


def _print(answers: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """One answer as lines, several as a table; or JSON: one object, `predictions` in it where there are several."""
    if as_json:
        print(json.dumps(answers[0] if len(answers) == 1 else {"predictions": answers}, allow_nan=False))
        return
    if len(answers) == 1:
        print_answer(_lines(answers[0]), False)
        return
    first = _lines(answers[0])
    print_answer({name: first[name] for name in ("depth", "base_filters", "params")}, False)
    print(answer_table(answers))
    for answer in answers:
        if not answer["in_range"]:
            print(f"extrapolated: {extrapolation_words(answer)}")
    shared = ("peak_memory_basis", "device", "model", "answered_because", "conditions", "error")
    print_answer({name: first[name] for name in shared}, False)
