import csv
import json
import logging
import math
import threading
import time
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epochcast.energy.meter import PowerMeter
from epochcast.energy.reading import ENERGY_FLAGS, EnergyReading
from epochcast.gpus.board_power import board_power
from epochcast.schema import ENERGY_SOURCES, RunRecord, to_json_dict
from tests.support.rows import run_row

OURS = 100
IDLE_W = 60.0


def constant(t):
    return 250.0 * t


def ramp(t):
    return 100.0 * t + 10.0 * t * t  # 100 W, 20 W more every second


def square(t, low=80.0, high=320.0, period=3.3):
    whole, rest = divmod(t, period)
    return low * t + (high - low) * (whole * period / 2 + min(rest, period / 2))


NONSENSE = [3.7e6, 4294967.295, -5.0, -1, math.nan, math.inf, -math.inf, 1e308, 10**400, 0, True, "200", b"\xff", (1,)]


class ScriptedGpu:
    """A GPU whose clock stands still between readings; `energy` is the true energy in joules since time zero."""

    library, uuid, name = "nvml", "GPU-scripted", "NVIDIA Scripted"

    def __init__(self, energy=constant, *, has_counter=True, has_instant=True, counter_sec=0.0, **more):
        self.now = 0.0
        self.energy = energy
        self.has_counter, self.has_instant, self.counter_sec = has_counter, has_instant, counter_sec
        self.is_mig = self.power_is_module = False
        self.fails = lambda t: ()  # the readings that fail at a time: of `counter`, `power`
        self.counter_scale, self.reset_at, self.limit_w, self.has_average = 1.0, math.inf, 700.0, True
        self.clock_mhz = lambda t: 1980.0
        self.reasons = lambda t: ()
        self.pids = lambda t: {OURS} if t > 1 else set()
        self.raises_at = math.nan
        self.reads = 0
        for name, value in more.items():
            setattr(self, name, value)

    def power_limit_w(self):
        return self.limit_w

    def energy_j(self):
        self.reads += 1
        if abs(self.now - self.raises_at) < 0.15:
            raise RuntimeError("the bus is gone")
        if not self.has_counter or "counter" in self.fails(self.now):
            return None
        t = math.floor(self.now / self.counter_sec) * self.counter_sec if self.counter_sec else self.now
        base = -self.energy(self.reset_at) if t >= self.reset_at else 5e6
        return base + self.counter_scale * self.energy(t)

    def power_instant_w(self):
        if not self.has_instant or "power" in self.fails(self.now):
            return None
        return (self.energy(self.now + 1e-6) - self.energy(self.now - 1e-6)) / 2e-6

    def power_average_w(self):
        if not self.has_average or "power" in self.fails(self.now):
            return None
        return self.energy(self.now) - self.energy(self.now - 1.0)

    def temperature_c(self):
        return 50.0 + self.now

    def sm_clock_mhz(self):
        return self.clock_mhz(self.now)

    def throttle_reasons(self):
        return self.reasons(self.now)

    def compute_processes(self):
        return [(pid, None) for pid in self.pids(self.now)]

    processes = compute_processes

    def raises(self=None):
        raise SystemError("whatever a binding does")


def meter_of(gpu, seconds=20.0, dt=0.1, offset=0.0, skips=lambda t: False, **options):
    """A meter that has read `gpu` every `dt` seconds from time zero on."""
    meter = PowerMeter(gpu, clock=lambda: gpu.now, **options)
    gpu.now = offset
    meter.start(polls=False)
    for i in range(1, round(seconds / dt)):
        gpu.now = offset + i * dt
        if not skips(gpu.now):
            meter.sample()
    return meter


def read(gpu, start=3.0, end=15.0, n=4, idle=None, **options):
    return meter_of(gpu, **options).reading(start, end, n, idle, {OURS})


