"""Which GPU a question names, with form, memory and power limit."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from epochcast.facts.tables import Gpu, accelerators
from epochcast.gpus.lookup import UnknownGpuError, find_gpu, nearest_gpus, words_of
from epochcast.mlperf.query.query import Found, QueryError, Span
from epochcast.mlperf.query.text import DEVICE, Reading
from epochcast.output.text import listed

GPU_WORDS = (
    r"(?:gpus?|accelerators?|accels?|chips?|cards?|devices?|boards?|tpus?|ipus?|hpus?|npus?|processors?|units?)"
    r"(?![^\W_])"
)
# The boards of most results in the rounds v0.5 to v5.0 of MLPerf Training, where a name is that of several.
MOST_RESULTS = ("V100 SXM2 16GB", "A100 SXM4 80GB", "H100 SXM5", "H200 SXM")
MEMORY_SLACK = 0.12  # `B200 180GB` where the facts have 192
_FORMS = r"sxm(?:\s?\d(?![^\W_]))?|pci-?e|nvl(?!\s*-?72)|oam"
_MEMORY = r"(\d+)\s?gi?b"
_POWER = r"(\d{2,4})\s?w(?:atts?)?"
_IGNORED = r"hbm\s?\d?e?|dlc|tensor\s?cores?"
_PART = rf"(?:{_FORMS}|{_MEMORY}|{_POWER}|{_IGNORED})(?:(?![^\W_])|(?=x\d))"
_MAKERS = r"(?:(?:nvidia|tesla|geforce|amd|instinct|intel|habana|google|huawei|graphcore)[\s_-]+)*"
_BEFORE = rf"(?:(?:{_FORMS}|{_MEMORY})[\s_-]+)*"
_JOIN = r"[\s_/().-]*(?:gpu[\s_/().-]+)?"
_FORM = re.compile(r"(?:sxm|pcie|nvl|oam)\d*")
_FORM_OR_MEMORY = re.compile(rf"{_FORM.pattern}|\d+gb|hbm\d?e?")


Words = tuple[str, ...]  # of a board's name, mostly without form and memory


@dataclass(frozen=True, slots=True)
class _Mention:
    """One place that names a board."""

    start: int
    end: int
    boards: tuple[Gpu, ...]  # that it may name
    power_w: float | None
    note: str | None  # what had to be assumed to read the name


@functools.cache
def _boards() -> dict[Words, tuple[Gpu, ...]]:
    """Boards by the words of their names without form and memory: `a100` of `A100-SXM4-80GB`."""
    found: dict[Words, dict[str, Gpu]] = {}
    for gpu in accelerators():
        for name in (gpu.name, *gpu.aliases, *filter(None, [gpu.shared_name])):
            words = words_of(name)
            stem = tuple(word for word in words if not _FORM_OR_MEMORY.fullmatch(word))
            if not stem or stem[0] == "dgx":
                continue
            if words[: len(stem)] != stem:  # form or memory within the name: `V100-SXM3-32GB-H`
                stem = words
            found.setdefault(stem, {})[gpu.name] = gpu
            if len(stem) == 2 and stem[0] == "rtx" and stem[1][0].isalpha():  # `A5000`; a bare number is no name
                found.setdefault(stem[1:], {})[gpu.name] = gpu
    return {words: tuple(own.values()) for words, own in found.items()}


def _word_pattern(word: str) -> str:
    """A word whose letters and digits may stand apart: `gaudi 2`, `A-100`."""
    joined = r"[\s_-]?" if re.match(r"[a-z]{3}", word) else r"[_-]?"
    return joined.join(map(re.escape, re.findall(r"[^\W\d_]+|\d+", word)))


@functools.cache
def _pattern() -> re.Pattern[str]:
    """A mention of any board."""
    known = sorted(_boards(), key=lambda words: len("".join(words)), reverse=True)
    names = "|".join(_JOIN.join(map(_word_pattern, words)) for words in known)
    return re.compile(
        rf"(?:(?<![^\W_])|(?<=\dx))(?P<before>{_BEFORE}){_MAKERS}(?P<name>{names})(?P<plural>s?)"
        rf"(?:(?![^\W_])(?!\.\d)|(?=x\d))(?P<after>(?:[\s_/(),-]*(?:(?:at|with|of|@)\s+)?{_PART})*\)?)"
    )


@functools.cache
def _words_of_joined() -> dict[str, Words]:
    return {"".join(words): words for words in _boards()}


def _bare_number() -> re.Pattern[str]:
    """Several GeForce boards by number alone: `4090s`."""
    rtx = [words for words in _boards() if len(words) == 2 and words[0] == "rtx"]
    numbers = "|".join(words[1] for words in rtx if words[1].isdecimal())
    return re.compile(rf"(?:(?<![^\W_])|(?<=\dx))(?P<name>{numbers})s(?![^\W_])")


def find_device(reading: Reading) -> tuple[Found[str], Found[float] | None]:
    """Return the board named and its power limit, and cover both.

    Raises:
        QueryError: if it names none, several, or one that the facts do not have.
    """
    matches = list(_pattern().finditer(reading.rest)) or list(_bare_number().finditer(reading.rest))
    mentions = [_mention(reading, match) for match in matches if not _is_in_a_name(reading, match)]
    if not mentions:
        raise QueryError(_unknown(reading))
    names = list(dict.fromkeys(reading.span(each.start, each.end).of(reading.text) for each in mentions))
    boards = [gpu for gpu in mentions[0].boards if all(gpu in each.boards for each in mentions)]
    powers = list(dict.fromkeys(each.power_w for each in mentions if each.power_w is not None))
    if not boards or len(powers) > 1:
        raise QueryError(f"several GPUs are named, {listed(names)}; a question is about one.")
    gpu, assumed = _chosen(boards, names[0])
    notes = [note for note in (mentions[0].note, assumed) if note is not None]
    tdp = None
    if powers:
        try:
            find_gpu(f"{gpu.name} ({powers[0]:g}W)")
        except UnknownGpuError as error:
            raise QueryError(f"{error}.") from None
        tdp = Found(powers[0], _power_span(reading, mentions))
    for mention in mentions:
        reading.cover(mention.start, mention.end, DEVICE)
    span = reading.span(mentions[0].start, mentions[0].end)
    return Found(gpu.name, span, bool(notes), "; ".join(notes) or None), tdp


def _power_span(reading: Reading, mentions: Iterable[_Mention]) -> Span | None:
    for mention in mentions:
        if match := re.search(_POWER, reading.plain[mention.start : mention.end]):
            return reading.span(mention.start + match.start(), mention.start + match.end())
    return None


def _is_in_a_name(reading: Reading, match: re.Match[str]) -> bool:
    """Whether a short name begins another word, as in a cloud's `a2-highgpu-8g`."""
    return len(match["name"]) <= 2 and re.match(r"-[^\W_]", reading.rest[match.end() :]) is not None


