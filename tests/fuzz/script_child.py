"""A measuring process that says what a file holds: `script_child.py FILE ENDING FD PARENT IDLE`.

`"@T0.002@"` in the file becomes the monotonic clock of the child's start plus that many seconds. ENDING is an exit
code, `kill` or `segfault`; `close` ends the events, but not the process, at once; `noise` prints odd bytes first.
"""

import os
import re
import resource
import signal
import sys
import time

START = time.monotonic() - 0.004  # the interpreter needed longer than that


def main() -> int:
    path, ending, descriptor = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sys.stdin.buffer.read()
    with open(path, "rb") as file:  # noqa: PTH123  # pathlib takes longer to import than the rest
        data = file.read()
    data = re.sub(rb'"@T([-.\de]+)@"', lambda found: repr(START + float(found[1])).encode(), data)
    if ending == "noise":
        os.write(1, b"\xff\xfe \x1b[31m noise \0 RESOURCE_EXHAUSTED?\r\n" * 50)
    for start in range(0, len(data), 1000):  # pieces that end in the middle of lines
        os.write(descriptor, data[start : start + 1000])
    if ending == "close":
        os.close(descriptor)
        time.sleep(0.05)
    if ending in ("kill", "segfault"):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), signal.SIGKILL if ending == "kill" else signal.SIGSEGV)
    return int(ending) if ending.isdecimal() else 0


if __name__ == "__main__":
    sys.exit(main())
