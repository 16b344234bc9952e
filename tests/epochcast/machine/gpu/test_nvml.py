"""The meter and the queries against a library of the driver's name, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from epochcast.gpus.board_power import board_power
from tests.support.machines import fake_nvml

ROOT = Path(__file__).resolve().parents[4]
CHILD = ROOT / "tests" / "support" / "machines" / "metered_child.py"
FAST = {"period_sec": 1.5, "counter_sec": 0.02, "update_sec": 0.02, "average_sec": 0.2}  # a GPU that reads finer
TEN_SECONDS = {"counter_10_sec": ("", {"period_sec": 3.3}, ("10", "0.3", "0.1"))}
SHORT = ("2", "0.3", "0.05")
CASES = {  # name: mode, settings, seconds metered, idle before, period
    "counter": ("", FAST, ("3", "0.3", "0.05")),
    "idle": ("", {**FAST, "low_w": 60, "high_w": 60}, ("1", "0.6", "0.05")),
    "nocounter": ("nocounter", FAST, SHORT),
    "average": ("nocounter,nofields", FAST, SHORT),
    "pascal": ("pascal", FAST, SHORT),
    "nopower": ("nopower", FAST, ("0.3", "0.3", "0.1")),
    "nopower_nolimit": ("nopower", {"limit_w": -1}, ("0.3", "0.3", "0.1")),
    "denied": ("denied", {"limit_w": -1}, ("0.3", "0.3", "0.1")),
    "noinit": ("noinit", {}, ("0.3", "0.3", "0.1")),
    "zeros": ("nopower", {"limit_w": 0, "clock_mhz": 0}, ("0.6", "0.3", "0.05")),
    "error_in_the_middle": ("error", {**FAST, "at_sec": 0.7, "until_sec": 1.3}, SHORT),
    "error_without_counter": ("nocounter,error", {**FAST, "at_sec": 0.7, "until_sec": 1.3}, SHORT),
    "error_for_good": ("error", {**FAST, "at_sec": 0.7}, SHORT),
    "countererror": ("countererror", {**FAST, "at_sec": 0.7}, SHORT),
    "reset": ("reset", {**FAST, "at_sec": 1.0}, SHORT),
    "clockdrop": ("clockdrop", {"at_sec": 1.5}, ("3", "0.3", "0.05")),
    "silent_clockdrop": ("clockdrop", {"at_sec": 1.5, "drop_reasons": 0}, ("3", "0.3", "0.05")),
    "powercap": ("powercap", {}, SHORT),
    "neighbour": ("neighbour", {"at_sec": 0.2}, SHORT),
    "mig": ("mig,module,nocounter,desktop", FAST, SHORT),
}


def output_of_child(*arguments, environ, given=""):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        input=given, env=environ, capture_output=True, text=True, timeout=120, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def run_child(*arguments, environ):
    return json.loads(output_of_child(*arguments, environ=environ))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return fake_nvml.library(tmp_path_factory)


def meter(library, cases, folder):
    """What a process of each case found, by its name."""
    given = []
    for name, (mode, settings, times) in cases.items():
        variables = fake_nvml.environment(library, mode, process_file=folder / f"{name}.pid", **settings)
        given.append([variables, [float(number) for number in times], str(folder / f"{name}.json")])
    environ = {**os.environ, "LD_LIBRARY_PATH": fake_nvml.environment(library)["LD_LIBRARY_PATH"]}
    output_of_child(CHILD, environ=environ, given=json.dumps(given))
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in cases}


@pytest.fixture(scope="module")
def metered(library, tmp_path_factory):
    return meter(library, CASES, tmp_path_factory.mktemp("processes"))


def error_of(reading):
    return abs(reading["energy_j_window"] / reading["true_j"] - 1)


def faults(reading):
    """The energy flags but for `gap`, which a busy box may add."""
    return set(reading["energy_flags"]) - {"gap"}


def test_three_seconds_by_a_counter_that_moves_often_are_right_to_two_percent(metered):
    assert_right_to_two_percent(metered["counter"])
    assert faults(metered["counter"]) == {"short_window"}


@pytest.mark.slow
def test_ten_seconds_by_the_counter_are_right_to_two_percent(library, tmp_path):
    (reading,) = meter(library, TEN_SECONDS, tmp_path).values()
    assert_right_to_two_percent(reading)
    assert faults(reading) == set()


def assert_right_to_two_percent(reading):
    assert reading["energy_source"] == "nvml_counter"
    assert error_of(reading) <= 0.02
    assert reading["energy_estimated"] == 0
    assert reading["gpu_uuid"] == fake_nvml.gpu_uuid()
    assert reading["max_power_w"] == 320.0
    assert reading["counter_poll_ratio"] == pytest.approx(1, abs=0.05)
    assert reading["energy_j_per_epoch"] == pytest.approx(reading["energy_j_window"] / 2)
    assert reading["temp_end_c"] > reading["temp_start_c"]
    assert (reading["throttle_reasons"], reading["row_flags"]) == ("none", [])


def test_idle_power_is_what_was_drawn_before(metered):
    reading = metered["idle"]
    assert reading["idle_power_w"] == pytest.approx(60.0, rel=0.01)
    assert reading["energy_net_j_per_epoch"] == pytest.approx(0.0, abs=3.0)
    assert faults(reading) == {"short_window"}


@pytest.mark.parametrize(
    ("name", "source"),
    [("nocounter", "nvml_poll_instant"), ("average", "nvml_poll_avg1s"), ("pascal", "nvml_poll_avg1s")],
)
def test_power_is_polled_where_there_is_no_counter(metered, name, source):
    reading = metered[name]
    assert reading["energy_source"] == source
    assert error_of(reading) <= 0.15  # two seconds of a square wave: no more can be had
    assert faults(reading) == {"short_window"}
    assert reading["counter_poll_ratio"] is None
    assert reading["reads_power"]


def test_without_any_power_the_boards_limit_stands_in_and_says_so(metered):
    reading = metered["nopower"]
    assert (reading["energy_source"], reading["energy_estimated"]) == ("board_power_model", 1)
    assert reading["energy_lo_j"] < reading["energy_j_per_epoch"] < reading["energy_hi_j"]
    assert reading["energy_j_per_epoch"] == pytest.approx(board_power(700.0).value * 0.3 / 2)
    assert not reading["reads_power"]


def test_clock_and_limit_of_zero_are_no_reading(metered):
    assert metered["zeros"]["sm_clock_mhz"] is metered["zeros"]["power_limit_w"] is None
    assert metered["zeros"]["throttle_reasons"] == "none"  # the driver did answer


@pytest.mark.parametrize("name", ["nopower_nolimit", "denied"])
def test_no_power_and_no_limit_is_empty_and_not_zero(metered, name):
    reading = metered[name]
    assert reading["energy_source"] == "none"
    assert not [key for key in reading if key.startswith(("energy_j", "mean_power", "idle_power")) and reading[key]]
    assert reading["energy_j_window"] is None


def test_driver_that_is_not_loaded_says_why(metered):
    assert metered["noinit"]["problem"] == "the NVIDIA driver does not answer: Driver Not Loaded"
    assert metered["noinit"]["energy_source"] == "none"


def test_error_in_the_middle(metered):
    reading = metered["error_in_the_middle"]
    assert reading["energy_source"] == "nvml_counter"
    assert error_of(reading) <= 0.1
    assert metered["error_without_counter"]["energy_source"] == "none"
    assert metered["error_without_counter"]["energy_flags"] == ["energy_partial"]
    assert metered["error_without_counter"]["energy_j_window"] is None


def test_error_for_good_gives_no_number(metered):
    reading = metered["error_for_good"]
    assert (reading["energy_source"], reading["energy_flags"]) == ("none", ["energy_partial"])
    assert reading["energy_j_window"] is reading["energy_j_per_epoch"] is None


@pytest.mark.parametrize(("name", "fault"), [("countererror", "energy_partial"), ("reset", "counter_reset")])
def test_counter_that_is_lost_is_replaced_and_named(metered, name, fault):
    reading = metered[name]
    assert reading["energy_source"] == "nvml_poll_instant"
    assert faults(reading) == {"short_window", fault}
    assert error_of(reading) <= 0.15


def test_clock_that_drops_is_throttled(metered):
    assert metered["clockdrop"]["row_flags"] == ["throttled"]
    assert metered["clockdrop"]["throttle_reasons"] == "hw_thermal_slowdown"
    assert metered["silent_clockdrop"]["row_flags"] == ["throttled"]
    assert metered["silent_clockdrop"]["throttle_reasons"] == "none"
    # asked four times a second: the drop is found up to a quarter of a second late, on a busy box later
    assert metered["silent_clockdrop"]["sm_clock_mhz"] == pytest.approx(1590, rel=0.08)
    assert metered["powercap"]["row_flags"] == []
    assert metered["powercap"]["throttle_reasons"] == "sw_power_cap"


def test_neighbour_process_is_named(metered):
    assert metered["neighbour"]["row_flags"] == ["shared_gpu"]
    assert faults(metered["neighbour"]) == {"short_window", "shared_gpu"}
    assert metered["powercap"]["row_flags"] == []  # its own process was on the GPU too


def test_instances_and_modules_are_named(metered):
    assert faults(metered["mig"]) == {"short_window", "mig_shared", "module_scope"}
    assert metered["mig"]["row_flags"] == []  # a desktop that was there before is no neighbour


def test_no_driver_at_all_is_source_none_and_exit_0(tmp_path):
    environ = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    reading = run_child(CHILD, "0.1", "0.1", "0.1", environ=environ)
    if reading["gpu_uuid"] is not None:
        pytest.skip("this box has an NVIDIA driver of its own")
    assert reading["energy_source"] == "none"
    assert "libnvidia-ml.so.1 is not found" in reading["problem"]
    assert not reading["reads_power"]


QUERIES = """
import json
from epochcast.machine.gpu_driver import open_driver
with open_driver() as driver:
    gpu = driver.gpus()[0]
    queries = ("power_limit_w", "energy_j", "power_instant_w", "power_average_w", "temperature_c", "sm_clock_mhz",
               "max_sm_clock_mhz", "memory_clock_mhz", "throttle_reasons", "memory_used_bytes", "memory_total_bytes",
               "utilization", "compute_processes", "processes", "ecc_enabled", "mig_enabled", "persistence_enabled")
    known = {query: getattr(gpu, query)() for query in queries}
    for name in ("index", "name", "uuid", "pci_bus_id", "architecture", "is_mig"):
        known[name] = getattr(gpu, name)
    print(json.dumps({**known, "driver": driver.driver_version, "cuda": driver.runtime_version}))
