"""The command with a bug, or with a sudden end; the product knows nothing of either.

``SHIFTER_BUG=B16 python -m tests.acceptance.seeded dlt replay …`` has a bug, which
checkers must see. With ``KILL_AFTER=500`` the process kills itself within `SOON_S` of
the batch that holds the 500th letter: before, during or after its write. A test that
killed it from outside would have to know how fast this machine is.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading

from shifter.cli import main
from shifter.deadletter import plan
from shifter.deadletter.batch import ReplayBatch
from shifter.deadletter.replay import Replayer
from shifter.wire.headers import ReadHeaders, successor


def b16_replay_drops_headers() -> None:
    def without_extra(read: ReadHeaders, **changes: object):
        return successor(read._replace(extra=[]), **changes)

    plan.successor = without_extra


SOON_S = 0.05


def kill_after(letters: int) -> None:
    send, left = Replayer._send, [letters]

    async def send_and_end(self: Replayer, batch: ReplayBatch):
        left[0] -= len(batch.moved())
        if left[0] <= 0:
            wait_s = random.uniform(0, SOON_S)
            threading.Timer(wait_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return await send(self, batch)

    Replayer._send = send_and_end


BUGS = {"B16": b16_replay_drops_headers}

if __name__ == "__main__":
    if "SHIFTER_BUG" in os.environ:
        BUGS[os.environ.pop("SHIFTER_BUG")]()
    if "KILL_AFTER" in os.environ:
        kill_after(int(os.environ.pop("KILL_AFTER")))
    sys.exit(main(sys.argv[1:]))
