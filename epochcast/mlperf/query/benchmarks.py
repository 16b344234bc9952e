"""The benchmarks of MLPerf Training and what people call them."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from epochcast.mlperf.query.query import Found, QueryError
from epochcast.mlperf.query.text import ENDS, STARTS, Reading, name_pattern
from epochcast.output.text import listed

SSD_NOTE = "ssd is read as RetinaNet, which that name means since v2.0; the older one is ssd300"
LORA_NOTE = "the benchmark fine-tunes Llama 2 70B by LoRA; it is not its pre-training"
MOST_NEAREST = 4


@dataclass(frozen=True, slots=True)
class Name:
    """One spelling: words that may be joined in any way."""

    words: str
    benchmark: str | None  # None: a network that is no benchmark of MLPerf, though a part of its name is one's
    note: str | None = None  # why it is assumed to be this one, None where nothing is assumed
    is_weak: bool = False  # says nothing next to another benchmark's name

    @property
    def pattern(self) -> str:
        return name_pattern(self.words)


SIZES = {"gpt3": "175", "llama2_70b_lora": "70", "llama31_405b": "405", "llama31_8b": "8"}  # 10^9 parameters
_SAME = {
    "bert": ("bert", "bert large"),
    "resnet": ("resnet", "resnet 50", "resnet 50 v 1 5", "resnet 50 v 1", "rn 50"),
    "retinanet": ("retinanet", "retina net"),
    "ssd300": ("ssd 300", "ssd resnet 34", "ssd v 1"),
    "maskrcnn": ("mask rcnn", "mask r cnn"),
    "unet3d": ("3d unet", "3d u net", "unet 3d", "u net 3d", "kits 19"),
    "rnnt": ("rnnt", "rnn t", "rnn transducer"),
    "dlrm": ("dlrm",),
    "dlrm_dcnv2": ("dlrm dcnv 2", "dlrm dcn v 2", "dcnv 2", "dcn v 2", "dlrm v 2"),
    "stable_diffusion": ("stable diffusion", "stable diffusion v 2", "sd v 2"),
    "gpt3": ("gpt 3", "gpt 3 175 b"),
    "llama2_70b_lora": ("llama 2 70 b lora", "llama 2 lora", "llama 70 b lora"),
    "llama31_405b": ("llama 3 1 405 b", "llama 3 405 b", "llama 405 b"),
    "llama31_8b": ("llama 3 1 8 b",),
    "flux1": ("flux", "flux 1", "flux 1 schnell"),
    "gnn": ("gnn", "rgat", "r gat", "graph neural network", "graph attention network"),
    "minigo": ("minigo", "mini go"),
    "minigo9": ("minigo9", "minigo 9x9"),
    "ncf": ("ncf", "neural collaborative filtering"),
    "gnmt": ("gnmt", "google neural machine translation"),
}
_ASSUMED = (
    Name("ssd", "retinanet", SSD_NOTE),
    Name("single shot detector", "retinanet", SSD_NOTE),
    Name("unet", "unet3d", "unet is read as 3D U-Net, the only one of MLPerf"),
    Name("u net", "unet3d", "unet is read as 3D U-Net, the only one of MLPerf"),
    Name("llama 2 70 b", "llama2_70b_lora", LORA_NOTE),
    Name("llama 2", "llama2_70b_lora", LORA_NOTE),
    Name("llama 70 b", "llama2_70b_lora", LORA_NOTE),
    Name("llama 3 1", "llama31_405b", "Llama 3.1 is read as that of 405B parameters"),
    Name("transformer", "transformer", is_weak=True),
)
_OTHERS = (  # networks that are no benchmarks
    *("llama", "llama 3", "llama 3 2", "llama 3 3", "llama 4", "llama vision", "gpt 2", "gpt 4", "gpt 4 o", "gpt 5"),
    *("gpt 3 5", "gpt j", "gpt neo", "gpt neox", "gpt oss", "gpt", "bert base", "bert small", "bert tiny", "bert mini"),
    *("vision transformer", "swin transformer", "transformer xl", "diffusion transformer", "2d unet", "2d u net"),
    *("unet 2d", "u net 2d", "stable diffusion xl", "stable diffusion 3", "stable diffusion 3 5", "sd xl", "sd 3"),
    *("stable diffusion 1 5", "stable diffusion 2 1", "stable diffusion 1 4", "ssd mobilenet", "dcn", "dcnv 1"),
)
# `resnet 64 A100` counts GPUs, where 64 is no depth that ResNet is known by
_OTHER_RESNETS = rf"resnet(?!.?50{ENDS})(?:[_.-]?\d+|\s+(?:18|34|101|152|200))"
# said where no benchmark is named; several benchmarks: too little to choose by
_TASKS = {
    r"recommend(?:ations?|er)(?:\s+(?:systems?|models?))?|click[\s-]through(?:[\s-]rate)?": ("dlrm_dcnv2",),
    r"speech(?:[\s-](?:recognition|to[\s-]text))?|asr": ("rnnt",),
    r"image[\s-](?:classification|classifier|recognition)|classify(?:ing)?\s+images|imagenet": ("resnet",),
    r"(?:object[\s-])?(?:detection|detector)": ("retinanet",),
    r"instance[\s-]segmentation": ("maskrcnn",),
    r"(?:medical|bio-?medical|volumetric|3d|kidney)(?:[\s-](?:image|tumou?r))?[\s-]segmentation": ("unet3d",),
    r"image[\s-]generation|generat(?:e|ing)\s+images|text[\s-](?:to|2)[\s-]image|diffusion(?:[\s-]model)?": (
        "stable_diffusion",
    ),
    r"reinforcement[\s-]learning|game\s+of\s+go|board\s+games?": ("minigo",),
    r"graph[\s-](?:learning|networks?)|node\s+classification": ("gnn",),
    r"lora": ("llama2_70b_lora",),
    r"segmentation": ("maskrcnn", "unet3d"),
    r"(?:machine[\s-])?translation": ("transformer", "gnmt"),
    r"(?:large[\s-])?language[\s-]model(?:l?ing|s)?|llms?|nlp": ("bert", "gpt3", "llama2_70b_lora", "llama31_405b"),
    r"(?:computer[\s-])?vision|images?": ("resnet", "retinanet", "maskrcnn", "unet3d", "stable_diffusion"),
}
NEWER = ("llama31_8b", "flux1")  # of rounds after v5.0
KNOWN = (*_SAME, "transformer")
WITH_RESULTS = tuple(name for name in KNOWN if name not in NEWER)


@functools.cache
def _names(others: tuple[str, ...]) -> tuple[tuple[re.Pattern[str], Name], ...]:
    """All spellings, also the plain names of benchmarks that no spelling is known of."""
    names = [Name(words, benchmark) for benchmark, spellings in _SAME.items() for words in spellings]
    names += _ASSUMED
    names += [Name(words, None) for words in _OTHERS]
    names += [Name(other.replace("_", " "), other) for other in others]
    compiled = [(re.compile(f"{STARTS}{name.pattern}{ENDS}"), name) for name in names]
    return (*compiled, (re.compile(f"{STARTS}{_OTHER_RESNETS}{ENDS}"), Name("resnet", None)))


def find_benchmark(reading: Reading, with_results: Collection[str]) -> Found[str] | None:
    """Return the benchmark that the question names and cover its name; None where it names none.

    Raises:
        QueryError: if it names several, another network, or one of which there are no results.
    """
    others = tuple(sorted(set(with_results) - set(KNOWN)))
    matches = [(match, name) for pattern, name in _names(others) for match in pattern.finditer(reading.rest)]
    taken: list[tuple[re.Match[str], Name]] = []
    for match, name in sorted(matches, key=lambda each: (each[0].start() - each[0].end(), each[0].start())):
        if all(match.end() <= other.start() or other.end() <= match.start() for other, _ in taken):
            taken.append((match, name))
    if any(not name.is_weak for _, name in taken):
        taken = [(match, name) for match, name in taken if not name.is_weak]
    if not taken:
        return None
    taken.sort(key=lambda each: each[0].start())
    for match, name in taken:
        end = _refuse_other_sizes(reading, match, name, with_results)
        reading.cover(match.start(), end)
    for match, name in taken:
        if name.benchmark is None:
            raise QueryError(_no_results(match[0], with_results))
    benchmarks = _one_of_versions({name.benchmark for _, name in taken if name.benchmark is not None})
    if len(benchmarks) > 1:
        raise QueryError(f"several benchmarks are named, {listed(sorted(benchmarks))}; a question is about one.")
    (benchmark,) = benchmarks
    if benchmark not in with_results:
        raise QueryError(_no_results(benchmark, with_results))
    own = [each for each in taken if each[1].benchmark == benchmark]
    match, name = min(own, key=lambda each: each[1].note is not None)
    is_lora = name.note == LORA_NOTE and re.search(r"\blora\b|fine[\s-]?tun", reading.plain) is not None
    note = None if is_lora else name.note
    _cover_task(reading, benchmark)
    return Found(benchmark, reading.span(match.start(), match.end()), note is not None, note)


def _cover_task(reading: Reading, benchmark: str) -> None:
    """What `SSD object detection` says twice has been read."""
    for pattern, benchmarks in _TASKS.items():
        match = re.search(f"{STARTS}(?:{pattern}){ENDS}", reading.rest)
        if match is not None and benchmark in benchmarks:
            reading.cover(match.start(), match.end())


def _one_of_versions(names: set[str]) -> set[str]:
    """`DLRM with DCNv2` names one benchmark."""
    return names - {"dlrm"} if {"dlrm", "dlrm_dcnv2"} <= names else names


def _refuse_other_sizes(reading: Reading, match: re.Match[str], name: Name, with_results: Collection[str]) -> int:
    """The end of a name with its size in parameters, as of `Llama 2 7B`."""
    size = re.match(r"[\s_(-]*(\d+(?:\.\d+)?)\s?b" + ENDS, reading.rest[match.end() :])
    if size is None or name.benchmark not in SIZES:
        return match.end()
    if size[1] != SIZES[name.benchmark]:
        raise QueryError(_no_results(f"{match[0]}{size[0]}", with_results))
    return match.end() + size.end()


def find_task(reading: Reading, unread: Iterable[str], with_results: Collection[str]) -> Found[str]:
    """Return the benchmark of the task that the question names where it names none.

    Args:
        unread: words that nothing is known of; one of them may be the name of another network.

    Raises:
        QueryError: if no task is named, or one of several benchmarks, or next to an unread word.
    """
    for pattern, benchmarks in _TASKS.items():
        match = re.search(f"{STARTS}(?:{pattern}){ENDS}", reading.rest)
        if match is None:
            continue
        task = " ".join(match[0].split())
        others = [word for word in unread if word not in match[0]]
        if others:
            unknown = listed([repr(word) for word in others])
            raise QueryError(f"no benchmark is named, and {unknown} is not known. {_nearest(others, with_results)}")
        known = [name for name in benchmarks if name in with_results]
        if len(known) != 1:
            raise QueryError(f"{task!r} may be one of {listed(known or list(benchmarks), 'or')}: name one.")
        reading.cover(match.start(), match.end())
        note = f"{known[0]} is assumed for {task!r}"
        return Found(known[0], reading.span(match.start(), match.end()), True, note)
    raise QueryError(f"no benchmark is named. {_nearest(unread, with_results)}")


def _no_results(name: str, with_results: Collection[str]) -> str:
    return f"there are no MLPerf results of {' '.join(name.split())!r}. {_nearest([name], with_results)}"


def _nearest(words: Iterable[str], with_results: Collection[str]) -> str:
    """Which benchmarks could be meant by words, else all."""
    spelled = {re.sub(r"[\W_]", "", name): name for name in with_results}
    spelled |= {
        re.sub(r"[\W_]", "", words): benchmark
        for benchmark, spellings in _SAME.items()
        if benchmark in with_results
        for words in spellings
    }
    near: list[str] = []
    for word in words:
        plain = re.sub(r"[\W_]", "", word)
        near += [spelled[key] for key in difflib.get_close_matches(plain, spelled, n=MOST_NEAREST, cutoff=0.6)]
        near += [name for key, name in spelled.items() if len(plain) > 3 and (plain[:4] == key[:4] or key in plain)]
    near = list(dict.fromkeys(near))[:MOST_NEAREST]
    return f"Nearest: {', '.join(near)}." if near else f"The benchmarks: {', '.join(sorted(with_results))}."
