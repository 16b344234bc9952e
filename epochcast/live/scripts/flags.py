"""Flags of the commands that try a fit of a script."""

from __future__ import annotations

import argparse
from pathlib import Path

from epochcast.flag_types import positive_float, positive_int
from epochcast.live.scripts.factory import CONTRACT, split_factory
from epochcast.live.scripts.works import Request

DEFAULT_SCRIPT_SEC = 600.0
FACTORY_HELP = f"""\
SCRIPT may name a function of a module, train.py:make_training. It takes no argument and returns
  {CONTRACT}.
The module is imported under its own name, not as __main__.

"""


def add_script_flags(parser: argparse.ArgumentParser, work: str) -> None:
    """Add the script, its arguments, and the flags that choose its fit.

    Args:
        work: what is done with the fit, a verb.
    """
    parser.epilog = FACTORY_HELP + (parser.epilog or "")
    parser.add_argument(
        "script", type=Path, metavar="SCRIPT", help="a Python script that trains a Keras model, or SCRIPT:FUNCTION"
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="arguments of the script")
    parser.add_argument("--fit", type=positive_int, default=1, metavar="N", help=f"{work} the script's N-th fit")
    parser.add_argument(
        "--script_sec",
        type=positive_float,
        default=DEFAULT_SCRIPT_SEC,
        metavar="SEC",
        help="how long the script may take until that fit",
    )


def script_of(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> tuple[str, str | None]:
    """Return the script, and the function of it if one is named.

    Raises:
        FileNotFoundError, ValueError: if there is no such script, or it is a notebook.
    """
    script, function = split_factory(str(arguments.script))
    if not script.exists():
        raise FileNotFoundError(f"{script}: no such file. Give the script that you train with.")
    if not script.is_file():
        raise ValueError(f"{script}: not a file. Give the script that you train with.")
    if script.suffix == ".ipynb":
        raise ValueError(f"{script}: a notebook. Make a script of it: jupyter nbconvert --to script {script}")
    if function is not None and arguments.fit != 1:
        parser.error("--fit chooses a fit of a script; a function makes one training")
    return str(script), function


def begin_note(request: Request) -> str:
    """Return what happens first, in a sentence."""
    if request.function is not None:
        return f"{request.script} is imported and {request.function} called; whatever they do is done for real."
    which = "its fit" if request.number == 1 else f"its fit number {request.number}"
    return f"{request.script} runs until {which}; whatever it does before that is done for real."
