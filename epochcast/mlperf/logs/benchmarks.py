"""One name for each benchmarked work: rounds renamed some, and reused names."""

from __future__ import annotations

from epochcast.mlperf.records import round_number

RENAMED = {"mask": "maskrcnn", "rgat": "gnn", "resnet50": "resnet", "ssd-retinanet": "retinanet"}
# name: the first round of another work under it, the name of the work before, the name from then on
REPLACED = {
    "ssd": ("2.0", "ssd300", "retinanet"),  # SSD-300 on COCO; then RetinaNet on OpenImages
    "minigo": ("0.7", "minigo9", "minigo"),  # a board of 9x9; then of 19x19
}


def benchmark_name(said: str, of_round: str) -> str:
    """Return the name of the work that a log of a round calls `said`."""
    name = said.strip().lower()
    name = RENAMED.get(name, name)
    if name not in REPLACED:
        return name
    first, before, since = REPLACED[name]
    return before if round_number(of_round) < round_number(first) else since
