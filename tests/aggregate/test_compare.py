"""Comparing two sides: planted truths are found, planted noise is not, and every row read is accounted for."""

from __future__ import annotations

import dataclasses
import math
import random
import shlex
import statistics
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image

from epochcast.aggregate.compare import main
from epochcast.aggregate.comparison.comparison import compare
from epochcast.aggregate.comparison.figure import comparison_figure
from epochcast.aggregate.comparison.sides import make_side
from epochcast.aggregate.comparison.spread import MeasuredRun, SideSpread
from epochcast.aggregate.comparison.stats import NOISE_FLOOR, holm, overall, time_differences
from epochcast.aggregate.comparison.text import comparison_lines
from epochcast.facts.assumptions import assumption
from epochcast.paths import CODE_ROOT
from epochcast.schema import RunConfig, RunRecord
from epochcast.storage.tables import RunTable, write_table
from tests.support.cli import run_cli
from tests.support.rows import BOX, assert_one_clear_error, run_row

QUIET = 0.0065  # relative standard deviation between runs of the reference collection
CPU_BOX = dataclasses.replace(BOX, device_name="AMD EPYC (2 cores)", jit_compile="off")
CONFIGS = [(depth, filters, batch) for depth in (2, 3) for filters in (16, 32) for batch in (64, 128, 256, 512, 1024)]


def sided(rng, n_configs, n_runs, sd, log_ratio=0.0):
    """Runs of a side by configuration: times that grow with the configuration, each run off by `sd`."""
    return {
        RunConfig(2, 16, 1 + i): [MeasuredRun(math.log(1 + i) + log_ratio + rng.gauss(0, sd)) for _ in range(n_runs)]
        for i in range(n_configs)
    }


def compared(a, b, kind="gpu", floor=NOISE_FLOOR):
    pairs = [(a[config], b[config]) for config in a]
    return time_differences(pairs, SideSpread(a, kind), SideSpread(b, kind), floor)


def is_beyond_1(difference):
    return abs(difference.log_ratio) > difference.half_width


def rows_of(rng, factor=1.0, n_runs=3, sd=QUIET, epoch_sd=0.0005, n_epochs=3, conditions=BOX, configs=CONFIGS):
    """Rows of a grid on one box, `factor` slower than plain; runs are off by `sd` and their epochs by `epoch_sd`."""
    rows = []
    for config in configs:
        depth, filters, batch = config
        plain = 0.5 + depth * filters * 10 / batch
        for i in range(n_runs):
            mean = factor * plain * math.exp(rng.gauss(0, sd))
            times = [10.0, *(mean * math.exp(rng.gauss(0, epoch_sd)) for _ in range(n_epochs))]
            run_id = f"{config}-{i}-{rng.random()}"
            rows.append(run_row(times, config=config, conditions=conditions, run_id=run_id))
    return rows


def in_turns(name, rows):
    """The rows as if side b had been measured in turns with the other."""
    start = datetime(2026, 1, 1, second=30 if name == "b" else 0, tzinfo=UTC)
    return [
        dataclasses.replace(r, timestamp_utc=(start + timedelta(minutes=i)).isoformat()) for i, r in enumerate(rows)
    ]


def later(rows, days=1):
    """The rows as another campaign would have measured them."""
    moved = [(row, datetime.fromisoformat(row.timestamp_utc) + timedelta(days=days)) for row in rows]
    return [dataclasses.replace(row, timestamp_utc=time.isoformat()) for row, time in moved]


def table(tmp_path, name, rows):
    path = tmp_path / name / "runs.csv"
    write_table(path, in_turns(name, rows), RunRecord)
    return path


def side(name, rows, *filters, excluded=(), days=0):
    rows = later(in_turns(name, rows), days)
    return make_side(name, RunTable(CODE_ROOT / f"{name}.csv", rows, list(excluded)), filters)


def verdicts(result):
    return {name: n for name, n in result.verdicts.items() if n}


def answer(*argv):
    return run_cli(main, *argv, "--json").json


