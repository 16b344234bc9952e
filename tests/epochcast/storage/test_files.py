"""Whole files: what is read at all, and what replaces what."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from epochcast.storage.files import make_folder, open_regular, read_text, write_bytes_atomically

# --- the disk --------------------------------------------------------------------------------------------------------


def test_the_name_of_a_new_file_and_of_each_new_folder_is_pushed_to_the_disk(tmp_path, monkeypatch):
    pushed = []
    fsync = os.fsync

    def noting(descriptor):
        pushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    write_bytes_atomically(tmp_path / "a" / "b" / "file", b"x")
    folders = [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    assert [path for path in pushed if path in folders] == [folders[1], folders[0], folders[2]]


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError) as caught:
        make_folder(tmp_path / "file" / "below" / "it")
    assert caught.value.filename == str(tmp_path / "file")


# --- reading ---------------------------------------------------------------------------------------------------------


def test_only_regular_files_are_read_and_nothing_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name in ("pipe", "loop", "socket", "none", "."):
            with pytest.raises(OSError) as caught:  # of five kinds
                open_regular(tmp_path / name)
            assert caught.value.filename == str(tmp_path / name)
    with pytest.raises(OSError, match="a pipe or a device"):
        open_regular(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("text".encode("utf-16"), ":1: UTF-16 text. Save the file as UTF-8."),
        (b"a\nb\nc\xff", ":3: not UTF-8 text: byte 0xff at offset 5."),
        (b"\xef\xbb\xbfa\n\xe9", ":2: not UTF-8 text: byte 0xe9 at offset 5."),
    ],
)
def test_text_of_another_encoding_is_named_with_line_and_cause(tmp_path, raw, words):
    (tmp_path / "a.txt").write_bytes(raw)
    with pytest.raises(ValueError, match=r"a\.txt") as caught:
        read_text(tmp_path / "a.txt")
    assert words in str(caught.value)
