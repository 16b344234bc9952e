"""A question as its readers see it: in lower case, without what was read."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from epochcast.mlperf.query.query import QueryError, Span
from epochcast.text_sinks import one_line

LONGEST = 400  # characters of a question
DEVICE, OTHER = "\x01", "\x02"  # stand for a GPU's name, and for anything else that has been read
SEPARATORS = r"[\s_./-]*"  # within a name: `resnet50`, `ResNet-50`, `resnet_50`
STARTS, ENDS = r"(?<![^\W_])", r"(?![^\W_])(?!\.\d)"  # of a word; `GPT-3.5` does not end after its 3
_TIMES = "*\N{MULTIPLICATION SIGN}\N{MULTIPLICATION X}\N{VECTOR OR CROSS PRODUCT}\N{ASTERISK OPERATOR}"
_MARKS = "\N{REGISTERED SIGN}\N{TRADE MARK SIGN}"
_DASHES = "\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{FIGURE DASH}\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}"
_SIGNS = {**dict.fromkeys(_TIMES, "x"), **dict.fromkeys(_DASHES, "-"), DEVICE: " ", OTHER: " "}


@dataclass(slots=True)
class Reading:
    """A question and what is left to read of it."""

    text: str
    plain: str = ""  # as it was written, in comparable signs
    rest: str = ""  # the same, with marks in place of what has been read
    _at: list[int] = field(default_factory=list)  # of a sign of `plain`: its place in `text`

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise QueryError("the question is empty. Ask for example: BERT on 8 A100")
        if len(self.text) > LONGEST:
            raise QueryError(f"the question has {len(self.text)} characters; at most {LONGEST} are read.")
        signs = []
        for place, sign in enumerate(self.text):
            for each in " " if sign in _MARKS else unicodedata.normalize("NFKC", sign).casefold():
                signs.append(_SIGNS.get(each, each if each.isprintable() else " "))
                self._at.append(place)
        plain = re.sub(r"\((?:r|tm)\)", lambda mark: " " * len(mark[0]), "".join(signs))
        self.plain = self.rest = plain

    def span(self, start: int, end: int) -> Span:
        """Return a part's place in the text, without blanks and signs at its ends."""
        while start < end and not self.plain[start].isalnum():
            start += 1
        while end > start and not self.plain[end - 1].isalnum():
            end -= 1
        if self.plain.count("(", start, end) > self.plain.count(")", start, end) and self.plain[end : end + 1] == ")":
            end += 1
        return Span(self._at[start], self._at[end - 1] + 1) if end > start else Span(self._at[start], self._at[start])

    def cover(self, start: int, end: int, mark: str = OTHER) -> None:
        """Put a mark in place of what has been read."""
        if end > start:
            self.rest = f"{self.rest[:start]}{mark}{' ' * (end - start - 1)}{self.rest[end:]}"

    def words(self) -> list[re.Match[str]]:
        """Return the words that are left."""
        return list(re.finditer(r"[^\W_]+(?:[.:'-][^\W_]+)*", self.rest))

    def quoted(self) -> str:
        return repr(one_line(self.text.strip()))


def name_pattern(name: str) -> str:
    """Return a pattern for a name whose words may be joined anyhow."""
    return SEPARATORS.join(map(re.escape, name.split()))
