"""The base package reads, predicts and plans without a framework; what needs one says which extra brings it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib

import pytest

from epochcast.error_text import EXTRAS, requirement_of, sentence_of
from epochcast.paths import CODE_ROOT

FRAMEWORKS = ("tensorflow", "keras", "jax", "torch")
BEYOND_BASE = (*FRAMEWORKS, "sklearn", "pandas", "matplotlib", "PIL")
RUNS = CODE_ROOT / "results" / "cpu" / "jax" / "runs.csv"
# what Python runs before anything else in every process: it is then as on a machine that lacks $MISSING
SITE = """
import importlib.metadata, os, sys

class Missing:
    packages = os.environ["MISSING"].split()
    asked = []
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.packages:
            self.asked.append(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def version(name, known=importlib.metadata.version):
    if name.partition("-")[0] in Missing.packages:
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)

def listdir(folder=None, known=os.listdir):
    return [name for name in known(folder) if not (
        name.endswith(".dist-info") and name.partition("-")[0].partition("_")[0] in Missing.packages
    )]

sys.meta_path.insert(0, Missing())
os.listdir = listdir
importlib.metadata.version = version
"""
COMMANDS_OF_STDIN = """
import contextlib, io, json, os, sys
from sitecustomize import Missing
from epochcast.__main__ import main
for backend, command in json.load(sys.stdin):
    os.environ["KERAS_BACKEND"] = backend
    out, err, Missing.asked[:] = io.StringIO(), io.StringIO(), []
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(command)
        except SystemExit as end:
            code = end.code
    lines = [line for line in err.getvalue().splitlines() if not line.startswith(("files under", "note:"))]
    print(json.dumps([code, lines, Missing.asked]))
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "results").mkdir()
    shutil.copy(RUNS, tmp_path / "results" / "runs.csv")
    return tmp_path


def without(packages, commands, home, backend="tensorflow"):
    """The answers of `without_under` to commands that are all asked under one backend."""
    return without_under(packages, [(backend, command) for command in commands], home)


def without_under(packages, commands, home):
    """For each backend and command: exit code, lines on standard error, and what of `packages` it tried to import."""
    site = home / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE)
    more = {"EPOCHCAST_HOME": str(home), "MISSING": " ".join(packages)}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS_OF_STDIN],
        input=json.dumps(commands),
        env={**os.environ, **more, "PYTHONPATH": os.pathsep.join([str(site), str(CODE_ROOT)])},
        cwd=CODE_ROOT,
        timeout=100,
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_reading_predicting_and_planning_import_nothing_beyond_the_base(home):
    tensorflow = str(CODE_ROOT / "results" / "cpu" / "tensorflow" / "runs.csv")
    commands = [
        ["facts", "gpus"],
        ["check"],
        ["aggregate"],
        ["compare", str(home / "results" / "runs.csv"), tensorflow],
        ["merge", str(home / "results" / "runs.csv"), tensorflow, "--out", str(home / "merged.csv")],
        ["migrate"],
        ["next_runs"],
        ["predict", "--batch_size", "64,512", "--epochs", "50", "--region", "DE", "--all_gpus"],
        ["explain", "--gpu", "A100 PCIe 80GB"],
        ["plan", "--budget", "1h", "--out", str(home / "plan.json"), "--csv", str(home / "plan.csv")],
        ["plan", "--budget_kwh", "0.1", "--board_w", "100", "--epochs", "20"],
    ]
    for command, (code, said, asked) in zip(commands, without(BEYOND_BASE, commands, home), strict=True):
        assert (code, asked) == (0, []), (command, said)


def test_what_needs_a_framework_says_which_extra_brings_it(home):
    network = str(CODE_ROOT / "model" / "pretrained" / "a100.keras")
    shutil.copy(home / "results" / "runs.csv", home / "averaged.csv")
    (home / "results" / "runs.csv").unlink()
    everywhere = [
        ["run", "--device", "cpu", "--epochs", "2"],
        ["grid", "--device", "cpu", "--epochs", "2"],
        ["explain", "--network", network],
    ]
    commands = [(backend, command) for backend in ("tensorflow", "jax", "torch") for command in everywhere]
    averages = ("tensorflow", ["aggregate", "--runs", str(home / "averaged.csv")])
    after = [("tensorflow", ["train"]), ("tensorflow", ["evaluate"])]  # each needs averages first
    refused = without_under(FRAMEWORKS, [*commands, averages, *after], home)
    code, said, _ = refused.pop(len(commands))
    assert code == 0, said
    for (backend, command), (code, said, _) in zip([*commands, *after], refused, strict=True):
        assert code == 1, command
        assert said == [
            f"error: KERAS_BACKEND: the backend {backend} is not installed; pip install 'epochcast[{backend}]'."
        ]


def test_a_framework_without_keras_is_not_enough(tmp_path):
    ((code, said, _),) = without(["keras"], [["run", "--device", "cpu", "--epochs", "2"]], tmp_path, "jax")
    assert code == 1
    assert said == [
        "error: KERAS_BACKEND: Keras, which jax trains under, is not installed; pip install 'epochcast[jax]'."
    ]


def test_a_figure_names_the_package_that_draws_it(home):
    commands = [["predict", "--plot", str(home / "a.png")], ["figures"]]
    for code, said, _ in without(["matplotlib"], [["aggregate"], *commands], home)[1:]:
        assert code == 1
        assert len(said) == 1 and "the package matplotlib is not installed for " in said[0]


@pytest.mark.parametrize(
    ("distribution", "backend", "requirement"),
    [
        ("tensorflow", "", "epochcast[tensorflow]"),
        ("torch", "jax", "epochcast[torch]"),
        ("keras", "jax", "epochcast[jax]"),
        ("keras", "nonsense", "epochcast[tensorflow]"),
        ("scikit-learn", "torch", "scikit-learn"),
        ("matplotlib", "jax", "matplotlib"),
        ("scipy", "jax", "scipy"),
        ("optuna", "", "optuna"),
    ],
)
def test_a_package_comes_with_the_extra_that_brings_it(distribution, backend, requirement):
    assert requirement_of(distribution, backend) == requirement


def test_every_extra_that_is_named_exists():
    project = tomllib.loads((CODE_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(EXTRAS) <= set(project["optional-dependencies"])
    base = {requirement.partition(">")[0] for requirement in project["dependencies"]}
    assert base and {requirement_of(distribution) for distribution in base} == base


@pytest.mark.parametrize(("module", "what"), [("jax.numpy", "'epochcast[jax]'"), ("matplotlib.figure", "matplotlib")])
def test_a_package_that_is_missed_in_the_middle_is_named_too(monkeypatch, module, what):
    monkeypatch.setattr(sys, "prefix", str(CODE_ROOT / ".venv"))
    text = sentence_of(ModuleNotFoundError(f"No module named '{module.partition('.')[0]}'", name=module))
    assert text.endswith(f"Install it: {sys.executable} -m pip install {what}")