@pytest.mark.parametrize("energy", [constant, ramp])
@pytest.mark.parametrize("has_counter", [True, False])
@pytest.mark.parametrize(("start", "end"), [(3.0, 15.0), (3.04, 15.07), (3.05, 3.061)])
def test_energy_of_steady_and_of_rising_power_is_exact_also_between_readings(energy, has_counter, start, end):
    reading = read(ScriptedGpu(energy, has_counter=has_counter), start, end)
    true_j = energy(end) - energy(start)
    assert reading.energy_source == ("nvml_counter" if has_counter else "nvml_poll_instant")
    # between two readings the counter of a rising power bends: by 20 W/s x (0.05 s)^2 / 2 at most at each edge
    assert reading.energy_j_window == pytest.approx(true_j, abs=0.06 if energy is ramp else 1e-5)
    assert reading.energy_j_per_epoch == pytest.approx(reading.energy_j_window / 4)
    assert reading.mean_power_w == pytest.approx(reading.energy_j_window / (end - start))
    assert (reading.energy_estimated, reading.energy_n_epochs) == (0, 4)


@pytest.mark.parametrize("offset", [0.0, 0.013, 0.037, 0.05, 0.081])
def test_counter_that_moves_every_100_ms_is_right_to_two_percent_over_ten_seconds(offset):
    reading = read(ScriptedGpu(square, counter_sec=0.1), 4.021, 14.021, offset=offset)
    assert reading.energy_source == "nvml_counter"
    assert reading.energy_j_window == pytest.approx(square(14.021) - square(4.021), rel=0.02)
    assert reading.energy_flags == ()
    assert reading.counter_poll_ratio == pytest.approx(1.0, abs=0.04)


def test_polled_power_is_right_to_a_few_percent_and_says_that_it_is_polled():
    reading = read(ScriptedGpu(square, has_counter=False), 3.0, 15.0)
    assert reading.energy_source == "nvml_poll_instant"
    assert reading.energy_j_window == pytest.approx(square(15.0) - square(3.0), rel=0.03)
    assert (reading.counter_poll_ratio, reading.max_power_w) == (None, pytest.approx(320.0))
    averaged = read(ScriptedGpu(square, has_counter=False, has_instant=False), 3.0, 15.0)
    assert averaged.energy_source == "nvml_poll_avg1s"
    assert averaged.energy_j_window == pytest.approx(square(15.0) - square(3.0), rel=0.05)


def test_columns_of_the_readings_themselves():
    reading = read(ScriptedGpu(ramp))
    assert reading.power_samples == 121
    assert reading.power_dt_sec == pytest.approx(0.1)
    assert reading.max_gap_sec == pytest.approx(0.1)
    assert reading.max_power_w == pytest.approx(400.0)
    assert (reading.gpu_uuid, reading.power_limit_w) == ("GPU-scripted", 700.0)
    assert reading.sm_clock_mhz == pytest.approx(1980.0)
    assert reading.temp_start_c == pytest.approx(53.0, abs=1.1)  # asked once a second
    assert reading.temp_end_c == pytest.approx(65.0, abs=1.1)
    assert reading.throttle_reasons == "none"
    assert reading.row_flags == ()


def test_net_energy_is_above_the_median_idle_power():
    def energy(t):
        busy = IDLE_W * t if t < 6 else IDLE_W * 6 + 250.0 * (t - 6)
        return busy + 900.0 * max(0.0, min(t, 2.2) - 2.1)  # a spike of a tenth of a second while it idles

    reading = read(ScriptedGpu(energy), 6.5, 18.5, n=3, idle=(1.0, 5.5))
    assert reading.idle_power_w == pytest.approx(IDLE_W, rel=1e-4)
    assert reading.energy_j_per_epoch == pytest.approx(1000.0)
    assert reading.energy_net_j_per_epoch == pytest.approx((250.0 - IDLE_W) * 12 / 3, rel=1e-4)
    assert read(ScriptedGpu(energy), 6.5, 18.5).idle_power_w is None
    by_counter = read(ScriptedGpu(constant, has_instant=False, has_average=False), 6.5, 18.5, idle=(1.0, 5.5))
    assert by_counter.idle_power_w == pytest.approx(250.0)
    assert by_counter.max_power_w is None


def test_counter_that_disagrees_with_the_power_is_flagged_where_the_window_is_long_enough():
    reading = read(ScriptedGpu(constant, counter_scale=0.57))
    assert reading.energy_flags == ("counter_poll_mismatch",)
    assert reading.counter_poll_ratio == pytest.approx(0.57)
    assert read(ScriptedGpu(constant, counter_scale=0.92)).energy_flags == ()
    short = read(ScriptedGpu(constant, counter_scale=0.57), 3.0, 12.0)
    assert short.energy_flags == ("short_window",)
    assert short.counter_poll_ratio == pytest.approx(0.57)


