"""Which endpoints get no calls because of their marks, and when marks end."""

from __future__ import annotations

from collections.abc import Collection

from shifter.policy.balance.ejection import EjectionPolicy
from shifter.policy.balance.mark import Mark, MarkKind
from shifter.policy.balance.state import EndpointState


def set_mark(
    state: EndpointState, kind: MarkKind, mark: Mark | None, now: float
) -> bool:
    """Note that an endpoint should get no calls, or may again.

    Args:
        state: The endpoint.
        kind: Who found it.
        mark: The reason and its end; ``None`` to take the mark away.
        now: Monotonic seconds.

    Returns:
        Whether that changed anything.
    """
    before = state.marks.get(kind)
    if mark is not None and mark.until > now:
        began = now if before is None else before.began
        state.marks[kind] = mark._replace(began=began)
        if kind is MarkKind.FLEET:
            state.health.is_shared = True
            state.health.times = max(state.health.times, mark.times)
        return state.marks[kind] != before
    if before is None:
        return False
    _unmark(state, kind, now)
    return True


def expire(state: EndpointState, now: float) -> bool:
    """End what is over: the endpoint's own ejection or pause, and its marks.

    Returns:
        Whether the endpoint is called again by that, and was ejected on its own.
    """
    is_restored = False
    if state.health.out_until and now >= state.health.out_until:
        is_restored = state.health.is_ejected and not state.is_withheld
        state.health.restore(now)
        state.warm_from = now
    for kind in [kind for kind, one in state.marks.items() if now >= one.until]:
        _unmark(state, kind, now)
    return is_restored


def has_room(policy: EjectionPolicy, states: Collection[EndpointState]) -> bool:
    """Whether one endpoint more may be ejected; drained ones do not count."""
    present = [one for one in states if not one.is_drained]
    most = policy.most_ejected(len(present))
    return sum(one.is_ejected for one in present) < most


def withhold(
    policy: EjectionPolicy, states: Collection[EndpointState]
) -> list[EndpointState]:
    """Decide by their marks which endpoints get no calls.

    Returns:
        Those of which that changed, without those that were ejected on their own.
    """
    was = [one.is_withheld for one in states]
    for state in states:
        state.is_withheld = state.is_drained
    for state in states:
        if state.marks and not state.is_drained:
            state.is_withheld = state.health.is_ejected or has_room(policy, states)
    return [
        state
        for state, before in zip(states, was, strict=True)
        if state.is_withheld != before and not state.health.is_ejected
    ]


def _unmark(state: EndpointState, kind: MarkKind, now: float) -> None:
    del state.marks[kind]
    if kind is MarkKind.FLEET:
        state.health.healthy_since = now
    if state.is_withheld and not state.marks:
        state.warm_from = now
