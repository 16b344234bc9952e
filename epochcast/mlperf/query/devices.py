"""Which GPU a question names: longest name first, as a whole word, with form, memory and power limit."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from epochcast.facts.tables import Gpu, gpus
from epochcast.gpus.lookup import UnknownGpuError, find_gpu, nearest_gpus, words_of
from epochcast.mlperf.query.query import Found, QueryError, Span
from epochcast.mlperf.query.text import DEVICE, Reading
from epochcast.output.text import listed

T = TypeVar("T")
GPU_WORDS = (
    r"(?:gpus?|accelerators?|accels?|chips?|cards?|devices?|boards?|tpus?|ipus?|hpus?|npus?|processors?|units?)"
    r"(?![^\W_])"
)
# The board of most results in the rounds v0.5 to v5.0 of MLPerf Training, where a name is that of several.
MOST_RESULTS = {"v100": "V100 SXM2 16GB", "a100": "A100 SXM4 80GB", "h100": "H100 SXM5", "h200": "H200 SXM"}
MEMORY_SLACK = 0.12  # `B200 180GB` where the facts have 192
_FORMS = r"sxm(?:\s?\d(?![^\W_]))?|pci-?e|nvl(?!\s*-?72)|oam"
_MEMORY = r"(\d+)\s?gi?b"
_POWER = r"(\d{2,4})\s?w(?:atts?)?"
_IGNORED = r"hbm\s?\d?e?|dlc|tensor\s?cores?"
_PART = rf"(?:{_FORMS}|{_MEMORY}|{_POWER}|{_IGNORED})(?![^\W_])"
_MAKERS = r"(?:(?:nvidia|tesla|geforce|amd|instinct|intel|habana|google|huawei|graphcore)[\s_-]+)*"
_BEFORE = rf"(?:(?:{_FORMS}|{_MEMORY})[\s_-]+)*"
_JOIN = r"[\s_/().-]*(?:gpu[\s_/().-]+)?"
_FORM = re.compile(r"(?:sxm|pcie|nvl|oam)\d*")
_FORM_OR_MEMORY = re.compile(rf"{_FORM.pattern}|\d+gb|hbm\d?e?")


Stem = tuple[str, ...]  # the words of a board's name without form and memory


@dataclass(frozen=True, slots=True)
class _Mention:
    """One place that names a board."""

    start: int
    end: int
    stem: Stem
    form: str | None
    memory_gb: float | None
    power_w: float | None
    is_dgx: bool
    note: str | None  # what had to be assumed to read the name


def _stem(name: str) -> Stem:
    """`a100` of `A100-SXM4-80GB`."""
    return tuple(word for word in words_of(name) if not _FORM_OR_MEMORY.fullmatch(word))


@functools.cache
def _boards() -> dict[Stem, tuple[Gpu, ...]]:
    """Boards by the words of their names, without form and memory."""
    found: dict[Stem, list[Gpu]] = {}
    for gpu in gpus():
        names = (gpu.name, *gpu.aliases, *filter(None, [gpu.shared_name]))
        stems = [stem for name in names if (stem := _stem(name)) and not stem[0].startswith("dgx")]
        # `A5000` for `RTX A5000`; a bare number is no name
        stems += [stem[1:] for stem in stems if len(stem) == 2 and stem[0] == "rtx" and stem[1][0].isalpha()]
        for stem in dict.fromkeys(stems):
            found.setdefault(stem, []).append(gpu)
    return {stem: tuple(own) for stem, own in found.items()}


def _word_pattern(word: str) -> str:
    """A word whose letters and digits may stand apart: `gaudi 2`, `A-100`, but not `a 100`, which counts something."""
    joined = r"[\s_-]?" if re.match(r"[a-z]{3}", word) else r"[_-]?"
    return joined.join(map(re.escape, re.findall(r"[^\W\d_]+|\d+", word)))


@functools.cache
def _pattern() -> re.Pattern[str]:
    """A mention of any board; `stem` is its name."""
    stems = sorted(_boards(), key=lambda stem: len("".join(stem)), reverse=True)
    names = "|".join(_JOIN.join(map(_word_pattern, stem)) for stem in stems)
    return re.compile(
        rf"(?:(?<![^\W_])|(?<=\dx))(?P<before>{_BEFORE}){_MAKERS}(?P<stem>{names})(?P<plural>s?)"
        rf"(?:(?![^\W_])(?!\.\d)|(?=x\d))(?P<after>(?:[\s_/(),-]*(?:(?:at|with|of)\s+)?{_PART})*\)?)"
    )


@functools.cache
def _stem_of() -> dict[str, Stem]:
    return {"".join(stem): stem for stem in _boards()}


def _bare_number() -> re.Pattern[str]:
    """Several GeForce boards by number alone: `4090s`."""
    numbers = "|".join(stem[1] for stem in _boards() if len(stem) == 2 and stem[0] == "rtx" and stem[1].isdecimal())
    return re.compile(rf"(?:(?<![^\W_])|(?<=\dx))(?P<stem>{numbers})s(?![^\W_])")


def find_device(reading: Reading) -> tuple[Found[str], Found[float] | None]:
    """Return the board that the question names, with the power limit that it says, and cover both.

    Raises:
        QueryError: if it names none, several, or one that the facts do not have.
    """
    matches = list(_pattern().finditer(reading.rest)) or list(_bare_number().finditer(reading.rest))
    mentions = [_mention(reading, match) for match in matches if not _is_in_a_name(reading, match)]
    if not mentions:
        raise QueryError(_unknown(reading))
    if len({mention.stem for mention in mentions}) > 1:
        names = dict.fromkeys(reading.span(each.start, each.end).of(reading.text) for each in mentions)
        raise QueryError(f"several GPUs are named, {listed(list(names))}; a question is about one.")
    first = mentions[0]
    form = _only("form", [each.form for each in mentions])
    memory_gb = _only("memory", [each.memory_gb for each in mentions])
    power_w = _only("power limit", [each.power_w for each in mentions])
    span = reading.span(first.start, first.end)
    gpu, note = _board(replace(first, form=form, memory_gb=memory_gb), span.of(reading.text))
    if power_w is not None:
        try:
            find_gpu(f"{gpu.name} ({power_w:g}W)")
        except UnknownGpuError as error:
            raise QueryError(f"{error}.") from None
    tdp = None if power_w is None else Found(power_w, _power_span(reading, mentions))
    for mention in mentions:
        reading.cover(mention.start, mention.end, DEVICE)
    return Found(gpu.name, span, note is not None, note), tdp


def _power_span(reading: Reading, mentions: Iterable[_Mention]) -> Span | None:
    for mention in mentions:
        if match := re.search(_POWER, reading.plain[mention.start : mention.end]):
            return reading.span(mention.start + match.start(), mention.start + match.end())
    return None


def _is_in_a_name(reading: Reading, match: re.Match[str]) -> bool:
    """Whether a short name begins another word, as in a cloud's `a2-highgpu-8g`."""
    return len(match["stem"]) <= 2 and re.match(r"-[^\W_]", reading.rest[match.end() :]) is not None


