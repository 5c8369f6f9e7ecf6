"""What a failed gRPC call means for the job that made it."""

from __future__ import annotations

from typing import Any, assert_never

import grpc
import grpc.aio

from shifter.errors import DeadLetter, Retry, Throttled
from shifter.grpc.metadata import PUSHBACK
from shifter.policy.protection.throttle import DoNotRetry, RetryAfter, push_back


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
