"""The real measuring process, and code to run before it."""

from __future__ import annotations

import sys

from epochcast.collect.run.child import CHILD

MEASURE = CHILD[-1]
RUN_AS_MAIN = "import runpy, sys\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
LIMIT_MEMORY = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
BLOCK_TENSORFLOW = "import sys\nsys.modules['tensorflow'] = None\n"


def real(*before: str) -> tuple[str, ...]:
    """Return the command of the real measuring process, with some code run before it."""
    return (sys.executable, "-c", "".join(before) + RUN_AS_MAIN, MEASURE)
