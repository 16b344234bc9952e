"""`python -m tests.fuzz`: tries of all kinds in two processes, a table, and exit code 1 where there is a fault."""

from __future__ import annotations

import argparse
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.fuzz.kinds import KINDS, schedule
from tests.fuzz.oracles import HANG_SEC
from tests.fuzz.tries import Result, Sums, repeat_command, run_tries, signature, table

N, LIMIT_SEC, WORKERS = 20_400, 900.0, 2
STUCK_SEC = 9 * HANG_SEC  # without a word, after which a worker is stuck in a library and is ended
SHOWN = 12  # numbers of one fault on the screen; all are in faults.jsonl


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=N, help="tries over all kinds")
    parser.add_argument("--limit_sec", type=float, default=LIMIT_SEC, help="begin no try after so many seconds")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only these kinds; may be repeated")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one try of one kind again, here, with its trace")
    parser.add_argument("--out", type=Path, help="folder for the inputs of faults; default: a temporary one")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


# --- a worker --------------------------------------------------------------------------------------------------------


def work(arguments: argparse.Namespace) -> int:
    """Every `workers`-th try, a line of JSON for each, begun and ended."""
    channel = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a library prints goes nowhere
    os.dup2(1, 2)
    mine = tries_of(arguments)[arguments.skip :]
    if KINDS[mine[0][0]].needs_keras:
        warm_up_keras()
        mine = [(kind, number) for kind, number in mine if KINDS[kind].needs_keras]
    end = time.monotonic() + arguments.limit_sec

    def in_time() -> Any:
        for kind, number in mine:
            if time.monotonic() > end:
                return
            print(json.dumps({"at": [kind, number]}), file=channel)
            yield kind, number

    for result in run_tries(in_time(), arguments.seed, arguments.out):
        print(json.dumps(result.to_json()), file=channel)
    print(json.dumps({"finished": True}), file=channel)  # all that this process was for
    return 0


def tries_of(arguments: argparse.Namespace) -> list[tuple[str, int]]:
    """A worker's tries: first those that need Keras, so that a fresh process without it can do the others."""
    mine = schedule(arguments.kind or list(KINDS), arguments.n)[arguments.worker :: arguments.workers]
    return sorted(mine, key=lambda each: not KINDS[each[0]].needs_keras)


def warm_up_keras() -> None:
    """Import what takes seconds before the first try, so that no try is slow or large for it."""
    from tests.fuzz.kinds.models import user_networks

    user_networks()


# --- the process that sums up ----------------------------------------------------------------------------------------


@dataclass
class Worker:
    """A worker process, the try that it is at, and how many it has begun."""

    index: int
    arguments: argparse.Namespace
    end: float
    begun: int = 0
    at: tuple[str, int] | None = None
    n_tries: int = 0
    is_finished: bool = False  # the process, with what it was for
    heard: float = field(default_factory=time.monotonic)
    process: subprocess.Popen[bytes] | None = None
    rest: bytes = b""

    def start(self) -> IO[bytes]:
        a = self.arguments
        self.n_tries = len(tries_of(argparse.Namespace(**vars(a) | {"worker": self.index})))
        command = [sys.executable, "-m", "tests.fuzz", "--worker", str(self.index), "--skip", str(self.begun)]
        command += ["--seed", str(a.seed), "--n", str(a.n), "--workers", str(a.workers), "--out", str(a.out)]
        command += ["--limit_sec", str(max(0.0, self.end - time.monotonic()))]
        command += [word for name in a.kind or () for word in ("--kind", name)]
        root = Path(__file__).resolve().parents[2]
        environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        self.heard = time.monotonic()
        assert self.process.stdout is not None
        return self.process.stdout

    def take(self, data: bytes) -> list[Result]:
        """The results in what the worker wrote."""
        self.heard = time.monotonic()
        *lines, self.rest = (self.rest + data).split(b"\n")
        results = []
        for line in lines:
            value = json.loads(line)
            if "at" in value:
                self.at, self.begun = (value["at"][0], value["at"][1]), self.begun + 1
            elif "finished" in value:
                self.is_finished, self.at = True, None
            else:
                value["faults"] = [tuple(fault) for fault in value["faults"]]
                results.append(Result(**value))
                self.at = None
        return results

    def died(self) -> Result | None:
        """The try that the worker was at when it ended without finishing."""
        assert self.process is not None
        code = self.process.wait()
        self.rest = b""
        if self.at is None:
            return None
        kind, number = self.at
        self.at = None
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        column = "hang" if code == -signal.SIGKILL else "traceback"
        return Result(kind, number, "fault", [(column, "the process", f"ended by {how}")])


