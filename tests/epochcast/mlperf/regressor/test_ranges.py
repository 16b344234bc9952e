"""Ranges: what is known of a configuration, and quantiles that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from epochcast.mlperf.regressor.entries import Workload
from epochcast.mlperf.regressor.ranges import (
    BASES,
    KNOWN,
    NEW_DEVICE,
    OTHER_BENCHMARK,
    OTHER_COUNT,
    basis_of,
    conformal_quantile,
    factor_for,
    range_factors,
)
from tests.support.mlperf.entries import shipped_entries


@pytest.mark.parametrize(
    ("configuration", "basis"),
    [
        (("resnet", "H100 SXM5", 8), KNOWN),
        (("resnet", "H100 SXM5", 9), OTHER_COUNT),
        (("llama31_405b", "A30", 8), OTHER_BENCHMARK),
        (("resnet", "T4", 8), NEW_DEVICE),
    ],
)
def test_the_basis_of_an_answer_is_the_most_that_is_known(configuration, basis):
    assert basis_of(Workload(*configuration), shipped_entries()) == basis


def test_a_quantile_holds_nine_in_ten_of_new_errors_of_its_kind():
    draw = np.random.default_rng(0)
    held = [draw.exponential() <= conformal_quantile(draw.exponential(size=50)) for _ in range(4000)]
    assert np.mean(held) == pytest.approx(0.9, abs=0.015)  # three standard deviations of 4,000 draws


def test_the_factor_of_a_basis_without_one_is_that_of_the_next_less_known():
    assert factor_for(OTHER_COUNT, {KNOWN: 1.0, NEW_DEVICE: 3.0}) == 3.0
    assert factor_for(KNOWN, {KNOWN: 1.0, NEW_DEVICE: 3.0}) == 1.0
    assert factor_for(NEW_DEVICE, {KNOWN: 1.0}) is None


def test_each_entry_is_left_out_with_its_whole_group_and_counts_only_where_others_are_left_in():
    entries = shipped_entries()[-300:]
    seen = []

    def standardised(groups):
        rows = np.concatenate(groups)
        assert sorted(rows) == list(range(len(entries)))
        seen.append(groups)
        return np.ones(len(entries))

    assert set(range_factors(entries, standardised)) <= set(BASES)
    for groups, basis in zip(seen, BASES.values(), strict=True):
        keys = [{basis.left_out(entries[i]) for i in rows} for rows in groups]
        assert all(len(key) == 1 for key in keys)
        assert len(set.union(*keys)) == len(groups)
