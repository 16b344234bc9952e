"""Wheel, source archive and editable install: each offers one name, `epochcast`, with every stage in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections import Counter
from pathlib import Path

import numpy
import pytest

from epochcast.paths import CODE_ROOT
from tests.support.import_graph import FILES

BUILD = "import sys; from hatchling import build; print(build.{hook}(sys.argv[1]))"
PACKED = ("epochcast", "README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml")
# lent by this environment, so that nothing is downloaded: what a prediction needs, and what builds an editable install
LENT = ("numpy", "numpy.libs", "h5py", "h5py.libs")
BUILDS = ("hatchling", "editables", "packaging", "pathspec", "pluggy", "trove_classifiers")
SITE = Path(numpy.__file__).parents[1]


def build(hook: str, source: Path, out: Path) -> Path:
    """Return what hatchling builds of a source tree."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD.format(hook=hook), str(out)],
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
    )
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel, the source archive, and the wheel that is built from the unpacked archive."""
    out = tmp_path_factory.mktemp("dist")
    sdist = build("build_sdist", CODE_ROOT, out)
    with tarfile.open(sdist) as archive:
        archive.extractall(out / "unpacked", filter="data")
    (source,) = (out / "unpacked").iterdir()
    again = out / "again"
    again.mkdir()
    return {"wheel": build("build_wheel", CODE_ROOT, out), "sdist": sdist, "again": build("build_wheel", source, again)}


def modules_in(names: list[str]) -> Counter[str]:
    """How often each module of the product is in an archive, by its name."""
    files = (Path(name) for name in names if name.endswith(".py"))
    parts = [path.with_suffix("").parts for path in files]
    return Counter(".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts)


def test_the_wheel_holds_every_module_once_below_one_name(built):
    for kind in ("wheel", "again"):
        with zipfile.ZipFile(built[kind]) as archive:
            names = archive.namelist()
        assert modules_in(names) == dict.fromkeys(FILES, 1), kind
        assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"epochcast"}
        data = {name for name in names if "/data/" in name or "/pretrained/" in name}
        assert {"epochcast/data/gpus.csv", "epochcast/model/pretrained/a100.keras"} <= data


def test_the_source_archive_holds_each_file_once_and_no_link(built):
    with tarfile.open(built["sdist"]) as archive:
        members = archive.getmembers()
    root = built["sdist"].name.removesuffix(".tar.gz")
    names = [member.name.removeprefix(f"{root}/") for member in members]
    assert all(member.isfile() for member in members)
    assert modules_in(names) == dict.fromkeys(FILES, 1)
    assert {name.split("/")[0] for name in names} - {"PKG-INFO", ".gitignore"} == set(PACKED)


@pytest.fixture(scope="module")
def users_folder(tmp_path_factory):
    """Somebody's project with a `model.py` and a `collect/` of its own."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "model.py").write_text("OWNER = 'user'\n")
    (folder / "collect").mkdir()
    (folder / "collect" / "__init__.py").write_text("OWNER = 'user'\n")
    return folder


PROGRAM = """
import json, sys
import model, collect
import epochcast.model.predict_perf, epochcast.collect.run_one
print(json.dumps([model.OWNER, collect.OWNER, epochcast.model.predict_perf.__file__, sorted(sys.modules)]))
"""


def installed(folder: Path, *what: str) -> Path:
    """The Python of a new environment with `what` installed and nothing that it depends on but NumPy, lent."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    for package in (*LENT, *BUILDS):
        if (SITE / package).exists():
            (packages / package).symlink_to(SITE / package)
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--no-compile",
    ]
    environ = {**os.environ, "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([*command, *what], check=True, env=environ, capture_output=True, text=True)
    return python


@pytest.mark.parametrize("kind", ["wheel", "editable"])  # the wheel that the archive gives holds the same, see above
def test_an_installed_package_predicts_beside_a_users_own_modules(kind, built, users_folder, tmp_path):
    what = ("--no-build-isolation", "-e", str(CODE_ROOT)) if kind == "editable" else (str(built[kind]),)
    python = installed(tmp_path / "venv", *what)
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "EPOCHCAST_HOME")}
    options = {"cwd": users_folder, "env": environ, "capture_output": True, "text": True, "check": True}
    done = subprocess.run([python, "-c", PROGRAM], **options)
    model, collect, ours, loaded = json.loads(done.stdout)
    assert (model, collect) == ("user", "user")
    assert Path(ours).is_relative_to(CODE_ROOT if kind == "editable" else tmp_path)
    assert not {"tensorflow", "keras", "jax", "torch"} & set(loaded)
    done = subprocess.run([python.with_name("predict_perf"), "--batch_size", "512", "--json"], **options)
    assert json.loads(done.stdout)["predicted_avg_time_sec"] > 0
