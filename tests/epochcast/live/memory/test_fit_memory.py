"""Peak memory of a fit that is tried: by JAX's compiler really, by an allocator of a GPU that this machine lacks.

The GPU is a double at the edge of TensorFlow: its allocator's peak follows the batches that a real fit trains, on the
processor. PyTorch's is a double altogether (tests/epochcast/machine/test_device_memory.py).
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from epochcast.facts.assumptions import assumption
from epochcast.live.memory.peak import ALLOCATOR, COMPILER, PeakMemory
from epochcast.machine.framework import keras_on_cpu
from epochcast.machine.gpu.vendor import Device
from tests.support.jax_child import run_on_jax
from tests.support.real_child import BLOCK_TENSORFLOW

keras = keras_on_cpu()

from epochcast.live import estimate as estimates  # noqa: E402  # Keras starts on the processor
from epochcast.live.fit_rows import estimate_row  # noqa: E402
from epochcast.live.memory import fit_memory  # noqa: E402

MIB = 2**20
X, Y = np.zeros((256, 4), "float32"), np.zeros((256, 1), "float32")


def gpu(memory_mib):
    return Device("gpu", "made-up GPU", gpu_memory_bytes=round(memory_mib * MIB))


# --- an allocator -----------------------------------------------------------------------------------------------------


class Allocator:
    """An allocator of 100 MiB for the weights and 1 MiB for each sample of a step."""

    def __init__(self):
        self.peak = 0
        self.full_mib = None  # beyond it there is no more memory

    def hold(self, samples):
        if self.full_mib is not None and 100 + samples > self.full_mib:
            raise MemoryError("OOM when allocating")
        self.peak = max(self.peak, (100 + samples) * MIB)

    def reset(self, device):
        assert device == "GPU:0"
        self.peak = 100 * MIB


@pytest.fixture
def allocator(monkeypatch):
    """TensorFlow's answers about a GPU, which this machine does not have."""
    import tensorflow as tf

    made = Allocator()
    real = tf.config.list_physical_devices
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU"] if kind == "GPU" else real(kind))
    monkeypatch.setattr(tf.config.experimental, "get_memory_info", lambda device: {"current": 0, "peak": made.peak})
    monkeypatch.setattr(tf.config.experimental, "reset_memory_stats", made.reset)
    monkeypatch.setattr(estimates, "device_of_training", lambda: gpu(1000))
    return made


