"""A saved model's JSON card: read strictly, refused when it was edited, and told to people as Markdown beside it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epochcast.model.time_model.card_check import FIELDS, card_fault
from epochcast.model.time_model.intervals import Widths, more_for_a_range
from epochcast.model.time_model.monotonicity import N_TIMES
from epochcast.model.time_model.physics import GATE
from epochcast.model.time_model.startup import excess_words
from epochcast.output.text import percent, significant, table_text
from epochcast.schema import Conditions
from epochcast.storage.json_files import read_json
from epochcast.text_sinks import markdown_text, yaml_text

CARD_SCHEMA_VERSION = 2
_WANTED = FIELDS | {"schema_version", "card_sha256"}


def card_path(model: Path) -> Path:
    """The JSON card of a `.keras` file."""
    return model.with_suffix(".json")


def markdown_path(model: Path) -> Path:
    """The card for people, of a `.keras` file."""
    return model.with_suffix(".md")


def card_sha256(card: Mapping[str, Any]) -> str:
    """Hash of everything that a card says, itself left out."""
    said = {name: value for name, value in card.items() if name != "card_sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read_card(path: Path) -> dict[str, Any]:
    """A card, checked.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is no card of this version, or not as it was written.
    """
    again = "Train the model again."
    try:
        card = read_json(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: a model without its card can't be trusted. Train it again.") from None
    except ValueError as error:
        why = str(error).removeprefix(f"{path.absolute()}: ").rstrip(".")
        raise ValueError(f"{path}: not a model card: {why}. {again}") from None
    if not isinstance(card, dict):
        raise ValueError(f"{path}: not a model card: it holds no JSON object. {again}")
    if (version := card.get("schema_version")) != CARD_SCHEMA_VERSION:
        found = " ".join(str(version)[:20].split())
        raise ValueError(f"{path}: card of schema {found}, this version reads {CARD_SCHEMA_VERSION}. {again}")
    if missing := sorted(_WANTED - card.keys()):
        raise ValueError(f"{path}: not a model card: {', '.join(missing)} missing. {again}")
    if card["card_sha256"] != card_sha256(card):
        raise ValueError(f"{path}: edited since it was written (SHA-256 differs). {again}")
    fault = card_fault(card)
    if fault is None and card["form"] not in _FORM_WORDS:
        fault = f"form must be one of {', '.join(_FORM_WORDS)}, found {card['form']!r}"
    if fault is not None:
        raise ValueError(f"{path}: not a model card: {fault}. {again}")
    return card


def error_text(errors: Mapping[str, Any]) -> str:
    """Cross-validated errors in a line."""
    if errors["mape"] is None:
        return "unknown: one configuration has nothing to be judged on"
    return (
        f"MAPE {percent(errors['mape'])}, 90th percentile {percent(errors['p90_ape'])}, MAE "
        f"{significant(errors['mae'])} s ({errors['split']}, n = {errors['n']})"
    )


def half_width_text(half_log: float | None) -> str:
    """A half-width in natural logs as people read it."""
    return "unknown" if half_log is None else f"±{percent(math.expm1(half_log))}"


def markdown(card: Mapping[str, Any], name: str) -> str:
    """The card for people: front matter, then what the model is for, what it rests on, how well it does, its limits."""
    conditions = Conditions(**card["conditions"])
    errors, intervals, levels = card["errors"], card["intervals"], card["levels"]
    more = more_for_a_range(Widths(intervals["within"], intervals["beyond"], intervals["n"]).n_missing)
    ranges = "\n".join(f"- {axis}: {low} to {high}" for axis, (low, high) in card["range"].items())
    held_out = ", ".join("(" + ",".join(map(str, c)) + ")" for c in card["held_out"]) or "none"
    disturbed = ", ".join("(" + ",".join(map(str, c)) + ")" for c in card["disturbed"]) or "none"
    declared = markdown_text(", ".join(card["declared"])) or "none"
    readings = "\n".join(
        f"| {term} | {markdown_text(words)} |" for term, words in card["plain_law"]["readings"].items()
    )
    edges = [[entry["label"], entry["n"], f"{100 * entry['mape']:.1f}"] for entry in levels]
    excess, overhead = card["first_epoch_excess_sec"], card["overhead_sec"]
    lines = [
        "---",
        "library_name: keras",
        "pipeline_tag: tabular-regression",
        f"model_name: {yaml_text(name)}",
        "tags: [epochcast, training-time, keras]",
        f"mape: {json.dumps(errors['mape'])}",
        f"keras_sha256: {card['keras_sha256']}",
        f"rows_sha256: {card['rows_sha256']}",
        "---",
        "",
        f"# {markdown_text(name)}",
        "",
        "Predicts steady seconds per epoch (and images per second: train_n / time) of Epochcast's CIFAR-10 CNN, for",
        "plans on the device below. Read it with `predict_perf`: the network alone, without the coefficients in the",
        "JSON card beside it, predicts nothing.",
        "",
        "## What it rests on",
        "",
        f"- {card['n_configurations']} configurations, {card['n_runs']} runs; SHA-256 of configurations and times "
        f"`{card['rows_sha256']}`",
        f"- conditions: {markdown_text(conditions.describe())}",
        f"- declared, not in the table: {declared}",
        f"- held out of all fitting: {held_out}",
        f"- left out as disturbed (over {percent(math.expm1(GATE))} slower than the physics law): {disturbed}",
        *([f"- {markdown_text(card['credit'])}"] if card["credit"] else []),
        "",
        "Measured range:",
        "",
        ranges,
        "",
        "## What it is",
        "",
        _FORM_WORDS[card["form"]],
        *(["", f"Note: {markdown_text(card['reason'])}."] if card["reason"] else []),
        "",
        "In plain terms, by a law of six terms alone:",
        "",
        "| term | reading |",
        "|---|---|",
        readings,
        "",
        "## How well it does",
        "",
        f"- {markdown_text(error_text(errors))}",
        f"- 90 % interval within the range: {half_width_text(intervals['within'])} (from {intervals['n']} errors)"
        f"{f'; {more}' if more else ''}",
        f"- one axis one step beyond it (a block, a factor of two): {half_width_text(intervals['beyond'])} (from "
        f"{intervals['n_levels']} left-out levels; axes: {', '.join(intervals['axes']) or 'none'}); further away, or "
        "two axes at once: unknown",
        f"- predicted times that fall where depth or filters grow, on a grid of {N_TIMES}: {card['order_violations']}",
        *(["", "```", table_text(["left out", "rows", "MAPE %"], edges), "```"] if edges else []),
        "",
        f"First epoch beyond a steady one: {'unknown' if excess is None else excess_words(excess)}. Overhead of a "
        f"process: {'unknown' if overhead is None else _overhead_words(overhead)}.",
        "",
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


_FORM_WORDS = {
    "physics_ann": "A sum of physical terms, non-negative and fitted to relative error, and an ensemble of small SiLU "
    "networks for what it leaves over of log time.",
    "transferred": "A sum of physical terms whose coefficients started from those of another device's model; its "
    "network, if any, is that one's.",
    "physics": "A sum of physical terms, non-negative and fitted to relative error; no network (its `.keras` file is a "
    "zero).",
    "reference_ann": "One ReLU network on log time, by the recipe that this project started from; for comparison.",
}


def _overhead_words(overhead: Mapping[str, Any]) -> str:
    return f"{significant(overhead['median'])} s, the median of {overhead['n']} rows"
