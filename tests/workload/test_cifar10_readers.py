"""Every form of the images, and what is said when something is wrong with them."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import random
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from epochcast.output import progress
from epochcast.workload import dataset
from epochcast.workload.batch_pickles import read_batch
from epochcast.workload.cifar10_readers import decode_image, read_dataset
from tests.support.peaks import at_most
from tests.support.small_cifar10 import (
    CLASSES,
    N,
    arrays,
    assert_is_the_small_set,
    make_batches,
    make_class_folders,
    make_npz,
    make_tar,
    pickled,
    pixels_of,
)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EPOCHCAST_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG"])
def test_class_folders_are_read_with_labels_in_the_order_of_names(tmp_path, suffix):
    folder = make_class_folders(tmp_path / "images", suffix)
    images = read_dataset(folder)
    assert_is_the_small_set(images, "cifar10_images", is_jpeg=suffix != "png")
    assert images.origin == str(folder)


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tar.xz", "no_suffix"])
@pytest.mark.parametrize("inside", ["", "./", "CIFAR-10-images-master/"])
def test_a_tar_of_class_folders_is_read_whatever_its_compression_and_leading_folder(tmp_path, name, inside):
    tar = make_tar(tmp_path / name, make_class_folders(tmp_path / "images"), inside)
    assert_is_the_small_set(read_dataset(tar), "cifar10_images")


def test_official_batches_are_read_from_a_folder_from_the_one_above_and_from_a_tar(tmp_path):
    folder = make_batches(tmp_path / "above" / "cifar-10-batches-py")
    for path in (folder, folder.parent, make_tar(tmp_path / "x.tar.gz", folder.parent)):
        assert_is_the_small_set(read_dataset(path), "cifar10")


def test_an_npz_is_read_with_labels_as_keras_has_them(tmp_path):
    path = make_npz(tmp_path / "x.npz", y_train=arrays()["y_train"].astype(np.int64)[:, None])
    assert_is_the_small_set(read_dataset(path), "cifar10_npz")


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])  # a plain tar that ends in an .npz looks like a zip file
def test_an_npz_in_a_tar_is_read(tmp_path, name):
    tar = make_tar(tmp_path / name, make_npz(tmp_path / "in" / "x.npz").parent)
    assert_is_the_small_set(read_dataset(tar), "cifar10_npz")


def test_a_folder_with_a_readme_and_one_archive_is_read(tmp_path):
    folder = make_tar(tmp_path / "data" / "x.tar.xz", make_class_folders(tmp_path / "images")).parent
    (folder / "README.md").write_text("images")
    assert_is_the_small_set(read_dataset(folder), "cifar10_images")


def test_a_folder_with_two_archives_is_refused_naming_both(tmp_path):
    make_npz(tmp_path / "data" / "a.npz")
    make_npz(tmp_path / "data" / "b.npz")
    with pytest.raises(ValueError, match=r"found a\.npz, b\.npz"):
        read_dataset(tmp_path / "data")


def test_a_set_without_test_images_has_no_real_test_set(tmp_path):
    folder = make_class_folders(tmp_path / "images")
    shutil.rmtree(folder / "test")
    for path in (folder, make_npz(tmp_path / "x.npz", x_test=None, y_test=None)):
        for _ in range(2):  # read, then from the cache
            images = read_dataset(path)
            assert images.x_test is None
            assert not images.has_real_test_set


def test_grey_and_palette_images_are_taken_as_the_colours_they_are(tmp_path):
    folder = make_class_folders(tmp_path / "images")
    grey = Image.fromarray(np.full((32, 32), 77, np.uint8))
    grey.save(folder / "test" / "cat" / "0005.png")
    grey.convert("RGB").quantize(2).save(folder / "test" / "dog" / "0005.png")
    images = read_dataset(folder)
    for label in (CLASSES.index("cat"), CLASSES.index("dog")):
        assert (images.x_test[images.y_test == label] == 77).all()


def test_files_that_are_no_images_are_left_out_and_counted_and_hidden_ones_ignored(tmp_path, caplog):
    folder = make_class_folders(tmp_path / "images")
    (folder / "train" / "cat" / "notes.txt").write_text("meow")
    (folder / "train" / "cat" / "._0001.png").write_bytes(b"not an image")
    assert_is_the_small_set(read_dataset(folder), "cifar10_images")
    assert "left out 1 files" in caplog.text
    assert "train/cat/notes.txt" in caplog.text


def test_a_data_dir_of_no_known_form_is_an_error(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=r"data: no known form of CIFAR-10, found nothing\. Name a folder of train/"):
        read_dataset(tmp_path / "data")
    (tmp_path / "data" / "notes.txt").write_text("no images")
    with pytest.raises(ValueError, match=r"found notes\.txt"):
        read_dataset(tmp_path / "data")
    with pytest.raises(ValueError, match=r"notes\.txt: found neither an \.npz nor a tar"):
        read_dataset(tmp_path / "data" / "notes.txt")
    with pytest.raises(ValueError, match=r"no known form of CIFAR-10, found notes\.txt"):
        read_dataset(make_tar(tmp_path / "x.tar", tmp_path / "data"))


def test_every_decoded_image_counts_towards_the_progress(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "FIRST_SEC", 0.0)
    monkeypatch.setattr(progress, "EVERY_SEC", 0.0)
    read_dataset(make_class_folders(tmp_path / "images"))
    lines = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == [f"decoding images: {done}/40" for done in range(2, 41)]  # the first says when decoding began


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil_was_here",)


def test_a_batch_that_would_run_a_program_is_refused_unrun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = pickled({b"data": Evil()})
    folder = make_batches(tmp_path / "cifar-10-batches-py", data_batch_2=evil)
    for path in (folder, make_tar(tmp_path / "x.tar.gz", folder)):
        with pytest.raises(ValueError, match=r"data_batch_2: not a CIFAR-10 batch .*refused to load posix\.system"):
            read_dataset(path)
    assert not (tmp_path / "evil_was_here").exists()


PIXELS = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_batch_3", None, "data_batch_3 missing"),
        ("data_batch_1", None, "data_batch_1 missing"),
        ("test_batch", b"", r"test_batch: not a CIFAR-10 batch \(EOFError"),
        ("test_batch", pickled([1, 2]), "test_batch: not a CIFAR-10 batch"),
        ("test_batch", pickled({b"data": PIXELS}), r"not a CIFAR-10 batch \(KeyError: b'labels'"),
        ("test_batch", pickled({b"data": np.zeros((2, 99), np.uint8), b"labels": [0, 1]}), r"got shape \(2, 99\)"),
        ("test_batch", pickled({b"data": PIXELS, b"labels": [0, 10]}), "found 0 to 10"),
        ("test_batch", pickled({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}), "expected uint8 .* got float64"),
        ("test_batch", pickled({b"data": PIXELS, b"labels": [0]}), "expected 2 whole-number"),
    ],
)
def test_broken_batches_are_one_error_that_names_the_file(tmp_path, name, content, message):
    folder = make_batches(tmp_path / "cifar-10-batches-py", **{name: content})
    with pytest.raises(ValueError, match=message) as caught:
        read_dataset(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((2, 32, 32, 3), np.float32)}, r"training set: expected uint8 images .* got float32"),
        ({"x_train": np.zeros((N, 3, 32, 32), np.uint8)}, r"got uint8 \(30, 3, 32, 32\)"),
        ({"x_test": np.zeros((0, 32, 32, 3), np.uint8)}, r"test set: .* got uint8 \(0, 32, 32, 3\)"),
        ({"y_train": np.zeros(N - 1, np.uint8)}, r"expected 30 whole-number labels, got uint8 \(29,\)"),
        ({"y_test": np.zeros(10)}, r"test set: expected 10 whole-number labels, got float64"),
        ({"y_train": np.arange(N)}, "expected labels from 0 to 9, found 0 to 29"),
        ({"y_test": np.full(10, -1)}, "found -1 to -1"),
        ({"y_train": np.full(N, 256)}, "found 256 to 256"),
        ({"y_train": None}, "y_train missing"),
        ({"y_test": None}, "y_test missing"),
        ({"x_train": np.array([object()])}, "cannot be read"),
    ],
)
def test_a_wrong_npz_is_one_error_that_names_the_file(tmp_path, changes, message):
    path = make_npz(tmp_path / "x.npz", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        read_dataset(path)
    assert str(path) in str(caught.value)


def png(array, mode=None):
    stream = io.BytesIO()
    Image.fromarray(array, mode).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be decoded"),
        (b"not an image", "cannot be decoded"),
        (png(pixels_of(1, 1))[:-40], "cannot be decoded"),
        (png(np.zeros((32, 31, 3), np.uint8)), "expected a 32x32 RGB image, found 31x32 RGB"),
        (png(np.zeros((64, 64, 3), np.uint8)), "found 64x64 RGB"),
        (png(np.zeros((32, 32, 4), np.uint8)), "found 32x32 RGBA"),
        (png(np.zeros((32, 32), np.uint16)), "found 32x32 I;16"),
    ],
)
def test_a_wrong_image_is_one_error_that_names_the_file(tmp_path, content, message):
    folder = make_class_folders(tmp_path / "images")
    (folder / "train" / "cat" / "0001.png").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_dataset(folder)
    assert f"{folder}/train/cat/0001.png" in str(caught.value)
    with pytest.raises(ValueError, match=rf"x\.tar/train/cat/0001\.png.*{message}"):
        read_dataset(make_tar(tmp_path / "x.tar", folder))
    assert not list((tmp_path / "cache").glob("*.npz"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_damaged_image_is_decoded_or_refused_but_never_another_error(kind):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(stream, kind)
    draw = random.Random(0)
    refused = 0
    for _ in range(300):
        content = bytearray(stream.getvalue())
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        try:
            decode_image(bytes(content), "a.png")
        except ValueError as error:
            assert str(error).startswith("a.png: expected a 32x32 RGB image")
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    ("extra", "missing", "message"),
    [
        ([], ["train/cat", "test/cat"], "found 9 in train/: airplane"),
        (["train/unicorn/1.png"], [], "found 11 in train/"),
        ([], ["test/cat"], "found 9 in test/: airplane"),
        (["test/unicorn/1.png"], ["test/cat"], "classes in train/ and test/, found 10 in train/"),
    ],
)
def test_classes_other_than_ten_in_both_halves_are_an_error(tmp_path, extra, missing, message):
    folder = make_class_folders(tmp_path / "images")
    for name in missing:
        shutil.rmtree(folder / name)
    for name in extra:
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(png(pixels_of(0, 0)))
    with pytest.raises(ValueError, match=message):
        read_dataset(folder)


def test_a_tar_with_two_sets_is_refused(tmp_path):
    for name in ("first", "second"):
        make_class_folders(tmp_path / "both" / name)
    with pytest.raises(ValueError, match="found several: in first, second"):
        read_dataset(make_tar(tmp_path / "x.tar", tmp_path / "both"))


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tar.xz"])
def test_a_truncated_archive_is_one_error_that_names_it(tmp_path, name):
    path = make_tar(tmp_path / name, make_class_folders(tmp_path / "images"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 - 100])
    with pytest.raises(ValueError, match=rf"{path}: (the archive is broken|found neither)"):
        read_dataset(path)


def test_nothing_in_a_tar_reaches_the_disk(tmp_path):
    folder = make_class_folders(tmp_path / "images")
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder / "train", "train")
        tar.add(folder / "test", "test")
        for name in ("../../escaped.png", "/escaped.png", "../train/cat/escaped.txt"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("train/cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    assert_is_the_small_set(read_dataset(path), "cifar10_images")
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and "cache" not in path.parts] == []


# --- files that ask for more than they hold ---------------------------------------------------------------------------


def array_pickle(shape, dtype=b"u1", content=b""):
    """A pickled array of a shape of its own choice, as protocol 2 has it."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + pickle.dumps(shape, 2)[2:-1] + b"U\x01b\x87R"
        b"(K\x01" + pickle.dumps(shape, 2)[2:-1] + b"cnumpy\ndtype\nU\x02" + dtype + b"K\x00K\x01\x87R\x89"
        b"T" + len(content).to_bytes(4, "little") + content + b"tb"
    )


