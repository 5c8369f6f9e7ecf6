"""What becomes of a transaction whose sender is killed: a second process ends it.

It waits for its input to end. A sender that closes says so first; one that is killed
says nothing, and then the transactional id is taken over from it, which aborts what it
had open. Without this, nothing is wrong, but readers wait for the broker's time limit.

The configuration goes through the pipe, since it holds secrets. The process is this
file and nothing else of the product: it has to be there soon, and costs little.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from confluent_kafka import KafkaException, Producer

if TYPE_CHECKING:
    from shifter.adapters.kafka.config import Property

_REVOKED: Final = b"revoked"
_CONNECT_S: Final = 10.0
_ABORT_S: Final = 10.0
_REVOKE_S: Final = 2.0


class TransactionReaper:
    """Of one sender.

    Args:
        config: Of its producer.
    """

    def __init__(self, config: Mapping[str, Property]) -> None:
        self._config = config
        self._executor: subprocess.Popen[bytes] | None = None

    def write(self) -> None:
        """Start the process that waits; where that cannot be, do without."""
        if any(callable(value) for value in self._config.values()):
            return
        line = msgspec.json.encode(self._config) + b"\n"
        with contextlib.suppress(OSError):
            self._executor = executor = subprocess.Popen(  # noqa: S603  # this very file
                [sys.executable, "-P", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # What is typed at the sender's terminal is not meant for it.
                start_new_session=True,
            )
            if executor.stdin is not None:
                executor.stdin.write(line)
                executor.stdin.flush()

    def revoke(self) -> None:
        """Let the process end without doing anything."""
        executor, self._executor = self._executor, None
        if executor is None:
            return
        try:
            executor.communicate(_REVOKED, _REVOKE_S)
        except (OSError, subprocess.TimeoutExpired):
            # It is still on its way to a cluster that does not answer.
            executor.kill()
            executor.wait()


def execute() -> None:
    """Wait for the sender's end, and abort what it left open."""
    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=dict[str, object])
    producer = Producer(config)
    with contextlib.suppress(KafkaException):
        # Connected beforehand: later every moment counts.
        producer.list_topics(timeout=_CONNECT_S)
    if sys.stdin.buffer.read() != _REVOKED:
        with contextlib.suppress(KafkaException):
            producer.init_transactions(_ABORT_S)


if __name__ == "__main__":
    execute()
