"""What a run, a measured row and an aggregated row are: one frozen dataclass each, in the order of their columns.

Units, where a published column name carries none: `avg_time_sec`, `avg_time_mean` and `avg_time_std` are seconds per
full epoch; `images_per_sec`, `thr_mean` and `thr_std` are training images per second; `test_acc`, `acc_mean` and
`acc_std` are fractions between 0 and 1. `None` means unknown and is an empty cell in a file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from epochcast.validation import (
    SEC_WORDS,
    is_finite,
    is_sec,
    is_whole,
    require,
    require_not_negative,
    require_positive,
    require_sec,
    require_time,
)

Record = TypeVar("Record")

TRAIN_N = 50_000  # training images of CIFAR-10 (Krizhevsky 2009)
TEST_N = 10_000  # test images of CIFAR-10
MAX_DEPTH = 16  # filters double per block: more would be no network, and no number to compute with
WARMUP_EPOCHS = 1  # the first epoch pays for tracing, compiling and autotuning; recorded, never averaged
SCHEMA_VERSION = 2  # 1: 36 columns, up to `flags`; a published table has 11 and no version
FLAGS = {  # name: what a row so flagged tells, in the order that they are written
    "stalled": "a timed epoch slowed by something else, left out of the steady time",
    "unstable": "a slow epoch may be a stall or noise: nothing excluded, the plain mean taken",
    "throttled": "the GPU lowered its clock while it was timed",
    "shared_gpu": "another process was on the GPU",
    "busy_host": "other processes took processor time that the run could have used",
    "short": "stopped by a limit with too few timed epochs, or too short a time, to know how good the time is",
    "trend": "the timed epochs became steadily slower or faster",
    "warmup": "slow epochs after the first: one was not enough to warm up",
    "diverged": "the loss became NaN",
}
KNOWN_FLAGS = frozenset(FLAGS)
# such a row enters a mean only where there is no clean one
UNCLEAN_FLAGS = frozenset({"unstable", "throttled", "shared_gpu", "busy_host", "warmup"})
STOP_REASONS = ("target_ci", "max_epochs", "max_sec", "epochs")  # what ended a run; epochs: the count asked for
ENERGY_SOURCES = ("nvml_counter", "nvml_poll_instant", "nvml_poll_avg1s", "board_power_model", "none")
_SENSOR_SOURCE = re.compile(r"[a-z]+_(counter|poll_instant|poll_avg1s)")  # of whichever driver's library
FAILURE_STATUSES = ("oom", "killed", "crash", "timeout", "interrupted")
REPEATED_STATUSES = ("killed", "interrupted", "timeout")  # a grid that resumes measures these once more


@dataclass(frozen=True, slots=True)
class Precision:
    """What a value of `--precision` means for Keras, for a GPU and for memory."""

    keras_policy: str
    element_bytes: int  # of an activation; weights are float32 in all of them
    arithmetic: str  # the rate in the facts that it computes at, column `<arithmetic>_tflops`
    tf32_arithmetic: str | None = None  # the rate where TF32 is on and the GPU has it


PRECISIONS = {  # by the value of the flag; the first is the default
    "float32": Precision("float32", 4, "fp32", "tf32"),
    "mixed_float16": Precision("mixed_float16", 2, "fp16"),
    "mixed_bfloat16": Precision("mixed_bfloat16", 2, "bf16"),
}
DEFAULT_PRECISION = next(iter(PRECISIONS))


def uses_tf32(precision: str | None) -> bool:
    """Return whether TF32, where it is on, changes what this precision computes in."""
    return precision in PRECISIONS and PRECISIONS[precision].tf32_arithmetic is not None


def element_bytes_of(precision: str | None) -> int:
    """Return the bytes of an activation in a precision, of the default where it is unknown.

    A row may name one that PRECISIONS lacks: then the least, as what will not fit is refused.
    """
    if (known := PRECISIONS.get(precision or DEFAULT_PRECISION)) is not None:
        return known.element_bytes
    return min(each.element_bytes for each in PRECISIONS.values())


class NewerSchemaError(ValueError):
    """A row or table that a newer Epochcast wrote: nothing in it is wrong, this version can't read it."""


def require_known_schema(record: Any) -> None:  # Any: a row of any table that has a `schema_version`
    """Raise a NewerSchemaError where a newer version wrote the row."""
    if record.schema_version is not None and record.schema_version > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"{type(record).__name__}.schema_version must be at most {SCHEMA_VERSION}, got {record.schema_version}: "
            "a newer Epochcast wrote this row. Update this one; the row is not wrong."
        )


