"""Channels for gRPC that send each call to an endpoint of a dependency.

::

    channel = AsyncBalancedChannel(render, timeout="1s", retries=2)
    stub = RenderStub(channel)
    page = await stub.Render(request)

A stub is made of such a channel as of any other. Calls with one request and one answer
are balanced: ``await`` gives the answer, or raises what gRPC raises. A call with a
stream cannot be sent again; make one on a chosen endpoint::

    async with render.call() as call:
        stub = RenderStub(channel.to(call.endpoint))

What is sent again, and when, is in `shifter.grpc.call_rules`. With the extra ``grpc``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final, NoReturn, Self, Unpack

import grpc
import grpc.aio

from shifter.api.dependency import BoundDependency
from shifter.balance.options import TryOptions
from shifter.errors import ConfigError
from shifter.grpc.call_rules import (
    CallRules,
    LateCallError,
    PushedBackError,
    call_options,
    judged,
)
from shifter.grpc.channel_pool import ChannelPool, connected
from shifter.model.endpoint import Endpoint

__all__ = ["AsyncBalancedChannel", "BalancedChannel"]

_GIVEN: Final = (
    *("timeout", "metadata", "credentials", "wait_for_ready", "compression"),
)
"""Arguments of a call behind its request, in gRPC's order."""

_STREAMS: Final = (
    "a balanced channel makes no calls with streams; use `with dependency.call() as "
    "call` and a stub of `channel.to(call.endpoint)`"
)


class _Balanced:
    """What both channels have.

    Args:
        dependency: Its endpoints are called.
        connect: Makes the channel of an endpoint.
        idempotent: Methods that may take effect twice: paths such as
            ``/render.Render/Get``, or a function of a path.
        key: The key of a request, for ``choice="hash"``.
        **options: See `TryOptions`.

    Raises:
        ConfigError: An option is wrong.
    """

    def __init__(
        self,
        dependency: BoundDependency,
        connect: Callable[[Endpoint], Any],
        idempotent: Collection[str] | Callable[[str], bool],
        key: Callable[[Any], str | None] | None,
        options: TryOptions,
    ) -> None:
        self._dependency = dependency
        self._rules = CallRules(idempotent, key, options)
        self._pool: ChannelPool[Any] = ChannelPool(connect, self._urls)

    def to(self, endpoint: Endpoint) -> Any:
        """The channel of one endpoint, for calls with streams."""
        channel, _ = self._pool.begin(endpoint)
        self._pool.end(endpoint)
        return channel

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """A method with one request and one answer."""

        def make(channel: Any) -> Any:
            return channel.unary_unary(method, *args, **kwargs)

        return self._method(method, make)

    def unary_stream(self, *_: Any, **__: Any) -> Any:
        """A method whose calls raise `NotImplementedError`; see this module."""
        return _no_streams

    def stream_unary(self, *_: Any, **__: Any) -> Any:
        """As `unary_stream`."""
        return _no_streams

    def stream_stream(self, *_: Any, **__: Any) -> Any:
        """As `unary_stream`."""
        return _no_streams

    def _method(self, path: str, make: Callable[[Any], Any]) -> Any:
        """What a stub calls for a method that ``make`` makes of a channel."""
        raise NotImplementedError

    def _urls(self) -> set[str]:
        return {view.endpoint.url for view in self._dependency.endpoint_views()}


class _Answer:
    """What ended a call that is no failure of its endpoint: a value or an error."""

    def __init__(self, value: Any, error: Exception | None = None) -> None:
        self._value, self._error = value, error

    def get(self) -> Any:
        """The value.

        Raises:
            grpc.RpcError: It is an error.
        """
        if self._error is not None:
            raise self._error
        return self._value


