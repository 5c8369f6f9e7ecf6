"""Calls of a handler in a child process, counted by its worker.

A child is killed when its handler is stopped, and its counts are lost with it. So it
reports each call at its begin and end, and the worker cuts those that were active
(`shifter.fleet.calls.Caller.cut`).
"""

from __future__ import annotations

import threading
from multiprocessing.connection import Connection

import msgspec

from shifter.fleet.calls import ActiveCall, Caller, CallVerdict
from shifter.policy.protection.circuit import Permit
from shifter.policy.protection.evidence import CallOutcome


class CallReport(msgspec.Struct, tag="call", omit_defaults=True):
    """A call began or ended.

    Attributes:
        number: Of the call, >= 1, within the process.
        dependency: Its name.
        generation: Of the permit of the fleet's circuit.
        probe: Of the same permit.
        outcome: How it ended; ``None`` for one that began.
    """

    number: int
    dependency: str
    generation: int
    probe: int = 0
    outcome: CallOutcome | None = None


class ChildChannel:
    """The child's end of the pipe, shared by its threads.

    Args:
        connection: To the worker.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()
        self._numbers: dict[ActiveCall, int] = {}
        self._last = 0

    def send(self, message: msgspec.Struct) -> None:
        """Send a message, in one piece."""
        with self._lock:
            self._connection.send_bytes(msgspec.msgpack.encode(message))

    def began(self, begun: ActiveCall) -> None:
        """Report a call that begins."""
        with self._lock:
            self._last += 1
            self._numbers[begun] = number = self._last
        self.send(_report(number, begun, None))

    def ended(self, begun: ActiveCall, said: CallVerdict) -> None:
        """Report a call that ended."""
        number = self._numbers.pop(begun)
        self.send(_report(number, begun, said.outcome))


class ChildCalls:
    """The worker's side: the calls of one attempt under way in a child.

    Args:
        caller: The attempt's.
    """

    def __init__(self, caller: Caller | None) -> None:
        self._caller, self._begun = caller, dict[int, ActiveCall]()

    def take(self, report: CallReport) -> None:
        """Note what the child reports."""
        caller = self._caller
        if caller is None:
            return
        if report.outcome is not None:
            if (begun := self._begun.pop(report.number, None)) is not None:
                caller.end(begun, CallVerdict(report.outcome))
            return
        permit = Permit(report.generation, report.probe)
        adopted = caller.adopt(report.dependency, permit)
        if adopted is not None:
            self._begun[report.number] = adopted


def _report(number: int, begun: ActiveCall, outcome: CallOutcome | None) -> CallReport:
    shared = begun.permit.shared
    name = begun.protection.dependency.name
    return CallReport(number, name, shared.generation, shared.probe, outcome)
