"""A process in which Keras runs on JAX, for code that must need no TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys

from epochcast.paths import CODE_ROOT
from tests.support.real_child import lean_keras


def run_on_jax(code: str, folder) -> str:
    """Run `code` with warnings as errors and return what it prints; `folder` is Keras's home."""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "KERAS_HOME": str(folder)}
    environment["PYTHONPATH"] = lean_keras(folder)
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # compiling is most of such a test's time
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=CODE_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout
