"""A user's script, run unchanged until the fit that is estimated or tuned.

The script chooses the backend by what it sets before it imports Keras, so that nothing here imports Keras before it.
Once its fit was tried, the process ends at once: nothing that the script would do after an exception (save what was
trained, remove files) is done with a model that was only tried.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any, NoReturn

from epochcast.guard import die_with_parent, say
from epochcast.live.scripts.catch import MODEL_MODULE, Calls, catch_fit
from epochcast.live.scripts.caught import description
from epochcast.live.scripts.factory import CONTRACT, FactoryError, function_of, imported, training_of
from epochcast.live.scripts.works import WORKS, CaughtFit, Request, Tell
from epochcast.paths import CODE_ROOT
from epochcast.text_sinks import shortened

LIVE = Path(__file__).parents[1]
LONGEST = 300  # characters of another library's message


class Run:
    """One script or factory, run until its fit; `tell` hears what comes of it.

    Args:
        asked: lines of JSON, what is asked for while a fit is tuned.
    """

    def __init__(self, request: Request, tell: Tell, asked: Iterable[str] = ()) -> None:
        self.request = request
        self._asked = asked
        self._own = os.getpid()
        self._tell = tell
        self._begin = time.perf_counter(), time.process_time()
        self._is_caught = False
        self._no_fit: str | None = None  # why no fit may be called now, in words: only a factory's are wrong

    def tell(self, event: str, **values: Any) -> None:
        """Tell the parent, if this is no process that the script forked."""
        if os.getpid() == self._own:
            self._tell(event, **values)

    def run(self) -> None:
        """Run what was asked for, and end the process as soon as its fit was tried."""
        request = self.request
        number = 1 if request.function else request.number
        calls = catch_fit(
            number, self._caught, lambda name: self.tell("own_loop", name=name), self._old_fit, request.policy
        )
        script = Path(request.script)
        sys.argv = [request.script, *request.arguments]
        sys.path.insert(0, os.path.dirname(os.path.realpath(script)))  # noqa: PTH120  # as Python itself has it
        if request.function is None:
            self._run_script(script, calls)
        else:
            self._run_factory(script, request.function, calls)

    # --- a script -----------------------------------------------------------------------------------------------------

    def _run_script(self, script: Path, calls: Calls) -> None:
        code = self._code_of(script)
        if code is None:
            return
        try:
            exec(code, _new_main(script).__dict__)  # the user's own script
        except SystemExit as end:
            if isinstance(end.code, str):  # as Python does
                say(end.code)
            self._ended(end.code if isinstance(end.code, int) else 0 if end.code is None else 1, calls)
        except BaseException as error:
            self._raised(error)
        else:
            self._ended(0, calls)

    def _code_of(self, script: Path) -> CodeType | None:
        try:
            return compile(script.read_bytes(), str(script.absolute()), "exec", dont_inherit=True)
        except SyntaxError as error:
            line = "" if error.lineno is None else f" line {error.lineno}"
            self.tell("unusable", message=f"{self.request.script}{line}: not Python ({error.msg}).")
        except ValueError as error:  # NUL in it
            self.tell("unusable", message=f"{self.request.script}: not Python ({shortened(str(error))}).")
        except OSError as error:
            self.tell("unusable", message=f"{self.request.script}: {error.strerror}.")
        return None

    def _ended(self, code: int, calls: Calls) -> None:
        """Tell that the script is over."""
        _wait_for_threads()
        if not self._is_caught:
            self.tell("ended", code=code, fits=calls.fits, own_loop=calls.own_loop)

    def _raised(self, error: BaseException, words: str | None = None) -> None:
        """Show an exception as Python does, without the frames of this module, and tell it."""
        error = error.with_traceback(_own_part(error.__traceback__))
        sys.excepthook(type(error), error, error.__traceback__)
        text = shortened(f"{type(error).__name__}: {error}".rstrip(": "), LONGEST)
        _wait_for_threads()
        self.tell("raised", message=text, where=words)

    # --- a factory ----------------------------------------------------------------------------------------------------

    def _run_factory(self, script: Path, name: str, calls: Calls) -> None:
        self._no_fit = (
            f'when it is imported. Put that below `if __name__ == "__main__":`, or leave the function out: epochcast '
            f"{self.request.work} {script}"
        )
        module = self._imported(script)
        if module is None:
            return
        try:
            function = function_of(module, name)
            self._no_fit = f"in {name}, which has to return what fit is given: {CONTRACT}."
            try:
                made = function()
            except BaseException as error:
                self._raised(error, f"in {name}")
                return
            training = training_of(name, made)
        except FactoryError as error:
            self.tell("unusable", message=f"{script}: {error}")
            return
        calls.number = self._no_fit = None
        self._caught(*training)

    def _imported(self, script: Path) -> Any:
        try:
            return imported(script)
        except FactoryError as error:
            self.tell("unusable", message=f"{script}: {error}")
        except SyntaxError as error:
            line = "" if error.lineno is None else f" line {error.lineno}"
            self.tell("unusable", message=f"{error.filename or script}{line}: not Python ({error.msg}).")
        except BaseException as error:
            self._raised(error, "when it is imported")
        return None

    def _old_fit(self) -> NoReturn:
        self.tell(
            "unusable",
            message=f"{self.request.script} trains by Keras 2 (tf_keras), whose fit can't be caught. Unset "
            "TF_USE_LEGACY_KERAS, or import keras instead.",
        )
        os._exit(0)

    # --- the fit ------------------------------------------------------------------------------------------------------

    def _caught(self, model: Any, x: Any, y: Any, options: dict[str, Any]) -> NoReturn:
        """Estimate or tune a fit, and end the process."""
        self._is_caught = True
        if os.getpid() != self._own:
            self._tell("failed", message="its fit is called in a forked process, where no framework can be timed.")
            os._exit(0)
        if self._no_fit is not None:
            self.tell("unusable", message=f"{self.request.script} calls fit {self._no_fit}")
            os._exit(0)
        try:
            sec, cpu_sec = time.perf_counter() - self._begin[0], time.process_time() - self._begin[1]
            self.tell("caught", script_sec=sec, script_cpu_sec=cpu_sec, **description(model, x, y, options))
            # where a class has a fit of its own, what was caught is what that one gave to Keras's
            fit = None if self.request.function is not None else sys.modules[MODEL_MODULE].Model.fit
            WORKS[self.request.work](CaughtFit(model, x, y, options, fit), self.request, self.tell, self._asked)
        except BaseException as error:  # whatever the model, its data or the framework raise in a step
            if os.environ.get("EPOCHCAST_DEBUG"):
                sys.__excepthook__(type(error), error, error.__traceback__)
            self.tell("failed", message=_words_of(error))
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    stream.flush()
            os._exit(0)


def _wait_for_threads() -> None:
    """Wait for threads, as Python does: one may come to a fit."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


