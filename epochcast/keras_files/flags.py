"""The flags of commands that answer for a network of the user's own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from epochcast.flag_types import path_of, positive_int
from epochcast.schema import NETWORK_AXES

FLAGS = ("train_n", "sample_shape", "allow_unknown", "code")  # that go with --network


def add_network_flags(parser: argparse._ActionsContainer, of_train_n: str) -> None:
    """Add `--network` and what goes with it."""
    parser.add_argument("--network", type=path_of, metavar="FILE.keras", help="a network of your own, saved by Keras")
    parser.add_argument("--train_n", type=positive_int, help=of_train_n)
    parser.add_argument(
        "--sample_shape",
        type=shape_flag,
        action="append",
        default=[],
        metavar="[NAME=]N,...",
        help="of one sample of --network, where it leaves that open; of each of several inputs by its name",
    )
    parser.add_argument(
        "--allow_unknown", action="store_true", help="go on where layers of --network can't be counted, naming them"
    )
    parser.add_argument(
        "--code",
        type=path_of,
        action="append",
        default=[],
        metavar="FILE.py",
        help="run this file of yours, which defines classes of --network; may be repeated",
    )


def check_network_flags(parser: argparse.ArgumentParser, arguments: argparse.Namespace, more: Sequence[str]) -> None:
    """End with a usage error where flags do not go together; parse `sample_shape`.

    Args:
        more: names of further flags that go with --network alone.
    """
    of_cnn = [f"--{axis.name}" for axis in NETWORK_AXES if getattr(arguments, axis.name) is not None]
    if arguments.network is not None and of_cnn:
        parser.error(f"{' and '.join(of_cnn)} describe our CNN; --network brings its own layers. Leave one out.")
    names = (*FLAGS, *more)
    if arguments.network is None and any(getattr(arguments, name) for name in names):
        listed = ", ".join(f"--{name}" for name in names[:-1])
        parser.error(f"{listed} and --{names[-1]} go with --network")
    if arguments.network is None:
        return
    from epochcast.keras_files.inputs import shape_asked  # half of the start of a command that has no network

    try:
        arguments.sample_shape = shape_asked(arguments.sample_shape)
    except ValueError as error:
        parser.error(str(error))


def shape_flag(text: str) -> tuple[str | None, tuple[int, ...]]:
    """Return a sample's shape, with the name of its input where one is given: `128,128,3`, `left=128,8`."""
    name, _, sizes = text.rpartition("=")
    return name or None, tuple(positive_int(size) for size in sizes.split(","))
