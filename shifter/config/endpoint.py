"""The URLs of the log and the state store: taken apart, checked and masked.

``kafka://[user:password@]host[:port],…/?sasl_mechanism=…`` carries librdkafka
properties in its query, dots written as underscores; ``redis://`` (``rediss`` for TLS),
``redis+sentinel://``, ``redis+cluster://`` and ``unix://`` are Redis, ``sqlite:///path``
is a file on this machine for either, ``memory://`` is for tests. Everything is checked
before any connection is tried, and no error shows a credential: text that may hold one
is a `Secret`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from shifter.errors import ConfigError
from shifter.model.advice import nearest

MASK: Final = "***"
LOG_SCHEMES: Final = ("kafka", "sqlite", "memory")
STATE_SCHEMES: Final = (
    "redis",
    "rediss",
    "redis+sentinel",
    "redis+cluster",
    "rediss+sentinel",
    "rediss+cluster",
    "unix",
    "sqlite",
    "memory",
)

_HARMLESS: Final = frozenset(
    {
        "client.id",
        "client.rack",
        "db",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.username",
        "security.protocol",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
    }
)
# Strict on purpose: a URL that does not look like one is masked as a whole, since a
# password with an unescaped '/', '#' or '@' would else show its tail as a host name.
_URL: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+]*)://"
    r"(?:(?P<user>[^:@/?#\s]*)(?::(?P<password>[^@/?#\s]*))?@)?"
    r"(?P<hosts>[^@/?#\s]*)(?P<path>/[^@?#\s]*)?(?:\?(?P<query>[^@#\s]*))?\Z"
)
# A port has digits only; anything else behind a colon may be a password.
_HOST: Final = re.compile(
    r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9][A-Za-z0-9._-]{0,252})"
    r"(?::(?P<port>[0-9]{1,5}))?\Z"
)
_PROPERTY: Final = re.compile(r"[a-z][a-z0-9]*(?:\.[a-z0-9]+)*\Z")
_MAX_PORT: Final = 65_535
_MAX_URL: Final = 8_192

# Prefixes of the properties that make librdkafka load a library, run a command or fetch
# an address: a setting must not become code. The Java client had the same weakness in
# CVE-2023-25194 and CVE-2025-27817.
_CODE: Final = (
    "plugin.library.paths",
    "sasl.kerberos.kinit.cmd",
    "sasl.oauthbearer.assertion.",
    "sasl.oauthbearer.token.endpoint.url",
    "ssl.engine.",
    "ssl.providers",
)
# Properties that the delivery guarantees rest on: another value would break them
# without an error. "test.mock." would replace the brokers by librdkafka's mock cluster.
_OWN: Final = (
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "check.crcs",
    "default.topic.config",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "test.mock.",
    "transactional.id",
)
_PROTOCOLS: Final = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")


class Secret:
    """A text whose ``str`` and ``repr`` show a mask. Immutable, picklable.

    It is no ``str`` on purpose: joining, logging or encoding one by accident gives the
    mask, and only `reveal`, which is easy to search for, gives the text.

    Args:
        text: The text that is kept.
        mask: The text that is shown instead.
    """

    __slots__ = ("_mask", "_text")

    def __init__(self, text: str, *, mask: str = MASK) -> None:
        self._text, self._mask = text, mask

    @classmethod
    def of_url(cls, url: str) -> Self:
        """A URL that shows its scheme and hosts, and masks its credentials."""
        return cls(url, mask=mask_url(url))

    @classmethod
    def of_property(cls, name: str, text: str) -> Self:
        """A client property, masked unless its name is known to be harmless."""
        return cls(text, mask=text if _is_harmless(name) else MASK)

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __str__(self) -> str:
        return self._mask

    def __repr__(self) -> str:
        return f"Secret({self._mask!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))


def mask_url(url: str) -> str:
    """The URL without anything that may be a credential.

    Query values are masked unless their name is known to be harmless.

    >>> mask_url("redis://app:hunter2@cache:6379/0")
    'redis://app:***@cache:6379/0'
    >>> mask_url("kafka://b1,b2/?security_protocol=SASL_SSL&sasl_password=hunter2")
    'kafka://b1,b2/?security_protocol=SASL_SSL&sasl_password=***'
    >>> mask_url("redis://app:hunter/2@cache"), mask_url("hunter2")
    ('redis://***', '***')
    >>> mask_url("redis://:hunter2cache"), mask_url("redis://hunter2@cache")
    ('redis://***', 'redis://***@cache')
    """
    match = _URL.match(url)
    if match is None or not _are_hosts(match["hosts"]):
        scheme = re.match(r"[a-z][a-z0-9+]{0,20}://", url)
        return f"{scheme[0]}{MASK}" if scheme else MASK
    user, password, query = match["user"], match["password"], match["query"]
    login = ""
    if user is not None:
        # A name without a password is often a password without its colon.
        login = f"{MASK}@" if password is None else f"{user}:{MASK}@"
    shown = f"{match['scheme']}://{login}{match['hosts']}{match['path'] or ''}"
    if query:
        shown += "?" + "&".join(_mask_pair(pair) for pair in query.split("&"))
    return shown


def _are_hosts(text: str) -> bool:
    """Whether the text is a list of hosts: without its '@', a password stands there."""
    return not text or all(_HOST.match(host) for host in text.split(","))


def _mask_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    if not equals:
        return MASK
    return pair if _is_harmless(name) else f"{name}={MASK}"


def _is_harmless(name: str) -> bool:
    return name.replace("_", ".") in _HARMLESS


class ParsedUrl(NamedTuple):
    """One URL, taken apart; credentials are plain here, so do not log it.

    Attributes:
        scheme: One of the allowed ones.
        hosts: ``host`` or ``host:port``, in order; empty for ``memory`` and ``unix``.
        user: Percent-decoded, or ``None``.
        password: Percent-decoded, or ``None``.
        path: With its leading slash, or empty.
        query: Names and values, percent-decoded.
    """

    scheme: str
    hosts: tuple[str, ...]
    user: str | None
    password: str | None
    path: str
    query: dict[str, str]


def parse_endpoint(field: str, url: str, schemes: Collection[str]) -> ParsedUrl:
    """Take a URL apart.

    Args:
        field: Name of the setting, for the error.
        url: As the user wrote it.
        schemes: Those allowed here.

    Raises:
        ConfigError: The text is no URL of these schemes; the error masks it.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in schemes:
        want = nearest(scheme, schemes, "allowed schemes") if separator else None
        example = f"{next(iter(schemes))}://host:port"
        raise ConfigError(field, mask_url(url), want or f"use a URL such as {example}")
    if len(url) > _MAX_URL or not url.isprintable():
        raise ConfigError(
            field, mask_url(url), "use printable characters, at most 8192"
        )
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _malformed(field, url) from None
    login, at, hosts = parts.netloc.rpartition("@")
    if "#" in url or "@" in login:
        raise _malformed(field, url)
    user, colon, password = login.partition(":")
    return ParsedUrl(
        scheme,
        _hosts(field, url, scheme, hosts),
        unquote(user) if at and user else None,
        unquote(password) if colon else None,
        parts.path,
        _query(field, url, parts.query),
    )


