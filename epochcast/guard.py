"""What every command runs inside of: open standard streams, Ctrl-C at any moment, one sentence for any exception.

It imports next to nothing, since the imports of a command are among what it guards.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys

TYPE_CHECKING = False  # of `typing`, whose import takes longer than all of this
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, TextIO

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 128 + signal.SIGINT
SOURCE_DATE_EPOCH = "SOURCE_DATE_EPOCH"  # reproducible-builds.org: the date that files are stamped with
LAST_EPOCH = 253_402_300_799  # of the year 9999
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


# --- a process of our own --------------------------------------------------------------------------------------------


def own_process(work: Callable[[], int]) -> int:
    """Run a whole command, imports and parsing included, in a process that does nothing else; its exit code.

    Until `run_command` has begun its work, and again once that is done, Ctrl-C ends the process at once: nothing is
    half done then, and an exception could come to light in the middle of an import as something else.
    """
    keep_descriptors_open()
    _open_streams()
    _pass_over_bad_epoch()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as under nohup
        signal.signal(signal.SIGINT, _leave_at_once)
        sys.unraisablehook = _show_no_interrupt
        # the last of all that Python calls before it takes our handler away, and a press ends it by the signal
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    try:
        return guarded(work)
    finally:  # else Python would try to write the rest once more, and change the exit code
        discard_unwritten(sys.stdout)
        discard_unwritten(sys.stderr)


def keep_descriptors_open() -> None:
    """Open the null device on each closed one of the descriptors 0, 1 and 2, so that no file of ours gets it."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)


def die_with_parent(parent: int) -> None:
    """Have Linux end this process when its parent dies, so that no orphan keeps the GPU."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os.kill(os.getpid(), signal.SIGKILL)


def _open_streams() -> None:
    """Give `sys` the streams that Python found closed; what an encoding lacks is escaped, whatever the locale."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # print(file=None) would go to stdout
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _pass_over_bad_epoch() -> None:
    """Remove a $SOURCE_DATE_EPOCH that is no time: NumPy's and matplotlib's imports fail at it."""
    text = os.environ.get(SOURCE_DATE_EPOCH)
    if text is None or (text.isascii() and text.isdecimal() and len(text) <= 12 and int(text) <= LAST_EPOCH):
        return
    del os.environ[SOURCE_DATE_EPOCH]
    say(f"WARNING: {SOURCE_DATE_EPOCH}={text[:60]!r} is passed over: expected whole seconds since 1970")


def _leave_at_once(number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    say("interrupted")
    os._exit(EXIT_INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _leave_at_once)  # the second Ctrl-C is not waited for
    raise KeyboardInterrupt


def _show_no_interrupt(unraisable: Any) -> None:  # Any: sys.UnraisableHookArgs, which Python does not have
    """Obey a Ctrl-C that was swallowed (in a finaliser, in a callback of an import); show all else as Python does."""
    if _interrupts(unraisable.exc_value) - _interrupts(sys.exc_info()[1]):  # but one that is being cleaned up after
        _leave_at_once()
    sys.__unraisablehook__(unraisable)


def _interrupts(error: BaseException | None) -> set[int]:
    """The KeyboardInterrupts, by id, among an exception, its causes and what was handled when it was raised."""
    waiting, seen, found = [error], set(), set()
    while waiting:
        if (link := waiting.pop()) is None or id(link) in seen:
            continue
        seen.add(id(link))
        if isinstance(link, KeyboardInterrupt):
            found.add(id(link))
        waiting += [link.__cause__, link.__context__]
    return found


# --- the work of a command -------------------------------------------------------------------------------------------


def interruptible(work: Callable[[], int]) -> int:
    """`guarded`, with a first Ctrl-C that the work can clean up after."""
    if signal.getsignal(signal.SIGINT) is not _leave_at_once:  # called by a program: its handlers are its own
        return guarded(work)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        return guarded(work)
    finally:
        signal.signal(signal.SIGINT, _leave_at_once)


def guarded(work: Callable[[], int]) -> int:
    """The exit code of `work`; whatever it raises becomes one sentence on stderr. EPOCHCAST_DEBUG=1 shows the trace."""
    before = signal.getsignal(signal.SIGINT)
    try:
        try:
            code = work()
        except SystemExit:  # argparse's, after --help or a usage error
            _flush()
            raise
        _flush()
        return code
    except KeyboardInterrupt:
        say("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        discard_unwritten(sys.stdout)  # the reader left: nothing to say any more
        return EXIT_FAILED
    except Exception as error:
        is_pressed = before is _interrupt and signal.getsignal(signal.SIGINT) is _leave_at_once
        if is_pressed or (isinstance(error, SystemError | ImportError) and _interrupts(error)):
            say("interrupted")  # a library made another exception of it
            return EXIT_INTERRUPTED
        if os.environ.get("EPOCHCAST_DEBUG"):
            raise
        from epochcast.error_text import sentence_of  # only now: the door imports next to nothing

        say(f"error: {sentence_of(error)}")
        return EXIT_FAILED


def _flush() -> None:
    if sys.stdout is not None:
        with naming_output():
            sys.stdout.flush()
    discard_unwritten(sys.stderr)  # an answer is worth no less without its messages


class naming_output:  # noqa: N801  # a context manager without `contextlib`, which takes long to import
    """A block whose OSErrors say that they are of standard output; BrokenPipeError passes as it is."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError) and error.errno is not None:
            raise OSError(f"standard output: {error.strerror}. Send it to where it can be written.") from None


def discard_unwritten(stream: TextIO | None) -> None:
    """Flush a stream; where that fails, lead its descriptor to the null device."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            stream.flush()
        except OSError:  # of a stream without a descriptor, too
            pass
    except ValueError:  # closed
        pass


def say(line: str) -> None:
    """Print a line on stderr, if it can be: the exit code says it too."""
    if sys.stderr is None:  # print would take stdout
        return
    try:
        from epochcast.text_sinks import message_text  # only now: the door imports next to nothing

        print(message_text(line), file=sys.stderr, flush=True)
    except (OSError, ValueError, ImportError):
        pass
