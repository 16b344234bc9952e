"""Errors and targets of the benchmark of peak memory, of accounts that are known."""

from __future__ import annotations

import pytest

from benchmarks.estimates.bench_fit_memory import MOST_ERROR, SMALL, TIMES, errors, reach


def of(law, network="MLP"):
    sizes = [*SMALL, *(n * SMALL[-1] for n in TIMES)]
    return {"network": network, "params": 1, "bytes": [law(size) for size in sizes], "compile_sec": 1.0}


def test_of_a_line_there_is_no_error():
    assert errors(of(lambda n: 10**6 + 1000 * n)) == [0.0] * len(TIMES)


def test_an_error_is_of_the_true_account_and_has_its_sign():
    found = errors(of(lambda n: n * 10**6 * (1 if n <= SMALL[-1] else 2)))
    assert found == pytest.approx([-50.0] * len(TIMES))


def test_one_network_beyond_the_target_is_named_and_counted():
    claims = reach([of(lambda n: 1000 * n), of(lambda n: 1000 * n if n < 500 else 1200 * n, "VGG16")])
    assert [(claim.what, claim.reached) for claim in claims] == [
        ("MLP, worst error", True),
        ("VGG16, worst error", False),
        ("networks within it", False),
    ]
    assert claims[-1].found == "1 of 2"
    assert claims[1].target == f"<= {MOST_ERROR:g} %"
