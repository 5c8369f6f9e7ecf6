"""One HTTP exchange with a checked target; knows nothing of jobs.

httpx does the talking over a transport of our own, whose network backend resolves,
checks and then connects by address. The transport uses httpcore's public parts only:
replacing a private part of httpx's would vanish without a word on an upgrade.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import functools
import http.cookiejar
import random
import ssl
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Mapping,
)
from typing import Any, NamedTuple, TypeAlias

import httpcore
import httpx

from workers.http_resolver import LaterError, Resolver
from workers.http_target import (
    METHODS,
    RefusedTargetError,
    TargetPolicy,
    check_addresses,
    checked_headers,
    checked_url,
)

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""From host and port to its addresses; raises `OSError` or `LaterError`."""

_CONNECT_S = 5.0
_TRIED_ADDRESSES = 4
_IDLE_CONNECTIONS = 100
_BODY_BYTES, _BODY_S = 65_536, 2.0
# What this machine lacks: files, memory, ports, a network.
_OUR_ERRNOS = frozenset(
    {
        *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
        *(errno.EADDRNOTAVAIL, errno.ENETDOWN),
    }
)
_OURS_S = 5.0
# Spread, so that what waits for a host does not come back together.
_BUSY_S = (1.0, 5.0)


class DeliveryError(Exception):
    """The target answered, and what it said is a failure of its own."""


class Reply(NamedTuple):
    """What the target said; its body is not kept.

    Attributes:
        host: Who said it.
        status: HTTP status code.
        retry_after: The ``Retry-After`` field as sent, if any.
        date: The ``Date`` field as sent, if any.
    """

    host: str
    status: int
    retry_after: str | None
    date: str | None


class Target(NamedTuple):
    """Where a request goes, instead of to the host of its URL.

    Attributes:
        url: Scheme, address, port and the path that comes before that of the request.
        host: The name for which a certificate is verified.
        authority: Host and port for the ``Host`` header.
    """

    url: str
    host: str
    authority: str

    def instead_of(self, asked: httpx.URL) -> httpx.URL:
        """The URL of a request that asked for another."""
        base = httpx.URL(self.url)
        path = base.raw_path.rstrip(b"/") + asked.raw_path
        return base.copy_with(raw_path=path)


class Courier:
    """Sends requests to targets that a policy allows. Owned by one event loop.

    No redirect is followed, no cookie kept, no proxy, ``.netrc`` or other environment
    used: two jobs share connections and nothing else.

    Args:
        policy: What may be reached.
        resolve: Looks up addresses.
        seed: Of the wait for a host that has enough to do; ``None`` from the system.
        trusts: Whether a host and port are reached whatever the address is; by default
            the policy's.
    """

    def __init__(
        self,
        policy: TargetPolicy,
        resolve: Resolve | None = None,
        *,
        seed: int | None = None,
        trusts: Callable[[str, int], bool] | None = None,
    ) -> None:
        self._policy, self._trusts = policy, trusts or policy.trusts
        self._resolve = Resolver() if resolve is None else resolve
        self._random = random.Random(seed)  # noqa: S311  # jitter, no secret
        self._busy: collections.Counter[str] = collections.Counter()

    @functools.cached_property
    def _client(self) -> httpx.AsyncClient:
        nothing = http.cookiejar.DefaultCookiePolicy(allowed_domains=[])
        return httpx.AsyncClient(
            transport=_CheckedTransport(_CheckedBackend(self._trusts, self._resolve)),
            trust_env=False,
            follow_redirects=False,
            cookies=http.cookiejar.CookieJar(nothing),
            headers={"user-agent": "shifter-relay", "accept-encoding": "identity"},
            # how long an answer may take is the attempt's own limit
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
        )

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Any,
        ours: Mapping[str, str],
        to: Target | None = None,
    ) -> Reply:
        """Make one request.

        Args:
            method: One of `METHODS`, in either case.
            url: ``http`` or ``https``, absolute.
            headers: The job's; checked.
            body: ``None`` for none, text as it is, anything else as JSON.
            ours: Headers that the relay adds; trusted.
            to: Where it goes; by default to the host of its URL.

        Raises:
            RefusedTargetError: It may not be made.
            LaterError: It was not made, for want of something on this side.
            httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError:
                It was made, and no status came back.
        """
        if method.upper() not in METHODS:
            raise RefusedTargetError(f"method {method[:20]!r} is not allowed")
        if body is not None and method.upper() in ("GET", "HEAD"):
            raise RefusedTargetError(f"a {method.upper()} request has no body")
        target = checked_url(self._policy, url)
        allowed = checked_headers(headers, self._policy.allow_headers)
        sent = httpx.Headers({**allowed, **ours})
        if isinstance(body, str):
            sent.setdefault("content-type", "text/plain; charset=utf-8")
        host = _host_of(target)
        if to is not None:
            target, sent["host"] = to.instead_of(target), to.authority
            host = target.netloc.decode("ascii")
        request = self._client.build_request(
            method.upper(),
            target,
            headers=sent,
            content=body if isinstance(body, str) else None,
            json=None if isinstance(body, str) else body,
            extensions=None if to is None else {"sni_hostname": to.host},
        )
        with self._one_of(host), _ours_told_apart():
            return await self._exchange(request)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    @contextlib.contextmanager
    def _one_of(self, host: str) -> Generator[None]:
        """One of the requests that a host may have at once."""
        if self._busy[host] >= self._policy.per_host:
            most = f"{host!r} has {self._policy.per_host} requests already"
            raise LaterError(most, self._random.uniform(*_BUSY_S))
        self._busy[host] += 1
        try:
            yield
        finally:
            self._busy[host] -= 1
            if not self._busy[host]:
                del self._busy[host]

    async def _exchange(self, request: httpx.Request) -> Reply:
        response = await self._client.send(request, stream=True)
        try:
            await _read_off(response)
        finally:
            await response.aclose()
        return Reply(
            _host_of(request.url),
            response.status_code,
            response.headers.get("retry-after"),
            response.headers.get("date"),
        )


