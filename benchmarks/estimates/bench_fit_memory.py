"""Memory by two small batch sizes against the compiler's account: python benchmarks/estimates/bench_fit_memory.py

Each of eight networks is built under JAX on the processor, in a process of its own, and its training step compiled for
two small batch sizes and for 8, 16 and 32 times the larger of them, for shapes alone: there are no data and no step is
run. Truth is the compiler's own account of the large sizes, against which the line through the two small ones stands.
The small sizes were chosen before anything was compiled and are the same for all networks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from benchmarks.claim_parts.claim import Claim, claims_text
from benchmarks.lib.layer_models import application, cnn
from benchmarks.lib.other_networks import CLASSES
from benchmarks.lib.other_networks import NETWORKS as SMALL_NETWORKS
from epochcast.cli import add_json_flag, make_parser, run_command
from epochcast.live.memory.peak import on_line
from epochcast.output.text import memory_text, table_text
from epochcast.paths import CODE_ROOT, home
from epochcast.storage.files import write_json_atomically

SMALL = (8, 16)
TIMES = (8, 16, 32)  # the larger of them
MOST_ERROR = 10.0  # %
HEADER = ("network", "parameters", *(f"at {size}" for size in SMALL), *(f"x {n} %" for n in TIMES), "compiled in s")
Model = Any  # Keras is imported only where it is used


def u_net(size: int = 64, filters: int = 16, depth: int = 3) -> Model:
    """Convolutions down and up again, with each level's output carried across, as in U-Net."""
    import keras
    from keras import layers

    def block(x: Any, filters: int) -> Any:
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        return x

    x = inputs = keras.Input((size, size, 3))
    across = []
    for level in range(depth):
        across.append(block(x, filters * 2**level))
        x = layers.MaxPooling2D()(across[-1])
    x = block(x, filters * 2**depth)
    for level in reversed(range(depth)):
        x = layers.Conv2DTranspose(filters * 2**level, 2, strides=2)(x)
        x = block(layers.Concatenate()([x, across[level]]), filters * 2**level)
    return keras.Model(inputs, layers.Conv2D(CLASSES, 1, activation="softmax")(x))


def _small(name: str) -> Model:
    import keras

    return SMALL_NETWORKS[name][1](keras)


NETWORKS: dict[str, Callable[[], Model]] = {
    "MLP": lambda: _small("perceptron"),
    "LSTM": lambda: _small("recurrent"),
    "CNN": lambda: cnn(3, 16),
    "U-Net": u_net,
    "transformer": lambda: _small("transformer"),
    "VGG16": lambda: application("VGG16", 224),
    "ResNet50": lambda: application("ResNet50", 224),
    "MobileNetV2": lambda: application("MobileNetV2", 224),
}


def accounts(network: str) -> dict[str, Any]:
    """Return the compiler's account of a network's training step at all batch sizes, in bytes."""
    import jax

    from epochcast.live.memory.compiled_steps import CompiledSteps

    model = NETWORKS[network]()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    batch = (
        jax.ShapeDtypeStruct((1, *model.input_shape[1:]), "float32"),
        jax.ShapeDtypeStruct((1, *model.output_shape[1:-1]), "int32"),
    )
    model._symbolic_build(data_batch=batch)  # no public way builds optimizer, loss and metrics without a step
    steps = CompiledSteps(model, batch)
    begin = time.perf_counter()
    found = [steps.bytes_at(size) for size in (*SMALL, *(n * SMALL[-1] for n in TIMES))]
    sec = (time.perf_counter() - begin) / len(found)
    return {"network": network, "params": model.count_params(), "bytes": found, "compile_sec": sec}


def in_a_process(network: str) -> dict[str, Any]:
    """Return the accounts by a process of its own."""
    known = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(CODE_ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--child", network]
    done = subprocess.run(command, env={**os.environ, **known}, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def errors(found: dict[str, Any]) -> list[float]:
    """Return the relative errors of the line at the large sizes, in %."""
    first, last = zip(SMALL, found["bytes"], strict=False)
    large = found["bytes"][len(SMALL) :]
    return [100 * (on_line(first, last, n * SMALL[-1]) / true - 1) for n, true in zip(TIMES, large, strict=True)]


def reach(all_found: Sequence[dict[str, Any]]) -> list[Claim]:
    """Judge the line by the target, for each network and in all."""
    worst = {found["network"]: max(errors(found), key=abs) for found in all_found}
    claims = [
        Claim(f"{name}, worst error", f"{error:+.1f} %", f"<= {MOST_ERROR:g} %", abs(error) <= MOST_ERROR)
        for name, error in worst.items()
    ]
    n = sum(bool(claim.reached) for claim in claims)
    return [*claims, Claim("networks within it", f"{n} of {len(claims)}", "all", n == len(claims))]


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "bench_fit_memory.py",
        (__doc__ or "").partition("\n")[0],
        "python benchmarks/estimates/bench_fit_memory.py --networks MLP LSTM",
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="networks to compile")
    parser.add_argument("--child", choices=NETWORKS, help=argparse.SUPPRESS)
    add_json_flag(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.child is not None:
        print(json.dumps(accounts(arguments.child)))
        return 0

    def work() -> int:
        all_found = []
        for network in arguments.networks:
            all_found.append(in_a_process(network))
            print(json.dumps(all_found[-1]), file=sys.stderr, flush=True)
        path = home() / "results" / "benchmarks" / "fit_memory.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomically(path, {"networks": all_found, "small": SMALL, "times": TIMES})
        if arguments.json:
            print(json.dumps(all_found))
            return 0
        rows = [
            [
                found["network"],
                f"{found['params']:,}",
                *(memory_text(size) for size in found["bytes"][: len(SMALL)]),
                *(f"{error:+.1f}" for error in errors(found)),
                found["compile_sec"],
            ]
            for found in all_found
        ]
        print(table_text(HEADER, rows))
        print(claims_text(reach(all_found)))
        return 0

    return run_command(work)
