"""Who operates: the name that overrides and runs are recorded under."""

from __future__ import annotations

import getpass
import os
import socket


def who() -> str:
    """The operator: user and host name of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
