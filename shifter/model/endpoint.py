"""Endpoints: the servers of which any can answer a call to a dependency."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from shifter.errors import ConfigError
from shifter.model.time import Duration, duration_ms

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_MOST_WEIGHT: Final = 1_000.0
_MOST_PRIORITY: Final = 65_535

DNS_KINDS: Final = ("address", "srv")
"""What `Dns` looks up."""

_WANT: Final = (
    "use a URL such as 'http://10.0.0.1:8080', or 'host:port'; "
    "an IPv6 address stands in brackets: '[::1]:8080'"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server of a dependency.

    ``host:port`` stands for ``http://host:port``. The URL is kept in lower case up to
    its path, and without a slash at its end.

    Attributes:
        url: Scheme, host, port and, if there is one, the path that all requests begin
            with. Endpoints with equal URLs are one endpoint.
        weight: Its share of the calls, against the other endpoints; above 0, up to
            1000.
        zone: Where it is, such as ``eu-1a``; ``None`` if that is not known.
        server_name: The name that the server has in TLS and in the ``Host`` header,
            where the URL has an address instead; ``None`` for the host of the URL.
        priority: Endpoints of a larger number are called where too few of the smaller
            ones are left; 0-65535, as in SRV records.

    Raises:
        ConfigError: The URL, the weight or the priority is wrong.

    >>> Endpoint("10.0.0.1:8080").url, Endpoint("HTTPS://Render.internal/").port
    ('http://10.0.0.1:8080', 443)
    """

    url: str
    weight: float = field(default=1.0, kw_only=True)
    zone: str | None = field(default=None, kw_only=True)
    server_name: str | None = field(default=None, kw_only=True)
    priority: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", _normal(self.url))
        weight: object = self.weight
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not 0 < self.weight <= _MOST_WEIGHT:
            want = f"use a number above 0, up to {_MOST_WEIGHT:g}"
            raise ConfigError("weight", weight, want)
        priority: object = self.priority
        is_whole = isinstance(priority, int) and not isinstance(priority, bool)
        if not is_whole or not 0 <= self.priority <= _MOST_PRIORITY:
            want = f"use a whole number from 0 to {_MOST_PRIORITY}"
            raise ConfigError("priority", priority, want)

    @property
    def host(self) -> str:
        """The host's name or address, without brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port, 1-65535."""
        parts = urlsplit(self.url)
        return parts.port or _PORTS[parts.scheme]


EndpointList: TypeAlias = Sequence[str | Endpoint]
"""Endpoints, or their URLs."""


@dataclass(frozen=True, slots=True)
class Dns:
    """The servers that DNS lists for a name; each is an endpoint.

    The name is looked up in a thread, when it is first called and then every
    ``refresh``. While look-ups fail, or do not end, the last endpoints are used.

    Attributes:
        name: Host and port as of `Endpoint`: ``render.internal:8080``, or a URL. With
            ``kind="srv"`` it has no port.
        refresh: How often the name is looked up; 1 s at least.
        kind: ``"address"`` for all addresses of the name (A and AAAA records), or
            ``"srv"`` for its SRV records, which have priority, weight and port.
        nameserver: Address and port of the server that is asked,
            ``127.0.0.1:8600``; by default the resolver of the system is asked.

    Raises:
        ConfigError: An option is wrong.
    """

    name: str
    refresh: Duration = field(default="30s", kw_only=True)
    kind: str = field(default="address", kw_only=True)
    nameserver: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        duration_ms("refresh", self.refresh, minimum_ms=1_000)
        if self.kind not in DNS_KINDS:
            want = f"use one of {', '.join(DNS_KINDS)}"
            raise ConfigError("kind", self.kind, want)
        if self.kind == "srv" and _has_port(self.name):
            want = "leave the port out: SRV records have it"
            raise ConfigError("endpoints", self.name, want)
        _ = self.named
        if self.nameserver is not None:
            _check_nameserver(self.nameserver)

    @property
    def refresh_s(self) -> float:
        """Seconds between two look-ups."""
        return duration_ms("refresh", self.refresh) / 1_000

    @property
    def named(self) -> Endpoint:
        """Scheme, name and path; the port of SRV records is not known yet.

        >>> Dns("_http._tcp.render.internal", kind="srv").named.host
        '_http._tcp.render.internal'
        """
        is_bare = self.kind == "srv" and isinstance(self.name, str)
        is_bare = is_bare and "://" not in self.name
        return Endpoint(f"http://{self.name}" if is_bare else self.name)

    def endpoint(
        self,
        address: str,
        port: int | None = None,
        *,
        server_name: str | None = None,
        weight: float = 1.0,
        priority: int = 0,
    ) -> Endpoint:
        """The endpoint of an address that the name has.

        Args:
            address: An IP address.
            port: 1-65535; by default the port of the name.
            server_name: As of `Endpoint`; by default the host of the name.
            weight: As of `Endpoint`.
            priority: As of `Endpoint`.

        >>> Dns("render.internal:8080").endpoint("::1").url
        'http://[::1]:8080'
        """
        named = self.named
        parts = urlsplit(named.url)
        host = f"[{address}]" if ":" in address else address
        url = f"{parts.scheme}://{host}:{port or named.port}{parts.path}"
        name = server_name or named.host
        return Endpoint(url, weight=weight, priority=priority, server_name=name)


