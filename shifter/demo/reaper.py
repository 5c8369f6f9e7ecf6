"""Ends a command, and all that it starts, when the parent of this program ends.

    python reaper.py FOLDER COMMAND ...

A line on standard input asks the command to end (SIGTERM). The end of standard input,
which also comes when the demo was killed, does the same and removes the folder. A
command that does not end in time is killed, together with everything in this process
group: the demo starts the program in a session of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading

GRACE_S = 12.0
"""How long the command may take to end."""


def main(folder: str, command: list[str]) -> None:
    """Run the command until it ends, or until standard input has a line or ends."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  # the demo's
    # After the start, since a child inherits ignored signals.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    is_ending = threading.Event()
    threading.Thread(target=_follow, args=(child, is_ending), daemon=True).start()
    asked = sys.stdin.buffer.readline()
    is_ending.set()
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    if not asked:
        shutil.rmtree(folder, ignore_errors=True)
    # This process is in the group too, so nothing after this line would run.
    os.killpg(0, signal.SIGKILL)


def _follow(child: subprocess.Popen[bytes], is_ending: threading.Event) -> None:
    """End with the command, when it ends by itself."""
    code = child.wait()
    if not is_ending.is_set():
        os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
