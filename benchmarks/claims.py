"""Every figure claimed of the time model and of plans, with its target: python benchmarks/claims.py (make claims)

On the reference A100 table; transfer also on rows measured on a CPU (results/cpu/). Splits are by configuration. Writes
claims.md and claims.json to results/benchmarks/claims/. `--only NAME,...` runs some parts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from benchmarks.claim_parts.beyond import beyond
from benchmarks.claim_parts.checks import stalled, training_time, unseen
from benchmarks.claim_parts.claim import Claim, claims_text
from benchmarks.claim_parts.designs import design, few_rows, whole_runs
from benchmarks.claim_parts.in_range import in_range, original
from benchmarks.claim_parts.plans import info, knapsack, plans, simulated
from benchmarks.claim_parts.transfer import transfer
from epochcast.cli import run_command
from epochcast.machine.environment import utc_now
from epochcast.output.text import clock
from epochcast.paths import home
from epochcast.storage.files import write_json_atomically, write_text_atomically

PARTS: dict[str, Callable[[], list[Claim]]] = {
    "training_time": training_time,
    "in_range": in_range,
    "original": original,
    "beyond": beyond,
    "unseen": unseen,
    "design": design,
    "few_rows": few_rows,
    "whole_runs": whole_runs,
    "transfer": transfer,
    "stalled": stalled,
    "knapsack": knapsack,
    "plans": plans,
    "info": info,
    "simulated": simulated,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="claims.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run")
    names = parser.parse_args().only.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; use {', '.join(PARTS)}")

    def work() -> int:
        start = time.monotonic()
        out = home() / "results" / "benchmarks" / "claims"
        parts: dict[str, list[dict[str, Any]]] = {}
        text = []
        for name in names:
            part_start = time.monotonic()
            claims = PARTS[name]()
            parts[name] = [asdict(claim) for claim in claims]
            what = " ".join((PARTS[name].__doc__ or "").split())
            text.append(f"{name}: {what} [{clock(time.monotonic() - part_start)}]\n\n{claims_text(claims)}\n")
            print(text[-1], flush=True)
        missed = [c["what"] for claims_of_part in parts.values() for c in claims_of_part if c["reached"] is False]
        text.append(f"not reached: {'; '.join(missed) or 'nothing'}\n{clock(time.monotonic() - start)} in all")
        print(text[-1])
        # the names of a JSON file say what it is: those of some parts would not replace a report of others
        write_json_atomically(out / "claims.json", {"created_utc": utc_now(), "parts": parts})
        write_text_atomically(out / "claims.md", "\n".join(f"```\n{part}\n```\n" for part in text))
        print(f"written: {out}")
        return 0

    return run_command(work)
