"""Rules that one row obeys by itself: arithmetic between its cells, and what it says about its own run.

How far two cells may differ is read from their digits: half a unit of the last one that the column is written to,
carried through the formula, and what sums of floats in another order give.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterator
from dataclasses import replace

from epochcast.aggregate.averages.averaging import REPORTED_FLAGS, is_diverged
from epochcast.aggregate.checks.lines import CheckedRow
from epochcast.aggregate.checks.rules import Finding
from epochcast.energy.reading import MISMATCH, SHORT_WINDOW_SEC, impossible_power
from epochcast.machine.gpu.sensor_bounds import MOST_PACKAGE_W, MOST_PACKAGES
from epochcast.output.text import percent, significant
from epochcast.schema import FLAGS, NETWORK_AXES, TRAIN_N, WARMUP_EPOCHS, RunRecord
from epochcast.steady_time import STALL_RATIO, SteadyTime, Uncertainty, uncertainty_of
from epochcast.workload.shape import count_params

RELATIVE_TOLERANCE = 1e-12  # double precision sums of a thousand terms in another order differ by less
MEDIAN_SE_RATIO = math.sqrt(math.pi / 2)  # standard error of the median over that of the mean, normal errors
SPREAD_ARITHMETIC = 1e-9  # absolute; of shares of the steady time, which are differences of near numbers

_count_params = functools.cache(count_params)


def has_own_params(record: RunRecord) -> bool:
    """Whether a row's `params` is the closed form of its network."""
    return record.params == _count_params(record.config)


def row_findings(row: CheckedRow) -> Iterator[Finding]:
    """What is wrong with, or odd about, one row."""
    yield from _params(row)
    yield from _times(row)
    yield from _counts(row)
    yield from _spread(row)
    yield from _overhead(row)
    yield from _results(row)
    yield from _energy(row)
    yield from _power(row)
    yield from _impossible_power(row)
    yield from _doubts(row)


def _differs(found: float, expected: float, rounding: float) -> bool:
    return abs(found - expected) > rounding + RELATIVE_TOLERANCE * abs(expected)


def _number(value: float) -> str:
    return f"{value:.9g}"


def _params(row: CheckedRow) -> Iterator[Finding]:
    record = row.record
    if not has_own_params(record):
        expected = _count_params(record.config)
        of = " and ".join(f"{axis.name} {axis.of(record)}" for axis in NETWORK_AXES)
        yield row.finding("params", f"params {record.params}", f"{expected} for {of}")


def _times(row: CheckedRow) -> Iterator[Finding]:
    record, factor = row.record, row.record.window_factor
    epoch_rounding = factor * row.epoch_rounding
    mean = factor * statistics.fmean(record.epoch_times_json[WARMUP_EPOCHS:])
    if _differs(record.avg_time_sec, mean, row.rounding("avg_time_sec") + epoch_rounding):
        found = f"avg_time_sec {_number(record.avg_time_sec)}"
        yield row.finding("avg_time", found, f"{_number(mean)}, the mean of {len(record.epoch_times_json) - 1} timed")
    train_n = record.train_n or TRAIN_N
    throughput = train_n / record.avg_time_sec
    carried = throughput * row.rounding("avg_time_sec") / record.avg_time_sec
    if _differs(record.images_per_sec, throughput, row.rounding("images_per_sec") + carried):
        found = f"images_per_sec {_number(record.images_per_sec)}"
        yield row.finding("images_per_sec", found, f"{_number(throughput)} = {train_n} / avg_time_sec")
    stated, possible = record.steady_time_sec, [factor * steady.sec for steady in _as_written(row)]
    rounding = row.rounding("steady_time_sec") + epoch_rounding
    if stated is not None and all(_differs(stated, steady_sec, rounding) for steady_sec in possible):
        found, of = f"steady_time_sec {_number(stated)}", f"{_number(possible[0])} from the epochs"
        yield row.finding("steady_time", found, f"{of} without the {record.n_stalled or 0} slowest")


def _as_written(row: CheckedRow) -> list[SteadyTime]:
    """The steady times that a row may state, given how many stalls it counts.

    Whether an epoch is a stall depended on the rule and on the other rows of that day. That the slowest are excluded
    did not; and an unstable run was once averaged by its median.
    """
    record, times = row.record, row.record.epoch_times_json
    order = sorted(range(WARMUP_EPOCHS, len(times)), key=times.__getitem__)
    n_stalled = min(row.steady.n_stalled if record.n_stalled is None else record.n_stalled, len(order) - 1)
    rest = [times[i] for i in order[: len(order) - n_stalled]]
    stalled = tuple(sorted(order[len(rest) :]))
    steady = SteadyTime(statistics.fmean(rest), len(order), stalled, False)
    if "unstable" not in record.flags:
        return [steady]
    return [replace(steady, is_unstable=True), replace(steady, sec=statistics.median(rest), is_unstable=True)]


