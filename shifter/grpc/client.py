"""The caller's side of gRPC: deadline and priority of a request, and push-backs.

Each call gets the smaller of its own timeout and what is left of the current request's
deadline. Once that has passed, the call is not made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, assert_never

import grpc
import grpc.aio

from shifter.api.app import Shifter
from shifter.errors import DeadLetter, Retry, Throttled
from shifter.grpc.metadata import PUSHBACK, write_metadata
from shifter.jobs.request_scope import ambient, left_to_call_ms
from shifter.model.time import EpochMs
from shifter.policy.protection.throttle import DoNotRetry, RetryAfter, push_back


def calling(app: Shifter) -> list[Any]:
    """Interceptors for a channel, one for each kind of call.

    ``grpc.aio.insecure_channel(target, interceptors=calling(app))``, or
    ``grpc.intercept_channel(grpc.insecure_channel(target), *calling(app))``.
    """
    clock = app.publisher.clock
    return [kind(clock.epoch_ms) for kind in _KINDS]


def heed(error: grpc.aio.AioRpcError) -> BaseException:
    """The signal that a handler should raise in place of a call's error.

    ``raise heed(error) from error`` in a handler whose call failed.

    Returns:
        If the server states when it wants the next attempt: `Throttled` for
        ``RESOURCE_EXHAUSTED``, which charges no attempt, else `Retry`. If it wants
        none: `DeadLetter`. If it states neither: the error itself.

    Source: gRPC proposal A6, ``grpc-retry-pushback-ms``.
    """
    trailing: Any = error.trailing_metadata() or ()
    asked = push_back(next((v for name, v in trailing if name == PUSHBACK), None))
    match asked:
        case None:
            return error
        case RetryAfter(wait_ms):
            is_full = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            return (Throttled if is_full else Retry)(wait_ms / 1_000)
        case DoNotRetry():
            return DeadLetter(f"the server wants no retry: {error.code().name}")
        case _:
            assert_never(asked)


class _Caller:
    """Returns what the next interceptor returns; grpc.aio awaits it, grpc does not."""

    def __init__(self, now: Callable[[], EpochMs]) -> None:
        self._now = now

    def call(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._timed(details), request)

    def _timed(self, details: Any) -> Any:
        timeout_s, method = details.timeout, details.method
        # grpc.aio gives the method as bytes, though it is typed as text.
        called = method.decode() if isinstance(method, bytes) else str(method)
        left_ms = left_to_call_ms(self._now(), called)
        if left_ms is not None:
            left_s = left_ms / 1_000
            timeout_s = left_s if timeout_s is None else min(left_s, timeout_s)
        own: list[Any] = list(details.metadata or ())
        named = {name for name, _ in own}
        ours = write_metadata(ambient())
        # Metadata that the caller set for this call takes precedence.
        own += [(name, value) for name, value in ours if name not in named]
        is_aio = isinstance(details, grpc.aio.ClientCallDetails)
        metadata = grpc.aio.Metadata(*own) if is_aio else tuple(own)
        return details._replace(timeout=timeout_s, metadata=metadata)


def _kind(request: str, response: str) -> Any:
    """The interceptor of one kind of call.

    grpc.aio sorts interceptors by the first kind that they are an instance of, so that
    one class for all kinds would serve the first only.
    """
    name = f"{request}{response}ClientInterceptor"
    method = f"intercept_{request}_{response}".lower()
    bases = (_Caller, getattr(grpc.aio, name), getattr(grpc, name))
    return type(name, bases, {method: _Caller.call})


_KINDS: Final = [
    _kind(request, response)
    for request in ("Unary", "Stream")
    for response in ("Unary", "Stream")
]
