"""Same answers as an older commit: python benchmarks/same_answers.py --before COMMIT

Every command that answers without measuring runs in a temporary worktree of COMMIT and in this tree, in a home of its
own with the same files; the answers are compared key by key. Exit code 1 where a number, a key or a file differs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from benchmarks.answers.comparison import (
    EQUAL,
    EXPECTED,
    FAILURES,
    RENAMED_KEY,
    REWORDED,
    Finding,
    findings,
    is_announced,
)
from benchmarks.answers.inputs import make_inputs
from benchmarks.answers.invocations import OF_THE_HOST, REFUSED, VOLATILE, Invocation, invocations, old_files
from benchmarks.answers.tree import Answer, Tree, write_old_files
from epochcast.cli import run_command
from epochcast.flag_types import path_of
from epochcast.output.text import table_text
from epochcast.paths import CODE_ROOT, home
from epochcast.storage.files import write_json_atomically

BRIEF = 160  # characters of a value on the screen
SHOWN = 12  # findings of an invocation on the screen
Answers = dict[str, Answer]  # by invocation


@contextmanager
def worktree(commit: str, folder: Path, repository: Path = CODE_ROOT) -> Iterator[Path]:
    """A temporary checkout of a commit, removed at the end whatever happens.

    Raises:
        ValueError: if there is no such commit.
    """
    git = ["git", "-C", str(repository), "worktree"]
    done = subprocess.run([*git, "add", "--detach", str(folder), commit], capture_output=True, text=True)
    try:
        if done.returncode:
            raise ValueError(f"--before {commit!r}: {done.stderr.strip().splitlines()[-1]}. Name a commit.")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([*git, "prune"], check=False)


def answers_of(code: Path, folder: Path, writes_old_files: bool) -> Answers:
    """Return the answers of one tree; both trees have a home of the same path, one after the other."""
    tree = Tree(code, folder / "home")
    shutil.copytree(folder / "inputs", tree.home / "inputs")
    (tree.home / "results").mkdir()
    shutil.copy2(tree.home / "inputs" / "cpu.csv", tree.home / "results" / "runs.csv")
    tree.require_own_code()
    found = {invocation.name: _said(tree, invocation) for invocation in invocations()}
    if writes_old_files:
        write_old_files(tree)
        shutil.copytree(tree.home / "before", folder / "before")
    else:
        shutil.copytree(folder / "before", tree.home / "before")
    found |= {invocation.name: _said(tree, invocation) for invocation in old_files()}
    shutil.rmtree(tree.home)
    return found


def _said(tree: Tree, invocation: Invocation) -> Answer:
    start = time.perf_counter()
    found = tree.answer(invocation)
    seconds = time.perf_counter() - start
    print(f"{tree.code.name}: {invocation.name}, exit {found['exit']}, {seconds:.1f} s", file=sys.stderr, flush=True)
    return found


def require_answers(answers: Answers) -> None:
    """Check that a tree answers what it should: two trees that both fail in the same way are equal, and prove nothing.

    Raises:
        ValueError: names the invocations.
    """
    odd = [
        f"{name} (exit {answer['exit']}: {' '.join(answer.get('error', []))[:BRIEF]})"
        for name, answer in answers.items()
        if name not in OF_THE_HOST and bool(answer["exit"]) != (name in REFUSED)
    ]
    if odd:
        raise ValueError(f"the older tree answers otherwise than these invocations expect: {'; '.join(odd)}.")


def report_of(before: Answers, after: Answers) -> dict[str, list[Finding]]:
    """Return all findings of each invocation."""
    return {
        invocation.name: [
            replace(finding, kind=EXPECTED) if finding.kind in FAILURES and is_announced(finding) else finding
            for finding in findings(before[invocation.name], after[invocation.name], invocation.tolerance)
        ]
        for invocation in (*invocations(), *old_files())
    }


def print_report(report: dict[str, list[Finding]]) -> None:
    rows = []
    for name, found in report.items():
        counts = Counter(finding.kind for finding in found)
        n_failures = sum(counts[kind] for kind in FAILURES)
        shown = [counts[kind] for kind in (EQUAL, RENAMED_KEY, EXPECTED, REWORDED)]
        rows.append([name, len(found), *shown, n_failures])
    print(table_text(["invocation", "compared", "equal", "renamed", "announced", "reworded", "different"], rows))
    for name, found in report.items():
        odd = [finding for finding in found if finding.kind in (*FAILURES, REWORDED)]
        for finding in odd[:SHOWN]:
            print(f"{name}{finding.where}: {finding.kind}: {_brief(finding.before)} -> {_brief(finding.after)}")
        if len(odd) > SHOWN:
            print(f"{name}: and {len(odd) - SHOWN} more, in the JSON file")


def _brief(value: Any) -> str:  # Any: a JSON value
    text = json.dumps(value)
    return text if len(text) <= BRIEF else f"{text[:BRIEF]}..."


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--before", required=True, metavar="COMMIT", help="commit to compare this tree with")
    parser.add_argument("--out", type=path_of, default=home() / "results" / "benchmarks", help="folder of the report")
    parser.add_argument("--words", action="store_true", help="fail where only words of a sentence differ, too")
    arguments = parser.parse_args()

    def work() -> int:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="same-answers-") as name:
            folder = Path(name).resolve()
            make_inputs(folder / "inputs")
            with worktree(arguments.before, folder / "before_tree") as code:
                before = answers_of(code, folder, writes_old_files=True)
            require_answers(before)
            after = answers_of(CODE_ROOT, folder, writes_old_files=False)
        report = report_of(before, after)
        print_report(report)
        counts = Counter(finding.kind for found in report.values() for finding in found)
        seconds = time.perf_counter() - start
        out = arguments.out / "same_answers.json"
        odd = {
            name: [
                {"kind": f.kind, "where": f.where, "before": f.before, "after": f.after}
                for f in found
                if f.kind != "equal"
            ]
            for name, found in report.items()
        }
        masks = [{"where": mask.where, "pattern": mask.pattern, "reason": mask.reason} for mask in VOLATILE]
        write_json_atomically(
            out,
            {"before": arguments.before, "wall_sec": seconds, "counts": counts, "findings": odd, "masked": masks},
        )
        print(f"{len(report)} invocations, {dict(counts)}, {seconds:.0f} s; written: {out.absolute()}")
        failures = (*FAILURES, REWORDED) if arguments.words else FAILURES
        return int(any(counts[kind] for kind in failures))

    return run_command(work)
