"""The check of a table: every planted fault is named at its line, and what is sound is left alone."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import statistics
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median, stdev

import pytest

from epochcast.aggregate.averages.averaging import aggregate, has_sound_energy
from epochcast.aggregate.averages.source import write_agg
from epochcast.aggregate.averages.steady_rows import SteadyRows
from epochcast.aggregate.check import main
from epochcast.aggregate.checks.lines import column_digits, half_unit, lines_read, read_row
from epochcast.aggregate.checks.report import check_file, check_lines, report_lines
from epochcast.aggregate.checks.rows import row_findings
from epochcast.aggregate.checks.rules import ERROR, RULES, WARNING
from epochcast.aggregate.checks.table import contradictions, tolerance_of
from epochcast.facts.assumptions import assumption
from epochcast.schema import PUBLISHED_RUN_COLUMNS, AggRow, Exclusion, RunConfig, RunRecord
from epochcast.stats import t_quantile
from epochcast.steady_time import steady_time, uncertainty
from epochcast.storage.cells import columns, format_rows, header_line
from epochcast.storage.table_appends import append_row
from epochcast.storage.tables import RunTable, read_runs, read_table, write_table
from tests.support.rows import BOX, agg_row, assert_one_clear_error, run_row


def rules_of(report):
    return Counter(finding.rule for finding in report.findings)


def named(report):
    """What is named where: the rules and lines of all findings."""
    return {(finding.rule, finding.line) for finding in report.findings}


def only(report, rule):
    """The one finding of a report, which is of this rule."""
    (finding,) = report.findings
    assert finding.rule == rule
    return finding


# --- the A100 reference ----------------------------------------------------------------------------------------------


@pytest.fixture
def a100(reference_data):
    return reference_data / "a100"


@pytest.fixture
def a100_lines(a100):
    return lines_read((a100 / "runs.csv").read_bytes())


def test_the_reference_table_has_two_stalls_nineteen_divergences_and_a_stale_aggregate(a100):
    report = check_file(a100 / "runs.csv")
    assert rules_of(report) == {"stall": 2, "diverged": 19, "aggregate": 3}
    stalls = [(f.line, f.config) for f in report.findings if f.rule == "stall"]
    assert stalls == [(12, "(3,16,512)"), (160, "(3,32,320)")]
    assert {f.severity for f in report.findings if f.rule in ("stall", "diverged")} == {WARNING}
    assert report.verdict == "3 errors, 21 warnings in 159 rows"


def test_the_reference_aggregate_is_told_to_be_the_plain_mean_of_the_first_158_rows(a100):
    whole, stalled, early = (f for f in check_file(a100 / "runs.csv").findings if f.rule == "aggregate")
    assert (whole.file, whole.line) == ("runs_agg.csv", None)
    assert "stale: 2 of 143 rows differ" in whole.found
    assert "plain mean, stalled epochs and all, of the first 158 of 159 rows" in whole.found
    assert "before line 160" in whole.found
    assert stalled.config == "(3,16,512)"
    assert "stalled epoch of line 12" in stalled.found
    assert stalled.expected == "n 1, 0.6522 s"
    assert early.config == "(3,32,320)"
    assert "without the run of line 160" in early.found
    assert early.expected.startswith("n 2, 1.02")
    text = (a100 / "runs_agg.csv").read_text().splitlines()
    for finding, start in ((stalled, "3,16,512,"), (early, "3,32,320,")):
        assert text[finding.line - 1].startswith(start)


def test_the_aggregate_made_of_all_rows_by_steady_times_is_accepted_with_and_without_its_source(a100, tmp_path):
    runs = tmp_path / "runs.csv"
    runs.write_bytes((a100 / "runs.csv").read_bytes())
    agg = tmp_path / "runs_agg.csv"
    write_agg(runs, agg)
    assert rules_of(check_file(runs)) == {"stall": 2, "diverged": 19}
    (tmp_path / "runs_agg.csv.source.json").unlink()
    assert rules_of(check_file(runs)) == {"stall": 2, "diverged": 19}
    table = read_table(agg, AggRow)
    write_table(agg, [replace(table[0], avg_time_mean=1.1 * table[0].avg_time_mean), *table[1:]], AggRow)
    found = [f for f in check_file(runs).findings if f.rule == "aggregate"]
    assert [f.line for f in found] == [None, 2]
    assert "no mean of these runs" in found[1].found


PERTURBED = ("depth", "base_filters", "params", "avg_time_sec", "images_per_sec", "epoch 2", "epoch 3")


def perturb(line, names, what, sign):
    """The line with one value 10 % off; depth by one, whole numbers by at least one."""
    (cells,) = csv.reader([line])
    name = "epoch_times_json" if what.startswith("epoch ") else what
    at = names.index(name)
    if name == "epoch_times_json":
        times = json.loads(cells[at])
        times[int(what.split()[1]) - 1] *= 1 + 0.1 * sign
        cells[at] = json.dumps(times)
    elif name == "depth":
        cells[at] = str(int(cells[at]) + sign)
    elif "." in cells[at]:
        cells[at] = repr(float(cells[at]) * (1 + 0.1 * sign))
    else:
        value = int(cells[at])
        changed = round(value * (1 + 0.1 * sign))
        cells[at] = str(changed if changed != value else value + sign)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def rules_of_line(line, number, names):
    row, findings = read_row(line, number, names, "runs.csv")
    return {f.rule for f in findings} | ({f.rule for f in row_findings(row)} if row else set())


def test_any_value_of_any_row_that_is_ten_percent_off_is_named_by_a_rule_that_the_row_obeyed(a100_lines):
    names = columns(RunRecord)[:PUBLISHED_RUN_COLUMNS]
    n = 0
    for number, line in enumerate(a100_lines[1:], start=2):
        before = rules_of_line(line, number, names)
        for what in PERTURBED:
            for sign in (1, -1):
                changed = perturb(line, names, what, sign)
                assert changed != line
                new = rules_of_line(changed, number, names) - before
                assert new & {"params", "avg_time", "images_per_sec"}, (number, what, sign)
                n += 1
    assert n == 159 * 7 * 2


def short_edits(line, names):
    """The line with one time or throughput replaced by a number of one to three digits about 10 % off."""
    (cells,) = csv.reader([line])
    times_at = names.index("epoch_times_json")
    times = json.loads(cells[times_at])
    values = {name: float(cells[names.index(name)]) for name in ("avg_time_sec", "images_per_sec")}
    values |= {f"epoch {i + 1}": sec for i, sec in enumerate(times) if i}
    for what, value in values.items():
        for digits in (1, 2, 3):
            texts = {
                f"{float(f'{factor * value:.{digits - 1}e}'):.15g}" for factor in (0.89, 0.9, 0.91, 1.09, 1.1, 1.11)
            }
            for text in sorted(texts):
                if not 0.088 <= abs(float(text) / value - 1) <= 0.112:
                    continue
                changed = list(cells)
                if what in names:
                    changed[names.index(what)] = text
                else:
                    i = int(what.split()[1]) - 1
                    changed[times_at] = json.dumps([*times[:i], json.loads(text), *times[i + 1 :]])
                line_text = io.StringIO()
                csv.writer(line_text, lineterminator="\n").writerow(changed)
                yield what, text, line_text.getvalue()


@pytest.mark.parametrize("step", [8, pytest.param(1, marks=pytest.mark.slow)])  # every eighth row edited, or each
def test_a_value_replaced_by_a_short_number_that_is_ten_percent_off_is_named(a100_lines, step):
    """The short number's own digits would allow for it; those of its column do not."""
    names = columns(RunRecord)[:PUBLISHED_RUN_COLUMNS]
    rows = [read_row(line, number, names, "runs.csv")[0] for number, line in enumerate(a100_lines[1:], start=2)]
    cells = [row.cells for row in rows]
    n = Counter()
    for i, (line, row) in list(enumerate(zip(a100_lines[1:], rows, strict=True)))[::step]:
        before = {f.rule for f in row_findings(row)}
        for what, text, changed in short_edits(line, names):
            edited, _ = read_row(changed, row.line, names, "runs.csv")
            digits = column_digits([*cells[:i], edited.cells, *cells[i + 1 :]], ("avg_time_sec", "images_per_sec"))
            new = {f.rule for f in row_findings(replace(edited, digits=digits))} - before
            assert new & {"avg_time", "images_per_sec"}, (row.line, what, text)
            n[what] += 1
    assert min(n.values()) > 300 // step


