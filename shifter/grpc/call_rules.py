"""Rules of gRPC for balanced channels: what may be sent again, and what errors imply.

* ``UNAVAILABLE``, ``UNKNOWN``, ``INTERNAL``, ``DATA_LOSS`` and ``DEADLINE_EXCEEDED``
  are failures of the endpoint. Other codes are answers: another endpoint would give
  the same.
* A push-back (``grpc-retry-pushback-ms``) pauses the endpoint for as long. So does
  ``RESOURCE_EXHAUSTED``, for a second, unless a message was too large.
* A call is sent again only if its method was declared idempotent, if there was no
  connection, or if the server pushed it back. A negative push-back forbids it.

Sources: gRPC proposal A6 (retries, push-back); the status codes of gRPC.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

import grpc

from shifter.balance.options import RunOptions, TryOptions
from shifter.balance.tries import remaining_s
from shifter.errors import ConfigError, Throttled
from shifter.grpc.metadata import ATTEMPTS, PUSHBACK
from shifter.policy.protection.throttle import RetryAfter, push_back

_FAILED: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DATA_LOSS,
    }
)
_LEAST_S: Final = 0.001
"""The shortest duration of an option."""

_NO_CONNECTION: Final = "failed to connect to all addresses"
"""Details of a call that never left, as gRPC's core writes them."""

_TOO_LARGE: Final = "message larger than max"
"""Details of a message that is too large, here or there."""


class PushedBackError(Throttled):
    """A server that wants a pause.

    Attributes:
        error: The error of gRPC.
        is_explicit: Whether it states how long: then the call had no effect.
    """

    def __init__(self, error: Any, wait_ms: int | None) -> None:
        self.error, self.is_explicit = error, wait_ms is not None
        super().__init__(None if wait_ms is None else wait_ms / 1_000)


class LateCallError(TimeoutError):
    """A call whose deadline passed.

    Attributes:
        error: The error of gRPC.
    """

    def __init__(self, error: Any) -> None:
        self.error = error
        super().__init__(error.details())


class CallRules:
    """What the channels for one dependency have in common.

    Args:
        idempotent: Methods that may take effect twice: paths such as
            ``/render.Render/Get``, or a function of a path.
        key: The key of a request, for ``choice="hash"``; ``None`` for none.
        options: How often, and how long.

    Raises:
        ConfigError: An option is wrong.
    """

    def __init__(
        self,
        idempotent: Collection[str] | Callable[[str], bool],
        key: Callable[[Any], str | None] | None,
        options: TryOptions,
    ) -> None:
        RunOptions(**options)  # checks them now, not with the first call
        if isinstance(idempotent, str):
            want = "use a collection of paths, or a function of a path"
            raise ConfigError("idempotent", idempotent, want)
        self._is_idempotent: Callable[[str], bool]
        if callable(idempotent):
            self._is_idempotent = idempotent
        else:
            self._is_idempotent = frozenset(idempotent).__contains__
        self._key, self._options = key, options

    def key(self, request: Any) -> str | None:
        """The key of a request."""
        return None if self._key is None else self._key(request)

    def of(self, method: str, timeout_s: float | None) -> TryOptions:
        """The options of one call.

        Args:
            method: Its path.
            timeout_s: The timeout that its caller gave, for all tries.
        """
        options = self._options.copy()
        if timeout_s is not None:
            options.setdefault("total", max(timeout_s, _LEAST_S))
        wanted, may_repeat = options.get("retry_if"), self._is_idempotent(method)
        if not may_repeat:
            options["hedge"] = None

        def retry_if(error: BaseException) -> bool:
            if not _allows_retry(error) or (wanted is not None and not wanted(error)):
                return False
            return may_repeat or _had_no_effect(error)

        options["retry_if"] = retry_if
        return options


def call_options(
    metadata: Any, timeout_s: float | None, tries: int
) -> tuple[list[Any], float | None]:
    """Metadata and timeout of one try.

    Args:
        metadata: That of the caller; ``None`` for none.
        timeout_s: That of the caller; ``None`` for none.
        tries: Earlier tries of the call.
    """
    left_s, found = remaining_s(), list(metadata or ())
    if tries:
        found.append((ATTEMPTS, str(tries)))
    if left_s is not None:
        timeout_s = left_s if timeout_s is None else min(timeout_s, left_s)
    return found, timeout_s


def judged(error: Any) -> Any:
    """The error, if it is an answer that another endpoint would give too.

    Args:
        error: The error of gRPC.

    Raises:
        PushedBackError: The server wants a pause.
        LateCallError: The deadline passed.
        grpc.RpcError: It is a failure of the endpoint.
    """
    asked, code = _asked(error), error.code()
    if isinstance(asked, RetryAfter):
        raise PushedBackError(error, asked.wait_ms)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if _TOO_LARGE in (error.details() or ""):
            return error
        raise PushedBackError(error, None)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise LateCallError(error)
    if code in _FAILED:
        raise error
    return error


def _asked(error: Any) -> Any:
    trailing = error.trailing_metadata() or ()
    return push_back(
        next((value for name, value in trailing if name == PUSHBACK), None)
    )


def _allows_retry(error: BaseException) -> bool:
    """Whether the server did not forbid a further try."""
    of_grpc = getattr(error, "error", error)
    if not isinstance(of_grpc, grpc.RpcError):
        return True
    asked = _asked(of_grpc)
    return asked is None or isinstance(asked, RetryAfter)


def _had_no_effect(error: BaseException) -> bool:
    """Whether a call cannot have had an effect."""
    if isinstance(error, PushedBackError):
        return error.is_explicit
    details: Any = getattr(error, "details", lambda: "")
    return isinstance(error, grpc.RpcError) and _NO_CONNECTION in (details() or "")
