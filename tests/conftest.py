"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epochcast import paths


@pytest.fixture
def reference_data() -> Path:
    """The reference data where they lie; missing, the test skips, or fails under EPOCHCAST_REQUIRE_REFERENCE_DATA=1."""
    folder = paths.reference_data().resolve()
    if folder.is_dir():
        return folder
    message = f"no reference data in {folder}; set EPOCHCAST_REFERENCE_DATA"
    if os.environ.get("EPOCHCAST_REQUIRE_REFERENCE_DATA") == "1":
        pytest.fail(message)
    pytest.skip(message)
