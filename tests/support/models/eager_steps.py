"""Training whose few steps run one by one, untraced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def eager_steps() -> Iterator[None]:
    """Run TensorFlow's functions without tracing them while the context lasts; the weights are the same bits."""
    from epochcast.machine.framework import keras_on_cpu

    keras_on_cpu()
    import tensorflow

    tensorflow.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tensorflow.config.run_functions_eagerly(False)