# --- planted truths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_runs", [2, 3, 8])
def test_equal_machines_differ_no_more_often_than_the_level_promises(n_runs):
    rng = random.Random(1)
    n_tables, n_configs = 300, 8
    found = [
        compared(sided(rng, n_configs, n_runs, QUIET), sided(rng, n_configs, n_runs, QUIET), floor=0.0)
        for _ in range(n_tables)
    ]
    n_significant = sum(d.p < 0.05 for table in found for d in table)
    n = n_tables * n_configs
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / n)
    assert 0.01 < n_significant / n < limit  # a test that never speaks would be none
    any_significant = sum(any(d.p_holm < 0.05 for d in table) for table in found)
    assert any_significant / n_tables < 0.05 + 3 * math.sqrt(0.05 * 0.95 / n_tables)
    named = sum(any(d.verdict in ("slower", "faster") for d in table) for table in found)
    assert named == any_significant


@pytest.mark.parametrize("log_ratio", [math.log(1.0099), -math.log(1.0099)])
def test_differences_just_within_the_floor_are_rarely_named_in_a_table_of_many(log_ratio):
    rng = random.Random(20)
    n_tables, n_configs = 100, 96
    tables = [
        compared(sided(rng, n_configs, 3, QUIET), sided(rng, n_configs, 3, QUIET, log_ratio)) for _ in range(n_tables)
    ]
    n_wrong = sum(any(d.verdict in ("slower", "faster") for d in table) for table in tables)
    assert n_wrong / n_tables < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 200)  # 1 % is found: six standard errors below
    assert not any(d.verdict == "same" and abs(d.log_ratio) + d.half_width > math.log(1.01) for t in tables for d in t)


def test_five_percent_are_found_in_each_of_many_configurations():
    rng = random.Random(25)
    found = compared(sided(rng, 96, 3, QUIET), sided(rng, 96, 3, QUIET, math.log(1.05)))
    assert {d.verdict for d in found} == {"slower"}


def test_what_is_named_has_its_interval_beyond_the_floor_and_what_is_not_worth_it_within():
    rng = random.Random(21)
    found = []
    for log_ratio in (0.0, 0.005, 0.01, 0.02, 0.05, -0.03):
        for n_runs, sd in ((2, 0.002), (3, QUIET), (60, QUIET), (4, 0.05)):
            found += compared(sided(rng, 12, n_runs, sd), sided(rng, 12, n_runs, sd, log_ratio))
    limit = math.log1p(NOISE_FLOOR)
    for d in found:
        if d.verdict in ("slower", "faster"):
            assert abs(d.log_ratio) - d.half_width > limit
        assert (d.verdict == "same") == (abs(d.log_ratio) + d.half_width <= limit)
    assert {d.verdict for d in found} == {"slower", "faster", "same", "undecided"}


def test_a_small_difference_of_all_together_is_not_called_none_where_its_interval_passes_the_floor():
    ratios = [0.001, 0.001, 0.002, 0.003, 0.002, 0.001, 0.002, 0.05]  # significant, mean below 1 %
    found = overall(ratios)
    assert found.p < 0.05
    assert abs(found.log_ratio) < math.log1p(NOISE_FLOOR) < abs(found.log_ratio) + found.half_width
    assert found.verdict == "undecided"
    assert overall(ratios[:7]).verdict == "same"


@pytest.mark.parametrize(("epoch_sd", "n_epochs"), [(0.02, 4), (0.08, 8), (0.15, 8)])
def test_single_runs_of_equal_machines_with_restless_epochs_differ_no_more_often(epoch_sd, n_epochs):
    rng = random.Random(1)
    restless = {
        "n_runs": 1,
        "sd": 0.0,
        "epoch_sd": epoch_sd,
        "n_epochs": n_epochs,
    }  # stalled and unstable runs among them
    found = [
        row.difference
        for _ in range(15)
        for row in compare(side("a", rows_of(rng, **restless)), side("b", rows_of(rng, **restless))).rows
    ]
    share = sum(map(is_beyond_1, found)) / len(found)
    assert share < 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(found))
    assert sum(d.verdict in ("slower", "faster") for d in found) <= 2


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = random.Random(2)
    truth = math.log(1.05)
    found = [d for _ in range(200) for d in compared(sided(rng, 6, 3, 0.02), sided(rng, 6, 3, 0.02, truth))]
    covered = sum(abs(d.log_ratio - truth) <= d.half_width for d in found) / len(found)
    assert 0.95 - 3 * math.sqrt(0.05 * 0.95 / len(found)) < covered < 0.995


def test_the_overall_test_of_equal_machines_is_significant_no_more_often_than_promised():
    rng = random.Random(3)
    found = [overall([rng.gauss(0, 0.01) for _ in range(9)]) for _ in range(400)]
    share = sum(o.p is not None and o.p < 0.05 for o in found) / len(found)
    assert 0.01 < share < 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(found))


