"""Transports for httpx that send each request to an endpoint of a dependency.

::

    client = httpx.AsyncClient(
        transport=AsyncBalancedTransport(render, timeout="2s", retries=2),
        base_url="http://render",
    )

The request keeps its path, query and body; scheme, host and port are the endpoint's.
A request is sent again, to another endpoint, after a failed connection, a status of 500
or more, and 429. One that must not take effect twice (``POST`` or ``PATCH`` without an
``Idempotency-Key``) is sent again only if it never left, and one whose body is a stream
never. With the extra: ``pip install 'shifter-queue[http]'``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar, Unpack

import httpx

from shifter.balance.options import RunOptions, TryOptions
from shifter.balance.tries import remaining_s
from shifter.errors import ConfigError, Throttled
from shifter.jobs.request_scope import PREVIOUS_HEADER, TIMEOUT_HEADER
from shifter.model.endpoint import Endpoint
from shifter.model.time import write_timeout

__all__ = ["AsyncBalancedTransport", "BalancedTransport"]

_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
"""Methods that may be repeated. Source: RFC 9110, section 9.2.2."""

_TOO_MANY: Final = 429
_NOT_IMPLEMENTED: Final = 501
_UNAVAILABLE: Final = 503
_FAILED: Final = 500

_DIGITS: Final = 8
"""Longest ``Retry-After`` that is read: a hundred million seconds are three years."""

_NEVER_LEFT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

T = TypeVar("T")


class HasEndpoints(Protocol):
    """What ``app.dependency(..., endpoints=[...])`` returns."""

    async def run(
        self,
        fetch: Callable[[Endpoint], Awaitable[T]],
        *,
        key: str | None = None,
        **options: Unpack[TryOptions],
    ) -> T:
        """Await a function with one endpoint after the other."""

    def run_sync(
        self,
        fetch: Callable[[Endpoint], T],
        *,
        key: str | None = None,
        **options: Unpack[TryOptions],
    ) -> T:
        """Call a function with one endpoint after the other."""


class _ThrottledAnswer(Throttled):
    """An answer that asks for a pause.

    Attributes:
        response: The answer.
    """

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        after = response.headers.get("retry-after", "").strip()
        is_seconds = after.isascii() and after.isdigit() and len(after) < _DIGITS
        super().__init__(int(after) if is_seconds else None)


class _Sending:
    """One request, and the answers of the endpoints that it was sent to.

    Attributes:
        answers: The answers so far; all but the one that is returned are closed.
    """

    def __init__(self, request: httpx.Request, *, tells: bool) -> None:
        self._request, self._tells = request, tells
        self._tries = 0
        self.answers: list[httpx.Response] = []

    def to(self, endpoint: Endpoint) -> httpx.Request:
        """The request as this endpoint gets it."""
        request, left_s = self._request, remaining_s()
        base = httpx.URL(endpoint.url)
        url = base.copy_with(
            raw_path=base.raw_path.rstrip(b"/") + request.url.raw_path,
        )
        headers = request.headers.copy()
        headers["host"] = _authority(url, endpoint.server_name)
        if self._tells and left_s is not None:
            headers.setdefault(TIMEOUT_HEADER, write_timeout(int(left_s * 1_000)))
        if self._tells and self._tries:
            headers[PREVIOUS_HEADER] = str(self._tries)
        self._tries += 1
        extensions = dict(request.extensions)
        if endpoint.server_name is not None:
            extensions.setdefault("sni_hostname", endpoint.server_name)
        if left_s is not None:
            limits = extensions.get("timeout", {})
            phases = ("connect", "read", "write", "pool")
            extensions["timeout"] = {
                phase: min(left_s, limits.get(phase) or left_s) for phase in phases
            }
        return httpx.Request(
            request.method,
            url,
            headers=headers,
            stream=request.stream,
            extensions=extensions,
        )

    def judged(self, sent: httpx.Request, response: httpx.Response) -> httpx.Response:
        """The answer.

        Raises:
            _ThrottledAnswer: It asks for a pause.
            httpx.HTTPStatusError: It is a failure of the endpoint.
        """
        response.request = sent
        self.answers.append(response)
        status = response.status_code
        has_time = "retry-after" in response.headers
        if status == _TOO_MANY or (status == _UNAVAILABLE and has_time):
            raise _ThrottledAnswer(response)
        if status >= _FAILED and status != _NOT_IMPLEMENTED:
            text = f"{sent.url} answered {status}"
            raise httpx.HTTPStatusError(text, request=sent, response=response)
        return response

    def others(self, returned: httpx.Response | None) -> list[httpx.Response]:
        """The answers that are not returned."""
        return [one for one in self.answers if one is not returned]


class _Options:
    """What the transports have in common.

    Args:
        dependency: Its endpoints are called.
        key: The key of a request, for ``choice="hash"``.
        tells: Whether requests carry what time they have left, and whether they were
            sent before: headers ``shifter-timeout`` and ``shifter-previous-attempts``.
        options: How often, and how long.
    """

    def __init__(
        self,
        dependency: HasEndpoints,
        key: Callable[[httpx.Request], str | None] | None,
        options: TryOptions,
        *,
        tells: bool,
    ) -> None:
        RunOptions(**options)  # checks them now, not with the first request
        self.dependency, self.tells = dependency, tells
        self._key, self._options = key, options

    def of(self, request: httpx.Request) -> TryOptions:
        """The options of a request, by whether it may be sent twice."""
        options = self._options.copy()
        if not isinstance(request.stream, httpx.ByteStream):
            return {**options, "retries": 0, "hedge": None}
        if request.method in _REPEATABLE or "idempotency-key" in request.headers:
            return options
        wanted = options.get("retry_if", _always)
        options["hedge"] = None
        options["retry_if"] = lambda error: _never_left(error) and wanted(error)
        return options

    def key(self, request: httpx.Request) -> str | None:
        """The key of a request."""
        return None if self._key is None else self._key(request)


class BalancedTransport(httpx.BaseTransport):
    """A transport for ``httpx.Client``; see this module.

    Each wait of httpx (to connect, to send, to receive) is bounded by what the try has
    left. A try ends when the head of the answer is there; the body has httpx's timeout.

    Args:
        dependency: Its endpoints are called.
        key: The key of a request, for ``choice="hash"``.
        tells: Whether requests carry what time they have left, and whether they were
            sent before: headers ``shifter-timeout`` and ``shifter-previous-attempts``.
        transport: Sends the requests; by default ``httpx.HTTPTransport()``.
        **options: See `TryOptions`; without ``hedge``.

    Raises:
        ConfigError: An option is wrong.
    """

    def __init__(
        self,
        dependency: HasEndpoints,
        *,
        key: Callable[[httpx.Request], str | None] | None = None,
        tells: bool = True,
        transport: httpx.BaseTransport | None = None,
        **options: Unpack[TryOptions],
    ) -> None:
        if options.get("hedge") is not None:
            want = "use it with AsyncBalancedTransport"
            raise ConfigError("hedge", options["hedge"], want)
        self._options = _Options(dependency, key, options, tells=tells)
        self._inner = httpx.HTTPTransport() if transport is None else transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to one endpoint after the other until one answers."""
        options, sending = self._options, _Sending(request, tells=self._options.tells)

        def fetch(endpoint: Endpoint) -> httpx.Response:
            sent = sending.to(endpoint)
            return sending.judged(sent, self._inner.handle_request(sent))

        returned: httpx.Response | None = None
        try:
            returned = options.dependency.run_sync(
                fetch, key=options.key(request), **options.of(request)
            )
        except (_ThrottledAnswer, httpx.HTTPStatusError) as error:
            returned = error.response
        finally:
            for response in sending.others(returned):
                response.close()
        return returned

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


