"""Opens the log's looking-after side for one verb, and closes it at the end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from shifter import wiring
from shifter.cli.session import need_log
from shifter.config import Settings
from shifter.ports import LogAdmin


@contextlib.asynccontextmanager
async def opened_admin(settings: Settings) -> AsyncGenerator[LogAdmin]:
    """The admin of a log that answers.

    It is asked at once: that question hears why nobody answers (a wrong password, a
    wrong certificate) within seconds, where an ordinary call waits for its whole
    timeout and then only says that it did.

    Raises:
        ProblemError: No log is configured.
        StoreUnavailableError, StoreRefusedError: With the client's last words.
    """
    admin = wiring.open_admin(need_log(settings))
    try:
        await admin.ping()
        yield admin
    finally:
        await admin.close()
