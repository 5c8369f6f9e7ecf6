"""Health of the worker processes of one supervisor, by their heartbeats."""

from __future__ import annotations

import socket
from typing import NamedTuple

from shifter.policy.health import HealthPolicy, WorkProgress, ailment
from shifter.ports import Clock
from shifter.telemetry import Snapshot, Totals
from shifter.work.heartbeat import Heartbeat, hear


class ProcessCondition(NamedTuple):
    """One process, for people and probes.

    Attributes:
        slot: Its place, from 0.
        pid: Its process id; ``None`` before its first heartbeat.
        is_live: Whether it makes progress.
        is_ready: Whether it has joined and may claim.
        detail: What is wrong, or ``ok``.
    """

    slot: int
    pid: int | None
    is_live: bool
    is_ready: bool
    detail: str


class _Process:
    """A process that runs, and its last heartbeat."""

    def __init__(self, line: socket.socket, now: float) -> None:
        self.line, self.heartbeat_at = line, now
        self.heartbeat: Heartbeat | None = None


class ProcessHealth:
    """Receives the heartbeats of processes; owned by the supervisor's event loop.

    Args:
        processes: How many processes there should be, >= 1.
        clock: Measures how long a process has sent no heartbeat.
        policy: When a process counts as alive.
    """

    def __init__(
        self, processes: int, clock: Clock, policy: HealthPolicy | None = None
    ) -> None:
        self._count, self._clock = processes, clock
        self._policy = HealthPolicy() if policy is None else policy
        self._running: dict[int, _Process] = {}
        self._totals = Totals()

    def began(self, slot: int, line: socket.socket) -> None:
        """Note that a process starts.

        Args:
            slot: Its place, from 0.
            line: Socket that brings its heartbeats; closed when the process has ended.
        """
        self._running[slot] = _Process(line, self._clock.monotonic())

    def ended(self, slot: int) -> bool:
        """Note that a process has ended; its counts stay in the metrics.

        Returns:
            Whether it had joined its groups, by its last heartbeat.
        """
        process = self._running[slot]
        self._receive(slot, process)
        process.line.close()
        del self._running[slot]
        self._totals.retire(str(slot))
        return process.heartbeat is not None and process.heartbeat.is_ready

    def conditions(self) -> list[ProcessCondition]:
        """All processes, by slot; one that does not run is neither live nor ready."""
        return [self._condition(slot) for slot in range(self._count)]

    def metrics(self) -> Snapshot:
        """The sum of the counts of all processes, also of those that have ended."""
        for slot, process in self._running.items():
            self._receive(slot, process)
        return self._totals.snapshot()

    def _receive(self, slot: int, process: _Process) -> None:
        pulse = hear(process.line)
        if pulse is not None:
            process.heartbeat, process.heartbeat_at = pulse, self._clock.monotonic()
            self._totals.absorb(str(slot), pulse.snapshot)

    def _condition(self, slot: int) -> ProcessCondition:
        process = self._running.get(slot)
        if process is None:
            return ProcessCondition(slot, None, False, False, "starts again soon")
        self._receive(slot, process)
        silent_s, heartbeat = (
            self._clock.monotonic() - process.heartbeat_at,
            process.heartbeat,
        )
        if heartbeat is None:
            wrong = ailment(self._policy, None, silent_s=silent_s)
            return ProcessCondition(
                slot, None, wrong is None, False, wrong or "starting"
            )
        progress = WorkProgress(
            heartbeat.is_ready,
            heartbeat.unpolled_s,
            heartbeat.unsettled_s,
            heartbeat.running,
            heartbeat.overdue_s,
        )
        wrong = ailment(self._policy, progress, silent_s=silent_s)
        is_live, is_joined = wrong is None, heartbeat.is_ready
        # A restart does not help while the store refuses, but the process is not ready.
        is_ready = is_live and is_joined and not heartbeat.refusal
        detail = wrong or heartbeat.refusal or ("ok" if is_joined else "joining")
        return ProcessCondition(slot, heartbeat.pid, is_live, is_ready, detail)
