"""Round robin by weight.

Each turn of an endpoint moves its next turn by 1 / weight; the earliest turn is next.

Source: Envoy's scheduler of hosts by earliest deadline first.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence

from shifter.policy.balance.state import EndpointState


class Turns:
    """The turns of the endpoints that are called. Belongs to one thread."""

    def __init__(self) -> None:
        self._queue: list[tuple[float, int, EndpointState]] = []
        self._now = 0.0

    def restart(self, states: Sequence[EndpointState]) -> None:
        """Replace the endpoints; one that missed turns does not catch up."""
        self._queue = [
            (max(state.turn, self._now), place, state)
            for place, state in enumerate(states)
        ]
        heapq.heapify(self._queue)

    def take(self, now: float, tried: Collection[str]) -> EndpointState | None:
        """The endpoint whose turn it is.

        Args:
            now: Monotonic seconds, for the weights of endpoints in slow start.
            tried: URLs of endpoints that are taken only if there is no other.

        Returns:
            The endpoint; ``None`` if there is none.
        """
        queue, later = self._queue, list[tuple[float, int, EndpointState]]()
        if not queue:
            return None
        while queue and queue[0][2].endpoint.url in tried:
            later.append(heapq.heappop(queue))
        chosen = heapq.heappop(queue) if queue else later.pop(0)
        for one in later:
            heapq.heappush(queue, one)
        self._now, place, state = chosen
        state.turn = self._now + 1 / state.weight(now)
        heapq.heappush(queue, (state.turn, place, state))
        return state
