"""A command of ours, run in this process."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from typing import Any


def run_cli(main: Callable[[Sequence[str]], int], *argv: object) -> tuple[int, Any]:
    """Return the exit code of a command and the JSON that its last line is; None if it prints nothing."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main([str(word) for word in argv])
    lines = out.getvalue().strip().splitlines()
    return code, json.loads(lines[-1]) if lines else None
