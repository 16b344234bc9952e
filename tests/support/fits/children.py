"""Processes that try fits, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from epochcast.paths import CODE_ROOT

Left = dict[tuple[str, str], tuple[dict[str, Any], Any]]  # by case and variant: what was left, and what was told


def left_by(backend: str, folder: Path, *words: str, **environment: str) -> Left:
    """What a process leaves that tries variants of cases.

    All fits of a case compile the same: under JAX the first one's programs are kept in `folder`.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.fits.identity", *words],
        cwd=CODE_ROOT,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "EPOCHCAST_HOME": str(folder),
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiling is most of such a test's time
            "JAX_COMPILATION_CACHE_DIR": str(folder),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return {(case, variant): (left, told) for case, variant, left, told in found}


def differing(left: Left, case: str, variant: str) -> list[str]:
    """Names of what a variant left differently from the fit without an estimate."""
    control = "resumed control" if variant.startswith("resumed ") else "control"
    expected, found = left[case, control][0], left[case, variant][0]
    assert "error" not in expected and "error" not in found, (expected, found)
    assert len(expected) > 8
    return [name for name in expected if expected[name] != found[name]]
