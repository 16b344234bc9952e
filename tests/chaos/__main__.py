"""Kill, fill and break what writes: nothing measured may be lost, doubled or torn, no average or card stay wrong.

Every try can be repeated: `make chaos SEED=0 KIND=writers NUMBER=17`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[_name] = "1"  # before NumPy: a process with threads can't be forked safely

from epochcast.output.text import table_text  # noqa: E402
from tests.chaos import averages, failing_calls, full_disks, grids, injection, migrations, plans, trainings, writers  # noqa: E402
from tests.chaos.trials import WHATS, Subject, Tally, carry_out  # noqa: E402

SUBJECTS: list[Subject] = [
    *writers.SUBJECTS,
    *grids.SUBJECTS,
    *plans.SUBJECTS,
    *averages.SUBJECTS,
    *migrations.SUBJECTS,
    *trainings.SUBJECTS,
    *full_disks.SUBJECTS,
    *failing_calls.SUBJECTS,
]
EXHAUSTIVE = {subject.name for subject in SUBJECTS if subject.is_exhaustive}
AT_FULL_LENGTH = 400  # kills at random moments


def lines_of(tallies: Sequence[Tally]) -> list[str]:
    """The account as a table, then the kinds of faults with one command each that repeats one."""
    header = ["kind", "tries", "kills", "promised", *WHATS, "seconds"]
    rows = [
        [t.subject, str(t.tries), str(t.kills), str(t.promised), *(str(t.count(w)) for w in WHATS), f"{t.sec:.1f}"]
        for t in tallies
        if not t.skipped
    ]
    sums = [str(sum(int(row[i]) for row in rows)) for i in range(1, 4 + len(WHATS))]
    lines = [table_text(header, [*rows, ["all", *sums, f"{sum(t.sec for t in tallies):.1f}"]])]
    at_random = sum(t.kills for t in tallies if t.subject not in EXHAUSTIVE)
    lines.append(
        f"kills at random moments: {at_random}; at counted file calls: {sum(t.kills for t in tallies) - at_random}"
    )
    lines += [f"skipped: {t.subject}: {t.skipped}" for t in tallies if t.skipped]
    return lines


def fault_lines(tallies: Sequence[Tally], seed: int) -> list[str]:
    """Each kind of fault once, with the number of its tries and the command that repeats the first."""
    lines = []
    for tally in tallies:
        for kind, n in tally.kinds().most_common():
            first = next(fault for fault in tally.faults if fault.kind == kind)
            lines.append(f"FAULT {tally.subject}, {n} x {first.what}: {first.text}")
            lines.append(f"  again: make chaos SEED={seed} KIND={tally.subject} NUMBER={first.number}")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=AT_FULL_LENGTH, help="at random moments; scales the rest, too")
    parser.add_argument("--kind", action="append", choices=[s.name for s in SUBJECTS], help="only this; repeatable")
    parser.add_argument("--number", type=int, help="only this try, of one kind")
    parser.add_argument("--keep", action="store_true", help="leave the folders of the tries")
    parser.add_argument("--verbose", action="store_true", help="each fault, not only each kind of them")
    arguments = parser.parse_args(argv)
    if arguments.number is not None and len(arguments.kind or []) != 1:
        parser.error("--number needs one --kind")
    start = time.monotonic()
    base = Path(tempfile.mkdtemp(prefix="epochcast-chaos-")).resolve()
    tallies = []
    try:
        for subject in SUBJECTS:
            if arguments.kind and subject.name not in arguments.kind:
                continue
            print(f"{subject.name} ...", file=sys.stderr, flush=True)
            share = arguments.kills / AT_FULL_LENGTH
            tallies.append(
                carry_out(
                    subject, seed=arguments.seed, share=share, base=base, only=arguments.number, keeps=arguments.keep
                )
            )
            for fault in tallies[-1].faults if arguments.verbose else ():
                print(f"{fault.subject} {fault.number}: {fault.what}: {fault.text}", flush=True)
    finally:
        if arguments.keep:
            print(f"kept: {base}")
        else:
            shutil.rmtree(base, ignore_errors=True)
    print("\n".join([*lines_of(tallies), *fault_lines(tallies, arguments.seed)]))
    n_faults = sum(len(tally.faults) for tally in tallies)
    print(f"{n_faults} faults in {sum(t.tries for t in tallies)} tries, {time.monotonic() - start:.0f} s")
    return 1 if n_faults else 0


if __name__ == "__main__":
    if not {injection.LIBRARY, injection.WHY_NOT} & os.environ.keys():
        with tempfile.TemporaryDirectory(prefix="epochcast-chaos-library-") as library_folder:
            environment = injection.environment_with_library(Path(library_folder))
            sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment).returncode)
    sys.exit(main())