def check_kafka(
    field: str, url: str, properties: Mapping[str, Secret]
) -> dict[str, Secret]:
    """All librdkafka properties of a Kafka log, from its URL and beside it.

    Args:
        field: Name of the URL's setting, for errors.
        url: The log's URL.
        properties: Given beside the URL, by their librdkafka names.

    Returns:
        Properties by librdkafka name, without ``bootstrap.servers``.

    Raises:
        ConfigError: A property is refused, given twice, or contradicts another one.
    """
    endpoint = parse_endpoint(field, url, ("kafka",))
    if endpoint.path not in ("", "/"):
        raise ConfigError(field, mask_url(url), "leave out the path: kafka://host:port")
    found = dict(properties)
    given = {property_name(field, name): text for name, text in endpoint.query.items()}
    if endpoint.user is not None:
        given["sasl.username"] = endpoint.user
    if endpoint.password is not None:
        given["sasl.password"] = endpoint.password
    for name, text in given.items():
        secret = Secret.of_property(name, text)
        if found.setdefault(name, secret) != secret:
            raise ConfigError(field, MASK, f"{name} is also set elsewhere: keep one")
    _check_security(field, found)
    return found


def check_state(field: str, url: str) -> None:
    """Check the state store's URL.

    Raises:
        ConfigError: It is none, or its parts do not fit its scheme.
    """
    endpoint = parse_endpoint(field, url, STATE_SCHEMES)
    if endpoint.scheme == "sqlite":
        sqlite_path(field, url)
    if endpoint.scheme in ("redis", "rediss"):
        if len(endpoint.hosts) > 1:
            want = "one server only; several need redis+sentinel or redis+cluster"
            raise ConfigError(field, mask_url(url), want)
        if not re.fullmatch(r"(?:/[0-9]{0,4})?", endpoint.path):
            want = "the path is the number of a database, as in redis://host:6379/0"
            raise ConfigError(field, mask_url(url), want)