@pytest.mark.parametrize("seed", range(3))
def test_five_percent_are_found_in_every_configuration_where_runs_spread_by_less_than_one(seed):
    rng = random.Random(seed)
    result = compare(side("a", rows_of(rng)), side("b", rows_of(rng, factor=1.05)))
    assert verdicts(result) == {"slower": len(CONFIGS)}
    assert result.overall.verdict == "slower"
    assert result.overall.low < 1.05 < result.overall.high
    assert result.overall.ratio == pytest.approx(1.05, rel=0.005)
    back = compare(side("a", rows_of(rng, factor=1.05)), side("b", rows_of(rng)))
    assert verdicts(back) == {"faster": len(CONFIGS)}


@pytest.mark.parametrize("seed", range(3))
def test_half_a_percent_is_never_named_however_certain(seed):
    rng = random.Random(seed)
    few = compared(sided(rng, 20, 3, QUIET), sided(rng, 20, 3, QUIET, math.log(1.005)))
    assert not any(d.verdict in ("slower", "faster") for d in few)
    many = compared(sided(rng, 5, 100, QUIET), sided(rng, 5, 100, QUIET, math.log(1.005)))
    assert {d.verdict for d in many} == {"same"}
    assert sum(map(is_beyond_1, many)) >= 4  # significant, and yet below the floor
    assert not any(d.p < 0.05 for d in many)  # of more than the floor


def test_what_is_significant_but_may_be_less_than_the_floor_is_not_named():
    rng = random.Random(5)
    a, b = (sided(rng, 3, 40, QUIET, log_ratio) for log_ratio in (0.0, math.log(1.011)))
    found = compared(a, b)
    assert all(map(is_beyond_1, found))
    assert {d.verdict for d in found} == {"undecided"}
    assert all(d.why_undecided == "maybe less than the floor" for d in found)


def test_five_percent_can_not_be_told_from_single_runs_that_spread_by_ten():
    rng = random.Random(6)
    noisy = {"n_runs": 1, "sd": 0.10, "conditions": CPU_BOX}
    result = compare(side("a", rows_of(rng, **noisy)), side("b", rows_of(rng, factor=1.05, **noisy)))
    assert verdicts(result) == {"undecided": len(CONFIGS)}
    lines = comparison_lines(result, shows_all=True)
    assert any("19.0 % assumed for a cpu (no repeats)" in line for line in lines)
    told = [line for line in "\n".join(lines).splitlines() if "can't tell: " in line and "runs a side would" in line]
    assert len(told) == len(CONFIGS)


def test_a_single_run_is_known_no_better_than_its_own_epochs_leave_it():
    rng = random.Random(7)
    quiet = {"n_runs": 1, "n_epochs": 4}
    shaky = {**quiet, "sd": 0.0, "epoch_sd": 0.05}  # far more than a GPU's repeats are assumed to spread
    result = compare(side("a", rows_of(rng, **shaky)), side("b", rows_of(rng, **shaky)))
    assert verdicts(result) == {"undecided": len(CONFIGS)}
    by_epochs = 1.96 * 0.05 * math.sqrt(2 / 4)  # half-width of a difference between two means of four epochs
    assert statistics.median(row.difference.half_width for row in result.rows) == pytest.approx(by_epochs, rel=0.3)
    result = compare(side("a", rows_of(rng, **quiet)), side("b", rows_of(rng, factor=1.10, **quiet)))
    assert verdicts(result) == {"slower": len(CONFIGS)}


def test_one_shaky_run_among_quiet_ones_is_not_judged_by_theirs():
    rng = random.Random(8)
    quiet = {"n_runs": 1, "n_epochs": 4}
    rows_b = rows_of(rng, factor=1.06, **quiet)
    shaken = rows_b[0]
    times = (10.0, *(shaken.avg_time_sec * f for f in (0.9, 1.1, 0.92, 1.08)))
    rows_b[0] = run_row(times, config=CONFIGS[0], run_id="shaken")
    result = compare(side("a", rows_of(rng, **quiet)), side("b", rows_b))
    by_config = {row.config: row.difference for row in result.rows}
    assert by_config[shaken.config].verdict == "undecided"
    assert by_config[shaken.config].half_width > 3 * statistics.median(d.half_width for d in by_config.values())


