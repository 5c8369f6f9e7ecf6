"""What a supervisor knows of its processes: who lives, who is ready, what counts."""

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
        pid: ``None`` before its first word.
        is_live: Whether it gets on.
        is_ready: Whether it has joined and may claim.
        detail: What is wrong, or ``ok``.
    """

    slot: int
    pid: int | None
    is_live: bool
    is_ready: bool
    detail: str


class _Known:
    """One process."""

    def __init__(self, line: socket.socket, now: float) -> None:
        self.line, self.heard_at = line, now
        self.said: Heartbeat | None = None


class ProcessHealth:
    """Hears the processes of one supervisor. Owned by its event loop.

    Args:
        processes: How many there should be, >= 1.
        clock: For silences.
        policy: What counts as alive.
    """

    def __init__(
        self, processes: int, clock: Clock, policy: HealthPolicy | None = None
    ) -> None:
        self._processes, self._clock = processes, clock
        self._policy = HealthPolicy() if policy is None else policy
        self._known: dict[int, _Known] = {}
        self._totals = Totals()

    def began(self, slot: int, line: socket.socket) -> None:
        """A process starts; its words will come by this line, which is ours now."""
        self._known[slot] = _Known(line, self._clock.monotonic())

    def ended(self, slot: int) -> bool:
        """It is gone; what it counted stays.

        Returns:
            Whether it had joined, by its last report.
        """
        known = self._known[slot]
        self._listen(slot, known)
        known.line.close()
        del self._known[slot]
        self._totals.retire(str(slot))
        return known.said is not None and known.said.is_ready

    def conditions(self) -> list[ProcessCondition]:
        """All processes, by slot; one that is away is neither live nor ready."""
        return [self._condition(slot) for slot in range(self._processes)]

    def metrics(self) -> Snapshot:
        """The sum of what all have counted so far."""
        for slot, known in self._known.items():
            self._listen(slot, known)
        return self._totals.snapshot()

    def _listen(self, slot: int, known: _Known) -> None:
        pulse = hear(known.line)
        if pulse is not None:
            known.said, known.heard_at = pulse, self._clock.monotonic()
            self._totals.absorb(str(slot), pulse.snapshot)

    def _condition(self, slot: int) -> ProcessCondition:
        known = self._known.get(slot)
        if known is None:
            return ProcessCondition(slot, None, False, False, "starts again soon")
        self._listen(slot, known)
        silent_s, said = self._clock.monotonic() - known.heard_at, known.said
        if said is None:
            wrong = ailment(self._policy, None, silent_s=silent_s)
            return ProcessCondition(
                slot, None, wrong is None, False, wrong or "starting"
            )
        progress = WorkProgress(
            said.is_ready,
            said.unpolled_s,
            said.unsettled_s,
            said.running,
            said.overdue_s,
        )
        wrong = ailment(self._policy, progress, silent_s=silent_s)
        is_live, is_joined = wrong is None, said.is_ready
        # A restart does not help while the store refuses, but the process is not ready.
        is_ready = is_live and is_joined and not said.refusal
        detail = wrong or said.refusal or ("ok" if is_joined else "joining")
        return ProcessCondition(slot, said.pid, is_live, is_ready, detail)
