"""The state of the source code that measured: its git commit."""

from __future__ import annotations

import os
import subprocess

from epochcast.paths import CODE_ROOT

COMMIT = "# branch.oid "
GIT_TIMEOUT_SEC = 2.0  # it takes some 10 ms; a checkout on a network that hangs must not hold a run
HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # inside a hook they name another repository


def git_commit() -> str | None:
    """The checkout's commit, e.g. `1a2b3c4d5e6f`, with `-dirty` where tracked files have changed; None outside one.

    Not kept between calls: a grid runs for hours, and each of its runs starts from the code as it then is.
    """
    if not (CODE_ROOT / ".git").exists():  # installed: a repository further up is another project's
        return None
    # without the locks git would refresh its index: nothing here writes to a checkout
    # not `describe --dirty`, which refreshes the index whatever the locks
    command = ["git", "--no-optional-locks", "-C", str(CODE_ROOT), "status", "--porcelain=v2", "--branch"]
    environ = {name: value for name, value in os.environ.items() if name not in HOOK_VARIABLES}
    try:
        told = subprocess.run(
            [*command, "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_SEC,
            env=environ,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = told.stdout.splitlines() if told.returncode == 0 else []
    commit = next((line.split()[-1] for line in lines if line.startswith(COMMIT)), "")
    if not commit.isalnum():  # `(initial)`: nothing is committed yet
        return None
    has_changes = any(not line.startswith("#") for line in lines)
    return f"{commit[:12]}-dirty" if has_changes else commit[:12]
