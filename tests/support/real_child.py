"""The real measuring process, and code to run before it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from epochcast.collect.run.child import CHILD

MEASURE = CHILD[-1]
RUN_AS_MAIN = "import runpy, sys\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
LIMIT_MEMORY = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
KERAS_EXTRAS = ("matplotlib", "pandas", "sklearn")
BLOCK_TENSORFLOW = "import sys\nsys.modules['tensorflow'] = None\n"


def real(*before: str) -> tuple[str, ...]:
    """Return the command of the real measuring process, with some code run before it."""
    return (sys.executable, "-c", "".join(before) + RUN_AS_MAIN, MEASURE)


def lean_keras(folder: Path, *more: str) -> str:
    """Return a PYTHONPATH with which Keras starts without plots, tables, wrappers and what `more` names.

    Keras imports these packages where they are installed; no run uses them.
    """
    lean = folder / "lean"
    lean.mkdir()
    for name in (*KERAS_EXTRAS, *more):
        (lean / f"{name}.py").write_text("raise ImportError('left out by a test')\n")
    return os.pathsep.join(filter(None, (str(lean), os.environ.get("PYTHONPATH"))))