class BalancedChannel(_Balanced, grpc.Channel):
    """A channel for calls that block; see this module.

    Args:
        dependency: Its endpoints are called.
        connect: Makes the channel of an endpoint, for example with interceptors; by
            default plain for ``http`` and with TLS for ``https``.
        idempotent: Methods that may take effect twice: paths such as
            ``/render.Render/Get``, or a function of a path. Others are sent again only
            if they had no effect.
        key: The key of a request, for ``choice="hash"``.
        **options: See `TryOptions`; without ``hedge``.

    Raises:
        ConfigError: An option is wrong.
    """

    def __init__(
        self,
        dependency: BoundDependency,
        *,
        connect: Callable[[Endpoint], grpc.Channel] | None = None,
        idempotent: Collection[str] | Callable[[str], bool] = (),
        key: Callable[[Any], str | None] | None = None,
        **options: Unpack[TryOptions],
    ) -> None:
        if options.get("hedge") is not None:
            want = "use it with AsyncBalancedChannel"
            raise ConfigError("hedge", options["hedge"], want)
        made = connect or (lambda endpoint: connected(grpc, endpoint))
        super().__init__(dependency, made, idempotent, key, options)

    def _method(self, path: str, make: Callable[[Any], Any]) -> Any:
        return _BlockingMethod(self, path, make)

    def subscribe(self, callback: Any, try_to_connect: bool | None = None) -> None:  # noqa: FBT001  # gRPC's signature
        """Do nothing: endpoints have states of their own."""

    def unsubscribe(self, callback: Any) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Close the channels of all endpoints."""
        for channel in self._pool.take_all():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self, method: str, make: Callable[[Any], Any], request: Any, given: Any
    ) -> Any:
        """Make a call on one endpoint after the other until one answers."""
        tries, rest = 0, dict(given)
        metadata, timeout_s = rest.pop("metadata", None), rest.pop("timeout", None)

        def fetch(endpoint: Endpoint) -> _Answer:
            nonlocal tries
            sent, left_s = call_options(metadata, timeout_s, tries)
            tries += 1
            channel, stale = self._pool.begin(endpoint)
            try:
                for one in stale:
                    one.close()
                called = make(channel)
                return _Answer(called(request, timeout=left_s, metadata=sent, **rest))
            except grpc.RpcError as error:
                return _Answer(None, judged(error))
            finally:
                self._pool.end(endpoint)

        options = self._rules.of(method, timeout_s)
        try:
            answer = self._dependency.run_sync(
                fetch, key=self._rules.key(request), **options
            )
        except (PushedBackError, LateCallError) as failed:
            raise failed.error from None
        return answer.get()


class AsyncBalancedChannel(_Balanced, grpc.aio.Channel):
    """A channel for an event loop; see this module.

    Args:
        dependency: Its endpoints are called.
        connect: As of `BalancedChannel`, for channels of ``grpc.aio``.
        **options: As of `BalancedChannel`, and ``hedge`` for idempotent methods.

    Raises:
        ConfigError: An option is wrong.
    """

    def __init__(
        self,
        dependency: BoundDependency,
        *,
        connect: Callable[[Endpoint], grpc.aio.Channel] | None = None,
        idempotent: Collection[str] | Callable[[str], bool] = (),
        key: Callable[[Any], str | None] | None = None,
        **options: Unpack[TryOptions],
    ) -> None:
        made = connect or (lambda endpoint: connected(grpc.aio, endpoint))
        super().__init__(dependency, made, idempotent, key, options)

    def _method(self, path: str, make: Callable[[Any], Any]) -> Any:
        return _AwaitedMethod(self, path, make)

    async def close(self, grace: float | None = None) -> None:
        """Close the channels of all endpoints.

        Args:
            grace: Seconds that calls under way have left; by default none.
        """
        for channel in self._pool.take_all():
            await channel.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def get_state(
        self,
        try_to_connect: bool = False,  # noqa: ARG002, FBT001, FBT002  # of gRPC
    ) -> grpc.ChannelConnectivity:
        """Always ready: endpoints have states of their own."""
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(
        self, last_observed_state: grpc.ChannelConnectivity
    ) -> None:
        """Return at once."""

    async def channel_ready(self) -> None:
        """Return at once."""

    async def call(
        self, method: str, make: Callable[[Any], Any], request: Any, given: Any
    ) -> Any:
        """Make a call on one endpoint after the other until one answers."""
        tries, rest = 0, dict(given)
        metadata, timeout_s = rest.pop("metadata", None), rest.pop("timeout", None)

        async def fetch(endpoint: Endpoint) -> _Answer:
            nonlocal tries
            sent, left_s = call_options(metadata, timeout_s, tries)
            tries += 1
            channel, stale = self._pool.begin(endpoint)
            try:
                for one in stale:
                    await one.close()
                called = make(channel)
                answer = called(
                    request, timeout=left_s, metadata=grpc.aio.Metadata(*sent), **rest
                )
                return _Answer(await answer)
            except grpc.aio.AioRpcError as error:
                return _Answer(None, judged(error))
            finally:
                self._pool.end(endpoint)

        options = self._rules.of(method, timeout_s)
        try:
            answer = await self._dependency.run(
                fetch, key=self._rules.key(request), **options
            )
        except (PushedBackError, LateCallError) as failed:
            raise failed.error from None
        except TimeoutError as late:
            nothing = grpc.aio.Metadata()
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise grpc.aio.AioRpcError(code, nothing, nothing, str(late)) from late
        return answer.get()


class _BlockingMethod:
    def __init__(
        self, channel: BalancedChannel, method: str, make: Callable[[Any], Any]
    ) -> None:
        self._channel, self._method, self._make = channel, method, make

    def __call__(self, request: Any, *args: Any, **given: Any) -> Any:
        given |= zip(_GIVEN, args, strict=False)
        return self._channel.call(self._method, self._make, request, given)

    def with_call(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("a balanced channel returns answers, not calls")

    future = with_call


class _AwaitedMethod(grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    def __init__(
        self, channel: AsyncBalancedChannel, method: str, make: Callable[[Any], Any]
    ) -> None:
        self._channel, self._method, self._make = channel, method, make

    def __call__(self, request: Any, **given: Any) -> Any:
        return self._channel.call(self._method, self._make, request, given)


def _no_streams(*_: Any, **__: Any) -> NoReturn:
    raise NotImplementedError(_STREAMS)
