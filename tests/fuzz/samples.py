"""Sound inputs that are mutated: rows, averages, failures, plans, a ledger, kept runs, a model; always the same."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from epochcast.aggregate.averages.source import source_file_of, write_agg
from epochcast.live.fits import FitRecord
from epochcast.paths import CODE_ROOT, pretrained_dir
from epochcast.planner.costs.budget import KWH, Budget
from epochcast.schema import (
    Exclusion,
    FailureRecord,
    RunConfig,
    RunRecord,
    RunSpec,
    from_json_dict,
    to_json_dict,
)
from epochcast.storage.cells import format_rows, header_line
from epochcast.storage.tables import read_table
from tests.support.plans import light_run, priced, row_of, write_plan
from tests.support.rows import fit_row

MEASURED = CODE_ROOT / "results" / "cpu" / "tensorflow" / "runs.csv"
OTHERS = CODE_ROOT / "results" / "cpu" / "jax" / "runs.csv"
N_ROWS = 8
TABLE = "@TABLE@"  # stands for a path in kept JSON, so that a mutation does not depend on the path's length
PLAN_ID = "plan-0a1b2c3d"
STAMP = "2026-01-01T00:00:00+00:00"


@dataclass(frozen=True)
class Samples:
    """Files as bytes, and what they say."""

    runs: bytes  # of the newest schema
    older_runs: bytes
    published_runs: bytes  # the eleven published columns
    other_runs: bytes  # of another backend
    agg: bytes
    agg_source: bytes
    failures: bytes
    fits: bytes
    excluded: bytes
    kept: list[bytes]  # logs/<run_id>.json, with TABLE for the table
    plan: bytes
    energy_plan: bytes
    ledger: bytes
    plan_runs: bytes  # the rows of what the ledger calls done
    configs_csv: bytes
    configs_json: bytes
    card: bytes
    keras: bytes

    @property
    def tables(self) -> list[bytes]:
        return [self.runs, self.older_runs, self.published_runs]


def _first_lines(path: Path, n: int) -> bytes:
    return b"".join(path.read_bytes().splitlines(keepends=True)[: n + 1])


def _table(kind: type[Any], rows: list[Any]) -> bytes:
    return (header_line(kind) + format_rows(rows)).encode()


def _cut(data: bytes, n_columns: int) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(row[:n_columns] for row in csv.reader(io.StringIO(data.decode())))
    return text.getvalue().encode()


def _failure(number: int) -> FailureRecord:
    spec = RunSpec(depth=1, base_filters=2, batch_size=64 + number, train_n=1000, dataset="synthetic", epochs=4)
    return FailureRecord(
        timestamp_utc=STAMP,
        run_id=f"d1_f2_b{64 + number}-00000000-r1",
        grid_id="grid-00000000" if number % 2 else None,
        status=("oom", "crash", "killed", "timeout", "interrupted")[number % 5],
        exit_code=None if number % 2 else 1,
        signal="SIGKILL" if number % 2 else None,
        depth=1,
        base_filters=2,
        batch_size=64 + number,
        epochs=4,
        epoch_times_json=(0.25, 0.125)[: number % 3],
        wall_sec=1.5,
        message='a "message", with a comma',
        spec_json=json.dumps(asdict(spec)),
    )


def _fixed(path: Path) -> bytes:
    """A plan's file without what differs from time to time."""
    text = re.sub(r"plan-[0-9a-f]{8}", PLAN_ID, path.read_text())
    text = re.sub(r'"created_utc": "[^"]*"', f'"created_utc": "{STAMP}"', text)
    return re.sub(r"(_b\d+)-[0-9a-f]{8}", r"\1-00000000", text).encode()  # names the box


