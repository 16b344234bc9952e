"""Small result repositories of MLPerf Training, as they are laid out from round 0.6 on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def a_log(
    number: int,
    *,
    start: float = 1_700_000_000.0,
    stop: float | None = 60.0,
    status: str = "success",
    division: str | None = "closed",
    noise: int = 0,
) -> str:
    """Return the text of a log; `number` makes it unlike others, `stop` is in seconds after the start.

    Args:
        noise: lines of a program's own words.
    """

    def line(key: str, sec: float, value: Any = None, **metadata: Any) -> str:
        said = {"time_ms": round(1e3 * sec), "key": key, "value": value, "metadata": metadata}
        return f":::MLLOG {json.dumps(said)}"

    lines = [line("submission_benchmark", start, "bert"), line("seed", start, number)]
    if division is not None:
        lines.append(line("submission_division", start, division))
    lines += [line("run_start", start), *(f"step {number} {i * 2654435761 % 2**32:x}" for i in range(noise))]
    if stop is not None:
        lines.append(line("run_stop", start + stop, status=status))
    return "\n".join(lines) + "\n"


def a_system(**changes: Any) -> dict[str, Any]:
    """Return the description of a system of 16 H100."""
    values = {
        "system_name": "box",
        "division": "closed",
        "number_of_nodes": "2",
        "accelerators_per_node": "8",
        "accelerator_model_name": "NVIDIA H100-SXM5-80GB",
        "framework": "PyTorch",
    }
    return values | changes


_SYSTEM = a_system()


def write_repository(
    folder: Path, logs: Sequence[str], system: dict[str, Any] | None = _SYSTEM, benchmark: str = "bert"
) -> Path:
    """Write the logs of one submission below a round's folder; return the folder that the logs are in."""
    results = folder / "ACME" / "results" / "box" / benchmark
    results.mkdir(parents=True)
    for i, text in enumerate(logs):
        (results / f"result_{i}.txt").write_text(text)
    if system is not None:
        (folder / "ACME" / "systems").mkdir()
        (folder / "ACME" / "systems" / "box.json").write_text(json.dumps(system))
    return results
