"""The endpoints of one dependency: which of them gets the next call.

`Group` decides by values: the time and the random draws are passed in. The algorithms
and their sources:

* Power of two choices: Mitzenmacher, "The Power of Two Choices in Randomized Load
  Balancing" (2001); with peak EWMA as the load in Finagle and Linkerd, with the calls
  under way as the load in Envoy (``LEAST_REQUEST``). A choice takes the same time for
  ten endpoints and for a thousand.
* Round robin by weight: see `shifter.policy.balance.turns`.
* Consistent hashing with bounded loads: Mirrokni, Thorup, Zadimoghaddam (2016), as in
  HAProxy and Envoy; see `shifter.policy.balance.ring`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Final

from shifter.model.endpoint import Endpoint
from shifter.policy.balance.comparison import compared
from shifter.policy.balance.mark import Mark, MarkKind
from shifter.policy.balance.policy import BalancePolicy, Choice
from shifter.policy.balance.priority import by_priority
from shifter.policy.balance.ring import HashRing
from shifter.policy.balance.state import EndpointState, least_loaded, untried
from shifter.policy.balance.turns import Turns
from shifter.policy.balance.withhold import expire, has_room, set_mark, withhold
from shifter.policy.failure_cause import FailureCause

_HASH, _ROUND_ROBIN = Choice.HASH, Choice.ROUND_ROBIN  # a look-up in an enum is slow

_FEW: Final = 4
"""Of so many endpoints all are compared: two draws would often be the same."""


class Group:
    """The endpoints of one dependency in one process. Belongs to one thread.

    Args:
        policy: How calls are shared.

    Attributes:
        states: The endpoints, by URL.
        changed: Endpoints that were ejected or restored; whoever reports it clears it.
    """

    def __init__(self, policy: BalancePolicy) -> None:
        self._policy = policy
        self.states: dict[str, EndpointState] = {}
        self.changed: list[EndpointState] = []
        self._open: list[EndpointState] = []
        self._backup: list[EndpointState] = []
        self._open_by_url: dict[str, EndpointState] = {}
        self._local: list[EndpointState] = []
        self._remote: list[EndpointState] = []
        self._changes_at = self._compare_at = math.inf
        self._turns = Turns()
        self._ring = HashRing(())
        self._inflight, self._usual = 0, 0.0

    def update(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """Replace the list of endpoints; what is known of those that stay is kept."""
        before = self.states
        self.states = {}
        for endpoint in endpoints:
            state = before.get(endpoint.url)
            if state is None:
                state = EndpointState(endpoint, self._policy, now)
            state.endpoint = endpoint
            self.states[endpoint.url] = state
        if self._compare_at == math.inf:
            self._compare_at = now + self._policy.ejection.interval_ms / 1_000
        self._ring = HashRing(
            (one.url, one.weight)
            for one in endpoints
            if self._policy.choice is Choice.HASH
        )
        self._refresh(now)

    def choose(
        self,
        now: float,
        u: float,
        *,
        key: str | None = None,
        tried: Collection[str] = (),
    ) -> EndpointState | None:
        """Choose the endpoint of one call.

        Args:
            now: Monotonic seconds.
            u: A random number from [0, 1).
            key: What the call is about; only for ``HASH``.
            tried: URLs of endpoints that were called for the same purpose already;
                they are chosen only if there is no other.

        Returns:
            The endpoint; ``None`` if the list is empty.
        """
        if now >= self._changes_at:
            self._refresh(now)
        if self._backup and all(one.endpoint.url in tried for one in self._open):
            return self._by_load(untried(self._backup, tried), now, u)[0]
        choice = self._policy.choice
        if choice is _HASH and key is not None:
            return self._by_key(key, tried)
        if choice is _ROUND_ROBIN:
            return self._turns.take(now, tried)
        if self._remote and self._local:
            return self._by_zone(now, u, tried)
        states = untried(self._open, tried) if tried else self._open
        return self._by_load(states, now, u)[0]

    def begin(self, state: EndpointState, now: float) -> None:
        """Note that a call begins."""
        state.begin(now)
        self._inflight += 1

    def ended(
        self,
        state: EndpointState,
        now: float,
        took_s: float,
        *,
        failed: bool | None,
        cause: FailureCause | None = None,
    ) -> None:
        """Note how a call ended.

        Args:
            state: The endpoint that was called.
            now: Monotonic seconds.
            took_s: How long the call took.
            failed: ``None`` if that is no evidence: then only its duration counts.
            cause: Why it failed, if that is known.
        """
        state.ended(now)
        self._inflight -= 1
        counted_s = max(took_s, self._policy.failure_ms / 1_000) if failed else took_s
        if failed is not None or took_s > state.latency.cost(now):
            state.latency.observe(now, counted_s)
        if failed is not None:
            health, policy = state.health, self._policy.ejection
            health.note(now, failed=failed, took_s=took_s, cause=cause)
            if health.in_a_row >= policy.consecutive_failures:
                self._eject(state, now, f"{health.in_a_row} failures in a row")
        if now >= self._compare_at:
            self._compare(now)

    def pause(self, state: EndpointState, now: float, seconds: float) -> None:
        """Do not call an endpoint that asked for a pause; it is no failure."""
        state.health.pause(now + seconds)
        self._refresh(now)

    def mark(
        self, state: EndpointState, kind: MarkKind, mark: Mark | None, now: float
    ) -> None:
        """Set a mark, or take it away; arguments as of `set_mark`."""
        if set_mark(state, kind, mark, now):
            self._refresh(now)

    def _by_load(
        self, states: list[EndpointState], now: float, u: float
    ) -> tuple[EndpointState | None, float]:
        """Draw two, and take the one with less load; and what is left of the draw.

        Where both have more load than is usual, two more are drawn: of ten endpoints
        three of which are bad, two draws are bad ones 9 times in 100, and four draws 8
        times in 1000.
        """
        count = len(states)
        if count <= _FEW:
            return least_loaded(states, now, u), u
        best, least, bound = states[0], math.inf, 2 * self._usual
        for drawn in range(4):
            # A float has 53 random bits; four picks of a thousand use 40 of them.
            u *= count
            one = states[int(u)]
            u %= 1
            load = one.load(now)
            if load < least:
                best, least = one, load
            if drawn == 1 and least <= bound:
                break
        self._usual += (least - self._usual) / 32
        return best, u

    def _by_zone(
        self, now: float, u: float, tried: Collection[str]
    ) -> EndpointState | None:
        """The better of two endpoints here, unless one elsewhere has much less load."""
        here, u = self._by_load(untried(self._local, tried), now, u)
        remote = untried(self._remote, tried)
        there = remote[int(u * len(remote))]
        if here is None or (here.endpoint.url in tried and remote is not self._remote):
            return there
        is_full = here.load(now) > self._policy.zone_factor * there.load(now)
        return there if is_full and here.inflight else here

    def _by_key(self, key: str, tried: Collection[str]) -> EndpointState | None:
        weights = sum(one.endpoint.weight for one in self._open)
        room = self._policy.hash_load * (self._inflight + 1) / max(weights, 1e-9)
        open_now = (self._open_by_url.get(url) for url in self._ring.walk(key))
        spare: EndpointState | None = None
        for state in filter(None, open_now):
            most = math.ceil(room * state.endpoint.weight)
            if state.endpoint.url not in tried and state.inflight < most:
                return state
            spare = spare or state
        return spare

    def _compare(self, now: float) -> None:
        """Compare the endpoints at the end of an interval."""
        policy = self._policy.ejection
        for state, why, is_slow in compared(policy, self._open):
            self._eject(state, now, why, is_slow=is_slow)
        for state in self.states.values():
            state.health.clear()
        self._compare_at = now + policy.interval_ms / 1_000

    def _eject(
        self, state: EndpointState, now: float, why: str, *, is_slow: bool = False
    ) -> None:
        if self.states.get(state.endpoint.url) is not state or state.health.is_ejected:
            return
        policy = self._policy.ejection
        if not state.is_ejected and not has_room(policy, self.states.values()):
            return
        self.changed.append(state)
        state.health.eject(policy, now, why, is_slow=is_slow)
        self._refresh(now)

    def _refresh(self, now: float) -> None:
        """Sort the endpoints by whether they are called."""
        policy, states = self._policy, list(self.states.values())
        self.changed += [state for state in states if expire(state, now)]
        self.changed += withhold(policy.ejection, states)
        ends = [one.health.out_until for one in states if one.health.out_until]
        ends += [mark.until for one in states for mark in one.marks.values()]
        self._changes_at = min(ends, default=math.inf)
        present = [one for one in states if not one.is_drained] or states
        self._open, self._backup = by_priority(present, policy.ejection.panic_share)
        self._open_by_url = {one.endpoint.url: one for one in self._open}
        self._local = [one for one in self._open if one.endpoint.zone == policy.zone]
        self._remote = [one for one in self._open if one.endpoint.zone != policy.zone]
        self._turns.restart(self._open)
