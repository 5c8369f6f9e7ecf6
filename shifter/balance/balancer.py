"""The endpoints of one dependency in this process: chosen, watched, refreshed."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Collection, Generator
from dataclasses import replace
from typing import Final, NamedTuple

from shifter.balance.dns import DnsLookup
from shifter.fleet.changes import cause_facts
from shifter.model.endpoint import Dns, Endpoint, Endpoints, read_endpoints
from shifter.policy.balance.group import Group
from shifter.policy.balance.latency import Percentiles, Share
from shifter.policy.balance.policy import BalancePolicy
from shifter.policy.balance.state import EndpointState
from shifter.policy.balance.subset import Place, subset_by_zone
from shifter.policy.failure_cause import MAX_TEXT_CHARS, SLOW_CALL, FailureCause
from shifter.runtime.forking import renew_in_child
from shifter.telemetry import Event, Log

_REFRESH_S: Final = 1.0
"""How often a function is asked for the list of endpoints."""


class EndpointView(NamedTuple):
    """An endpoint as this process sees it.

    Attributes:
        endpoint: The endpoint.
        inflight: Calls of this process under way.
        latency_s: Seconds, an average that follows peaks; 0 before the first call.
        out_s: Seconds for which it gets no calls; 0 if it gets calls.
        why: Why it was ejected last; empty if it never was.
    """

    endpoint: Endpoint
    inflight: int
    latency_s: float
    out_s: float
    why: str


class CallEvidence(NamedTuple):
    """What the end of a call implies about its endpoint.

    Attributes:
        failed: Whether it failed; ``None`` if that is no evidence.
        pause_s: Seconds for which the endpoint asked not to be called; 0 for none.
        cause: Why it failed, if it did and that is known.
    """

    failed: bool | None
    pause_s: float = 0.0
    cause: FailureCause | None = None


class EndpointLease:
    """A call under way on an endpoint; it ends once.

    Attributes:
        endpoint: The endpoint that is called.
    """

    __slots__ = ("_balancer", "_began", "_state", "endpoint")

    def __init__(self, balancer: Balancer, state: EndpointState, began: float) -> None:
        self._balancer, self._began = balancer, began
        self._state: EndpointState | None = state
        self.endpoint = state.endpoint

    def end(self, now: float, evidence: CallEvidence) -> None:
        """Note how the call ended; the first end counts.

        Args:
            now: Monotonic seconds.
            evidence: What its end implies.
        """
        state, self._state = self._state, None
        if state is not None:
            took_s = max(0.0, now - self._began)
            self._balancer.ended(state, now, took_s, evidence)


class Balancer:
    """Chooses endpoints. Safe to share between threads.

    A function that returns the endpoints is called in the thread of a call or of the
    health checks, at most once a second; it must not block. While it raises, or returns
    an empty list, the last list is used.

    Args:
        name: The name of the dependency.
        endpoints: The endpoints, or a function that returns them.
        policy: How calls are shared.
        draws: Source of random numbers; by default a new one.
        changed: Called with ``ejected`` or ``restored`` and why, outside of the lock.

    Raises:
        ConfigError: An endpoint is wrong, or the list is empty.

    Attributes:
        name: The name of the dependency.
        failed_refreshes: How often the function raised or returned no endpoint.
        place: The place of this process in the fleet, for subsets; ``None`` if that is
            not known.
    """

    def __init__(
        self,
        name: str,
        endpoints: Endpoints,
        policy: BalancePolicy,
        draws: random.Random | None = None,
        changed: Callable[[str, FailureCause], None] | None = None,
    ) -> None:
        self._draw = (random.Random() if draws is None else draws).random  # noqa: S311  # no secret
        self._group, self._log = Group(policy), Log(dependency=name)
        self.name = name
        self._percentiles, self._hedges = Percentiles(), Share(policy.hedge_share)
        self._source: Callable[[], object] | None = None
        self._lookup: DnsLookup | None = None
        self._listed: tuple[Endpoint, ...] | None = None
        self._looked_up: tuple[Endpoint, ...] = ()
        self._refresh_at = 0.0
        self._listed_at: float | None = None
        self.failed_refreshes = 0
        self._policy, self._all = policy, tuple[Endpoint, ...]()
        self.place: Place | None = None
        self._taken_at: Place | None = None
        self._own_u = 0.0 if policy.subset is None else self._draw()
        self._changed = changed
        self._lock = threading.Lock()
        if isinstance(endpoints, Dns):
            self._lookup = DnsLookup(endpoints, log=self._log)
        elif callable(endpoints):
            self._source = endpoints
        else:
            self._listed = read_endpoints(endpoints)
        renew_in_child(self._after_fork)

    def replace(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Use this list from the next call on; see `Group.update`."""
        with self._lock:
            self._source, self._lookup, self._listed = None, None, endpoints

    def first_lookup(self, now: float) -> threading.Event | None:
        """What is set when the first look-up of a name has ended; ``None`` for none.

        Args:
            now: Monotonic seconds.
        """
        with self._lock:
            if self._lookup is None or self._group.states:
                return None
            self._keep_up(now)
            return None if self._group.states else self._lookup.first

    def age_s(self, now: float) -> float | None:
        """Seconds since the source of the list answered; ``None`` for a fixed list.

        Args:
            now: Monotonic seconds.
        """
        with self._lock:
            if self._lookup is not None:
                return self._lookup.age_s(now)
            at = None if self._source is None else self._listed_at
            return None if at is None else max(0.0, now - at)

    def lease(
        self, now: float, *, key: str | None = None, tried: Collection[str] = ()
    ) -> EndpointLease | None:
        """Begin a call on the endpoint that is chosen for it.

        Args:
            now: Monotonic seconds.
            key: What the call is about; only for ``choice="hash"``.
            tried: URLs of endpoints to be called only if there is no other.

        Returns:
            The call, which must be ended; ``None`` if no endpoint is known.
        """
        with self._lock:
            self._keep_up(now)
            state = self._group.choose(now, self._draw(), key=key, tried=tried)
            if state is None:
                return None
            self._group.begin(state, now)
            changed = self._take_changed()
        self._report(changed)
        return EndpointLease(self, state, now)

    def ended(
        self, state: EndpointState, now: float, took_s: float, evidence: CallEvidence
    ) -> None:
        """Note how a call ended; see `EndpointLease.end`."""
        with self._lock:
            self._group.ended(
                state, now, took_s, failed=evidence.failed, cause=evidence.cause
            )
            if evidence.failed is False:
                self._percentiles.observe(took_s)
            if evidence.pause_s > 0:
                self._group.pause(state, now, evidence.pause_s)
            changed = self._take_changed()
        self._report(changed)

    def percentile_s(self, share: float) -> float | None:
        """The duration that this share of calls does not exceed; ``None`` at first."""
        with self._lock:
            return self._percentiles.at(share)

    def earn_hedge(self) -> None:
        """Note a call that may be hedged."""
        with self._lock:
            self._hedges.earn()

    def spend_hedge(self) -> bool:
        """Take a second call; ``False`` if the share of second calls is used up."""
        with self._lock:
            return self._hedges.spend()

    def views(self, now: float) -> list[EndpointView]:
        """All endpoints as this process sees them, in the order of the list."""
        with self._lock:
            self._keep_up(now)
            return [
                EndpointView(
                    state.endpoint,
                    state.inflight,
                    state.latency.cost(now),
                    max(0.0, state.out_until - now),
                    state.why,
                )
                for state in self._group.states.values()
            ]

    @contextlib.contextmanager
    def inspecting(self, now: float, *, refreshes: bool = False) -> Generator[Group]:
        """The endpoints, locked while the block runs; changes are logged at its end.

        Args:
            now: Monotonic seconds.
            refreshes: Whether the list is brought up to date as for a call.
        """
        with self._lock:
            if refreshes:
                self._keep_up(now)
            self._apply_list(now)
            yield self._group
            changed = self._take_changed()
        self._report(changed)

    def _take_changed(self) -> list[EndpointState]:
        taken = self._group.changed
        if taken:
            self._group.changed = []
        return taken

    def _report(self, changed: list[EndpointState]) -> None:
        """Log what was ejected or restored; outside of the lock: logs run user code."""
        for state in changed:
            url, cause = state.endpoint.url, state.health.cause
            word = "restored"
            if state.is_withheld and state.is_drained:
                word = "drained"
                self._log.warning(Event.ENDPOINT_DRAINED, endpoint=url, why=state.why)
            elif state.is_ejected:
                word, facts = "ejected", {} if cause is None else cause_facts(cause)
                self._log.warning(
                    Event.ENDPOINT_EJECTED, endpoint=url, why=state.why, **facts
                )
            else:
                self._log.warning(Event.ENDPOINT_RESTORED, endpoint=url)
            if self._changed is not None:
                # It was slow, or this process knows it from the fleet alone.
                told = cause or FailureCause(SLOW_CALL, 1, state.why[:MAX_TEXT_CHARS])
                self._changed(word, replace(told, endpoint=url))

    def _keep_up(self, now: float) -> None:
        """Bring the list of endpoints up to date."""
        if self._source is not None and now >= self._refresh_at:
            self._refresh_at = now + _REFRESH_S
            try:
                self._listed = read_endpoints(self._source())
                self._listed_at = now
            except Exception:  # noqa: BLE001  # the user's function: the last list holds
                self.failed_refreshes += 1
        if self._lookup is not None:
            found = self._lookup.at(now)
            if found is not self._looked_up:
                self._looked_up = self._listed = found
        self._apply_list(now)

    def _apply_list(self, now: float) -> None:
        has_moved = self._policy.subset is not None and self.place != self._taken_at
        if self._listed is not None or has_moved:
            self._all = self._all if self._listed is None else self._listed
            self._listed, self._taken_at = None, self.place
            self._group.update(self._taken(), now)

    def _taken(self) -> list[Endpoint]:
        """The endpoints that this process calls."""
        size, zone = self._policy.subset, self._policy.zone
        return subset_by_zone(self._all, size, zone, self._taken_at, self._own_u)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