def require_energy_source(record: Any) -> None:  # Any: a row of any table that has an `energy_source`
    """Raise a FieldError where the row names no source of energy that is known."""
    source = record.energy_source
    is_sensor = isinstance(source, str) and _SENSOR_SOURCE.fullmatch(source) is not None
    is_source = is_sensor or source in (None, *ENERGY_SOURCES)
    require(is_source, record, "energy_source", f"of {', '.join(ENERGY_SOURCES)}")


@dataclass(frozen=True, slots=True)
class Axis:
    """One number of a configuration: all that flags, texts, figures and learning need to know of it."""

    name: str  # of its field, column and flag
    what: str  # for help texts
    label: str  # of a figure's axis
    phrase: str  # a value in a sentence
    letter: str  # in names of runs
    example: str  # several values as a flag takes them
    usual: tuple[int, ...]  # what is planned or measured where nothing is named
    wide: tuple[int, ...]  # on which a model's order is checked
    is_log: bool = True  # learned on its logarithm, so that the next value is a factor of two away; else one
    slower: int = 1  # 1: an epoch of a larger value takes longer, all else equal; -1: of a smaller one

    def of(self, row: Any) -> int:  # Any: a configuration, a spec or a row
        """Return the value of a configuration, a spec or a row."""
        return int(getattr(row, self.name))

    def text(self, value: int) -> str:
        """Return a value as part of a sentence, e.g. `32 base filters`."""
        return self.phrase.format(value)