"""


def test_every_query_of_a_gpu(library):
    environ = {**os.environ, **fake_nvml.environment(library, "neighbour,desktop,powercap", low_w=200, high_w=200)}
    known = run_child("-c", QUERIES, environ=environ)
    assert known.pop("energy_j") > 123_456
    assert 45.0 <= known.pop("temperature_c") < 65.0  # the library warms up from its start on
    assert known == {
        "index": 0,
        "name": "NVIDIA Fake 100",
        "uuid": "GPU-00000000-fa4e-0000-0000-000000000000",
        "pci_bus_id": "00000000:01:00.0",
        "architecture": "Hopper",
        "driver": "580.65.06",
        "cuda": "13.0",
        "power_limit_w": 700.0,
        "power_instant_w": 200.0,
        "power_average_w": 200.0,
        "sm_clock_mhz": 1980.0,
        "max_sm_clock_mhz": 1980.0,
        "memory_clock_mhz": 2619.0,
        "throttle_reasons": ["sw_power_cap"],
        "memory_used_bytes": 1 << 30,
        "memory_total_bytes": 80 << 30,
        "utilization": 0.0,
        "compute_processes": [[4242, 1 << 30]],
        "processes": [[1111, 100 << 20], [4242, 1 << 30]],
        "ecc_enabled": True,
        "mig_enabled": False,
        "persistence_enabled": True,
        "is_mig": False,
    }


def test_what_an_old_or_closed_driver_does_not_say_is_none(library):
    pascal = run_child("-c", QUERIES, environ={**os.environ, **fake_nvml.environment(library, "pascal", limit_w=-1)})
    unknown = {"energy_j", "power_instant_w", "power_limit_w", "ecc_enabled", "mig_enabled"}
    assert {name for name, value in pascal.items() if value is None} == unknown
    assert pascal["architecture"] == "Pascal"
    denied = run_child("-c", QUERIES, environ={**os.environ, **fake_nvml.environment(library, "denied")})
    unknown = {"energy_j", "power_instant_w", "power_average_w", "processes", "compute_processes"}
    assert {name for name, value in denied.items() if value is None} == unknown


def test_zero_that_can_not_be_is_none(library):
    settings = {"limit_w": 0, "clock_mhz": 0, "memory_gib": 0, "low_w": 0, "high_w": 0}
    known = run_child("-c", QUERIES, environ={**os.environ, **fake_nvml.environment(library, **settings)})
    zeros = {"power_limit_w", "sm_clock_mhz", "memory_total_bytes", "power_instant_w", "power_average_w"}
    assert {name for name, value in known.items() if value is None} == zeros


MEMORY = """
import json, sys
from epochcast.machine.gpu_driver import gpu_of, open_driver
with open_driver() as driver:
    found = [gpu_of(driver, device, {}) for device in json.loads(sys.argv[1])]
    print(json.dumps([(gpu.memory_total_bytes() or 0) >> 30 for gpu in found]))
