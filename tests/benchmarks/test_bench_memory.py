"""The law and the closed form of the CNN's peak memory, next to each other for the reference configurations."""

from __future__ import annotations

import pytest

from benchmarks.estimates.bench_memory import beside_closed_form, reference_lines
from epochcast.workload.memory import FITS


def test_no_reference_configuration_is_refused_and_the_summary_is_the_published_one(reference_data):
    found = beside_closed_form()
    assert len(found) == 143
    assert {fit for f in found for fit in f["fits"].values()} == {FITS}  # on 40 and on 80 GB: all of them ran
    ratios = [f["ratio"] for f in found]
    assert (min(ratios), max(ratios)) == (pytest.approx(0.59, abs=0.005), pytest.approx(0.93, abs=0.005))
    assert all(f["law_low_bytes"] > f["least_bytes"] for f in found)  # what no step can do without
    lines = reference_lines(found)
    assert lines[2].startswith("143 configurations: law over closed form 0.59 to 0.93, median 0.65; ")
    assert lines[3:] == ["40 GB: fits: 143", "80 GB: fits: 143"]


def test_a_configuration_that_ran_and_would_be_refused_is_named(reference_data):
    found = beside_closed_form()
    found[0]["fits"]["40 GB"] = "will not fit"
    assert reference_lines(found)[-1] == f"WRONG, they ran: {found[0]['config']}"