def test_many_tight_epochs_of_one_run_are_one_run():
    rng = random.Random(9)
    tight = {"n_runs": 1, "sd": 0.0, "epoch_sd": 0.001, "n_epochs": 60, "conditions": CPU_BOX}
    few = CONFIGS[:3]
    result = compare(
        side("a", rows_of(rng, configs=few, **tight)), side("b", rows_of(rng, factor=1.08, configs=few, **tight))
    )
    assert verdicts(result) == {"undecided": 3}


def test_a_configuration_that_visibly_spreads_is_not_judged_by_the_quiet_ones():
    rng = random.Random(10)
    a, b = sided(rng, 12, 3, 0.003), sided(rng, 12, 3, 0.003)
    config = next(iter(a))
    a[config] = [MeasuredRun(0.0), MeasuredRun(0.3), MeasuredRun(-0.3)]
    b[config] = [MeasuredRun(0.1), MeasuredRun(0.4), MeasuredRun(-0.2)]
    assert compared(a, b)[0].p > 0.3
    assert compared(a, b)[0].half_width > 0.3


def test_few_repeats_count_beside_the_assumption_and_enough_replace_it():
    assumed = assumption("repeat_sd_steady", "gpu").value
    single = {RunConfig(2, 16, i): [MeasuredRun(0.0)] for i in range(1, 5)}
    assert SideSpread(single, "gpu").of([MeasuredRun(0.0)]).sd == pytest.approx(assumed)
    few = {**single, RunConfig(3, 16, 1): [MeasuredRun(0.0), MeasuredRun(0.1)]}
    spread = SideSpread(few, "gpu")
    assert spread.is_assumed
    assert assumed < spread.sd < 0.1 / math.sqrt(2)
    enough = {**single, RunConfig(3, 16, 1): [MeasuredRun(0.0), MeasuredRun(0.02), MeasuredRun(0.04)] * 2}
    spread = SideSpread(enough, "gpu")
    assert not spread.is_assumed
    assert spread.of([MeasuredRun(0.0)]).sd == pytest.approx(statistics.stdev([0.0, 0.02, 0.04] * 2))


@pytest.mark.parametrize(("log_ratio", "sd"), [(0.05, 0.05), (0.004, 0.02), (0.1, 0.1), (-0.06, 0.06)])
def test_as_many_runs_as_are_advised_decide_a_difference_that_stays(log_ratio, sd):
    def balanced(mean, n):  # n runs with exactly this mean and standard deviation
        draw = [math.cos(math.pi * i) if n % 2 == 0 or i else 0.0 for i in range(n)]
        draw = [x - statistics.fmean(draw) for x in draw]
        return [MeasuredRun(mean + sd * x / statistics.stdev(draw)) for x in draw]

    def one(n):
        a, b = {RunConfig(): balanced(0.0, n)}, {RunConfig(): balanced(log_ratio, n)}
        return compared(a, b)[0]

    few = one(6)
    assert few.verdict == "undecided"
    if few.needed_runs is None:
        assert one(30).verdict == "undecided"
    else:
        assert one(few.needed_runs + 2).verdict != "undecided"  # 2 more: by Student's t, not the normal distribution
        assert one(max(7, few.needed_runs - 3)).verdict == "undecided"


def test_p_values_are_corrected_by_holms_method():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_fewer_than_six_configurations_are_too_few_for_a_test_and_it_says_so():
    assert overall([0.3] * 4 + [0.4]).p is None
    assert overall([0.3] * 4 + [0.4]).verdict == "undecided"
    six = overall([0.3, 0.31, 0.32, 0.33, 0.34, 0.35])
    assert six.p == pytest.approx(2 / 2**6)
    assert six.verdict == "slower"
    assert overall([0.3]).low is None
    rng = random.Random(4)
    result = compare(side("a", rows_of(rng)[:9]), side("b", rows_of(rng, 1.5)[:9]))
    assert any("can't tell: measure at least 6" in line for line in comparison_lines(result))


def test_ratios_that_scatter_more_than_assumed_are_told():
    rng = random.Random(11)
    wild = {"n_runs": 1, "sd": 0.1, "n_epochs": 12}
    result = compare(side("a", rows_of(rng, **wild)), side("b", rows_of(rng, **wild)))
    assert any("scatter more than the assumed spread explains" in line for line in comparison_lines(result))
    calm = {"n_runs": 1, "sd": 0.005}
    result = compare(side("a", rows_of(rng, **calm)), side("b", rows_of(rng, **calm)))
    assert not any("scatter" in line for line in comparison_lines(result))


# --- campaigns -------------------------------------------------------------------------------------------------------

