"""The flags of a command that reports a run's footprint."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from epochcast.flag_types import not_negative_float, positive_float
from epochcast.footprint.rules import ENERGY_FORMULAS, FootprintRules

if TYPE_CHECKING:
    from epochcast.facts.regions import Region

DEFAULT = ENERGY_FORMULAS[0]
FLAGS = (
    "region",
    "usd_per_kwh",
    "gco2_per_kwh",
    "pue",
    "usd_per_gpu_hour",
    "host_w",
    "board_w",
    "embodied",
    "energy_formula",
)


HELP = {  # what means something else to one command or another
    "region": "several give a table",
    "usd_per_gpu_hour": "price of a GPU in a cloud; default: its on-demand offers on record",
    "embodied": "also the CO2e of making the GPU, a line of its own with its assumptions",
}


def region_list(text: str) -> list[Region]:
    """Return the regions that `DE,FR,US-CA` names, each once."""
    from epochcast.facts.regions import find_region  # the tables of facts: only if a region is named

    regions = {}
    for part in text.split(","):
        try:
            region = find_region(part.strip())
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        regions[region.code] = region
    return list(regions.values())


def pue(text: str) -> float:
    """A number of at least 1."""
    value = positive_float(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1 (no building takes less than its computers), got {text}")
    return value


class _WithGroups(str):
    """A help text with the codes of `%(groups)s`: their table is read when it is printed, not at every start."""

    __slots__ = ()

    def __mod__(self, values: Any) -> str:  # Any: as `str` has it; argparse gives a dict
        from epochcast.facts.tables import region_groups

        return super().__mod__({**values, "groups": ", ".join(group.code for group in region_groups())})


def add_footprint_flags(parser: argparse._ActionsContainer, own_help: Mapping[str, str] | None = None) -> None:
    """Flags of energy, money and CO2; `rules_of` reads them.

    Args:
        own_help: what this command says of flags in HELP.
    """
    words = {**HELP, **(own_help or {})}
    parser.add_argument(
        "--region",
        type=region_list,
        action="extend",  # a second one adds regions, it does not replace the first
        metavar="LIST",
        help=_WithGroups(
            "where runs are done: country or zone, e.g. DE or US-CA, or a group of countries (%(groups)s); "
            f"{words['region']}; default: world average, not your location (epochcast facts carbon lists them)"
        ),
    )
    parser.add_argument(
        "--usd_per_kwh", type=not_negative_float, metavar="USD", help="price of electricity; default: the region's"
    )
    parser.add_argument(
        "--gco2_per_kwh", type=not_negative_float, metavar="G", help="CO2e of electricity; default: the region's"
    )
    parser.add_argument(
        "--pue",
        type=pue,
        metavar="PUE",
        help="energy of the building over that of its computers; default: 1, a box alone",
    )
    parser.add_argument("--usd_per_gpu_hour", type=not_negative_float, metavar="USD", help=words["usd_per_gpu_hour"])
    parser.add_argument(
        "--host_w",
        type=not_negative_float,
        metavar="W",
        help="mean power of the box without its GPU (where it trains on its processor: of all of it, or with --board_w "
        "of the rest); default: unknown, energy is the board's only",
    )
    parser.add_argument(
        "--board_w",
        type=positive_float,
        metavar="W",
        help="mean power of the GPU board while training, or of the processor package; default: as measured, else by "
        "the board's power limit, unknown of a processor",
    )
    parser.add_argument("--embodied", action="store_true", help=words["embodied"])
    parser.add_argument(
        "--energy_formula",
        choices=ENERGY_FORMULAS,
        default=DEFAULT,
        help="where no energy was measured: a share of the power limit; mlcost: MLCost's formula, always",
    )


def given_flags(arguments: argparse.Namespace) -> list[str]:
    """The names of the footprint's flags that the user gave."""
    values = {name: getattr(arguments, name) for name in FLAGS}
    return [f"--{name}" for name, value in values.items() if not (value is None or value is False or value == DEFAULT)]


def rules_of(arguments: argparse.Namespace) -> FootprintRules:
    """The rules that the flags of `add_footprint_flags` say.

    Raises:
        ValueError: if two of them contradict each other.
    """
    return FootprintRules(
        regions=tuple({region.code: region for region in arguments.region or ()}.values()),
        usd_per_kwh=arguments.usd_per_kwh,
        gco2_per_kwh=arguments.gco2_per_kwh,
        pue=arguments.pue,
        usd_per_gpu_hour=arguments.usd_per_gpu_hour,
        host_w=arguments.host_w,
        board_w=arguments.board_w,
        has_embodied=arguments.embodied,
        energy_formula=arguments.energy_formula,
    )
