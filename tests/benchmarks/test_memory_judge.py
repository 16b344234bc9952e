"""The benchmark of peak memory: brackets and errors of accounts that are known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmarks.external.memory.forms import FORMS, OURS, Case
from benchmarks.external.memory.tables import ALLOCATOR, DRIVER, TRIED, Bracket, read_brackets, read_peaks
from benchmarks.external.memory_judge import bracket_counts, errors, held_share
from epochcast.roofline.network_memory import FLOAT32, MIB, count_memory
from epochcast.schema import RunConfig
from epochcast.workload.shape import layer_records


def case(depth, batch, whose=DRIVER, measured=0.0):
    layers = layer_records(RunConfig(depth, 32, batch))
    return Case(f"depth {depth}", layers, count_memory(layers, 0), FLOAT32, batch, whose, measured)


def test_a_form_is_found_again_from_peaks_that_follow_it():
    form, numbers = FORMS[OURS], (900.0, 1.2, 2.5)
    cases = [case(depth, batch) for depth in (2, 3, 4) for batch in (64, 512, 4096, 16384)]
    cases = [case(int(c.network[-1]), c.batch, c.whose, form.predict(c, numbers)) for c in cases]
    found = form.fitted(cases)
    assert found[0] == pytest.approx(numbers[0], rel=0.02)  # the search's own tolerance, here and below
    assert max(form.predict(each, found) / each.measured for each in cases) == pytest.approx(1, abs=0.05)


def test_the_fast_peak_is_the_library_s():
    own = case(3, 256)
    assert own.peak(1.1, 3.0) == pytest.approx(own.counted.peak(256, 1.1, 3.0))


def test_brackets_are_hit_missed_on_either_side_or_open():
    found = [(case(2, fits), Bracket("n", 32, fits, fails)) for fits, fails in ((64, 96), (128, 192), (32, 48))]
    found.append((case(2, 512), Bracket("n", 32, 512, None)))
    counts = bracket_counts(found, lambda each: float(each.batch), board_bytes=70)
    assert counts == {"hit": 1, "false fits": 1, "refused": 1, "open, refused": 1}


def test_a_range_is_as_wide_as_the_errors_of_other_networks():
    cases = [SimpleNamespace(network=name) for name in "aabb"]
    assert held_share(cases, [1.0, 1.1, 1.0, 2.0]) == 75.0
    assert errors([0.5, 1.0, 1.0])["worst"] == 2.0


def test_all_handed_over_peaks_and_brackets_are_read(reference_data):
    peaks = read_peaks(reference_data / "gpu_times")
    assert len(peaks) == 101
    assert {peak.whose for peak in peaks} == {DRIVER, ALLOCATOR}
    assert min(peak.bytes for peak in peaks) > 1000 * MIB
    brackets, unknown = read_brackets(reference_data / "gpu_times")
    assert (len(brackets), unknown) == (103, 731)
    assert all(
        bracket.fails is None or TRIED.index(bracket.fails) + 1 == TRIED.index(bracket.fits) for bracket in brackets
    )