def test_in_the_whole_table_a_value_replaced_by_a_short_number_is_named(a100_lines):
    (at,) = (i for i, line in enumerate(a100_lines) if ",1.1084" in line)
    (cells,) = csv.reader([a100_lines[at]])
    before = named(check_lines(a100_lines))
    cells[columns(RunRecord).index("avg_time_sec")] = "1"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    changed = [*a100_lines[:at], text.getvalue(), *a100_lines[at + 1 :]]
    assert named(check_lines(changed)) - before == {("avg_time", at + 1), ("images_per_sec", at + 1)}


@pytest.mark.parametrize("form", [".2f", ".3f", ".6f", ".6g", ".9g"])
def test_a_rounded_table_whose_last_zeros_are_not_written_is_sound_also_joined_with_an_exact_one(a100_lines, form):
    names = columns(RunRecord)[:PUBLISHED_RUN_COLUMNS]
    avg, throughput, times = (names.index(n) for n in ("avg_time_sec", "images_per_sec", "epoch_times_json"))

    def rounded(value):
        return f"{float(f'{float(value):{form}}'):.15g}"

    lines = [a100_lines[0]]
    for line in a100_lines[1:]:
        (cells,) = csv.reader([line])
        cells[avg], cells[throughput] = rounded(cells[avg]), rounded(cells[throughput])
        cells[times] = "[" + ", ".join(map(rounded, json.loads(cells[times]))) + "]"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(cells)
        lines.append(text.getvalue())
    arithmetic = {"avg_time", "images_per_sec"}
    assert not arithmetic & set(rules_of(check_lines(lines)))
    joined = [lines[0], *(pair[i % 2] for i, pair in enumerate(zip(lines[1:], a100_lines[1:], strict=True)))]
    assert not arithmetic & set(rules_of(check_lines(joined)))


def test_one_cell_of_more_digits_does_not_make_a_rounded_table_exact():
    rows = [run_row((9.0, 2.0, round(2.01 + i / 100, 2)), config=(2, 16, 64 + i), run_id=str(i)) for i in range(40)]
    sound = [
        replace(r, avg_time_sec=round(r.avg_time_sec, 2), images_per_sec=round(5e4 / r.avg_time_sec)) for r in rows
    ]
    assert "avg_time" not in rules_of(check_rows(*sound))
    odd = replace(sound[7], avg_time_sec=2.0400001234)
    assert "avg_time" not in rules_of(check_rows(*sound[:7], odd, *sound[8:]))


def test_in_the_whole_table_a_changed_row_is_named_where_it_was_not(a100_lines):
    names = columns(RunRecord)[:PUBLISHED_RUN_COLUMNS]
    before = named(check_lines(a100_lines))
    draw = random.Random(5)
    for what in PERTURBED:
        for sign in (1, -1):
            number = draw.randrange(2, len(a100_lines) + 1)
            changed = list(a100_lines)
            changed[number - 1] = perturb(changed[number - 1], names, what, sign)
            new = named(check_lines(changed)) - before
            assert number in {line for _, line in new}, (number, what, sign)


def test_a_tenth_of_a_digit_more_than_the_digits_allow_is_too_much(a100_lines):
    """The published cells are exact: the last of 16 digits changed is an error."""
    names = columns(RunRecord)[:PUBLISHED_RUN_COLUMNS]
    (cells,) = csv.reader([a100_lines[1]])
    at = names.index("avg_time_sec")
    assert rules_of_line(a100_lines[1], 2, names) == set()
    cells[at] = f"{float(cells[at]) * (1 + 1e-10):.16f}"
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    assert rules_of_line(text.getvalue(), 2, names) == {"avg_time", "images_per_sec"}


