"""Numbers in digits and words."""

from __future__ import annotations

import random
import re

import pytest

from epochcast.mlperf.query.whole_numbers import NUMBER, value_of

SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def in_words(n):
    if n < 20:
        return SMALL[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f"-{SMALL[n % 10]}" if n % 10 else "")
    if n < 1000:
        return f"{SMALL[n // 100]} hundred" + (f" {in_words(n % 100)}" if n % 100 else "")
    return f"{in_words(n // 1000)} thousand" + (f" {in_words(n % 1000)}" if n % 1000 else "")


@pytest.mark.parametrize("seed", range(20))
def test_a_number_in_words_is_read(seed):
    draw = random.Random(seed)
    for n in (draw.randrange(20), draw.randrange(100), draw.randrange(1000), draw.randrange(100_000)):
        for words in (in_words(n), in_words(n).replace("-", " "), f"{n}", f"{n:,}"):
            match = re.fullmatch(NUMBER, words)
            assert match is not None, words
            assert value_of(match[0]) == n, words


@pytest.mark.parametrize(
    ("words", "value"),
    [("a hundred and twenty", 120), ("a thousand", 1000), ("a dozen", 12), ("pair of", 2), ("dual", 2), ("single", 1)],
)
def test_other_words_for_numbers(words, value):
    assert re.fullmatch(NUMBER, words)
    assert value_of(words) == value


@pytest.mark.parametrize("text", ["v100", "100gb", "1.5", "0,5", "-8", "50 %", "someone", "tent", "8k", "12ab"])
def test_what_is_no_whole_number_is_not_one(text):
    assert not any(match[0] == text for match in re.finditer(NUMBER, text))
    assert re.fullmatch(NUMBER, text) is None
