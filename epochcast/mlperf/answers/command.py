"""`epochcast mlperf predict`: its flags, and what it answers."""

from __future__ import annotations

import argparse

from epochcast.cli import add_json_flag
from epochcast.flag_types import path_of
from epochcast.mlperf.answers.answer import MlperfPredictor, answer_text
from epochcast.mlperf.query.query import QueryError
from epochcast.mlperf.regressor.stored import SHIPPED
from epochcast.output.text import json_line

WHAT = (
    "Answer a question such as `BERT on 8 A100 GPUs`: the time to train to MLPerf's target, its range, and the\n"
    "published entries nearest to it. Not an official MLPerf result."
)
EXAMPLE = 'epochcast mlperf predict "BERT on 8 A100 GPUs"'


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `epochcast mlperf predict`."""
    parser.add_argument("question", metavar="QUESTION", help="benchmark, device and count, in plain words")
    what = "folder written by epochcast mlperf train (default: what comes with the program)"
    parser.add_argument("--trained", type=path_of, metavar="PATH", help=what)
    add_json_flag(parser)


def answer(arguments: argparse.Namespace) -> str:
    """Return the answer to the question.

    Raises:
        argparse.ArgumentTypeError: if the question can't be answered.
    """
    predictor = MlperfPredictor(SHIPPED if arguments.trained is None else arguments.trained)
    try:
        found = predictor.predict(arguments.question)
    except QueryError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return json_line(found.to_json()) if arguments.json else answer_text(found)