DRIFT = "can't tell: nothing recorded differs; measured at other times"


def test_what_drifts_between_two_campaigns_under_the_same_conditions_is_not_named():
    rng = random.Random(22)
    a, b = rows_of(rng), rows_of(rng, factor=1.2)
    result = compare(side("a", a), side("b", b, days=1))
    assert verdicts(result) == {"undecided": len(CONFIGS)}
    assert result.overall.verdict == "undecided"
    assert result.overall.ratio == pytest.approx(1.2, rel=0.01)  # shown all the same
    lines = "\n".join(comparison_lines(result, shows_all=True)).splitlines()
    assert sum(line.endswith(DRIFT) for line in lines) == len(CONFIGS) + 1  # and of all together
    assert any(line.startswith("note: no recorded condition differs") for line in lines)
    for told in ({"git_commit": "f00"}, {"gpu_uuid": "GPU-2"}):
        (name,) = told
        known = [dataclasses.replace(row, **{name: "other"}) for row in a]
        changed = [dataclasses.replace(row, **told) for row in b]
        assert verdicts(compare(side("a", known), side("b", changed, days=1))) == {"slower": len(CONFIGS)}
        # what one side did not record is no difference
        assert verdicts(compare(side("a", a), side("b", changed, days=1))) == {"undecided": len(CONFIGS)}


def test_sides_measured_in_turns_are_compared_though_nothing_recorded_differs():
    rng = random.Random(23)
    a, b = rows_of(rng), rows_of(rng, factor=1.2)
    assert verdicts(compare(side("a", a), side("b", b))) == {"slower": len(CONFIGS)}
    halves = [*in_turns("a", a[:30]), *later(in_turns("a", a[30:]), days=2)]
    around = make_side("a", RunTable(CODE_ROOT / "a.csv", halves, []), [])  # a b a: not in turns
    assert verdicts(compare(around, side("b", b, days=1))) == {"undecided": len(CONFIGS)}


def test_a_longer_table_of_the_same_campaign_is_compared_with_itself_where_it_is_the_same():
    rng = random.Random(24)
    rows = in_turns("a", rows_of(rng))
    more = later(in_turns("a", rows_of(rng, factor=1.5, configs=CONFIGS[:1])))
    both = [make_side(name, RunTable(CODE_ROOT / f"{name}.csv", r, []), []) for name, r in (("a", rows), ("b", rows))]
    assert verdicts(compare(*both)) == {"same": len(CONFIGS)}
    longer = make_side("b", RunTable(CODE_ROOT / "b.csv", [*rows, *more], []), [])
    assert verdicts(compare(both[0], longer)) == {"same": len(CONFIGS) - 1, "undecided": 1}


def test_two_published_campaigns_on_one_box_are_not_told_apart():
    tables = [CODE_ROOT / "results" / name / "runs.csv" for name in ("cpu/tensorflow", "cpu_repeats")]
    told = answer(*tables)
    assert told["differing"] == {}
    assert told["only_times_differ"] is True
    assert told["verdicts"] == {"slower": 0, "faster": 0, "same": 0, "undecided": 4}
    assert {row["says"] for row in told["configurations"]} == {DRIFT}
    assert all(row["ratio_low"] < row["ratio"] < row["ratio_high"] for row in told["configurations"])


# --- rows in, rows out -----------------------------------------------------------------------------------------------


def test_every_row_read_is_accounted_for(tmp_path):
    rng = random.Random(12)
    rows_a = rows_of(rng, n_runs=2)
    other = dataclasses.replace(BOX, pipeline="arrays")
    odd = [
        run_row((9.0, 7.0, 7.0), config=CONFIGS[0], run_id="busy", flags=("busy_host",)),
        run_row((9.0, 7.0, 7.0, 9.9, 10.1, 7.1), config=CONFIGS[0], run_id="unstable"),  # not flagged, but it is
        run_row((9.0, 2.0, 2.0), config=(4, 16, 64), run_id="one-sided"),
        run_row((9.0, 2.0, 2.0), config=CONFIGS[1], run_id="wrong"),
        run_row((9.0, 2.0, 2.0), config=CONFIGS[1], run_id="other", conditions=other),
    ]
    rows_b = [
        dataclasses.replace(row, run_id=f"b{i}", flags=("shared_gpu",) if row.config == RunConfig(*CONFIGS[2]) else ())
        for i, row in enumerate(rows_of(rng, n_runs=2))
    ]
    a, b = table(tmp_path, "a", [*rows_a, *odd]), table(tmp_path, "b", rows_b)
    a.with_name("excluded.csv").write_text("run_id,reason,date\nwrong,a slip,2026-01-01\n")
    told = answer(a, b, "--a", "pipeline=")
    counts = told["sides"]["a"]
    assert counts["rows_read"] == len(rows_a) + 5
    assert counts["rows_compared"] == len(rows_a)
    assert counts["rows_of_one_sided_configurations"] == counts["one_sided_configurations"] == 1
    assert (counts["rows_left_out"], counts["rows_of_other_conditions"], counts["rows_excluded"]) == (2, 1, 1)
    assert told["sides"]["b"]["rows_compared"] == len(rows_b)  # flagged, but there is nothing better
    assert any("flagged runs only" in note and str(RunConfig(*CONFIGS[2])) in note for note in told["notes"])
    assert len(told["configurations"]) == len(CONFIGS)


