"""Small trainings in processes of their own, one for each backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from epochcast.paths import CODE_ROOT


def one_thread() -> dict[str, str]:
    """Return variables with which TensorFlow and XLA compute in one thread.

    With two on two cores whole epochs of TensorFlow run on a single core for no reason that shows (the other is idle),
    and take twice the time of the epochs before and after them: what an estimator can do is lost in that.
    """
    single = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return {**single, "XLA_FLAGS": flags.strip()}


def in_child(module: str, arguments: list[Any], backend: str, more: Mapping[str, str]) -> dict[str, Any]:
    """Return what a module prints as JSON in its last line.

    Args:
        more: variables of its environment.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=CODE_ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", **more},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