# --- digits ----------------------------------------------------------------------------------------------------------


def test_half_a_unit_of_the_last_digit():
    assert half_unit("1.133") == pytest.approx(0.0005)
    assert half_unit("12") == 0.5
    assert half_unit("1e-05") == pytest.approx(0.5e-5)
    assert half_unit("") == half_unit("x") == half_unit("nan") == 0


def test_zeros_that_are_not_written_do_not_make_an_epoch_less_exact():
    row = full_row((9.0, 2.0, 2.0625))
    assert check_rows(row).findings == []
    assert only(check_rows(replace(row, avg_time_sec=2.0327, images_per_sec=50_000 / 2.0327)), "avg_time").line == 2
    lines = lines_with(row)
    lines[1] = lines[1].replace("2.0, 2.0625]", "9.99999, 10.0001]").replace(",2.03125,", ",10,")  # six figures each
    assert "avg_time" not in rules_of(check_lines(lines))


@pytest.mark.parametrize("digits", [2, 3, 6])
def test_a_rounded_table_obeys_its_digits_and_no_more(a100_lines, digits):
    names = columns(RunRecord)[:PUBLISHED_RUN_COLUMNS]
    avg, throughput, times = (names.index(n) for n in ("avg_time_sec", "images_per_sec", "epoch_times_json"))
    unit = 10.0**-digits
    for line in a100_lines[1:]:
        (cells,) = csv.reader([line])
        cells[avg], cells[throughput] = (f"{float(cells[at]):.{digits}f}" for at in (avg, throughput))
        cells[times] = "[" + ", ".join(f"{s:.{digits}f}" for s in json.loads(cells[times])) + "]"
        for steps, is_sound in ((0, True), (3, False), (-3, False)):
            changed = list(cells)
            changed[avg] = f"{float(cells[avg]) + steps * unit:.{digits}f}"
            text = io.StringIO()
            csv.writer(text).writerow(changed)
            rules = rules_of_line(text.getvalue(), 2, names)
            assert ("avg_time" not in rules) == is_sound, (line, steps)
            assert steps or "images_per_sec" not in rules


# --- times that contradict their neighbours ---------------------------------------------------------------------------


def means_by_config(rows, seconds):
    groups = defaultdict(list)
    for row in rows:
        groups[row.config].append(seconds(row))
    return {config: statistics.fmean(group) for config, group in groups.items()}, list(groups.values())


def test_the_published_means_contradict_their_neighbours_at_the_stalled_row_alone(a100):
    published = {row.config: row.avg_time_mean for row in read_table(a100 / "runs_agg.csv", AggRow)}
    (found,) = contradictions(published, tolerance_of([], "gpu"))
    assert found.config == RunConfig(3, 16, 512)
    assert found.is_too_slow
    assert RunConfig(3, 16, 384) in found.others


def test_plain_means_of_all_runs_contradict_at_both_stalled_rows_and_steady_ones_nowhere(a100):
    rows = read_runs(a100 / "runs.csv").rows
    plain, _ = means_by_config(rows, lambda row: row.avg_time_sec)
    assert {c.config for c in contradictions(plain, tolerance_of([], "gpu"))} == {
        RunConfig(3, 16, 512),
        RunConfig(3, 32, 320),
    }
    steady, repeats = means_by_config(rows, SteadyRows(rows).full_epoch_sec)
    assert contradictions(steady, tolerance_of(repeats, "gpu")) == []
    assert contradictions(steady, 0.0) == []  # not even by a hair


def test_the_spread_of_repeats_that_the_tolerance_is_made_of_is_that_of_the_reference(a100):
    rows = read_runs(a100 / "runs.csv").rows
    _, groups = means_by_config(rows, SteadyRows(rows).full_epoch_sec)
    logs = [[math.log(t) for t in group] for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in logs)
    sd = math.sqrt(sum(statistics.variance(group) * (len(group) - 1) for group in logs) / degrees)
    assert degrees == 16
    assert sd == pytest.approx(assumption("repeat_sd_steady", "gpu").value, rel=0.02)
    assert tolerance_of(groups, "gpu") == pytest.approx(3 * math.sqrt(2) * sd, rel=0.02)


def test_a_processor_without_repeats_is_given_the_room_that_is_assumed_of_one():
    for kind in ("gpu", "cpu"):
        sd = assumption("repeat_sd_steady", kind).value
        assert tolerance_of([], kind) == pytest.approx(1 - math.exp(-3 * math.sqrt(2) * sd))
    quiet = [[1.0, 1.001]] * 6  # known from its own repeats, at least as noisy as a GPU
    assert tolerance_of(quiet, "cpu") == tolerance_of([], "gpu")
    rows = [run_row((9.0, t, t), config=(d, 16, 64), run_id=str(d)) for t, d in ((1.0, 2), (0.9, 3))]
    assert rules_of(check_rows(*rows))["monotone"] == 1
    assert rules_of(check_rows(*(replace(row, device_name="AMD EPYC (2 cores)") for row in rows)))["monotone"] == 0


def test_a_table_with_noisier_repeats_is_given_more_room():
    groups = [[1.0, 1.1], [2.0, 2.2], [3.0, 3.3], [4.0, 4.4], [5.0, 5.5]]
    sd = math.log(1.1) / math.sqrt(2)
    assert tolerance_of(groups, "gpu") == pytest.approx(1 - math.exp(-3 * math.sqrt(2) * sd))
    assert tolerance_of(groups[:4], "gpu") == tolerance_of([], "gpu")  # too few repeats to know