def test_stalled_epochs_do_not_count(tmp_path):
    rng = random.Random(13)
    rows = rows_of(rng, configs=CONFIGS[:2])
    # every run of the table is stalled, so each must show by its own epochs what is undisturbed
    stalled = [
        run_row(
            (*row.epoch_times_json, *row.epoch_times_json[1:], 9 * row.avg_time_sec),
            config=dataclasses.astuple(row.config),
            run_id=row.run_id,
        )
        for row in rows
    ]
    told = answer(table(tmp_path, "a", rows), table(tmp_path, "b", stalled))
    for row in told["configurations"]:
        assert row["ratio"] == pytest.approx(1, rel=1e-9)


def test_windows_are_compared_as_full_epochs():
    windowed = dataclasses.replace(BOX, timing_mode="steps_extrapolated", window_steps=100)
    configs = [(2, 16, 64)]
    n_steps = RunConfig(*configs[0]).steps_per_epoch()
    full = [run_row((9.0, 4.0, 4.0), config=configs[0])]
    windows = [run_row((9.0, 4.0 * 100 / n_steps, 4.0 * 100 / n_steps), config=configs[0], conditions=windowed)]
    (row,) = compare(side("a", full), side("b", windows)).rows
    assert row.difference.ratio == pytest.approx(1)


def test_a_side_of_several_conditions_stops_and_the_flags_it_lists_work(tmp_path, capsys):
    rng = random.Random(14)
    arrays, device = (dataclasses.replace(BOX, pipeline=name, backend_version="2.21") for name in ("arrays", "device"))
    jax = dataclasses.replace(arrays, backend="jax", backend_version="0.10")
    rows = [row for conditions in (arrays, device, jax) for row in rows_of(rng, conditions=conditions)]
    rows = [dataclasses.replace(row, backend_version=f"{row.backend_version}.7") for row in rows]  # as rows have it
    mixed, plain = table(tmp_path, "mixed", rows), table(tmp_path, "plain", rows_of(rng))
    assert main([str(mixed), str(plain)]) == 1
    captured = capsys.readouterr()
    assert_one_clear_error(captured, "3 sets of conditions, and a side is one")
    listed = [line for line in captured.err.splitlines() if line.startswith("  --a ")]
    assert len(listed) == 3
    seen = set()
    for line in listed:
        flags = shlex.split(line.partition("   (")[0])
        told = answer(mixed, plain, *flags)
        assert told["sides"]["a"]["rows_of_other_conditions"] == 2 * 3 * len(CONFIGS)
        seen.add((told["sides"]["a"]["conditions"]["backend"], told["sides"]["a"]["conditions"]["pipeline"]))
    assert seen == {("tensorflow", "arrays"), ("tensorflow", "device"), ("jax", "arrays")}


def test_the_listed_flags_take_the_place_of_a_side_s_own_that_let_several_sets_through(tmp_path, capsys):
    rng = random.Random(15)
    half = dataclasses.replace(BOX, precision="mixed_float16")
    small = [dataclasses.replace(conditions, train_n=2_000) for conditions in (BOX, half)]
    rows = [row for conditions in (BOX, half, *small) for row in rows_of(rng, conditions=conditions)]
    mixed = table(tmp_path, "mixed", [dataclasses.replace(row, grid_id=f"grid-{row.depth}") for row in rows])
    asked = ("--runs", str(mixed), "--b", "precision=mixed_float16,train_n=2000", "--a")
    assert main([*asked, f"precision=float32,grid_id=grid-{CONFIGS[0][0]}"]) == 1
    listed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  --a ")]
    assert len(listed) == 2
    (flags,) = [shlex.split(line.partition("   (")[0]) for line in listed if "train_n=2000" in line]
    told = answer(*asked[:-1], *flags)
    assert told["sides"]["a"]["conditions"]["precision"] == "float32"
    assert {row["depth"] for row in told["configurations"]} == {CONFIGS[0][0]}