def _mention(reading: Reading, match: re.Match[str]) -> _Mention:
    groups = match.groupdict()
    words = f"{groups.get('before') or ''} {groups.get('after') or ''}"
    form, memory, power = (re.search(part, words) for part in (_FORMS, _MEMORY, _POWER))
    stem, note = _stem_and_note(reading, match)
    return _Mention(
        match.start(),
        match.end(),
        stem,
        form=None if form is None else re.sub(r"[\W_]", "", form[0]),
        memory_gb=None if memory is None else float(memory[1]),
        power_w=None if power is None else float(power[1]),
        is_dgx=re.search(r"[dh]gx(?:-[12])?[\s_-]*$", reading.rest[: match.start()]) is not None,
        note=note,
    )


def _stem_and_note(reading: Reading, match: re.Match[str]) -> tuple[Stem, str | None]:
    """Which board a mention names; `L40s` may be one L40S or several L40."""
    plain = re.sub(r"[\W_]|gpu", "", match["stem"])
    stem = _stem_of().get(plain) or _stem_of()[f"rtx{plain}"]
    one = _stem_of().get(plain[:-1]) if plain.endswith("s") else None
    written = reading.span(match.start("stem"), match.end("stem")).of(reading.text)
    if one is None or written[-1].isupper():
        return stem, None
    other = _boards()[stem][0].name
    if re.match(rf"[\s(]*{GPU_WORDS}", reading.rest[match.end() :]) or match["after"].strip():
        return stem, f"{written} is read as {other}"
    return one, f"{written} is read as several {written[:-1]}; of that name is also {other}"


