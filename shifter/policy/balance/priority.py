"""Priorities of endpoints: which of them are called, and which stand by.

Endpoints of the smallest number are called. Where less than ``panic_share`` of them is
left, those of the next number are called as well, and so on. Where too few of all are
left, all are called: the reason is then one that the endpoints share.

Sources: RFC 2782 (a client tries the records of the smallest priority first); Envoy
(priority levels, and the panic threshold over all of them).
"""

from __future__ import annotations

from collections.abc import Sequence

from shifter.policy.balance.state import EndpointState


def by_priority(
    states: Sequence[EndpointState], panic_share: float
) -> tuple[list[EndpointState], list[EndpointState]]:
    """The endpoints that are called, and those that are called when all were tried.

    Args:
        states: All endpoints.
        panic_share: If a smaller share of the endpoints is left, all are called; above
            0, up to 1.
    """
    called: list[EndpointState] = []
    known = 0
    for level in sorted({one.endpoint.priority for one in states}):
        here = [one for one in states if one.endpoint.priority == level]
        known += len(here)
        called += [one for one in here if not one.is_out]
        if len(called) >= max(1, panic_share * known):
            behind = [one for one in states if one.endpoint.priority > level]
            return called, [one for one in behind if not one.is_out]
    return list(states), []
