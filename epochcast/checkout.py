"""The state of the source code that measured: its git commit."""

from __future__ import annotations

import os
import subprocess

from epochcast.paths import CODE_ROOT

GIT_TIMEOUT_SEC = 2.0  # it takes some 10 ms; a checkout on a network that hangs must not hold a run
HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # inside a hook they name another repository


def git_commit() -> str | None:
    """The checkout's commit, e.g. `1a2b3c4d5e6f`, with `-dirty` where tracked files have changed; None outside one.

    Not kept between calls: a grid runs for hours, and each of its runs starts from the code as it then is.
    """
    if not (CODE_ROOT / ".git").exists():  # installed: a repository further up is another project's
        return None
    # without the locks git would refresh its index: nothing here writes to a checkout
    command = ["git", "--no-optional-locks", "-C", str(CODE_ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    environ = {name: value for name, value in os.environ.items() if name not in HOOK_VARIABLES}
    try:
        told = subprocess.run(
            [*command, "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_SEC,
            env=environ,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.strip() or None if told.returncode == 0 else None