def _counts(row: CheckedRow) -> Iterator[Finding]:
    record, steady = row.record, row.steady
    if record.n_timed is not None and record.n_timed != steady.n_timed:
        yield row.finding("counts", f"n_timed {record.n_timed}", f"{steady.n_timed} from the epochs")
    # by no rule was an epoch a stall, or a run unstable, within STALL_RATIO of the fastest
    timed = sorted(record.epoch_times_json[WARMUP_EPOCHS:])
    n_slow = sum(seconds > STALL_RATIO * timed[0] for seconds in timed)
    of = f"{n_slow} of {len(timed)} timed epochs are slower than {STALL_RATIO} x the fastest"
    if record.n_stalled is not None and record.n_stalled > n_slow:
        yield row.finding("counts", f"n_stalled {record.n_stalled}", f"at most {n_slow}: {of}")
        if "stalled" in record.flags and not n_slow:
            yield row.finding("counts", "with flag stalled", f"without it: {of}")
    if "unstable" in record.flags and not n_slow:
        yield row.finding("counts", "with flag unstable", f"without it: {of}")
    elif "unstable" in record.flags and record.n_stalled:
        yield row.finding(
            "counts", f"with flag unstable and n_stalled {record.n_stalled}", "nothing excluded, or stable"
        )


def _spread(row: CheckedRow) -> Iterator[Finding]:
    record = row.record
    stated = {name: getattr(record, name) for name in ("rel_spread", "rel_ci95")}
    if all(value is None for value in stated.values()):
        return
    possible = _spreads_as_written(row)
    for name, value in stated.items():
        expected = getattr(possible[0], name)
        if value is None or expected is None:
            if value is not expected:
                yield row.finding("spread", f"{name} {value}", f"{expected} from the epochs")
        elif all(_spread_differs(row, name, value, known) for known in possible):
            yield row.finding("spread", f"{name} {_number(value)}", f"{_number(expected)} from the epochs")


def _spreads_as_written(row: CheckedRow) -> list[Uncertainty]:
    """What a row may state of its spread and interval, as `_as_written` of its steady time."""
    possible = [uncertainty_of(row.record.epoch_times_json, steady) for steady in _as_written(row)]
    if len(possible) > 1 and possible[1].rel_ci95 is not None:  # the median's, with its standard error
        possible[1] = replace(possible[1], rel_ci95=MEDIAN_SE_RATIO * possible[1].rel_ci95)
    return possible


def _spread_differs(row: CheckedRow, name: str, value: float, known: Uncertainty) -> bool:
    expected = getattr(known, name)
    # what rounding moves an epoch by, moves a spread by twice that at most, and its interval alike
    carried = 2 * row.epoch_rounding / row.steady.sec * (expected / known.rel_spread if known.rel_spread else 1)
    return _differs(value, expected, row.rounding(name) + carried + SPREAD_ARITHMETIC)


def _overhead(row: CheckedRow) -> Iterator[Finding]:
    record = row.record
    if record.overhead_sec is None or record.wall_sec is None:
        return
    expected = record.wall_sec - sum(record.epoch_times_json) - (record.idle_sec or 0.0)
    rounding = sum(map(row.rounding, ("overhead_sec", "wall_sec", "idle_sec"))) + record.epochs * row.epoch_rounding
    if _differs(record.overhead_sec, expected, rounding + RELATIVE_TOLERANCE * record.wall_sec):
        of = "wall_sec - epochs" + ("" if record.idle_sec is None else " - idle_sec")
        yield row.finding("overhead", f"overhead_sec {_number(record.overhead_sec)}", f"{_number(expected)} = {of}")


def _results(row: CheckedRow) -> Iterator[Finding]:
    record = row.record
    if record.test_acc is not None and (record.dataset == "synthetic" or record.window_steps is not None):
        why = "synthetic images" if record.dataset == "synthetic" else "windows of an epoch"
        yield row.finding("accuracy", f"test_acc {record.test_acc:.4g} of {why}", "an empty cell")
    peak, whole = record.peak_memory_bytes, record.device_memory_bytes
    if peak is not None and whole is not None and peak > whole:
        yield row.finding("memory", f"peak_memory_bytes {peak}", f"at most device_memory_bytes {whole}")


