"""Every flag of every sub-command, found by walking the parsers that the commands build."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from importlib import import_module
from unittest import mock

from epochcast.__main__ import COMMANDS
from epochcast.commands.mlperf import SUBCOMMANDS

# every command with a parser of its own, also those below another one
EVERY_COMMAND = (*COMMANDS, *(f"mlperf {name}" for name in SUBCOMMANDS))


class _FoundError(BaseException):
    pass


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser that a sub-command builds."""
    found: list[argparse.ArgumentParser] = []

    def keep(self: argparse.ArgumentParser, *_: object) -> argparse.Namespace:
        found.append(self)
        raise _FoundError

    with mock.patch.object(argparse.ArgumentParser, "parse_args", keep), contextlib.suppress(_FoundError):
        name, *below = command.split()
        import_module(COMMANDS[name][0]).main(below)
    return found[0]


def flags_with_a_value(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The names of a parser's flags that take a value; an empty one stands for its positional arguments."""
    for action in parser._actions:
        if action.option_strings and action.nargs != 0:
            yield action.option_strings[-1]
        elif not action.option_strings:
            yield ""
