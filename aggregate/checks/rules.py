"""The rules of `epochcast check`: name, severity, what must hold, and what to do where it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from epochcast.schema import NETWORK_AXES

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that must hold (`error`) or that a reader should know of (`warning`)."""

    severity: str
    what: str  # what must hold, in one line
    remedy: str
    needs: str | None = None  # the column without which there is nothing to check


# of rows that can be read: a deleted one whose JSON is kept would be appended again
_MEASURE_AGAIN = (
    "Correct the cell from logs/<run_id>.json, or take the run back by a line RUN_ID,REASON,DATE in excluded.csv and "
    "measure it again; a row without a run_id is taken back by deleting it."
)
# of rows that can't be read: no command reads the table, whatever excluded.csv says
_RESTORE = (
    "Correct it, or delete the line and run epochcast recover, which appends the run as it was measured from "
    "logs/<run_id>.json; where that file is lost, measure it again."
)

RULES = {  # in the order that they are reported
    "header": Rule(
        ERROR,
        "the columns are those of a table of runs, in their order",
        "Restore the header; columns of your own belong in another file.",
    ),
    "lines": Rule(
        ERROR,
        "every line is UTF-8 CSV with one cell per column",
        _RESTORE,
    ),
    "torn": Rule(
        WARNING,
        "the last line is ended, and none without a line end was moved to <table>.torn",
        "Readers leave it out, and the next run moves it to RUNS.torn. If it is whole, end it: echo >> RUNS; or put it "
        "back: tail -n 1 RUNS.torn >> RUNS. If it is cut: epochcast recover. Then delete RUNS.torn.",
    ),
    "types": Rule(ERROR, "every cell is of its column's type", _RESTORE),
    "ranges": Rule(ERROR, "every value is one that the column can hold", _RESTORE),
    "duplicates": Rule(
        ERROR,
        "no run stands twice: run_id, or time, configuration and epochs",
        "Delete one of the two lines: a run that counts twice hides the spread.",
    ),
    "excluded": Rule(
        ERROR,
        "excluded.csv is readable and names runs of this table",
        "Correct the run_id, or delete the line from excluded.csv.",
    ),
    "timestamps": Rule(
        WARNING,
        "rows stand in the order that their runs ended",
        "Nothing, if tables were joined; else a row or the clock was changed.",
    ),
    "conditions": Rule(
        WARNING,
        "all rows were measured under the same conditions",
        "They are never averaged together; choose one with --conditions where a command asks.",
    ),
    "params": Rule(
        ERROR,
        f"params is the closed form of {' and '.join(axis.name for axis in NETWORK_AXES)}",
        "One of the three cells was changed, or another network was measured: correct it or take the run back.",
    ),
    "avg_time": Rule(ERROR, "avg_time_sec is the mean of the timed epochs", _MEASURE_AGAIN),
    "images_per_sec": Rule(ERROR, "images_per_sec is train_n / avg_time_sec", _MEASURE_AGAIN),
    "steady_time": Rule(
        ERROR,
        "steady_time_sec is the mean of the timed epochs without the n_stalled slowest",
        _MEASURE_AGAIN,
        "steady_time_sec",
    ),
    "counts": Rule(ERROR, "n_timed, n_stalled and flags are those of the epochs", _MEASURE_AGAIN, "n_timed"),
    "spread": Rule(ERROR, "rel_spread and rel_ci95 are those of the epochs", _MEASURE_AGAIN, "rel_spread"),
    "overhead": Rule(ERROR, "overhead_sec is wall_sec less the epochs and idle_sec", _MEASURE_AGAIN, "overhead_sec"),
    "accuracy": Rule(
        ERROR,
        "test_acc stands only where real test images were classified",
        "Empty the cell: accuracy on synthetic data, or after a few steps, tells nothing.",
        "dataset",
    ),
    "memory": Rule(ERROR, "the peak fits into the device's memory", _MEASURE_AGAIN, "peak_memory_bytes"),
    "energy": Rule(
        ERROR, "joules of window and epoch, mean power, band and source agree", _MEASURE_AGAIN, "energy_j_per_epoch"
    ),
    "power": Rule(
        WARNING,
        "window, peak power and polled energy support the joules",
        "Take the energy as rough; the time is not touched. Measure longer, alone on the GPU.",
        "energy_j_per_epoch",
    ),
    "impossible_power": Rule(
        WARNING,
        "power is such as the board, or the processors, can draw",
        "A sensor's fault: nothing uses the energy, the time is not touched. For the energy, measure again.",
        "energy_j_per_epoch",
    ),
    "stall": Rule(
        WARNING,
        "no timed epoch was slowed by something else",
        "Use steady times (epochcast aggregate leaves the epoch out), or measure again: plain means hold it.",
    ),
    "unstable": Rule(
        WARNING,
        "no timed epoch may be a stall or noise",
        "Measure again on a quiet machine, or more runs of the same conditions; the plain mean is used until then.",
    ),
    "flagged": Rule(
        WARNING,
        "the run recorded no doubt about its time or energy",
        "Measure again with what disturbed it gone; a clean repeat takes its place in the means.",
        "flags",
    ),
    "diverged": Rule(
        WARNING,
        "training learned something: accuracy above guessing, no NaN",
        "Its time is valid. Don't rank networks by its accuracy.",
    ),
    "repeats": Rule(
        WARNING,
        "runs of one configuration under the same conditions take the same time",
        "Runs of different machines belong in tables of their own; else take back the one that was disturbed, in "
        "excluded.csv.",
    ),
    "monotone": Rule(
        WARNING,
        "more depth, filters or steps per epoch are not faster",
        "Measure the named configuration again: it is the one that disagrees with its neighbours.",
    ),
    "cache": Rule(
        WARNING,
        "the table of averages is as new as its runs",
        "Nothing: commands make it anew; or run epochcast aggregate.",
    ),
    "aggregate": Rule(
        ERROR,
        "a table of averages without a source holds what the runs give",
        "It was edited, or is stale: move it away and make it anew: epochcast aggregate --runs RUNS --out RUNS_AGG.",
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where a rule does not hold."""

    rule: str
    file: str  # its name
    line: int | None  # None: the whole file
    config: str | None
    run_id: str | None  # of a published row, which has none, its time
    found: str
    expected: str

    @property
    def severity(self) -> str:
        return RULES[self.rule].severity

    @property
    def where(self) -> str:
        """File, line and run in a few words."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return " ".join(part for part in (place, self.config, self.run_id) if part)

    def to_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "severity": self.severity,
            "file": self.file,
            "line": self.line,
            "config": self.config,
            "run_id": self.run_id,
            "found": self.found,
            "expected": self.expected,
            "remedy": RULES[self.rule].remedy,
        }