def sqlite_path(field: str, url: str) -> Path:
    """The file that a ``sqlite:///`` URL names.

    Raises:
        ConfigError: It names no file, or a relative path.
    """
    endpoint = parse_endpoint(field, url, ("sqlite",))
    path = unquote(endpoint.path)
    if endpoint.query or path.endswith("/") or not path.startswith("/"):
        want = "name a file by its whole path: sqlite:///var/lib/shop.db"
        raise ConfigError(field, mask_url(url), want)
    # Four slashes, as some write them, begin the same whole path.
    return Path("/" + path.lstrip("/"))


def property_name(field: str, name: str) -> str:
    """The librdkafka property for a name written with underscores.

    >>> property_name("SHIFTER_KAFKA__SASL_PASSWORD", "sasl_password")
    'sasl.password'

    Raises:
        ConfigError: Not a property, or one that a setting may not change.
    """
    found = name.lower().replace("_", ".")
    if not _PROPERTY.match(found):
        raise ConfigError(field, name, "use a librdkafka property, e.g. sasl_username")
    if found.startswith(_CODE):
        raise ConfigError(field, found, "refused: it makes the client load or run code")
    if found.startswith(_OWN):
        raise ConfigError(field, found, "refused: shifter sets it to keep its promises")
    return found


def check_server(field: str, server: str, *, shown: str) -> None:
    """Check the address of one server.

    Args:
        field: The setting that holds the address.
        server: The address.
        shown: Stands in the error in place of the address, which may hold a secret.

    Raises:
        ConfigError: The address is neither a host nor a host with a port.
    """
    if not _is_host(server):
        want = "each server is host, host:port or [ipv6]:port, separated by commas"
        raise ConfigError(field, shown, want)


def servers(url: Secret) -> str:
    """``bootstrap.servers`` of a checked Kafka URL."""
    return ",".join(parse_endpoint("log", url.reveal(), ("kafka",)).hosts)


def _check_security(field: str, found: Mapping[str, Secret]) -> None:
    protocol = found.get("security.protocol", Secret("")).reveal()
    if protocol and protocol.lower() not in _PROTOCOLS:
        want = nearest(protocol.lower(), _PROTOCOLS, "allowed")
        raise ConfigError("security.protocol", protocol, want)
    has_login = "sasl.username" in found or "sasl.password" in found
    if has_login and not protocol.lower().startswith("sasl"):
        want = "credentials are given: set security_protocol=SASL_SSL"
        raise ConfigError(field, MASK, want)


def _hosts(field: str, url: str, scheme: str, text: str) -> tuple[str, ...]:
    if scheme == "sqlite" and text:
        want = "three slashes before the path: sqlite:///var/lib/shop.db"
        raise ConfigError(field, mask_url(url), want)
    if scheme in ("memory", "unix", "sqlite"):
        return ()
    hosts = tuple(text.split(","))
    for host in hosts:
        check_server(field, host, shown=mask_url(url))
    return hosts


def _is_host(text: str) -> bool:
    match = _HOST.match(text)
    return match is not None and 1 <= int(match["port"] or 1) <= _MAX_PORT


def _query(field: str, url: str, text: str) -> dict[str, str]:
    query: dict[str, str] = {}
    for pair in text.split("&") if text else ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise _malformed(field, url)
        if name in query:
            raise ConfigError(field, mask_url(url), f"{name!r} is given twice")
        # unquote, not unquote_plus: passwords hold '+', and users do not escape it.
        query[name] = unquote(value)
    return query


def _malformed(field: str, url: str) -> ConfigError:
    want = "not a URL; percent-encode '@', ':', '/', '?' and '#' in passwords"
    return ConfigError(field, mask_url(url), want)