def test_counter_that_resets_is_replaced_by_polled_power_and_named():
    reading = read(ScriptedGpu(constant, reset_at=9.0))
    assert (reading.energy_source, reading.energy_flags) == ("nvml_poll_instant", ("counter_reset",))
    assert reading.energy_j_window == pytest.approx(3000.0)
    alone = read(ScriptedGpu(constant, reset_at=9.0, has_instant=False, has_average=False))
    assert (alone.energy_source, alone.energy_flags) == ("none", ("counter_reset",))
    assert alone.energy_j_window is alone.energy_j_per_epoch is None
    assert read(ScriptedGpu(constant, reset_at=2.0)).energy_flags == ()  # before the timed epochs


@pytest.mark.parametrize("lost", [["counter"], ["counter", "power"]])
def test_source_that_fails_for_good_gives_no_number(lost):
    reading = read(ScriptedGpu(constant, fails=lambda t: lost if t > 9 else ()))
    assert reading.energy_flags == ("energy_partial",)
    if "power" in lost:
        assert reading.energy_source == "none"
        assert reading.energy_j_window is reading.energy_j_per_epoch is reading.mean_power_w is None
    else:
        assert reading.energy_source == "nvml_poll_instant"
        assert reading.energy_j_window == pytest.approx(3000.0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from([constant, ramp]),
    st.booleans(),
    st.dictionaries(st.integers(0, 199), st.sampled_from(NONSENSE), max_size=40),
    st.dictionaries(st.integers(0, 199), st.sampled_from(NONSENSE), max_size=40),
)
def test_nonsense_among_the_readings_moves_no_energy(energy, has_counter, of_power, of_counter):
    gpu = ScriptedGpu(energy, has_counter=has_counter)
    for name, nonsense in (("power_instant_w", of_power), ("energy_j", of_counter)):
        sound = getattr(gpu, name)

        def answer(sound=sound, nonsense=nonsense):
            true = sound()
            return nonsense.get(round(gpu.now / 0.1), true) if true is not None else None

        setattr(gpu, name, answer)
    reading = read(gpu)
    assert_it_is_a_row(reading)
    if reading.energy_j_window is None:
        assert reading.energy_flags
    else:
        assert reading.energy_j_window == pytest.approx(energy(15.0) - energy(3.0), rel=0.05)
        assert reading.max_power_w is None or reading.max_power_w <= 1400.0
    seen = {30 <= i <= 150 for i, power in of_power.items() if power != 0}
    if reading.energy_source == "nvml_poll_instant":
        assert ("impossible_power" in reading.energy_flags) == (True in seen)


def assert_it_is_a_row(reading):
    columns = asdict(reading)
    row_flags = columns.pop("row_flags")
    assert json.dumps(to_json_dict(replace(run_row(), **columns, flags=row_flags)), allow_nan=False)


def test_one_reading_of_megawatts_is_left_out_counted_and_flagged(caplog):
    gpu = ScriptedGpu(constant, has_counter=False, limit_w=300.0)
    gpu.power_instant_w = lambda: 3.7e6 if 8.95 < gpu.now < 9.05 else 250.0
    meter = meter_of(gpu)
    reading = meter.reading(3.0, 15.0, 4, None, {OURS})
    assert reading.energy_j_window == pytest.approx(3000.0)
    assert (reading.max_power_w, reading.power_samples) == (250.0, 120)
    assert reading.energy_flags == ("impossible_power",)
    (problem,) = meter.problems
    assert problem.startswith("1 readings of power left out")
    meter.stop()
    assert problem in caplog.text


def test_counter_that_jumps_is_replaced_by_polled_power_and_named():
    gpu = ScriptedGpu(lambda t: constant(t) + (1e6 if t >= 9 else 0.0))
    gpu.power_instant_w = lambda: 250.0
    reading = read(gpu)
    assert (reading.energy_source, reading.energy_flags) == ("nvml_poll_instant", ("counter_jump",))
    assert reading.energy_j_window == pytest.approx(3000.0)


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize(
    "name", ["power_limit_w", "energy_j", "power_instant_w", "power_average_w", "temperature_c", "sm_clock_mhz"]
)
def test_a_sensor_that_always_says_nonsense_leaves_an_empty_cell(name, nonsense):
    gpu = ScriptedGpu(constant)
    setattr(gpu, name, lambda: nonsense)
    reading = read(gpu)
    assert_it_is_a_row(reading)
    assert reading.energy_j_window == pytest.approx(3000.0)  # by another source
    setattr(gpu, name, ScriptedGpu.raises)
    assert_it_is_a_row(read(gpu))


