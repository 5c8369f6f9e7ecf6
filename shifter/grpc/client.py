"""Client interceptors that send the deadline and the priority of a request.

Each call gets the smaller of its own timeout and what is left of the current request's
deadline. Once that has passed, the call is not made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import grpc
import grpc.aio

from shifter.api.app import Shifter
from shifter.errors import DeadlineExceededError
from shifter.grpc.metadata import write_metadata
from shifter.jobs.request_scope import ambient, late_by_s, left_ms
from shifter.model.time import EpochMs

_AIO: Final[Any] = grpc.aio


def calling(app: Shifter) -> list[Any]:
    """Interceptors for a channel, one for each kind of call.

    ``grpc.aio.insecure_channel(target, interceptors=calling(app))``, or
    ``grpc.intercept_channel(grpc.insecure_channel(target), *calling(app))``.
    """
    clock = app.publisher.clock
    return [kind(clock.epoch_ms) for kind in (_UU, _US, _SU, _SS)]


class _Caller:
    """Returns what the next interceptor returns; grpc.aio awaits it, grpc does not."""

    def __init__(self, now: Callable[[], EpochMs]) -> None:
        self._now = now

    def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._timed(details), request)

    def _timed(self, details: Any) -> Any:
        around, timeout_s, now = ambient(), details.timeout, self._now()
        left = left_ms(now)
        if left is not None:
            if left <= 0:
                method = details.method  # bytes in grpc.aio, though typed as text
                called = method.decode() if isinstance(method, bytes) else str(method)
                raise DeadlineExceededError(called, late_by_s(now), what="call")
            left_s = left / 1_000
            timeout_s = left_s if timeout_s is None else min(left_s, timeout_s)
        own: list[Any] = list(details.metadata or ())
        named = {name for name, _ in own}
        ours = write_metadata(around.priority, around.draw, is_retry=around.is_retry)
        own += [(name, value) for name, value in ours if name not in named]
        is_aio = isinstance(details, grpc.aio.ClientCallDetails)
        metadata = grpc.aio.Metadata(*own) if is_aio else tuple(own)
        return details._replace(timeout=timeout_s, metadata=metadata)


class _UU(
    _Caller,
    _AIO.UnaryUnaryClientInterceptor,  # type: ignore[misc]  # untyped
    grpc.UnaryUnaryClientInterceptor,
):
    def intercept_unary_unary(self, *call: Any) -> Any:
        return self._call(*call)


class _US(
    _Caller,
    _AIO.UnaryStreamClientInterceptor,  # type: ignore[misc]  # untyped
    grpc.UnaryStreamClientInterceptor,
):
    def intercept_unary_stream(self, *call: Any) -> Any:
        return self._call(*call)


class _SU(
    _Caller,
    _AIO.StreamUnaryClientInterceptor,  # type: ignore[misc]  # untyped
    grpc.StreamUnaryClientInterceptor,
):
    def intercept_stream_unary(self, *call: Any) -> Any:
        return self._call(*call)


class _SS(
    _Caller,
    _AIO.StreamStreamClientInterceptor,  # type: ignore[misc]  # untyped
    grpc.StreamStreamClientInterceptor,
):
    def intercept_stream_stream(self, *call: Any) -> Any:
        return self._call(*call)