def _ledger(run_ids: list[str]) -> bytes:
    lines: list[dict[str, Any]] = [{"event": "begun", "plan_id": PLAN_ID}]
    for number, run_id in enumerate(run_ids):
        lines.append({"event": "run_started", "run_id": run_id, "expected_sec": 1.0, "upper_sec": 1.5})
        lines.append({"event": "alive"})
        parts = {"overhead": 0.5, "first_epoch": 0.004, "steady": 0.002}
        lines.append({"event": "run_ended", "run_id": run_id, "status": "done", "wall_sec": 0.5 + number, **parts})
    lines += [{"event": "ended", "was_interrupted": False}, {"event": "resumed", "plan_id": PLAN_ID}]
    lines += [{"event": "replanned", "factors": {"overhead": 1.1}, "run_ids": run_ids}, {"event": "ended"}]
    stamped = ({"utc": STAMP, "used_sec": round(0.5 * i, 3), **line} for i, line in enumerate(lines))
    return b"".join(json.dumps(line).encode() + b"\n" for line in stamped)


@functools.cache
def samples() -> Samples:
    """All of them; written by the product itself where it has a writer."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        older = _first_lines(MEASURED, N_ROWS)
        (folder / "older.csv").write_bytes(older)
        rows = [
            replace(row, peak_memory_bytes=2**30 + i, host_busy_cores=0.25, rel_ci95=0.01, stop_reason="epochs")
            for i, row in enumerate(read_table(folder / "older.csv", RunRecord))
        ]
        runs = folder / "runs.csv"
        runs.write_bytes(_table(RunRecord, rows))
        write_agg(runs, folder / "runs_agg.csv")
        candidates = [light_run(batch, 1.0 + batch / 256, value=1.0) for batch in (64, 128, 256, 512)]
        plan = write_plan(folder / "plan.json", candidates[:3], candidates[3:], value="count")
        write_plan(
            folder / "energy.json", priced(candidates[:2], seed=1), priced(candidates[2:]), budget=Budget(0.01, KWH)
        )
        done = [replace(row_of(run, 0.5 + i), grid_id=PLAN_ID) for i, run in enumerate(plan.chosen[:2])]
        fixed = [replace(row, run_id=_anonymous(row.run_id, plan.plan_id)) for row in done]
        kept = [
            {"table": TABLE, "row": to_json_dict(row), "spec": asdict(RunSpec()), "data_origin": "nowhere"}
            for row in rows[:3]
        ]
        assert all(from_json_dict(RunRecord, each["row"]) for each in kept)
        configs = [RunConfig(2, 16, 64), RunConfig(3, 16, 128), RunConfig(2, 32, 256), RunConfig(4, 8, 64)]
        listed = [{**asdict(config), "precision": "float32", "seed": i} for i, config in enumerate(configs)]
        return Samples(
            runs=runs.read_bytes(),
            older_runs=older,
            published_runs=_cut(older, 11),
            other_runs=_first_lines(OTHERS, N_ROWS),
            agg=(folder / "runs_agg.csv").read_bytes(),
            agg_source=source_file_of(folder / "runs_agg.csv").read_bytes(),
            failures=_table(FailureRecord, [_failure(number) for number in range(6)]),
            fits=_table(FitRecord, [_fit(number) for number in range(6)]),
            excluded=_table(Exclusion, [Exclusion(str(row.run_id), "another job ran", STAMP) for row in rows[:2]]),
            kept=[json.dumps(each, indent=1).encode() for each in kept],
            plan=_fixed(folder / "plan.json"),
            energy_plan=_fixed(folder / "energy.json"),
            ledger=_ledger([str(row.run_id) for row in fixed]),
            plan_runs=_table(RunRecord, fixed),
            configs_csv=_csv(listed),
            configs_json=json.dumps(listed).encode(),
            card=(pretrained_dir() / "a100.json").read_bytes(),
            keras=(pretrained_dir() / "a100.keras").read_bytes(),
        )


def _fit(number: int) -> FitRecord:
    return fit_row(
        run_id=f"estimate-{number}", params=1000 + number, sample_shape=("32x32x3",), source="/a, b/train.py"
    )


def _anonymous(run_id: str | None, plan_id: str) -> str:
    return re.sub(r"(_b\d+)-[0-9a-f]{8}", r"\1-00000000", str(run_id).replace(plan_id, PLAN_ID))


def _csv(rows: list[dict[str, Any]]) -> bytes:
    return "".join(",".join(map(str, line)) + "\n" for line in [list(rows[0]), *(r.values() for r in rows)]).encode()