def test_bounds_come_from_the_limit_the_data_sheet_or_are_those_of_any_board():
    def most_w(**more):
        gpu = ScriptedGpu(constant, has_counter=False, **more)
        gpu.power_instant_w = lambda: 3000.0
        return read(gpu).energy_source

    assert most_w(limit_w=None, name="unknown") == "nvml_poll_instant"
    assert most_w(limit_w=1600.0, name="unknown") == "nvml_poll_instant"
    assert most_w(limit_w=1e9, name="NVIDIA A100-SXM4-80GB") == "none"
    assert most_w(limit_w=700.0, name="unknown") == "none"
    assert most_w(limit_w=700.0, name="unknown", power_is_module=True) == "nvml_poll_instant"


def test_error_in_the_middle_costs_the_polled_number_but_not_the_counters():
    def fails(t):
        return ("counter", "power") if 7 < t < 9 else ()

    reading = read(ScriptedGpu(square, fails=fails))
    assert (reading.energy_source, reading.energy_flags, reading.counter_poll_ratio) == ("nvml_counter", (), None)
    assert reading.energy_j_window == pytest.approx(square(15.0) - square(3.0), rel=0.01)
    reading = read(ScriptedGpu(square, fails=fails, has_counter=False))
    assert (reading.energy_source, reading.energy_flags) == ("none", ("energy_partial",))
    one_lost = read(ScriptedGpu(constant, fails=lambda t: ("power",) if 7.95 < t < 8.05 else (), has_counter=False))
    assert one_lost.energy_flags == ()
    assert one_lost.energy_j_window == pytest.approx(3000.0)


def test_time_without_readings_is_a_flagged_gap():
    reading = read(ScriptedGpu(constant, has_counter=False), skips=lambda t: 7.05 < t < 8.05)
    assert reading.energy_flags == ("gap",)
    assert reading.max_gap_sec == pytest.approx(1.1)
    assert reading.energy_j_window == pytest.approx(3000.0)
    assert read(ScriptedGpu(constant), skips=lambda t: 7.05 < t < 7.35).energy_flags == ()


def test_counter_that_stands_still_is_not_believed():
    reading = read(ScriptedGpu(constant, counter_scale=0.0))
    assert (reading.energy_source, reading.energy_flags) == ("nvml_poll_instant", ())
    assert reading.energy_j_window == pytest.approx(3000.0)


def test_board_power_model_says_that_it_is_one_and_how_wide():
    gpu = ScriptedGpu(has_counter=False, has_instant=False, has_average=False)
    reading = read(gpu)
    assert (reading.energy_source, reading.energy_estimated) == ("board_power_model", 1)
    watts = board_power(700.0)
    assert reading.energy_j_per_epoch == pytest.approx(watts.value * 12 / 4)
    assert (reading.energy_lo_j, reading.energy_hi_j) == pytest.approx((watts.low * 12 / 4, watts.high * 12 / 4))
    assert reading.idle_power_w is reading.power_samples is reading.energy_net_j_per_epoch is None
    assert not meter_of(gpu).reads_power
    unlimited = read(ScriptedGpu(has_counter=False, has_instant=False, has_average=False, limit_w=None))
    assert (unlimited.energy_source, unlimited.energy_estimated) == ("none", None)
    assert unlimited.energy_j_window is None
    assert unlimited.sm_clock_mhz == pytest.approx(1980.0)  # what is known stays


def test_no_gpu_and_no_packages_is_source_none_and_no_thread(tmp_path):
    meter = PowerMeter(None, rapl_root=tmp_path / "none", checkpoint=tmp_path / "checkpoint.csv")
    before = threading.active_count()
    meter.start()
    assert threading.active_count() == before
    meter.checkpoint(1)
    reading = meter.reading(0.0, 1.0, 2)
    meter.stop()
    known = {name: value for name, value in asdict(reading).items() if value not in (None, ())}
    assert known == {"energy_source": "none", "meter_version": reading.meter_version}
    assert not (tmp_path / "checkpoint.csv").exists()


