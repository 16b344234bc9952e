"""Flags of every sub-command, found in its own parser, with sound and hostile values."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from epochcast.__main__ import main
from tests.fuzz import words
from tests.support.parsers import EVERY_COMMAND

HOSTILE = (
    "", " ", "-", "--", "-1", "0", "1", "-0.0", "0.5", "1e308", "1e-308", "1e999", "nan", "inf", "-inf", "9" * 400,
    "9" * 5000, str(10**18), str(2**63), "1_0", "٣", "½", "64,", ",", ",,", "1,2,3", "1:2", "64:2048:x2", "1:9999999",
    "2:5:0", "5:2", "1:100000000:x2", ":::", "x2", "a=b", "=", "a=", "=b", "a=b=c", "a=1,a=2", "depth=", "depth=2",
    "depth=nan", "__class__=1", "conditions=1", "config=(2,16,64)", "1h", "1h30m", "0s", "1w", "999999999w", "1e9h",
    "80GB", "0B", "1e300GB", "99999999TB", "gpu", "gpu:0", "gpu:99999999999", "GPU-x", "MIG-", "cpu", "auto", "on",
    "DE", "EU", "WORLD", "de", "XX", "DE,FR", "A100", "H100;A100", "a100 80gb", ";", "NVIDIA", "None", "null", "true",
    "float32", "~", "~nosuchuser/x", "../../x", ".", "..", "/", "/dev/null", "/dev/full", "/dev/stdin", "/proc/self/x",
    "\udcff\udcfe", "\ud800", "a" * 300, "a" * 5000, "\x1b[31m", "\u202e", "\n", "a\nb", "\r", "\t", "é", "日本", "😀",
    "$x^2$", "$(id)", "<script>", "&", "|", "'", '"', "`", "%s", "{0}", "{", "*", "?", "[", "--help", "--json", "-h",
)  # fmt: skip
SOUND: dict[str, tuple[str, ...]] = {  # by the name of an argument's type
    "positive_int": ("1", "2", "3", "16", "64"),
    "not_negative_int": ("0", "1", "7"),
    "positive_float": ("0.5", "1", "3600", "0.01"),
    "not_negative_float": ("0", "0.3", "400"),
    "int_list": ("2", "2,3", "64:256:x2", "2:4", "16,32"),
    "_seed_list": ("1", "1,2"),
    "repeats_int": ("1", "2"),
    "params_int": ("1000", "350000"),
    "seed_int": ("0", "1", "7"),
    "positive_sec": ("0.5", "3600"),
    "not_negative_sec": ("0", "2.5"),
    "conditions_of": ("backend=tensorflow", "precision=float32,tf32=off", "device_name="),
    "filter_of": ("depth=2", "backend=tensorflow", "precision=float32", "depth=2,base_filters=8", "device_name="),
    "fraction": ("0", "0.5", "1"),
    "duration_sec": ("90", "1h", "15m", "1h30m", "2d"),
    "memory_size": ("80GB", "79.2GiB", "512MB", "1000000"),
    "steps_per_execution": ("auto", "1", "8"),
    "run_id_of": ("run-1", "a.b", "x" * 199),
    "_at_least_two": ("2", "50"),
    "_confidence": ("0.5", "0.95"),
    "_first_epoch": ("measured", "none", "3.5"),
    "region_list": ("DE", "DE,FR", "US"),
    "gpu_names": ("A100", "H100;A100"),
    "pue": ("1", "1.5"),
    "shape_flag": ("8", "224,224,3"),
    "round_name": ("4.0", "v0.5"),
}
SOUND_BY_NAME = {
    "device": ("auto", "cpu", "gpu", "gpu:0"),
    "gpu": ("A100", "NVIDIA H100 80GB HBM3"),
    "region": ("DE", "US", "WORLD"),
    "credit": ("me", "a [link](http://x)"),
    "pipeline": ("auto", "tfdata", "arrays,device"),
    "precision": ("float32", "mixed_float16"),
    "jit_compile": ("auto", "on,off"),
    "input": ("arrays", "tfdata,cached"),
    "topic": ("gpus", "carbon"),
    "arguments": ("3", "--lr"),
    "command": ("extract",),
    "question": ("BERT on 8 A100 GPUs", "resnet on 64 H100 in Germany"),
}
SLOW = {"--deep"}  # starts a framework, 5 s: tests/collect/test_doctor.py
MOST = {"repeats": ("1", "2"), "n": ("1", "3")}  # what takes long when it is large, of sound values


class _ParserError(BaseException):  # which no command's handler takes for a fault of its own
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


@dataclass(frozen=True)
class Flag:
    """One argument of a command."""

    option: str | None  # None: positional
    name: str
    type_name: str
    choices: tuple[str, ...]
    takes_value: bool
    is_many: bool
    is_required: bool

    @property
    def is_path(self) -> bool:
        return "path" in self.type_name.lower() or self.name == "data_dir"

    @property
    def sound(self) -> tuple[str, ...]:
        """Values that its command takes; none known for a type that is new to this file."""
        return self.choices or MOST.get(self.name) or SOUND_BY_NAME.get(self.name) or SOUND.get(self.type_name, ())


@functools.cache
def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser that a command makes of itself."""

    def caught(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> Any:
        raise _ParserError(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", caught):
        try:
            main(command.split())
        except _ParserError as error:
            return error.parser
    raise AssertionError(f"{command} parses nothing")


@functools.cache
def flags_of(command: str) -> tuple[tuple[Flag, ...], tuple[tuple[str, ...], ...]]:
    """A command's arguments, and the groups of which one has to be given."""
    parser = parser_of(command)
    flags = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        option = action.option_strings[-1] if action.option_strings else None
        flags.append(
            Flag(
                option,
                action.dest,
                getattr(action.type, "__name__", "str"),
                tuple(map(str, action.choices or ())),
                action.nargs != 0,
                action.nargs in ("*", "+"),
                action.required or (option is None and action.nargs not in ("?", "*")),
            )
        )
    groups = tuple(
        tuple(action.option_strings[-1] for action in group._group_actions)
        for group in parser._mutually_exclusive_groups
        if group.required
    )
    return tuple(flags), groups


def all_flags() -> list[tuple[str, Flag]]:
    return [(command, flag) for command in EVERY_COMMAND for flag in flags_of(command)[0]]


def value(draw: Random, flag: Flag, hostility: float, path: Callable[[Random, Flag, bool], str]) -> str:
    """A value for a flag; `path` finds one where it names a file."""
    is_hostile = draw.random() < hostility
    if flag.is_path and (not is_hostile or draw.random() < 0.7):
        return path(draw, flag, is_hostile)
    if is_hostile:
        return words.text(draw).replace("\0", "") if draw.random() < 0.2 else draw.choice(HOSTILE)
    return draw.choice(flag.sound)


def command_line(
    draw: Random, command: str, path: Callable[[Random, Flag, bool], str], hostility: float = 0.4
) -> list[str]:
    """A command line: what has to be given, some flags more, seldom one that does not exist or a value too many."""
    flags, groups = flags_of(command)
    chosen = [flag for flag in flags if flag.is_required]
    chosen += [flag for group in groups for flag in flags if flag.option == draw.choice(group)][:1]
    others = [flag for flag in flags if flag not in chosen and flag.option not in SLOW]
    chosen += words.picked(draw, others, 4)
    if draw.random() < 0.03:
        chosen = chosen[1:]
    if command in ("estimate", "tune") and draw.random() < 0.8:  # what follows its script is the script's own
        chosen.sort(key=lambda flag: flag.option is None)
    argv: list[str] = []
    for flag in chosen:
        values = []
        if flag.takes_value:
            n = draw.choice((1, 2, 2, 3)) if flag.is_many else 1
            values = [value(draw, flag, hostility, path) for _ in range(n)]
        if flag.option is None:
            argv += values
        elif values and draw.random() < 0.3:
            argv.append(f"{flag.option}={values[0]}")
        else:
            argv += [flag.option, *values]
    if draw.random() < 0.04:
        argv.insert(draw.randint(0, len(argv)), draw.choice(HOSTILE))
    if draw.random() < 0.02:
        argv += [draw.choice(("--no_such_flag", "--depths", "--JSON", "-x"))]
    return [str(Path(word)) if isinstance(word, Path) else word for word in argv]
