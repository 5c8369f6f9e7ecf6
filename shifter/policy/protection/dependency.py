"""A dependency: something that jobs call and that may fail, and how it is protected.

Which exceptions of a call are its failures: see
`shifter.policy.protection.failure_kinds`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias, TypedDict

from shifter.errors import ConfigError
from shifter.model.endpoint import Endpoint, Endpoints, check_endpoints
from shifter.model.error_kinds import ErrorKinds, check_kinds
from shifter.model.health_check import HealthCheck, check_health
from shifter.model.lane import check_name
from shifter.policy.balance.policy import BalancePolicy
from shifter.policy.delivery.failure_burst import FailureBurstPolicy
from shifter.policy.failure_cause import FailureCause
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.circuit.evidence import EvidencePolicy
from shifter.policy.protection.circuit.policy import CircuitPolicy
from shifter.policy.protection.failure_kinds import (
    Cooldowns,
    read_cooldowns,
)
from shifter.policy.protection.limit import LimitPolicy
from shifter.policy.protection.rate import RatePolicy
from shifter.policy.protection.throttle import ThrottlePolicy


class Protection(StrEnum):
    """What refuses calls to a dependency.

    Attributes:
        CIRCUIT: The circuit, while it is open.
        LIMIT: The limit of concurrent calls.
        BUDGET: The retry budget.
        RATE: The limit of calls a second.
    """

    CIRCUIT = "circuit"
    LIMIT = "limit"
    BUDGET = "budget"
    RATE = "rate"


OnChange: TypeAlias = (
    Callable[[str, str], None] | Callable[[str, str, FailureCause | None], None]
)
"""Called with a dependency, its new state and, if it takes three arguments, why."""


class DependencyOptions(TypedDict, total=False):
    """Options of ``app.dependency(...)``; see `Dependency` for each of them."""

    circuit: CircuitPolicy
    evidence: EvidencePolicy
    budget: BudgetPolicy
    throttle: ThrottlePolicy
    limit: LimitPolicy
    rate: RatePolicy
    letters: FailureBurstPolicy
    failures: ErrorKinds
    ignore: ErrorKinds
    cooldown: Cooldowns
    dark: Collection[Protection | str]
    on_change: OnChange
    endpoints: Endpoints
    balance: BalancePolicy
    health: HealthCheck


@dataclass(frozen=True, slots=True)
class Dependency:
    """A service, a database, a partner's API.

    Attributes:
        name: 1-64 lower-case letters, digits and inner hyphens.
        circuit: How its circuit opens and closes.
        evidence: When its circuit opens.
        budget: Extra executions it is asked to bear, by the whole fleet.
        throttle: A second bound of extra executions, by the calls of this process;
            ``None`` for none.
        limit: Calls at once, of one process; ``None`` for as many as there are slots.
        rate: Calls a second, of the whole fleet; ``None`` for no bound.
        letters: When dead letters of one kind implicate it rather than its jobs.
        failures: Exceptions that are failures of it: types, or a function of one;
            ``None`` for all but mistakes of the caller's own code. A call whose caller
            stopped waiting is judged by its duration.
        ignore: Exceptions that are no evidence, whatever ``failures`` is.
        cooldown: The first cooldown of its circuit, and the length of an endpoint's
            first ejection, by the type of the exception that the circuit opens for:
            ``{ConnectionRefusedError: "2s"}``. The most specific type holds. Each
            opening or ejection has one kind, that of most failures.
        dark: Protections that decide and count but refuse nothing: words of
            `Protection`.
        on_change: Called with its name and the circuit's new state (``closed``,
            ``open``, ``half_open``), once in each process that learns of it; must not
            block. A function of three arguments gets the `FailureCause` as well, or
            ``None``, and is called for endpoints, too (``ejected``, ``restored``,
            ``drained``).
        endpoints: The servers that can answer a call: URLs or `Endpoint`, `Dns`, or a
            function that returns them, called at most once a second; ``None`` if they
            are not known here.
        balance: How calls are shared between the endpoints.
        health: How the endpoints are checked beside the calls: `HttpCheck`, `TcpCheck`
            or `GrpcCheck`; ``None`` for no checks.
        cooldowns_ms: The rules of ``cooldown``, in milliseconds.

    Raises:
        ConfigError: The name is wrong, a word of ``dark`` is unknown, ``failures`` or
            ``ignore`` is neither types nor a function, or ``cooldown``, ``endpoints``
            or ``health`` is wrong.
    """

    name: str
    circuit: CircuitPolicy = field(default_factory=CircuitPolicy, kw_only=True)
    evidence: EvidencePolicy = field(default_factory=EvidencePolicy, kw_only=True)
    budget: BudgetPolicy = field(default_factory=BudgetPolicy, kw_only=True)
    throttle: ThrottlePolicy | None = field(default=None, kw_only=True)
    limit: LimitPolicy | None = field(default=None, kw_only=True)
    rate: RatePolicy | None = field(default=None, kw_only=True)
    letters: FailureBurstPolicy = field(
        default_factory=FailureBurstPolicy, kw_only=True
    )
    failures: ErrorKinds | None = field(default=None, kw_only=True)
    ignore: ErrorKinds | None = field(default=None, kw_only=True)
    cooldown: Cooldowns = field(default_factory=dict, kw_only=True, hash=False)
    dark: Collection[Protection | str] = field(default=(), kw_only=True)
    on_change: OnChange | None = field(default=None, kw_only=True)
    endpoints: Endpoints | None = field(default=None, kw_only=True)
    balance: BalancePolicy = field(default_factory=BalancePolicy, kw_only=True)
    health: HealthCheck | None = field(default=None, kw_only=True)
    cooldowns_ms: dict[type[BaseException], int] = field(init=False, hash=False)

    def __post_init__(self) -> None:
        check_name("dependency", self.name)
        for name, kinds in (("failures", self.failures), ("ignore", self.ignore)):
            if kinds is not None:
                check_kinds(name, kinds)
        cooldowns_ms = read_cooldowns(self.cooldown)
        object.__setattr__(self, "cooldowns_ms", cooldowns_ms)
        if self.endpoints is not None:
            object.__setattr__(self, "endpoints", check_endpoints(self.endpoints))
        if self.health is not None:
            check_health(self.health, has_endpoints=self.endpoints is not None)
        known = [protection.value for protection in Protection]
        words = [self.dark] if isinstance(self.dark, str) else list(self.dark)
        for word in words:
            if word not in known:
                raise ConfigError("dark", word, f"use words of {', '.join(known)}")
        object.__setattr__(self, "dark", frozenset(map(Protection, words)))

    def join(self, replica: Any) -> None:
        """Share what is known of the endpoints with the fleet; without any, nothing.

        Args:
            replica: The fleet's state in this process.
        """

    def choose_endpoint(self) -> Endpoint:
        """Choose the endpoint that the job under way calls.

        Raises:
            ConfigError: The dependency has no endpoints.
        """
        want = "declare it with app.dependency(..., endpoints=[...])"
        raise ConfigError("endpoints", None, want)
