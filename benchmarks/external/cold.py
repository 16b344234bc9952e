"""The law on the reference A100 table, which nothing of it was fitted to."""

from __future__ import annotations

import numpy as np

from benchmarks.claim_parts.claim import Claim
from benchmarks.external.left_out import ErrorFactor
from benchmarks.lib.reference_table import steady_rows
from epochcast.gpus.lookup import find_gpu
from epochcast.gpus.rates import law_rates
from epochcast.roofline.network_law import LawNumbers, step_seconds, step_work
from epochcast.workload.shape import layer_records

REFERENCE_GPU = "NVIDIA A100 80GB PCIe"


def cold_errors(numbers: LawNumbers) -> list[Claim]:
    """Return the law's errors on our CNN's measured steps, which have input and host in them."""
    measured = steady_rows()
    rates = law_rates(find_gpu(REFERENCE_GPU), "tf32")
    assert rates is not None
    train_n = measured[0].conditions.train_n or 50_000
    logs = []
    for row in measured:
        seconds = step_seconds(step_work(layer_records(row.config), row.config.batch_size), rates, numbers)
        logs.append(np.log(seconds * row.config.steps_per_epoch(train_n) / row.avg_time_mean))
    found = np.array(logs)
    cold, factored = ErrorFactor.of(found), ErrorFactor.of(found - np.median(found))
    return [
        Claim("our CNN on the A100, cold", f"{cold}, n = {cold.n}, predicted over measured {cold.bias:.2f}"),
        Claim("  after one factor", str(factored)),
    ]
