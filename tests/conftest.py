"""Fixtures that several test files share."""

from __future__ import annotations

import gc
import itertools
import os
import signal
from pathlib import Path

import pytest

from epochcast import paths
from epochcast.keras_files import file_network
from epochcast.machine import gpu_driver
from tests.support.models.saved_networks import author, folder, unregistered  # noqa: F401  # fixtures

_TESTS = itertools.count()

# A third of the time to collect the tests would go into the search for garbage: what is loaded lives until the end.
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.set_threshold(20_000, 10, 50)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def all_locks(tmp_path_factory):
    """Fixtures of whole modules wait for no run of the tester's."""
    locks = tmp_path_factory.mktemp("locks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPOCHCAST_LOCK_DIR", str(locks / "shared"))
        yield locks


@pytest.fixture(autouse=True)
def own_locks(all_locks, monkeypatch):
    """Tests wait for no run of another test; the folder is made by the first run in it."""
    monkeypatch.setenv("EPOCHCAST_LOCK_DIR", str(all_locks / str(next(_TESTS))))


@pytest.fixture(scope="session", autouse=True)
def own_cache_of_networks(tmp_path_factory):
    """Networks that tests read are not kept among the tester's."""
    kept = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_network, "cache_dir", lambda: kept)
        yield


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty home: files of the tester's own take no part."""
    monkeypatch.setenv("EPOCHCAST_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def reference_data() -> Path:
    """The reference data where they lie; missing, the test skips, or fails under EPOCHCAST_REQUIRE_REFERENCE_DATA=1."""
    data = paths.reference_data().resolve()
    if data.is_dir():
        return data
    message = f"no reference data in {data}; set EPOCHCAST_REFERENCE_DATA"
    if os.environ.get("EPOCHCAST_REQUIRE_REFERENCE_DATA") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def fast_disk(monkeypatch):
    """A kill of a process loses nothing that was written: without waiting for the disk, hundreds are tried."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(autouse=True)
def asked_anew():
    """The driver is asked once per process: each test asks it for itself."""
    gpu_driver.forget()
    yield
    gpu_driver.forget()


# whoever starts the tests in the background of a script has them, and their children, ignore Ctrl-C
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