def test_one_table_under_two_conditions(tmp_path):
    rng = random.Random(15)
    arrays, device = (dataclasses.replace(BOX, pipeline=name) for name in ("arrays", "device"))
    rows = [*rows_of(rng, conditions=arrays), *rows_of(rng, factor=0.5, conditions=device)]
    path = table(tmp_path, "one", rows)
    told = answer("--runs", path, "--a", "pipeline=arrays", "--b", "pipeline=device")
    assert told["differing"] == {"pipeline": {"a": "arrays", "b": "device"}}
    assert told["verdicts"]["faster"] == len(CONFIGS)
    assert told["overall"]["ratio"] == pytest.approx(0.5, rel=0.01)
    for name in ("a", "b"):
        assert told["sides"][name]["rows_read"] == len(rows)
        assert told["sides"][name]["rows_compared"] + told["sides"][name]["rows_of_other_conditions"] == len(rows)
    told = answer("--runs", path, "--a", "pipeline=arrays", "--b", "pipeline=device", "--conditions", "depth=2")
    assert len(told["configurations"]) == len(CONFIGS) / 2


def test_two_grids_of_one_table_and_what_changed_between_them(tmp_path):
    rng = random.Random(16)
    old, new = rows_of(rng), rows_of(rng)
    rows = [dataclasses.replace(row, grid_id="old", driver_version="570.1") for row in old]
    rows += [dataclasses.replace(row, grid_id="new", driver_version="580.2", keras_version="3.15.1") for row in new]
    path = table(tmp_path, "one", rows)
    told = answer("--runs", path, "--a", "grid_id=old", "--b", "grid_id=new")
    assert told["differing"] == {
        "driver_version": {"a": "570.1", "b": "580.2"},
        "keras_version": {"a": "unknown", "b": "3.15.1"},
    }


def test_epochs_of_different_length_are_not_compared():
    few_images = dataclasses.replace(BOX, train_n=2048)
    with pytest.raises(ValueError, match=r"50,000 images on side a and 2,048 on side b.*--train_n"):
        compare(side("a", [run_row()]), side("b", [run_row(conditions=few_images)]))


def test_tables_without_a_common_configuration_and_wrong_networks_are_refused():
    with pytest.raises(ValueError, match="no configuration was measured on both sides: 1 on side a"):
        compare(side("a", [run_row()]), side("b", [run_row(config=(3, 16, 64))]))
    with pytest.raises(ValueError, match=r"\(2,16,64\) has 280218 parameters, run odd says 7"):
        side("a", [run_row(run_id="odd", params=7)])
    with pytest.raises(ValueError, match="holds no finished run"):
        side("a", [])
    with pytest.raises(ValueError, match="none of 1 runs is as asked"):
        side("a", [run_row()], [{"backend": "jax"}])
    with pytest.raises(ValueError, match="no column 'bakend' to filter by"):
        side("a", [run_row()], [{"bakend": "jax"}])


def test_energy_is_compared_where_both_sides_measured_it():
    def with_energy(rows, joules, **more):
        return [
            dataclasses.replace(
                row,
                energy_j_per_epoch=joules * row.avg_time_sec,
                energy_source="nvml_counter",
                energy_estimated=0,
                **more,
            )
            for row in rows
        ]

    rng = random.Random(17)
    a, b = rows_of(rng), rows_of(rng, factor=0.5)
    result = compare(side("a", with_energy(a, 250.0)), side("b", with_energy(b, 300.0)))
    assert result.energy is not None
    assert result.energy.ratio == pytest.approx(0.6, rel=0.01)
    assert any(
        "x the board energy per epoch of a" in line and "b takes less" in line for line in comparison_lines(result)
    )
    estimated = [dataclasses.replace(row, energy_estimated=1) for row in with_energy(b, 300.0)]
    assert compare(side("a", with_energy(a, 250.0)), side("b", estimated)).energy is None
    assert compare(side("a", with_energy(a, 250.0)), side("b", b)).energy is None


