"""Groups of servers that jobs name as one host: ``RELAY_UPSTREAMS``.

A job that sends to ``http://render/pages`` goes to one of the servers of the upstream
``render``, by the load balancing of a dependency of that name: another server is tried
where one fails, and each server is paused or ejected by itself.

The relay's own resolver looks the names up, every 30 s. Each address is checked before
it is listed, and again by the connection: an address that is not public is left out,
unless ``RELAY_ALLOW_HOSTS`` has the server's name or the address itself. While look-ups
fail, or find no address that is allowed, the last addresses are used.

The connections of an upstream are its own, so that a job that names an address never
gets one that was made to a trusted name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from shifter import ConfigError, DeadLetter, Retry, Shifter, Throttled
from workers.http_courier import Courier, Resolve, Target
from workers.http_resolver import LaterError, Resolver
from workers.http_target import RefusedTargetError, TargetPolicy, is_public

Attempt = Callable[[Courier, Target | None], Awaitable[None]]
"""Sends the request of a job; raises what its answer means for the job."""

_REFRESH_S: Final = 30.0
_RENEW_S: Final = 2.0
"""Longest wait of the one job that renews a list; the others go on with the last."""

_FIRST_S: Final = 5.0
_LATER_S: Final = 5.0
_TRY: Final = "10s"
"""A third of an attempt, so that a stalled server leaves time for two others."""

_RETRIES: Final = 2
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?\Z")
_PORTS: Final = {"http": 80, "https": 443}


class Server(NamedTuple):
    """One server of an upstream, as the variable names it.

    Attributes:
        scheme: ``http`` or ``https``.
        host: A name or an address, without brackets.
        port: 1-65535.
        path: That all requests begin with; empty for none.
    """

    scheme: str
    host: str
    port: int
    path: str

    def at(self, address: str) -> str:
        """The URL of one of its addresses."""
        host = f"[{address}]" if ":" in address else address
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port as the server has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_usual = self.port == _PORTS[self.scheme]
        return host if is_usual else f"{host}:{self.port}"


class _LocalError(Exception):
    """Nothing was sent, for want of something on this side: no server is to blame."""

    def __init__(self, signal: Throttled) -> None:
        self.signal = signal
        super().__init__(str(signal))


class _BusyError(Throttled):
    """A server that states when it has room again (503 with ``Retry-After``)."""

    def __init__(self, signal: Retry) -> None:
        self.signal = signal
        super().__init__(signal.after)


def _of_server(signal: DeadLetter | Throttled | Retry) -> DeadLetter:
    """A signal that another server would cause too.

    Raises:
        Exception: The signal, as the dependency is to judge it.
    """
    cause = signal.__cause__
    if isinstance(signal, DeadLetter) and not isinstance(cause, RefusedTargetError):
        return signal
    if isinstance(signal, Throttled) and isinstance(cause, LaterError):
        raise _LocalError(signal) from cause
    if isinstance(signal, Retry) and signal.after is not None:
        raise _BusyError(signal) from cause
    raise signal


class Upstream:
    """The servers of one upstream. Owned by one event loop.

    Args:
        app: The dependency is declared there.
        name: What jobs call it.
        servers: Its servers.
        policy: What may be reached.
        resolve: Looks up addresses; by default a resolver of its own.
    """

    def __init__(
        self,
        app: Shifter,
        name: str,
        servers: list[Server],
        policy: TargetPolicy,
        resolve: Resolve | None = None,
    ) -> None:
        self._name, self._servers, self._policy = name, servers, policy
        self._resolve = Resolver() if resolve is None else resolve
        self._known: dict[Server, list[str]] = {}
        self._targets: dict[str, Target] = {}
        self._urls: list[str] = []
        self._due_at = 0.0
        self._first = asyncio.Lock()
        self._dependency = app.dependency(
            name, endpoints=self._listed, ignore=_LocalError
        )
        # Its host is no name that could be resolved: requests go to its servers only.
        hosts = policy.allow_hosts | {(name, 80)}
        self.courier = Courier(
            replace(policy, allow_hosts=hosts), self._resolve, trusts=self._trusts
        )

    async def run(self, attempt: Attempt) -> None:
        """Send a request to one server after the other until one answers.

        Raises:
            DeadLetter: What the answer means for the job, or none of the servers may
                be reached.
            Retry: As before.
            Throttled: As before, or no name could be resolved.
            Exception: The last failure.
        """
        await self._renew()

        async def fetch(endpoint: Any) -> DeadLetter | None:
            try:
                await attempt(self.courier, self._targets[endpoint.url])
            except (DeadLetter, Throttled, Retry) as signal:
                return _of_server(signal)
            return None

        try:
            answer = await self._dependency.run(fetch, timeout=_TRY, retries=_RETRIES)
        except (_LocalError, _BusyError) as error:
            raise error.signal from error.__cause__
        if answer is not None:
            raise answer

    async def _renew(self) -> None:
        """Look the names up if that is due.

        Raises:
            DeadLetter: There is no address that may be reached.
            Throttled: There is no address.
        """
        now = asyncio.get_running_loop().time()
        if self._urls and now >= self._due_at:
            self._due_at = now + _REFRESH_S
            await self._look_up(_RENEW_S)
        elif not self._urls:
            async with self._first:
                if not self._urls:
                    refused = await self._look_up(_FIRST_S)
                    self._due_at = now + _REFRESH_S
                    if not self._urls and refused:
                        raise DeadLetter(f"refused: {', '.join(refused)}")
        if not self._urls:
            raise Throttled(_LATER_S)

    async def _look_up(self, limit_s: float) -> list[str]:
        """Renew the list of servers.

        Returns:
            The addresses that were left out.
        """
        asked = (self._addresses(server, limit_s) for server in self._servers)
        refused: list[str] = []
        targets: dict[str, Target] = {}
        for server, found in zip(
            self._servers, await asyncio.gather(*asked), strict=True
        ):
            allowed = [one for one in found if self._allows(server, one)]
            refused += [one for one in found if one not in allowed]
            self._known[server] = allowed or self._known.get(server, [])
            for address in self._known[server]:
                url = server.at(address)
                targets.setdefault(url, Target(url, server.host, server.authority))
        # A call that has chosen its server still finds it.
        self._urls, self._targets = list(targets), self._targets | targets
        if len(self._targets) > 2 * len(targets) + _SPARE:
            self._targets = targets
        return refused

    async def _addresses(self, server: Server, limit_s: float) -> list[str]:
        try:
            async with asyncio.timeout(limit_s):
                return await self._resolve(server.host, server.port)
        except (TimeoutError, OSError, LaterError):
            return []

    def _allows(self, server: Server, address: str) -> bool:
        is_trusted = self._policy.trusts(server.host, server.port)
        return (
            is_trusted
            or self._policy.trusts(address, server.port)
            or is_public(address)
        )

    def _trusts(self, host: str, port: int) -> bool:
        """Whether an address belongs to a server that is trusted by its name."""
        return self._policy.trusts(host, port) or any(
            host in addresses and port == server.port
            for server, addresses in self._known.items()
            if self._policy.trusts(server.host, server.port)
        )

    def _listed(self) -> list[str]:
        return self._urls


class Upstreams:
    """All upstreams, by what jobs call them.

    Args:
        app: The dependencies are declared there.
        env: Has ``RELAY_UPSTREAMS``: ``render=10.0.0.1:8080|10.0.0.2:8080``, separated
            by commas.
        policy: What may be reached.

    Raises:
        ConfigError: The variable cannot be read.
    """

    def __init__(
        self, app: Shifter, env: Mapping[str, str], policy: TargetPolicy
    ) -> None:
        text = env.get("RELAY_UPSTREAMS", "")
        self._by_name: dict[str, Upstream] = {}
        for item in filter(None, map(str.strip, text.split(","))):
            name, _, listed = item.partition("=")
            if not _NAME.match(name) or name in self._by_name:
                raise ConfigError("RELAY_UPSTREAMS", item, _WANT)
            servers = [_server(one.strip(), item) for one in listed.split("|")]
            self._by_name[name] = Upstream(app, name, servers, policy)

    def of(self, url: str) -> Upstream | None:
        """The upstream that a URL names; ``None`` for any other host."""
        scheme, _, rest = url.partition("://")
        name = re.split(r"[/?#]", rest, maxsplit=1)[0]
        return self._by_name.get(name) if scheme == "http" else None


_SPARE: Final = 100
"""Addresses of earlier lists that are kept for calls under way."""

_WANT: Final = (
    "use name=host:port|host:port, separated by commas; a server may be a URL with "
    "http or https"
)


def _server(text: str, item: str) -> Server:
    """Read one server."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ConfigError("RELAY_UPSTREAMS", item, _WANT) from None
    has_more = parts.query or parts.fragment or "@" in parts.netloc
    is_named = port is not None or "://" in text
    if parts.scheme not in _PORTS or not host or has_more or not is_named or port == 0:
        raise ConfigError("RELAY_UPSTREAMS", item, _WANT)
    path = parts.path.rstrip("/")
    return Server(parts.scheme, host.rstrip("."), port or _PORTS[parts.scheme], path)
