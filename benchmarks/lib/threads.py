"""How many threads a framework computes in."""

from __future__ import annotations

import os


def one_thread() -> dict[str, str]:
    """Return variables with which TensorFlow and XLA compute in one thread.

    With two on two cores whole epochs of TensorFlow run on a single core for no reason that shows (the other is idle),
    and take twice the time of the epochs before and after them: what an estimator can do is lost in that.
    """
    single = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return {**single, "XLA_FLAGS": flags.strip()}
