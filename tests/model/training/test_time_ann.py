"""The Keras network: repeatable, fitted to its own rows alone, the same in NumPy, saved as built-in layers only."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from itertools import pairwise

import numpy as np
import pytest

from epochcast.model.time_model.ensemble import ACTIVATIONS, Ensemble
from epochcast.model.training import time_ann
from epochcast.model.training.time_ann import MEMBERS, fit_ensembles, keras_bytes, keras_model
from epochcast.paths import CODE_ROOT
from tests.support.real_child import lean_keras

N = 10
STEPS = 300  # of 1,500: enough for so few rows
X = np.random.default_rng(0).normal(size=(N, 3))
Y = np.sin(X.sum(axis=1)) + 0.3 * X[:, 0]
FAR = 1e30  # its loss is no number, though its weight is 0
ALL, BUT_LAST = np.ones(N), (np.arange(N) < N - 1).astype(float)
SEEDS = [0, 1, 0, 0]
X_STACK = np.stack([X, X, X, np.vstack([X[:-1], [[7.0, -3.0, 2.0]]])])
Y_STACK = np.stack([Y, Y, Y, [*Y[:-1], FAR]])
WEIGHTS = np.stack([ALL, ALL, BUT_LAST, BUT_LAST])
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": None, "JAX_PLATFORMS": "as it was", "TF_CPP_MIN_LOG_LEVEL": "1"}
CHILD = """
import json, os, sys
import numpy as np
from epochcast.model.training import time_ann
time_ann.STEPS = int(sys.argv[4])
given = np.load(sys.argv[1])
networks = time_ann.fit_ensembles(given["x"], given["y"], given["weights"], given["seeds"].tolist())
np.savez(sys.argv[2], **{f"{i}.{j}": a for i, n in enumerate(networks) for j, a in enumerate((*n.kernels, *n.biases))})
print(json.dumps({name: os.environ.get(name) for name in json.loads(sys.argv[3])}))
"""


def digest(arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


@pytest.fixture(scope="module")
def told():
    """What the fit told of its progress."""
    return []


@pytest.fixture(scope="module")
def fitted(told):
    """Ensembles of two seeds on all rows, and two without the last row, which is elsewhere in one of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_ann, "STEPS", STEPS)
        return fit_ensembles(X_STACK, Y_STACK, WEIGHTS, SEEDS, told.append)


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    """The same fit in a process of its own: its weights, what it said, and the environment that it ended with."""
    folder = tmp_path_factory.mktemp("child")
    names = ("given.npz", "weights.npz")
    np.savez(folder / "given.npz", x=X_STACK, y=Y_STACK, weights=WEIGHTS, seeds=SEEDS)
    environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    environment |= {name: value for name, value in ENVIRONMENT.items() if value is not None}
    environment["PYTHONPATH"] = lean_keras(folder)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *(folder / name for name in names), json.dumps(list(ENVIRONMENT)), str(STEPS)],
        cwd=CODE_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    with np.load(folder / "weights.npz") as weights:
        return {name: weights[name] for name in weights.files}, done


def random_network(activation, seed=0, members=4, units=(3, 8, 6, 1)):
    random = np.random.default_rng(seed)
    kernels = tuple(random.normal(size=(members, i, o)) for i, o in pairwise(units))
    return Ensemble(kernels, tuple(random.normal(size=(members, o)) for o in units[1:]), activation)


def test_a_network_learns_the_rows_that_it_was_given(fitted):
    for network, weights in zip(fitted, WEIGHTS, strict=True):
        answers = np.median(network.outputs(X), axis=1)
        own = weights > 0
        np.testing.assert_allclose(answers[own], Y[own], atol=0.01)  # standard deviations; 300 steps end within


def test_the_ensemble_has_as_many_members_as_rows_here_and_they_differ(fitted):
    assert len(X) == MEMBERS  # which hides a wrong broadcast of (n, 1) against (n, members)
    for network in fitted:
        assert len(network.kernels[0]) == MEMBERS
        assert len({kernel.tobytes() for kernel in network.kernels[0]}) == MEMBERS


def test_a_row_of_weight_zero_changes_nothing(fitted):
    # one part in 1,000 for the place in the stack: its sums may be added in another order
    for a, b in zip(fitted[2].kernels, fitted[3].kernels, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert not np.allclose(fitted[2].kernels[0], fitted[0].kernels[0], rtol=1e-3)


def test_another_seed_gives_other_weights(fitted):
    shared = np.isclose(fitted[0].kernels[0], fitted[1].kernels[0]).mean()
    assert shared < 0.05  # of 960 numbers a few may be close by chance


def test_weights_of_a_seed_are_equal_bit_for_bit_in_another_process(fitted, child):
    weights, _ = child
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float64)}
    own = [a for network in fitted for a in (*network.kernels, *network.biases)]
    assert digest(own) == digest(weights.values())


def test_starting_keras_is_silent_and_leaves_the_environment_as_it_was(child):
    _, done = child
    assert json.loads(done.stdout) == ENVIRONMENT
    assert done.stderr == ""


def test_a_fit_tells_rising_shares_that_end_in_one(fitted, told):
    assert told == sorted(set(told))
    assert 0 < told[0] < told[-1] == 1


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_numpy_and_keras_give_the_same_outputs(activation, fitted):
    x = np.random.default_rng(1).normal(size=(50, 3)) * 3
    for network in [random_network(activation), *([fitted[0]] if activation == "silu" else [])]:
        by_keras = np.asarray(keras_model(network)(x.astype(np.float32)))
        assert by_keras.shape == network.outputs(x).shape
        # Keras computes in single precision: 1e-4 is what docs/method.md says of it
        np.testing.assert_allclose(by_keras, network.outputs(x), rtol=1e-4, atol=1e-5)


def test_a_zero_network_is_zero_in_keras_too():
    np.testing.assert_array_equal(np.asarray(keras_model(Ensemble.zero(3))(X.astype(np.float32))), 0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_saved_network_gives_the_same_outputs_when_keras_reads_it(activation, tmp_path):
    import keras

    network = random_network(activation, seed=2)
    (tmp_path / "model.keras").write_bytes(keras_bytes(network))
    read = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    expected = np.asarray(keras_model(network)(X.astype(np.float32)))
    np.testing.assert_allclose(np.asarray(read(X.astype(np.float32))), expected, rtol=1e-6)  # single precision


def test_a_saved_network_has_only_built_in_layers_and_no_optimizer(tmp_path):
    import h5py
    import keras

    path = tmp_path / "model.keras"
    path.write_bytes(keras_bytes(random_network("silu")))
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            assert "optimizer" not in weights
    assert {layer["module"] for layer in config["config"]["layers"]} == {"keras.layers"}
    assert not config["compile_config"]
    assert getattr(keras.models.load_model(path, safe_mode=True), "optimizer", None) is None
