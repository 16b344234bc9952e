"""Logs joined with their systems to records; the others are counted with reasons."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from epochcast.mlperf.logs.benchmarks import benchmark_name
from epochcast.mlperf.logs.devices import device_of
from epochcast.mlperf.logs.journal import ReadLog
from epochcast.mlperf.logs.layout import FilePlace
from epochcast.mlperf.logs.run_log import WHOLE_NUMBERS, RunLog
from epochcast.mlperf.logs.systems import System, only_like, system_of_entry
from epochcast.mlperf.records import DIVISIONS, MlperfRecord, round_number
from epochcast.validation import FieldError

ABSENT = "its content is not in the clone"
DUPLICATE = "the same content as another log"


@dataclass(frozen=True, slots=True)
class RoundCounts:
    """The logs of one round, counted before those of the same content are dropped."""

    round: str
    logs: int
    absent: int
    timed: int
    usable: int
    closed: int  # usable, of the closed division
    duplicates: int  # logs dropped for another of the same content, of this round or an earlier one
    systems: int  # of usable records
    entries: int


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was found in a source."""

    records: tuple[MlperfRecord, ...]  # by round and path
    rounds: tuple[RoundCounts, ...]
    unused: dict[str, int]  # files that gave no record, by reason
    not_usable: dict[str, int]  # records that are not usable, by reason
    unknown_devices: dict[str, int]  # usable records of devices that the facts lack, by their spelling
    n_known: int  # logs that an earlier run had read

    def to_json(self) -> dict[str, Any]:
        """Return everything but the records themselves."""
        return {
            "records": len(self.records),
            "usable": sum(record.is_usable for record in self.records),
            "rounds": [asdict(each) for each in self.rounds],
            "unused_files": self.unused,
            "not_usable": self.not_usable,
            "unknown_devices": self.unknown_devices,
            "logs_read_before": self.n_known,
        }


@dataclass(frozen=True, slots=True)
class PlacedLog:
    """A log that was read, and where it stands."""

    place: FilePlace
    read: ReadLog


def joined(logs: list[PlacedLog], systems: dict[str, System], unused: Counter[str], n_known: int) -> Extraction:
    """Return the records of logs, in the order of rounds and paths.

    Args:
        systems: by `FilePlace.key`.
        unused: files of no use by reason; what gives no record is added.
    """
    of_submitter: dict[tuple[str, str], list[System]] = defaultdict(list)
    for key, system in systems.items():
        of_round, submitter, _ = key.split("/", 2)
        of_submitter[of_round, submitter].append(system)
    logs.sort(key=lambda log: (round_number(log.place.round), log.place.path.split("/")))
    seen: set[str] = set()
    records: list[MlperfRecord] = []
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    not_usable: Counter[str] = Counter()
    for log in logs:
        count = counts[log.place.round]
        count["logs"] += 1
        if log.read.run is None:
            unused[ABSENT] += 1
            count["absent"] += 1
            continue
        if (fault := log.read.run.fault) is not None:
            unused[fault] += 1
            continue
        others = of_submitter[log.place.round, log.place.submitter]
        record = _record(log, systems.get(log.place.key) or only_like(log.place.system, others))
        if isinstance(record, str):
            unused[record] += 1
            continue
        count["timed"] += 1
        count["usable"] += record.is_usable
        count["closed"] += record.is_usable and record.division == "closed"
        if record.sha256 in seen:
            unused[DUPLICATE] += 1
            count["duplicates"] += 1
            continue
        seen.add(record.sha256)
        records.append(record)
        if not record.is_usable:
            not_usable[_why_not_usable(record)] += 1
    strangers = Counter(
        r.accelerator for r in records if r.is_usable and r.device is None and r.accelerator is not None
    )
    rounds = tuple(_round_counts(name, counts[name], records) for name in sorted(counts, key=round_number))
    return Extraction(
        records=tuple(records),
        rounds=rounds,
        unused=dict(unused.most_common()),
        not_usable=dict(not_usable.most_common()),
        unknown_devices=dict(strangers.most_common()),
        n_known=n_known,
    )


def _round_counts(name: str, count: Counter[str], records: list[MlperfRecord]) -> RoundCounts:
    usable = [record for record in records if record.round == name and record.is_usable]
    return RoundCounts(
        round=name,
        logs=count["logs"],
        absent=count["absent"],
        timed=count["timed"],
        usable=count["usable"],
        closed=count["closed"],
        duplicates=count["duplicates"],
        systems=len({(record.submitter, record.system) for record in usable}),
        entries=len({record.entry for record in usable}),
    )


def _why_not_usable(record: MlperfRecord) -> str:
    if record.status is None:
        return "no status that can be read"
    if record.status != "success":
        return "aborted"
    return "no description of its system" if record.system_name is None else "number of accelerators unknown"


def _record(log: PlacedLog, described: System | None) -> MlperfRecord | str:
    """Return a log's row, or why it gives none."""
    run, place = log.read.run, log.place
    if run is None or run.start_sec is None or run.stop_sec is None or log.read.sha256 is None:  # `fault` says so
        return ABSENT
    system = described or (None if run.entry is None else system_of_entry(run.entry)) or System()
    device = device_of(system)
    said = run.benchmark or place.benchmark
    if said is None:
        return "no benchmark is named in the log or by its folder"
    said_divisions = {(run.division or "").lower(), system.division}
    try:
        return MlperfRecord(
            round=place.round,
            submitter=place.submitter,
            system=place.system,
            benchmark=benchmark_name(said, place.round),
            time_sec=round(run.stop_sec - run.start_sec, 6),
            log=place.path,
            sha256=log.read.sha256,
            log_benchmark=said,
            # a log may say closed where the description of its system says open
            division=next((each for each in reversed(DIVISIONS) if each in said_divisions), None),
            status=run.status,
            device=device.name,
            device_kind=device.kind,
            accelerator=device.spelling,
            n_accelerators=device.n or None,
            n_nodes=system.n_nodes or None,
            power_limit_w=device.power_limit_w,
            framework=system.framework,
            system_name=system.name,
            started_utc=_utc(run.start_sec),
            **_settings(run),
        )
    except FieldError as error:
        return f"a value that can't be: {error.column}"


def _settings(run: RunLog) -> dict[str, Any]:
    """Return what was trained with; a count that is not positive is unknown."""
    counts = WHOLE_NUMBERS.keys() - {"seed"}
    others = ("optimizer", "base_learning_rate", "target_quality", "final_quality")
    values = {name: getattr(run, name) for name in (*WHOLE_NUMBERS, *others)}
    return {name: None if name in counts and (value or 0) <= 0 else value for name, value in values.items()}


def _utc(since_1970_sec: float) -> str | None:
    try:
        return datetime.fromtimestamp(since_1970_sec, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None
