"""What evaluating says: each split on its own entries, the leak beside a lookup; slow: what is claimed."""

from __future__ import annotations

import functools
import json
import math

import numpy as np
import pytest

from epochcast.mlperf.regressor.baselines import PlainLaw
from epochcast.mlperf.regressor.entries import EntryMedian, Workload
from epochcast.mlperf.regressor.evaluate_command import evaluation_text
from epochcast.mlperf.regressor.evaluation import Evaluation, evaluate
from epochcast.mlperf.regressor.ranges import BASES
from tests.support.mlperf.entries import few_entries, runs_of, shipped_entries


def least_entries() -> list[EntryMedian]:
    return [each for each in few_entries() if each.n_accelerators <= 16]


@functools.cache
def found() -> Evaluation:
    shares: list[float] = []
    entries = least_entries()
    answer = evaluate(entries, runs_of(entries), 1, 0, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] < 1 + 1e-9
    return answer


def test_each_entry_is_judged_once_in_each_split_by_groups():
    n = len(least_entries())
    for split in ("entry", "submitter", "configuration", "family"):
        assert found().splits[split].n == n
    assert found().not_judged == {}
    assert sum(errors.n for errors in found().benchmarks.values()) == n
    assert sum(errors.n for errors in found().bases.values()) == 3 * n
    assert set(found().bases) <= set(BASES)
    newest = [each for each in least_entries() if each.round == "4.1"]
    assert found().splits["forward to 4.1"].n == len(newest)


def test_errors_are_in_order_and_shares():
    for errors in found().splits.values():
        assert 0 <= errors.mdape_low <= errors.mdape <= errors.mdape_high
        assert errors.mdape <= errors.p90_ape
        assert errors.coverage is None or 0 <= errors.coverage <= 1


def test_runs_split_at_random_have_their_repeats_on_the_other_side():
    leak = found().leak
    assert leak is not None
    assert leak.share_repeated > 0.9  # of three runs one in five is drawn
    assert leak.lookup_mape <= 0.02  # repeats are 1 % apart


def test_the_screen_names_every_split_and_the_json_has_its_numbers():
    text = evaluation_text(found())
    assert all(len(line) <= 140 for line in text.splitlines())
    for name in (*found().splits, *found().bases, *found().benchmarks, "lookup of the repeats"):
        assert f"\n{name} " in text
    assert json.loads(json.dumps(found().to_json()))["splits"]["entry"]["n"] == len(least_entries())


def test_without_runs_there_is_no_leak_to_show():
    text = evaluation_text(Evaluation(0, 1, 0, {}, {}, {}, {}, None))
    assert text.endswith("The split of runs at random needs RECORDS: the entries alone have no runs.")


def test_the_baselines_find_a_power_law_and_look_up_what_is_known():
    entries = [
        EntryMedian("4.0", "s", f"box{n}", "bert", device, n, 9000 / (n * rate) ** 0.5, 1)
        for device, rate in (("A100 SXM4 80GB", 312.0), ("H100 SXM5", 989.4))
        for n in (8, 16, 64)
    ]
    law = PlainLaw(entries, ["4.0"])
    asked = [Workload("bert", "A100 SXM4 80GB", 32), Workload("bert", "H100 SXM5", 16)]
    true = np.log([9000 / (32 * 312.0) ** 0.5, 9000 / (16 * 989.4) ** 0.5])
    assert law.by_law(asked) == pytest.approx(true)
    assert law.by_nearest(asked) == pytest.approx(true)


@pytest.mark.slow
def test_all_splits_of_the_shipped_entries_reach_what_is_claimed_of_them():
    """The figures of docs/method.md; two minutes of one core."""
    splits = evaluate(shipped_entries(), [], 1, 0, lambda share: None).splits
    entry, configuration, forward = splits["entry"], splits["configuration"], splits["forward, all"]
    assert entry.mdape <= 0.06 and entry.mape <= 0.12 and (entry.r2_log or math.nan) >= 0.975
    assert configuration.mdape <= 0.10 and splits["submitter"].mdape <= 0.06
    assert splits["family"].mdape <= 0.26 and forward.mdape <= 0.08
    for errors in (entry, configuration, splits["submitter"], splits["family"]):
        assert 0.86 <= (errors.coverage or math.nan) <= 0.94
        assert errors.mdape < min(errors.nearest_mdape, errors.law_mdape)
    assert (forward.coverage or math.nan) >= 0.88
