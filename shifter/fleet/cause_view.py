"""Why the calls to a dependency fail, as operators see it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shifter.fleet.shared_state import DependencyReport
from shifter.policy.failure_cause import FailureCause, main_cause
from shifter.policy.protection.circuit.states import CircuitState, HalfOpen, Open


class CauseRow(msgspec.Struct, frozen=True):
    """Why calls to a dependency failed; see `FailureCause`.

    Attributes:
        kind: The exception's class.
        count: Failures of this kind.
        message: What the last of them said.
    """

    kind: str
    count: int
    message: str


def cause_row(
    state: CircuitState | None, reports: Sequence[DependencyReport]
) -> CauseRow | None:
    """The cause that the fleet agreed on, else that of its processes.

    Args:
        state: The state of the circuit; ``None`` if there is none.
        reports: What processes report of the dependency.
    """
    found = state.cause if isinstance(state, Open | HalfOpen) else None
    if found is None:
        told = (one.cause for one in reports)
        found = main_cause(FailureCause(*one) for one in told if one is not None)
    return None if found is None else CauseRow(found.kind, found.count, found.message)