# --- real tables -----------------------------------------------------------------------------------------------------


def test_the_reference_table_against_itself_has_the_ratio_one(reference_data):
    path = reference_data / "a100" / "runs.csv"
    told = answer(path, path)
    assert told["overall"]["ratio"] == 1
    assert {row["ratio"] for row in told["configurations"]} == {1.0}
    assert told["verdicts"] == {"slower": 0, "faster": 0, "same": 143, "undecided": 0}
    assert told["sides"]["a"]["rows_compared"] == told["runs_on_both_sides"] == 159
    assert told["spread"]["a"]["sd"] == pytest.approx(0.0064, rel=0.02)  # as assumptions.csv has it from this table
    assert told["spread"]["a"]["degrees_of_freedom"] == 16
    assert told["differing"] == {}


def test_two_published_stacks_on_one_screen(capsys, tmp_path):
    tables = [CODE_ROOT / "results" / "cpu" / name / "runs.csv" for name in ("tensorflow", "jax")]
    told = answer(*tables)
    assert told["differing"] == {
        "backend": {"a": "tensorflow", "b": "jax"},
        "backend_version": {"a": "2.21", "b": "0.10"},
        "pipeline": {"a": "tfdata", "b": "arrays"},
        "jit_compile": {"a": "off", "b": "on"},
    }
    assert sum(told["verdicts"].values()) == 45
    assert told["overall"]["verdict"] == "slower"
    assert told["spread"]["a"]["is_assumed"]
    assert main([*map(str, tables), "--plot", str(tmp_path / "ratios.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 30
    assert any(line.startswith("... ") and line.endswith(" more: --all") for line in lines)
    assert lines[-1] == f"figure: {tmp_path / 'ratios.png'}"
    with Image.open(tmp_path / "ratios.png") as image:
        image.load()
        assert min(image.size) > 400
    assert main([*map(str, tables), "--all"]) == 0
    printed = capsys.readouterr().out
    for table_row in told["configurations"]:
        config = RunConfig(table_row["depth"], table_row["base_filters"], table_row["batch_size"])
        assert f"\n{config} " in printed


# --- figure and command ----------------------------------------------------------------------------------------------


def test_the_figure_shows_every_ratio_with_its_interval_and_the_floor():
    rng = random.Random(18)
    result = compare(side("a", rows_of(rng)), side("b", rows_of(rng, factor=1.2)))
    (axes,) = comparison_figure(result).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [str(row.config) for row in result.rows]
    assert axes.get_xscale() == "log"
    points = [line for line in axes.lines if line.get_marker() == "^"]
    assert [line.get_xdata()[0] for line in points] == pytest.approx([row.difference.ratio for row in result.rows])
    low, high = axes.get_xlim()
    assert low < 1 / (1 + NOISE_FLOOR)
    assert high > max(row.difference.high for row in result.rows)
    (band,) = axes.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((1 / 1.01, 1.01))
    ticks = axes.get_xticks()
    assert 1 in ticks
    assert 3 <= len([tick for tick in ticks if low <= tick <= high]) <= 9


@pytest.mark.parametrize("n", [1, 41, 170])
def test_many_configurations_stand_in_several_panels(n):
    rng = random.Random(19)
    configs = [(2, 16, 32 + i) for i in range(n)]
    once = {"n_runs": 1, "configs": configs}
    result = compare(side("a", rows_of(rng, **once)), side("b", rows_of(rng, factor=3.0, **once)))
    panels = comparison_figure(result).axes
    labels = [label.get_text() for axes in panels for label in axes.get_yticklabels()]
    assert len(labels) == min(n, 160)
    assert len(panels) == {1: 1, 41: 2, 170: 4}[n]
    assert labels == [str(config) for config in sorted(RunConfig(*c) for c in configs) if str(config) in labels]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "which two?"),
        (["--a", "pipeline=arrays"], "which two?"),
        (["one.csv"], "expected two tables"),
        (["a.csv", "b.csv", "--runs", "c.csv"], "expected two tables"),
        (["a.csv", "b.csv", "--plot", "ratios.jpg"], "must end in .png or .svg"),
        (["a.csv", "b.csv", "--a", "pipeline"], "expected NAME=VALUE"),
    ],
)
def test_a_wrong_command_is_refused(argv, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_table_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path / "none.csv"), str(tmp_path / "none.csv")]) == 1
    assert_one_clear_error(capsys.readouterr(), f"{tmp_path / 'none.csv'}: no such table")
