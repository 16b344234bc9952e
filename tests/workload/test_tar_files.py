"""Tars of images of any origin: read in little memory, or refused in a sentence."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile

import pytest

from epochcast.workload import dataset
from epochcast.workload.cifar10_readers import read_dataset
from epochcast.workload.dataset import MIB
from tests.support.peaks import at_most
from tests.support.small_cifar10 import make_class_folders, make_tar

BOUND = 8 * MIB


@pytest.fixture(autouse=True)
def small_bound(monkeypatch, tmp_path):
    monkeypatch.setattr(dataset, "LEAST_UNPACKED", BOUND)
    monkeypatch.setenv("EPOCHCAST_CACHE_DIR", str(tmp_path / "cache"))


def tar_of(path, *members, **options):
    """A tar.gz of (name, size, pax headers) that hold zeros."""
    with tarfile.open(path, "w:gz", **options) as tar:
        for name, size, headers in members:
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = size, headers
            tar.addfile(member, io.BytesIO(bytes(size)))
    return path


def nested_names(path):
    """Long names of long names, which tarfile follows by calling itself."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1
    with gzip.open(path, "wb") as file:
        file.write((header.tobuf(tarfile.GNU_FORMAT) + bytes(512)) * 5_000)
    return path


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "train/cat/x.png"}
HOSTILE = {
    "a large image": lambda p: tar_of(p, ("train/cat/x.png", 64 * MIB, {})),
    "a large file of no use": lambda p: tar_of(p, ("readme", 64 * MIB, {})),
    "many files": lambda p: tar_of(p, *((f"train/cat/{i}.png", MIB, {}) for i in range(64))),
    "a large header": lambda p: tar_of(p, ("x.png", 1, {"comment": "x" * 64 * MIB}), format=tarfile.PAX_FORMAT),
    "a file of holes": lambda p: tar_of(p, ("x", 512, {**SPARSE, "GNU.sparse.realsize": "99999999999"})),
    "images that decode to more": lambda p: tar_of(p, *((f"train/{i % 10}/{i}.png", 0, {}) for i in range(3_000))),
    "names within names": nested_names,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_small_tar_that_unpacks_to_much_is_refused_in_little_memory(tmp_path, kind):
    path = HOSTILE[kind](tmp_path / "x.tar.gz")
    assert path.stat().st_size < MIB
    with at_most(64), pytest.raises(ValueError, match=r"x\.tar\.gz: ") as caught:
        read_dataset(path)
    assert len(str(caught.value).replace(str(path), "")) < 250


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a pipe"):
        read_dataset(tmp_path / "pipe")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.tar").symlink_to("x.tar")
    with pytest.raises(OSError, match="symbolic links"):
        read_dataset(tmp_path / "data")


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz"])
def test_a_damaged_tar_is_read_or_refused_but_never_another_error(tmp_path, suffix):
    whole = make_tar(tmp_path / f"whole.{suffix}", make_class_folders(tmp_path / "images")).read_bytes()
    draw = random.Random(suffix)
    refused = 0
    for i in range(25):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 6)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path = tmp_path / f"{i}.{suffix}"
        path.write_bytes(content)
        try:
            read_dataset(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 0
