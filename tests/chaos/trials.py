"""What a subject is, a try of it, and the account of all tries; each can be repeated by seed, subject and number."""

from __future__ import annotations

import random
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.chaos.processes import HungError, Process

WORKERS = 2
LONGEST_SEC = 3600.0  # of a worker
WHATS = ("lost", "doubled", "torn", "wrong", "other")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that went wrong: `what` is one of WHATS, `text` says what it was."""

    subject: str
    number: int
    what: str
    text: str

    @property
    def kind(self) -> str:
        """The text without what differs from try to try, to count faults of one kind."""
        return f"{self.what}: {self.text.partition(' | ')[0]}"


@dataclass(slots=True)
class Tally:
    """The account of one subject."""

    subject: str
    tries: int = 0
    kills: int = 0
    promised: int = 0
    sec: float = 0.0
    skipped: str = ""  # why, where it can't be tried here
    faults: list[Fault] = field(default_factory=list)

    def add(self, part: Tally) -> None:
        self.tries += part.tries
        self.kills += part.kills
        self.promised += part.promised
        self.faults = sorted([*self.faults, *part.faults], key=lambda fault: fault.number)

    def count(self, what: str) -> int:
        return sum(fault.what == what for fault in self.faults)

    def kinds(self) -> Counter[str]:
        return Counter(fault.kind for fault in self.faults)


@dataclass(slots=True)
class Trial:
    """One try: a folder of its own, its random numbers, and where its faults go."""

    subject: str
    number: int
    folder: Path
    rng: random.Random
    tally: Tally

    def fault(self, what: str, text: str) -> None:
        """Note a fault; what stands behind ` | ` in the text does not tell its kind."""
        assert what in WHATS
        self.tally.faults.append(Fault(self.subject, self.number, what, text))

    def faults(self, found: Sequence[tuple[str, str]], when: str = "") -> None:
        for what, text in found:
            self.fault(what, f"{text}{' | ' if ' | ' not in text else '; '}{when}" if when else text)

    def promise(self, n: int) -> None:
        self.tally.promised += n

    def killed(self, n: int = 1) -> None:
        self.tally.kills += n


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of trouble. `numbers` says how many tries there are at full length; `attempt` carries one out.

    A subject of which every number is a case of its own (the n-th call) has `is_exhaustive`: a shorter run samples
    the numbers; one that `is_costly` may be left out of it. `missing` says why it can't be tried here, or nothing.
    """

    name: str
    numbers: Callable[[Path], int]
    attempt: Callable[[Trial], None]
    is_exhaustive: bool = False
    is_costly: bool = False
    missing: Callable[[], str] = lambda: ""


def carry_out(
    subject: Subject, *, seed: int, share: float, base: Path, only: int | None = None, keeps: bool = False
) -> Tally:
    """All tries of a subject, a share of them, or one; where none depends on time, by WORKERS processes at once."""
    tally = Tally(subject.name)
    if why := subject.missing():
        tally.skipped = why
        return tally
    start = time.monotonic()
    n_all = subject.numbers(base / subject.name)
    n = max(0 if subject.is_costly else 1, round(n_all * share))
    if only is not None:
        numbers: Sequence[int] = [only]
    elif subject.is_exhaustive and n < n_all:
        numbers = sorted(random.Random(f"{seed}/{subject.name}").sample(range(n_all), n))
    else:
        numbers = range(n)
    if subject.is_exhaustive and len(numbers) > WORKERS:
        parts = [numbers[i::WORKERS] for i in range(WORKERS)]
        workers = [Process(partial(_try_each, subject, part, seed, base, keeps)) for part in parts]
        for worker in workers:
            tally.add(worker.wait(deadline_sec=LONGEST_SEC).returned())
    else:
        tally.add(_try_each(subject, numbers, seed, base, keeps))
    tally.sec = time.monotonic() - start
    return tally


def _try_each(subject: Subject, numbers: Sequence[int], seed: int, base: Path, keeps: bool) -> Tally:
    tally = Tally(subject.name)
    for number in numbers:
        folder = base / subject.name / str(number)
        folder.mkdir(parents=True)
        trial = Trial(subject.name, number, folder, random.Random(f"{seed}/{subject.name}/{number}"), tally)
        try:
            subject.attempt(trial)
        except HungError as error:
            trial.fault("other", f"hung | {error}")
        except Exception as error:  # of what surrounds the trouble: a try that can't be judged is a fault as well
            where = traceback.format_exc().strip().splitlines()
            trial.fault("other", f"a try could not be carried out | {error!r}: {' '.join(where[-4:-1])}")
        tally.tries += 1
        if not keeps:
            shutil.rmtree(folder, ignore_errors=True)
    return tally
