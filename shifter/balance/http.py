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
never. A try ends when the head of the answer is there; the body has httpx's timeout.
With the extra: ``pip install 'shifter-queue[http]'``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Unpack

import httpx

from shifter.balance.http_rules import (
    RequestRules,
    ThrottledAnswer,
    asks_for_pause,
    is_failed,
    pause_s,
)
from shifter.balance.options import HasEndpoints, TryOptions
from shifter.balance.tries import remaining_s
from shifter.errors import ConfigError
from shifter.model.endpoint import Endpoint

__all__ = ["AsyncBalancedTransport", "BalancedTransport"]

_NEVER_LEFT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class _Sending:
    """One request, and the answers of the endpoints that it was sent to.

    Attributes:
        answers: The answers so far; all but the one that is returned are closed.
    """

    def __init__(self, request: httpx.Request, rules: RequestRules) -> None:
        self._request, self._rules = request, rules
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
        headers.update(self._rules.told(headers, self._tries))
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
            ThrottledAnswer: It asks for a pause.
            httpx.HTTPStatusError: It is a failure of the endpoint.
        """
        response.request = sent
        self.answers.append(response)
        status, after = response.status_code, response.headers.get("retry-after")
        if asks_for_pause(status, after):
            asked_s = pause_s(after, response.headers.get("date"))
            raise ThrottledAnswer(response, asked_s)
        if is_failed(status):
            text = f"{sent.url} answered {status}"
            raise httpx.HTTPStatusError(text, request=sent, response=response)
        return response

    def others(self, returned: httpx.Response | None) -> list[httpx.Response]:
        """The answers that are not returned."""
        return [one for one in self.answers if one is not returned]


class _Balanced:
    """What both transports have; see `BalancedTransport` for the options."""

    def __init__(
        self,
        dependency: HasEndpoints,
        *,
        key: Callable[[httpx.Request], str | None] | None = None,
        tells: bool = True,
        **options: Unpack[TryOptions],
    ) -> None:
        self._dependency = dependency
        self._rules = RequestRules(key, options, tells=tells, never_left=_never_left)

    def _of(self, request: httpx.Request) -> TryOptions:
        can_resend = isinstance(request.stream, httpx.ByteStream)
        return self._rules.of(request.method, request.headers, can_resend=can_resend)


class BalancedTransport(_Balanced, httpx.BaseTransport):
    """A transport for ``httpx.Client``; see this module.

    Each wait of httpx (to connect, to send, to receive) is bounded by what the try has
    left.

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
        super().__init__(dependency, key=key, tells=tells, **options)
        self._inner = httpx.HTTPTransport() if transport is None else transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to one endpoint after the other until one answers."""
        sending = _Sending(request, self._rules)

        def fetch(endpoint: Endpoint) -> httpx.Response:
            sent = sending.to(endpoint)
            return sending.judged(sent, self._inner.handle_request(sent))

        returned: httpx.Response | None = None
        try:
            returned = self._dependency.run_sync(
                fetch, key=self._rules.key(request), **self._of(request)
            )
        except ThrottledAnswer as error:
            returned = error.answer
        except httpx.HTTPStatusError as error:
            returned = error.response
        finally:
            for response in sending.others(returned):
                response.close()
        return returned

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


class AsyncBalancedTransport(_Balanced, httpx.AsyncBaseTransport):
    """A transport for ``httpx.AsyncClient``; see this module.

    A try is cancelled when its time is up, which raises ``httpx.ReadTimeout`` if it was
    the last one.

    Args:
        dependency: Its endpoints are called.
        transport: Sends the requests; by default ``httpx.AsyncHTTPTransport()``.
        **options: ``key``, ``tells`` and `TryOptions`, as of `BalancedTransport`, and
            ``hedge``.

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
        super().__init__(dependency, key=key, tells=tells, **options)
        self._inner = httpx.AsyncHTTPTransport() if transport is None else transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to one endpoint after the other until one answers."""
        sending = _Sending(request, self._rules)

        async def fetch(endpoint: Endpoint) -> httpx.Response:
            sent = sending.to(endpoint)
            return sending.judged(sent, await self._inner.handle_async_request(sent))

        returned: httpx.Response | None = None
        try:
            returned = await self._dependency.run(
                fetch, key=self._rules.key(request), **self._of(request)
            )
        except ThrottledAnswer as error:
            returned = error.answer
        except httpx.HTTPStatusError as error:
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


def _never_left(error: BaseException) -> bool:
    """Whether a request cannot have reached its endpoint."""
    return isinstance(error, _NEVER_LEFT)
