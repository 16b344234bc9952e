"""Standard streams of a command, on which everything from outside is escaped."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

from epochcast.guard import discard_unwritten, naming_output
from epochcast.text_sinks import message_text, one_line, terminal_text


class MessageFormatter(logging.Formatter):
    """Log records as `message_text`."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        return message_text(super().formatMessage(record))


class EscapedStream:
    """A text stream to which everything is written as `terminal_text`.

    With `outlives_readers`, text that can't be written (the reader left, the disk is full) is dropped.
    """

    def __init__(self, stream: TextIO, *, outlives_readers: bool = False) -> None:
        self.unescaped = stream
        self.outlives_readers = outlives_readers

    def write(self, text: str) -> int:
        with self._errors():
            self.unescaped.write(terminal_text(text))
        return len(text)

    def flush(self) -> None:
        with self._errors():
            self.unescaped.flush()

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.suppress(OSError) if self.outlives_readers else naming_output()

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:  # whatever else a stream has
        return getattr(self.unescaped, name)


@contextlib.contextmanager
def escaped_output(*, outlives_readers: bool = False) -> Iterator[None]:
    """A block whose standard output and error are `EscapedStream`s, so that no command forgets it.

    Nothing written to standard error ends the block. With `outlives_readers` nothing written to standard output does.
    """
    out, err = _escaped(sys.stdout, outlives_readers), _escaped(sys.stderr, outlives_readers=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            yield
        finally:
            for stream in (out, err):
                if isinstance(stream, EscapedStream) and stream.outlives_readers:
                    discard_unwritten(stream.unescaped)


def _escaped(stream: TextIO, outlives_readers: bool) -> TextIO:
    is_plain = stream is not None and not isinstance(stream, EscapedStream)  # None: closed when Python started
    return cast(TextIO, EscapedStream(stream, outlives_readers=outlives_readers)) if is_plain else stream


def rewrite_line(stream: TextIO, line: str, is_last: bool) -> None:
    """Write a line of progress over the one before it on a terminal; the last one stays."""
    stream = getattr(stream, "unescaped", stream)
    with contextlib.suppress(OSError):  # nobody needs progress
        stream.write(f"\r\033[K{one_line(line)}" + "\n" * is_last)
        stream.flush()