AXES = (  # in the order of RunConfig's fields
    Axis(
        name="depth",
        what="blocks of two convolutions and a pool",
        label="depth (blocks)",
        phrase="depth {}",
        letter="d",
        example="2:5",
        usual=(2, 3, 4, 5),
        wide=(1, 2, 3, 4, 5, 6),
        is_log=False,
    ),
    Axis(
        name="base_filters",
        what="filters of the first block, then doubling",
        label="base filters",
        phrase="{} base filters",
        letter="f",
        example="16:128:x2",
        usual=(16, 32, 64, 128),
        wide=(8, 16, 32, 64, 128, 256),
    ),
    Axis(
        name="batch_size",
        what="images per step",
        label="batch size (images)",
        phrase="batch size {}",
        letter="b",
        example="64:2048:x2",
        usual=(64, 128, 256, 512, 1024, 2048),
        wide=(16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
        slower=-1,
    ),
)
AXIS_NAMES = tuple(axis.name for axis in AXES)
NETWORK_AXES = AXES[:-1]  # what the network is; the batch size is how it is trained
EXAMPLE_LISTS = " ".join(f"--{axis.name} {axis.example}" for axis in AXES)


@dataclass(frozen=True, slots=True, order=True)
class RunConfig:
    """What is trained: one CIFAR-10 CNN at one batch size. With `Conditions`, the aggregation key."""

    depth: int = 3
    base_filters: int = 32
    batch_size: int = 128

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            require(is_whole(value, 1), self, field.name, "a whole number of at least 1")
        require(self.depth <= MAX_DEPTH, self, "depth", f"at most {MAX_DEPTH}: filters double with every block")

    def steps_per_epoch(self, train_n: int = TRAIN_N) -> int:
        """Optimizer steps of one epoch over `train_n` images; the last batch may be partial."""
        return math.ceil(train_n / self.batch_size)

    @property
    def network(self) -> tuple[int, ...]:
        """What the network is, whatever its batch size."""
        return tuple(axis.of(self) for axis in NETWORK_AXES)

    @property
    def network_text(self) -> str:
        """The network in words, e.g. `depth 3, 32 base filters`."""
        return ", ".join(axis.text(axis.of(self)) for axis in NETWORK_AXES)

    @property
    def slug(self) -> str:
        """The configuration as part of a name, e.g. `d3_f32_b128`."""
        return "_".join(f"{axis.letter}{axis.of(self)}" for axis in AXES)

    @property
    def flags(self) -> list[str]:
        """The words of a command line that ask for this configuration."""
        return [word for axis in AXES for word in (f"--{axis.name}", str(axis.of(self)))]

    def __str__(self) -> str:
        return f"({self.depth},{self.base_filters},{self.batch_size})"


def config_in(values: Mapping[str, Any]) -> RunConfig:
    """Return the configuration among the values of a row or an answer."""
    return RunConfig(**{name: values[name] for name in AXIS_NAMES})


DEFAULT_CONFIG = RunConfig()
# what is planned or measured where a user names nothing else
DEFAULT_GRID = {axis.name: axis.usual for axis in AXES}


@dataclass(frozen=True, slots=True)
class Conditions:
    """Everything but the configuration that a time depends on, as resolved, never `auto`; None is unknown."""

    device_name: str | None = None
    backend: str | None = None
    backend_version: str | None = None  # major.minor
    precision: str | None = None
    tf32: str | None = None  # on | off
    pipeline: str | None = None
    jit_compile: str | None = None  # on | off
    steps_per_execution: int | None = None
    dataset: str | None = None
    train_n: int | None = None
    timing_mode: str | None = None  # full_epoch | steps_extrapolated
    window_steps: int | None = None

    def describe(self) -> str:
        """The known conditions in one line, e.g. `device_name=NVIDIA A100 80GB PCIe, backend=tensorflow`."""
        known = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) is not None]
        return ", ".join(known) or "all unknown (a table without our columns)"


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run as it is asked for: the configuration, the conditions wanted (`auto` where the box decides), its data.

    `epochs` counts the first, untimed one. Without it the run goes on until the 95 % interval of the steady time is
    within `target_ci` of it, at most to `max_epochs` epochs or `max_sec` seconds of training. With `window_steps` each
    "epoch" is a window of that many steps, and the time of a full epoch is extrapolated by steps.
    """

    depth: int = DEFAULT_CONFIG.depth
    base_filters: int = DEFAULT_CONFIG.base_filters
    batch_size: int = DEFAULT_CONFIG.batch_size
    epochs: int | None = None
    window_steps: int | None = None
    seed: int = 123
    dataset: str = "auto"
    data_dir: str | None = None
    train_n: int = TRAIN_N
    pipeline: str = "auto"
    precision: str = DEFAULT_PRECISION
    jit_compile: str = "auto"
    device: str = "auto"
    steps_per_execution: int | str = 1  # steps per call into the framework; or `auto`
    target_ci: float = 0.01  # half-width of the interval over the steady time
    max_epochs: int = 2000
    max_sec: float = 300.0
    compile_cache: str = "off"

    def __post_init__(self) -> None:
        RunConfig(self.depth, self.base_filters, self.batch_size)
        is_count = self.epochs is None or is_whole(self.epochs, 2)
        require(is_count, self, "epochs", "at least 2 (the first is untimed), or absent: until the time is known")
        is_window = self.window_steps is None or is_whole(self.window_steps, 1)
        require(is_window, self, "window_steps", "a whole number of at least 1, or absent")
        require(is_whole(self.seed, 0), self, "seed", "0 or above")
        require(is_whole(self.train_n, 1), self, "train_n", "at least 1")
        for name, choices in SPEC_CHOICES.items():
            require(getattr(self, name) in choices, self, name, f"one of {', '.join(choices)}")
        is_auto = self.steps_per_execution == "auto"
        require(is_auto or is_whole(self.steps_per_execution, 1), self, "steps_per_execution", "auto or at least 1")
        require(is_finite(self.target_ci) and self.target_ci > 0, self, "target_ci", "a share above 0, e.g. 0.01")
        require(is_whole(self.max_epochs, 2), self, "max_epochs", "at least 2: the first is untimed")
        require(is_finite(self.max_sec) and self.max_sec > 0, self, "max_sec", "a number of seconds above 0")
        require(DEVICE.fullmatch(self.device) is not None, self, "device", "auto, cpu, gpu, gpu:N or a GPU's UUID")

    @property
    def config(self) -> RunConfig:
        return RunConfig(self.depth, self.base_filters, self.batch_size)

    @property
    def most_epochs(self) -> int:
        """The epochs that a run takes at most: those asked for, else `max_epochs`."""
        return self.max_epochs if self.epochs is None else self.epochs

    @property
    def timing_mode(self) -> str:
        return "full_epoch" if self.window_steps is None else "steps_extrapolated"


DEVICE = re.compile(r"auto|cpu|gpu(:[0-9]+)?|(GPU|MIG)-.+")
SPEC_CHOICES: dict[str, Collection[str]] = {
    "dataset": ("auto", "cifar10", "synthetic"),
    "pipeline": ("auto", "tfdata", "arrays", "indices", "device"),
    "precision": PRECISIONS,
    "jit_compile": ("auto", "on", "off"),
    "compile_cache": ("off", "on"),
}


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One finished run: a row of runs.csv. The eleven published columns come first, under their published names."""

    timestamp_utc: str  # end of the run, ISO 8601
    tf_version: str | None  # None where TensorFlow was not the backend
    depth: int
    base_filters: int
    batch_size: int
    epochs: int
    params: int
    epoch_times_json: tuple[float, ...]  # seconds of every epoch, or of every raw window
    avg_time_sec: float  # plain mean of the timed epochs, per full epoch
    images_per_sec: float  # train_n / avg_time_sec
    test_acc: float | None
    schema_version: int | None = None
    run_id: str | None = None
    grid_id: str | None = None
    device_name: str | None = None
    backend: str | None = None
    backend_version: str | None = None
    keras_version: str | None = None
    precision: str | None = None
    tf32: str | None = None
    pipeline: str | None = None
    jit_compile: str | None = None
    steps_per_execution: int | None = None
    dataset: str | None = None
    train_n: int | None = None
    timing_mode: str | None = None
    window_steps: int | None = None
    seed: int | None = None
    steady_time_sec: float | None = None  # per full epoch, stall-free
    n_timed: int | None = None
    n_stalled: int | None = None
    wall_sec: float | None = None  # start of the process to its exit
    overhead_sec: float | None = None  # wall_sec - sum of all epoch (or window) seconds
    cpu_time_sec: float | None = None  # user + system of the whole process
    load_avg: float | None = None  # 1-minute load average at the end
    flags: tuple[str, ...] = ()
    rel_spread: float | None = None  # sample standard deviation of the stall-free timed epochs / steady time
    rel_ci95: float | None = None  # half-width of the 95 % interval of the steady time / steady time
    rel_trend: float | None = None  # change from the first to the last timed epoch by a fitted line / steady time
    stop_reason: str | None = None  # one of STOP_REASONS
    host_busy_cores: float | None = None  # processor cores that other processes used while epochs were timed
    compile_cache: str | None = None  # off | cold | warm
    peak_memory_bytes: int | None = None  # of the device, by the framework's allocator
    device_memory_bytes: int | None = None  # of the whole device
    gpu_uuid: str | None = None
    driver_version: str | None = None
    sm_clock_mhz: float | None = None  # mean while epochs were timed
    throttle_reasons: str | None = None  # seen while epochs were timed, joined by ';'; none: none was
    power_limit_w: float | None = None
    temp_start_c: float | None = None
    temp_end_c: float | None = None
    idle_sec: float | None = None  # waited before the first epoch to measure the idle power; in no overhead
    energy_source: str | None = None  # one of ENERGY_SOURCES; board energy, all of the GPU's
    energy_estimated: int | None = None  # 1: by a model of the board's power, not measured
    energy_j_per_epoch: float | None = None  # per full epoch
    energy_lo_j: float | None = None  # band of energy_j_per_epoch where it is estimated
    energy_hi_j: float | None = None
    energy_net_j_per_epoch: float | None = None  # above the idle power
    energy_j_window: float | None = None  # of the whole block of timed epochs
    energy_window_sec: float | None = None
    energy_n_epochs: int | None = None  # epochs (or windows) in the block
    mean_power_w: float | None = None
    max_power_w: float | None = None
    idle_power_w: float | None = None
    power_samples: int | None = None
    power_dt_sec: float | None = None  # median time between samples
    max_gap_sec: float | None = None  # longest time between samples
    counter_poll_ratio: float | None = None  # energy by the counter / energy by polled power
    energy_flags: tuple[str, ...] = ()  # of epochcast.energy.reading.ENERGY_FLAGS
    cpu_energy_j: float | None = None  # of the processor packages, over the block of timed epochs (RAPL)
    meter_version: int | None = None
    git_commit: str | None = None  # of the checkout, `-dirty` where it has changes

    def __post_init__(self) -> None:
        RunConfig(self.depth, self.base_filters, self.batch_size)
        require_time(self, "timestamp_utc")
        require_positive(self, "epochs", "params", "images_per_sec", "schema_version", "train_n")
        require_known_schema(self)
        require_positive(self, "steps_per_execution", "window_steps", "n_timed")
        require_sec(self, "avg_time_sec", "steady_time_sec", "wall_sec")
        are_times = all(map(is_sec, self.epoch_times_json))
        require(
            are_times and len(self.epoch_times_json) == self.epochs,
            self,
            "epoch_times_json",
            f"{self.epochs} numbers {SEC_WORDS} (column epochs)",
        )
        is_share = self.test_acc is None or (is_finite(self.test_acc) and 0 <= self.test_acc <= 1)
        require(is_share, self, "test_acc", "between 0 and 1, or empty")
        require_not_negative(self, "n_stalled", "seed", "overhead_sec", "cpu_time_sec", "load_avg")
        require(self.tf32 in (None, "on", "off"), self, "tf32", "on, off or empty")
        require(self.jit_compile in (None, "on", "off"), self, "jit_compile", "on, off or empty")
        is_windowed = self.timing_mode == "steps_extrapolated"
        require(
            self.timing_mode in (None, "full_epoch", "steps_extrapolated"), self, "timing_mode", "a known timing mode"
        )
        require((self.window_steps is not None) == is_windowed, self, "window_steps", "set exactly for windowed runs")
        require_not_negative(self, "rel_spread", "rel_ci95", "host_busy_cores", "idle_sec", "max_gap_sec")
        require_positive(self, "peak_memory_bytes", "device_memory_bytes", "sm_clock_mhz", "power_limit_w")
        require_positive(self, "energy_j_per_epoch", "energy_lo_j", "energy_hi_j", "energy_j_window")
        require_positive(self, "energy_window_sec", "energy_n_epochs", "mean_power_w", "max_power_w", "cpu_energy_j")
        require(self.rel_trend is None or is_finite(self.rel_trend), self, "rel_trend", "finite")
        require(self.stop_reason in (None, *STOP_REASONS), self, "stop_reason", f"of {', '.join(STOP_REASONS)}")
        require(self.compile_cache in (None, "off", "cold", "warm"), self, "compile_cache", "off, cold or warm")
        require_energy_source(self)
        require(self.energy_estimated in (None, 0, 1), self, "energy_estimated", "0, 1 or empty")
        are_known = all(isinstance(flag, str) and flag in KNOWN_FLAGS for flag in self.flags)
        require(are_known, self, "flags", f"of {', '.join(sorted(KNOWN_FLAGS))}")
        if self.n_stalled is not None:
            says = f"with 'stalled' exactly where n_stalled is above 0 (it is {self.n_stalled})"
            require(("stalled" in self.flags) == (self.n_stalled > 0), self, "flags", says)

    @property
    def config(self) -> RunConfig:
        return RunConfig(self.depth, self.base_filters, self.batch_size)

    @property
    def conditions(self) -> Conditions:
        """The row's conditions; a published row's `tf_version` is its backend's version."""
        values = {f.name: getattr(self, f.name) for f in fields(Conditions)}
        version = self.backend_version or self.tf_version
        values["backend_version"] = None if version is None else ".".join(version.split(".")[:2])
        return Conditions(**values)

    @property
    def window_factor(self) -> float:
        """What an entry of `epoch_times_json` is multiplied by to give seconds per full epoch."""
        if self.window_steps is None:
            return 1.0
        return self.config.steps_per_epoch(self.train_n or TRAIN_N) / self.window_steps


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """One run that did not finish: a row of failures.csv."""

    timestamp_utc: str
    run_id: str
    grid_id: str | None
    status: str  # one of FAILURE_STATUSES
    exit_code: int | None
    signal: str | None
    depth: int
    base_filters: int
    batch_size: int
    epochs: int
    epoch_times_json: tuple[float, ...]  # the epochs that were timed before it ended
    wall_sec: float | None
    message: str
    spec_json: str
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        RunConfig(self.depth, self.base_filters, self.batch_size)
        require_time(self, "timestamp_utc")
        require(bool(self.run_id), self, "run_id", "given")
        require(self.status in FAILURE_STATUSES, self, "status", f"one of {', '.join(FAILURE_STATUSES)}")
        require_positive(self, "epochs", "schema_version")
        require_known_schema(self)
        are_times = all(map(is_sec, self.epoch_times_json))
        require(are_times, self, "epoch_times_json", f"numbers {SEC_WORDS}")
        require_not_negative(self, "wall_sec")

    @property
    def config(self) -> RunConfig:
        return RunConfig(self.depth, self.base_filters, self.batch_size)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One run taken back: a row of excluded.csv. Every reader of runs.csv leaves it out and says so."""

    run_id: str
    reason: str
    date: str

    def __post_init__(self) -> None:
        for name in ("run_id", "reason", "date"):
            require(bool(getattr(self, name)), self, name, "given")


@dataclass(frozen=True, slots=True)
class AggRow:
    """One configuration under one set of conditions: a row of runs_agg.csv. Times and throughput are steady ones."""

    depth: int
    base_filters: int
    batch_size: int
    params: int
    n: int  # runs in the means
    steps_per_epoch: int
    avg_time_mean: float
    avg_time_std: float | None
    thr_mean: float
    thr_std: float | None
    acc_mean: float | None
    acc_std: float | None
    device_name: str | None = None
    backend: str | None = None
    backend_version: str | None = None
    precision: str | None = None
    tf32: str | None = None
    pipeline: str | None = None
    jit_compile: str | None = None
    steps_per_execution: int | None = None
    dataset: str | None = None
    train_n: int | None = None
    timing_mode: str | None = None
    window_steps: int | None = None
    n_stalled: int | None = None  # stalled epochs left out of the runs' steady times
    n_flagged: int | None = None  # flagged runs, in the means only where there is no clean run
    first_epoch_sec_mean: float | None = None
    first_epoch_sec_std: float | None = None
    overhead_sec_mean: float | None = None
    overhead_sec_std: float | None = None
    acc_epochs: int | None = None  # the epoch count that the accuracy was measured after
    n_diverged: int | None = None  # of the runs in the means: loss NaN, or no better than guessing
    n_energy: int | None = None  # runs of measured energy without an energy flag, in the three below
    energy_j_per_epoch_median: float | None = None  # board energy of a full epoch
    energy_j_per_epoch_mad: float | None = None  # median absolute deviation; of one run unknown
    mean_power_w_median: float | None = None
    peak_memory_bytes: int | None = None  # the largest
    device_memory_bytes: int | None = None
    rel_ci95: float | None = None  # half-width of the 95 % interval of avg_time_mean by the runs' own epochs, relative

    def __post_init__(self) -> None:
        RunConfig(self.depth, self.base_filters, self.batch_size)
        require_positive(self, "params", "n", "steps_per_epoch", "thr_mean")
        require_sec(self, "avg_time_mean", "first_epoch_sec_mean")
        require_not_negative(self, "avg_time_std", "thr_std", "acc_std", "first_epoch_sec_std")
        require_not_negative(self, "overhead_sec_mean", "overhead_sec_std", "n_stalled", "n_flagged", "n_diverged")
        require_not_negative(self, "n_energy", "energy_j_per_epoch_mad", "rel_ci95")
        require_positive(self, "energy_j_per_epoch_median", "mean_power_w_median")
        require_positive(self, "peak_memory_bytes", "device_memory_bytes")
        require(self.acc_mean is None or 0 <= self.acc_mean <= 1, self, "acc_mean", "between 0 and 1, or empty")

    @property
    def config(self) -> RunConfig:
        return RunConfig(self.depth, self.base_filters, self.batch_size)

    @property
    def conditions(self) -> Conditions:
        return Conditions(**{f.name: getattr(self, f.name) for f in fields(Conditions)})


PUBLISHED_RUN_COLUMNS = 11  # a table may hold only these; the rest is then unknown
PUBLISHED_AGG_COLUMNS = 12


def from_json_dict(kind: type[Record], values: Any) -> Record:
    """A record from the dict that `to_json_dict` made of it, checked.

    Raises:
        NewerSchemaError: if a newer Epochcast wrote it.
        ValueError: names what is wrong with it.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"expected the values of a {kind.__name__}, got {type(values).__name__}.")
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]  # a dataclass of this module
    if unknown := [name for name in values if name not in known]:
        version = values.get("schema_version")
        is_newer = is_whole(version, SCHEMA_VERSION + 1)
        error = NewerSchemaError if is_newer else ValueError
        raise error(f"{kind.__name__} has no {', '.join(unknown)[:200]}" + ("; update Epochcast." if is_newer else "."))
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    except TypeError as error:  # a required one is missing
        raise ValueError(f"not a whole {kind.__name__}: {error}.") from None


def to_json_dict(record: Any) -> dict[str, Any]:
    """A record (any dataclass of this module) as a dict of plain JSON values, in column order."""
    values = ((f.name, getattr(record, f.name)) for f in fields(record))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}