class AsyncBalancedTransport(httpx.AsyncBaseTransport):
    """A transport for ``httpx.AsyncClient``; see this module.

    A try is cancelled when its time is up, which raises ``httpx.ReadTimeout`` if it was
    the last one. It ends when the head of the answer is there; the body has httpx's
    timeout.

    Args:
        dependency: Its endpoints are called.
        key: The key of a request, for ``choice="hash"``.
        tells: Whether requests carry what time they have left, and whether they were
            sent before: headers ``shifter-timeout`` and ``shifter-previous-attempts``.
        transport: Sends the requests; by default ``httpx.AsyncHTTPTransport()``.
        **options: See `TryOptions`.

    Raises:
        ConfigError: An option is wrong.
    """

    def __init__(
        self,
        dependency: HasEndpoints,
        *,
        key: Callable[[httpx.Request], str | None] | None = None,
        tells: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[TryOptions],
    ) -> None:
        self._options = _Options(dependency, key, options, tells=tells)
        self._inner = httpx.AsyncHTTPTransport() if transport is None else transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to one endpoint after the other until one answers."""
        options, sending = self._options, _Sending(request, tells=self._options.tells)

        async def fetch(endpoint: Endpoint) -> httpx.Response:
            sent = sending.to(endpoint)
            return sending.judged(sent, await self._inner.handle_async_request(sent))

        returned: httpx.Response | None = None
        try:
            returned = await options.dependency.run(
                fetch, key=options.key(request), **options.of(request)
            )
        except (_ThrottledAnswer, httpx.HTTPStatusError) as error:
            returned = error.response
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        finally:
            for response in sending.others(returned):
                await response.aclose()
        return returned

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def _authority(url: httpx.URL, server_name: str | None) -> str:
    """Host and port as the server has them."""
    if server_name is None:
        return url.netloc.decode("ascii")
    return server_name if url.port is None else f"{server_name}:{url.port}"


def _always(_: BaseException) -> bool:
    return True


def _never_left(error: BaseException) -> bool:
    """Whether a request cannot have reached its endpoint."""
    return isinstance(error, _NEVER_LEFT)
