"""Explanations for tests: of the shipped model, and of models as if they were this box's."""

from __future__ import annotations

import json
import shutil

from epochcast.model import explain as command
from epochcast.model.explanation.device import explained_device
from epochcast.model.explanation.explain_epoch import explain
from epochcast.model.time_model.card import card_sha256
from epochcast.paths import models_dir, pretrained_dir
from epochcast.schema import RunConfig
from epochcast.workload.shape import trained_cnn
from tests.support.cli import run_cli

PRETRAINED = pretrained_dir() / "a100.keras"
A100 = "NVIDIA A100 80GB PCIe"
H100 = "NVIDIA H100 80GB HBM3"
CONFIGS = [RunConfig(3, 32, 512), RunConfig(2, 16, 96), RunConfig(5, 128, 2048), RunConfig(7, 16, 64)]


def explanation(config=CONFIGS[0], **asked):
    device = explained_device(config, **asked)
    return explain(device, trained_cnn(config, 50_000, device.precision), config)


def explained(config=CONFIGS[0], **asked):
    """An explanation as JSON values."""
    return explanation(config, **asked).to_json()


def ask(*flags, code=0):
    return run_cli(command.main, *flags, code=code)


def local_model(**conditions):
    """The shipped model as if it had been learned on this box, under other conditions."""
    folder = models_dir()
    folder.mkdir(parents=True)
    shutil.copy(PRETRAINED, folder / "own.keras")
    card = json.loads(PRETRAINED.with_suffix(".json").read_text())
    card["conditions"] |= conditions
    (folder / "own.json").write_text(json.dumps({**card, "card_sha256": card_sha256(card)}))
    return folder / "own.keras"


def cpu_model():
    """A model of a processor, named by --model."""
    return local_model(device_name="AMD EPYC (2 cores)", tf32="off")
