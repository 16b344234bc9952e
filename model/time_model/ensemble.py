"""An ensemble of small networks, evaluated by NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from epochcast.model.time_model.physics import Array

ACTIVATIONS = ("silu", "relu")


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """Member networks side by side.

    Layer i has a kernel of shape (members, inputs, units) and a bias (members, units); the last has one unit.
    `activation` follows every layer but the last.
    """

    kernels: tuple[Array, ...]
    biases: tuple[Array, ...]
    activation: str = "silu"

    @classmethod
    def zero(cls, n_features: int) -> Ensemble:
        """Return one member without hidden layers whose output is 0: physics alone answers."""
        return cls((np.zeros((1, n_features, 1)),), (np.zeros((1, 1)),))

    @property
    def is_zero(self) -> bool:
        """Whether the output is 0 whatever the input."""
        return not (self.kernels[-1].any() or self.biases[-1].any())

    def outputs(self, x: Array) -> Array:
        """Return the members' outputs, shape (n, members), for standardised features of shape (n, features)."""
        h = np.broadcast_to(x[:, None, :], (len(x), self.kernels[0].shape[0], x.shape[1]))
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            h = np.einsum("nmi,mio->nmo", h, kernel) + bias
            if i < len(self.kernels) - 1:
                # silu as h * sigmoid(h), without its overflow far outside
                h = h * 0.5 * (1 + np.tanh(h / 2)) if self.activation == "silu" else np.maximum(h, 0)
        return h[:, :, 0]
