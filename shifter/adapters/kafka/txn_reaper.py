"""Ends the transaction of a sender that is killed, by a second process.

The process waits until its input ends. A sender that closes in order writes a word
before that; if the word is missing, the sender was killed, and the process takes the
transactional id over, which aborts the open transaction. Without it readers would wait
for the broker's time limit.

The configuration goes through the pipe, since it holds secrets. The process runs this
file and imports nothing else of the package: it must be ready soon, and cost little.
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

_STOPPED: Final = b"stopped"
_CONNECT_S: Final = 10.0
_ABORT_S: Final = 10.0
_STOP_S: Final = 2.0


class TransactionReaper:
    """The second process of one sender.

    Args:
        config: The properties of the sender's producer.
    """

    def __init__(self, config: Mapping[str, Property]) -> None:
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; where that is not possible, go on without it."""
        if any(callable(value) for value in self._config.values()):
            return
        line = msgspec.json.encode(self._config) + b"\n"
        with contextlib.suppress(OSError):
            self._process = process = subprocess.Popen(  # noqa: S603  # this very file
                # Without -P a module of this folder (`config`, `errors`) would be
                # imported in place of another one with its name.
                [sys.executable, "-P", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # A signal from the sender's terminal must not end it.
                start_new_session=True,
            )
            if process.stdin is not None:
                process.stdin.write(line)
                process.stdin.flush()

    def stop(self) -> None:
        """Let the process end without doing anything."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(_STOPPED, _STOP_S)
        except (OSError, subprocess.TimeoutExpired):
            # It is still connecting to a cluster that does not answer.
            process.kill()
            process.wait()


def wait_and_abort() -> None:
    """Wait for the sender's end, and abort what it left open."""
    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=dict[str, object])
    producer = Producer(config)
    with contextlib.suppress(KafkaException):
        # Connect now: readers wait while it aborts.
        producer.list_topics(timeout=_CONNECT_S)
    if sys.stdin.buffer.read() != _STOPPED:
        with contextlib.suppress(KafkaException):
            producer.init_transactions(_ABORT_S)


if __name__ == "__main__":
    wait_and_abort()
