"""Mutations of files: bytes, lines and cells, encodings, size, and what stands at a path instead of a file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fuzz import words

LARGE_BYTES = 5_000_000  # memory is promised for input files of that size
LARGE_SHARE, SPECIAL_SHARE = 0.004, 0.012  # of the tries: these two are slow

Mutator = Callable[[Random, bytes], bytes]


# --- bytes -----------------------------------------------------------------------------------------------------------


def _span(draw: Random, data: bytes, most: int = 64) -> tuple[int, int]:
    start = draw.randint(0, len(data))
    return start, min(len(data), start + draw.randint(1, most))


def flip(draw: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def truncate(draw: Random, data: bytes) -> bytes:
    return data[: draw.randint(0, len(data))]


def insert(draw: Random, data: bytes) -> bytes:
    at = draw.randint(0, len(data))
    return data[:at] + words.snippet(draw) + data[at:]


def remove(draw: Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:start] + data[end:]


def overwrite(draw: Random, data: bytes) -> bytes:
    start, end = _span(draw, data, 12)
    return data[:start] + words.snippet(draw) + data[end:]


def double(draw: Random, data: bytes) -> bytes:
    start, end = _span(draw, data, 400)
    return data[:end] + data[start:end] + data[end:]


def swap(draw: Random, data: bytes) -> bytes:
    a, b = sorted((_span(draw, data), _span(draw, data)))
    if a[1] > b[0]:
        return data[::-1] if draw.random() < 0.1 else flip(draw, data)
    return data[: a[0]] + data[slice(*b)] + data[a[1] : b[0]] + data[slice(*a)] + data[b[1] :]


BYTE_MUTATORS: tuple[Mutator, ...] = (flip, truncate, insert, remove, overwrite, double, swap)


def mutate_bytes(draw: Random, data: bytes) -> bytes:
    """One to three mutations that know nothing of the format."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        data = draw.choice(BYTE_MUTATORS)(draw, data)
    return data


# --- whole files -----------------------------------------------------------------------------------------------------


def encode(draw: Random, data: bytes) -> bytes:
    """The same text in another encoding, with other line ends or separators."""
    text = data.decode(errors="replace")
    how = draw.randrange(9)
    if how < 4:
        text = text.replace("a", "é", draw.choice((0, 1)))
        return text.encode(("utf-16", "utf-16-le", "utf-32", "latin-1")[how], errors="replace")
    if how == 4:
        return b"\xef\xbb\xbf" * draw.choice((1, 1, 2)) + data
    if how == 5:
        return data.replace(b"\n", b"\r\n")
    if how == 6:
        return data.replace(b"\n", b"\r")
    return data.replace(b",", b";" if how == 7 else b"\t")


def shrink(draw: Random, data: bytes) -> bytes:
    """Next to nothing."""
    return draw.choice((b"", b"\n", b" ", b"\0", b"\xef\xbb\xbf", b"\r\n", data[:1], data.partition(b"\n")[0], b"[]"))


def enlarge(draw: Random, data: bytes) -> bytes:
    """A file of 5 MB: the same lines again and again, one endless word, or endless nesting."""
    how = draw.randrange(4)
    first, _, rest = data.partition(b"\n")
    if how == 0 and rest:
        return first + b"\n" + rest * (LARGE_BYTES // len(rest))
    at = draw.randint(0, len(data))
    middle = (b"w", b"9", b"[", b",", b'{"a":')[draw.randrange(5)]
    return data[:at] + middle * (LARGE_BYTES // len(middle)) + data[at:]


# --- lines and cells -------------------------------------------------------------------------------------------------


def mutate_lines(draw: Random, data: bytes) -> bytes:
    """Lines dropped, doubled, swapped, joined, emptied."""
    lines = data.split(b"\n")
    i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
    how = draw.randrange(7)
    if how == 0:
        del lines[i]
    elif how == 1:
        lines.insert(i, lines[j])
    elif how == 2:
        lines[i], lines[j] = lines[j], lines[i]
    elif how == 3:
        lines[i : i + 2] = [b"".join(lines[i : i + 2])]
    elif how == 4:
        lines.insert(i, draw.choice((b"", b" ", b"," * lines[0].count(b","), b'""', b"# a note", b"\t")))
    elif how == 5:
        lines[i] = lines[i][: draw.randint(0, len(lines[i]))]
    else:
        return data.rstrip(b"\n") + draw.choice((b"", b"\n\n", b"\r", b" "))
    return b"\n".join(lines)


def mutate_cells(draw: Random, data: bytes) -> bytes:
    """Cells of a CSV table given hostile values, dropped, doubled or swapped; the header's, too, but seldom."""
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        row = rows[0] if draw.random() < 0.15 else draw.choice(rows[1:] or rows)
        if not row:
            continue
        i, j = draw.randrange(len(row)), draw.randrange(len(row))
        how = draw.choices(range(5), (8, 1, 1, 1, 1))[0]
        if how == 0:
            row[i] = words.cell(draw)
        elif how == 1:
            del row[i]
        elif how == 2:
            row.insert(i, row[j])
        elif how == 3:
            row[i], row[j] = row[j], row[i]
        else:
            row[i] = (row[i] + words.cell(draw)) if draw.random() < 0.5 else row[i][: len(row[i]) // 2]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="surrogatepass")


def mutate_file(draw: Random, data: bytes, knowing: Mutator, *more: Mutator) -> bytes:
    """One mutation of a file: mostly by one of the mutators that know its format, else as any file."""
    if draw.random() < LARGE_SHARE:
        return enlarge(draw, data)
    chance = draw.random()
    if chance < 0.03:
        return shrink(draw, data)
    if chance < 0.07:
        return encode(draw, data)
    if chance < 0.30:
        return mutate_bytes(draw, data)
    return draw.choice((knowing, knowing, *more))(draw, data)


def mutate_table(draw: Random, data: bytes) -> bytes:
    return mutate_file(draw, data, mutate_cells, mutate_lines)


# --- what is no file -------------------------------------------------------------------------------------------------


def put(draw: Random, path: Path, data: bytes) -> str:
    """Write a mutated file, or seldom put something else there; what, in a word, `file` for a file."""
    if draw.random() >= SPECIAL_SHARE:
        path.write_bytes(data)
        return "file"
    return put_special(draw, path, data)


def put_special(draw: Random, path: Path, data: bytes) -> str:
    """A pipe, a folder, links that lead nowhere or in circles, a device, or a file without permission."""
    kinds = ["pipe", "folder", "loop", "dangling", "null", "zero", "absent", "link"]
    kind = draw.choice(kinds + (["forbidden"] if os.geteuid() else []))  # nothing is forbidden to root
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind in ("null", "zero"):
        path.symlink_to(f"/dev/{kind}")
    elif kind == "link":
        (path.parent / f"{path.name}.target").write_bytes(data)
        path.symlink_to(f"{path.name}.target")
    elif kind == "forbidden":
        path.write_bytes(data)
        path.chmod(0)
    return kind
