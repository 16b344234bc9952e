"""Hostile words and numbers, drawn for cells, JSON values, flags and file contents."""

from __future__ import annotations

from random import Random
from typing import Any

NUMBERS = (
    "NaN", "nan", "inf", "-inf", "Infinity", "-Infinity", "1e308", "-1e308", "1e-308", "1e999", "-0.0", "0", "-1", "1",
    "2", "1.0", "1.5", "1e3", "0x10", "1_000", "+5", " 7 ", "07", "1,5", "1e", ".", "-", str(10**18), str(2**31),
    str(2**63), str(2**64), "1" + "0" * 400, "9" * 5000, "0.1", "1e-9", "3.7e6", "½", "٣", "5e-324", "1e300",
)  # fmt: skip
TEXTS = (
    "", " ", "\t", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\0", "\x7f", "\x85", "\u2028", "\ufeff", "\u202eabc",
    "é", "日本", "😀", "$x^2$", "$", "${HOME}", "`id`", "$(id)", "<script>alert(1)</script>", "<b>", "&amp;",
    "[a](http://x)", "|", "\\", "\\N", "'", '"', '""', "a;b", "a,b", "a\tb", "a\rb", "a\r\nb", "a\nb", "# x", "=1+1",
    "null", "None", "true", "auto", "..", "../../x", "/", "~", "~nosuchuser/x", "%s%s%n", "{0}", "a" * 300,
)  # fmt: skip
JSON_RAW = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400, "9" * 5000, "-0.0", "1e308", "5e-324", "1e18",
    str(10**18), str(2**63), str(-(2**63)), "0", "-1", "1", "1.5", "true", "false", "null", '""', "[]", "{}", "[[]]",
    "[null]", '{"a": 1}', '"x"', '"\\u0000"', '"\\ud800"', '"\\u001b[31m"', '"NaN"', '"1"', "[1, 2]", '["a", 1]',
    '"<script>"', '"\\u202e"', '"/"', '"../../x"', '"$x$"',
)  # fmt: skip
BYTES = (
    b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3", b"\xf0\x9f", b"\x1b[2J", b"\r", b"\r\n",
    b"\n", b"\n\n", b",", b",,", b'"', b"'", b";", b"\t", b" ", b"{", b"}", b"[", b"]", b":", b"\\", b"-", b".", b"e",
    b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x80\x04", b"\x85", "\u2028".encode(), "\u202e".encode(), b"NaN", b"1e999",
)  # fmt: skip
LONG = 100_000  # characters of the longest ordinary word
DEEP = 100_000  # brackets of the deepest nesting


def number(draw: Random) -> str:
    return draw.choice(NUMBERS)


def text(draw: Random) -> str:
    """A word that is hard to print, to parse or to store; seldom one of 100 kB."""
    return "w" * LONG if draw.random() < 0.02 else draw.choice(TEXTS)


def cell(draw: Random) -> str:
    """What may stand in a cell, a number as often as not."""
    return number(draw) if draw.random() < 0.6 else text(draw)


def json_raw(draw: Random) -> str:
    """A hostile JSON value as it stands in a file."""
    chance = draw.random()
    if chance < 0.02:
        return "[" * DEEP + "]" * DEEP
    if chance < 0.04:
        return '{"a":' * 2000 + "1" + "}" * 2000
    if chance < 0.06:
        return '"' + "w" * LONG + '"'
    return draw.choice(JSON_RAW)


def snippet(draw: Random) -> bytes:
    """Bytes that a parser may stumble over."""
    chance = draw.random()
    if chance < 0.2:
        return draw.randbytes(draw.randint(1, 8))
    if chance < 0.3:
        return cell(draw).encode(errors="surrogatepass")
    return draw.choice(BYTES)


def picked(draw: Random, values: list[Any], most: int) -> list[Any]:
    """Up to `most` of the values, in random order."""
    return draw.sample(values, draw.randint(0, min(most, len(values))))
