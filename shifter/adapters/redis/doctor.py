"""Checks a Redis server for `shifter doctor`: version, access, durability, clock.

These are the properties that decide whether claims are safe on the server.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from shifter.adapters.redis.client import (
    RedisClient,
    address,
    close_redis,
    one_server,
    open_redis,
    translated,
)
from shifter.adapters.redis.url import parse_redis_url
from shifter.errors import StoreError
from shifter.model.advice import (
    FAIL,
    OK,
    WARN,
    Finding,
    is_loopback,
    unverified,
    version_numbers,
)
from shifter.ports import Clock

_MAX_SKEW_MS: Final = 1_000
_TIMEOUT_S: Final = 2.0
# First releases of each line without the Lua and use-after-free holes of 2025 and 2026
# (CVE-2025-49844, CVE-2026-23479).
_REDIS_FLOORS: Final = {(7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2, (8, 6): 3}


async def check_server(url: str, clock: Clock) -> list[Finding]:
    """Check the server of a URL, except whether it accepts writes.

    Args:
        url: The state store's URL.
        clock: The wall clock that the server's clock is compared with.

    Raises:
        ConfigError: The URL is wrong.
        StoreUnavailableError, StoreRefusedError: The server does not answer, or refuses
            this client.
    """
    asked_ms = clock.epoch_ms()
    health = await read_health(url, timeout_s=_TIMEOUT_S)
    # The server's clock had that value some time between question and answer.
    now_ms = (asked_ms + clock.epoch_ms()) // 2
    is_open = await lets_anybody_in(url, timeout_s=_TIMEOUT_S)
    return [
        Finding("state", OK, f"{health.address}, version {health.version}"),
        _version(health.version),
        _access(url, is_open=is_open),
        *check_transport(url),
        _role(health.role),
        _eviction(health.eviction, health.max_memory_bytes),
        _persistence(health.persistence),
        _clock(health.epoch_ms - now_ms),
    ]


def _version(text: str) -> Finding:
    major, minor, patch = (*version_numbers(text), 0, 0, 0)[:3]
    line = (major, minor)
    floor = _REDIS_FLOORS.get(line)
    newest = max(_REDIS_FLOORS)
    if line > newest or (floor is not None and patch >= floor):
        return Finding("state.version", OK, text)
    least = ".".join(map(str, (*line, floor))) if floor is not None else "8.6.3"
    detail = f"{text} has known holes in scripting (CVE-2025-49844 and others)"
    return Finding("state.version", WARN, detail, f"use {least} or newer")


def _access(url: str, *, is_open: bool) -> Finding:
    if not is_open:
        return Finding("state.access", OK, "it asks for a password")
    detail = "it asks for no password: any client can open circuits and end claims"
    fix = "set requirepass, or a user, and put it into SHIFTER_STATE"
    if not _is_remote(url):
        detail += "; it is on this machine"
    return Finding("state.access", WARN, detail, fix)


def check_transport(url: str) -> list[Finding]:
    """Whether the connection is safe; a socket and this machine are.

    Raises:
        ConfigError: The URL is wrong.
    """
    parsed = parse_redis_url(url)
    if parsed.is_tls:
        weak = [
            f"{name}={parsed.options[name]}"
            for name, value in (
                ("ssl_cert_reqs", "none"),
                ("ssl_check_hostname", False),
            )
            if parsed.options.get(name) == value
        ]
        if not weak:
            return [Finding("state.transport", OK, "tls")]
        return [unverified("state.transport", ", ".join(weak))]
    if not _is_remote(url):
        return [Finding("state.transport", OK, "this machine")]
    detail = "plain: claims and the password cross the network in the clear"
    return [Finding("state.transport", WARN, detail, "use rediss://")]


def _is_remote(url: str) -> bool:
    parsed = parse_redis_url(url)
    return not all(is_loopback(host) for host, _ in parsed.servers)


def _role(role: str) -> Finding:
    if role == "master":
        return Finding("state.role", OK, role)
    return Finding("state.role", FAIL, role, "point SHIFTER_STATE at the primary")


def _eviction(policy: str, limit_bytes: int) -> Finding:
    if policy == "noeviction":
        return Finding("state.eviction", OK, policy)
    fix = "CONFIG SET maxmemory-policy noeviction"
    detail = f"{policy}: claims may vanish, and their jobs run twice"
    if limit_bytes == 0:
        return Finding("state.eviction", WARN, f"{detail}, once maxmemory is set", fix)
    return Finding("state.eviction", FAIL, detail, fix)


def _persistence(kind: str) -> Finding:
    if kind in ("aof", "rdb"):
        return Finding("state.persistence", OK, kind)
    detail = "not known" if kind == "?" else "none: a restart forgets every claim"
    return Finding("state.persistence", WARN, detail, "CONFIG SET appendonly yes")


def _clock(skew_ms: int) -> Finding:
    if abs(skew_ms) <= _MAX_SKEW_MS:
        return Finding("clock", OK, f"{skew_ms} ms from the state store's")
    detail = f"the state store's clock is {skew_ms} ms ahead of ours"
    fix = "synchronise both by NTP: due times and deadlines go by these clocks"
    return Finding("clock", WARN, detail, fix)


class RedisHealth(NamedTuple):
    """Facts of one server, or of one node of a cluster.

    Attributes:
        address: Where it is, without credentials.
        version: As the server reports it, or ``?``.
        role: ``master`` or ``slave``.
        eviction: Its ``maxmemory-policy``.
        max_memory_bytes: 0 without a limit.
        persistence: ``aof``, ``rdb``, ``none``, or ``?`` where it may not be read.
        epoch_ms: Its wall clock when it answered.
    """

    address: str
    version: str
    role: str
    eviction: str
    max_memory_bytes: int
    persistence: str
    epoch_ms: int


async def read_health(url: str, *, timeout_s: float) -> RedisHealth:
    """Ask a server once, over a connection of its own.

    Args:
        url: The state store's URL.
        timeout_s: Longest wait for each answer, > 0.

    Raises:
        ConfigError: The URL is wrong.
        StoreUnavailableError, StoreRefusedError: It does not answer, or not to us.
    """
    client = open_redis(url, timeout_s=timeout_s)
    try:
        with translated(address(client), "info"):
            return await _read(client)
    finally:
        await close_redis(client)


async def lets_anybody_in(url: str, *, timeout_s: float) -> bool:
    """Whether the server accepts a command from a client without credentials.

    Args:
        url: The state store's URL; its credentials are left out.
        timeout_s: Longest wait for an answer, > 0.

    Raises:
        ConfigError: The URL is wrong.
    """
    client = open_redis(url, timeout_s=timeout_s, is_anonymous=True)
    try:
        with translated(address(client), "ping"):
            await client.ping()
    except StoreError:
        return False
    finally:
        await close_redis(client)
    return True


async def _read(client: RedisClient) -> RedisHealth:
    where = await one_server(client)
    info = await client.info(**where)
    seconds, microseconds = await client.time(**where)
    return RedisHealth(
        address=address(client),
        version=str(info.get("redis_version", "?")),
        role=str(info.get("role", "?")),
        eviction=str(info.get("maxmemory_policy", "?")),
        max_memory_bytes=int(info.get("maxmemory", 0)),
        persistence=_persistence_kind(info),
        epoch_ms=int(seconds) * 1_000 + int(microseconds) // 1_000,
    )


def _persistence_kind(info: dict[str, Any]) -> str:
    if "aof_enabled" not in info:
        return "?"
    if int(info["aof_enabled"]):
        return "aof"
    # Without CONFIG, which a worker has no right to, a server that saves is known by
    # having saved, or by counting what it has not saved yet.
    return "rdb" if int(info.get("rdb_saves", 0)) else "none"
