"""Ends a command, and all that it starts, when the parent of this program ends.

    python leash.py FOLDER COMMAND ...

Standard input is the leash. A line on it asks the command to end (SIGTERM); its end,
which also comes when the demo was killed, does the same and removes the folder. What
does not end in time is killed, together with everything in this process group: the demo
starts the program in a session of its own.
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
    """Run the command until it ends, or until the leash is let go."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  # the demo's
    # Only now: what is ignored stays ignored in a child.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    let_go = threading.Event()
    threading.Thread(target=_follow, args=(child, let_go), daemon=True).start()
    asked = sys.stdin.buffer.readline()
    let_go.set()
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    if not asked:
        shutil.rmtree(folder, ignore_errors=True)
    # This process too: nothing of the group stays behind.
    os.killpg(0, signal.SIGKILL)


def _follow(child: subprocess.Popen[bytes], let_go: threading.Event) -> None:
    """End with the command, when it ends by itself."""
    code = child.wait()
    if not let_go.is_set():
        os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