def batch_pickle(data, labels=b"]K\x00a"):
    return b"\x80\x02}(U\x04data" + data + b"U\x06labels" + labels + b"u."


NESTED = b"](K\x00K\x00e" + b"".join(b"q\x01](" + b"h\x01" * 9 + b"e" for _ in range(12))  # 9^12 numbers


@pytest.mark.parametrize(
    "content",
    [
        batch_pickle(array_pickle((10**6, 3072))),
        batch_pickle(array_pickle((10**6, 3072), b"O1")),
        batch_pickle(b"cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R"),
        batch_pickle(NESTED),
        batch_pickle(array_pickle((1, 3072), content=bytes(3072)), NESTED),
        b"\x80\x02]r\xff\xff\xff\x3f.",  # remembered under a number that a list in C would be as long as
        b"\x80\x02]" * 3_000 + b".",
    ],
)
def test_a_batch_that_asks_for_much_memory_is_refused_in_little(tmp_path, content):
    folder = make_batches(tmp_path / "cifar-10-batches-py", data_batch_1=content)
    with at_most(64), pytest.raises(ValueError, match="data_batch_1: "):
        read_dataset(folder)


def test_an_array_pickled_by_hand_is_read():
    pixels, labels = read_batch(batch_pickle(array_pickle((1, 3072), content=bytes(3072))))
    assert (pixels.shape, labels.tolist()) == ((1, 3072), [0])


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_batch_is_read_or_refused_and_leaves_numpy_s_types_alone(seed):
    draw = random.Random(seed)
    whole = batch_pickle(array_pickle((1, 3072), content=bytes(3072)))
    for _ in range(20):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            place = draw.choice([draw.randrange(180), len(content) - 1 - draw.randrange(20)])
            content[place] = draw.choice([draw.randrange(256), *b"(.0]}abeijqrstuKJMNRTU\x81\x85\x87"])
        with contextlib.suppress(Exception):  # read_dataset makes one sentence of all
            read_batch(bytes(content))
    assert np.zeros(3, np.uint8).sum() == 0
    assert np.dtype("u1").isnative


