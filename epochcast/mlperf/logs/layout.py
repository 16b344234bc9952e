"""What a file of a results repository is, by its path.

`<round>/<submitter>/results/<system>/<benchmark>/<log>` and `<round>/<submitter>/systems/<system>.json`; round 0.5 has
folders of the submission before `results` and the description beside the logs, as `results/<system>/entry.json`. The
folder of the benchmark may be missing, or be one of several.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LOG_SUFFIXES = (".txt", ".log", ".out")
NOT_RESULTS = ("power", "compliance", "reference")  # folders of other files than result logs
ENTRY = "entry.json"
_ROUND = re.compile(r"(?:.*results[-_])?v?(\d{1,2}\.\d{1,2})(?:\.\d+)?(?:[-_.]\D.*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FilePlace:
    """Where a file stands in a results repository."""

    round: str  # e.g. 4.0
    submitter: str
    system: str  # folder of the system, of round 0.5 with the folders of the submission
    key: str  # of the system's description: equal for its logs
    path: str  # with the round first, whatever the source is called
    benchmark: str | None = None  # folder of a log
    is_log: bool = False


def round_in(name: str) -> str | None:
    """Return the round in a folder's, repository's or archive's name, e.g. 4.0, or None."""
    match = _ROUND.fullmatch(name)
    return None if match is None else match[1]


def place_of(path: str, source_round: str | None) -> FilePlace | None:
    """Return where a file stands; None if it is neither log nor system.

    Args:
        source_round: the round of a file whose path names none.

    Raises:
        ValueError: if it is such a file, and its round is not known.
    """
    parts = path.split("/")
    inner, name = _below_round(parts, source_round)
    found = _result_place(inner) or _description_place(inner)
    if found is None:
        return None
    if name is None:
        raise ValueError(
            f"{path}: which round it is of is not known: no folder is named like v4.0. Name the round: --round 4.0"
        )
    system, key, benchmark, is_log = found
    return FilePlace(
        round=name,
        submitter=inner[0],
        system=system,
        key=f"{name}/{key}",
        path="/".join([f"v{name}", *inner]),
        benchmark=benchmark,
        is_log=is_log,
    )


def _below_round(parts: list[str], source_round: str | None) -> tuple[list[str], str | None]:
    """Return the parts below the first folder that is named after a round, and the round."""
    first = next((i for i, part in enumerate(parts[:-1]) if round_in(part) is not None), None)
    if first is None:
        return parts, source_round
    after = first + 1
    while after < len(parts) - 1 and round_in(parts[after]) is not None:  # v0.5/v0.5.0
        after += 1
    return parts[after:], round_in(parts[after - 1])


_Found = tuple[str, str, str | None, bool]  # system, key, benchmark, whether it is a log


def _result_place(parts: list[str]) -> _Found | None:
    if "results" not in parts[1:-2]:
        return None
    at = parts.index("results", 1)
    folders, file = parts[at + 1 : -1], parts[-1]
    system = "/".join([*parts[1:at], folders[0]])
    key = f"{parts[0]}/{system}"
    if file == ENTRY and len(folders) == 1:
        return system, key, None, False
    is_log = file.lower().endswith(LOG_SUFFIXES) and not any(part.lower() in NOT_RESULTS for part in folders[1:])
    return (system, key, folders[-1] if folders[1:] else None, True) if is_log else None


def _description_place(parts: list[str]) -> _Found | None:
    if len(parts) != 3 or parts[1] != "systems" or not parts[2].lower().endswith(".json"):
        return None
    system = parts[2][: -len(".json")]
    return system, f"{parts[0]}/{system}", None, False
