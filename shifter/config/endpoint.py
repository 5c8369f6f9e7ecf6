"""Where the log and the state live: the two URLs, taken apart and checked.

``kafka://[user:password@]host[:port],…/?sasl_mechanism=…`` carries librdkafka
properties in its query, dots written as underscores; ``redis://`` (``rediss`` for TLS),
``redis+sentinel://``, ``redis+cluster://`` and ``unix://`` are Redis, ``sqlite:///path``
is a file on this machine for either, ``memory://`` is for tests. Everything is checked
before any connection is tried, and no error shows a credential.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from shifter.config.secret import MASK, Secret, mask_url
from shifter.errors import ConfigError
from shifter.model.advice import nearest

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

_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})\Z")
_IPV6: Final = re.compile(r"\[[0-9A-Fa-f:.]{2,45}\]\Z")
_PROPERTY: Final = re.compile(r"[a-z][a-z0-9]*(?:\.[a-z0-9]+)*\Z")
_MAX_PORT: Final = 65_535
_MAX_URL: Final = 8_192

# Prefixes of what makes librdkafka load a library, run a command or fetch an address:
# a setting must not become code (CVE-2025-27817 and CVE-2023-25194 are the Java
# client's cousins of this).
_CODE: Final = (
    "plugin.library.paths",
    "sasl.kerberos.kinit.cmd",
    "sasl.oauthbearer.assertion.",
    "sasl.oauthbearer.token.endpoint.url",
    "ssl.engine.",
    "ssl.providers",
)
# What the product's promises rest on; another value would break them silently.
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
        field: Name for the error.
        url: As the user wrote it.
        schemes: Those allowed here.

    Raises:
        ConfigError: Not such a URL; its value is masked.
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


def check_state(field: str, url: str) -> ParsedUrl:
    """Take the state store's URL apart.

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
    return endpoint


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


def servers(url: Secret) -> str:
    """``bootstrap.servers`` of a checked Kafka URL."""
    return ",".join(parse_endpoint("log", url.reveal(), ("kafka",)).hosts)


def _check_security(field: str, found: Mapping[str, Secret]) -> None:
    protocol = (
        found["security.protocol"].reveal() if "security.protocol" in found else ""
    )
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
        if not _is_host(host):
            want = "each server is host, host:port or [ipv6]:port, separated by commas"
            raise ConfigError(field, mask_url(url), want)
    return hosts


def _is_host(text: str) -> bool:
    name, colon, port = text, "", ""
    if not _IPV6.match(text):
        name, colon, port = text.rpartition(":")
        if not colon:
            name = port
    if colon and not _is_port(port):
        return False
    return bool(_HOST.match(name) or _IPV6.match(name))


def _is_port(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,5}", text)) and 1 <= int(text) <= _MAX_PORT


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
