"""Networks in place of trained ones: random hidden layers, the last layer by least squares, no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from epochcast.model.time_model.ensemble import Ensemble
from epochcast.model.time_model.physics import Array
from epochcast.model.training.time_ann import HIDDEN, MEMBERS, first_kernels
from epochcast.output.progress import Say

PENALTY = 2e-3  # of squared weights of the last layer, per row


def quick_ensembles(x: Array, y: Array, weights: Array, seeds: Sequence[int], say: Say | None = None) -> list[Ensemble]:
    """Return what `fit_ensembles` returns, in milliseconds: networks of its shape that learn the rows about as well.

    As there, an ensemble depends on its own rows and seed alone. Training itself is tested in test_time_ann.py and
    test_recipes.py; what is decided about networks, and what is kept of them, needs only that they are networks.
    """
    fitted = []
    for i, (own_x, own_y, own_weights, seed) in enumerate(zip(x, y, weights, seeds, strict=True)):
        kernels = first_kernels((x.shape[2], *HIDDEN, 1), MEMBERS, seed)
        hidden = np.repeat(own_x[None], MEMBERS, axis=0)
        for kernel in kernels[:-1]:
            hidden = hidden @ kernel
            hidden = hidden / (1 + np.exp(-hidden))  # silu
        hidden = hidden[:, own_weights > 0]
        gram = hidden.swapaxes(1, 2) @ hidden + PENALTY * hidden.shape[1] * np.eye(hidden.shape[2])
        last = np.linalg.solve(gram, hidden.swapaxes(1, 2) @ own_y[own_weights > 0, None])
        biases = tuple(np.zeros((MEMBERS, kernel.shape[2])) for kernel in kernels)
        # numbers of single precision, as Keras saves them: a file of them reads back equal
        fitted.append(
            Ensemble(tuple(k.astype(np.float32).astype(float) for k in (*kernels[:-1], last)), biases, "silu")
        )
        if say:
            say((i + 1) / len(seeds))
    return fitted


def use_quick_networks(patch: pytest.MonkeyPatch) -> None:
    """Let the physics + network recipe take quick networks while the patch lasts."""
    patch.setattr("epochcast.model.training.recipes.fit_ensembles", quick_ensembles)