GRID = {RunConfig(d, f, b): d * f * (1 + 64 / b) for d in (2, 3, 4) for f in (16, 32, 64) for b in (64, 128, 256, 512)}


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
@pytest.mark.parametrize("config", [RunConfig(3, 32, 128), RunConfig(2, 16, 512), RunConfig(4, 64, 64)])
def test_one_wrong_time_is_named_and_not_its_neighbours(config, factor):
    assert contradictions(GRID, 0.03) == []
    found = contradictions({**GRID, config: factor * GRID[config]}, 0.03)
    corner = (config == RunConfig(2, 16, 512) and factor < 1) or (config == RunConfig(4, 64, 64) and factor > 1)
    if corner:  # nothing must be faster (slower) than it: no neighbour to contradict
        assert found == []
    else:
        (only_one,) = found
        assert (only_one.config, only_one.is_too_slow) == (config, factor > 1)


def test_every_axis_is_looked_at_and_only_beyond_the_tolerance():
    base = RunConfig(3, 32, 128)
    for slower in (RunConfig(4, 32, 128), RunConfig(3, 64, 128), RunConfig(3, 32, 64)):
        assert contradictions({base: 1.0, slower: 0.98}, 0.03) == []
        (found,) = contradictions({base: 1.0, slower: 0.96}, 0.03)
        assert (found.config, found.others) == (base, [slower])
    assert contradictions({base: 1.0, RunConfig(4, 32, 256): 0.5}, 0.03) == []  # more work, fewer steps: no rule


def test_a_processor_is_not_asked_to_be_faster_with_larger_batches():
    rows = [run_row((9.0, t, t), config=(2, 16, b), run_id=str(b)) for t, b in ((1.0, 64), (2.0, 128))]
    on_cpu = [replace(row, device_name="AMD EPYC (2 cores)") for row in rows]
    assert rules_of(check_rows(*rows))["monotone"] == 1
    assert rules_of(check_rows(*on_cpu))["monotone"] == 0


def test_rows_of_other_conditions_are_no_neighbours():
    slow = full_row((9.0, 2.0, 2.0), config=(2, 16, 64))
    fast = full_row((9.0, 1.0, 1.0), config=(3, 16, 64))
    assert rules_of(check_rows(slow, fast)) == {"monotone": 1}
    assert rules_of(check_rows(slow, replace(fast, precision="mixed_bfloat16"))) == {"conditions": 2}


# --- our own columns --------------------------------------------------------------------------------------------------

SERIAL = iter(range(10**6))


def full_row(times=(9.0, 2.0, 2.5, 2.25, 2.125, 2.0625), watts=151.7, **more):
    """A row with every column that is checked, all of them sound; a run of its own, told by its first epoch."""
    serial = next(SERIAL)
    times = (times[0] + serial / 1024, *times[1:])
    row = run_row(times, run_id=f"run{serial}", **{"conditions": BOX, "config": (2, 16, 64), **more})
    steady, known = steady_time(times), uncertainty(times)
    n, timed_sec = steady.n_timed, sum(times[1:])
    joules = watts * timed_sec
    return replace(
        row,
        schema_version=2,
        images_per_sec=50_000 / row.avg_time_sec,
        steady_time_sec=steady.sec,
        n_timed=n,
        n_stalled=steady.n_stalled,
        flags=(("stalled",) if steady.n_stalled else ()) + (("unstable",) if steady.is_unstable else ()),
        rel_spread=known.rel_spread,
        rel_ci95=known.rel_ci95,
        idle_sec=5.0,
        wall_sec=sum(times) + 20.25,
        overhead_sec=15.25,
        peak_memory_bytes=10**9,
        device_memory_bytes=8 * 10**10,
        energy_source="nvml_counter",
        energy_estimated=0,
        energy_j_per_epoch=joules / n,
        energy_lo_j=0.9 * joules / n,
        energy_hi_j=1.1 * joules / n,
        energy_net_j_per_epoch=0.7 * joules / n,
        energy_j_window=joules,
        energy_window_sec=timed_sec,
        energy_n_epochs=n,
        mean_power_w=joules / timed_sec,
        max_power_w=max(180.3, watts),
        counter_poll_ratio=1.02,
    )


def lines_with(*rows):
    return (header_line(RunRecord) + format_rows(rows)).splitlines(keepends=True)


def check_rows(*rows):
    return check_lines(lines_with(*rows))


def test_a_sound_row_with_all_columns_has_no_finding():
    assert check_rows(full_row()).findings == []
    assert check_rows(full_row()).verdict == "no finding in 1 rows"


@pytest.mark.parametrize("watts", [18_749.0, 620.0, 0.01])  # of a board of 300 W by its data sheet
def test_a_power_that_the_board_can_not_draw_is_named_and_in_no_average(watts):
    impossible = full_row(watts=watts)
    (finding,) = check_rows(full_row(), impossible).findings
    assert (finding.rule, finding.severity) == ("impossible_power", "warning")
    assert f"mean_power_w {watts:.4g}" in finding.found
    assert not has_sound_energy(impossible)
    assert has_sound_energy(full_row())
    (row,) = aggregate(RunTable(Path("runs.csv"), [full_row(), impossible], [])).rows
    assert (row.n, row.n_energy) == (2, 1)
    assert row.mean_power_w_median == pytest.approx(151.7)


def test_a_peak_that_the_board_can_not_draw_spoils_the_energy_where_it_was_polled():
    by_counter, polled = (
        replace(full_row(), max_power_w=3.7e6, energy_source=source) for source in ("nvml_counter", "nvml_poll_instant")
    )
    assert has_sound_energy(by_counter) and not has_sound_energy(polled)
    assert check_rows(by_counter).findings == []
    (finding,) = check_rows(polled).findings
    assert finding.rule == "impossible_power"
    joules_of_processors = replace(full_row(), cpu_energy_j=257_000.0)
    assert [finding.rule for finding in check_rows(joules_of_processors).findings] == ["impossible_power"]