def _words_of(error: BaseException) -> str:
    """Return an exception of a fit in a line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    is_ours = trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(LIVE)
    kind = "" if is_ours and isinstance(error, ValueError) else f"{type(error).__name__}: "
    return shortened(f"{kind}{error}", 2 * LONGEST)


def _new_main(script: Path) -> ModuleType:
    """Return a new `__main__`, as Python makes it for a script."""
    main = ModuleType("__main__")
    path = str(script.absolute())
    main.__dict__.update(
        __file__=path, __builtins__=builtins, __loader__=SourceFileLoader("__main__", path), __cached__=None
    )
    sys.modules["__main__"] = main
    return main


def _own_part(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without its first frames, which are ours."""
    while trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(LIVE):
        trace = trace.tb_next
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith("<frozen importlib"):
        trace = trace.tb_next
    return trace


def command(request: Request, descriptor: int | None) -> list[str]:
    """Return the command of a process that runs a script and writes events as JSON.

    Without a descriptor for them a factory's training is trained to its end instead.
    """
    code = (
        f"import sys; sys.path.insert(0, {str(CODE_ROOT)!r}); import epochcast.live.scripts.script as script; "
        "sys.path.pop(0); sys.exit(script.main())"  # of the checkout, a script's own imports see nothing
    )
    return [sys.executable, "-P", "-c", code, json.dumps([descriptor, os.getpid(), asdict(request)])]


def train(request: Request) -> int:
    """Run a script to its end, and keep its fit as a row."""
    script = Path(request.script)
    sys.argv = [request.script, *request.arguments]
    sys.path.insert(0, os.path.dirname(os.path.realpath(script)))  # noqa: PTH120  # as Python itself has it

    def caught(model: Any, x: Any, y: Any, options: dict[str, Any]) -> Any:
        from epochcast.live.forecast.recorded import recorded_fit

        history, notes = recorded_fit(
            sys.modules[MODEL_MODULE].Model.fit, model, x, y, options, os.path.realpath(script)
        )
        for note in notes:
            say(f"note: {note}")
        return history

    catch_fit(1 if request.function else request.number, caught, lambda name: None, None)
    try:
        if request.function is None:
            exec(
                compile(script.read_bytes(), str(script.absolute()), "exec", dont_inherit=True),
                _new_main(script).__dict__,
            )
        else:
            model, x, y, options = training_of(request.function, function_of(imported(script), request.function)())
            model.fit(x, y, **options)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        sys.excepthook(type(error), error, _own_part(error.__traceback__))
        return 1
    return 0


def main() -> int:
    descriptor, parent, asked = json.loads(sys.argv[1])
    request = Request(**{**asked, "arguments": tuple(asked["arguments"])})
    if descriptor is None:
        return train(request)
    die_with_parent(parent)
    os.set_inheritable(descriptor, False)  # by what the script starts: it would keep the pipe open
    for name, value in request.environment.items():
        os.environ.setdefault(name, value)
    with (
        os.fdopen(descriptor, "w", encoding="utf-8") as events,
        os.fdopen(os.dup(descriptor), encoding="utf-8") as asked_for,
    ):

        def tell(event: str, **values: Any) -> None:
            print(json.dumps({"event": event, **values}), file=events, flush=True)

        Run(request, tell, asked_for).run()
    return 0
