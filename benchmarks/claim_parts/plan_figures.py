"""What the claims of plans look like: plans.png, info.png and simulated.png beside claims.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.lib.replay import CONFIDENCES, Case, by_band
from epochcast.output.figures import COLOURS, MARKERS, new_figure, new_grid, plain_ticks, save_figure_as
from epochcast.paths import home

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Learned = dict[str, list[tuple[float, int]]]  # by kind of plan: error on the rest (%) and runs, of each plan
HOWS = ("not watched", "watched", "planned again")
DAYS = ("usual day", "slow day")
_LEARNING = (("info", COLOURS[0], "s"), ("sum of acc", COLOURS[1], "^"), ("sum of thr", COLOURS[3], "D"))
_GREY = "0.4"


def _save(figure: Figure, name: str) -> None:
    save_figure_as(figure, _folder() / f"{name}.png")


def _folder() -> Path:
    """Where benchmarks/claims.py writes claims.md."""
    return home() / "results" / "benchmarks" / "claims"


def draw_plans(by_margin: Mapping[str, Sequence[Case]]) -> None:
    """Share of budgets kept and of the oracle's value by band; hollow of binding plans alone."""
    figure, (left, right) = new_grid(11, 5, 1, 2)
    for number, (words, cases) in enumerate(by_margin.items()):
        colour, marker = COLOURS[number], MARKERS[number]
        bands = by_band(cases)
        binding = by_band(case for case in cases if case.is_binding)
        places = {band: place + 0.09 * (number - 1.5) for place, band in enumerate(bands)}  # side by side where equal
        for panel, part in ((left, "kept"), (right, "value")):
            every = [getattr(shares, part) for shares in bands.values()]
            panel.plot(list(places.values()), every, marker=marker, color=colour, linewidth=1, label=words)
            for band, shares in binding.items():
                if shares.n < bands[band].n:
                    panel.plot(places[band], getattr(shares, part), marker, color=colour, markerfacecolor="white")
        labels = [f"{low}-{high}" for low, high in bands]
    for number, confidence in enumerate(CONFIDENCES, start=1):
        left.axhline(100 * confidence, linestyle="--", color=COLOURS[number], linewidth=1)
    left.plot([], [], "--", color=_GREY, linewidth=1, label="promised, in the colour of its plans")
    left.plot([], [], "o", color=_GREY, markerfacecolor="white", label="binding plans alone, where some are not")
    left.set(ylabel="plans that kept their budget (%)")
    right.set(ylabel="value (% of the oracle's, mean)")
    left.set_title("Budgets kept", fontsize=11)
    right.set_title("Value (above 100 % only with overruns)", fontsize=11)
    for panel in (left, right):
        panel.set_xticks(range(len(labels)), labels)
        panel.set_xlabel("budget (s)")
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    n = len(next(iter(by_margin.values())))
    figure.suptitle(f"Plans by costs from models that have not seen the configuration, n = {n} each", fontsize=12)
    _save(figure, "plans")


def draw_info(learned: Mapping[int, Learned], epochs: int) -> None:
    """Error on the rest after the runs of each plan, by budget; random plans as points."""
    figure, axes = new_figure(8, 5)
    random = np.random.default_rng(0)  # only moves points sideways
    labels = []
    for place, (budget, errors) in enumerate(learned.items()):
        drawn = np.array([error for error, _ in errors["random"]])
        known = drawn[np.isfinite(drawn)]
        across = place + random.uniform(-0.16, 0.16, len(known))
        axes.plot(across, known, ".", color=_GREY, alpha=0.6, markersize=7, label=f"{len(drawn)} random plans")
        if math.isfinite(middle := float(np.median(drawn))):
            axes.hlines(middle, place - 0.22, place + 0.22, color="black", linewidth=2, label="their median")
        for words, colour, marker in _LEARNING:
            ((error, _),) = errors[words.removeprefix("sum of ")]
            if math.isfinite(error):
                axes.plot(place + 0.3, error, marker, color=colour, markersize=9, label=words)
        lacking = len(drawn) - len(known)
        labels.append(f"{budget}" + (f"\n({lacking} random plans had too few runs)" if lacking else ""))
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set(yscale="log", xlabel="budget (s)", ylabel="mean error on the configurations not run (%)")
    axes.grid(visible=False, axis="x")
    axes.set_title(f"What the time model learns from a plan's runs of {epochs} epochs", fontsize=11)
    plain_ticks(axes, x=range(len(labels)))
    axes.set_xticks(range(len(labels)), labels)
    named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))  # each once
    axes.legend(named.values(), named.keys(), loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    _save(figure, "info")


def draw_simulated(kept: Mapping[str, Sequence[bool]], worth: Mapping[str, Sequence[float]]) -> None:
    """Gain of planning again over only watching, plan by plan, and shares of budgets kept."""
    figure, (left, right) = new_grid(11, 5, 1, 2, width_ratios=[1.4, 1])
    gains = [np.array(worth[f"{day}, {HOWS[2]}"]) - np.array(worth[f"{day}, {HOWS[1]}"]) for day in DAYS]
    every = np.concatenate(gains)
    edges = np.arange(math.floor(every.min()), math.ceil(every.max()) + 0.25, 0.25)
    left.hist(
        gains,
        bins=list(edges),
        stacked=True,
        color=[COLOURS[0], COLOURS[1]],
        label=list(DAYS),
        edgecolor="white",
        linewidth=0.5,
    )
    left.axvline(float(every.mean()), color="black", linestyle=":")
    left.axvline(0, color="black", linewidth=0.8)
    left.set(xlabel="value planned again - value watched (% of the oracle's)", ylabel="plans")
    left.set_title(f"Gain of planning again: mean {every.mean():+.2f} % (dotted), n = {len(every)} pairs", fontsize=11)
    width = 0.36
    for number, day in enumerate(DAYS):
        shares = [100 * float(np.mean(kept[f"{day}, {how}"])) for how in HOWS]
        places = [place + (number - 0.5) * width for place in range(len(HOWS))]
        bars = right.bar(places, shares, width, color=COLOURS[number], label=day)
        right.bar_label(bars, fmt="%.0f", padding=2)
    right.axhline(90, linestyle="--", color="black", linewidth=1, label="promised, 90 %")
    right.set_xticks(range(len(HOWS)), list(HOWS))
    right.set(ylim=(0, 108), ylabel="plans that kept their budget (%)")
    right.grid(visible=False, axis="x")
    right.set_title("Budgets kept", fontsize=11)
    handles, names = right.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("Plans at 90 % carried out in replayed time; a slow day takes 10 % more", fontsize=12)
    _save(figure, "simulated")
