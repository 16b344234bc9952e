"""Successive halving against measuring all settings: python benchmarks/estimates/bench_tune.py

A small network has 18 settings: an MLP on JAX three batch sizes, one or four steps per execution and three forms of its
data, a CNN on TensorFlow XLA on and off in place of the steps. All are compiled in one process. They are timed by
successive halving as `epochcast tune` does it, and all in full (8 rounds of blocks of the same seconds), by blocks of
their own. The regret is how much slower the chosen setting is than the fastest of all, by the full measurement. The
fastest of noisy settings looks faster than it is, so that the regret is also told by halves: the fastest by every other
round, compared with the chosen by the other rounds, and the same the other way round.
"""

from __future__ import annotations

import json
import statistics
import sys
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
from epochcast.live.tuning.halving import WORTH
from epochcast.live.tuning.settings import Setting
from epochcast.live.tuning.text import change_text
from epochcast.output.text import table_text
from epochcast.paths import home
from epochcast.storage.files import write_json_atomically

CASES = {"mlp": "jax", "cnn": "tensorflow"}
CLOCKS = ("cpu", "wall")
MOST_REGRET, MOST_SHARE = 0.03, 0.5
CLAIMS = {
    "regret": "chosen, slower than the best",
    "regret_by_halves": "the same by halves",
    "share": "measuring time of that of all",
}
HEADER = (
    *(
        "network",
        "clock",
        "seed",
        "chosen",
        "regret %",
        "by halves %",
        "answer's regret %",
        "gain",
        "true gain",
        "held",
    ),
    *("same batch", "halving s", "all s", "share", "of blocks", "build s", "spread %"),
)


def judged(found: dict[str, Any], clock: str) -> dict[str, Any]:
    """Return how good halving by one clock was, by the full measurement with the same clock.

    Its answer is the chosen setting where the gain is supported, else the first.
    """
    truth, halving = found["truth"][clock], found["halving"][clock]
    secs, gain = truth["epoch_secs"], halving["gain"]
    is_claimed = gain is not None and gain["low"] is not None and gain["low"] > 1 and gain["value"] >= 1 + WORTH
    answer = halving["chosen"] if is_claimed else 0
    true_gain = secs[0] / secs[halving["chosen"]]
    same_batch = [
        sec
        for sec, setting in zip(secs, found["settings"], strict=True)
        if setting["batch_size"] == found["settings"][0]["batch_size"]
    ]
    return {
        "chosen": change_text(*(Setting(**found["settings"][i]) for i in (0, halving["chosen"]))),
        "regret": secs[halving["chosen"]] / min(secs) - 1,
        "regret_by_halves": _regret_by_halves(truth["blocks"], halving["chosen"]),
        "answer_regret": secs[answer] / min(secs) - 1,
        "gain": gain,
        "true_gain": true_gain,
        "held": None if gain is None or gain["low"] is None else gain["low"] <= true_gain <= gain["high"],
        "same_batch_gain": secs[0] / min(same_batch),
        "halving_sec": halving["sec"][clock],
        "all_sec": truth["sec"],
        "share": halving["sec"][clock] / truth["sec"],
        "blocks_share": (sum(halving["n_blocks"]) + 2 * halving["n_pairs"]) / sum(map(len, truth["blocks"])),
        "prepared_sec": found["prepared_sec"][clock],
        "spread": statistics.median(truth["spreads"]),
    }


def _regret_by_halves(blocks: Sequence[Sequence[float]], chosen: int) -> float:
    """Return the chosen's slowness against the fastest by other rounds than those compared."""
    halves = [[statistics.median(own[start::2]) for own in blocks] for start in (0, 1)]
    regrets = []
    for named, compared in (halves, halves[::-1]):
        fastest = named.index(min(named))
        regrets.append(compared[chosen] / compared[fastest] - 1)
    return statistics.fmean(regrets)


def line(found: dict[str, Any], clock: str) -> list[Any]:
    """Return the row of a table."""
    of = judged(found, clock)
    gain = of["gain"]
    ends = "" if gain is None or gain["low"] is None else f" ({gain['low']:.2f} to {gain['high']:.2f})"
    return [
        found["network"],
        clock,
        str(found["seed"]),
        of["chosen"],
        100 * of["regret"],
        100 * of["regret_by_halves"],
        100 * of["answer_regret"],
        None if gain is None else f"{gain['value']:.2f}{ends}",
        of["true_gain"],
        {None: "-", True: "yes", False: "no"}[of["held"]],
        of["same_batch_gain"],
        of["halving_sec"],
        of["all_sec"],
        of["share"],
        of["blocks_share"],
        of["prepared_sec"],
        100 * of["spread"],
    ]


def reach(all_found: Sequence[dict[str, Any]]) -> list[Claim]:
    """Judge the targets, each by the worst of all runs."""
    claims = []
    for clock in CLOCKS:
        of = [judged(found, clock) for found in all_found]
        for name, what in CLAIMS.items():
            most = MOST_SHARE if name == "share" else MOST_REGRET
            values = [each[name] for each in of]
            text = f"{max(values):.1%} at most, {statistics.fmean(values):.1%} on average (n = {len(of)})"
            claims.append(Claim(f"{what}, {clock}", text, f"<= {most:.0%}", max(values) <= most))
    return claims


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "bench_tune.py",
        (__doc__ or "").partition("\n")[0],
        "python benchmarks/estimates/bench_tune.py --repeats 3",
    )
    parser.add_argument("--repeats", type=positive_int, default=1, help="times that each network is tried")
    parser.add_argument("--budget_sec", type=positive_float, default=60.0, metavar="SEC", help="of successive halving")
    parser.add_argument("--all_threads", action="store_true", help="as many as a framework starts, instead of one")
    parser.add_argument("--networks", nargs="+", choices=list(CASES), default=list(CASES), help="networks to try")
    add_json_flag(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        all_found, more = [], {} if arguments.all_threads else one_thread()
        path = home() / "results" / "benchmarks" / "tune.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        for seed in range(arguments.repeats):
            for network in arguments.networks:
                how = [network, arguments.budget_sec, seed]
                found = in_child("benchmarks.estimates.one_tuning", how, CASES[network], more)
                all_found.append({"network": network, "backend": CASES[network], "seed": seed, **found})
                write_json_atomically(
                    path, {"runs": all_found, "budget_sec": arguments.budget_sec, "environment": more}
                )
        if arguments.json:
            print(json.dumps(all_found))
            return 0
        print(table_text(HEADER, [line(found, clock) for clock in CLOCKS for found in all_found]))
        print(claims_text(reach(all_found)))
        return 0

    return run_command(work)