def _energy(row: CheckedRow) -> Iterator[Finding]:
    """Joules of the whole block of timed epochs, per epoch, and per second, as `energy.reading` relates them."""
    record = row.record
    value, window = record.energy_j_per_epoch, record.energy_j_window
    n, window_sec = record.energy_n_epochs, record.energy_window_sec
    is_known = value is not None or window is not None
    if is_known and record.energy_source in (None, "none"):
        yield row.finding("energy", f"joules of energy_source {record.energy_source}", "a source, or empty cells")
    is_model = record.energy_source == "board_power_model"
    if is_known and record.energy_estimated is not None and record.energy_estimated != is_model:
        found = f"energy_estimated {record.energy_estimated} of source {record.energy_source}"
        yield row.finding("energy", found, str(int(is_model)))
    if n is not None and n > row.steady.n_timed:
        yield row.finding("energy", f"energy_n_epochs {n}", f"at most the {row.steady.n_timed} timed")
    if value is not None and window is not None and n:
        share = record.window_factor / n
        yield from _energy_cell(row, "energy_j_per_epoch", share * window, share * row.rounding("energy_j_window"))
    if window is not None and window_sec is not None:
        mean_w = window / window_sec
        carried = (row.rounding("energy_j_window") + mean_w * row.rounding("energy_window_sec")) / window_sec
        yield from _energy_cell(row, "mean_power_w", mean_w, carried)
    lo, hi = record.energy_lo_j, record.energy_hi_j
    if value is not None and not (lo or value) <= value <= (hi or value):
        found = f"energy_j_per_epoch {_number(value)} in a band from {lo} to {hi}"
        yield row.finding("energy", found, "energy_lo_j <= energy_j_per_epoch <= energy_hi_j")
    net = record.energy_net_j_per_epoch
    if value is not None and net is not None and net > value:
        found = f"energy_net_j_per_epoch {_number(net)}"
        yield row.finding("energy", found, f"at most energy_j_per_epoch {_number(value)}")


def _energy_cell(row: CheckedRow, name: str, expected: float, carried: float) -> Iterator[Finding]:
    stated = getattr(row.record, name)
    if stated is not None and _differs(stated, expected, row.rounding(name) + carried):
        yield row.finding("energy", f"{name} {_number(stated)}", f"{_number(expected)} from energy_j_window")


def _power(row: CheckedRow) -> Iterator[Finding]:
    record = row.record
    window_sec, mean_w, ratio = record.energy_window_sec, record.mean_power_w, record.counter_poll_ratio
    if window_sec is not None and record.energy_n_epochs == row.steady.n_timed:
        timed_sec = sum(record.epoch_times_json[WARMUP_EPOCHS:])
        if window_sec < (1 - MISMATCH) * timed_sec:
            found = f"energy_window_sec {significant(window_sec)}"
            yield row.finding("power", found, f"at least the {significant(timed_sec)} s of the timed epochs")
    limit_w = record.power_limit_w
    is_long = window_sec is None or window_sec >= SHORT_WINDOW_SEC
    is_boards = "module_scope" not in record.energy_flags and impossible_power(record) is None
    if is_boards and is_long and mean_w is not None and limit_w is not None and mean_w > (1 + MISMATCH) * limit_w:
        found = f"mean_power_w {significant(mean_w)}"
        yield row.finding("power", found, f"at most power_limit_w {significant(limit_w)}")
    if mean_w is not None and record.max_power_w is not None and mean_w > (1 + MISMATCH) * record.max_power_w:
        found = f"mean_power_w {significant(mean_w)}"
        yield row.finding("power", found, f"at most max_power_w {significant(record.max_power_w)}")
    if ratio is not None and abs(ratio - 1) > MISMATCH and is_long:
        expected = f"{1 - MISMATCH:.1f} to {1 + MISMATCH:.1f} over {SHORT_WINDOW_SEC:.0f} s or more"
        yield row.finding("power", f"counter_poll_ratio {significant(ratio)}", expected)


def _impossible_power(row: CheckedRow) -> Iterator[Finding]:
    record = row.record
    if why := impossible_power(record):
        yield row.finding("impossible_power", why, "a power that the board can draw; no average uses the energy")
    seconds = record.energy_window_sec or sum(record.epoch_times_json[WARMUP_EPOCHS:])
    if record.cpu_energy_j is not None and record.cpu_energy_j > MOST_PACKAGES * MOST_PACKAGE_W * seconds:
        found = f"cpu_energy_j {significant(record.cpu_energy_j)} in {significant(seconds)} s"
        yield row.finding("impossible_power", found, f"at most {MOST_PACKAGES} processors of {MOST_PACKAGE_W:g} W")


def _doubts(row: CheckedRow) -> Iterator[Finding]:
    record, steady = row.record, row.steady
    times = record.epoch_times_json
    what = "epoch" if record.window_steps is None else "window"
    if steady.n_stalled:
        slow = ", ".join(f"{what} {i + 1} took {significant(times[i])} s" for i in steady.stalled_epochs[:5])
        more = f" and {steady.n_stalled - 5} more" if steady.n_stalled > 5 else ""
        yield row.finding("stall", slow + more, f"about {significant(steady.sec)} s, the steady time")
    if steady.is_unstable:
        timed = times[WARMUP_EPOCHS:]
        found = f"timed {what}s from {significant(min(timed))} to {significant(max(timed))} s"
        yield row.finding(
            "unstable", found, f"none that may be a stall or noise; their mean is {significant(steady.sec)} s"
        )
    if told := [f"{name} ({FLAGS[name]})" for name in record.flags if name in REPORTED_FLAGS]:
        yield row.finding("flagged", "; ".join(told), "no flag")
    if record.energy_flags:
        yield row.finding("flagged", f"energy: {', '.join(record.energy_flags)}", "no energy flag")
    if is_diverged(record):
        acc = "NaN loss" if record.test_acc is None else f"test_acc {percent(record.test_acc)}"
        yield row.finding("diverged", acc, "above 10 %, that of guessing")