def _mention(reading: Reading, match: re.Match[str]) -> _Mention:
    """What one match names.

    Raises:
        QueryError: if no board of that name has the form or memory that is said.
    """
    groups = match.groupdict()
    parts = f"{groups.get('before') or ''} {groups.get('after') or ''}"
    form, memory, power = (re.search(part, parts) for part in (_FORMS, _MEMORY, _POWER))
    own, note = _boards_and_note(reading, match)
    fitting = own
    if form is not None:
        fitting = tuple(gpu for gpu in fitting if _has_form(gpu, re.sub(r"[\W_]", "", form[0])))
    elif re.search(r"[dh]gx(?:-[12])?[\s_-]*$", reading.rest[: match.start()]):
        fitting = tuple(gpu for gpu in fitting if _is_sxm(gpu)) or fitting
    if memory is not None:
        fitting = tuple(gpu for gpu in fitting if _has_memory(gpu, float(memory[1])))
    elif len(fitting) == 1 and fitting[0].shared_name is not None and len(own) == 1:
        name = match["name"].upper()
        note = f"{name} is read as {fitting[0].name}; other boards of that name differ in memory"
    if not fitting:
        name = reading.span(match.start(), match.end()).of(reading.text)
        known = ", ".join(gpu.name for gpu in own)
        raise QueryError(f"no GPU is known by exactly {name!r}. Nearest: {known}. All: epochcast facts gpus.")
    return _Mention(match.start(), match.end(), fitting, None if power is None else float(power[1]), note)


def _boards_and_note(reading: Reading, match: re.Match[str]) -> tuple[tuple[Gpu, ...], str | None]:
    """Boards of the name of a mention; `L40s` may be one L40S or several L40."""
    plain, known = re.sub(r"[\W_]|gpu", "", match["name"]), _words_of_joined()
    own = _boards()[known.get(plain) or known[f"rtx{plain}"]]
    one = known.get(plain[:-1]) if plain.endswith("s") else None
    written = reading.span(match.start("name"), match.end("name")).of(reading.text)
    if one is None or written[-1].isupper():
        return own, None
    if re.match(rf"[\s(]*{GPU_WORDS}", reading.rest[match.end() :]) or match["after"].strip():
        return own, f"{written} is read as {own[0].name}"
    return _boards()[one], f"{written} is read as several {written[:-1]}; of that name is also {own[0].name}"


def _forms(gpu: Gpu) -> set[str]:
    """Its own name's form, else those of its aliases."""
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


def _chosen(boards: list[Gpu], name: str) -> tuple[Gpu, str | None]:
    """The board chosen of several with a name, and what was assumed."""
    exact = [gpu for gpu in boards if words_of(name) in map(words_of, (gpu.name, *gpu.aliases))]
    if len(exact) == 1 or len(boards) == 1:
        return (exact or boards)[0], None
    # the usual one, else SXM before others, then the larger memory
    chosen = max(boards, key=lambda gpu: (gpu.name in MOST_RESULTS, _is_sxm(gpu), gpu.memory_gb))
    others = listed([gpu.name for gpu in boards if gpu is not chosen])
    return chosen, f"{name} is read as {chosen.name}; of that name are also {others}"


def memory_sizes(device: str) -> frozenset[int]:
    """Return the gigabytes that boards of the same name have."""
    alike = [boards for boards in _boards().values() if any(gpu.name == device for gpu in boards)]
    return frozenset(round(gpu.memory_gb) for boards in alike for gpu in boards)


def may_be_device(word: str) -> bool:
    """Whether a word looks like a GPU's name, and no version or count."""
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
