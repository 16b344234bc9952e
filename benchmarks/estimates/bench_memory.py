"""How true the estimate of peak memory is of XLA's own account on CPU: python benchmarks/estimates/bench_memory.py

For each configuration the real Keras training step is compiled by JAX, and not run: arguments and temporary buffers of
`memory_analysis()` are what it takes. Without XLA a step of TensorFlow is run, and what the process grew by stands for
what the compiler would tell, more roughly. The form and its factors were read off the configurations marked `fit`, the
ends of XLA's band off those marked `ends fit`; the `held` ones judge them. Where JAX finds a GPU, each configuration is
also trained for two steps there, and the allocator's peak stands next to the estimate for the GPU: the law of any
network. `a100` prints that law next to the closed form for the configurations of the reference table, which all ran.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from benchmarks.lib.reference_table import published_rows
from epochcast.machine.host.host import cpu_name
from epochcast.output.text import percent, table_text
from epochcast.paths import CODE_ROOT, home
from epochcast.schema import Conditions, RunConfig
from epochcast.storage.files import write_json_atomically
from epochcast.workload.memory import TOO_LARGE, MemoryModel, closed_form, plain_arrays

FIT = [(2, 8, 128), (2, 16, 128), (2, 64, 1024), (3, 8, 256), (3, 32, 512), (4, 8, 1024), (4, 64, 256)]
HELD = [(2, 8, 1024), (2, 32, 64), (2, 32, 300), (3, 16, 100), (3, 64, 128), (3, 8, 32), (4, 16, 32), (4, 32, 512)]
# other depths and precisions: not what the factors are for, and the reason for the ends of the band
ENDS_FIT = [
    *((config, "float32") for config in [(1, 16, 128), (5, 64, 64), (6, 8, 64)]),
    *((config, "mixed_float16") for config in [(1, 16, 64), (3, 8, 64), (4, 64, 256)]),
    *((config, "mixed_bfloat16") for config in [(1, 16, 64), (5, 16, 64)]),
]
ENDS_HELD = [
    *((config, "float32") for config in [(1, 32, 200), (5, 32, 100), (6, 16, 32)]),
    *((config, "mixed_float16") for config in [(2, 32, 64), (4, 16, 100)]),
    *((config, "mixed_bfloat16") for config in [(2, 32, 64), (4, 16, 100)]),
]
WITHOUT_XLA = [
    *(("fit", config, "float32") for config in [(2, 64, 256), (4, 16, 512), (3, 32, 256)]),
    *(
        ("held", config, "float32")
        for config in [(2, 32, 512), (2, 16, 1024), (3, 64, 128), (4, 32, 256), (4, 64, 200)]
    ),
]
CASES = [
    *(("fit", config, "float32") for config in FIT),
    *(("held", config, "float32") for config in HELD),
    *(("ends fit", *case) for case in ENDS_FIT),
    *(("ends held", *case) for case in ENDS_HELD),
]
MB = 10**6
PLATFORMS = ("cpu", "cpu without XLA", "gpu")
REFERENCE = "a100"
BOARDS_GB = (40, 80)  # of an A100


def compiled_bytes(config: RunConfig, precision: str) -> int:
    """Bytes that the compiled training step takes: its arguments, outputs that are not written over them, buffers."""
    import jax
    import keras
    import numpy as np

    from epochcast.workload.cnn import build_model, compile_model

    keras.config.set_dtype_policy(precision)
    model = build_model(config)
    compile_model(model, jit_compile="on")
    model.train_on_batch(np.zeros((1, *model.input_shape[1:]), np.float32), np.zeros(1, np.int32))  # builds its state
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([jax.ShapeDtypeStruct(v.shape, v.dtype) for v in group] for group in groups)
    batch = (
        jax.ShapeDtypeStruct((config.batch_size, *model.input_shape[1:]), np.float32),
        jax.ShapeDtypeStruct((config.batch_size,), np.int32),
    )
    told = jax.jit(model.train_step, donate_argnums=0).lower(state, batch).compile().memory_analysis()
    unshared = told.output_size_in_bytes - told.alias_size_in_bytes
    return int(told.argument_size_in_bytes + told.temp_size_in_bytes + unshared)


def trained_peak_bytes(config: RunConfig, precision: str) -> int | None:
    """The allocator's peak after two steps on the GPU; None where there is none."""
    import jax
    import keras
    import numpy as np

    from epochcast.workload.cnn import build_model, compile_model

    if jax.devices()[0].platform != "gpu":
        return None
    keras.config.set_dtype_policy(precision)
    model = build_model(config)
    compile_model(model, jit_compile="on")
    images = np.zeros((config.batch_size, *model.input_shape[1:]), np.float32)
    for _ in range(2):
        model.train_on_batch(images, np.zeros(config.batch_size, np.int32))
    return int((jax.devices()[0].memory_stats() or {})["peak_bytes_in_use"])


