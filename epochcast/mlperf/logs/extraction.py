"""From a source of result logs to records, with all that gave none counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from epochcast.mlperf.logs.git_clone import GitSource
from epochcast.mlperf.logs.joining import ABSENT, Extraction, PlacedLog, joined
from epochcast.mlperf.logs.journal import Journal, ReadLog, journal_path, open_journal
from epochcast.mlperf.logs.layout import place_of, round_in
from epochcast.mlperf.logs.run_log import read_run
from epochcast.mlperf.logs.source_file import AbsentError, Source, SourceFile, total_of
from epochcast.mlperf.logs.sources import open_source
from epochcast.mlperf.logs.systems import MOST_BYTES, System, read_system
from epochcast.mlperf.records import MlperfRecord, write_records
from epochcast.output.progress import Say
from epochcast.storage.cells import header_line
from epochcast.storage.files import make_folder, refuse_another_kind

OTHER_FILE = "neither a log nor the description of a system"
UNREADABLE = "description of a system that can't be read"


def extract(source: Path, out: Path, of_round: str | None, say: Say) -> Extraction:
    """Write the table of all timed runs of a source, and return what was found.

    A run that is stopped goes on where it was: what it has read is kept in `<out>.part` until the table is written.

    Args:
        of_round: the round of logs whose path names none.

    Raises:
        OSError: if the source can't be read or the table can't be written.
        ValueError: if the source is of no known kind or damaged, or no log in it gives a row; nothing is written then.
    """
    opened = open_source(source)
    refuse_another_kind(out, header_line(MlperfRecord).encode())
    make_folder(out.parent)
    with open_journal(journal_path(out), str(source.absolute())) as journal:
        try:
            found = extracted(opened, of_round, say, journal)
            if not found.records:
                raise ValueError(f"{source}: {_why_nothing(found, isinstance(opened, GitSource))}")
        except ValueError:  # the source is at fault, and would be again
            journal.remove()
            raise
    write_records(out, found.records)
    journal.remove()
    return found


def _why_nothing(found: Extraction, is_clone: bool) -> str:
    """Return why a source gives no row, as a sentence."""
    if found.rounds:
        reasons = [f"{reason} ({n:,})" for reason, n in found.unused.items() if reason != OTHER_FILE]
        return f"no log in it gives a row: {', '.join(reasons)}. Name another source, or get it whole."
    return (
        f"no result log in it{' at the commit of its HEAD' if is_clone else ''}. Logs are looked for as <round>/"
        "<submitter>/results/<system>/<benchmark>/result_0.txt, as in the results repositories of MLPerf Training."
    )


def extracted(source: Source, of_round: str | None, say: Say, journal: Journal | None = None) -> Extraction:
    """Return what is found in a source; `journal` keeps what is read."""
    source_round = of_round or round_in(source.name)
    logs: list[PlacedLog] = []
    systems: dict[str, System] = {}  # by `FilePlace.key`
    unused: Counter[str] = Counter()
    n_known = 0
    for file in source.files():
        say(file.share)
        place = place_of(file.path, source_round)
        if place is None:
            unused[OTHER_FILE] += 1
        elif not place.is_log:
            system = _description(file)
            if isinstance(system, str):
                unused[system] += 1
            else:
                systems.setdefault(place.key, system)
        else:
            known = None if journal is None else journal.known.get((file.path, file.stamp))
            if known is not None:
                n_known += 1
            else:
                known = _read_log(file)
                if journal is not None:
                    journal.add(file.path, file.stamp, known)
            logs.append(PlacedLog(place, known))
    say(1.0)
    return joined(logs, systems, unused, n_known)


def _description(file: SourceFile) -> System | str:
    """Return the system that a file describes, or why it is not known."""
    try:
        return read_system(total_of(file.parts(), MOST_BYTES)) or UNREADABLE
    except AbsentError:
        return ABSENT


def _read_log(file: SourceFile) -> ReadLog:
    """Return what a log says, and the hash of its content."""
    content = hashlib.sha256()

    def hashed(parts: Iterable[bytes]) -> Iterator[bytes]:
        for part in parts:
            content.update(part)
            yield part

    try:
        run = read_run(hashed(file.parts()))
    except AbsentError:
        return ReadLog(None, None)
    return ReadLog(run, content.hexdigest())
