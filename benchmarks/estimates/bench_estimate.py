"""Estimates of real trainings against the trainings themselves: python benchmarks/estimates/bench_estimate.py

Each of some networks is estimated for a few seconds (`--budget_sec`) and then trained, in a process of its own, one
backend after the other in every repeat. Truth is the mean of the epochs after the first, for as long as the budget.
Both clocks are shown: on a shared machine the processor's says what the estimator can do, the wall's what it meets.

The training goes on for as long again: how far these epochs are from those of the truth is the machine's own change,
which no estimator sees before ("unsteady").
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
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

NETWORKS = ("cnn", "mlp", "lstm", "transformer")
BACKENDS = ("tensorflow", "jax")
CLOCKS = ("cpu", "wall")
HEADER = ("backend", "network", "clock", "n", "MAPE %", "worst %", "unsteady %", "held", "half %", "epoch s", "all s")
PEER_HEADER = ("backend", "network", "clock", "n", "error %", "Green Love's error %", "times cheaper")


def line(backend: str, network: str, clock: str, all_found: Sequence[dict[str, Any]]) -> list[Any]:
    """The row of a table: errors of the estimates of one network by one clock.

    The last column is the most seconds that a whole estimate took without what it prints as coming once (building,
    compilation, start of `fit`).
    """
    of_clock = [found[clock] for found in all_found]
    errors = [each["estimate"] / each["true"] - 1 for each in of_clock]
    known = [(error, each) for error, each in zip(errors, of_clock, strict=True) if each["half"] is not None]
    held = sum(abs(each["true"] / each["estimate"] - 1) <= each["half"] for _, each in known)
    return [
        backend,
        network,
        clock,
        len(errors),
        100 * statistics.fmean(map(abs, errors)),
        100 * max(errors, key=abs),
        100 * statistics.fmean(abs(each["true"] / each["later"] - 1) for each in of_clock),
        f"{held} of {len(known)}",
        100 * statistics.median(each["half"] for _, each in known) if known else None,
        statistics.fmean(each["true"] for each in of_clock),
        max(found["whole_sec"] - found["once_sec"] for found in all_found),
    ]


def peer_line(backend: str, network: str, clock: str, all_found: Sequence[dict[str, Any]]) -> list[Any]:
    """Return a row: mean absolute errors of both on the same trainings."""
    own, peer = (
        [abs(found[clock][name] / found[clock]["true"] - 1) for found in all_found]
        for name in ("estimate", "green_love")
    )
    cheaper = [found["green_love_sec"] / found["whole_sec"] for found in all_found]
    means = [100 * statistics.fmean(own), 100 * statistics.fmean(peer), statistics.fmean(cheaper)]
    return [backend, network, clock, len(all_found), *means]


def reach(all_found: Sequence[dict[str, Any]], budget_sec: float) -> list[Claim]:
    """Judge all networks but the transformer by the targets, in processor time."""
    plain = [found for found in all_found if found["network"] != "transformer"]
    *_, n, mape, _, unsteady, held, _, _, _ = line("all", "", "cpu", plain)
    n_held, n_known = (int(number) for number in held.split(" of "))
    beyond = max(found["whole_sec"] - found["once_sec"] - found["step_sec"] for found in all_found)
    claims = [
        Claim(
            "mean absolute error of an epoch, processor time",
            f"{mape:.1f} % (n = {n}; the machine's own change: {unsteady:.1f} %)",
            "<= 5 %",
            mape <= 5,
        ),
        Claim(
            "ranges that hold, processor time", f"{held} ({n_held / n_known:.0%})", ">= 85 %", n_held / n_known >= 0.85
        ),
        Claim(
            "most seconds, without a step and what comes once",
            f"{beyond:.1f}",
            f"<= {1.1 * budget_sec:.1f}",
            beyond <= 1.1 * budget_sec,
        ),
    ]
    if beside := [found for found in plain if "green_love_sec" in found]:
        *_, n, own, peer, cheaper = peer_line("all", "", "cpu", beside)
        claims += [
            Claim(
                "Green Love's error on the same",
                f"{peer:.1f} %, ours {own:.1f} % (n = {n})",
                "ours no larger",
                own <= peer,
            ),
            Claim("how much cheaper", f"{cheaper:.1f} x", ">= 10 x", cheaper >= 10),
        ]
    return claims


def _grouped(
    arguments: argparse.Namespace, all_found: Sequence[dict[str, Any]], row: Callable[..., list[Any]]
) -> list[Any]:
    """Return a row for each clock, network and backend."""
    rows = [
        row(backend, network, clock, own)
        for clock in CLOCKS
        for network in arguments.networks
        for backend in arguments.backends
        if (own := [f for f in all_found if (f["backend"], f["network"]) == (backend, network)])
    ]
    plain = [found for found in all_found if found["network"] != "transformer"]
    return rows + [row("all", "but transformer", clock, plain) for clock in CLOCKS if plain]


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "bench_estimate.py",
        (__doc__ or "").partition("\n")[0],
        "python benchmarks/estimates/bench_estimate.py --repeats 1",
    )
    parser.add_argument("--repeats", type=positive_int, default=3, help="times that each network is tried")
    parser.add_argument("--budget_sec", type=positive_float, default=8.0, metavar="SEC", help="of an estimate")
    parser.add_argument(
        "--green_love", type=int, choices=range(100), default=1, metavar="N", help="repeats with Green Love's procedure"
    )
    parser.add_argument("--all_threads", action="store_true", help="as many as a framework starts, instead of one")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="networks to try")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS), help="backends to try")
    add_json_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)

    def work() -> int:
        all_found, more = [], {} if arguments.all_threads else one_thread()
        for seed in range(arguments.repeats):
            for network in arguments.networks:
                for backend in arguments.backends:
                    with_peer = seed < arguments.green_love
                    how = [network, arguments.budget_sec, seed, int(with_peer)]
                    found = in_child("benchmarks.estimates.one_training", how, backend, more)
                    found |= {"backend": backend, "network": network, "seed": seed}
                    all_found.append(found)
                    print(json.dumps(found), file=sys.stderr, flush=True)
        path = home() / "results" / "benchmarks" / "estimate.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomically(path, {"runs": all_found, "budget_sec": arguments.budget_sec, "environment": more})
        if arguments.json:
            print(json.dumps(all_found))
            return 0
        print(table_text(HEADER, _grouped(arguments, all_found, line)))
        if beside := [found for found in all_found if "green_love_sec" in found]:
            print(table_text(PEER_HEADER, _grouped(arguments, beside, peer_line)))
        if any(found["network"] != "transformer" for found in all_found):
            print(claims_text(reach(all_found, arguments.budget_sec)))
        return 0

    return run_command(work)
