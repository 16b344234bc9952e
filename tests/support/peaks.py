"""The most memory that a block of a test takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


@contextmanager
def at_most(mib: float) -> Iterator[None]:
    """Fail if the block takes more memory than that, at any moment; proc(5)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is what it is now
    except OSError:
        pytest.skip("this system does not count the peak of a block anew")
    before = _peak_mib()
    yield
    assert _peak_mib() - before < mib
