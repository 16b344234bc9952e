"""Mutate the core and count what its tests notice: python -m tests.support.mutants --seed 0 --most 150.

mutmut makes the mutants, runs the tests that call the mutated function, the quickest first, and stops at the first that
fails; `[tool.mutmut]` in pyproject.toml has the files and the tests. This draws the sample, counts by file, and prints
each mutant that survived. Not mutated are decorated functions and code outside of functions.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import get_mutant_name

LEAST_KILLED = 0.9  # of the sampled mutants of each file
KILLED = ("killed", "timeout", "segfault")  # a loop without end is noticed as well


def mutants_of(path: Path) -> list[str]:
    """Return the names of all mutants of a file."""
    mutated = mutate_file_contents(str(path), path.read_text("utf-8"))
    return [get_mutant_name(path, name) for name in mutated.mutant_names]


def diff_of(mutant: str, path: Path) -> str:
    """Return the lines that a mutant changes."""
    lines = get_diff_for_mutant(mutant, path=path).splitlines()
    return "\n".join(f"    {line}" for line in lines if line[:1] in "-+" and line[:3] not in ("---", "+++"))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default 0)")
    parser.add_argument("--most", type=int, default=150, help="mutants of a file (default 150)")
    parser.add_argument("--file", default="", help="only files whose path matches this expression")
    args = parser.parse_args(argv)
    paths = [path for path in config().source_paths if re.search(args.file, str(path))]
    names = {path: mutants_of(path) for path in paths}
    samples = {
        path: random.Random(f"{args.seed} {path}").sample(found, min(args.most, len(found)))
        for path, found in names.items()
    }
    sampled = [name for sample in samples.values() for name in sample]
    mutmut = Path(sys.executable).with_name("mutmut")
    subprocess.run([mutmut, "run", "--max-children", "1", *sampled], check=True)

    is_enough = True
    survivors: list[str] = []
    print(f"{'file':44} mutants sampled killed")
    for path, sample in samples.items():
        data = SourceFileMutationData(path=path)
        data.load()
        status = {name: status_by_exit_code[data.exit_code_by_key[name]] for name in sample}
        counts = Counter(status.values())
        killed = sum(counts[word] for word in KILLED)
        is_enough &= killed >= LEAST_KILLED * len(sample)
        print(f"{path!s:44} {len(names[path]):7} {len(sample):7} {killed:6} ({killed / max(1, len(sample)):.1%})")
        survivors += [f"{name}: {word}\n{diff_of(name, path)}" for name, word in status.items() if word not in KILLED]
    print("\n".join(["", *survivors]))
    return 0 if is_enough else 1


if __name__ == "__main__":
    sys.exit(main())
