"""XLA's own account of the memory of a training step under JAX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import keras

from epochcast.live.memory.peak import COMPILER, MemoryUnknownError


class CompiledSteps:
    """Asks the compiler for the memory of a training step.

    That is arguments + outputs - what is written over arguments + temporary buffers. It is asked for shapes alone:
    nothing is run, allocated or changed. Of the fit's own batch JAX still has the program that the fit compiled. As a
    context it sees the shapes of the first batch that the model trains on.
    """

    source = COMPILER

    def __init__(self, model: keras.Model, batch: Any = None) -> None:
        self._model, self._batch = model, batch
        self._function: Any = None  # Keras's own, while this one stands in its place

    def __enter__(self) -> Self:
        # Keras hands its batches to this function alone, no callback sees one
        self._model.make_train_function()
        self._function = self._model.train_function
        vars(self._model)["train_function"] = self._train
        return self

    def __exit__(self, *_: object) -> None:
        if vars(self._model).get("train_function") == self._train:
            vars(self._model)["train_function"] = self._function

    def _train(self, state: Any, batches: Iterator[Any]) -> Any:
        """Train as Keras's own function does."""
        return self._function(state, self._seen(batches) if self._batch is None else batches)

    def _seen(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            self._batch = self._batch or _shapes_of(batch)
            yield batch

    @property
    def size(self) -> int | None:
        """Samples of the batch that was seen."""
        leaves = keras.tree.flatten(self._batch)
        return int(leaves[0].shape[0]) if leaves and leaves[0].shape else None

    def own_bytes(self) -> int:
        """Return the bytes of a step of that batch.

        Raises:
            MemoryUnknownError: if no batch was seen, or nothing was compiled.
            Exception: whatever JAX raises.
        """
        if self._batch is None:
            raise MemoryUnknownError("its training step was not seen")
        return self._bytes(self._batch)

    def bytes_at(self, size: int) -> int:
        """Return the bytes of a step with batches of `size`; raises as `own_bytes`."""
        import jax

        def resized(leaf: Any) -> Any:
            if leaf.shape[:1] != (self.size,):
                return leaf
            return jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype, weak_type=leaf.weak_type)

        return self._bytes(jax.tree.map(resized, self._batch))

    def _bytes(self, batch: Any) -> int:
        import jax

        model = self._model
        if model.run_eagerly or not model.jit_compile:
            raise MemoryUnknownError("this step is not compiled (run_eagerly, or jit_compile=False)")
        groups = (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
        state = tuple(_shapes_of([variable.value for variable in group]) for group in groups)
        step = jax.jit(model.train_step, donate_argnums=0)  # as Keras has it compiled
        account = step.lower(state, batch).compile().memory_analysis()
        if account is None:
            raise MemoryUnknownError("the compiler gives no account of it")
        found = account.argument_size_in_bytes + account.output_size_in_bytes - account.alias_size_in_bytes
        found += account.temp_size_in_bytes
        if found <= 0:
            raise MemoryUnknownError("the compiler gives no account of it")
        return int(found)


def _shapes_of(values: Any) -> Any:
    """Return arrays, in whatever structure, as shapes."""
    import jax

    def shape(value: Any) -> Any:
        return jax.ShapeDtypeStruct(value.shape, value.dtype, weak_type=getattr(value, "weak_type", False))

    return jax.tree.map(shape, values)
