"""Where the relay may send to, and what it may say there.

A job's payload is written by any producer, so its URL is an attempt to reach
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
from collections.abc import Collection, Mapping
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
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")

ALLOWED_HEADERS = frozenset(
    {
        # of the request and its content: RFC 9110, 9421, 9530, 7240
        *("accept", "accept-language", "authorization", "cache-control"),
        *("content-digest", "content-language", "content-type", "date", "digest"),
        *("from", "if-match", "if-modified-since", "if-none-match"),
        *("if-unmodified-since", "pragma", "prefer", "signature", "signature-input"),
        *("user-agent", "baggage", "tracestate"),
        # of webhooks: Standard Webhooks, CloudEvents' binary mode, and custom
        *("webhook-id", "webhook-signature", "webhook-timestamp", "ce-*"),
        *("x-api-key", "x-correlation-id", "x-custom", "x-event-*", "x-hub-signature"),
        *("x-hub-signature-256", "x-request-id", "x-signature", "x-timestamp"),
        *("x-webhook-*",),
    }
)
"""Headers that a job may set, beside those of ``RELAY_ALLOW_HEADERS``; ``*`` at the
end stands for any rest.

A header that proxies and servers act upon (``X-Original-URL``, ``X-Real-IP``,
``Metadata-Flavor`` …) would give a job's author the relay's rights. No list
of all of them exists, so a header that is not listed here is refused.
"""

# The relay's own, and the connection's: no list lets a job set them.
_NEVER = frozenset(
    {
        *("idempotency-key", "traceparent", "x-request-timeout"),
        *("accept-encoding", "connection", "content-length", "expect", "host"),
        *("keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)

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
        # Public by number, and each customer's own inside a cloud: Azure's platform
        # ("wire server"), IBM Cloud's services.
        *("168.63.129.16/32", "161.26.0.0/16", "166.8.0.0/14"),
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
        allow_headers: Headers that a job may set, in lower case; ``*`` at the end
            stands for any rest.
        per_host: Requests of this process to one host at once, >= 1.
    """

    allow_private: bool = False
    allow_hosts: frozenset[tuple[str, int]] = frozenset()
    ports: frozenset[int] = frozenset({80, 443})
    allow_headers: frozenset[str] = ALLOWED_HEADERS
    per_host: int = 25

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the variables ``RELAY_…``; see ``workers/README.md``.

        Raises:
            ConfigError: One of them cannot be read.
        """
        return cls(
            allow_private=_flag(env, "RELAY_ALLOW_PRIVATE"),
            allow_hosts=frozenset(map(_pair, _items(env, "RELAY_ALLOW_HOSTS"))),
            ports=frozenset(map(_port, _items(env, "RELAY_PORTS"))) or cls().ports,
            allow_headers=ALLOWED_HEADERS
            | frozenset(map(_header, _items(env, "RELAY_ALLOW_HEADERS"))),
            per_host=_count(env, "RELAY_PER_HOST", cls().per_host),
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
        # Both raise for an `xn--` label that encodes nothing; httpx itself would, after
        # the request, for those that IDNA 2008 has not.
        _ = url.host, host.encode().decode("idna")
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


def checked_headers(
    headers: Mapping[str, str], allowed: Collection[str] = ALLOWED_HEADERS
) -> dict[str, str]:
    """The headers, if all of them may be sent.

    Args:
        headers: The job's.
        allowed: Names in lower case; ``*`` at the end stands for any rest.

    Raises:
        RefusedTargetError: One is not allowed, cannot stand in a request, or they are
            too many.
    """
    size = sum(len(name) + len(value) for name, value in headers.items())
    if len(headers) > _MAX_HEADERS or size > _MAX_HEADER_CHARS:
        raise RefusedTargetError(f"more than {_MAX_HEADERS} headers, or 16 KiB of them")
    starts = tuple(name[:-1] for name in allowed if name.endswith("*"))
    for name, value in headers.items():
        lower = name.lower()
        if not _TOKEN.match(name) or not _FIELD_VALUE.match(value):
            raise RefusedTargetError(f"header {name[:64]!r} cannot stand in a request")
        if lower in _NEVER:
            raise RefusedTargetError(f"header {name!r} is not a job's to set")
        if lower not in allowed and not lower.startswith(starts):
            want = "RELAY_ALLOW_HEADERS does not name it"
            raise RefusedTargetError(f"header {name!r} is not allowed: {want}")
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


def _header(item: tuple[str, str]) -> str:
    name, text = item
    lower = text.lower()
    is_all = lower.endswith("*") and len(lower) < 4  # "x-*" is no list
    if not _HEADER.match(lower) or lower in _NEVER or is_all or "*" in lower[:-1]:
        want = "use names of headers, separated by commas; x-shop-* for all such"
        raise ConfigError(name, text, want)
    return lower


def _count(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < 1:
        raise ConfigError(name, text, "use a number of at least 1")
    return int(text)
