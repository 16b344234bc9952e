"""Images are decoded once, and no accident to the cache costs more than decoding them again."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import threading
import time

import numpy as np
import pytest
from PIL import Image

from epochcast.workload.cifar10_readers import read_dataset
from epochcast.workload.dataset import ARRAYS
from tests.support.small_cifar10 import CLASSES, assert_is_the_small_set, make_class_folders, make_tar


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EPOCHCAST_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def tar(tmp_path):
    return make_tar(tmp_path / "x.tar", make_class_folders(tmp_path / "images"))


def only_cache(tmp_path):
    (file,) = (tmp_path / "cache").glob("*.npz")
    return file


def test_images_are_decoded_once(tmp_path, tar, capsys, monkeypatch):
    monkeypatch.setattr("epochcast.output.progress.FIRST_SEC", 0.0)  # however quick this box is
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


def test_a_full_disk_is_a_warning(tmp_path, tar, caplog, monkeypatch):
    read_dataset(tar)
    file = only_cache(tmp_path)
    file.unlink()

    def fill_up(stream, **arrays):
        stream.write(bytes(100))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", fill_up)
    assert_is_the_small_set(read_dataset(tar), "cifar10_images")
    assert "cannot keep the decoded images (No space left on device)" in caplog.text
    assert [path.name for path in file.parent.iterdir()] == [file.with_suffix(".lock").name]


# --- others who can write ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o722])
def test_a_folder_that_others_can_write_is_not_used_after_one_warning(tmp_path, tar, caplog, mode):
    read_dataset(tar)
    file = only_cache(tmp_path)
    file.write_bytes(b"planted")
    file.parent.chmod(mode)
    assert_is_the_small_set(read_dataset(tar), "cifar10_images")
    (message,) = caplog.messages
    assert f"{file.parent} can be written by others: chmod go-w {file.parent}" in message
    assert "EPOCHCAST_CACHE_DIR" in message
    assert file.read_bytes() == b"planted"


@pytest.mark.parametrize("suffix", [".npz", ".lock", ".tmp"])
def test_a_planted_link_is_neither_read_nor_written_through(tmp_path, tar, suffix):
    read_dataset(tar)
    file = only_cache(tmp_path)
    good = file.read_bytes()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(content := b"precious" if suffix != ".npz" else good.replace(b"\0\1", b"\1\0"))
    file.unlink()
    planted = file.with_suffix(suffix)
    planted.unlink(missing_ok=True)
    planted.symlink_to(elsewhere)
    assert_is_the_small_set(read_dataset(tar), "cifar10_images")
    assert elsewhere.read_bytes() == content
    assert suffix == ".lock" or (file.read_bytes() == good and not file.is_symlink())


@pytest.mark.parametrize("mode", [0o666, 0o602])
def test_images_that_others_could_have_written_are_decoded_again(tmp_path, tar, caplog, mode):
    read_dataset(tar)
    file = only_cache(tmp_path)
    file.chmod(mode)
    assert_is_the_small_set(read_dataset(tar), "cifar10_images")
    assert "can be written by others" in caplog.text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_without_locks_the_cache_is_kept_all_the_same_after_one_warning(tmp_path, tar, caplog, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    read_dataset(tar)
    assert only_cache(tmp_path).exists()
    (message,) = caplog.messages
    assert "no locks" in message
    caplog.clear()
    assert_is_the_small_set(read_dataset(tar), "cifar10_images")
    assert not caplog.messages


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
