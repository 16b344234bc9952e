"""What JAX's compiler says of a saved network's memory, asked in another process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from epochcast.keras_files.inputs import SampleShape
from epochcast.model.explanation.memory import ExactMemory
from epochcast.output.text import json_line
from epochcast.paths import CODE_ROOT
from epochcast.text_sinks import shortened

LONGEST = 300  # characters of another library's message
CHILD = (
    "import sys; sys.path[0] = sys.argv[1]; from epochcast.model.explanation.exact_memory import answer; "
    "print(answer(sys.argv[2]))"
)


def exact_memory(path: Path, batch_size: int, sample_shape: SampleShape, code: Sequence[Path]) -> ExactMemory:
    """Return the compiler's account, for the device that JAX takes; nothing is trained.

    The process is another one, so that this one's Keras may stay on the processor, whatever its backend. The network
    has the precision that it was saved in, its own optimizer, else Adam, and a mean squared error as its loss.

    Raises:
        ValueError: if there is no JAX, or it can't say.
    """
    if importlib.util.find_spec("jax") is None:
        raise ValueError('--memory exact asks JAX\'s compiler, and JAX is not installed: pip install "epochcast[jax]".')
    begin = time.perf_counter()
    asked = {"path": str(path), "batch_size": batch_size, "shape": sample_shape, "code": [str(each) for each in code]}
    environment = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(CODE_ROOT), json.dumps(asked)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        found = json.loads(done.stdout.splitlines()[-1])
    else:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        found = {"error": f"its process ended with exit code {done.returncode}: {last}"}
    if "error" in found:
        raise ValueError(f"{path.absolute()}: the compiler can't say its memory: {shortened(found['error'], LONGEST)}")
    return ExactMemory(found["bytes"], found["device"], time.perf_counter() - begin)


def answer(request: str) -> str:
    """Return the account that is asked for, or why there is none; both are JSON."""
    try:
        return json_line(_account(**json.loads(request)))
    except Exception as error:  # whatever Keras, JAX and the author's code raise
        return json_line({"error": f"{type(error).__name__}: {error}"})


def _account(path: str, batch_size: int, shape: Any, code: Sequence[str]) -> dict[str, Any]:
    """Compile the training step for shapes alone."""
    import jax
    import keras

    from epochcast.keras_files.author_code import author_code
    from epochcast.keras_files.inputs import build_if_needed
    from epochcast.keras_files.rebuild import prepared, read_saved, rebuilt
    from epochcast.keras_layers.read_layers import input_specs
    from epochcast.live.memory.compiled_steps import CompiledSteps

    saved = read_saved(Path(path))
    with author_code([Path(each) for each in code]) as given:
        model = rebuilt(prepared(saved, given, allow_unknown=False))
        build_if_needed(model, shape)
        optimizer: Any = "adam"
        if saved.optimizer is not None:
            optimizer = keras.saving.deserialize_keras_object(saved.optimizer, custom_objects=dict(given))
        (inputs,), _ = input_specs(model, tuple(shape) if isinstance(shape, list) else shape)
        outputs = model.compute_output_spec(inputs)
        model.compile(optimizer, keras.tree.map_structure(lambda _: "mse", outputs), jit_compile=True)

        def sized(spec: Any) -> Any:  # a Keras tensor
            return jax.ShapeDtypeStruct((batch_size, *spec.shape[1:]), spec.dtype)

        batch = tuple(keras.tree.map_structure(sized, each) for each in (inputs, outputs))
        model._symbolic_build(data_batch=batch)  # no public way builds optimizer, loss and metrics without a step
        found = CompiledSteps(model, batch).own_bytes()
    return {"bytes": found, "device": jax.devices()[0].device_kind}
