"""The axes of a configuration: declared once, and what the rest of the product asks of them."""

from __future__ import annotations

import dataclasses

from epochcast.model.time_model.features import FEATURE_NAMES
from epochcast.paths import CODE_ROOT
from epochcast.schema import AXES, AXIS_NAMES, DEFAULT_CONFIG, NETWORK_AXES, AggRow, RunConfig, RunSpec, config_in

CONFIG = RunConfig(2, 16, 64)
MOST_FILES = 10  # that may name an axis of the CNN: its declaration, its closed forms, its network, and examples


def test_the_axes_are_the_fields_of_a_configuration_in_their_order():
    assert tuple(field.name for field in dataclasses.fields(RunConfig)) == AXIS_NAMES
    assert [axis.of(CONFIG) for axis in AXES] == [2, 16, 64]
    assert [axis.of(RunSpec(2, 16, 64)) for axis in AXES] == [2, 16, 64]


def test_usual_values_of_an_axis_hold_the_default_and_are_among_the_wide_ones():
    for axis in AXES:
        assert axis.of(DEFAULT_CONFIG) in axis.usual
        assert set(axis.usual) <= set(axis.wide)
        assert list(axis.wide) == sorted(axis.wide)


def test_a_configuration_names_itself():
    assert str(CONFIG) == "(2,16,64)"
    assert CONFIG.slug == "d2_f16_b64"
    assert CONFIG.flags == ["--depth", "2", "--base_filters", "16", "--batch_size", "64"]
    assert CONFIG.network_text == "depth 2, 16 base filters"
    assert [axis.text(axis.of(CONFIG)) for axis in AXES][-1] == "batch size 64"


def test_configurations_of_one_network_differ_in_the_batch_size_alone():
    assert CONFIG.network == RunConfig(2, 16, 512).network == (2, 16)
    assert CONFIG.network != RunConfig(2, 32, 64).network
    assert len(NETWORK_AXES) == len(AXES) - 1


def test_a_configuration_is_found_among_other_values():
    values = {"depth": 2, "base_filters": 16, "batch_size": 64, "params": 1, "acc": None}
    assert config_in(values) == CONFIG


def test_each_axis_is_learned_once():
    assert FEATURE_NAMES == ("depth", "log2_base_filters", "log2_batch_size")


def test_few_files_of_the_product_name_an_axis_of_the_cnn():
    stages = ("epochcast", "workload", "collect", "aggregate", "model", "planner")
    paths = [path for stage in stages for path in (CODE_ROOT / stage).rglob("*.py")]
    naming = [path.name for path in paths if "base_filters" in path.read_text(encoding="utf-8")]
    assert len(paths) > 150
    assert len(naming) <= MOST_FILES, naming
    assert "base_filters" in {field.name for field in dataclasses.fields(AggRow)}  # the word that is looked for