def npz_with(path, method=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy_header(shape, dtype="|u1"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize(
    "made",
    [
        {"x_train": bytes(64 << 20)},
        {"x_train": b"\x93NUMPY\x02\x00\xff\xff\xff\x03" + bytes(63 << 20)},
        {"x_train": npy_header((10**15,))},
        {"x_train": npy_header((10**9, 32, 32, 3))},
        {"x_train": npy_header((2**62, 2**62))},
        {"x_train": npy_header((3,), "|O")},
        {"x_train": b"x", "method": zipfile.ZIP_LZMA},
    ],
)
def test_an_npz_that_asks_for_much_memory_is_refused_in_little(tmp_path, monkeypatch, made):
    monkeypatch.setattr(dataset, "LEAST_UNPACKED", 32 << 20)
    path = npz_with(tmp_path / "x.npz", **made)
    with at_most(64), pytest.raises(ValueError, match=r"x\.npz: the \.npz cannot be read"):
        read_dataset(path)


def test_an_image_that_is_a_link_to_nothing_is_not_left_out_unsaid(tmp_path):
    folder = make_class_folders(tmp_path / "images")
    (folder / "train" / "cat" / "0001.png").unlink()
    (folder / "train" / "cat" / "0001.png").symlink_to("nowhere.png")
    with pytest.raises(ValueError, match=r"0001\.png: a link to nothing"):
        read_dataset(folder)


def test_an_image_of_many_pixels_is_refused_by_its_header():
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")
    with at_most(32), pytest.raises(ValueError, match=r"a\.png: expected a 32x32 RGB image"):
        decode_image(stream.getvalue(), "a.png")