def gather(arguments: argparse.Namespace) -> list[Result]:
    """The results of all workers; one that dies or is stuck is replaced, and its try is a fault."""
    end = time.monotonic() + arguments.limit_sec
    results: list[Result] = []
    selector = selectors.DefaultSelector()
    workers = [Worker(index, arguments, end) for index in range(arguments.workers)]
    for worker in workers:
        selector.register(worker.start(), selectors.EVENT_READ, worker)
    while selector.get_map():
        for key, _ in selector.select(1.0):
            worker = key.data
            if data := os.read(key.fd, 1 << 20):
                results += worker.take(data)
                continue
            selector.unregister(key.fileobj)
            if (result := worker.died()) is not None:
                results.append(result)
            if result is None and not worker.is_finished:
                raise SystemExit(f"worker {worker.index} ended before its first try: run it with --only to see why")
            worker.is_finished = False
            if worker.begun < worker.n_tries and time.monotonic() < end:
                selector.register(worker.start(), selectors.EVENT_READ, worker)
        for worker in workers:
            is_stuck = worker.at is not None and time.monotonic() - worker.heard > STUCK_SEC
            if is_stuck and worker.process is not None and worker.process.poll() is None:
                worker.process.kill()
        show_progress(results, arguments)
    show_progress(results, arguments, is_last=True)
    return results


_shown = [0.0]


def show_progress(results: list[Result], arguments: argparse.Namespace, is_last: bool = False) -> None:
    if not sys.stderr.isatty() and not is_last and time.monotonic() - _shown[0] < 30:
        return
    _shown[0] = time.monotonic()
    faults = sum(bool(result.faults) for result in results)
    end = "\n" if is_last or not sys.stderr.isatty() else "\r"
    print(f"{len(results):,}/{arguments.n:,} tries, {faults:,} with faults", end=end, file=sys.stderr, flush=True)


def report(results: list[Result], seed: int, out: Path) -> int:
    """The table and every fault; 1 if there is one."""
    sums = {name: Sums() for name in KINDS}
    groups: dict[tuple[str, tuple[str, str, str]], list[tuple[int, str, str | None]]] = defaultdict(list)
    for result in results:
        sums[result.kind].add(result)
        for fault in result.faults:
            groups[result.kind, signature(fault)].append((result.number, fault[2], result.kept))
    print(table({name: each for name, each in sums.items() if each.tries}))
    faulty = [result for result in results if result.faults]
    if not faulty:
        print(f"no fault, seed {seed}")
        return 0
    with (out / "faults.jsonl").open("w", encoding="utf-8") as file:
        for result in sorted(faulty, key=lambda each: (each.kind, each.number)):
            file.write(json.dumps({"seed": seed, **result.to_json()}) + "\n")
    print(f"\n{len(faulty):,} tries with faults, {len(groups)} different ones, seed {seed}; inputs in {out}")
    for (kind, (column, call, _)), found in sorted(groups.items(), key=lambda pair: (pair[0][0], -len(pair[1]))):
        found.sort()
        numbers = ", ".join(str(number) for number, _, _ in found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
        print(f"\n{kind} {column}: {call}: {found[0][1]}".encode(errors="backslashreplace").decode())
        print(f"  {len(found)} x, seed {seed}, number {numbers}")
        print(f"  {repeat_command(kind, found[0][0], seed)}")
    return 1


def again(arguments: argparse.Namespace) -> int:
    """One try in this process."""
    if arguments.kind is None or len(arguments.kind) != 1:
        raise SystemExit("--only NUMBER needs one --kind")
    if KINDS[arguments.kind[0]].needs_keras:
        warm_up_keras()
    (result,) = run_tries([(arguments.kind[0], arguments.only)], arguments.seed, arguments.out)
    return report([result], arguments.seed, arguments.out)


def main() -> int:
    arguments = parse()
    if arguments.worker is not None:
        return work(arguments)
    if arguments.out is None:
        arguments.out = Path(tempfile.mkdtemp(prefix="epochcast-fuzz-inputs-"))
    arguments.out = arguments.out.absolute()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.only is not None:
        return again(arguments)
    start = time.monotonic()
    results = gather(arguments)
    code = report(results, arguments.seed, arguments.out)
    wanted = len(schedule(arguments.kind or list(KINDS), arguments.n))
    if len(results) < wanted:
        print(f"stopped by the time limit: {len(results):,} of {wanted:,} tries")
    print(f"{time.monotonic() - start:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