def test_what_shares_or_is_shared_is_flagged():
    cut = ScriptedGpu(
        is_mig=True, power_is_module=True, pids=lambda t: {OURS, 7} if t > 6 else {OURS} if t > 1 else set()
    )
    reading = read(cut)
    assert reading.energy_flags == ("mig_shared", "shared_gpu")
    assert reading.row_flags == ("shared_gpu",)
    cut.has_counter = False
    assert read(cut).energy_flags == ("mig_shared", "module_scope", "shared_gpu")
    estimate = read(ScriptedGpu(has_counter=False, has_instant=False, has_average=False, is_mig=True))
    assert (estimate.energy_source, estimate.energy_flags) == ("board_power_model", ("mig_shared",))
    assert (
        read(ScriptedGpu(pids=lambda t: {7} if t > 1 else set())).row_flags == ()
    )  # seen only by the id of another namespace: ours
    was_there = ScriptedGpu(pids=lambda t: {7, OURS} if t > 1 else {7})
    assert read(was_there).row_flags == ("shared_gpu",)


def test_clock_that_drops_and_reasons_reach_the_row():
    dropped = read(ScriptedGpu(clock_mhz=lambda t: 1980.0 if t < 9 else 1200.0))
    assert dropped.row_flags == ("throttled",)
    assert dropped.throttle_reasons == "none"
    # asked twice a second: the drop is found up to half a second late, in a window of 12
    assert dropped.sm_clock_mhz == pytest.approx((1980 + 1200) / 2, abs=0.5 / 12 * (1980 - 1200))
    hot = read(ScriptedGpu(reasons=lambda t: ("sw_power_cap", "hw_thermal_slowdown") if t > 9 else ("sw_power_cap",)))
    assert hot.row_flags == ("throttled",)
    assert hot.throttle_reasons == "hw_thermal_slowdown;sw_power_cap"
    capped = read(ScriptedGpu(reasons=lambda t: ("sw_power_cap",)))
    assert (capped.row_flags, capped.throttle_reasons) == ((), "sw_power_cap")


def test_driver_that_raises_on_the_way_costs_its_readings_only(caplog):
    gpu = ScriptedGpu(constant, raises_at=8.0)
    meter = meter_of(gpu)
    with caplog.at_level(logging.WARNING):
        meter.stop()
    assert "the bus is gone" in caplog.text
    reading = meter.reading(3.0, 15.0, 4, None, {OURS})
    assert reading.energy_j_window == pytest.approx(3000.0)
    assert reading.power_samples == 118


def test_own_pids_may_be_asked_for():
    meter = meter_of(ScriptedGpu(pids=lambda t: {OURS, 101} if t > 1 else set()))
    assert meter.reading(3.0, 15.0, 4, own_pids=lambda: [OURS, 101]).row_flags == ()
    assert meter.reading(3.0, 15.0, 4, own_pids=[OURS]).row_flags == ("shared_gpu",)


def test_checkpoints_are_on_disk_at_once_and_one_for_each_reading(tmp_path):
    gpu, path = ScriptedGpu(constant), tmp_path / "checkpoint.csv"
    meter = meter_of(gpu, seconds=2.0, checkpoint=path)
    for epoch in (1, 2):
        gpu.now = 2.0 + epoch
        meter.sample()
        reads, read_at = gpu.reads, gpu.now
        for _ in range(9):  # epochs shorter than the time between two readings
            gpu.now += 0.01
            meter.checkpoint(epoch)
        lines = path.read_text().splitlines()  # the file is still open for writing
        assert lines[0] == "epoch,monotonic_sec,board_energy_j,started_utc"
        assert lines[-1].startswith(f"{epoch},{read_at!r},{5e6 + constant(read_at)!r},20")
        assert len(lines) == 1 + epoch
        assert gpu.reads == reads
    meter.stop()


def test_checkpoints_of_a_killed_attempt_stay_and_differ_by_its_start(tmp_path):
    path = tmp_path / "checkpoint.csv"
    for _ in range(2):
        meter = meter_of(ScriptedGpu(constant), seconds=2.0, checkpoint=path)
        meter.checkpoint(1)
        meter.stop()
        time.sleep(0.002)  # starts are told to the millisecond
    with path.open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["epoch"] for line in lines] == ["1", "1"]
    assert len({line["started_utc"] for line in lines}) == 2


