"""Options of a worker: what it serves, and how."""

from __future__ import annotations

from typing import NamedTuple

from shifter.model.lane import Priority


class WorkOptions(NamedTuple):
    """Options of ``shifter work``.

    Attributes:
        target: ``MODULE:APP``; each process imports it by itself.
        processes: Worker processes, >= 1.
        concurrency: Attempts at once in each process, >= 1.
        queues: Queues to serve; empty for all of the app.
        priorities: Priorities to serve; empty for all.
        burst: End when nothing served is waiting, delayed or running.
        wait_s: How long to wait for the log and the state store at start, >= 0.
        health: Host and port that answer probes and scrapes; ``None`` for none.
        watchdog_s: How long a process may be unhealthy before it is killed, >= 0; 0
        means
            for ever.
    """

    target: str
    processes: int = 1
    concurrency: int = 100
    queues: tuple[str, ...] = ()
    priorities: tuple[Priority, ...] = ()
    burst: bool = False
    wait_s: float = 0.0
    health: tuple[str, int] | None = None
    watchdog_s: float = 60.0

    def serves(self, priority: Priority) -> bool:
        """Whether lanes of this priority are drained."""
        return not self.priorities or priority in self.priorities
