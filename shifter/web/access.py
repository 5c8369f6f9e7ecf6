"""Who may open the page, and with which role.

There are three ways in. *Open*: nobody is asked for anything, and only requests from
the same machine are answered. *Tokens*: one for each role, sent as a bearer token or
entered once in a browser. *Proxy*: a header with the user's name, believed only if the
connection comes from an address that is trusted to have removed it from the request of
the client.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from shifter.errors import ConfigError
from shifter.ops.operator import who
from shifter.wire.untrusted import printable

_LEAST_TOKEN: Final = 16
"""Characters of the shortest token: 64 bits where it is hexadecimal."""
_NAME: Final = 64
_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# A request with one of these came through a proxy, so it may come from anywhere.
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "via")


class Role(StrEnum):
    """What a person may do. An operator may do everything that a reader may."""

    READ = "read"
    OPERATE = "operate"


class Person(NamedTuple):
    """Who makes a request.

    Attributes:
        name: As recorded with each action; printable.
        role: What the person may do.
    """

    name: str
    role: Role

    @property
    def may_operate(self) -> bool:
        """Whether the person may change anything, and may see payloads."""
        return self.role is Role.OPERATE


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may read and who may operate; without any argument, this machine alone.

    Attributes:
        operate_token: Secret of operators, at least 16 characters.
        read_token: Secret of readers, at least 16 characters.
        user_header: Header in which a proxy sends the user's name.
        proxies: Addresses or networks of that proxy, such as ``10.0.0.0/8``.
        operators: Names of users that may operate; others may read.

    Raises:
        ConfigError: A token is short, both tokens are equal, an address cannot be
            read, or a header is to be believed from everywhere.
    """

    operate_token: str | None = None
    read_token: str | None = None
    user_header: str | None = None
    proxies: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("operate_token", "read_token"):
            token = getattr(self, name)
            if token is not None and len(token) < _LEAST_TOKEN:
                want = f"use at least {_LEAST_TOKEN} characters"
                raise ConfigError(name, f"{len(token)} characters", want)
        if self.read_token is not None and self.read_token == self.operate_token:
            raise ConfigError("read_token", "…", "use another one than operate_token")
        if (self.user_header is None) != (not self.proxies):
            want = "use user_header together with the addresses of its proxy"
            raise ConfigError("user_header", self.user_header, want)
        for text in self.proxies:
            _network(text)

    @property
    def has_tokens(self) -> bool:
        """Whether a person can log in with a token."""
        return self.operate_token is not None or self.read_token is not None

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked for anything."""
        return not self.has_tokens and self.user_header is None

    def by_token(self, token: str, name: str = "") -> Person | None:
        """The person that a token stands for; ``None`` for a wrong one.

        Args:
            token: As sent by the client.
            name: The name that the person gave.
        """
        for role in (Role.OPERATE, Role.READ):
            known = getattr(self, f"{role.value}_token")
            # All of both is compared, however many characters agree.
            if known is not None and hmac.compare_digest(
                known.encode(), token.encode("utf-8", "surrogateescape")
            ):
                given = printable(name.strip(), _NAME)
                return Person(given or f"a holder of the {role.value} token", role)
        return None

    def by_proxy(self, peer: str, headers: Mapping[str, str]) -> Person | None:
        """The person that a trusted proxy names; ``None`` without one.

        Args:
            peer: Address of the connection.
            headers: Headers of the request, names in lower case.
        """
        if self.user_header is None or not _is_among(peer, self.proxies):
            return None
        name = headers.get(self.user_header.lower(), "").strip()
        # Two values: the proxy has not removed the one that the client sent.
        if not name or "," in name:
            return None
        role = Role.OPERATE if name in self.operators else Role.READ
        return Person(printable(name, _NAME), role)

    def local(self, peer: str, headers: Mapping[str, str]) -> Person | None:
        """The user of this machine, if the page is open and the request is local.

        The name of the host is compared too: a page of another site can let its own
        name point to this machine (DNS rebinding).
        """
        host = host_name(headers.get("host", ""))
        is_direct = not any(name in headers for name in _FORWARDED)
        if self.is_open and is_direct and is_loopback(peer) and host in _LOCAL_HOSTS:
            return Person(who(), Role.OPERATE)
        return None


def host_name(host: str) -> str:
    """The name in a ``Host`` header, without its port.

    >>> host_name("[::1]:80"), host_name("LOCALHOST:8000"), host_name("10.0.0.1")
    ('::1', 'localhost', '10.0.0.1')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def is_loopback(host: str) -> bool:
    """Whether an address or name can be reached from this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        want = "use an address or a network, such as 10.0.0.0/8"
        raise ConfigError("proxies", text, want) from None


def _is_among(peer: str, networks: tuple[str, ...]) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in _network(text) for text in networks)
