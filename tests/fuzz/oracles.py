"""One call into the product under every oracle: exceptions, messages, time, writes, network, output, memory."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epochcast.paths import CODE_ROOT
from tests.fuzz.audit import watched

HANG_SEC = 20.0
LOOK_SEC = 2.0  # how often a call that lasts is looked at
# the commit of the checkout is asked for; h5py and Keras ask `platform`, which asks uname
PROGRAMS = frozenset({"git", "uname"})
IDLE_SHARE = 0.02  # of a processor: a call that uses less waits for something
HANGS = 2  # so many waits are waited for to their end; later ones are known for what they are after a look
MEMORY_BYTES = 1 << 30
GROWTH_BYTES = 256 << 20  # allowed to a process that holds about as much before: one in which tests trained networks
LONGEST_MESSAGE, MOST_LINES = 4000, 40  # of a refusal: it may list what the user can choose from
EXIT_CODES = (0, 1, 2, 130)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but tab and newline
COLUMNS = ("traceback", "silent", "hang", "outside", "memory", "words")


class HangError(BaseException):
    """Raised by the alarm; no handler of the product's catches it."""


@dataclass
class Heard:
    """What a call said: log and warnings, stdout and stderr, and its refusal if it refused."""

    log: list[str] = field(default_factory=list)
    out: str = ""
    err: str = ""
    refusal: str = ""
    warned: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join([*self.log, self.err, self.out, self.refusal])


def nothing_wrong(answer: Any, heard: Heard) -> list[str]:
    return []


@dataclass(frozen=True)
class Call:
    """One call, and what may come of it.

    Args:
        name: what a fault is reported under.
        named: a refusal must name one of these files.
        writes: folders and files that may be written to.
        check: what is silently wrong with an answer that was given, in words.
        programs: other programs that may be started.
        argv: of a command; the call is then judged as one: exit code, streams, JSON.
        refusal_check: what is wrong with a refusal, in words.
    """

    name: str
    function: Callable[[], Any]
    check: Callable[[Any, Heard], list[str]] = nothing_wrong
    named: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    programs: frozenset[str] = PROGRAMS
    argv: tuple[str, ...] | None = None
    refusal_check: Callable[[BaseException], list[str]] = lambda error: []


@dataclass
class Verdict:
    """What came of a call: `accepted`, `refused` or `fault`, and the faults as (column, text)."""

    outcome: str
    faults: list[tuple[str, str]]
    answer: Any = None
    heard: Heard = field(default_factory=Heard)


class Judge:
    """Runs calls under all oracles; remembers how many hangs there were."""

    def __init__(self) -> None:
        self.hangs = 0

    def call(self, call: Call) -> Verdict:
        heard = Heard()
        faults: list[tuple[str, str]] = []
        outcome, answer = "accepted", None
        reset_peak()
        before = peak_bytes()
        with _listened(heard), watched(call.writes, call.programs) as outside:
            try:
                with _alarm(is_known=self.hangs >= HANGS):
                    answer = call.function()
            except HangError as error:
                self.hangs += 1
                faults.append(("hang", f"{error} {_where(error)}"))
            except SystemExit as end:
                answer = end.code
                if call.argv is None:
                    faults.append(("traceback", f"SystemExit {_where(end)}"))
            except KeyboardInterrupt:
                raise
            except (ValueError, OSError) as error:
                outcome, heard.refusal = "refused", _message(error)
                if call.argv is not None:
                    faults.append(("traceback", f"{type(error).__name__} leaves the command {_where(error)}"))
                else:
                    faults += [("words", f"{text} {_where(error)}") for text in _wording(error, call.named)]
                    faults += [("silent", text) for text in call.refusal_check(error)]
            except BaseException as error:
                faults.append(("traceback", f"{type(error).__name__} {_where(error)}: {str(error)[:120]}"))
        faults += [("outside", text) for text in outside]
        if (peak := peak_bytes()) > max(MEMORY_BYTES, before + GROWTH_BYTES):
            faults.append(("memory", f"{peak / 2**20:.0f} MiB at most"))
        faults += [("words", f"a warning of Python's own reaches the user: {text}") for text in heard.warned[:1]]
        is_whole = not any(column in ("traceback", "hang") for column, _ in faults)
        if is_whole and call.argv is not None:
            outcome = "accepted" if answer in (0, None) else "refused"
            faults += _command_faults(call.argv, answer, heard)
        if is_whole and outcome == "accepted":
            faults += _checked(call, answer, heard)
        return Verdict("fault" if faults else outcome, faults, answer, heard)


def _checked(call: Call, answer: Any, heard: Heard) -> list[tuple[str, str]]:
    """What a check finds; one that can't read what was written finds that."""
    try:
        return [("silent", text) for text in call.check(answer, heard)]
    except Exception as error:
        return [("silent", f"what came of it can't be checked: {type(error).__name__}: {str(error)[-160:]}")]


