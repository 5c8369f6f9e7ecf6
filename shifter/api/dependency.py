"""A dependency as ``app.dependency(...)`` returns it: a block around a call guards it.

``with mailer:`` and ``async with mailer:`` ask for leave first, and note what the block
came to. Inside a handler the call is made in the name of its job; elsewhere in that of
the request under way.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack, cast

from shifter.balance.balancer import Balancer, EndpointView
from shifter.balance.dns import check_client
from shifter.balance.options import RunOptions, TryOptions
from shifter.balance.sharing import SharedEndpoints
from shifter.balance.tries import (
    NO_ENDPOINT_S,
    REJECTIONS,
    EndpointCall,
    EndpointCalls,
    evidence_of,
)
from shifter.errors import ConfigError, NoEndpointError
from shifter.fleet.calls import (
    CALLER,
    IGNORED,
    ActiveCall,
    Caller,
    CallVerdict,
    verdict_of,
)
from shifter.fleet.changes import call_back
from shifter.fleet.protection import Rejected
from shifter.fleet.replica import FleetReplica
from shifter.model.endpoint import Endpoint, EndpointList, read_endpoints
from shifter.model.time import Duration
from shifter.policy.failure_cause import FailureCause
from shifter.policy.protection.dependency import Dependency, DependencyOptions

_OPEN: Final[ContextVar[tuple[tuple[Caller, ActiveCall] | None, ...]]] = ContextVar(
    "shifter_open_calls", default=()
)
_RAISE: Final = object()
"""No default value: the error is raised."""

T = TypeVar("T")


class BoundDependency(Dependency):
    """A dependency whose blocks guard the calls inside; blocks may be nested.

    A refusal raises `RejectedError`. A handler that lets it pass is parked, and that
    is no attempt. In a handler whose job names the same dependency in ``uses=`` the
    block does nothing: the job has been let through already.

    With ``endpoints=`` a call goes to one of several servers: `call` is one try,
    `run` and `run_sync` try again on another endpoint.

    Args:
        here: In whose name calls outside of handlers are made.
        name: The name, as of `Dependency`.
        options: The options of `Dependency`.
    """

    __slots__ = ("_groups", "_here")

    def __init__(
        self,
        here: Callable[[], Caller],
        name: str,
        **options: Unpack[DependencyOptions],
    ) -> None:
        super().__init__(name, **options)
        check_client(self.endpoints)
        object.__setattr__(self, "_here", here)
        object.__setattr__(self, "_groups", weakref.WeakKeyDictionary())

    def __enter__(self) -> Self:
        caller = self._caller()
        answer = caller.begin(self.name)
        if isinstance(answer, Rejected):
            raise REJECTIONS[answer.by](self.name, answer.wait_ms / 1_000)
        begun = None if answer is None else (caller, answer)
        _OPEN.set((*_OPEN.get(), begun))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        *outer, begun = _OPEN.get()
        _OPEN.set(tuple(outer))
        if begun is not None:
            caller, call = begun
            caller.end(call, verdict_of(error, self))

    def call(
        self, timeout: Duration | None = None, *, key: str | None = None
    ) -> EndpointCall:
        """One try on one endpoint: ``async with render.call("2s") as call:``.

        ``call.endpoint.url`` is where to call, ``call.remaining_s`` how long that may
        take. An ``async with`` block is cancelled when its time is up and raises
        `TimeoutError`; a plain ``with`` block is not stopped.

        Args:
            timeout: Longest duration; less where the job, the request or the call
                around has less left.
            key: What the call is about; with ``choice="hash"`` equal keys go to the
                same endpoint.

        Raises:
            ConfigError: The timeout is wrong, or the dependency has no endpoints.
            RejectedError: A protection refuses the call, when the block begins.
            DeadlineExceededError: No time is left, when the block begins.
        """
        options = RunOptions(timeout=timeout)
        self._check_endpoints()
        return EndpointCall(lambda: self._calls(key), options.timeout)

    async def run(
        self,
        fetch: Callable[[Endpoint], Awaitable[T]],
        *,
        default: Any = _RAISE,
        key: str | None = None,
        **options: Unpack[TryOptions],
    ) -> T:
        """Await a function with one endpoint, and with another one where that fails.

        Each further try is paid from the dependency's retry budget, and each try is
        evidence for its circuit. An exception that is no failure (``failures=``,
        ``ignore=``) is raised at once.

        Args:
            fetch: Called with the endpoint. Calling it twice must do no harm where
                there are ``retries`` or a ``hedge``.
            default: The answer if no try is permitted or all failed, or a function
                that returns it, plain or ``async``; by default the error is raised.
            key: What the call is about; with ``choice="hash"`` equal keys go to the
                same endpoint.
            **options: See `TryOptions`.

        Raises:
            ConfigError: An option is wrong, or the dependency has no endpoints.
            RejectedError: A protection refuses the call.
            DeadlineExceededError: No time is left.
            TimeoutError: The last try took too long.
        """
        from shifter.balance.run import CallFailedError, run_async  # noqa: PLC0415

        checked = RunOptions(**options)
        try:
            return await run_async(self._calls(key), checked, fetch)
        except CallFailedError as failed:
            error = failed.error
        if default is _RAISE:
            raise error
        found = default() if callable(default) else default
        return cast("T", await found if inspect.isawaitable(found) else found)

    def run_sync(
        self,
        fetch: Callable[[Endpoint], T],
        *,
        default: Any = _RAISE,
        key: str | None = None,
        **options: Unpack[TryOptions],
    ) -> T:
        """`run` for a plain function, which runs in the calling thread.

        It cannot be stopped: give its client the timeout that
        `shifter.balance.remaining_s` returns.

        Args:
            fetch: Called with the endpoint.
            default: The answer if no try is permitted or all failed, or a function
                that returns it; by default the error is raised.
            key: What the call is about; with ``choice="hash"`` equal keys go to the
                same endpoint.
            **options: See `TryOptions`; a plain function is not hedged.

        Raises:
            ConfigError: An option is wrong, or the dependency has no endpoints.
            RejectedError: A protection refuses the call.
            DeadlineExceededError: No time is left.
        """
        from shifter.balance.run import CallFailedError, run_sync  # noqa: PLC0415

        checked = RunOptions(**options)
        if options.get("hedge") is not None:
            raise ConfigError(
                "hedge", options["hedge"], "use it with run, not run_sync"
            )
        try:
            return run_sync(self._calls(key), checked, fetch)
        except CallFailedError as failed:
            error = failed.error
        if default is _RAISE:
            raise error
        return cast("T", default() if callable(default) else default)

    def choose_endpoint(self) -> Endpoint:
        """Choose the endpoint that the job under way calls; see `Context.endpoint`.

        Raises:
            ConfigError: The dependency has no endpoints.
            NoEndpointError: No endpoint is known.
        """
        self._check_endpoints()
        caller = self._caller()
        clock = caller.replica.clock
        began = clock.monotonic()
        lease = self._balancer(caller.replica).lease(began)
        if lease is None:
            raise NoEndpointError(self.name, NO_ENDPOINT_S)
        held, limit = caller.held, caller.limit
        limit_s = None if limit is None else limit.until_ms / 1_000 - began

        def ended(verdict: CallVerdict) -> None:
            now = clock.monotonic()
            lease.end(now, evidence_of(verdict, now - began, limit_s))

        if held is None:  # a child process has no part in the call of its parent
            ended(IGNORED)
        else:
            held.at_end = ended
        return lease.endpoint

    def set_endpoints(self, endpoints: EndpointList) -> None:
        """Use this list from the next call on, in this process.

        What is known of endpoints that stay is kept; calls under way go on.

        Args:
            endpoints: URLs or `Endpoint`.

        Raises:
            ConfigError: An endpoint is wrong, the list is empty, or the dependency was
                declared without endpoints.
        """
        self._check_endpoints()
        found = read_endpoints(endpoints)
        object.__setattr__(self, "endpoints", found)
        for group in list(self._groups.values()):  # type: ignore[attr-defined]
            group.balancer.replace(found)

    def endpoint_views(self) -> list[EndpointView]:
        """The endpoints as this process sees them; empty for none."""
        if self.endpoints is None:
            return []
        replica = self._caller().replica
        return self._balancer(replica).views(replica.clock.monotonic())

    def endpoints_age_s(self) -> float | None:
        """Seconds since DNS or the function last listed the endpoints.

        While look-ups fail, or do not end, it grows, and the last endpoints are used.
        It is ``None`` for a list, and before the first answer.
        """
        if self.endpoints is None:
            return None
        replica = self._caller().replica
        return self._balancer(replica).age_s(replica.clock.monotonic())

    def _caller(self) -> Caller:
        return CALLER.get() or self._here()  # type: ignore[attr-defined]

    def _check_endpoints(self) -> None:
        if self.endpoints is None:
            want = "declare it with app.dependency(..., endpoints=[...])"
            raise ConfigError("endpoints", None, want)

    def _calls(self, key: str | None) -> EndpointCalls:
        self._check_endpoints()
        caller = self._caller()
        replica = caller.replica
        return EndpointCalls(self, self._balancer(replica), caller, replica.clock, key)

    def join(self, replica: FleetReplica) -> None:
        """Share what a process knows of the endpoints with the fleet.

        Args:
            replica: The fleet's state in this process.
        """
        if self.endpoints is not None:
            self._balancer(replica)

    def _balancer(self, replica: FleetReplica) -> Balancer:
        """The balancer of a clock; an app has another clock in a test."""
        groups = self._groups  # type: ignore[attr-defined]
        found: SharedEndpoints | None = groups.get(replica.clock)
        if found is None:
            balancer = Balancer(
                self.name,
                self.endpoints or (),
                self.balance,
                changed=lambda word, cause: self._endpoint_changed(
                    replica, word, cause
                ),
            )
            has_checks = self.health is not None
            made = SharedEndpoints(balancer, self.balance, has_checks=has_checks)
            found = groups.setdefault(replica.clock, made)
        replica.endpoints.join(self, found)
        found.balancer.place = replica.place
        return found.balancer

    def _endpoint_changed(
        self, replica: FleetReplica, word: str, cause: FailureCause
    ) -> None:
        protection = replica.protections.get(self.name)
        if protection is not None and word == "ejected":
            protection.endpoint_ejected(cause.kind)
        call_back(self, word, cause)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)
