"""Plays a schedule: begins each act at its time, heals it when it has lasted.

Each is written down with the processes it hits: before it begins, and after it healed,
so that what it caused lies between the two.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Sequence

from tests.torture.faults.fault import Fault
from tests.torture.harness.event import History
from tests.torture.harness.scenario import FAULTS, OF_ONE, Act, Stand, pids_of


class Nemesis(threading.Thread):
    """Acts on a thread of its own; `healed` waits until it is over and says so.

    Args:
        acts: By time.
        stand: What can be broken.
        history: Its own.
    """

    def __init__(self, acts: Sequence[Act], stand: Stand, history: History) -> None:
        super().__init__(name="nemesis", daemon=True)
        self._acts, self._stand = acts, stand
        self._history = history
        self._error: BaseException | None = None
        self._ending = threading.Event()
        self.count = 0

    def run(self) -> None:
        """Play all acts; a failure is raised by `healed`."""
        began, order = time.monotonic(), itertools.count()
        on: list[tuple[float, int, Act, Fault, list[int]]] = []
        waiting = list(self._acts)
        try:
            while (waiting or on) and not self._ending.is_set():
                now = time.monotonic() - began
                if on and on[0][0] <= now:
                    _, _, act, fault, pids = heapq.heappop(on)
                    self._heal(act, fault, pids)
                elif waiting and waiting[0].at_s <= now:
                    act = waiting.pop(0)
                    if self._is_free(act, [other for _, _, other, _, _ in on]):
                        fault, pids = self._begin(act)
                        until = act.at_s + act.lasts_s
                        heapq.heappush(on, (until, next(order), act, fault, pids))
                else:
                    self._ending.wait(0.02)
        except BaseException as error:
            self._error = error
        finally:
            for _, _, act, fault, pids in on:
                self._heal(act, fault, pids)

    def _is_free(self, act: Act, on: Sequence[Act]) -> bool:
        """One thing is broken in one way at a time."""
        return not any(
            (act.what in OF_ONE and other.member == act.member)
            or (act.what not in OF_ONE and other.what == act.what)
            for other in on
            if (other.what in OF_ONE) == (act.what in OF_ONE)
        )

    def _begin(self, act: Act) -> tuple[Fault, list[int]]:
        fault = FAULTS[act.what](act, self._stand)
        pids = pids_of(act, self._stand)
        self._history.note("fault", kind=act.what, pids=pids)
        fault.start()
        self.count += 1
        return fault, pids

    def _heal(self, act: Act, fault: Fault, pids: list[int]) -> None:
        fault.heal()
        self._history.note("heal", kind=act.what, pids=pids)

    def healed(self, *, timeout_s: float) -> None:
        """Wait until everything is healed.

        Raises:
            AssertionError: It did not end, or a fault could not be played.
        """
        self.join(timeout_s)
        self._ending.set()
        self.join(60)
        assert not self.is_alive(), "the nemesis does not end"
        if self._error is not None:
            raise AssertionError(f"nemesis: {self._error!r}") from self._error
