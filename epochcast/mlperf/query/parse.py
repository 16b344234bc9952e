"""A question in plain words, read into benchmark, GPU, counts and the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TypeVar

from epochcast.facts.regions import known_region
from epochcast.mlperf.query.benchmarks import WITH_RESULTS, find_benchmark, find_task
from epochcast.mlperf.query.counts import find_batch_size, find_count
from epochcast.mlperf.query.devices import GPU_WORDS, find_device, may_be_device, memory_sizes
from epochcast.mlperf.query.query import Found, Query, QueryError
from epochcast.mlperf.query.text import Reading

T = TypeVar("T")
MOST_REGION_WORDS = 3
_LOWER_CODES = {"us", "usa", "uk", "eu", "uae"}  # codes that are also read in lower case
_BEFORE_CODE = re.compile(r"(?:\b(?:in|at|from|within|for|region|and|or|vs)|[=,/&])\W*(?:the\s+)?$")
_NOISE = (  # numbers that are none of GPUs
    r"mlperf(?:[\s_-]+training)?(?:[\s_-]+(?:round\s+)?v?\d(?:\.\d)?)?(?![^\W_])(?!\.\d)",
    r"(?<![^\W_])(?:round|version)\s+v?\d(?:\.\d)?(?![^\W_])",
    r"(?<![^\W_])(?:in|of|since|by)\s+(?:19|20)\d\d(?![^\W_])",
)
# words of questions that are in no field
_COMMON = re.compile(
    r"a|about|accelerator|accelerators|all|an|and|any|approximately|are|as|at|benchmark|box|boxes|by|can|card|"
    r"cards|chip|chips|cloud|cluster|co2|compute|cost|costs|could|data|dataset|do|does|each|electricity|energy|"
    r"equipped|estimate|estimated|expected|expensive|fast|fine|fine-tune|fine-tuning|finetune|finetuning|for|from|"
    r"get|give|go|gpu|gpus|hardware|have|having|help|here|hour|hours|how|i|if|in|inside|instance|instances|is|it|"
    r"its|kwh|large|level|long|machine|machines|many|me|minutes|mlperf|model|models|money|much|my|need|network|"
    r"networks|new|node|nodes|number|of|on|one|only|optimal|our|per|performance|please|power|pre-train|"
    r"pre-training|predict|predicted|prediction|pretrain|pretraining|price|rack|racks|require|required|"
    r"requires|run|running|runs|scale|server|servers|setup|should|single|system|systems|take|takes|task|tell|"
    r"tensor|than|that|the|then|there|these|this|throughput|time|times|to|total|tpu|tpus|train|trained|training|"
    r"tune|tuning|until|us|use|using|via|want|was|we|what|whats|when|will|with|within|workload|would|x|you|your"
)

# other words that are no network's name
_NO_NETWORK = re.compile(
    r"[\d.]+|epochs?|steps?|[bt]?fp?\d+|mixed|precision|accuracy|cores?|cpus?|usd|dollars?|google|aws|azure|days?|weeks?"
)


def parse_query(text: str, with_results: Collection[str] = WITH_RESULTS) -> Query:
    """Read a question such as `BERT on 8 A100 GPUs`.

    Args:
        with_results: benchmarks of which there are results; others are refused.

    Raises:
        QueryError: if it names no or several benchmarks or GPUs, an unknown one, or no possible number of GPUs; the
            message says all of it.
    """
    reading = Reading(text)
    for pattern in _NOISE:
        for match in list(re.finditer(pattern, reading.rest)):
            reading.cover(match.start(), match.end())
    problems: list[str] = []

    def attempt(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except QueryError as error:
            problems.append(str(error))
            return None

    benchmark = attempt(lambda: find_benchmark(reading, with_results))
    is_refused = bool(problems)
    board = attempt(lambda: find_device(reading))
    batch = attempt(lambda: find_batch_size(reading))
    sizes = frozenset() if board is None else memory_sizes(board[0].value)
    numbers = attempt(lambda: find_count(reading, sizes))
    regions = _find_regions(reading)
    if benchmark is None and not is_refused:
        others = [word for word in _unread(reading) if not _NO_NETWORK.fullmatch(word)]
        if board is None:  # said in the GPU's error
            others = [word for word in others if not may_be_device(word)]
        if (benchmark := attempt(lambda: find_task(reading, others, with_results))) is None:
            problems.insert(0, problems.pop())  # the benchmark's first
    if benchmark is None or board is None or batch is None or numbers is None:
        sentences = (f"{problem[0].upper() if i else problem[0]}{problem[1:]}" for i, problem in enumerate(problems))
        raise QueryError(f"{reading.quoted()}: {' '.join(sentences)}")
    (device, tdp), (count, nodes), (batch_size, is_per_gpu) = board, numbers, batch
    if batch_size is not None and is_per_gpu:
        note = f"batch size {batch_size.value} on each of {count.value} GPUs"
        batch_size = replace(batch_size, value=batch_size.value * count.value, note=note)
    return Query(text, benchmark, device, count, nodes, batch_size, tdp, regions, tuple(_unread(reading)))


def _unread(reading: Reading) -> list[str]:
    """Words that are left, but for those that questions are made of."""
    words = [word[0] for word in reading.words()]
    return [word for word in words if _COMMON.fullmatch(word) is None and not re.fullmatch(GPU_WORDS, word)]


def _find_regions(reading: Reading) -> tuple[Found[str], ...]:
    """Return the regions that are named, and cover them.

    A name counts anywhere, a code only after `in` or the like; in lower case it is mostly another word.
    """
    found: dict[str, Found[str]] = {}
    words = list(re.finditer(r"[^\W_]+(?:[:-][^\W_]+)*", reading.rest))
    i = 0
    while i < len(words):
        for n in range(min(MOST_REGION_WORDS, len(words) - i), 0, -1):
            part = words[i : i + n]
            start, end = part[0].start(), part[-1].end()
            if re.fullmatch(r"[\s\w:-]+", reading.rest[start:end]) is None or not _may_be_region(reading, start, end):
                continue
            region = known_region(reading.plain[start:end])
            if region is not None:
                found.setdefault(region.code, Found(region.code, reading.span(start, end)))
                reading.cover(start, end)
                i += n - 1
                break
        i += 1
    return tuple(found.values())


def _may_be_region(reading: Reading, start: int, end: int) -> bool:
    """Whether a part may name a region: an uncommon word, or a code."""
    plain = reading.plain[start:end]
    if all(_COMMON.fullmatch(word) for word in plain.split()) and plain not in _LOWER_CODES:
        return False
    is_after = _BEFORE_CODE.search(reading.plain[:start])
    if len(re.sub(r"[\W\d]", "", plain)) > 3:
        return True
    written = reading.span(start, end).of(reading.text)
    return is_after is not None and (written.isupper() or plain in _LOWER_CODES)
