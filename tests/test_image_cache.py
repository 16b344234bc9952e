"""Images are decoded once, and no accident to the cache costs more than decoding them again."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_cifar10 import CLASSES, assert_is_the_small_set, make_class_folders, make_tar

from workload.cifar10_readers import read_dataset
from workload.dataset import ARRAYS


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EPOCHCAST_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def tar(tmp_path):
    return make_tar(tmp_path / "x.tar", make_class_folders(tmp_path / "images"))


def only_cache(tmp_path):
    (file,) = (tmp_path / "cache").glob("*.npz")
    return file


def test_images_are_decoded_once(tmp_path, tar, capsys):
    first = read_dataset(tar)
    assert "decoding images: 40/40" in capsys.readouterr().err
    before = tar.stat()
    tar.write_bytes(tar.read_bytes()[:2048] + bytes(before.st_size - 2048))  # no images left
    os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))  # and nobody can tell
    again = read_dataset(tar)
    assert capsys.readouterr().err == ""
    assert (again.name, again.origin) == (first.name, first.origin)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))


def test_a_changed_source_is_decoded_again(tmp_path, tar):
    read_dataset(tar)
    os.utime(tar, ns=(0, 0))
    read_dataset(tar)
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 2
    folder = tmp_path / "images"
    read_dataset(folder)
    Image.fromarray(np.full((32, 32, 3), 99, np.uint8)).save(folder / "test" / "cat" / "0005.png")
    images = read_dataset(folder)
    assert (images.x_test[images.y_test == CLASSES.index("cat")] == 99).all()


def test_the_cache_leaves_no_temporary_file_and_is_not_compressed(tmp_path, tar):
    read_dataset(tar)
    file = only_cache(tmp_path)
    assert sorted(path.name for path in file.parent.iterdir()) == sorted([file.name, file.with_suffix(".lock").name])
    assert file.stat().st_size > 40 * 3072


def truncate(content):
    return content[: len(content) // 2]


def flip_a_pixel(content):
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


@pytest.mark.parametrize("damage", [truncate, flip_a_pixel, lambda content: b"", lambda content: b"garbage"])
def test_a_broken_cache_is_rebuilt_with_a_warning(tmp_path, tar, caplog, damage):
    read_dataset(tar)
    file = only_cache(tmp_path)
    good = file.read_bytes()
    file.write_bytes(damage(good))
    assert_is_the_small_set(read_dataset(tar), "cifar10_images")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{file}: the cached images are broken" in caplog.text
    caplog.clear()
    assert_is_the_small_set(read_dataset(tar), "cifar10_images")
    assert not caplog.records


def test_without_a_place_for_the_cache_images_are_decoded_in_memory_with_a_warning(tmp_path, tar, caplog, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EPOCHCAST_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert_is_the_small_set(read_dataset(tar), "cifar10_images")
    assert "cannot keep the decoded images" in caplog.text
    assert "EPOCHCAST_CACHE_DIR" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_a_warning(tmp_path, tar, caplog):
    read_dataset(tar)
    file = only_cache(tmp_path)
    file.unlink()
    file.with_suffix(".tmp").symlink_to("/dev/full")
    assert_is_the_small_set(read_dataset(tar), "cifar10_images")
    assert "cannot keep the decoded images (No space left on device)" in caplog.text
    assert not file.exists()


def test_a_second_process_waits_for_the_first_and_takes_its_images(tmp_path, tar, capsys):
    images = read_dataset(tar)
    file = only_cache(tmp_path)
    marked = {name: getattr(images, name).copy() for name in ARRAYS}
    marked["x_train"][:] = 111  # only whoever takes these from the first process can see them
    file.unlink()
    capsys.readouterr()
    seen = []
    with file.with_suffix(".lock").open("wb") as lock:  # we are the first process
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=lambda: seen.append(read_dataset(tar)), daemon=True)
        second.start()
        said, deadline = "", time.monotonic() + 30
        while "waiting for another process" not in said and time.monotonic() < deadline:
            time.sleep(0.01)
            said += capsys.readouterr().err
        assert "waiting for another process" in said
        np.savez(file, name=np.array(images.name), **marked)
    second.join(timeout=30)
    assert (seen[0].x_train == 111).all()
    assert "decoding" not in capsys.readouterr().err
