"""Looks at workers and at what their groups committed, once a second."""

from __future__ import annotations

import contextlib
import itertools
import resource
import threading
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from shifter.model.lane import Lane, Priority
from tests.torture.faults.process import open_files, threads
from tests.torture.harness.crew import Crew
from tests.torture.harness.event import History
from tests.torture.harness.jobs import app
from tests.torture.harness.place import PARTITIONS, Place

_EVERY_S: Final = 1.0
_PAGE_BYTES: Final = resource.getpagesize()
_ASK_S: Final = 1.0


class Sampler(threading.Thread):
    """Runs until `stop`."""

    def __init__(self, crew: Crew, place: Place, history: History) -> None:
        super().__init__(name="sampler", daemon=True)
        self._crew, self._history = crew, history
        self._stop_asked = threading.Event()
        self._commits: Commits | None = None
        if place.cluster is not None:
            servers = {"bootstrap.servers": place.cluster.direct}
            self._commits = Commits(servers, place.namespace, history)

    def run(self) -> None:
        """Sample until stopped."""
        while not self._stop_asked.wait(_EVERY_S):
            self._crew.listen()
            for pid in self._crew.pids:
                with contextlib.suppress(OSError):
                    self._history.note("sample", kind="worker", **_of(pid))
            if self._commits is not None:
                self._commits.look()

    def stop(self) -> None:
        """End; returns when it has."""
        self._stop_asked.set()
        self.join()
        if self._commits is not None:
            self._commits.close()


def _of(pid: int) -> dict[str, Any]:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return {
        "pids": [pid],
        "facts": {
            "rss_mib": pages * _PAGE_BYTES / 2**20,
            "files": open_files(pid),
            "threads": threads(pid),
        },
    }


class Commits:
    """What groups committed, asked by consumers that never join."""

    def __init__(
        self, servers: dict[str, str], namespace: str, history: History
    ) -> None:
        self._history = history
        self._known: dict[tuple[str, int], int] = {}
        self._asked: list[tuple[Consumer, list[TopicPartition]]] = []
        for priority in Priority:
            group = f"{namespace}.workers.{priority.value.lower()}"
            consumer = Consumer({**servers, "group.id": group, "log_level": 0})
            lanes = [Lane(namespace, queue, priority).name for queue in app.queues]
            parts = [
                TopicPartition(*each)
                for each in itertools.product(lanes, range(PARTITIONS))
            ]
            self._asked.append((consumer, parts))

    def look(self) -> None:
        """Note each offset that changed; an answer that does not come is left out."""
        for consumer, parts in self._asked:
            try:
                told = consumer.committed(parts, timeout=_ASK_S)
            except KafkaException:
                return
            for part in told:
                at = (part.topic, part.partition)
                if part.error is None and part.offset > self._known.get(at, 0):
                    self._known[at] = part.offset
                    self._history.note(
                        "commit",
                        topic=part.topic,
                        part=part.partition,
                        offset=part.offset,
                    )

    def close(self) -> None:
        """Close the consumers."""
        for consumer, _ in self._asked:
            consumer.close()
