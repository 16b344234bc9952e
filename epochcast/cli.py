"""What every command line shares: parsers, common flags, exit codes and printed answers."""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
from collections.abc import Callable, Container, Iterable, Mapping
from copy import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from epochcast.flag_types import figure_path, int_list, path_of, positive_int
from epochcast.guard import EXIT_USAGE, interruptible
from epochcast.output.streams import MessageFormatter, escaped_output
from epochcast.output.text import json_line, named_lines
from epochcast.paths import home, runs_agg_csv
from epochcast.schema import AXES, DEFAULT_CONFIG, RunConfig
from epochcast.storage.cells import shown
from epochcast.storage.filters import conditions_of, filter_of
from epochcast.text_sinks import message_text, terminal_text

PAIRS = "NAME=VALUE[,...]"
DEFAULT_VALUES = asdict(DEFAULT_CONFIG)


class AllPairs(argparse.Action):
    """What a repeated flag of NAME=VALUE pairs says together: every pair must hold, so a name has one value."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,  # argparse: whatever the flag's type returns
        option_string: str | None = None,
    ) -> None:
        before: dict[str, str] = getattr(namespace, self.dest) or {}
        for name, value in values.items():
            if before.get(name, value) != value:
                both = f"{shown(before[name])} and {shown(value)}"
                raise argparse.ArgumentError(self, f"{name} can't be both {both}: of repeated flags every pair holds")
        setattr(namespace, self.dest, {**before, **values})


# --- parsers ----------------------------------------------------------------------------------------------------------


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults where there is one to tell, written as a user would; examples kept as they are written."""

    def _expand_help(self, action: argparse.Action) -> str:
        if not isinstance(action.default, list):
            return super()._expand_help(action)
        shown = copy(action)
        shown.default = ",".join(map(str, action.default)) or None  # as it is typed, without brackets
        return super()._expand_help(shown)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_told = "default:" in (action.help or "")
        nothing_to_tell = action.default is None or action.default is False or action.default == {}
        return action.help if is_told or nothing_to_tell else super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: Any = None) -> None:  # a stream, None: standard error
        super()._print_message(terminal_text(message), file)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{message_text(f'error: {message}')}\nSee {self.prog} --help.\n")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:  # Any: of argparse's own
        """As argparse's, which takes the value of `--flag=--` for none at all and gives an empty list."""
        if action.option_strings and arg_strings == ["--"]:
            raise argparse.ArgumentError(action, "expected a value, got '--'")
        return super()._get_values(action, arg_strings)  # type: ignore[misc]  # it has no public name


def make_parser(prog: str, description: str, example: str) -> argparse.ArgumentParser:
    """A parser whose help ends with an example that works."""
    return _Parser(
        prog=prog,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )


def add_config_flags(
    parser: argparse._ActionsContainer,
    *,
    as_lists: Container[str] = (),
    defaults: Mapping[str, Any] = DEFAULT_VALUES,  # a value or a list of values
    texts: Mapping[str, str] | None = None,
) -> None:
    """Add the flags of a configuration, one for each axis.

    Those in `as_lists` take several values; one without a default is None unless it is given.
    """
    for axis in AXES:
        is_list, default = axis.name in as_lists, defaults.get(axis.name)
        parser.add_argument(
            f"--{axis.name}",
            type=int_list if is_list else positive_int,
            default=[default] if is_list and isinstance(default, int) else default,
            metavar="LIST" if is_list else None,
            help=(texts or {}).get(axis.name, axis.what),
        )


def config_lists(arguments: argparse.Namespace) -> list[list[int]]:
    """Return the values that the flags of each axis ask for; where not given, the default."""
    asked = {name: getattr(arguments, name) or default for name, default in DEFAULT_VALUES.items()}
    return [value if isinstance(value, list) else [value] for value in asked.values()]


def configs_of(arguments: argparse.Namespace) -> list[RunConfig]:
    """Return all combinations of the values that the flags of the axes ask for."""
    return [RunConfig(*values) for values in itertools.product(*config_lists(arguments))]


def add_json_flag(parser: argparse._ActionsContainer, what: str = "print one JSON object instead of lines") -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help=what)


def add_plot_flag(parser: argparse._ActionsContainer, what: str) -> None:
    """Add `--plot`, the path of a figure of `what`."""
    parser.add_argument("--plot", type=figure_path, metavar="PATH", help=f"draw {what} (.png or .svg)")


def add_filter_flag(parser: argparse._ActionsContainer, name: str, what: str) -> None:
    """Add a flag for a filter of rows; of a repeated one a row has to satisfy either."""
    parser.add_argument(
        name,
        type=filter_of,
        action="append",
        default=[],
        metavar=PAIRS,
        help=f"{what}; repeat it for either",
    )


def add_pairs_flag(parser: argparse._ActionsContainer, name: str, what: str) -> None:
    """Add a flag for NAME=VALUE pairs; of a repeated one every pair must hold."""
    parser.add_argument(name, type=conditions_of, action=AllPairs, default={}, metavar=PAIRS, help=what)


def add_conditions_flag(
    parser: argparse._ActionsContainer,
    what: str = "use only rows measured under these conditions, e.g. backend=jax,precision=float32",
) -> None:
    """Add `--conditions`."""
    add_pairs_flag(parser, "--conditions", f"{what}; may be repeated: every pair must hold")


def add_table_flags(parser: argparse._ActionsContainer, is_optional: bool = False) -> None:
    """Add the flags of a command that reads one set of conditions from a table of averages.

    With `is_optional` no table named is None: the command then takes the default one if there is any.
    """
    if is_optional:
        what = "table of averages; default: results/runs_agg.csv, if anything is measured"
        parser.add_argument("--runs_agg", type=path_of, metavar="PATH", help=what)
    else:
        path_flag(parser, "--runs_agg", runs_agg_csv, "table of averages; made anew where its runs.csv has changed")
    parser.add_argument("--frozen", action="store_true", help="refuse a table that is out of date")
    add_conditions_flag(parser)


def path_flag(parser: argparse._ActionsContainer, name: str, default: Callable[[], Path], what: str) -> None:
    """A flag for a path whose default lies below `home()` and is looked up when the command runs."""
    parser.add_argument(name, type=path_of, default=default(), metavar="PATH", help=what)


# --- running a command ------------------------------------------------------------------------------------------------


def run_command(work: Callable[[], int], *, outlives_readers: bool = False) -> int:
    """The exit code of `work`; what it raises becomes one sentence on stderr, and Ctrl-C `interrupted`.

    With `outlives_readers`, as measuring needs it, `work` goes on and succeeds though nobody can read what it prints.
    """
    with escaped_output(outlives_readers=outlives_readers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(MessageFormatter("%(levelname)s: %(message)s"))
        logging.basicConfig(level=logging.WARNING, handlers=[handler])
        return interruptible(work)


def print_home() -> None:
    """Say on stderr where files are read and written."""
    print(message_text(f"files under {home()}"), file=sys.stderr)


def print_notes(notes: Iterable[str]) -> None:
    """Say on stderr what was decided for the user, a line each."""
    for note in notes:
        print(message_text(f"note: {note}"), file=sys.stderr)


# --- printing ---------------------------------------------------------------------------------------------------------


def print_answer(values: Mapping[str, Any], as_json: bool) -> None:
    """Print an answer: `name: value` lines with 3 significant figures, or one JSON object in full precision."""
    for line in [json_line(values)] if as_json else named_lines(values):
        print(line)
