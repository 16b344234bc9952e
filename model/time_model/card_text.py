"""A time model's card for people: lines of a screen, and a Markdown page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from epochcast.interval import coverage_digits, coverage_text
from epochcast.model.time_model.intervals import Widths, more_for_a_range
from epochcast.model.time_model.monotonicity import N_TIMES
from epochcast.model.time_model.physics import GATE
from epochcast.output.text import percent, significant, table_text
from epochcast.schema import Conditions
from epochcast.text_sinks import markdown_text, yaml_text

Json = Mapping[str, Any]  # Any: a card or a part of it, as `model.time_model.card.read_card` checks it
FORM_WORDS = {
    "physics_ann": "A sum of physical terms, non-negative and fitted to relative error, and an ensemble of small SiLU "
    "networks for what it leaves over of log time.",
    "transferred": "A sum of physical terms whose coefficients started from those of another device's model; its "
    "network, if any, is that one's.",
    "physics": "A sum of physical terms, non-negative and fitted to relative error; no network (its `.keras` file is a "
    "zero).",
    "reference_ann": "One ReLU network on log time, by the recipe that this project started from; for comparison.",
}


def error_text(errors: Json) -> str:
    """Return cross-validated errors as a line."""
    if errors["mape"] is None:
        return "unknown: one configuration has nothing to be judged on"
    return (
        f"MAPE {percent(errors['mape'])}, 90th percentile {percent(errors['p90_ape'])}, MAE "
        f"{significant(errors['mae'])} s ({errors['split']}, n = {errors['n']})"
    )


def half_width_text(half_log: float | None) -> str:
    """Return a half-width in natural logs as people read it."""
    return "unknown" if half_log is None else f"±{percent(math.expm1(half_log))}"


def excess_words(readings: Mapping[str, str] | None, median: float, n: int) -> str:
    """Return the first epoch's excess in words: by its law's readings, else the median of n rows."""
    words = [words for words in (readings or {}).values() if words != "none"]
    return " + ".join(words) or _median_words(median, n)


def order_warning(violations: int) -> str | None:
    """Return the warning of a model by which bigger networks are sometimes faster, None without such times."""
    if not violations:
        return None
    return f"{violations} predicted times fall where depth or filters grow: measure more, or more evenly"


def card_lines(card: Json) -> list[str]:
    """Return the lines of a screen: what a model learned from and how well it predicts."""
    intervals = card["intervals"]
    ranges = ", ".join(f"{name} {low} to {high}" for name, (low, high) in card["range"].items())
    return [
        f"learned_from: {card['n_configurations']} configurations, {card['n_runs']} runs; {ranges}",
        f"conditions: {Conditions(**card['conditions']).describe()}",
        f"form: {card['form']}" + (f" ({card['reason']})" if card["reason"] else ""),
        *([f"left_out_as_disturbed: {_configs_text(card['disturbed'], ' ')}"] if card["disturbed"] else []),
        f"plain_law: {'; '.join(w for w in card['plain_law']['readings'].values() if w != 'none')}",
        f"error: {error_text(card['errors'])}",
        *([f"warning: {words}"] if (words := order_warning(card["order_violations"])) else []),
        f"interval_{coverage_digits(intervals['coverage'])}: within the range "
        f"{half_width_text(intervals['within'])}, one step beyond it "
        f"{half_width_text(intervals['beyond'])}{_more_text(intervals)}",
    ]


def markdown(card: Json, name: str) -> str:
    """Return the page: front matter, purpose, origin, form, errors, limits."""
    lines = [
        *_front_matter(card, name),
        f"# {markdown_text(name)}",
        "",
        "Predicts steady seconds per epoch (and images per second: train_n / time) of Epochcast's CIFAR-10 CNN, for",
        "plans on the device below. Read it with `predict_perf`: the network alone, without the coefficients in the",
        "JSON card beside it, predicts nothing.",
        "",
        *_origin(card),
        *_form(card),
        *_accuracy(card),
        "## Limits",
        "",
        "One device, one software stack, one family of networks: those of the conditions above. It says nothing of",
        "another GPU, precision, pipeline or framework version, nor of a machine whose GPU is shared or throttled.",
        "",
        f"Recipe {card['recipe']}, seed {card['seed']}, made {card['created_utc']} with "
        + markdown_text(", ".join(f"{name} {version}" for name, version in card["versions"].items()))
        + ".",
    ]
    return "\n".join(lines) + "\n"


def _front_matter(card: Json, name: str) -> list[str]:
    return [
        "---",
        "library_name: keras",
        "pipeline_tag: tabular-regression",
        f"model_name: {yaml_text(name)}",
        "tags: [epochcast, training-time, keras]",
        f"mape: {json.dumps(card['errors']['mape'])}",
        f"keras_sha256: {card['keras_sha256']}",
        f"rows_sha256: {card['rows_sha256']}",
        "---",
        "",
    ]


def _origin(card: Json) -> list[str]:
    """Return the rows that the model rests on, and their range."""
    disturbed = _configs_text(card["disturbed"], ", ") or "none"
    return [
        "## What it rests on",
        "",
        f"- {card['n_configurations']} configurations, {card['n_runs']} runs; SHA-256 of configurations and times "
        f"`{card['rows_sha256']}`",
        f"- conditions: {markdown_text(Conditions(**card['conditions']).describe())}",
        f"- declared, not in the table: {markdown_text(', '.join(card['declared'])) or 'none'}",
        f"- held out of all fitting: {_configs_text(card['held_out'], ', ') or 'none'}",
        f"- left out as disturbed (over {percent(math.expm1(GATE))} slower than the physics law): {disturbed}",
        *([f"- {markdown_text(card['credit'])}"] if card["credit"] else []),
        "",
        "Measured range:",
        "",
        *(f"- {axis}: {low} to {high}" for axis, (low, high) in card["range"].items()),
        "",
    ]


def _form(card: Json) -> list[str]:
    """Return the kind of model, and the readings of its law of six terms."""
    readings = card["plain_law"]["readings"]
    return [
        "## What it is",
        "",
        FORM_WORDS[card["form"]],
        *(["", f"Note: {markdown_text(card['reason'])}."] if card["reason"] else []),
        "",
        "In plain terms, by a law of six terms alone:",
        "",
        "| term | reading |",
        "|---|---|",
        *(f"| {term} | {markdown_text(words)} |" for term, words in readings.items()),
        "",
    ]


def _accuracy(card: Json) -> list[str]:
    """Return errors, intervals, levels that were left out, and what is known of the start-up."""
    intervals, excess, overhead = card["intervals"], card["first_epoch_excess_sec"], card["overhead_sec"]
    first = "unknown" if excess is None else excess_words(excess["readings"], excess["median"], excess["n"])
    edges = [[entry["label"], entry["n"], f"{100 * entry['mape']:.1f}"] for entry in card["levels"]]
    return [
        "## How well it does",
        "",
        f"- {markdown_text(error_text(card['errors']))}",
        f"- {coverage_text(intervals['coverage'])} interval within the range: {half_width_text(intervals['within'])} "
        f"(from {intervals['n']} errors)"
        f"{_more_text(intervals)}",
        f"- one axis one step beyond it (a block, a factor of two): {half_width_text(intervals['beyond'])} (from "
        f"{intervals['n_levels']} left-out levels; axes: {', '.join(intervals['axes']) or 'none'}); further away, or "
        "two axes at once: unknown",
        f"- predicted times that fall where depth or filters grow, on a grid of {N_TIMES}: {card['order_violations']}",
        *(["", "```", table_text(["left out", "rows", "MAPE %"], edges), "```"] if edges else []),
        "",
        f"First epoch beyond a steady one: {first}. Overhead of a process: "
        f"{'unknown' if overhead is None else _median_words(overhead['median'], overhead['n'])}.",
        "",
    ]


def _more_text(intervals: Json) -> str:
    """Return how many more configurations give a range, behind a semicolon; empty where there is one."""
    more = more_for_a_range(Widths(intervals["within"], intervals["beyond"], intervals["n"]).n_missing)
    return f"; {more}" if more else ""


def _configs_text(configs: Sequence[Sequence[int]], by: str) -> str:
    return by.join("(" + ",".join(map(str, config)) + ")" for config in configs)


def _median_words(median: float, n: int) -> str:
    return f"{significant(median)} s, the median of {n} rows"
