"""A script's fit, tuned in one process of the script for each precision.

Precision is chosen before a model is made, so that the script runs again for each. The processes stay until the end,
and blocks of their settings are timed in turns.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from epochcast.facts.assumptions import device_kind_of
from epochcast.live.scripts.child import ScriptError, ScriptProcess, caught_words, running
from epochcast.live.scripts.works import Request
from epochcast.live.tuning.answer import Prepared, Tuned, judged
from epochcast.live.tuning.halving import halving
from epochcast.live.tuning.settings import Setting, changes, combinations, keeps_result
from epochcast.live.tuning.text import change_text
from epochcast.machine.host.host import usable_cores
from epochcast.machine.host.load import host_cpu_times, is_busy_host, other_cores

PREPARING = 2.0  # times the budget, after which nothing more is built, compiled or cached


class Tuning:
    """The processes of a script whose fit is tuned.

    Args:
        script_sec: how long the script may take until its fit.
        note: called with what happens meanwhile, in sentences.
    """

    def __init__(
        self, request: Request, script_sec: float, note: Callable[[str], None], stack: contextlib.ExitStack
    ) -> None:
        self._request, self._script_sec, self._note, self._stack = request, script_sec, note, stack
        self._processes: dict[str, ScriptProcess] = {}  # by precision
        self._spent_sec = self._scripts_sec = 0.0  # in preparing, in scripts until their fits
        self.caught: dict[str, Any] = {}
        self._not_tried: dict[str, str] = {}

    def found(self) -> Tuned:
        """Prepare and time all settings.

        Raises:
            ScriptError: if the script did not come to the fit, or the fit can't be tuned.
        """
        budget_sec = self._request.budget_sec
        axes = self._started(None)
        baseline = Setting(**axes["baseline"])
        settings = [
            setting
            for setting in combinations(baseline, axes["values"])
            if not self._request.keep_result or keeps_result(baseline, setting)
        ]
        self._not_tried |= axes["not_tried"]
        own_sec, self._spent_sec = self._spent_sec, 0.0
        if len(settings) > 1:
            self._say_what_comes(settings)
        own = Prepared(baseline, axes["first_step_sec"], axes["data_sec"], tuple(axes["lines"]))
        prepared = [own, *self._prepared(baseline, settings[1:])]
        if len(prepared) > 1:
            self._note(f"{len(prepared)} settings are timed for {budget_sec:g} s.")
        before = host_cpu_times()
        race = halving([each.setting for each in prepared], self._block, budget_sec, time.perf_counter)
        others = other_cores(before, host_cpu_times())
        return judged(
            race,
            prepared,
            not_tried=self._not_tried,
            budget_sec=budget_sec,
            prepared_sec=own_sec + self._spent_sec,
            script_sec=self._scripts_sec,
            other_cores=others,
            is_contended=is_busy_host(others, len(usable_cores()), device_kind_of(axes["device_name"])),
            notes=tuple(axes["notes"]),
            **{name: axes[name] for name in ("model", "params", "epochs", "batches", "backend", "device_name")},
        )

    def _say_what_comes(self, settings: list[Setting]) -> None:
        limit_sec = PREPARING * self._request.budget_sec
        _, *precisions = dict.fromkeys(setting.precision for setting in settings)
        self._note(f"{len(settings)} settings are built and compiled first; after {limit_sec:g} s no more of them.")
        if precisions:
            self._note(
                f"{self._request.script} runs once more for each of {', '.join(precisions)}, "
                f"{self.caught['script_sec']:.3g} s until its fit; whatever it does before that is done again."
            )

    def _started(self, policy: str | None) -> dict[str, Any]:
        """Run the script until its fit, and return what can be tuned of it.

        Raises:
            ScriptError: if the script did not come to the fit, or the fit can't be tuned.
        """
        wanted = self._request.wanted if policy is None else {**self._request.wanted, "precision": [], "input": []}
        process = self._stack.enter_context(running(replace(self._request, policy=policy, wanted=wanted)))
        caught = process.caught(self._script_sec, self._note)
        self._scripts_sec += caught["script_sec"]
        if policy is None:
            self.caught = caught
            self._note(f"{caught_words(caught)}.")
        begin = time.perf_counter()
        _, axes = process.event()
        self._spent_sec += time.perf_counter() - begin
        self._processes[axes["baseline"]["precision"] if policy is None else policy] = process
        return axes

    def _prepared(self, baseline: Setting, settings: list[Setting]) -> list[Prepared]:
        """Prepare settings until their time is over, those that share a compilation together."""
        found, failed, late = [], list[Setting](), 0
        ways = list(dict.fromkeys(setting.way for setting in [baseline, *settings]))
        for setting in sorted(settings, key=lambda setting: ways.index(setting.way)):
            if any(_includes(baseline, setting, each) for each in failed):
                continue
            if self._spent_sec > PREPARING * self._request.budget_sec:
                late += 1
                continue
            why, told = self._answer(baseline, setting)
            if why is not None:
                failed.append(setting)
                self._not_tried[change_text(baseline, setting)] = why
            else:
                found.append(Prepared(setting, told["first_step_sec"], told["data_sec"], tuple(told["lines"])))
        if late:
            self._not_tried[f"{late} more settings"] = (
                f"building and compiling had taken {self._spent_sec:.0f} s; a larger --budget_sec allows more"
            )
        return sorted(found, key=lambda each: settings.index(each.setting))

    def _answer(self, baseline: Setting, setting: Setting) -> tuple[str | None, dict[str, Any]]:
        """Prepare a setting; return why it can't be tried, or what is known of it."""
        if setting.precision not in self._processes and (why := self._why_no_precision(setting.precision)) is not None:
            return why, {}
        begin = time.perf_counter()
        event, told = self._processes[setting.precision].answer(do="prepare", setting=asdict(setting))
        self._spent_sec += time.perf_counter() - begin
        return (told["why"], {}) if event == "not_possible" else (None, told)

    def _why_no_precision(self, policy: str) -> str | None:
        """Run the script with a policy; return why that is no setting of its own."""
        try:
            axes = self._started(policy)
        except ScriptError as error:
            return str(error)
        if axes["policy"] != policy:
            return f"the policy was {axes['policy']} again at the fit: the script sets one itself"
        if (own := axes["baseline"]["precision"]) != policy:
            return f"the model's layers keep {own}: they have a type of their own, or come from a file"
        return None

    def _block(self, setting: Setting, sec: float) -> float:
        _, told = self._processes[setting.precision].answer(do="time", setting=asdict(setting), sec=sec)
        return float(told["wall_sec"])


def _includes(baseline: Setting, setting: Setting, other: Setting) -> bool:
    """Whether a setting has all that another one changes."""
    own = {(each.name, each.after) for each in changes(baseline, setting)}
    return {(each.name, each.after) for each in changes(baseline, other)} <= own


def tuned(request: Request, script_sec: float, note: Callable[[str], None]) -> tuple[dict[str, Any], Tuned]:
    """Return what was caught, and which setting makes it fastest.

    Args:
        script_sec: how long the script may take until its fit.
        note: called with what happens meanwhile, in sentences.

    Raises:
        ScriptError: if the script did not come to the fit, or the fit can't be tuned.
    """
    with contextlib.ExitStack() as stack:
        tuning = Tuning(request, script_sec, note, stack)
        found = tuning.found()
        return tuning.caught, found
