"""Whole numbers in a question: `1,024`, `eight`, `sixty-four`."""

from __future__ import annotations

_UNITS = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = {"hundred": 100, "thousand": 1000}
_VALUES = {word: i for i, word in enumerate(_UNITS, 1)} | {word: 10 * i for i, word in enumerate(_TENS, 2)}
_OTHERS = {"zero": 0, "no": 0, "single": 1, "dual": 2, "a pair of": 2, "pair of": 2, "quad": 4, "dozen": 12}
_OTHERS |= {"a dozen": 12}


def _alternatives(words: tuple[str, ...]) -> str:
    return "|".join(sorted(words, key=len, reverse=True)).replace(" ", r"\s+")


_TO_99 = rf"(?:(?:{_alternatives(_TENS)})(?:[\s-]+(?:{_alternatives(_UNITS[:9])}))?|{_alternatives(_UNITS)})"
_TO_999 = rf"(?:(?:{_TO_99}|a)\s+hundred(?:\s+(?:and\s+)?{_TO_99})?|{_TO_99})"
_WORDS = rf"(?:(?:{_TO_999}|a)\s+thousand(?:\s+(?:and\s+)?{_TO_999})?|{_TO_999}|{_alternatives(tuple(_OTHERS))})"
SCALE = r"(?:hundred|thousand|million)(?![^\W_])"
# A number: no part of a word, of a decimal or of a negative one, and no percentage. An `x` may follow: `8xH100`.
NUMBER = (
    r"(?:(?<![^\W_])|(?<=\dx)|(?<=(?<![^\W_])x))(?<!\d[.,])(?<!\s-)(?<!^-)"
    rf"(?:\d{{1,3}}(?:,\d{{3}})+|\d+|{_WORDS})(?![.,]?\d)(?![^\W_x])(?!\s?%|\s+{SCALE})"
)


def value_of(text: str) -> int:
    """Return the value of what NUMBER matches."""
    digits = text.replace(",", "")
    if digits.isdecimal():
        return int(digits)
    words = text.replace("-", " ").split()
    if (other := _OTHERS.get(" ".join(words))) is not None:
        return other
    total = part = 0
    for word in words:
        if word in _SCALES:
            part = max(part, 1) * _SCALES[word]  # `a hundred`
        if word == "thousand":
            total, part = total + part, 0
        part += _VALUES.get(word, 0)
    return total + part