def test_a_mean_power_above_the_limit_in_force_is_named():
    row = replace(full_row(watts=300.0), power_limit_w=200.0)
    assert [finding.rule for finding in check_rows(row).findings] == ["power"]
    assert has_sound_energy(row)
    module = replace(row, energy_flags=("module_scope",))
    assert [finding.rule for finding in check_rows(module).findings] == ["flagged"]


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        ("steady_time", {"steady_time_sec": 2.4}),
        ("counts", {"n_timed": 4}),
        ("counts", {"flags": ("unstable",)}),
        ("spread", {"rel_spread": 0.11}),
        ("spread", {"rel_ci95": None}),
        ("overhead", {"overhead_sec": 16.775}),
        ("overhead", {"idle_sec": None}),
        ("overhead", {"wall_sec": 50.0}),
        ("memory", {"peak_memory_bytes": 9 * 10**10}),
        ("energy", {"energy_source": None}),
        ("energy", {"energy_source": "none"}),
        ("energy", {"energy_estimated": 1}),
        ("energy", {"energy_source": "board_power_model"}),
        ("energy", {"energy_lo_j": 400.0}),
        ("energy", {"energy_hi_j": 300.0}),
        ("energy", {"energy_net_j_per_epoch": 400.0}),
        ("energy", {"mean_power_w": 167.0}),
        ("power", {"max_power_w": 100.0}),
        ("power", {"counter_poll_ratio": 1.2}),
        ("flagged", {"flags": ("throttled",)}),
        ("flagged", {"energy_flags": ("gap",)}),
        ("diverged", {"flags": ("diverged",)}),
        ("diverged", {"test_acc": 0.1}),
        ("ranges", {"load_avg": 0.5}),  # made negative below
    ],
)
def test_a_planted_fault_is_named_by_its_rule_alone(rule, changed):
    row = full_row()
    lines = lines_with(full_row(), replace(row, **changed), full_row())
    if rule == "ranges":
        lines[2] = lines[2].replace(",0.5,", ",-0.5,")
    finding = only(check_lines(lines), rule)
    assert (finding.line, finding.run_id, finding.severity) == (3, row.run_id, RULES[rule].severity)
    assert finding.found
    assert finding.expected


def test_stalls_that_the_epochs_do_not_show_are_errors():
    claimed = check_rows(replace(full_row((9.0, 2.0, 2.1, 2.2, 2.1)), n_stalled=1, flags=("stalled",)))
    assert {"n_stalled 1", "with flag stalled"} <= {f.found for f in claimed.findings}
    assert rules_of(claimed)["counts"] == 2
    # with one stall less its steady time and spread are others
    uncounted = check_rows(replace(full_row((9.0, 2.0, 2.0, 2.0, 7.0)), n_stalled=0, flags=()))
    assert rules_of(uncounted) == {"steady_time": 1, "spread": 2, "stall": 1}


@pytest.mark.parametrize(
    ("times", "n_stalled", "flags"),
    [
        ((9.0, 2.0, 2.6, 2.0, 2.125), 1, ("stalled",)),  # by 1.25 x the fastest; its own noise hides it now
        ((9.0, 2.0, 2.0, 2.0, 7.0), 0, ()),  # written before there were rows to know the noise by, or a rule
        ((9.0, 2.0, 7.0), 1, ("stalled",)),  # of two timed epochs
        ((9.0, 2.0, 3.0, 2.0, 3.0), 0, ("unstable",)),
    ],
)
def test_a_row_that_counts_its_stalls_by_another_rule_is_not_wrong(times, n_stalled, flags):
    kept = sorted(times[1:])[: len(times) - 1 - n_stalled]
    for average in {fmean, median} if "unstable" in flags else {fmean}:
        sec = average(kept)
        spread = stdev(kept) / sec if len(kept) > 1 else None
        factor = math.sqrt(math.pi / 2) if average is median else 1.0  # the standard error of a median
        ci95 = None if spread is None else factor * t_quantile(0.975, len(kept) - 1) * spread / math.sqrt(len(kept))
        values = {"steady_time_sec": sec, "rel_spread": spread, "rel_ci95": ci95}
        row = replace(full_row(times), n_stalled=n_stalled, flags=flags, **values)
        assert not any(f.severity == ERROR for f in check_rows(row).findings)
        wrong = replace(row, steady_time_sec=1.1 * sec)
        assert "steady_time" in rules_of(check_rows(wrong))


def test_an_accuracy_on_synthetic_images_is_an_error():
    report = check_rows(replace(full_row(), dataset="synthetic", test_acc=0.5))
    assert "synthetic" in only(report, "accuracy").found


@pytest.mark.parametrize("name", ["energy_j_per_epoch", "energy_j_window", "energy_window_sec", "energy_n_epochs"])
def test_energies_that_do_not_follow_from_each_other_are_errors(name):
    row = full_row()
    changed = getattr(row, name) + 1 if name == "energy_n_epochs" else 1.05 * getattr(row, name)
    report = check_rows(replace(row, **{name: changed}))
    assert set(rules_of(report)) == {"energy"}


def test_an_energy_window_shorter_than_its_epochs_is_doubted():
    row = full_row()
    seconds = row.energy_window_sec / 2
    report = check_rows(
        replace(row, energy_window_sec=seconds, mean_power_w=row.energy_j_window / seconds, max_power_w=400.0)
    )
    assert "energy_window_sec" in only(report, "power").found


def test_a_short_window_does_not_make_a_counter_wrong():
    row = full_row((9.0, 1.0, 1.0))
    assert check_rows(replace(row, counter_poll_ratio=1.2)).findings == []


def test_windows_of_an_epoch_are_extrapolated_before_they_are_compared():
    row = full_row(conditions=replace(BOX, timing_mode="steps_extrapolated", window_steps=10))
    factor = row.window_factor
    assert factor > 70
    times = {name: factor * getattr(row, name) for name in ("avg_time_sec", "steady_time_sec")}
    per_epoch = ("energy_j_per_epoch", "energy_lo_j", "energy_hi_j", "energy_net_j_per_epoch")
    joules = {name: factor * getattr(row, name) for name in per_epoch}
    sound = replace(row, **times, **joules, images_per_sec=50_000 / times["avg_time_sec"])
    assert check_rows(sound).findings == []
    assert {"avg_time", "steady_time", "energy"} <= set(rules_of(check_rows(row)))
    only(check_rows(replace(sound, test_acc=0.5)), "accuracy")


