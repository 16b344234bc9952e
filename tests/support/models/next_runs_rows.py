"""Rows and grids for tests of the next runs."""

from __future__ import annotations

import itertools

from epochcast.paths import pretrained_dir
from epochcast.schema import DEFAULT_GRID, Conditions, RunConfig
from epochcast.storage.cells import columns
from tests.support.rows import BOX, agg_row, plausible_sec

SMALL = ["--depth", "2:3", "--base_filters", "16,32", "--batch_size", "64:256:x2"]  # twelve configurations
SMALL_GRID = [RunConfig(*c) for c in itertools.product((2, 3), (16, 32), (64, 128, 256))]
GRID = [RunConfig(*c) for c in itertools.product(*DEFAULT_GRID.values())]
CPU = "AMD EPYC 9B14 (2 cores)"
MODEL = ["--model", str(pretrained_dir() / "a100.keras")]


def row_of(config, conditions=BOX, **more):
    """A measured row whose seconds follow a plain law."""
    seconds = plausible_sec(config)
    known = {"overhead_sec_mean": 6.0, "first_epoch_sec_mean": seconds + 4.0 + config.depth}
    known |= {name: getattr(conditions, name) for name in columns(Conditions)}
    return agg_row(config.depth, config.base_filters, config.batch_size, seconds, **{**known, **more})
