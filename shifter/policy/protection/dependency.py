"""A dependency: something that jobs call and that may fail, and how it is protected.

Which exceptions of a call are failures of its dependency? By default each is one,
except mistakes of the caller's own code: an exception whose type is exactly one of
`OWN_MISTAKES`. A subclass is a failure, since a library derived it from an answer: a
`json.JSONDecodeError` is a `ValueError`, and is evidence that the dependency sent an
error page.

Source: resilience4j and Polly (recorded and ignored exceptions, ignored ones first).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias, TypedDict

from shifter.errors import ConfigError
from shifter.model.endpoint import Endpoint, Endpoints, check_endpoints
from shifter.model.lane import check_name
from shifter.policy.balance.policy import BalancePolicy
from shifter.policy.delivery.failure_burst import FailureBurstPolicy
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.circuit.evidence import EvidencePolicy
from shifter.policy.protection.circuit.states import CircuitPolicy
from shifter.policy.protection.limit import LimitPolicy
from shifter.policy.protection.rate import RatePolicy
from shifter.policy.protection.throttle import ThrottlePolicy

ErrorKinds: TypeAlias = (
    type[BaseException]
    | tuple[type[BaseException], ...]
    | Callable[[BaseException], bool]
)
"""Types of exceptions, or a function that returns whether an exception is meant."""

OWN_MISTAKES: Final = frozenset(
    {
        ArithmeticError,
        AssertionError,
        AttributeError,
        ImportError,
        IndexError,
        KeyError,
        LookupError,
        ModuleNotFoundError,
        NameError,
        NotImplementedError,
        OverflowError,
        RecursionError,
        TypeError,
        UnboundLocalError,
        ValueError,
        ZeroDivisionError,
    }
)


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
    dark: Collection[Protection | str]
    on_change: Callable[[str, str], None]
    endpoints: Endpoints
    balance: BalancePolicy


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
            ``None`` for all but `OWN_MISTAKES`. A call whose caller stopped waiting
            is judged by its duration.
        ignore: Exceptions that are no evidence, whatever ``failures`` is.
        dark: Protections that decide and count but refuse nothing: words of
            `Protection`.
        on_change: Called with its name and the circuit's new state (``closed``,
            ``open``, ``half_open``), once in each process that learns of it; must not
            block.
        endpoints: The servers that can answer a call: URLs or `Endpoint`, `Dns`, or a
            function that returns them, called at most once a second; ``None`` if they
            are not known here.
        balance: How calls are shared between the endpoints.

    Raises:
        ConfigError: The name is wrong, a word of ``dark`` is unknown, ``failures`` or
            ``ignore`` is neither types nor a function, or ``endpoints`` is wrong.
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
    endpoints: Endpoints | None = field(default=None, kw_only=True)
    balance: BalancePolicy = field(default_factory=BalancePolicy, kw_only=True)

    def __post_init__(self) -> None:
        check_name("dependency", self.name)
        for name, kinds in (("failures", self.failures), ("ignore", self.ignore)):
            if kinds is not None:
                check_kinds(name, kinds)
        if self.endpoints is not None:
            object.__setattr__(self, "endpoints", check_endpoints(self.endpoints))
        known = [protection.value for protection in Protection]
        words = [self.dark] if isinstance(self.dark, str) else list(self.dark)
        for word in words:
            if word not in known:
                raise ConfigError("dark", word, f"use words of {', '.join(known)}")
        object.__setattr__(self, "dark", frozenset(map(Protection, words)))

    def choose_endpoint(self) -> Endpoint:
        """Choose the endpoint that the job under way calls.

        Raises:
            ConfigError: The dependency has no endpoints.
        """
        want = "declare it with app.dependency(..., endpoints=[...])"
        raise ConfigError("endpoints", None, want)


def check_kinds(field: str, kinds: object) -> None:
    """Check that a value is exception types or a function.

    Raises:
        ConfigError: It is neither.
    """
    found = kinds if isinstance(kinds, tuple) else (kinds,)
    if all(isinstance(one, type) and issubclass(one, BaseException) for one in found):
        return
    if isinstance(kinds, type) or not callable(kinds):
        want = "use an exception type, a tuple of them, or a function of an exception"
        raise ConfigError(field, kinds, want)


def is_failure(
    error: BaseException, failures: ErrorKinds | None, ignore: ErrorKinds | None
) -> bool:
    """Whether an exception is a failure of the dependency.

    Args:
        error: What was raised.
        failures: Exceptions that are failures; ``None`` for all but `OWN_MISTAKES`.
        ignore: Exceptions that are none, whatever ``failures`` is; ``None`` for none.

    >>> is_failure(OSError(), None, None), is_failure(ValueError(), None, None)
    (True, False)
    >>> is_failure(ValueError(), Exception, None), is_failure(OSError(), None, OSError)
    (True, False)
    """
    if ignore is not None and _is_meant(error, ignore):
        return False
    if failures is None:
        return type(error) not in OWN_MISTAKES
    return _is_meant(error, failures)


def _is_meant(error: BaseException, kinds: ErrorKinds) -> bool:
    if isinstance(kinds, type | tuple):
        return isinstance(error, kinds)
    return bool(kinds(error))
