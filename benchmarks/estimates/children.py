"""Small trainings in processes of their own, one for each backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from epochcast.paths import CODE_ROOT


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
