"""Where everything lives: one function per place, all below `home()` unless a user names another."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent  # epochcast/, in a checkout or in site-packages
CODE_ROOT = PACKAGE.parent


def is_checkout(folder: Path) -> bool:
    """Whether `folder` is a source checkout of this project (and not site-packages)."""
    return (folder / "pyproject.toml").is_file() and (folder / "collect" / "run_one.py").is_file()


def script_of(command: str) -> Path | None:
    """Return the checkout's script of `run` or `grid`; None without a checkout.

    Other commands have none.
    """
    script = {"run": "run_one.py", "grid": "run_grid.py"}.get(command)
    return CODE_ROOT / "collect" / script if script is not None and is_checkout(CODE_ROOT) else None


def command_text(command: str) -> str:
    """Return how `epochcast <command>` is typed here, so that it runs when pasted.

    By the console script of this Python, else by one on the PATH, else by this Python and the checkout's script: a
    bare `python` may be another one, without our packages.
    """
    own, on_path = Path(sys.executable).with_name("epochcast"), shutil.which("epochcast")
    if own.exists() and (on_path is None or not own.samefile(on_path)):
        return f"{_typed(own)} {command}"
    if on_path is not None:
        return f"epochcast {command}"
    python, script = _typed(Path(sys.executable)), script_of(command)
    return f"{python} -m epochcast {command}" if script is None else f"{python} {_typed(script)}"


def _typed(path: Path) -> str:
    """A program's or script's path as a shell takes it: from the working directory where it is below that."""
    try:
        folder = Path.cwd()
    except OSError:  # the working directory was removed
        return shlex.quote(str(path))
    return shlex.quote(str(path.relative_to(folder) if path.is_relative_to(folder) else path))


def expanded(text: str) -> Path:
    """A path whose `~` is a home folder.

    Raises:
        ValueError: if no such home folder is known.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(
            f"{text!r}: no such home folder is known. Write the path in full, or begin it with ./"
        ) from None


def _chosen(variable: str, follows_links: bool = True) -> Path | None:
    """The folder that an environment variable names; None where it is unset or empty.

    Raises:
        ValueError: if it can't be a folder: names the variable.
    """
    if not (text := os.environ.get(variable)):
        return None
    try:
        folder = expanded(text)
        resolved = folder.resolve()  # also where links stay in it: it can't be a circle of them
        return resolved if follows_links else folder.absolute()
    except (ValueError, OSError, RuntimeError) as error:  # the last for a circle of links
        raise ValueError(f"${variable}={text!r} names no folder: {error}") from None


def home() -> Path:
    """Root of all outputs: $EPOCHCAST_HOME, else the checkout that holds this code, else the working directory."""
    return _chosen("EPOCHCAST_HOME") or (CODE_ROOT if is_checkout(CODE_ROOT) else Path.cwd())


def reference_data() -> Path:
    """The reference measurements and images: $EPOCHCAST_REFERENCE_DATA, else `shared/data` beside the checkout."""
    return _chosen("EPOCHCAST_REFERENCE_DATA") or CODE_ROOT.parent / "shared" / "data"


def cache_dir() -> Path:
    """Where decoded images are kept: $EPOCHCAST_CACHE_DIR, else `epochcast` in the user's cache folder.

    Links stay in it: whose they are matters (`epochcast.storage.private_folder`).
    """
    if (chosen := _chosen("EPOCHCAST_CACHE_DIR", follows_links=False)) is not None:
        return chosen
    return (_chosen("XDG_CACHE_HOME", follows_links=False) or expanded("~/.cache")) / "epochcast"


def locks_dir() -> Path:
    """Where the locks of devices are, for all homes: $EPOCHCAST_LOCK_DIR, else `devices` in the user's cache folder."""
    if (chosen := _chosen("EPOCHCAST_LOCK_DIR", follows_links=False)) is not None:
        return chosen
    return (_chosen("XDG_CACHE_HOME", follows_links=False) or expanded("~/.cache")) / "epochcast" / "devices"


def runs_csv() -> Path:
    return home() / "results" / "runs.csv"


def fits_csv() -> Path:
    return home() / "results" / "fits.csv"


def runs_agg_csv() -> Path:
    return home() / "results" / "runs_agg.csv"


def failures_csv(runs: Path) -> Path:
    """Runs that did not finish, beside the table of those that did."""
    return runs.with_name("failures.csv" if runs.name == "runs.csv" else f"{runs.stem}_failures.csv")


def excluded_csv(runs: Path) -> Path:
    """Runs taken back, beside the table that holds them."""
    return runs.with_name("excluded.csv" if runs.name == "runs.csv" else f"{runs.stem}_excluded.csv")


def logs_dir() -> Path:
    return home() / "logs"


def models_dir() -> Path:
    return home() / "results" / "models"


def figures_dir() -> Path:
    return home() / "results" / "figures"


def plans_dir() -> Path:
    return home() / "results" / "plans"


def demo_dir() -> Path:
    return home() / "results" / "demo"


def pretrained_dir() -> Path:
    return PACKAGE / "model" / "pretrained"
