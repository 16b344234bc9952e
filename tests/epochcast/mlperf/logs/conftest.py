"""Complete logs of all rounds, at least one for each irregularity that a parser meets."""

from __future__ import annotations

import tarfile

import pytest


@pytest.fixture
def raw_logs(reference_data, tmp_path):
    """The folder with the complete logs and the descriptions of their systems."""
    folder = tmp_path / "raw_logs"
    with tarfile.open(reference_data / "mlperf" / "raw_sample.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    (folder / "INDEX.tsv").unlink()
    return folder