def network(allocator):
    class Held(keras.layers.Layer):
        def call(self, x):
            allocator.hold(x.shape[0] or 0)  # None where Keras builds the model
            return x

    model = keras.Sequential([keras.Input((4,)), Held(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def estimated(model, x=X, y=Y, max_batch=True, **options):
    return estimates.estimate_fit(model, x, y, {"epochs": 3, **options}, 0.1, max_batch=max_batch)


def test_on_a_gpu_the_peak_of_the_first_steps_is_the_frameworks_own(allocator, monkeypatch):
    allocator.peak = 999 * MIB  # of something before
    found = estimated(
        network(allocator), batch_size=32, max_batch=False, validation_data=(X, Y), validation_batch_size=200
    )
    usable = int(assumption("memory_usable", "gpu").value * 1000 * MIB)
    assert found.memory == PeakMemory(132 * MIB, 32, ALLOCATOR, usable, found.memory.ask_sec)
    assert found.max_batch is None
    assert "memory: 132 MiB of 900 MiB at batch size 32, by the framework's own peak" in str(found).splitlines()
    assert estimate_row(found).peak_memory_bytes == 132 * MIB


def test_the_largest_batch_is_on_the_line_through_the_fit_and_half_its_size(allocator):
    found = estimated(network(allocator), batch_size=128).max_batch
    assert found.tried == ((64, 164 * MIB), (128, 228 * MIB))
    assert (found.size, found.bytes, found.is_at_least, found.is_confirmed) == (800, 900 * MIB, False, False)


def test_beyond_eight_times_what_was_tried_no_answer_is_given(allocator):
    answer = estimated(network(allocator), batch_size=32)
    assert (answer.max_batch.size, answer.max_batch.is_at_least) == (256, True)
    (line,) = [line for line in str(answer).splitlines() if line.startswith("max_batch: ")]
    assert line.startswith("max_batch: at least 256 (8 x what was tried, ")


def test_batches_of_a_tf_data_set_are_cut_and_those_of_a_py_dataset_can_not_be(allocator):
    import tensorflow as tf

    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, at):
            return X[:64], Y[:64]

    pipeline = tf.data.Dataset.from_tensor_slices((X, Y)).batch(64)
    found = estimated(network(allocator), pipeline, None, shuffle=False)
    assert found.max_batch.tried == ((32, 132 * MIB), (64, 164 * MIB))
    found = estimated(network(allocator), Data(), None)
    assert (found.memory.bytes, found.memory.batch_size, found.max_batch.size) == (164 * MIB, 64, None)
    assert found.max_batch.why == "only arrays and a tf.data.Dataset can be tried with another batch size"


def test_no_memory_for_the_second_size_leaves_the_estimate(allocator, monkeypatch):
    model = network(allocator)
    real = estimates.fit_memory

    def when_full(*given):  # by other programs, since the fit was tried
        allocator.full_mib = 110
        return real(*given)

    monkeypatch.setattr(estimates, "fit_memory", when_full)
    found = estimated(model, batch_size=32)
    assert found.memory.bytes == 132 * MIB
    assert found.total.value > 0
    assert found.max_batch.size is None
    assert "OOM when allocating" in found.max_batch.why


def test_an_allocator_that_can_not_be_asked_is_a_note(allocator, monkeypatch):
    import tensorflow as tf

    def fail(device):
        raise ValueError("Memory statistics not tracked")

    monkeypatch.setattr(tf.config.experimental, "get_memory_info", fail)
    found = estimated(network(allocator), batch_size=32)
    assert found.memory is None
    assert "Peak memory is unknown: ValueError: Memory statistics not tracked." in found.notes
    assert found.max_batch.why == "its peak memory is unknown"


def test_on_a_processor_tensorflow_says_nothing_and_one_note_says_why():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    found = estimated(model, batch_size=32)
    assert found.memory is None
    assert [note for note in found.notes if "memory" in note] == [
        "Peak memory is unknown: tensorflow reports it on a GPU only."
    ]
    assert estimate_row(found).peak_memory_bytes is None
    lines = [line for line in str(found).splitlines() if "memory" in line]
    assert lines == ["max_batch: unknown (its peak memory is unknown)", f"note: {found.notes[-1]}"]


@pytest.mark.parametrize(
    ("limit", "device", "usable"),
    [
        (None, Device("cpu", "AMD EPYC (2 cores)"), None),
        (None, Device("gpu", "made-up GPU"), None),
        (None, gpu(1000), 900 * MIB),
        (750 * MIB, gpu(1000), 750 * MIB),
    ],
)
def test_the_memory_that_a_fit_may_use_is_the_frameworks_limit_else_a_share_of_the_gpu(
    monkeypatch, limit, device, usable
):
    monkeypatch.setattr(fit_memory, "memory_limit_bytes", lambda backend: limit)
    assert fit_memory.usable_bytes("jax", device) == usable


# --- a compiler -------------------------------------------------------------------------------------------------------

CHILD = """
import json
import jax, keras, numpy as np
from epochcast.live.estimate import estimate_fit
from epochcast.live.memory.compiled_steps import CompiledSteps
from epochcast.live.memory.fit_memory import fit_memory
from epochcast.live.sampling.fit_passes import FitTraining
from epochcast.machine.gpu.vendor import Device

n_compiled = 0

def count(name, sec, **more):
    global n_compiled
    n_compiled += name == "/jax/core/compile/backend_compile_duration"

jax.monitoring.register_event_duration_secs_listener(count)
x, y = np.zeros((256, 100), "float32"), np.zeros((256, 1), "float32")
told = {}

class Picky(keras.layers.Layer):
    def call(self, x):
        if x.shape[0] == 24:
            raise MemoryError("RESOURCE_EXHAUSTED")
        return x

def network(**how):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input((100,)), Picky(), keras.layers.Dense(300, "relu"), keras.layers.Dropout(0.2), keras.layers.Dense(1)
    ])
    model.compile("adam", "mse", metrics=["mae"], **how)
    return model

def values(model):
    return [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in model.variables]

def account(model, size):
    "By a compilation of its own."
    groups = [model.trainable_variables, model.non_trainable_variables]
    groups += [model.optimizer.variables, model.metrics_variables]
    state = tuple([jax.ShapeDtypeStruct(v.shape, v.dtype) for v in group] for group in groups)
    batch = jax.ShapeDtypeStruct((size, 100), "float32"), jax.ShapeDtypeStruct((size, 1), "float32")
    step = jax.jit(lambda *given: model.train_step(*given), donate_argnums=0)
    found = step.lower(state, batch).compile().memory_analysis()
    return (found.argument_size_in_bytes + found.temp_size_in_bytes
            + found.output_size_in_bytes - found.alias_size_in_bytes)

model = network()
steps = CompiledSteps(model)
with steps:
    training = FitTraining(model, x, y, {"batch_size": 64, "epochs": 2}, 1.0)
told["put back"] = model.train_function == steps._function
before = n_compiled
weights = values(model)
told["own"] = [steps.size, steps.own_bytes()]
told["compiled for it"] = n_compiled - before
told["other"] = steps.bytes_at(32)
told["compiled for others"] = n_compiled - before
told["same weights"] = all((a == b).all() for a, b in zip(weights, values(model)))
told["by itself"] = [account(model, size) for size in (64, 32)]

def asked(n_bytes, size=64):
    device = Device("gpu", "made-up GPU", gpu_memory_bytes=n_bytes)
    found = fit_memory(steps, training, None, device, True)
    return [found.max_batch.size, found.max_batch.is_at_least, found.max_batch.bytes, found.max_batch.why]

told["limit"] = steps.bytes_at(300)
told["largest"] = asked(round(told["limit"] / 0.9) + 9)
told["farthest"] = asked(10**10)

picky = network()
found = estimate_fit(picky, x[:240], y[:240], {"batch_size": 48, "epochs": 2}, 0.2, max_batch=True)
told["estimate"] = [str(found), found.memory.batch_size, found.memory.bytes, found.memory.source]
with CompiledSteps(picky) as steps:
    FitTraining(picky, x[:240], y[:240], {"batch_size": 48, "epochs": 2}, 1.0)
told["no memory"] = [asked(10**8), steps.own_bytes() == found.memory.bytes]
eager = CompiledSteps(network(run_eagerly=True), batch=(x[:64], y[:64]))
found = fit_memory(eager, training, None, Device("cpu", "AMD EPYC (2 cores)"), False)
told["eager"] = [found.peak, found.max_batch, found.notes]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a process of JAX says of its compiler."""
    return json.loads(run_on_jax(BLOCK_TENSORFLOW + CHILD, tmp_path_factory.mktemp("jax")).splitlines()[-1])


def test_the_compilers_account_of_the_fits_own_step_compiles_nothing(told):
    assert told["own"] == [64, told["by itself"][0]]
    assert told["compiled for it"] == 0
    # weights, both moments and their like, and the batch are in it
    assert told["own"][1] > 3 * 4 * (100 * 300 + 300) + 4 * 64 * 101


def test_other_sizes_are_compiled_and_change_nothing(told):
    assert told["other"] == told["by itself"][1]
    assert told["compiled for others"] == 1
    assert told["put back"] and told["same weights"]


def test_the_largest_batch_is_confirmed_by_the_compiler(told):
    size, is_at_least, n_bytes, why = told["largest"]
    assert (is_at_least, why) == (False, None)
    assert n_bytes <= told["limit"]
    assert 280 <= size <= 320
    assert told["farthest"][:2] == [512, True]


def test_an_estimate_says_the_compilers_account_of_the_hosts_memory(told):
    text, size, n_bytes, source = told["estimate"]
    assert (size, source) == (48, COMPILER)
    lines = text.splitlines()
    (line,) = [line for line in lines if line.startswith("memory: ")]
    assert 4 * 48 * 101 < n_bytes < MIB
    assert line.startswith("memory: under 1 MiB of the host's at batch size 48, by the compiler's account")
    assert "max_batch: unknown (a processor has no memory of its own)" in lines


def test_a_size_that_can_not_be_compiled_leaves_the_own_one(told):
    (size, _, _, why), is_same = told["no memory"]
    assert size is None
    assert "RESOURCE_EXHAUSTED" in why
    assert is_same


def test_a_step_that_is_not_compiled_has_no_account(told):
    assert told["eager"] == [
        None,
        None,
        ["Peak memory is unknown: this step is not compiled (run_eagerly, or jit_compile=False)."],
    ]