def test_a_stall_and_an_unstable_run_are_warnings_that_name_the_epochs():
    stalled = only(check_rows(full_row((9.0, 2.0, 7.0, 2.0, 2.0))), "stall")
    assert stalled.found == "epoch 3 took 7.00 s"
    unstable = only(check_rows(full_row((9.0, 2.0, 7.0, 2.0, 7.0))), "unstable")
    assert "2.00 to 7.00 s" in unstable.found
    assert {stalled.severity, unstable.severity} == {WARNING}


# --- rows beside each other -------------------------------------------------------------------------------------------


def test_a_run_that_stands_twice_is_an_error_by_run_id_or_by_its_numbers():
    row, other = full_row(), full_row((9.0, 2.0, 2.0))
    assert only(check_rows(row, other, row), "duplicates").line == 4
    assert "line 2" in only(check_rows(row, replace(other, run_id=row.run_id)), "duplicates").found
    assert "line 2" in only(check_rows(row, replace(row, run_id="copied")), "duplicates").found
    assert check_rows(row, replace(row, run_id="again", timestamp_utc="2026-01-02T00:00:00+00:00")).findings == []


def test_identical_published_rows_are_duplicates(a100_lines):
    report = check_lines([*a100_lines[:5], a100_lines[2]])
    assert named(report) == {("duplicates", 6), ("timestamps", 6)}
    assert report.count(ERROR) == 1


def test_a_row_that_ended_before_the_one_above_is_a_warning():
    times = ["2026-01-01T12:00:00+00:00", "2026-01-01T13:30:00+02:00", "2026-01-01T12:00:00", "2026-01-01T13:00:00"]
    report = check_rows(*(replace(full_row(), timestamp_utc=text) for text in times))
    assert (only(report, "timestamps").line, report.count(ERROR)) == (3, 0)


def test_mixed_conditions_are_listed_and_no_error():
    rows = [full_row(), full_row(), replace(full_row(), precision="mixed_bfloat16"), replace(full_row(), tf32="on")]
    report = check_rows(*rows)
    assert rules_of(report) == {"conditions": 3}
    assert [f.line for f in report.findings] == [2, 4, 5]
    assert "2 rows" in report.findings[0].found
    assert "precision=mixed_bfloat16" in report.findings[1].found
    assert report.count(ERROR) == 0


# --- reading what is wrong --------------------------------------------------------------------------------------------


def test_one_bad_cell_hides_neither_other_rows_nor_other_cells():
    bad = replace(full_row(), load_avg=0.5, overhead_sec=99.0)
    lines = lines_with(full_row(), bad, replace(full_row(), params=7))
    lines[2] = lines[2].replace(",0.5,", ",half,")
    assert named(check_lines(lines)) == {("types", 3), ("overhead", 3), ("params", 4)}


def test_a_row_lost_to_several_cells_is_told_with_all_of_them(a100_lines):
    lines = list(a100_lines[:4])
    lines[1] = lines[1].replace(",2,16,128,3,", ",two,,128,3,").replace("0.6570000052452087", "nan")
    report = check_lines(lines)
    assert [(f.rule, f.line, f.found.split()[0]) for f in report.findings] == [
        ("types", 2, "depth"),
        ("types", 2, "base_filters"),
        ("types", 2, "test_acc"),
    ]
    assert (report.n_lines, len(report.rows)) == (3, 2)


@pytest.mark.parametrize(
    ("old", "new", "rule", "found"),
    [
        (",128,3,", ",-128,3,", "ranges", "batch_size -128"),
        (",128,3,", ",128,4,", "ranges", "epoch_times_json"),
        (",128,3,", ",128.5,3,", "types", "batch_size"),
        ("[11.", "[NaN, ", "types", "epoch_times_json"),
        (",1.1331", ",nan,1331", "lines", "12 cells"),
        (",1.1331833323929459,", ",inf,", "types", "avg_time_sec"),
        (",0.6570", ",1.6570", "ranges", "test_acc 1.657"),
        ("2025-12-18T07:44:40", "yesterday", "ranges", "timestamp_utc"),
        ('"[11', '""[11', "lines", "expected after"),
        ("2.20.0", "2.\udcff", "lines", "UTF-8"),
    ],
)
def test_a_bad_cell_is_named_with_what_stood_there(a100_lines, old, new, rule, found):
    raw = "".join([a100_lines[0], a100_lines[1].replace(old, new, 1), *a100_lines[2:4]])
    report = check_lines(lines_read(raw.encode(errors="surrogateescape")))
    (finding,) = (f for f in report.findings if f.rule == rule)
    assert finding.line == 2
    assert found in finding.found
    assert {f.line for f in report.findings if f.severity == ERROR} == {2}


def test_a_row_of_a_newer_version_is_told_as_such():
    lines = lines_with(full_row())
    lines[1] = lines[1].replace(",2,run", ",9,run")
    finding = only(check_lines(lines), "ranges")
    assert (finding.found, finding.line) == ("schema_version 9", 2)
    assert "newer" in finding.expected


def test_a_cell_that_reads_like_a_message_is_told_whole():
    lines = lines_with(replace(full_row(), jit_compile="off"))
    lines[1] = lines[1].replace(",off,", ',"off, got on.",', 1)
    finding = only(check_lines(lines), "ranges")
    assert finding.found == "jit_compile 'off, got on.'"
    assert finding.expected == "jit_compile on, off or empty"