def _host_of(url: httpx.URL) -> str:
    """As it goes over the wire; `httpx.URL.host` raises for names like ``xn--ls8h``."""
    return url.raw_host.decode("ascii").rstrip(".")


@contextlib.contextmanager
def _ours_told_apart() -> Generator[None]:
    """Raise `LaterError` for a failure to connect that is this machine's own."""
    try:
        yield
    except httpcore.ConnectError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in _OUR_ERRNOS:
                raise LaterError(f"no connection: {cause}", _OURS_S) from error
            cause = cause.__cause__ or cause.__context__
        raise


async def _read_off(response: httpx.Response) -> None:
    """Read a short body, so that the connection can be used again.

    The status has decided by now: a body that is long, slow or broken only costs the
    connection.
    """
    left = _BODY_BYTES
    failures = (TimeoutError, httpcore.NetworkError, httpcore.ProtocolError)
    with contextlib.suppress(*failures):
        async with asyncio.timeout(_BODY_S):
            async for chunk in response.aiter_raw():
                left -= len(chunk)
                if left < 0:
                    return


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, never to names."""

    def __init__(self, trusts: Callable[[str, int], bool], resolve: Resolve) -> None:
        self._trusts, self._resolve = trusts, resolve
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._checked(host, port, timeout)
        each_s = None if timeout is None else timeout / len(addresses)
        failure: Exception = httpcore.ConnectError(f"{host!r} was not tried")
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    address, port, each_s, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self, path: str, *_: Any, **__: Any
    ) -> httpcore.AsyncNetworkStream:
        raise RefusedTargetError(f"a socket file: {path!r}")

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)

    async def _checked(self, host: str, port: int, limit_s: float | None) -> list[str]:
        try:
            async with asyncio.timeout(limit_s):
                addresses = await self._resolve(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host!r} was not resolved") from error
        except OSError as error:
            raise httpcore.ConnectError(f"{host!r}: {error}") from error
        if not self._trusts(host, port):
            check_addresses(host, addresses)
        return addresses[:_TRIED_ADDRESSES]


class _Body(httpx.AsyncByteStream):
    """httpcore's response stream as httpx wants it."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


class _CheckedTransport(httpx.AsyncBaseTransport):
    """httpx's transport over a pool whose every connection was checked.

    Connections are kept by scheme, *name* and port, so one that TLS verified for a name
    never serves another name at the same address.
    """

    def __init__(self, backend: _CheckedBackend) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            # Attempts that run bound them, and each host's requests.
            max_connections=None,
            max_keepalive_connections=_IDLE_CONNECTIONS,
            keepalive_expiry=30.0,
            network_backend=backend,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        asked = httpcore.Request(
            request.method,
            httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        answer = await self._pool.handle_async_request(asked)
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer)
        )

    async def aclose(self) -> None:
        await self._pool.aclose()
