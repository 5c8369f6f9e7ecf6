"""Something that jobs call and that may fail, and how it is protected."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypedDict

from shifter.errors import ConfigError
from shifter.model.lane import check_name
from shifter.policy.delivery.failure_burst import FailureBurstPolicy
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.circuit.evidence import EvidencePolicy
from shifter.policy.protection.circuit.states import CircuitPolicy
from shifter.policy.protection.failures import ErrorKinds, check_kinds
from shifter.policy.protection.limit import LimitPolicy
from shifter.policy.protection.rate import RatePolicy
from shifter.policy.protection.throttle import ThrottlePolicy


class Protection(StrEnum):
    """What keeps calls from a dependency.

    Attributes:
        CIRCUIT: The circuit, while it is open.
        LIMIT: The limit of concurrent calls.
        BUDGET: The retry budget.
        RATE: The calls a second.
    """

    CIRCUIT = "circuit"
    LIMIT = "limit"
    BUDGET = "budget"
    RATE = "rate"


class DependencyOptions(TypedDict, total=False):
    """Options of ``app.dependency(...)``; `Dependency` says what each means."""

    circuit: CircuitPolicy
    evidence: EvidencePolicy
    budget: BudgetPolicy
    throttle: ThrottlePolicy
    limit: LimitPolicy
    rate: RatePolicy
    letters: FailureBurstPolicy
    failures: ErrorKinds
    ignore: ErrorKinds
    dark: Collection[Protection | str]
    on_change: Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Dependency:
    """A service, a database, a partner's API.

    Attributes:
        name: 1-64 lower-case letters, digits and inner hyphens.
        circuit: How it is left alone.
        evidence: When.
        budget: Extra executions it is asked to bear, by the whole fleet.
        throttle: A second bound of extra executions, by what this process sees;
            ``None`` for none.
        limit: Calls at once, of one process; ``None`` for as many as there are slots.
        rate: Calls a second, of the whole fleet; ``None`` for no bound.
        letters: When dead letters of one kind speak against it, not against its jobs.
        failures: Exceptions that are failures of it: types, or a function of one;
            ``None`` for all but mistakes of one's own, as
            `shifter.policy.protection.failures` lists them. What a caller does not wait
            for is judged by its duration.
        ignore: Exceptions that say nothing about it, whatever ``failures`` says.
        dark: What decides and counts, but refuses nothing: words of `Protection`.
        on_change: Called with its name and the circuit's new state (``closed``,
            ``open``, ``half_open``), once in each process that learns of it; quick.

    Raises:
        ConfigError: The name is wrong, a word of ``dark`` is unknown, or ``failures``
            or ``ignore`` is neither types nor a function.
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
    dark: Collection[Protection | str] = field(default=(), kw_only=True)
    on_change: Callable[[str, str], None] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_name("dependency", self.name)
        for name, kinds in (("failures", self.failures), ("ignore", self.ignore)):
            if kinds is not None:
                check_kinds(name, kinds)
        known = [protection.value for protection in Protection]
        words = [self.dark] if isinstance(self.dark, str) else list(self.dark)
        for word in words:
            if word not in known:
                raise ConfigError("dark", word, f"use words of {', '.join(known)}")
        object.__setattr__(self, "dark", frozenset(map(Protection, words)))