def test_flags_and_counts_that_exclude_each_other_are_told_once():
    lines = lines_with(replace(full_row(), load_avg=0.5))
    lines[1] = lines[1].replace(",0.5,,", ",0.5,stalled,")
    report = check_lines(lines)
    assert {f.line for f in report.findings} == {2}
    assert len(report.rows) == 1
    assert rules_of(report)["ranges"] == 1


def test_a_row_of_one_epoch_has_nothing_timed():
    lines = lines_with(replace(full_row(), epochs=1, epoch_times_json=(9.0,)))
    assert "epochs 1" in only(check_lines(lines), "ranges").found


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_byte_order_mark_and_line_ends_of_windows_are_read_as_they_are(a100_lines, ending, mark):
    raw = (mark + "".join(a100_lines)).replace("\n", ending).encode()
    assert rules_of(check_lines(lines_read(raw))) == {"stall": 2, "diverged": 19}


def test_blank_lines_count_as_lines_and_not_as_rows():
    lines = lines_with(full_row(), replace(full_row(), params=7))
    report = check_lines([lines[0], lines[1], "\n", lines[2], "\n"])
    assert (only(report, "params").line, report.n_lines) == (4, 2)


def test_a_torn_last_line_is_a_warning_and_a_torn_line_within_an_error():
    lines = lines_with(full_row(), full_row())
    torn = lines[2][:80]
    report = check_lines([*lines[:2], torn])
    assert (only(report, "torn").line, report.count(ERROR), len(report.rows)) == (3, 0, 1)
    assert only(check_lines([lines[0], torn + "\n", lines[1]]), "lines").line == 2
    whole = check_lines([*lines[:2], lines[2].rstrip("\n")])  # perhaps not: it may lack the end of its last cell
    assert (only(whole, "torn").line, len(whole.rows)) == (3, 1)


@pytest.mark.parametrize("n", [PUBLISHED_RUN_COLUMNS, columns(RunRecord).index("flags") + 1])
def test_tables_of_older_schemas_are_checked_by_the_rules_that_they_have_columns_for(n):
    rows = [next(csv.reader([line]))[:n] for line in lines_with(full_row(), replace(full_row(), params=7))]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    report = check_lines(text.getvalue().splitlines(keepends=True))
    expected = {("params", 3)} if n == 11 else {("params", 3), ("overhead", 2), ("overhead", 3)}  # idle_sec is unknown
    assert named(report) == expected
    shown = {line.split()[2]: line.split()[0] for line in report_lines(report)[: len(RULES)]}
    assert (shown["params"], shown["energy"], shown["header"]) == ("1", "-", "0")
    assert shown["steady_time"] == ("-" if n == 11 else "0")


@pytest.mark.parametrize(
    ("change", "found", "is_read"),
    [
        (lambda names: [*names, "note"], "a newer schema: unknown column note", True),
        (lambda names: [names[1], names[0], *names[2:]], "another order", True),
        (lambda names: [*names[:11], *names[12:]], "missing column schema_version", True),
        (lambda names: ["when", *names[1:]], "missing column timestamp_utc", False),
        (lambda names: [names[1], *names[1:]], "column tf_version stands twice", False),
        (lambda names: ["a", "b"], "unknown column 'a'; unknown column 'b'; missing columns timestamp_utc", False),
    ],
)
def test_a_wrong_header_is_an_error_and_rows_are_read_where_its_names_allow(change, found, is_read):
    names = columns(RunRecord)
    wanted = change(names)
    cells = dict(zip(names, next(csv.reader([lines_with(replace(full_row(), params=7))[1]])), strict=True))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([wanted, [cells.get(name, "x") for name in wanted]])
    report = check_lines(text.getvalue().splitlines(keepends=True))
    header, *others = report.findings
    assert (header.rule, header.line) == ("header", 1)
    assert found in header.found
    assert [f.rule for f in others] == (["params"] if is_read else [])
    assert report.n_lines == 1


# --- files beside the table -------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path):
    path = tmp_path / "runs.csv"
    write_table(path, [full_row(), full_row((9.0, 3.0, 3.0), config=(3, 16, 64))], RunRecord)
    return path


def test_excluded_runs_are_not_judged_but_must_exist(runs):
    bad = replace(full_row(), params=7)
    append_row(runs, bad)
    assert named(check_file(runs)) == {("params", 4)}
    excluded = runs.with_name("excluded.csv")
    write_table(excluded, [Exclusion(bad.run_id, "wrong network", "2026-01-01")], Exclusion)
    report = check_file(runs)
    assert (report.findings, report.n_excluded) == ([], 1)
    assert report.verdict == "no finding in 3 rows (1 excluded)"
    append_row(excluded, Exclusion("ghost", "?", "2026-01-01"))
    finding = only(check_file(runs), "excluded")
    assert (finding.file, finding.line, finding.run_id) == ("excluded.csv", 3, "ghost")
    excluded.write_text("who,why\n")
    assert {f.rule for f in check_file(runs).findings} == {"excluded", "params"}


def test_a_cache_is_a_warning_when_it_is_older_than_its_runs(runs):
    agg = runs.with_name("runs_agg.csv")
    write_agg(runs, agg)
    assert check_file(runs).findings == []
    append_row(runs, full_row())
    finding = only(check_file(runs), "cache")
    assert (finding.file, finding.severity) == ("runs_agg.csv", WARNING)
    write_agg(runs, agg)
    assert check_file(runs).findings == []


def test_a_mean_replaced_by_a_short_number_is_an_error(a100, tmp_path):
    runs, agg = tmp_path / "runs.csv", tmp_path / "runs_agg.csv"
    runs.write_bytes((a100 / "runs.csv").read_bytes())
    write_agg(runs, agg)
    row = next(row for row in read_table(agg, AggRow) if 1.05 < row.avg_time_mean < 1.12)
    agg.write_text(agg.read_text().replace(repr(row.avg_time_mean), "1"))
    assert any(f.config == str(row.config) for f in check_file(runs).findings if f.rule == "aggregate")


