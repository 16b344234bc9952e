"""Versions of installed packages, read without importlib.metadata where an installer wrote their folder."""

from __future__ import annotations

import sys
from importlib.metadata import distributions

import pytest

from epochcast.machine.packages import installed


def test_every_installed_package_has_the_version_of_its_metadata():
    found = {}
    for each in distributions():
        found.setdefault(each.name, each.version)  # of several the first on the path is imported
    assert len(found) > 20
    assert {name: installed(name) for name in found} == found


@pytest.mark.parametrize(
    ("folder", "name", "version"),
    [
        ("tensorflow_cpu-2.21.0.dist-info", "tensorflow-cpu", "2.21.0"),
        ("torch-2.13.0+cpu.dist-info", "torch", "2.13.0+cpu"),
        ("Keras_Nightly-3.16.0.dev1.dist-info", "keras-nightly", "3.16.0.dev1"),
        ("made_up-1.0.egg-info", "made-up", "1.0"),  # of an older installer: its metadata are read
        ("made_up_more-1.0.dist-info", "made-up", None),
        ("made_up", "made-up", None),
    ],
)
def test_a_package_is_found_by_its_own_name_alone(tmp_path, monkeypatch, folder, name, version):
    (tmp_path / folder).mkdir()
    file = "METADATA" if folder.endswith("dist-info") else "PKG-INFO"
    (tmp_path / folder / file).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "missing"), str(tmp_path)])
    assert installed(name) == version


def test_the_first_folder_that_has_a_package_answers_and_what_is_left_of_a_removed_one_does_not(tmp_path, monkeypatch):
    for folder, file, version in (
        ("first", "made_up-2.0.egg-info/PKG-INFO", "2.0"),
        ("second", "made_up-1.0.dist-info/METADATA", "1.0"),
    ):
        path = tmp_path / folder / file
        path.parent.mkdir(parents=True)
        path.write_text(f"Metadata-Version: 2.1\nName: made-up\nVersion: {version}\n")
    (tmp_path / "second" / "gone-3.0.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    assert (installed("made-up"), installed("gone")) == ("2.0", None)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "second"), str(tmp_path / "first")])
    assert installed("made-up") == "1.0"
