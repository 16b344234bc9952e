"""Train the model that is shipped, from the reference measurements: python benchmarks/make_pretrained.py

The five configurations of the collection's own hold-out (its `logs_unseen`) are kept from all fitting.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run by path: from the checkout, not from this folder, and through the door
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from epochcast.__main__ import run_by_path

    sys.exit(run_by_path(__file__))

from benchmarks.lib.reference_table import held_out, steady_rows
from epochcast.cli import run_command
from epochcast.model.time_model.card_text import card_lines
from epochcast.model.training.save import train
from epochcast.output.progress import progress
from epochcast.paths import pretrained_dir

DECLARED = {
    "device_name": "NVIDIA A100 80GB PCIe",
    "backend": "tensorflow",
    "precision": "float32",
    "tf32": "on",
    "pipeline": "tfdata",
    "jit_compile": "on",
    "steps_per_execution": "1",
    "dataset": "cifar10",
    "train_n": "50000",
    "timing_mode": "full_epoch",
}
CREDIT = (
    "Learned from runs measured by the authors of "
    "github.com/amacharla15/Hardware-Aware-Training-Time-Throughput-Prediction (head 88f77b8, December 2025), an "
    "NVIDIA A100 80GB PCIe with TensorFlow 2.20; conditions not in its table are declared from its description. "
    "Its overhead is what time stamps of runs started back to back leave beside their epochs."
)


def main() -> int:
    def work() -> int:
        card = train(
            steady_rows(),
            pretrained_dir() / "a100.keras",
            held_out=held_out(),
            declared=DECLARED,
            credit=CREDIT,
            say=progress,
        )
        print("\n".join(card_lines(card)))
        return 0

    return run_command(work)
