"""`epochcast train`: learn seconds per epoch from a table of averages, and save the model with its cards."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from epochcast.aggregate.averages.condition_sets import one_set_of_conditions
from epochcast.aggregate.averages.repeats import spread_warning
from epochcast.aggregate.averages.table import load_agg
from epochcast.cli import (
    add_json_flag,
    add_pairs_flag,
    add_table_flags,
    make_parser,
    print_home,
    print_notes,
    run_command,
)
from epochcast.collect.grid.config_lists import read_configs
from epochcast.flag_types import path_of, seed_int
from epochcast.model.time_model.card import card_path, markdown_path
from epochcast.model.time_model.card_text import card_lines
from epochcast.model.time_model.saved_model import load_model
from epochcast.model.training.recipes import PHYSICS_ANN, REFERENCE_ANN
from epochcast.model.training.save import declare, default_model_path, train
from epochcast.output.progress import progress
from epochcast.output.text import json_line

logger = logging.getLogger(__name__)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "epochcast train",
        "Learn seconds per epoch from the averages and save the model with its cards.",
        "epochcast train --runs_agg results/runs_agg.csv",
    )
    add_table_flags(parser)
    parser.add_argument(
        "--model",
        type=path_of,
        metavar="PATH",
        help="a .keras file to write; default: below results/models/",
    )
    parser.add_argument(
        "--recipe",
        choices=(PHYSICS_ANN, REFERENCE_ANN),
        default=PHYSICS_ANN,
        help="physics law and network (the law alone with few rows), or the original network for comparison",
    )
    parser.add_argument(
        "--start_from",
        type=path_of,
        metavar="PATH",
        help="another device's .keras model whose law and residual a few rows of this one are added to",
    )
    parser.add_argument("--seed", type=seed_int, default=0, help="of the splits and the first weights")
    parser.add_argument("--held_out", type=path_of, metavar="CSV", help="configurations to keep from all fitting")
    what = "conditions that the table lacks, e.g. device_name=...; the card says that they were declared"
    add_pairs_flag(parser, "--declare", what)
    parser.add_argument("--credit", metavar="TEXT", help="whose measurements these are, for the card")
    add_json_flag(parser, "print the card as one JSON object")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.model is not None and arguments.model.suffix != ".keras":
        parser.error(f"--model {arguments.model}: the name must end in .keras")
    if arguments.start_from is not None and arguments.recipe != PHYSICS_ANN:
        parser.error(f"--start_from needs --recipe {PHYSICS_ANN}")

    def work() -> int:
        print_home()
        import h5py  # noqa: F401  # Keras saves by it: missing, it is named before the training and not after

        table = load_agg(arguments.runs_agg, arguments.frozen)
        chosen = one_set_of_conditions(table.rows, [arguments.conditions], table.source)
        print_notes(chosen.notes)
        if words := spread_warning(chosen.rows, table.source):
            logger.warning("%s: %s", table.path, words)
        path = arguments.model or default_model_path(declare(chosen.rows[0].conditions, arguments.declare), table.path)
        card = train(
            chosen.rows,
            path,
            recipe=arguments.recipe,
            seed=arguments.seed,
            held_out=read_configs(arguments.held_out) if arguments.held_out else [],
            declared=arguments.declare,
            credit=arguments.credit,
            start=load_model(arguments.start_from) if arguments.start_from else None,
            say=progress,
        )
        if arguments.json:
            named = {"table": str(table.path), "table_origin": table.origin, "model": str(path.absolute())}
            print(json_line({**named, **chosen.to_json(), **card}))
            return 0
        print(f"table: {table.path} ({table.origin})")
        print("\n".join(card_lines(card)))
        print(f"model: {path.absolute()}")
        print(f"card: {card_path(path).absolute()}")
        print(f"card for people: {markdown_path(path).absolute()}")
        return 0

    return run_command(work)
