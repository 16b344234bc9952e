"""The largest batch size that fits, against all that would be tried one by one."""

from __future__ import annotations

import random

import pytest

from epochcast.live.memory.peak import FARTHEST, MaxBatch, largest_batch, second_size

GIB = 2**30


def brute_force(law, limit, most):
    return max((size for size in range(1, most + 1) if law(size) <= limit), default=None)


@pytest.mark.parametrize("can_confirm", [False, True])
@pytest.mark.parametrize("seed", range(100))
def test_of_a_line_the_answer_is_the_best_of_all_sizes(seed, can_confirm):
    rng = random.Random(seed)
    constant, each, size = rng.randint(0, 10 * GIB), rng.randint(1, GIB), rng.randint(1, 300)
    asked = []

    def law(n):
        asked.append(n)
        return constant + n * each

    limit = rng.randint(0, 30 * GIB)
    found = largest_batch(size, law(size), limit, law, can_confirm)
    best = brute_force(lambda n: constant + n * each, limit, FARTHEST * max(size, second_size(size)))
    assert found.size == best
    if best is None:
        assert found.why == "not even a batch of one sample fits"
        return
    assert found.is_at_least == (best == FARTHEST * max(size, second_size(size)))
    assert found.bytes == constant + best * each <= limit
    assert found.is_confirmed == can_confirm
    assert [n for n, _ in found.tried] == sorted([size, second_size(size)])
    # an allocator would have to train what it is asked for: the second size alone
    assert asked[1:] == [second_size(size), *([best] if can_confirm else [])]


@pytest.mark.parametrize("seed", range(100))
def test_what_the_compiler_confirms_fits_where_the_line_says_too_little(seed):
    """The law bends upwards beyond what is tried, as where small batches take less than the gradients do."""
    rng = random.Random(seed)
    flat, slope, steep = rng.randint(GIB, 4 * GIB), rng.randint(1000, GIB // 100), rng.randint(2, 6)
    size, bend = 32, rng.randint(40, 200)

    def law(n):
        return flat + slope * n + max(0, n - bend) * steep * slope

    limit = law(rng.randint(40, 220))
    found = largest_batch(size, law(size), limit, law, can_confirm=True)
    best = brute_force(law, limit, FARTHEST * size)
    assert 0.85 * best <= found.size <= best
    assert found.is_confirmed and found.bytes == law(found.size) <= limit


def test_a_memory_that_does_not_grow_is_asked_of_the_compiler_and_unknown_by_an_allocator():
    def law(n):
        return 5 * GIB + max(0, n - 100) * GIB

    confirmed = largest_batch(64, law(64), 8 * GIB, law, can_confirm=True)
    assert 64 < confirmed.size <= 103 and confirmed.is_confirmed
    found = largest_batch(64, law(64), 8 * GIB, law, can_confirm=False)
    assert found == MaxBatch(
        None, tried=((32, 5 * GIB), (64, 5 * GIB)), why="no more was held with 64 samples than with 32"
    )


def test_a_law_that_jumps_leaves_what_is_known_to_fit():
    found = largest_batch(64, 64, 1000, lambda n: n if n < 65 else 10**6, can_confirm=True)
    assert (found.size, found.is_confirmed, found.is_at_least) == (64, True, False)


def test_where_all_sizes_asked_take_too_much_the_answer_is_unknown():
    found = largest_batch(64, 2000, 1000, lambda n: n if n == 32 else 10**6, can_confirm=True)
    assert found.size == 32
    found = largest_batch(64, 2000, 1000, lambda n: 1500 + n, can_confirm=True)
    assert (found.size, found.why) == (None, "not even a batch of one sample fits")


def test_an_error_of_what_is_asked_is_passed_on():
    def law(n):
        raise MemoryError("full")

    with pytest.raises(MemoryError, match="full"):
        largest_batch(64, 64, 1000, law, can_confirm=True)
