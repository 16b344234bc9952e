"""A few of the real images, for tests that need no more of them."""

from __future__ import annotations

import tarfile

import pytest

TRAIN_PER_CLASS, TEST_PER_CLASS = 100, 20


@pytest.fixture
def few_real_images(reference_data, tmp_path_factory):
    """A tar of 1,000 training and 200 test images, all of the reference archive's test set.

    The test set comes first in the archive: unpacking the whole and decoding it takes 20 s of processor time.
    """
    path = tmp_path_factory.getbasetemp() / "few_real_images.tar"
    if path.exists():
        return path
    last = f"/{TRAIN_PER_CLASS + TEST_PER_CLASS:04}.jpg"
    archive = reference_data / "cifar10" / "cifar10_jpg.tar.xz"
    with tarfile.open(archive, "r|xz") as source, tarfile.open(path.with_suffix(".part"), "w") as few:
        for member in source:
            split, _, image = member.name.partition("/")
            if split == "train":
                break
            if "/" in image and member.name[-len(last) :] < last:
                is_train = member.name[-len(last) :] < f"/{TRAIN_PER_CLASS:04}.jpg"
                content = source.extractfile(member)
                member.name = f"{'train' if is_train else 'test'}/{image}"
                few.addfile(member, content)
    path.with_suffix(".part").rename(path)
    return path
