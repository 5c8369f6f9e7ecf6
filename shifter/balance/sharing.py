"""The endpoints of one dependency in this process, as the fleet shares them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Final, Literal, TypeAlias, get_args

from shifter.balance.balancer import Balancer
from shifter.fleet.endpoint_cells import MOST_CHARS, MOST_ENDPOINTS, EndpointReport
from shifter.policy.balance.mark import Mark, MarkKind
from shifter.policy.balance.policy import BalancePolicy
from shifter.policy.balance.state import EndpointState

_Word: TypeAlias = Literal["open", "starting", "paused", "ejected", "drained"]

_MOST_COUNT: Final = 10**12
_NONE: Final[Mapping[str, Mark]] = {}


class SharedEndpoints:
    """What a balancer tells the fleet, and learns of it. Safe to share between threads.

    Args:
        balancer: Has the endpoints.
        policy: How calls are shared.
        has_checks: Whether health checks are sent.

    Attributes:
        balancer: Has the endpoints.
        has_checks: Whether health checks are sent.
        has_subset: Whether this process calls only a part of the endpoints.
        checked: Health checks in a row with one result, by URL, of this process.
        unhealthy: Endpoints whose checks failed here, and since when.
    """

    def __init__(
        self, balancer: Balancer, policy: BalancePolicy, *, has_checks: bool = False
    ) -> None:
        self.balancer, self.has_checks = balancer, has_checks
        self._ejection, self.has_subset = policy.ejection, policy.subset is not None
        self.checked: dict[str, int] = {}
        self.unhealthy: dict[str, Mark] = {}
        self._followed: Mapping[str, Mark] = _NONE

    def reports(self, now: float) -> list[EndpointReport]:
        """What is seen of the endpoints; those that are out or in use come first."""
        with self.balancer.inspecting(now) as group:
            rows = [
                self._report(state, now)
                for state in group.states.values()
                if len(state.endpoint.url) <= MOST_CHARS
            ]
        if len(rows) > MOST_ENDPOINTS:
            rows.sort(key=lambda row: (row.state == "open", -row.checks, -row.calls))
        return rows[:MOST_ENDPOINTS]

    def counts(self, now: float) -> Mapping[str, int]:
        """How many endpoints there are, by state; each state is there."""
        counted = dict.fromkeys(get_args(_Word), 0)
        with self.balancer.inspecting(now) as group:
            for state in group.states.values():
                counted[_word(state, now)] += 1
        return counted

    def follow(self, marks: Mapping[MarkKind, Mapping[str, Mark]], now: float) -> None:
        """Take over what the fleet agreed on, by kind and URL."""
        self._followed = marks.get(MarkKind.CHECKS, _NONE)
        with self.balancer.inspecting(now) as group:
            for url, state in group.states.items():
                for kind in MarkKind:
                    mark = marks.get(kind, _NONE).get(url)
                    if kind is MarkKind.CHECKS:
                        mark = self._checks_of(url)
                    if mark is not None or kind in state.marks:
                        group.mark(state, kind, mark, now)

    def next_times(self, url: str, now: float) -> int:
        """How often an endpoint was ejected, if it is ejected now."""
        with self.balancer.inspecting(now) as group:
            state = group.states.get(url)
            if state is None:
                return 1
            health = state.health
            if health.is_ejected:
                return max(1, health.times)
            return health.next_times(self._ejection, now)

    def found(self, url: str, mark: Mark | None, now: float) -> None:
        """Note that the health checks of this process fail, or succeed again.

        Args:
            url: The endpoint.
            mark: How they fail, and how long that holds; ``None`` if they succeed.
            now: Monotonic seconds.
        """
        before = self.unhealthy.pop(url, None)
        if mark is not None:
            began = now if before is None else before.began
            self.unhealthy[url] = mark._replace(began=began)
        with self.balancer.inspecting(now) as group:
            state = group.states.get(url)
            if state is not None:
                group.mark(state, MarkKind.CHECKS, self._checks_of(url), now)

    def _checks_of(self, url: str) -> Mark | None:
        """What health checks found, here or elsewhere; the later end counts."""
        marks = (self.unhealthy.get(url), self._followed.get(url))
        known = [mark for mark in marks if mark is not None]
        return max(known, default=None, key=lambda mark: mark.until)

    def keep(self, urls: Collection[str]) -> None:
        """Forget the checks of endpoints that are not listed any more."""
        for known in (self.checked, self.unhealthy):
            for url in known.keys() - urls:
                known.pop(url, None)

    def _report(self, state: EndpointState, now: float) -> EndpointReport:
        endpoint, health = state.endpoint, state.health
        url, before = endpoint.url, health.before
        until, out_s = state.out_until, max(0.0, now - _out_since(state))
        vote: Literal["", "calls", "checks"] = ""
        unhealthy = self.unhealthy.get(url)
        if unhealthy is not None and unhealthy.until > now:
            vote, out_s = "checks", now - unhealthy.began
        elif health.is_ejected and not health.is_shared:
            vote, out_s = "calls", now - health.ejected_at
        return EndpointReport(
            url=url,
            state=_word(state, now),
            vote=vote,
            checks=self.checked.get(url, 0),
            calls=health.calls + before[0],
            failures=health.failures + before[1],
            inflight=max(0, state.inflight),
            latency_us=min(_MOST_COUNT, int(state.latency.cost(now) * 1e6)),
            weight_milli=int(state.weight(now) * 1_000),
            zone=(endpoint.zone or "")[:200],
            out_ms=int(out_s * 1_000),
            left_ms=0 if until == math.inf else int(max(0.0, until - now) * 1_000),
            why=state.why[:200],
            cooldown_ms=health.cooldown_ms if vote == "calls" else 0,
        )


def _out_since(state: EndpointState) -> float:
    """Since when it gets no calls, monotonic seconds; infinite if that is not known."""
    began = [mark.began for mark in state.marks.values() if state.is_withheld]
    if state.health.is_ejected:
        began.append(state.health.ejected_at)
    return min(began, default=math.inf)


def _word(state: EndpointState, now: float) -> _Word:
    if state.is_withheld and state.is_drained:
        return "drained"
    if state.is_ejected:
        return "ejected"
    if state.health.out_until:
        return "paused"
    return "open" if state.weight(now) >= state.endpoint.weight else "starting"