def grown_bytes(config: RunConfig) -> int:
    """What a process of TensorFlow without XLA took for a step: its growth, and what it held of the network before."""
    import keras
    import numpy as np

    from epochcast.workload.cnn import build_model, compile_model

    model = build_model(config)
    compile_model(model, jit_compile="off")
    shape = model.input_shape[1:]
    model.train_on_batch(np.zeros((1, *shape), np.float32), np.zeros(1, np.int32))
    images, labels = np.ones((config.batch_size, *shape), np.float32), np.zeros(config.batch_size, np.int32)
    before = _status_bytes("VmRSS")
    for _ in range(2):
        model.train_on_batch(images, labels)
    variables = [*model.trainable_variables, *model.optimizer.variables]
    return _status_bytes("VmHWM") - before + images.nbytes + sum(keras.ops.size(v) * 4 for v in variables)


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def in_a_process(platform: str, config: RunConfig, precision: str) -> dict[str, Any]:
    """What a process of its own reports: peaks are of a process, and a policy is set once."""
    backend = "tensorflow" if platform == "cpu without XLA" else "jax"
    known = {"KERAS_BACKEND": backend, "PYTHONPATH": str(CODE_ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    known |= {"JAX_PLATFORMS": "cpu"} if platform == "cpu" else {}
    command = [sys.executable, __file__, "--child", json.dumps([platform, *astuple(config), precision])]
    done = subprocess.run(command, env={**os.environ, **known}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{config} {precision} on {platform}: {done.stderr.strip().splitlines()[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _child(platform: str, depth: int, base_filters: int, batch_size: int, precision: str) -> None:
    config = RunConfig(depth, base_filters, batch_size)
    if platform == "cpu":
        print(json.dumps({"bytes": compiled_bytes(config, precision), "device": cpu_name()}))
        return
    if platform == "cpu without XLA":
        print(json.dumps({"bytes": int(grown_bytes(config)), "device": cpu_name()}))
        return
    import jax

    peak = trained_peak_bytes(config, precision)
    print(json.dumps({"bytes": peak, "device": jax.devices()[0].device_kind}))


def judge(platform: str) -> list[dict[str, Any]]:
    """Each case: predicted with its band, reported, and whether the band holds it; empty where nothing is reported."""
    found = []
    is_xla = platform != "cpu without XLA"
    cases = CASES if is_xla else WITHOUT_XLA
    for number, (part, values, precision) in enumerate(cases, start=1):
        config = RunConfig(*values)
        told = in_a_process(platform, config, precision)
        if told["bytes"] is None:
            return []
        print(f"[{number}/{len(cases)}] {platform} {config} {precision}", file=sys.stderr)
        conditions = Conditions(
            device_name=told["device"],
            backend="jax" if is_xla else "tensorflow",
            precision=precision,
            pipeline="arrays",
            jit_compile="on" if is_xla else "off",
        )
        peak = plain_arrays(config, conditions)
        least = closed_form(config, replace(conditions, backend=None)).low  # as where no account was read
        found.append(
            {
                "part": part,
                "config": list(values),
                "precision": precision,
                "predicted_bytes": peak.value,
                "low_bytes": peak.low,
                "high_bytes": peak.high,
                "least_bytes": least,
                "reported_bytes": told["bytes"],
                "ratio": peak.value / told["bytes"],
                "is_in_band": peak.low <= told["bytes"] <= peak.high,
            }
        )
    return found


def report_lines(platform: str, found: list[dict[str, Any]]) -> list[str]:
    header = ["", "configuration", "precision", "predicted MB", "band MB", "reported MB", "ratio", "in band"]
    rows = [
        [
            f["part"],
            str(RunConfig(*f["config"])),
            f["precision"],
            f["predicted_bytes"] / MB,
            f"{f['low_bytes'] / MB:.1f} to {f['high_bytes'] / MB:.1f}",
            f["reported_bytes"] / MB,
            f"{f['ratio']:.3f}",
            "yes" if f["is_in_band"] else "NO",
        ]
        for f in found
    ]
    lines = [f"{platform}:", table_text(header, rows)]
    for part in dict.fromkeys(f["part"] for f in found):
        own = [f for f in found if f["part"] == part]
        worst = max(abs(f["ratio"] - 1) for f in own)
        inside = sum(f["is_in_band"] for f in own)
        lines.append(f"{part}: {len(own)} cases, off by at most {percent(worst)}, {inside} of {len(own)} in the band")
    most = max(f["least_bytes"] / f["reported_bytes"] for f in found)
    return [*lines, f"what no step does without is at most {percent(most)} of what was reported"]


def beside_closed_form() -> list[dict[str, Any]]:
    """Arrays of each reference configuration by law and closed form, and the law's driver's count."""
    conditions = Conditions(device_name="NVIDIA A100 80GB PCIe", precision="float32")
    found = []
    for row in published_rows():
        law, form = plain_arrays(row.config, conditions), closed_form(row.config, conditions)
        whole = MemoryModel(conditions).peak(row.config)
        found.append(
            {
                "config": astuple(row.config),
                "law_bytes": law.value,
                "form_bytes": form.value,
                "ratio": law.value / form.value,
                "least_bytes": form.low,
                "law_low_bytes": law.low,
                "driver_bytes": whole.value,
                "high_bytes": whole.high,
                "fits": {f"{size} GB": whole.fit(size * 10**9) for size in BOARDS_GB},
            }
        )
    return found


def reference_lines(found: list[dict[str, Any]]) -> list[str]:
    header = ["configuration", "law MB", "closed form MB", "ratio", "driver's count MB", "high end MB"]
    rows = [
        [
            str(RunConfig(*f["config"])),
            f["law_bytes"] / MB,
            f["form_bytes"] / MB,
            f"{f['ratio']:.3f}",
            f["driver_bytes"] / MB,
            f["high_bytes"] / MB,
        ]
        for f in found
    ]
    ratios = sorted(f["ratio"] for f in found)
    lines = [f"{REFERENCE}, arrays by the law and by the closed form:", table_text(header, rows)]
    lines.append(
        f"{len(found)} configurations: law over closed form {ratios[0]:.2f} to {ratios[-1]:.2f}, median "
        f"{statistics.median(ratios):.2f}; the law's low end is over the least that a step needs by a factor of "
        f"{min(f['law_low_bytes'] / f['least_bytes'] for f in found):.2f} to "
        f"{max(f['law_low_bytes'] / f['least_bytes'] for f in found):.2f}"
    )
    for size in BOARDS_GB:
        counts = Counter(f["fits"][f"{size} GB"] for f in found)
        lines.append(f"{size} GB: " + ", ".join(f"{fit}: {n}" for fit, n in counts.items()))
    if ran := [f for f in found if TOO_LARGE in f["fits"].values()]:
        lines.append(f"WRONG, they ran: {', '.join(str(f['config']) for f in ran)}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=home() / "results" / "benchmarks" / "memory.json")
    parts, help_text = (*PLATFORMS, REFERENCE), f"which parts (default: all but {REFERENCE})"
    parser.add_argument("--on", nargs="+", choices=parts, default=PLATFORMS, help=help_text)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        _child(*json.loads(arguments.child))
        return 0
    report: dict[str, Any] = {}
    for platform in arguments.on:
        if platform == REFERENCE:
            report[platform] = found = beside_closed_form()
            print("\n".join(reference_lines(found)))
            continue
        if found := judge(platform):
            report[platform] = found
            print("\n".join(report_lines(platform, found)))
        else:
            print(f"{platform}: JAX finds none here: nothing measured")
    write_json_atomically(arguments.out, report)
    print(f"written: {arguments.out.absolute()}")
    return 0
