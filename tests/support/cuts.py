"""Where tests cut a file short: at every byte in the slow run, at the ends of its parts and some others by default."""

from __future__ import annotations

import random
import re

import pytest

# the parameter of a test that cuts at `cuts(data, thorough)`
THOROUGH = pytest.mark.parametrize(
    "thorough", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every byte"]
)
N_DRAWN = 40


def cuts(data: bytes, thorough: bool, seed: int = 0) -> list[int]:
    """Return the lengths to cut `data` to, from 0 to all of it.

    Those of the default run are at and next to each end of a line or quote, the two ends, the first comma of each
    line, and N_DRAWN drawn from the seed.
    """
    lengths = set(range(len(data) + 1))
    if thorough:
        return sorted(lengths)
    places = {0, len(data), *(match.start() for match in re.finditer(rb"\n|\r|\"|(?<=\n)[^,\n]*,", data))}
    places |= {data.find(b",", at) for at in places}
    near = {at + step for at in places for step in (-1, 0, 1, 2)} | set(range(5))
    return sorted(lengths & (near | set(random.Random(seed).sample(sorted(lengths), min(N_DRAWN, len(lengths))))))
