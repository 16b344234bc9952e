"""A command of ours, run in this process."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Printed(NamedTuple):
    """What a command printed."""

    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        """Return the JSON that its last line is; None if it prints nothing."""
        return json.loads(self.lines[-1]) if self.lines else None


def end_of(main: Callable[[Sequence[str]], int], *argv: object) -> tuple[int, Printed]:
    """Return the exit code of a command and what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(word) for word in argv])
    return code, Printed(out.getvalue(), err.getvalue())


def run_cli(main: Callable[[Sequence[str]], int], *argv: object, code: int = 0) -> Printed:
    """Return what a command printed that must end with `code`."""
    found, printed = end_of(main, *argv)
    assert found == code, printed.err
    return printed
