"""``python -m tests.torture.harness.worker CONCURRENCY``: one worker process.

What a supervisor's child runs, without the supervisor: whoever kills it starts another
one at once, and no back-off of a supervisor slows the killing down.
"""

from __future__ import annotations

import sys

from shifter.launch import worker_process
from shifter.work.options import WorkOptions

TARGET = "tests.torture.harness.jobs:app"

if __name__ == "__main__":
    worker_process(WorkOptions(TARGET, concurrency=int(sys.argv[1])))
