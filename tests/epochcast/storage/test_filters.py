"""Filters of rows: pairs as a flag gives them, and the rows that satisfy them."""

from __future__ import annotations

import argparse

import pytest

from epochcast.schema import Conditions, RunConfig
from epochcast.storage.filters import filter_of, matches

REFUSED = argparse.ArgumentTypeError


def test_a_filter_is_pairs_that_all_must_hold():
    assert filter_of("depth=3") == {"depth": "3"}
    assert filter_of("depth=3, base_filters = 32") == {"depth": "3", "base_filters": "32"}
    assert filter_of("device_name=a=b") == {"device_name": "a=b"}
    assert filter_of("tf32=") == {"tf32": ""}


@pytest.mark.parametrize("text", ["", "depth", "=3", "depth=3,", "depth=3,32", "depth:3"])
def test_what_is_no_filter_is_refused(text):
    with pytest.raises(REFUSED, match="expected NAME=VALUE"):
        filter_of(text)


def test_a_filter_that_asks_for_two_values_at_once_is_refused():
    with pytest.raises(REFUSED, match="depth stands twice in 'depth=2,depth=3'; repeat the flag for either"):
        filter_of("depth=2,depth=3")


def test_a_row_matches_where_all_pairs_of_any_filter_hold():
    row = RunConfig(depth=3, base_filters=32, batch_size=128)
    assert matches(row, [filter_of("depth=3,base_filters=32")])
    assert not matches(row, [filter_of("depth=3,base_filters=64")])
    assert matches(row, [filter_of("depth=2"), filter_of("batch_size=128")])
    assert not matches(row, [filter_of("depth=2"), filter_of("batch_size=12")])
    assert not matches(row, [])


def test_an_empty_value_asks_for_what_is_unknown():
    assert matches(Conditions(), [filter_of("backend=")])
    assert not matches(Conditions(backend="jax"), [filter_of("backend=")])
    assert not matches(Conditions(), [filter_of("backend=None")])


def test_a_filter_by_what_a_row_does_not_have_names_what_it_has():
    with pytest.raises(
        ValueError, match="no column 'filters' to filter by; use one of depth, base_filters, batch_size"
    ):
        matches(RunConfig(), [filter_of("depth=3"), filter_of("filters=3")])
