"""Run the default tests in two processes at once, each with half of the files: most tests wait for one child.

`python tests/in_two.py` takes pytest's own flags; its exit code is 1 where either half fails.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def halves(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return the files in two lists of about equal size, by their bytes."""
    ordered = sorted(files, key=lambda file: (file.stat().st_size, file.name), reverse=True)
    return [f for i, f in enumerate(ordered) if i % 4 in (0, 3)], [f for i, f in enumerate(ordered) if i % 4 in (1, 2)]


def main(flags: list[str]) -> int:
    first, second = halves(sorted((ROOT / "tests").glob("test_*.py")))
    command = [sys.executable, "-m", "pytest", *flags]
    with tempfile.TemporaryFile("w+") as kept:  # two outputs at once could not be read
        other = subprocess.Popen([*command, *map(str, second)], cwd=ROOT, stdout=kept, stderr=subprocess.STDOUT)
        try:
            code = subprocess.run([*command, *map(str, first)], cwd=ROOT).returncode
        finally:
            other_code = other.wait()
            kept.seek(0)
            print(kept.read(), flush=True)
    return int(code != 0 or other_code != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
