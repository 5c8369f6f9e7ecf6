"""Sends health checks to endpoints, beside the calls, and shares what they show.

One process of the fleet checks the endpoints of a dependency for all, by a lease
(`shifter.fleet.check_lease`). Others check an endpoint when they confirm what that one
found, or when they found it ill themselves. Without a state store, or while it is away,
each process checks for itself.

Checks run in the background loop of the app or the worker, and end with it: no call
waits for one.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias

from shifter.balance.probe import probe
from shifter.balance.sharing import SharedEndpoints
from shifter.fleet.replica import FleetReplica
from shifter.model.endpoint import Endpoint
from shifter.model.health_check import HealthCheck
from shifter.policy.balance.checking import CheckState, interval_s
from shifter.policy.balance.mark import Mark

Check: TypeAlias = Callable[[HealthCheck, Endpoint], Awaitable[str | None]]
"""Checks an endpoint once: what is wrong, or ``None``."""

_AT_ONCE: Final = 32
"""Checks of one dependency at the same time, at most."""

_LONGEST_WAIT_S: Final = 0.5
"""How soon a new endpoint, or a lease, is noticed."""

_LEAST_WAIT_S: Final = 0.02

_AWAY_S: Final = 10.0
"""A store that was silent for so long has no part in who checks: a lease is over."""

_KEPT_INTERVALS: Final = 3
"""A finding that is not renewed ends after so many intervals."""


class _Due(NamedTuple):
    """An endpoint's checks so far, and when the next one begins."""

    state: CheckState
    at: float


class EndpointChecks:
    """The health checks that this process sends. Belongs to one event loop.

    Args:
        replica: The fleet's state in this process.
        check: Checks one endpoint once; `shifter.balance.probe.probe`.
        draws: Source of the jitter; by default a new one.
    """

    def __init__(
        self,
        replica: FleetReplica,
        check: Check = probe,
        draws: random.Random | None = None,
    ) -> None:
        self._replica, self._check = replica, check
        self._draws = random.Random() if draws is None else draws  # noqa: S311  # no secret

    async def run(self) -> None:
        """Check until cancelled."""
        async with asyncio.TaskGroup() as group:
            for protection in self._replica.protections.values():
                dependency = protection.dependency
                dependency.join(self._replica)
                shared = self._replica.endpoints.group(dependency.name)
                if isinstance(shared, SharedEndpoints) and dependency.health:
                    checks = _Checks(dependency.health, shared, self._replica)
                    group.create_task(checks.run(self._check, self._draws.random))


class _Checks:
    """The checks of the endpoints of one dependency."""

    def __init__(
        self, check: HealthCheck, shared: SharedEndpoints, replica: FleetReplica
    ) -> None:
        self._check, self._shared, self._replica = check, shared, replica
        self._name = shared.balancer.name
        self._due: dict[str, _Due] = {}
        self._running: set[str] = set()

    async def run(self, ask: Check, draw: Callable[[], float]) -> None:
        """Check until cancelled.

        Args:
            ask: Checks one endpoint once.
            draw: Returns a random number from [0, 1).
        """
        clock, free = self._replica.clock, asyncio.Semaphore(_AT_ONCE)

        async def once(endpoint: Endpoint) -> None:
            async with free:
                why = await ask(self._check, endpoint)
            self._running.discard(endpoint.url)
            self._ended(endpoint.url, why, draw())

        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    now = clock.monotonic()
                    for endpoint in self._begun(now, draw):
                        group.create_task(once(endpoint))
                    at = min((one.at for one in self._due.values()), default=math.inf)
                    wait_s = max(_LEAST_WAIT_S, at - now)
                    await clock.sleep(min(_LONGEST_WAIT_S, wait_s))
        finally:
            # Nobody would find out that they are well again.
            for url in list(self._shared.unhealthy):
                self._shared.found(url, None, clock.monotonic())
            self._shared.checked.clear()

    def _begun(self, now: float, draw: Callable[[], float]) -> list[Endpoint]:
        """The endpoints whose check begins now."""
        mine, begun = self._mine(now), list[Endpoint]()
        self._shared.keep(mine)
        self._due = {url: one for url, one in self._due.items() if url in mine}
        for url, endpoint in mine.items():
            known = self._due.get(url)
            if known is None:
                # The first checks of many endpoints and processes are spread.
                at = now + draw() * self._interval_s(url, 0.5)
                known = self._due[url] = _Due(CheckState(), at)
            if known.at <= now and url not in self._running:
                self._running.add(url)
                # Planned anew when it has ended.
                self._due[url] = known._replace(at=math.inf)
                begun.append(endpoint)
        return begun

    def _mine(self, now: float) -> dict[str, Endpoint]:
        """The endpoints that this process checks, by URL."""
        endpoints, age_s = self._replica.endpoints, self._replica.age_s
        with self._shared.balancer.inspecting(now, refreshes=True) as group:
            listed = {url: one.endpoint for url, one in group.states.items()}
        is_alone = age_s is None or age_s > _AWAY_S
        # No process knows the endpoints of all subsets: each one checks its own.
        if is_alone or self._shared.has_subset or endpoints.leads(self._name):
            return listed
        return {
            url: endpoint
            for url, endpoint in listed.items()
            if url in self._shared.unhealthy or endpoints.must_confirm(self._name, url)
        }

    def _ended(self, url: str, why: str | None, u: float) -> None:
        """Note how a check ended, and plan the next one."""
        known, now = self._due.get(url), self._replica.clock.monotonic()
        if known is None:  # not this process's any more
            return
        state = known.state
        has_changed = state.note(self._check, ok=why is None)
        self._shared.checked[url] = state.in_a_row
        if not state.is_healthy and why is not None:
            until = now + _KEPT_INTERVALS * (
                self._check.every_s + self._check.timeout_s
            )
            self._shared.found(url, Mark(until, f"health check: {why}"), now)
        elif has_changed:
            self._shared.found(url, None, now)
            if self._replica.endpoints.leads(self._name):
                self._replica.endpoints.withdraw(self._name, url)
        self._due[url] = _Due(state, now + self._interval_s(url, u))

    def _interval_s(self, url: str, u: float) -> float:
        confirms = self._replica.endpoints.must_confirm(self._name, url)
        return interval_s(self._check, u, confirms=confirms)
