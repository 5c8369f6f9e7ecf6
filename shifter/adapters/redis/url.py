"""The state store's URL, taken apart and checked before any connection.

``redis://[user:password@]host[:port][/db]``, ``rediss://`` for TLS,
``redis+sentinel://h1,h2/name``, ``redis+cluster://h1,h2`` (both also as ``rediss+…``),
``unix:///path/to/socket?db=0``. No error shows what may be a secret.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from shifter.errors import ConfigError

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_MAX_PORT: Final = 65_535
_SCHEMES: Final = (
    "redis",
    "rediss",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
    "unix",
)

_NOT_IN_CLUSTER: Final = ("db", "ssl_ca_path", "ssl_password")


class RedisUrl(NamedTuple):
    """A checked URL; ``options`` may hold secrets, so do not log it.

    Attributes:
        kind: ``server``, ``sentinel``, ``cluster`` or ``unix``.
        is_tls: Whether connections are encrypted.
        servers: Host and port, in order; empty for ``unix``.
        path: The socket (``unix``) or the name of the service (``sentinel``).
        options: Settings of the client's connections, by the client's names.
        sentinel: Settings of the connections to the sentinels.
    """

    kind: str
    is_tls: bool
    servers: tuple[tuple[str, int], ...]
    path: str
    options: dict[str, Any]
    sentinel: dict[str, Any]


def parse_redis_url(url: str) -> RedisUrl:
    """Take a URL apart.

    Raises:
        ConfigError: A scheme, host, port, database or option is wrong.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        shown = scheme if separator and scheme.isascii() else "…"
        want = f"allowed schemes: {', '.join(_SCHEMES)}"
        raise ConfigError("state", f"{shown}://…", want)
    rest, _, query = rest.partition("?")
    if "#" in url or "@" in query:
        want = "percent-encode '@', ':', '/', '?' and '#' in passwords"
        raise ConfigError("state", f"{scheme}://…", want)
    login, _, address = rest.rpartition("@")
    options, sentinel = _options(query)
    options |= _login(login)
    kind = scheme.partition("+")[2] or ("unix" if scheme == "unix" else "server")
    is_tls = scheme.startswith("rediss")
    _check_fit(scheme, kind, options, sentinel)
    if kind == "unix":
        return RedisUrl(kind, False, (), _socket(address), options, {})
    servers, path = _servers(scheme, kind, address)
    options |= _database(kind, path)
    path = path.partition("/")[0] if kind == "sentinel" else ""
    return RedisUrl(kind, is_tls, servers, path, options, sentinel)


def _check_fit(
    scheme: str, kind: str, options: dict[str, Any], sentinel: dict[str, Any]
) -> None:
    for name in options:
        if name.startswith("ssl_") and not scheme.startswith("rediss"):
            raise ConfigError("state", name, "TLS options need rediss://")
        if kind == "cluster" and name in _NOT_IN_CLUSTER:
            raise ConfigError("state", name, "not available with redis+cluster")
    if sentinel and kind != "sentinel":
        name = f"sentinel_{next(iter(sentinel))}"
        raise ConfigError("state", name, "only with redis+sentinel")


def _servers(
    scheme: str, kind: str, address: str
) -> tuple[tuple[tuple[str, int], ...], str]:
    hosts, _, path = address.partition("/")
    default = _SENTINEL_PORT if kind == "sentinel" else _PORT
    servers = tuple(_server(text, default) for text in hosts.split(","))
    if kind == "server" and len(servers) > 1:
        want = "one server only; several need redis+sentinel or redis+cluster"
        raise ConfigError("state", f"{scheme}://…", want)
    return servers, unquote(path)


def _server(text: str, default_port: int) -> tuple[str, int]:
    host, colon, port = text, "", ""
    if not text.endswith("]"):
        host, colon, port = text.rpartition(":")
        host = host if colon else port
    is_port = port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= _MAX_PORT
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or (":" in bare) != (bare != host) or (colon and not is_port):
        # With a forgotten '@' this text is a password.
        want = "each server is host, host:port or [ipv6]:port, separated by commas"
        raise ConfigError("state", "…", want)
    return bare, int(port) if colon else default_port


def _database(kind: str, path: str) -> dict[str, Any]:
    text = path
    if kind == "sentinel":
        name, _, text = path.partition("/")
        if not name:
            want = "name the service: redis+sentinel://h1,h2/name"
            raise ConfigError("state", "redis+sentinel://…", want)
    if not text:
        return {}
    if kind == "cluster":
        raise ConfigError("state", "/…", "a cluster has no databases")
    if not text.isdigit():
        raise ConfigError("state", "/…", "the path is the number of a database")
    return {"db": _whole("state", text)}


def _socket(address: str) -> str:
    if not address.startswith("/"):
        raise ConfigError("state", "unix://…", "use unix:///path/to/socket")
    return unquote(address)


def _login(text: str) -> dict[str, Any]:
    user, colon, password = text.partition(":")
    found = {"username": unquote(user)} if user else {}
    return found | ({"password": unquote(password)} if colon else {})


def _options(query: str) -> tuple[dict[str, Any], dict[str, Any]]:
    options: dict[str, Any] = {}
    sentinel: dict[str, Any] = {}
    for pair in filter(None, query.split("&")):
        name, equals, text = pair.partition("=")
        read = _OPTION.get(name)
        if read is None:
            want = f"allowed options: {', '.join(sorted(_OPTION))}"
            raise ConfigError("state", name, want)
        if not equals or name in options:
            raise ConfigError("state", name, "write name=value, each name once")
        if name.startswith("sentinel_"):
            sentinel[name.removeprefix("sentinel_")] = read(name, unquote(text))
        else:
            options[name] = read(name, unquote(text))
    return options, sentinel


def _text(name: str, text: str) -> str:
    if not text or not text.isprintable():
        raise ConfigError(name, "…", "use printable characters, at least one")
    return text


def _file(name: str, text: str) -> str:
    if not Path(text).is_file():
        raise ConfigError(name, text, "no such file")
    return text


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise ConfigError(name, text, "use a whole number")
    return int(text)


def _yes_no(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise ConfigError(name, text, "use true or false")
    return text.lower() in ("true", "yes", "1")


def _check_mode(name: str, text: str) -> str:
    if text not in ("none", "optional", "required"):
        raise ConfigError(name, text, "use none, optional or required")
    return text


def _tls_version(name: str, text: str) -> ssl.TLSVersion:
    known = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
    if text not in known:
        raise ConfigError(name, text, "use 1.2 or 1.3")
    return known[text]


_OPTION: Final[dict[str, Callable[[str, str], Any]]] = {
    "client_name": _text,
    "db": _whole,
    "health_check_interval": _whole,
    "max_connections": _whole,
    "password": _text,
    "protocol": _whole,
    "sentinel_password": _text,
    "sentinel_username": _text,
    "ssl_ca_certs": _file,
    "ssl_ca_path": _text,
    "ssl_cert_reqs": _check_mode,
    "ssl_certfile": _file,
    "ssl_check_hostname": _yes_no,
    "ssl_ciphers": _text,
    "ssl_keyfile": _file,
    "ssl_min_version": _tls_version,
    "ssl_password": _text,
    "username": _text,
}