def _only(what: str, values: Iterable[T | None]) -> T | None:
    """The one value that mentions have, None where no mention has it."""
    known = list(dict.fromkeys(value for value in values if value is not None))
    if len(known) > 1:
        said = listed([f"{value:g}" if isinstance(value, float) else str(value) for value in known])
        raise QueryError(f"GPUs of different {what} are named, {said}; a question is about one.")
    return known[0] if known else None


def _forms(gpu: Gpu) -> set[str]:
    """Its own name's, else those of its aliases; one of the H100 NVL calls it a PCIe board."""
    for names in ((gpu.name,), gpu.aliases):
        if forms := {word for name in names for word in words_of(name) if _FORM.fullmatch(word)}:
            return forms
    return set()


def _has_form(gpu: Gpu, form: str) -> bool:
    """Whether a board may be of this form: `sxm` is any SXM, `sxm3` no SXM2."""
    own = _forms(gpu)
    plain = {each.rstrip("0123456789") for each in own}
    return not own or form in own | plain or form.rstrip("0123456789") in own


def _is_sxm(gpu: Gpu) -> bool:
    return any(form.startswith("sxm") for form in _forms(gpu))


def _has_memory(gpu: Gpu, memory_gb: float) -> bool:
    spelled = f"{memory_gb:g}gb"
    is_named = any(spelled in words_of(name) for name in (gpu.name, *gpu.aliases))
    return is_named or abs(memory_gb / gpu.memory_gb - 1) <= MEMORY_SLACK


def _board(mention: _Mention, name: str) -> tuple[Gpu, str | None]:
    """The board of a name with what is said of it, and what had to be assumed."""
    own = _boards()[mention.stem]
    form = "sxm" if mention.is_dgx and mention.form is None and any(_is_sxm(gpu) for gpu in own) else mention.form
    fitting = [
        gpu
        for gpu in own
        if (form is None or _has_form(gpu, form)) and (mention.memory_gb is None or _has_memory(gpu, mention.memory_gb))
    ]
    if not fitting:
        known = ", ".join(gpu.name for gpu in own)
        raise QueryError(f"no GPU is known by exactly {name!r}. Nearest: {known}. All: epochcast facts gpus.")
    usual = MOST_RESULTS.get("".join(mention.stem))
    # of several: the usual one, else SXM before others, then the larger memory
    chosen = max(fitting, key=lambda gpu: (gpu.name == usual, _is_sxm(gpu), gpu.memory_gb))
    exact = [gpu for gpu in fitting if words_of(name) in map(words_of, (gpu.name, *gpu.aliases))]
    if len(exact) == 1:
        return exact[0], mention.note
    others = [gpu.name for gpu in fitting if gpu is not chosen]
    if others:
        assumed = f"{name} is read as {chosen.name}; of that name are also {listed(others)}"
    elif chosen.shared_name is not None and mention.memory_gb is None:
        assumed = f"{name} is read as {chosen.name}; other boards of that name differ in memory"
    else:
        return chosen, mention.note
    return chosen, assumed if mention.note is None else f"{mention.note}; {assumed}"


def memory_sizes(device: str) -> frozenset[int]:
    """Return the gigabytes that boards of the same name have."""
    alike = [boards for boards in _boards().values() if any(gpu.name == device for gpu in boards)]
    return frozenset(round(gpu.memory_gb) for boards in alike for gpu in boards)


def may_be_device(word: str) -> bool:
    """Return whether a word looks like a GPU's name: letters and digits, and no version or number of times."""
    is_mixed = re.search(r"[a-z]", word) is not None and re.search(r"\d", word) is not None
    return is_mixed and re.fullmatch(r"v\d.*|\d+x|x\d+|[\dx]+", word) is None


def _unknown(reading: Reading) -> str:
    """Say that no GPU is named, with names near to what could be one."""
    could_be = [word[0] for word in reading.words() if may_be_device(word[0])]
    if not could_be:
        return "no GPU is named, such as A100, H100 SXM5 or RTX 4090. All: epochcast facts gpus."
    word = re.sub(r"^\d+x(?=[a-z])", "", could_be[-1])
    nearest = ", ".join(nearest_gpus(word))
    return f"no GPU is known by the name {word!r}. Nearest: {nearest}. All: epochcast facts gpus."
