"""Commands that try the fit of a script, with a Keras of few lines."""

from __future__ import annotations

import pytest

from tests.epochcast.live.scripts.toy_keras import toy_keras


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_keras(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def runner(toy, tmp_path, monkeypatch, capfd):
    """Return what makes a function of a command: of a script's code, its exit code, output and messages."""
    monkeypatch.setenv("PYTHONPATH", toy)
    monkeypatch.chdir(tmp_path)

    def of(main, *usual):
        def run_code(code, *arguments, flags=usual, name="train.py", function=""):
            (tmp_path / name).write_bytes(code if isinstance(code, bytes) else code.encode())
            try:
                exit_code = main([*flags, f"{name}{function}", *arguments])
            except SystemExit as end:
                exit_code = end.code
            out, err = capfd.readouterr()
            return exit_code, out, err.splitlines()

        return run_code

    return of
