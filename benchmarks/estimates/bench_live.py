"""LiveForecast on real trainings: python benchmarks/estimates/bench_live.py

Each of some networks is estimated for a few seconds and then trained for twelve epochs, in a process of its own.
Several forecasts follow the same fit: by the wall clock, by processor time, and that without the estimate. An error is
that of the forecast total. A second fit has a deadline and an epoch that is slow on purpose.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from benchmarks.claim_parts.claim import Claim, claims_text
from benchmarks.estimates.children import in_child
from benchmarks.lib.threads import one_thread
from epochcast.cli import add_json_flag, make_parser, run_command
from epochcast.flag_types import positive_float, positive_int
from epochcast.output.text import table_text
from epochcast.paths import home
from epochcast.storage.files import write_json_atomically

NETWORKS = ("cnn", "mlp", "lstm")
BACKENDS = ("tensorflow", "jax")
CLOCKS = {"cpu": "processor", "cpu_alone": "processor, without estimate", "wall": "wall"}
AFTER = (1, 2, 3, 6)  # epochs
TARGETS = {1: 7.0, 3: 4.0}  # mean absolute error of the total by processor time, %
HOOKS = 0.005  # of a fit's processor time


def error_after(all_found: Sequence[dict[str, Any]], clock: str, epoch: int) -> tuple[float, float]:
    """Return mean and worst absolute error of the total after an epoch, in %."""
    off = [100 * abs(found[clock][str(epoch)]) for found in all_found]
    return statistics.fmean(off), max(off)


def reach(all_found: Sequence[dict[str, Any]]) -> list[Claim]:
    """Judge all runs by the targets."""
    claims = []
    for epoch, target in TARGETS.items():
        mean, worst = error_after(all_found, "cpu", epoch)
        text = f"{mean:.1f} % (worst {worst:.1f} %, n = {len(all_found)})"
        claims.append(Claim(f"error of the total after {epoch} of 12 epochs", text, f"<= {target:g} %", mean <= target))
    hooks = max(found["hooks"] for found in all_found)
    claims.append(Claim("processor time in hooks", f"{100 * hooks:.2f} % at most", "< 0.5 %", hooks < HOOKS))
    fits = [found["deadline"] for found in all_found]
    kept = sum(fit["sec"] <= fit["budget_sec"] for fit in fits)
    return [*claims, Claim("deadlines kept", f"{kept} of {len(fits)}", "all", kept == len(fits))]


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "bench_live.py", (__doc__ or "").partition("\n")[0], "python benchmarks/estimates/bench_live.py --repeats 1"
    )
    parser.add_argument("--repeats", type=positive_int, default=4, help="times that each network is tried")
    parser.add_argument("--budget_sec", type=positive_float, default=8.0, metavar="SEC", help="of the estimate before")
    parser.add_argument("--epochs", type=positive_int, default=12, help="of the fit that is followed")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="networks to try")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS), help="backends to try")
    add_json_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)

    def work() -> int:
        all_found: list[dict[str, Any]] = []
        with tempfile.TemporaryDirectory() as folder:  # the rows of these fits are no user's
            more = {**one_thread(), "EPOCHCAST_HOME": folder}
            for seed in range(arguments.repeats):
                for network in arguments.networks:
                    for backend in arguments.backends:
                        how = [network, arguments.budget_sec, arguments.epochs, seed]
                        found = in_child("benchmarks.estimates.one_live", how, backend, more)
                        found |= {"backend": backend, "network": network, "seed": seed}
                        all_found.append(found)
                        print(json.dumps(found), file=sys.stderr, flush=True)
        path = home() / "results" / "benchmarks" / "live.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomically(path, {"runs": all_found, "epochs": arguments.epochs})
        if arguments.json:
            print(json.dumps(all_found))
            return 0
        rows = [
            [words, len(all_found), *(f"{mean:.1f} ({worst:.1f})" for mean, worst in errors)]
            for clock, words in CLOCKS.items()
            if (errors := [error_after(all_found, clock, epoch) for epoch in AFTER if epoch < arguments.epochs])
        ]
        header = ["clock", "n", *(f"after {epoch}: mean (worst) %" for epoch in AFTER if epoch < arguments.epochs)]
        print(table_text(header, rows))
        print(claims_text(reach(all_found)))
        return 0

    return run_command(work)
