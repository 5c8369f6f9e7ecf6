"""Where the relay may send to, and what it may say there.

A job's payload is written by whoever may publish, so its URL is an attempt to reach
something from inside our network until it is proved otherwise. What may be asked is
checked before any I/O (`checked_url`, `checked_headers`). Where the request really
goes is checked at the only moment that counts: a name is resolved once, every address
it has must be public, and the connection is made to one of these very addresses. The
name stays in ``Host`` and in TLS, and a name that answers differently the next time
(DNS rebinding) changes nothing.

Sources: OWASP SSRF Prevention Cheat Sheet; IANA special-purpose address registries;
RFC 9110, sections 5.5, 7.6.1 and 9.3.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import httpx

from shifter import ConfigError

METHODS = frozenset({"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"})
"""Methods a job may ask for; what tunnels or echoes (CONNECT, TRACE) is not."""

_MAX_URL = 8_192
_MAX_HEADERS, _MAX_HEADER_CHARS = 64, 16_384
_HOST = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?\Z")
# A resolver takes 127.1 and 0x7f000001 for addresses, so what ends like a number must
# be one in its usual form. Source: WHATWG URL, "ends in a number checker".
_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)\.?\Z")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e]{0,4096}\Z")
_PAIR = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\s\[\]]+):(\d{1,5})\Z")
_OURS = frozenset({"idempotency-key", "traceparent", "x-request-timeout"})
_DENIED_HEADERS = _OURS | {
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_DENIED_PREFIXES = ("proxy-", "x-forwarded-")

# What is not listed as globally reachable. IPv6 has one public range, so everything
# outside it is refused: loopback, unique local, link-local, mapped IPv4, NAT64.
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8"),
        *("169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24"),
        *("192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)


class RefusedTargetError(Exception):
    """The request must not be made; asking again changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPolicy:
    """What may be reached.

    Attributes:
        allow_private: Any address and port may be; for a machine of one's own.
        allow_hosts: Pairs of host and port that are trusted whatever their address.
        ports: Ports of public addresses that may be reached.
    """

    allow_private: bool = False
    allow_hosts: frozenset[tuple[str, int]] = frozenset()
    ports: frozenset[int] = frozenset({80, 443})

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read ``RELAY_ALLOW_PRIVATE``, ``RELAY_ALLOW_HOSTS`` and ``RELAY_PORTS``.

        Raises:
            ConfigError: One of them cannot be read.
        """
        return cls(
            allow_private=_flag(env, "RELAY_ALLOW_PRIVATE"),
            allow_hosts=frozenset(map(_pair, _items(env, "RELAY_ALLOW_HOSTS"))),
            ports=frozenset(map(_port, _items(env, "RELAY_PORTS"))) or cls().ports,
        )

    def trusts(self, host: str, port: int) -> bool:
        """Whether this host and port are reached whatever the address is."""
        return self.allow_private or (host.rstrip("."), port) in self.allow_hosts


def checked_url(policy: TargetPolicy, text: str) -> httpx.URL:
    """The URL, if it may be asked for as far as its text tells.

    Raises:
        RefusedTargetError: Its scheme, form or port is not allowed. The message names
            no more of it than scheme, host and port: a path may hold a secret.
    """
    if len(text) > _MAX_URL or not text.isprintable() or {" ", "\\"} & set(text):
        raise RefusedTargetError("the URL is too long or holds a space or a backslash")
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError) as error:
        raise RefusedTargetError("the URL cannot be read") from error
    if url.scheme not in ("http", "https"):
        raise RefusedTargetError(f"scheme {url.scheme[:20]!r}; use http or https")
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise RefusedTargetError("the URL holds a user or password; use a header")
    if not _is_host(host):
        raise RefusedTargetError(f"host {host[:80]!r} is not a name or an address")
    port = {"http": 80, "https": 443}[url.scheme] if url.port is None else url.port
    if port not in policy.ports and not policy.trusts(host, port):
        raise RefusedTargetError(f"port {port} of {host!r} is not one of RELAY_PORTS")
    return url


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, if all of them may be sent.

    Raises:
        RefusedTargetError: One belongs to the connection, to the relay itself or to a
            proxy, cannot stand in a request, or they are too many.
    """
    size = sum(len(name) + len(value) for name, value in headers.items())
    if len(headers) > _MAX_HEADERS or size > _MAX_HEADER_CHARS:
        raise RefusedTargetError(f"more than {_MAX_HEADERS} headers, or 16 KiB of them")
    for name, value in headers.items():
        lower = name.lower()
        if not _TOKEN.match(name) or not _FIELD_VALUE.match(value):
            raise RefusedTargetError(f"header {name[:64]!r} cannot stand in a request")
        if lower in _DENIED_HEADERS or lower.startswith(_DENIED_PREFIXES):
            raise RefusedTargetError(f"header {name!r} is not a job's to set")
    return dict(headers)


def check_addresses(host: str, addresses: list[str]) -> None:
    """Return if every address of a host is public.

    One private address among public ones is refused too: which of them a client takes
    is up to chance.

    Raises:
        RefusedTargetError: One is not, or there is none.
    """
    for address in addresses:
        if not is_public(address):
            raise RefusedTargetError(f"{host!r} is at {address}, which is not public")
    if not addresses:
        raise RefusedTargetError(f"{host!r} has no address")


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    >>> is_public("93.184.215.14"), is_public("169.254.169.254"), is_public("::1")
    (True, False, False)
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _PUBLIC_6:
        return False
    return not any(ip in network for network in _NOT_PUBLIC)


def _is_host(host: str) -> bool:
    if ":" not in host and not _NUMBER.search(host):
        return _HOST.match(host) is not None
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in str(ip)


def _items(env: Mapping[str, str], name: str) -> list[tuple[str, str]]:
    return [(name, item.strip()) for item in env.get(name, "").split(",") if item]


def _flag(env: Mapping[str, str], name: str) -> bool:
    value = env.get(name, "")
    if value not in ("", "0", "1"):
        raise ConfigError(name, value, "use 1 or 0")
    return value == "1"


def _pair(item: tuple[str, str]) -> tuple[str, int]:
    name, text = item
    match = _PAIR.match(text)
    if match is None or not 1 <= int(match[2]) <= 65_535:  # a port
        raise ConfigError(name, text, "use host:port, separated by commas")
    return match[1].strip("[]").lower().rstrip("."), int(match[2])


def _port(item: tuple[str, str]) -> int:
    name, text = item
    if not re.fullmatch(r"\d{1,5}", text) or not 1 <= int(text) <= 65_535:  # a port
        raise ConfigError(name, text, "use ports, 1 to 65535, separated by commas")
    return int(text)