def test_an_aggregate_that_lacks_a_configuration_or_has_one_too_many_is_an_error(runs):
    agg = runs.with_name("runs_agg.csv")
    write_agg(runs, agg)
    rows = read_table(agg, AggRow)
    write_table(agg, [rows[0], agg_row(5, 16, 64)], AggRow)  # edited: no longer what its source record says
    found = [(f.line, f.config, f.found) for f in check_file(runs).findings]
    assert [f.rule for f in check_file(runs).findings] == ["aggregate"] * 3
    assert (None, "(3,16,64)", "no row") in found
    assert (3, "(5,16,64)", "no such run") in found


def test_another_tables_aggregate_is_compared_only_when_it_is_named(runs, tmp_path):
    other = tmp_path / "other" / "runs.csv"
    write_table(other, [full_row(config=(4, 16, 64))], RunRecord)
    agg = runs.with_name("runs_agg.csv")
    write_agg(other, agg)
    assert check_file(runs).findings == []
    assert {f.rule for f in check_file(runs, agg).findings} == {"aggregate"}
    write_agg(runs, tmp_path / "elsewhere.csv")
    assert check_file(runs, tmp_path / "elsewhere.csv").findings == []


def test_an_unreadable_aggregate_is_told_and_the_runs_are_checked_all_the_same(runs):
    append_row(runs, replace(full_row(), params=7))
    runs.with_name("runs_agg.csv").write_text("a,b\n1,2\n")
    assert named(check_file(runs)) == {("params", 4), ("aggregate", None)}


def test_rows_with_wrong_parameters_do_not_stop_the_comparison(runs):
    agg = runs.with_name("runs_agg.csv")
    write_agg(runs, agg)
    runs.with_name("runs_agg.csv.source.json").unlink()
    append_row(runs, replace(full_row(), params=7))
    assert named(check_file(runs)) == {("params", 4)}


# --- command ----------------------------------------------------------------------------------------------------------


def test_exit_code_is_1_on_errors_and_0_on_warnings_alone(runs, capsys):
    assert main([str(runs)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "verdict: no finding in 2 rows"
    append_row(runs, full_row((9.0, 2.0, 9.0)))
    assert main(["--runs", str(runs)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "verdict: 0 errors, 1 warning in 3 rows"
    append_row(runs, replace(full_row(), params=7))
    assert main([str(runs)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "verdict: 1 error, 1 warning in 4 rows"


def test_the_screen_has_a_line_per_rule_and_the_first_findings_of_each(a100, capsys):
    assert main([str(a100 / "runs.csv")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[: len(RULES)]] == list(RULES)
    assert sum("test_acc 10.0 %" in line for line in lines) == 3
    assert "  and 16 more: --all" in lines
    assert len(lines) < 50
    assert any(line.startswith("  runs.csv:12 (3,16,512) 2025-12-18T07:49:41: epoch 3 took 1.26 s") for line in lines)
    assert main([str(a100 / "runs.csv"), "--all"]) == 1
    assert sum("test_acc 10.0 %" in line for line in capsys.readouterr().out.splitlines()) == 19


def test_json_has_every_finding_with_rule_place_and_remedy(a100, capsys):
    assert main([str(a100 / "runs.csv"), "--json", "--runs_agg", str(a100 / "runs_agg.csv")]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["rows"], answer["errors"], answer["warnings"]) == (159, 3, 21)
    assert answer["rules"]["diverged"] == 19
    assert set(answer["rules"]) == set(RULES)
    assert len(answer["findings"]) == 24
    assert answer["findings"][0] == {
        "rule": "stall",
        "severity": "warning",
        "file": "runs.csv",
        "line": 12,
        "config": "(3,16,512)",
        "run_id": "2025-12-18T07:49:41",
        "found": "epoch 3 took 1.26 s",
        "expected": "about 0.652 s, the steady time",
        "remedy": RULES["stall"].remedy,
    }


def test_the_rules_are_listed_with_severity_and_meaning(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(RULES)
    assert all(rule.what in line and rule.severity in line for line, rule in zip(lines, RULES.values(), strict=True))
    assert main(["--list", "--json"]) == 0
    assert [rule["rule"] for rule in json.loads(capsys.readouterr().out)["rules"]] == list(RULES)


def test_a_missing_table_is_one_clear_error_and_exit_code_2(tmp_path, runs, capsys):
    for arguments in ([str(tmp_path / "none.csv")], [str(runs), "--runs_agg", str(tmp_path / "none.csv")]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert f"error: {tmp_path / 'none.csv'}: no such table" in captured.err
    with pytest.raises(SystemExit) as end:
        main([str(runs), "--runs", str(runs)])
    assert end.value.code == 2


@pytest.mark.parametrize("text", ["", "\n", "\ufeff"])
def test_an_empty_file_is_one_error_of_its_header(tmp_path, capsys, text):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    assert main([str(path), "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["rule"], finding["found"]) == ("header", "the file is empty")


def test_a_table_with_a_header_alone_is_sound(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    write_table(path, [], RunRecord)
    assert main([str(path)]) == 0
    assert "verdict: no finding in 0 rows" in capsys.readouterr().out


def test_a_table_that_can_not_be_read_is_one_clear_error(runs, capsys, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("epochcast.aggregate.checks.report.table_bytes", refuse)
    assert main([str(runs)]) == 1
    assert_one_clear_error(capsys.readouterr(), f"{runs}: Permission denied")


def test_a_thousand_rows_take_less_than_two_seconds_of_processor_time():
    draw = random.Random(3)
    configs = [(d, f, b) for d in (2, 3, 4, 5) for f in (16, 32, 64, 128) for b in range(1, 64)]
    rows = [run_row((9.0, draw.uniform(1, 1.2), 1.0), config=c, run_id=str(i)) for i, c in enumerate(configs[:1000])]
    lines = lines_with(*rows)
    start = time.process_time()
    report = check_lines(lines)
    assert time.process_time() - start < 2.0
    assert report.n_lines == 1000
    assert rules_of(report)["monotone"] > 0
