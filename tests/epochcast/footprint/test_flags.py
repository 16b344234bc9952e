"""The footprint's flags: what they mean, and one clear error for each that can't be meant."""

from __future__ import annotations

import subprocess
import sys

import pytest

from epochcast.cli import make_parser
from epochcast.facts.regions import find_region
from epochcast.footprint.flags import add_footprint_flags, given_flags, rules_of
from epochcast.footprint.rules import FootprintRules
from epochcast.guard import EXIT_USAGE
from epochcast.paths import CODE_ROOT


def parse(*argv):
    parser = make_parser("try", "Try.", "try")
    add_footprint_flags(parser)
    return parser.parse_args(argv)


def test_no_flag_is_the_worlds_average():
    arguments = parse()
    assert rules_of(arguments) == FootprintRules()
    assert given_flags(arguments) == []


def test_every_flag_arrives():
    arguments = parse(
        *("--region", "DE,France,deu", "--usd_per_kwh", "0.3", "--gco2_per_kwh", "0", "--pue", "1.2"),
        *("--usd_per_gpu_hour", "2.5", "--host_w", "150", "--embodied"),
    )
    assert rules_of(arguments) == FootprintRules(
        regions=(find_region("DE"), find_region("FR")),  # each once
        usd_per_kwh=0.3,
        gco2_per_kwh=0.0,
        pue=1.2,
        usd_per_gpu_hour=2.5,
        host_w=150.0,
        has_embodied=True,
    )
    assert given_flags(arguments) == [
        *("--region", "--usd_per_kwh", "--gco2_per_kwh", "--pue"),
        *("--usd_per_gpu_hour", "--host_w", "--embodied"),
    ]


def test_a_second_region_is_added_and_a_place_is_there_once():
    told = rules_of(parse("--region", "DE", "--region", "France,DE"))
    assert told.regions == (find_region("DE"), find_region("FR"))
    assert rules_of(parse("--region", "FR")).regions == (find_region("FR"),)  # nothing is left of an earlier parse


def test_a_parser_has_the_flags_without_reading_a_table_of_facts():
    code = "import sys, epochcast.footprint.flags; sys.exit('epochcast.facts.tables' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CODE_ROOT, timeout=60, check=False).returncode == 0


def test_a_flag_of_zero_was_given():
    assert given_flags(parse("--gco2_per_kwh", "0")) == ["--gco2_per_kwh"]
    assert given_flags(parse("--energy_formula", "mlcost")) == ["--energy_formula"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--region", "Atlantis"], "no region 'Atlantis'; the nearest:"),
        (["--region", "DE,"], "no region ''"),
        (["--pue", "0.9"], "expected at least 1"),
        (["--pue", "nan"], "expected a finite number above 0"),
        (["--usd_per_kwh", "-1"], "expected a finite number of at least 0, got -1"),
        (["--gco2_per_kwh", "much"], "expected a number of at least 0, got 'much'"),
        (["--usd_per_gpu_hour", "-0.5"], "--usd_per_gpu_hour"),
        (["--host_w", "-1"], "--host_w"),
        (["--energy_formula", "guess"], "invalid choice: 'guess'"),
    ],
)
def test_what_cannot_be_meant_is_one_error_of_usage(argv, message, capsys):
    with pytest.raises(SystemExit) as end:
        parse(*argv)
    assert end.value.code == EXIT_USAGE
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("error: ")
    assert message in said[0]
    assert said[1:] == ["See try --help."]


def test_flags_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="counts host and cooling itself"):
        rules_of(parse("--energy_formula", "mlcost", "--pue", "1.3"))


def test_what_a_flag_means_to_one_command_alone_is_in_its_help():
    usual, own = make_parser("try", "Try.", "try"), make_parser("try", "Try.", "try")
    add_footprint_flags(usual)
    add_footprint_flags(own, {"region": "one place", "embodied": "counts as well"})
    texts = [" ".join(parser.format_help().split()) for parser in (usual, own)]
    assert ["several give a table" in text for text in texts] == [True, False]
    assert ["one place" in text for text in texts] == [False, True]
    assert ["a line of its own" in text for text in texts] == [True, False]
    assert ["its on-demand offers on record" in text for text in texts] == [True, True]