"""


@pytest.mark.parametrize(
    ("mode", "settings", "expected"),
    [
        ("mig", {}, [40, 20, 40, 20]),  # a run without a name gets the first
        ("mig", {"second_gib": 40}, [40, 40, 40, 40]),
        ("mig", {"second_gib": 0}, [40, 0, 40, 0]),
    ],
)
def test_memory_of_an_instance_is_its_own(library, mode, settings, expected):
    devices = [fake_nvml.mig_uuid(0, 0), fake_nvml.mig_uuid(0, 1), "auto", f"MIG-{fake_nvml.gpu_uuid()}/3/0"]
    environ = {**os.environ, **fake_nvml.environment(library, mode, **settings)}
    assert run_child("-c", MEMORY, json.dumps(devices), environ=environ) == expected


COST = """
import json, time
from epochcast.machine.gpu_driver import gpu_of, open_driver
from epochcast.energy.meter import PowerMeter
meter = PowerMeter(gpu_of(open_driver(), "auto", {}))
meter.start()
shares = []
for _ in range(4):
    start, cpu = time.monotonic(), time.process_time()
    time.sleep(0.4)
    shares.append((time.process_time() - cpu) / (time.monotonic() - start))
meter.stop()
print(json.dumps(shares))
"""


def test_polling_costs_little_of_a_core(library):
    shares = run_child("-c", COST, environ={**os.environ, **fake_nvml.environment(library)})
    # twice the target of benchmarks/bench_power.py; other work on the box makes each wake-up dearer, so the best counts
    assert min(shares) < 0.004


CHOICES = """
import json, sys
from epochcast.machine.gpu_driver import gpu_of, open_driver
with open_driver() as driver:
    found = [gpu_of(driver, device, environ) for device, environ in json.loads(sys.argv[1])]
    print(json.dumps([None if gpu is None else [gpu.uuid[4], gpu.is_mig] for gpu in found]))
