"""A sender that has a transaction open, for tests that kill it.

``python -m tests.integration.kafka.sender BOOTSTRAP NAME TOPIC`` opens the name, writes
one record whole, says so, then begins a second append and never ends it.
"""

from __future__ import annotations

import asyncio
import sys
import threading

from shifter.adapters.kafka.atomic import KafkaAtomicLog
from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.system import SystemClock
from shifter.ports import Record


async def send(bootstrap: str, name: str, topic: str) -> None:
    log = KafkaAtomicLog(KafkaConfig(bootstrap), name, SystemClock())
    await log.open()
    await log.append([Record(topic, b"whole", [])], timeout_s=30)
    log._patiently = hang
    await log.append([Record(topic, b"half", []) for _ in range(50)], timeout_s=30)


def hang(commit, limit_s):
    # The records are with the broker; that they are committed never comes.
    commit.__self__.flush(10)
    print("begun", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    asyncio.run(send(*sys.argv[1:]))
