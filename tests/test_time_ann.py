"""The network: repeatable, fitted to its own rows alone, saved as built-in layers without an optimizer."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from epochcast.paths import CODE_ROOT
from epochcast.schema import RunConfig
from model.features import feature_matrix
from model.time_ann import MEMBERS, fit_ensembles, save_keras

CONFIGS = [
    RunConfig(depth, (16, 32, 64)[i % 3], (64, 256)[i % 2]) for i, depth in enumerate([2, 2, 2, 3, 3, 3, 4, 4, 5, 5])
]
FEATURES = feature_matrix(CONFIGS)
LOG_TIME = 0.3 * FEATURES[:, 0] + 0.3 * FEATURES[:, 1] - 0.4 * FEATURES[:, 2] + 0.1 * np.sin(3 * FEATURES.sum(axis=1))
ALL, BUT_LAST = np.ones(10, bool), np.arange(10) < 9
MASKS = np.array([ALL, BUT_LAST])


@pytest.fixture(scope="module")
def fitted():
    """An ensemble on all rows and one without the last; as many rows as members, which hides a wrong broadcast."""
    assert len(MASKS) * MEMBERS == len(CONFIGS)
    return fit_ensembles(FEATURES, LOG_TIME, MASKS, seed=0)


def numbers(model):
    """Everything that a time model predicts with, in one vector."""
    arrays = (*model.network.kernels, *model.network.biases, model.feature_mean, model.feature_scale, model.law)
    return np.concatenate([*(a.ravel() for a in arrays), [model.residual_scale]])


def test_a_network_learns_the_rows_that_it_was_given(fitted):
    on_all, without_last = fitted
    np.testing.assert_allclose(on_all.times(CONFIGS), np.exp(LOG_TIME), rtol=0.01)  # 1,500 steps end within 1 %
    np.testing.assert_allclose(without_last.times(CONFIGS[:9]), np.exp(LOG_TIME[:9]), rtol=0.01)


def test_a_row_masked_out_changes_nothing_and_a_fit_repeats_bit_for_bit(fitted):
    features, log_time = FEATURES.copy(), LOG_TIME.copy()
    features[9] += [7, 3, -2]
    log_time[9] = 1e30  # so far off that its loss is no number, though its weight is 0
    refitted = fit_ensembles(features, log_time, np.array([BUT_LAST, BUT_LAST]), seed=0)
    np.testing.assert_array_equal(numbers(refitted[1]), numbers(fitted[1]))


def test_a_row_of_the_mask_does_change_the_ensemble(fitted):
    on_all, without_last = fitted
    assert not np.array_equal(on_all.law, without_last.law)
    np.testing.assert_allclose(on_all.feature_mean, FEATURES.mean(axis=0))
    np.testing.assert_allclose(without_last.feature_mean, FEATURES[:9].mean(axis=0))


def test_another_seed_gives_other_weights(fitted):
    other = fit_ensembles(FEATURES, LOG_TIME, MASKS, seed=1)
    assert not np.isclose(other[0].network.kernels[0], fitted[0].network.kernels[0]).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(other[0].law, fitted[0].law)


def test_members_differ_in_their_first_weights(fitted):
    kernels = fitted[0].network.kernels[0]
    assert len({kernel.tobytes() for kernel in kernels}) == MEMBERS


def test_one_row_is_too_few_to_fit():
    with pytest.raises(ValueError, match="at least two rows"):
        fit_ensembles(FEATURES, LOG_TIME, np.array([ALL, np.arange(10) < 1]), seed=0)


def test_a_saved_network_has_only_built_in_layers_and_no_optimizer(fitted, tmp_path):
    import h5py
    import keras

    path = tmp_path / "new" / "model.keras"
    save_keras(fitted[0], path)
    assert [file.name for file in path.parent.iterdir()] == ["model.keras"]
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            assert "optimizer" not in weights
    assert {layer["module"] for layer in config["config"]["layers"]} == {"keras.layers"}
    assert not config["compile_config"]
    assert getattr(keras.models.load_model(path, safe_mode=True), "optimizer", None) is None


def test_an_unwritable_path_is_named(fitted, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="a file, not a folder") as caught:
        save_keras(fitted[0], tmp_path / "file" / "model.keras")
    assert caught.value.filename == str(tmp_path / "file")


CHILD = """
import json, os
os.environ["JAX_PLATFORMS"] = "as it was"
from model.time_ann import _keras
before = dict(os.environ)
keras = _keras()
names = ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", "TF_CPP_MIN_LOG_LEVEL")
print(json.dumps([{n: e.get(n) for n in names} for e in (before, os.environ)]))
"""


def test_starting_keras_is_silent_and_leaves_the_environment_as_it_was(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    child = subprocess.run([sys.executable, "-c", CHILD], cwd=CODE_ROOT, capture_output=True, text=True, check=True)
    before, after = json.loads(child.stdout)
    assert after == before == {"CUDA_VISIBLE_DEVICES": None, "JAX_PLATFORMS": "as it was", "TF_CPP_MIN_LOG_LEVEL": "1"}
    assert child.stderr == ""
