"""Who hears of runs: a person, what is on the screen, the log. None of them can end a measurement."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO


def ignore(said: object) -> None:
    """Do nothing with what is said."""


@dataclass(frozen=True, slots=True)
class Listener:
    """What to call with the lines about runs, and with what their processes print.

    Attributes:
        report: gets the lines that concern more than one run: how a grid goes, that a run waits for the device.
        detail: gets the lines of one run: its start, epochs, result and row.
        output: gets what the measuring processes print, as bytes.
    """

    report: Callable[[str], None] = ignore
    detail: Callable[[str], None] = ignore
    output: Callable[[bytes], None] = ignore


SILENT = Listener()


class RunLog:
    """The log of one run and its listener; a full disk or a reader that left ends no measurement."""

    def __init__(self, file: IO[bytes], listener: Listener) -> None:
        self._file, self._listener = file, listener

    def note(self, line: str) -> None:
        """Write a line to the log alone."""
        self._write(f"{line}\n".encode(errors="replace"))

    def detail(self, line: str) -> None:
        """Write a line of this run, and show it where single runs are shown."""
        self.note(line)
        with contextlib.suppress(Exception):
            self._listener.detail(line)

    def report(self, line: str) -> None:
        """Write a line, and show it to everybody who listens."""
        self.note(line)
        with contextlib.suppress(Exception):
            self._listener.report(line)

    def output(self, data: bytes) -> None:
        """Write what the measuring process printed, and pass it on."""
        self._write(data)
        with contextlib.suppress(Exception):
            self._listener.output(data)

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self._file.write(data)