def test_driver_that_hangs_holds_up_neither_epochs_nor_the_end(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("epochcast.energy.meter.PATIENCE_SEC", 0.5)
    comes_back = threading.Event()
    gpu = ScriptedGpu(constant)
    meter = PowerMeter(gpu, checkpoint=tmp_path / "checkpoint.csv")
    meter.start()
    start = time.monotonic()
    read, gpu.energy_j = gpu.energy_j, lambda: comes_back.wait(30) and read()
    try:
        time.sleep(0.3)
        asked = time.monotonic()
        for epoch in range(1, 20):
            meter.checkpoint(epoch)
        assert time.monotonic() - asked < 1.0  # a busy box
        with caplog.at_level(logging.WARNING):
            reading = meter.reading(start, time.monotonic(), 1)
            assert not meter.stop()
        assert time.monotonic() - asked < 2 * 0.5 + 3.0
        assert reading.energy_j_per_epoch is None
        assert "does not come back" in caplog.text
    finally:
        comes_back.set()
    assert meter.stop()


def test_reading_waits_for_what_was_read_after_its_end():
    meter = PowerMeter(gpu := ScriptedGpu(constant, has_counter=False))
    meter.start()
    time.sleep(0.3)
    gpu.now = 7.0  # what is asked from now on
    end = time.monotonic()
    reading = meter.reading(end - 0.2, end, 1)
    assert reading.energy_source == "nvml_poll_instant"
    assert reading.temp_end_c == 57.0
    assert meter.stop()


def test_checkpoint_that_can_not_be_written_does_not_end_the_run(tmp_path, caplog):
    meter = meter_of(ScriptedGpu(constant), checkpoint=tmp_path / "missing" / "checkpoint.csv")
    meter.checkpoint(1)
    meter.checkpoint(2)
    meter.stop()
    assert "missing" in caplog.text
    assert meter.reading(3.0, 15.0, 4).energy_source == "nvml_counter"


def test_packages_energy_goes_with_the_window(tmp_path):
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("100000000000\n")
    total = zone / "energy_uj"
    total.write_text("99990000000\n")
    gpu = ScriptedGpu(constant)
    meter = PowerMeter(gpu, clock=lambda: gpu.now, rapl_root=tmp_path)
    meter.start(polls=False)
    for i in range(1, 200):  # 40 W, and the total runs around
        gpu.now = i / 10
        total.write_text(f"{(99_990_000_000 + i * 4_000_000) % 100_000_000_000}\n")
        meter.sample()
    assert meter.reading(3.0, 15.0, 4).cpu_energy_j == pytest.approx(480.0)
    assert meter.reading(3.0, 25.0, 4).cpu_energy_j is None  # not covered
    meter.stop()


@pytest.mark.parametrize(
    "gpu",
    [
        ScriptedGpu(square),
        ScriptedGpu(square, has_counter=False, is_mig=True),
        ScriptedGpu(has_counter=False, has_instant=False, has_average=False),
        ScriptedGpu(constant, fails=lambda t: ("counter", "power") if t > 9 else ()),
    ],
)
def test_every_reading_is_columns_of_a_row(gpu):
    columns = asdict(read(gpu, idle=(1.0, 2.5)))
    row_flags = columns.pop("row_flags")
    row = replace(run_row(), **columns, flags=row_flags)  # it checks itself
    assert row.energy_source in ENERGY_SOURCES
    assert set(row.energy_flags) <= set(ENERGY_FLAGS)
    assert {f.name for f in fields(EnergyReading)} - {"row_flags"} <= {f.name for f in fields(RunRecord)}


def test_thread_reads_at_its_period_and_not_faster_than_drivers_can_answer():
    gpu = ScriptedGpu(constant)
    meter = PowerMeter(gpu, period_sec=0.001)
    meter.start()
    start = time.monotonic()
    time.sleep(1.0)
    end = time.monotonic()
    threads = [thread for thread in threading.enumerate() if thread.name == "power meter"]
    assert [thread.daemon for thread in threads] == [True]
    meter.stop()
    meter.stop()
    assert not threads[0].is_alive()
    n = meter.reading(start, end, 1).power_samples
    assert 10 <= n <= 22  # 20, fewer where the box is busy
    reads = gpu.reads
    time.sleep(0.15)
    assert gpu.reads == reads