"""
SEEN = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"


@pytest.mark.parametrize(
    ("mode", "names", "choices"),
    [
        (
            "",
            "NVIDIA A,NVIDIA B",
            [
                ("auto", {}, 0),
                ("gpu", {}, 0),
                ("cpu", {}, None),
                ("gpu:1", {}, 1),
                ("gpu:2", {}, None),
                ("gpu:1", {SEEN: "0"}, 1),  # what choose_devices sets anew
                ("auto", {SEEN: "1"}, 1),
                ("auto", {SEEN: " 1, 0"}, 1),
                ("auto", {SEEN: ""}, None),
                ("auto", {SEEN: "-1"}, None),
                ("auto", {SEEN: "NoDevFiles"}, None),
                ("gpu", {SEEN: "GPU-1"}, 1),
                ("gpu", {SEEN: "GPU-1,GPU-0"}, 1),
                ("gpu", {SEEN: "GPU-"}, None),  # not one GPU only
                ("gpu", {SEEN: "GPU-7"}, None),
                (fake_nvml.gpu_uuid(1), {}, 1),
                ("gpu:1", {ORDER: "PCI_BUS_ID"}, 1),
                ("gpu:1", {ORDER: "FASTEST_FIRST"}, 1),  # the number is nvidia-smi's, and set anew
                ("auto", {ORDER: "FASTEST_FIRST"}, None),  # which of two models is faster, NVML does not say
                (fake_nvml.gpu_uuid(1), {ORDER: "FASTEST_FIRST"}, 1),
            ],
        ),
        ("", "NVIDIA A,NVIDIA A", [("gpu:1", {ORDER: "FASTEST_FIRST"}, 1)]),
        ("reversed", "NVIDIA A,NVIDIA B,NVIDIA C", [("auto", {}, 2), ("gpu:2", {}, 0), (fake_nvml.gpu_uuid(1), {}, 1)]),
        (
            "mig",
            "NVIDIA A,NVIDIA B",
            [
                (fake_nvml.mig_uuid(1, 1), {}, 1),
                ("auto", {SEEN: fake_nvml.mig_uuid(0, 1)}, 0),
                ("auto", {SEEN: "MIG-11"}, 1),
                ("auto", {SEEN: f"MIG-{fake_nvml.gpu_uuid(1)}/3/0"}, 1),  # as older drivers name them
                ("auto", {SEEN: "MIG-99"}, None),
                ("auto", {SEEN: f"MIG-{fake_nvml.gpu_uuid(1)}/2/0"}, None),
            ],
        ),
    ],
)
def test_gpu_that_a_run_will_use(library, mode, names, choices):
    environ = {**os.environ, **fake_nvml.environment(library, mode, names=names)}
    asked = json.dumps([(device, variables) for device, variables, _ in choices])
    found = run_child("-c", CHOICES, asked, environ=environ)
    expected = [None if gpu is None else [str(gpu), mode == "mig"] for _, _, gpu in choices]
    assert dict(zip(map(str, choices), found, strict=True)) == dict(zip(map(str, choices), expected, strict=True))
