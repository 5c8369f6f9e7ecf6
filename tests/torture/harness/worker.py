"""``python -m tests.torture.harness.worker CONCURRENCY LINE``: one worker process.

What a supervisor's child runs, without the supervisor: whoever kills it starts another
one at once, and no back-off of a supervisor slows the killing down. LINE is the number
of the inherited socket on which it says what it counted, as it would to a supervisor.
"""

from __future__ import annotations

import socket
import sys

from shifter.supervise.entrypoint import worker_process
from shifter.work.worker import WorkOptions

TARGET = "tests.torture.harness.jobs:app"

if __name__ == "__main__":
    concurrency, line = map(int, sys.argv[1:])
    worker_process(
        WorkOptions(TARGET, concurrency=concurrency), socket.socket(fileno=line)
    )
