"""One tree of code, the home that its commands run in, and what they answer."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.answers.comparison import masked
from benchmarks.answers.invocations import VOLATILE, Invocation
from epochcast import STAGES

LONGEST_SEC = 900  # of one command
Answer = dict[str, Any]  # Any: JSON values


class Tree:
    """One tree of code and the home that its commands run in."""

    def __init__(self, code: Path, home: Path) -> None:
        self.code, self.home = code, home
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EPOCHCAST_", "KERAS_"))}
        cache = str(home / "cache")
        self.environ = kept | {
            "EPOCHCAST_HOME": str(home),
            "EPOCHCAST_CACHE_DIR": cache,
            "EPOCHCAST_LOCK_DIR": cache,
            "EPOCHCAST_REFERENCE_DATA": str(home / "none"),
            "PYTHONPATH": str(code),
            "COLUMNS": "80",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.home,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=LONGEST_SEC,
            stdin=subprocess.DEVNULL,
        )

    def require_own_code(self) -> None:
        """Check that the interpreter imports this tree and no installed one."""
        found = self.python("-c", "import epochcast; print(*epochcast.__path__)").stdout.strip()
        if Path(found).resolve() != (self.code / "epochcast").resolve():
            raise ValueError(f"{self.code}: epochcast was imported from {found!r}. Install nothing over PYTHONPATH.")

    def answer(self, invocation: Invocation) -> Answer:
        """Run a command; return its exit code, its answer and the files that it wrote."""
        before = self._files()
        done = self.python("-m", "epochcast", *shlex.split(invocation.arguments))
        found: Answer = {"exit": done.returncode}
        is_object = invocation.is_json and done.stdout.startswith("{")
        found |= {"json": json.loads(done.stdout)} if is_object else {"lines": done.stdout.splitlines()}
        if done.returncode:
            found["error"] = [line for line in done.stderr.splitlines() if not line.startswith(("usage:", " "))]
        now = self._files()
        found["files"] = {
            name: content_of(self.home / name) for name in sorted(now) if now[name] != before.get(name, "")
        }
        comparable: Answer = json.loads(self._without_paths(json.dumps(found)))
        return {key: masked(value, VOLATILE, f"{invocation.name}/{key}") for key, value in comparable.items()}

    def _without_paths(self, text: str) -> str:
        """Return a text in which both trees have the same paths; stages may stand below `epochcast/`."""
        text = text.replace(sys.executable, "<python>").replace(str(self.code), "<tree>")
        return re.sub(rf"<tree>/epochcast/({'|'.join(STAGES)})/", r"<tree>/\1/", text)

    def _files(self) -> dict[str, str]:
        """Hash of every file of the home, but those of caches, locks and inputs."""
        return {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.home.rglob("*")
            if path.is_file() and not path.name.startswith(".") and path.suffix != ".lock"
            if not (name := path.relative_to(self.home).as_posix()).startswith(("cache/", "inputs/"))
        }


def content_of(path: Path) -> Any:  # Any: a JSON value
    """Return what is compared of a file: its values, its lines, or that it is there and not empty."""
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [{name: _cell(text) for name, text in row.items()} for row in csv.DictReader(file)]
    if path.suffix in (".md", ".sh", ".txt", ".log"):
        return path.read_text(encoding="utf-8").splitlines()
    return "written" if path.stat().st_size else "empty"


def _cell(text: str) -> Any:  # Any: a JSON value
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return text


def write_old_files(tree: Tree) -> None:
    """Put what the older tree wrote into its `before/`: a model, plans, averages, a ledger cut off, logs."""
    home, old = tree.home, tree.home / "before"
    old.mkdir()
    (model,) = (home / "results" / "models").glob("*.keras")
    for suffix in (".keras", ".json"):
        shutil.copy2(model.with_suffix(suffix), old / f"home{suffix}")
    for name in ("plan.json", "synthetic.json", "a100.keras", "a100.json"):
        if (home / "made" / name).exists():
            shutil.copy2(home / "made" / name, old)
    (old / "averages").mkdir()
    for name in ("runs.csv", "runs_agg.csv", "runs_agg.csv.source.json"):
        shutil.copy2(home / "results" / name, old / "averages")
    run = "run_plan before/synthetic.json --any_conditions --runs before/all.csv --log_dir before/logs --hard"
    done = tree.python("-m", "epochcast", *run.split())
    if done.returncode:
        raise ValueError(f"{tree.code}: {run} failed: {done.stderr.strip().splitlines()[-1:]}")
    lines = (old / "all.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (old / "runs.csv").write_text("".join(lines[:2]), encoding="utf-8")
    (old / "unwritten.csv").write_text("".join(lines[:-1]), encoding="utf-8")  # as if the disk had been full
    ledger = old / "synthetic.ledger.jsonl"
    events = ledger.read_text(encoding="utf-8").splitlines(keepends=True)
    first = next(i for i, event in enumerate(events) if '"run_ended"' in event)
    ledger.write_text("".join(events[: first + 1]), encoding="utf-8")  # as if killed after the first run