def _message(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    return f"{error!s} {name or ''}"


def _where(error: BaseException) -> str:
    """The last line of the product that an exception passed, as file:line."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f.filename.startswith(str(CODE_ROOT)) and "/tests/" not in f.filename]
    if not ours:
        return "at ?"
    return f"at {Path(ours[-1].filename).relative_to(CODE_ROOT)}:{ours[-1].name}"


def _wording(error: BaseException, named: Sequence[Path]) -> Iterator[str]:
    """What is wrong with a refusal's text."""
    text = _message(error).strip()
    if not text:
        yield f"{type(error).__name__} without a word"
    if len(text) > LONGEST_MESSAGE or text.count("\n") > MOST_LINES:
        yield f"a message of {len(text):,} characters in {text.count(chr(10)) + 1} lines"
    if named and not any(path.name in text for path in named):
        yield f"the message names no file: {text[:100]!r}"
    if CONTROL.search(text):
        yield f"control characters in the message: {CONTROL.findall(text)[:3]}"


def _command_faults(argv: Sequence[str], code: Any, heard: Heard) -> Iterator[tuple[str, str]]:
    """What is wrong with how a command ended."""
    code = 0 if code is None else code
    if isinstance(code, str) or code not in EXIT_CODES:
        yield "traceback", f"exit code {code!r}"
    said = heard.out + heard.err + "\n".join(heard.log)
    if "Traceback (most recent call last)" in said:
        last = [line for line in heard.err.splitlines() if line.strip()][-1:]
        yield "traceback", f"a traceback is printed: {last}"
    if found := re.search(r"^error: unexpected .*", heard.err, re.MULTILINE):  # by the door, which lets nothing out
        yield "traceback", f"an exception that nobody foresaw: {found[0][:160]}"
    if found := re.search(r"^error: (\w*(?:Error|Exception))\b(.*)", heard.err, re.MULTILINE):
        yield "words", f"the error is an exception's name: {found[0][:120]}"
    if code != 0 and not re.search(r"\S", re.sub(r"files under .*", "", heard.out + heard.err)):
        yield "words", f"exit code {code} without a word"
    if CONTROL.search(heard.out + heard.err):
        yield "words", f"control characters on the screen: {CONTROL.findall(heard.out + heard.err)[:3]}"
    errors = [line for line in heard.err.splitlines() if line.startswith("error: ")]
    if any(len(line) > LONGEST_MESSAGE + max(map(len, argv), default=0) for line in errors):
        yield "words", f"an error of {max(map(len, errors)):,} characters in one line"
    if "--json" in argv and (code == 0 or heard.out):
        yield from ((("words", text)) for text in _json_faults(heard.out, code))


def _json_faults(out: str, code: int) -> Iterator[str]:
    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    try:
        value = json.loads(out, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        if not out.startswith("usage: "):  # --help goes before --json
            yield f"--json printed no JSON (exit code {code}): {error}: {out[:60]!r}"
        return
    if not isinstance(value, dict):
        yield f"--json printed a {type(value).__name__}, no object"


# --- how -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _alarm(is_known: bool) -> Iterator[None]:
    """Raise HangError after HANG_SEC, not counted what was waited for a processor; a mere wait sooner if `is_known`."""
    start, processor = _own_sec(), time.process_time()

    def ring(number: int, frame: Any) -> None:
        passed, used = _own_sec() - start, time.process_time() - processor
        if passed >= HANG_SEC:
            raise HangError(f"no end after {HANG_SEC:g} s")
        if is_known and used < IDLE_SHARE * passed:
            raise HangError("waits without end")

    before = signal.signal(signal.SIGALRM, ring)
    look = min(LOOK_SEC, HANG_SEC)
    signal.setitimer(signal.ITIMER_REAL, look, look)  # again and again, should somebody catch the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _own_sec() -> float:
    """The monotonic clock without the time that this thread was ready and had no processor: other work on the box."""
    try:
        waited = int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        waited = 0.0
    return time.monotonic() - waited


class _Ear(logging.Handler):
    def __init__(self, log: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.append(record.getMessage())


@contextlib.contextmanager
def _listened(heard: Heard) -> Iterator[None]:
    """Take logs, warnings and standard streams; streams as a terminal's or pipe's would be, strict UTF-8."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers, root.level = [_Ear(heard.log)], logging.WARNING
    streams = sys.stdin, sys.stdout, sys.stderr
    out, err = io.BytesIO(), io.BytesIO()
    own = (
        io.TextIOWrapper(io.BytesIO()),
        io.TextIOWrapper(out, "utf-8", write_through=True),
        io.TextIOWrapper(err, "utf-8", errors="backslashreplace", write_through=True),
    )
    sys.stdin, sys.stdout, sys.stderr = own
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", DeprecationWarning)  # of libraries, never shown to a user
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        heard.warned = [f"{each.category.__name__}: {str(each.message)[:100]}" for each in caught]
        sys.stdin, sys.stdout, sys.stderr = streams
        root.handlers, root.level = handlers, level
        for stream in own[1:]:
            with contextlib.suppress(ValueError):  # what could not be encoded stays behind
                stream.flush()
        heard.out = out.getvalue().decode(errors="replace")
        heard.err = err.getvalue().decode(errors="replace")


_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def reset_peak() -> None:
    """Let the kernel forget the process's largest size so far; where it can't, the largest of all tries is reported."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def peak_bytes() -> int:
    """The largest resident size since `reset_peak`."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
