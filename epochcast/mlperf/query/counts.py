"""How many GPUs a question names: in all, on how many nodes; and the batch size.

Only a number at a place where a number of GPUs or nodes stands is one. Digits of names, versions, years, watts and
gigabytes are never at such a place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from epochcast.mlperf.query.devices import GPU_WORDS
from epochcast.mlperf.query.query import Found, QueryError
from epochcast.mlperf.query.text import DEVICE, OTHER, Reading
from epochcast.mlperf.query.whole_numbers import NUMBER, SCALE, value_of
from epochcast.output.text import listed

NODE_GPUS = 8  # of a node, where a question names nodes alone
DGX_2_GPUS = 16
RACK_GPUS = 72  # of an NVL72
MOST_NODE_GPUS = 16  # more on one node is taken for all GPUs
MOST_GPUS = 1_000_000
_D = rf"{DEVICE}\s*"
_G = GPU_WORDS
_SUCH = r"(?:nvidia|amd|intel|google|identical|such)\s+"
_BOARDS = rf"(?:{_D}(?:{_G})?|(?:{_SUCH})?{_G}(?:\s*(?:of\s+type\s+)?[(:]?\s*{_D}\)?)?)"
_NODE = r"(?:compute\s+|gpu\s+)?(?:node|server|machine|host|system|instance|box|rack|vm)"
_END = r"(?![^\W_])"
_RACK = rf"(?:{_D}nvl[\s-]*72|nvl[\s-]*72\s+{_D})(?:\s*(?:racks?|systems?|pods?))?{_END}"
_DGX = rf"(?:dgx(?:-[12])?+|hgx)[\s_-]*(?:{_D})?(?:(?:{_NODE})(?:s|es)?{_END})?"
_NODES = rf"(?:{_DGX}|(?:{_D})?{_NODE}(?:s|es)?{_END})"
_MANY_NODES = rf"(?:{_DGX}|(?:{_D})?{_NODE}(?:s|es){_END})"
_ONE_NODE = rf"{_NODE}{_END}"
_EACH = rf"(?:each|apiece|(?:per|/|on\s+each|in\s+each|a)\s*(?:{_NODE}){_END})"
_TOTAL = r"(?:in\s+(?:total|all)|total|altogether|overall)"
_TIMES = r"(?:x|times)"
_SAYS_EACH = re.compile(rf"\bof\b|\beach\b|{_TIMES}|[(:/]")
_SAYS_WITH = re.compile(r"\b(?:with|having|and|using|at)\b")
_SAYS_ON = re.compile(r"\b(?:on|in|across|over|using|with|from)\b|[(]")
_NO_UNIT = rf"(?!\s*-?\s*[^\s\W{DEVICE}{OTHER}])(?!\s*[$%])"  # `10` is no number of GPUs in `10 minutes`
_UNEVEN = "{gpus} GPUs do not spread evenly over {nodes} nodes; write '{nodes} nodes of 8', or the number in all."
_SEVERAL = re.compile(
    rf"(?P<a>{NUMBER})(?:\s+(?:or|to)\s+|(?<=\d)\s*(?:,|/|-|and)?\s*(?=\d))(?P<b>{NUMBER})\s*x?\s*{_BOARDS}"
)
_MALFORMED = re.compile(rf"(?P<n>(?:(?<![^\W_])-\s?|(?<![^\W_]))\d[\d.,]*(?:\s?[km%]|\s+{SCALE})?)\s*x?\s*{_BOARDS}")


@dataclass(frozen=True, slots=True)
class _Count:
    """What one part of the question says."""

    gpus: int
    nodes: int | None
    start: int
    end: int
    note: str | None = None  # why it is assumed
    is_guess: bool = False  # the number on each node is not said


def find_batch_size(reading: Reading) -> tuple[Found[int] | None, bool]:
    """Return the batch size named and whether it is of one GPU, and cover it.

    Raises:
        QueryError: if it is no whole number of at least 1.
    """
    size = r"(?P<n>\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)\s?(?P<k>k)?(?![^\W_])(?![.,]\d)"
    before = r"(?:(?:global|total|local|mini|micro|per[\s-]gpu|a|the)[\s_-]+)*"
    pattern = (
        rf"(?<![^\W_]){before}(?:(?:mini)?batch(?:[\s_-]*sizes?)?|g?bs)(?:\s+of\s+size)?\s*(?:of\b|is\b|at\b|=|:)?\s*{size}"
        r"|(?<![^\W_.,])(?P<n2>\d{1,3}(?:,\d{3})+|\d+)\s?(?P<k2>k)?[\s-]+(?:global[\s-]+)?batch(?:[\s_-]*size)?(?!\W*[\w])"
    )
    match = re.search(pattern, reading.rest)
    if match is None:
        return None, False
    number, thousands = ("n", "k") if match["n"] else ("n2", "k2")
    digits, is_k = match[number], bool(match[thousands])
    written = f"{digits}{'k' if is_k else ''}"
    value = float(digits.replace(",", "")) * (1000 if is_k else 1)
    if value < 1 or not value.is_integer():
        raise QueryError(f"the batch size must be a whole number of at least 1, got {written!r}.")
    span = reading.span(match.start(number), match.end(thousands if is_k else number))
    tail = re.match(rf"\s*(?:per|/|on\s+each)\s*(?:{_G}|{DEVICE})", reading.rest[match.end() :])
    is_per_gpu = tail is not None or re.search(r"local|micro|per[\s-]gpu", match[0]) is not None
    reading.cover(match.start(), match.end() + (0 if tail is None else tail.end()), OTHER)
    note = f"{written} is read as {value:.0f}" if is_k else None
    return Found(int(value), span, False, note), is_per_gpu


def find_count(reading: Reading, memory_gb: Collection[int] = ()) -> tuple[Found[int], Found[int] | None]:
    """Return the numbers of GPUs and nodes, None if not named, and cover them.

    Args:
        memory_gb: of boards of the name that is named; `A100 80` says no number of GPUs.

    Raises:
        QueryError: if there are several numbers of GPUs, or one that is no whole number of at least 1.
    """
    found = [*_assigned(reading), *_times(reading)]
    several = _SEVERAL.search(reading.rest)
    if several is not None:
        both = listed([several["a"], several["b"]])
        raise QueryError(f"several numbers of GPUs, {both}; a question is about one, such as 1024.")
    for read in (_nodes_of, _on_nodes, _in_one_node, _nodes_alone, _boards):
        found += read(reading)
    malformed = _MALFORMED.search(reading.rest)
    if malformed is not None:
        written = malformed["n"].strip()
        raise QueryError(f"the number of GPUs must be a whole number of at least 1, such as 1024, got {written!r}.")
    if not found:
        return _without_number(reading, memory_gb)
    said = [count for count in found if not count.is_guess] or found
    totals = list(dict.fromkeys(count.gpus for count in said))
    nodes = list(dict.fromkeys(count.nodes for count in found if count.nodes is not None))
    for what, numbers in (("GPUs", totals), ("nodes", nodes)):
        if len(numbers) > 1:
            raise QueryError(f"several numbers of {what}, {listed(list(map(str, numbers)))}; a question is about one.")
    (gpus,) = totals
    if not 1 <= gpus <= MOST_GPUS:
        raise QueryError(f"the number of GPUs must be from 1 to {MOST_GPUS:,}, got {gpus:,}.")
    best = said[0]
    count = Found(gpus, reading.span(best.start, best.end), best.note is not None, best.note)
    by_node = next((each for each in found if each.nodes is not None), None)
    if by_node is None or by_node.nodes is None:
        return count, None
    if by_node.nodes < 1 or gpus % by_node.nodes:
        raise QueryError(_UNEVEN.format(gpus=gpus, nodes=by_node.nodes))
    return count, Found(by_node.nodes, reading.span(by_node.start, by_node.end))


def _take(reading: Reading, pattern: str) -> list[re.Match[str]]:
    """The places of a pattern, each covered for other readers, but GPUs stay marked."""
    matches = list(re.finditer(pattern, reading.rest))
    for match in matches:
        for part in re.finditer(rf"[^{DEVICE}]+", match[0]):
            reading.cover(match.start() + part.start(), match.start() + part.end(), OTHER)
    return matches


def _assigned(reading: Reading) -> list[_Count]:
    """`nodes=4 gpus_per_node=8`, `nodes: 4`."""
    each = _take(reading, rf"{_G}[\s_]*per[\s_]*{_NODE}\s*[=:]\s*(?P<n>{NUMBER})")
    nodes = _take(reading, rf"{_NODE}(?:s|es)?\s*[=:]\s*(?P<n>{NUMBER})")
    if not nodes and not each:
        return []
    n = value_of(nodes[0]["n"]) if nodes else 1
    m = value_of(each[0]["n"]) if each else NODE_GPUS
    first = (nodes or each)[0]
    note = None if nodes and each else f"{m} GPUs on each of {n} nodes are assumed"
    return [_Count(n * m, n, first.start(), first.end(), note, is_guess=note is not None)]


def _times(reading: Reading) -> list[_Count]:
    """`4 x 8 H100`, `2x8xA100`, `two 8-GPU H100 nodes`."""
    by = rf"(?P<n>{NUMBER})\s*x\s*(?P<m>{NUMBER})\s*x?\s*{_BOARDS}(?:\s*{_MANY_NODES})?"
    many = rf"(?P<n>{NUMBER})\s*x?\s+(?P<m>{NUMBER})\s*[x-]?\s*(?:way\s+)?{_BOARDS}\s*{_MANY_NODES}"
    return [_product(match) for match in (*_take(reading, by), *_take(reading, many))]


def _product(match: re.Match[str]) -> _Count:
    n, m = value_of(match["n"]), value_of(match["m"])
    return _Count(n * m, n, match.start(), match.end())


def _nodes_of(reading: Reading) -> list[_Count]:
    """`4 nodes with 8 H100 each`, `a node of 4 A100`."""
    pattern = (
        rf"(?P<n>{NUMBER}|(?<![^\W_])an?)\s*x?\s*{_NODES}"
        rf"(?P<sep>[\s,:;(]*(?:(?:of|with|having|each|containing|carrying|and|at|using|{_TIMES})(?![^\W_])[\s,(]*|x(?=\d))*)"
        rf"(?P<m>{NUMBER})\s*x?\s*(?P<boards>{_BOARDS})?\s*(?P<each>{_EACH})?\s*(?P<total>{_TOTAL})?"
    )
    counts = []
    for match in _take(reading, pattern):
        n = 1 if match["n"] in ("a", "an") else value_of(match["n"])
        m = value_of(match["m"])
        is_each = match["each"] is not None or _SAYS_EACH.search(match["sep"]) is not None or n == 1
        if match["total"] is None and (is_each or (_SAYS_WITH.search(match["sep"]) and m <= MOST_NODE_GPUS)):
            counts.append(_Count(n * m, n, match.start(), match.end()))
        else:
            counts.append(_in_all(match, m, n, is_said=match["total"] is not None))
    return counts


def _on_nodes(reading: Reading) -> list[_Count]:
    """`32 H100 on 4 nodes`, `8 H100 x 4 nodes`."""
    words = "on|in|across|over|spread|distributed|split|using|with|and|for|from|of|each"
    pattern = (
        rf"(?P<m>{NUMBER})\s*x?\s*{_BOARDS}\s*(?P<each>{_EACH})?(?P<total>\s*{_TOTAL})?"
        rf"(?P<sep>[\s,;(]*(?:(?:{words}|{_TIMES})(?![^\W_])[\s,(]*|x(?=\d))*)"
        rf"(?P<n>{NUMBER}|(?<![^\W_])an?)\s*x?\s*{_NODES}"
    )
    counts = []
    for match in _take(reading, pattern):
        n = 1 if match["n"] in ("a", "an") else value_of(match["n"])
        m = value_of(match["m"])
        says_each = match["each"] is not None or re.search(rf"\beach\b|{_TIMES}", match["sep"]) is not None
        if (says_each and match["total"] is None) or n == 1:
            counts.append(_Count(n * m, n, match.start(), match.end()))
        else:
            says_on = _SAYS_ON.search(match["sep"]) is not None
            is_said = match["total"] is not None or (says_on and m > MOST_NODE_GPUS)
            counts.append(_in_all(match, m, n, is_said, is_clear=says_on))
    return counts


def _in_all(match: re.Match[str], m: int, n: int, is_said: bool, is_clear: bool = False) -> _Count:
    """`m` GPUs in all on `n` nodes, assumed where the text does not say so."""
    if not is_said and not is_clear and m <= MOST_NODE_GPUS:
        either = f"Write '{n} nodes of {m}', or '{m} in all on {n} nodes'."
        raise QueryError(f"{m} GPUs and {n} nodes: is {m} the number in all or on each node? {either}")
    if n < 1 or m < n or m % n:
        raise QueryError(_UNEVEN.format(gpus=m, nodes=n))
    note = None if is_said else f"{m} is read as the number of GPUs in all, not on each of the {n} nodes"
    return _Count(m, n, match.start(), match.end(), note)


def _in_one_node(reading: Reading) -> list[_Count]:
    """`an 8xH100 node`, `8-GPU A100 server`."""
    pattern = rf"(?P<m>{NUMBER})\s*[x-]?\s*(?:way\s+)?{_BOARDS}\s*{_ONE_NODE}"
    return [_Count(value_of(match["m"]), 1, match.start(), match.end()) for match in _take(reading, pattern)]


def _nodes_alone(reading: Reading) -> list[_Count]:
    """`4 H100 nodes`, `2 DGX A100`, `GB200 NVL72`: the GPUs of each are assumed."""
    counts = []
    for kind, usual, nodes_each, what in (
        (_RACK, RACK_GPUS, None, "NVL72"),
        (_DGX, NODE_GPUS, 1, "DGX or HGX"),
        (_NODES, NODE_GPUS, 1, "node"),
    ):
        pattern = rf"(?:(?P<n>{NUMBER})\s*x?\s*)?{kind}(?:\s*x\s*(?P<after>{NUMBER}))?"
        for match in re.finditer(pattern, reading.rest):
            if kind == _NODES and match["n"] is None and match["after"] is None:
                continue
            reading.cover(match.start(), match.end())
            each = DGX_2_GPUS if "dgx-2" in match[0] else usual
            n = math.prod(value_of(match[name]) for name in ("n", "after") if match[name] is not None)
            note = f"{each} GPUs of each {what} are assumed"
            counts.append(
                _Count(n * each, nodes_each and n * nodes_each, match.start(), match.end(), note, is_guess=True)
            )
    return counts


def _boards(reading: Reading) -> list[_Count]:
    """`8 A100`, `H100 x8`, `8-GPU`, `A100 (8)`, `gpus=8`, `an A100`."""
    patterns = (
        rf"(?P<m>{NUMBER})\s*[x-]?\s*(?:way\s+)?(?:of\s+)?(?:the\s+|new\s+|such\s+)?{_BOARDS}",
        rf"{_D}[,:(]?\s*x\s*(?P<m>{NUMBER})",
        rf"{_D}\(\s*(?P<m>{NUMBER})\s*x?\s*\)",
        rf"{_D}[,:]?\s*(?P<m>{NUMBER})x{_END}",
        rf"(?:num(?:ber)?[\s_]*(?:of[\s_]*)?)?{_G}(?:[\s_]*count)?\s*[=:]\s*(?P<m>{NUMBER})",
        rf"number\s+of\s+{_G}\s*(?:is\s+)?(?P<m>{NUMBER})",
    )
    counts = [
        _Count(value_of(match["m"]), None, match.start("m"), match.end("m"))
        for pattern in patterns
        for match in _take(reading, pattern)
    ]
    if not counts:
        not_more = r"(?!\s*(?:cluster|pod|pods|farm|nodes?|servers?|fleet|s\b))"
        for match in _take(reading, rf"(?<![^\W_])(?:an?|my|this)\s+{_D}{not_more}(?:{_G})?"):
            counts.append(_Count(1, None, match.start(), match.end()))
    return counts


def _without_number(reading: Reading, memory_gb: Collection[int]) -> tuple[Found[int], None]:
    """A number that stands alone is taken for that of the GPUs, else there are 8."""
    alone = [match for match in re.finditer(rf"{NUMBER}{_END}{_NO_UNIT}", reading.rest) if match[0][0].isdecimal()]
    if len(alone) == 1 and 1 <= value_of(alone[0][0]) <= MOST_GPUS:
        match = alone[0]
        if value_of(match[0]) in memory_gb:
            raise QueryError(f"is {match[0]} the memory or the number of GPUs? Write {match[0]}GB or {match[0]} GPUs.")
        reading.cover(match.start(), match.end())
        note = f"{match[0]} is read as the number of GPUs"
        return Found(value_of(match[0]), reading.span(match.start(), match.end()), True, note), None
    return Found(NODE_GPUS, None, True, f"{NODE_GPUS} GPUs are assumed, as no number is named"), None