Endpoints: TypeAlias = EndpointList | Callable[[], EndpointList] | Dns
"""Endpoints as ``app.dependency(endpoints=...)`` takes them."""


def read_endpoints(found: object) -> tuple[Endpoint, ...]:
    """Read a list of endpoints and URLs; of equal URLs the first counts.

    Args:
        found: What was given.

    Raises:
        ConfigError: It is no list, it is empty, or one is neither an endpoint nor a
            URL.

    >>> [one.url for one in read_endpoints(["a:1", "a:1", Endpoint("b:2")])]
    ['http://a:1', 'http://b:2']
    """
    if isinstance(found, str | bytes) or not isinstance(found, Iterable):
        raise ConfigError("endpoints", found, "use a list of URLs or of Endpoint")
    read: dict[str, Endpoint] = {}
    for one in found:
        endpoint = one if isinstance(one, Endpoint) else Endpoint(one)
        read.setdefault(endpoint.url, endpoint)
    if not read:
        raise ConfigError("endpoints", found, "name at least one endpoint")
    return tuple(read.values())


def check_endpoints(found: object) -> Endpoints:
    """Check what ``app.dependency(endpoints=...)`` was given; a list is read.

    Args:
        found: What was given.

    Raises:
        ConfigError: It is neither a list of endpoints, nor a plain function, nor `Dns`.
    """
    if isinstance(found, Dns):
        return found
    if not callable(found):
        return read_endpoints(found)
    if inspect.iscoroutinefunction(found):
        raise ConfigError("endpoints", found, "use a function that is not async")
    return found


def _normal(given: str) -> str:
    """The URL of an endpoint, checked."""
    if not isinstance(given, str):
        raise ConfigError("endpoints", given, _WANT)
    text = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigError("endpoints", given, _WANT) from None
    has_port = port is not None or ("://" in given and parts.scheme in _PORTS)
    if not has_port or port == 0 or not _is_plain(parts, text):
        raise ConfigError("endpoints", given, _WANT)
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _is_plain(parts: SplitResult, text: str) -> bool:
    """Whether there is a host, and nothing that an endpoint has not.

    A password in a URL would stand in logs.
    """
    is_bare = not (parts.query or parts.fragment or "@" in parts.netloc)
    has_blank = any(char.isspace() or not char.isprintable() for char in text)
    return bool(parts.hostname) and is_bare and not has_blank


def _has_port(name: object) -> bool:
    """Whether a name has a port; what is no name is refused elsewhere."""
    text = name if isinstance(name, str) else ""
    host = text.partition("://")[2] or text
    return ":" in host.partition("/")[0]


def _check_nameserver(given: object) -> None:
    """Check the address and the port of a name server."""
    try:
        server = Endpoint(given)  # type: ignore[arg-type]  # checked there
        ip_address(server.host)
        is_plain = server.url == f"http://{given}"
    except (ConfigError, ValueError):
        is_plain = False
    if not is_plain:
        want = "use an IP address and a port, such as '127.0.0.1:8600'"
        raise ConfigError("nameserver", given, want)
