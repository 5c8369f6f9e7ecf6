"""A dependency as ``app.dependency(...)`` returns it: a block around a call guards it.

``with mailer:`` and ``async with mailer:`` ask for leave first, and note what the block
came to. Inside a handler the call is made in the name of its job; elsewhere in that of
the request under way.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Final, Self, Unpack

from shifter.errors import (
    BudgetExhaustedError,
    CircuitOpenError,
    LimitReachedError,
    RateLimitedError,
    RejectedError,
)
from shifter.fleet.calls import CALLER, ActiveCall, Caller, verdict_of
from shifter.fleet.protection import Rejected
from shifter.policy.protection.dependency import (
    Dependency,
    DependencyOptions,
    Protection,
)

_ERRORS: Final[dict[Protection, type[RejectedError]]] = {
    Protection.CIRCUIT: CircuitOpenError,
    Protection.LIMIT: LimitReachedError,
    Protection.BUDGET: BudgetExhaustedError,
    Protection.RATE: RateLimitedError,
}
_OPEN: Final[ContextVar[tuple[tuple[Caller, ActiveCall] | None, ...]]] = ContextVar(
    "shifter_open_calls", default=()
)


class BoundDependency(Dependency):
    """A dependency whose blocks guard the calls inside; blocks may be nested.

    A refusal raises `RejectedError`. A handler that lets it pass is parked, and that
    is no attempt. In a handler whose job names the same dependency in ``uses=`` the
    block does nothing: the job has been let through already.

    Args:
        here: In whose name calls outside of handlers are made.
        name: The name, as of `Dependency`.
        options: The options of `Dependency`.
    """

    __slots__ = ("_here",)

    def __init__(
        self,
        here: Callable[[], Caller],
        name: str,
        **options: Unpack[DependencyOptions],
    ) -> None:
        super().__init__(name, **options)
        object.__setattr__(self, "_here", here)

    def __enter__(self) -> Self:
        caller = CALLER.get() or self._here()  # type: ignore[attr-defined]
        answer = caller.begin(self.name)
        if isinstance(answer, Rejected):
            raise _ERRORS[answer.by](self.name, answer.wait_ms / 1_000)
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

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)
