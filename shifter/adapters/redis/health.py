"""The properties of a server that decide whether claims are safe on it."""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.asyncio import RedisCluster

from shifter.adapters.redis.client import (
    RedisClient,
    address,
    close_redis,
    open_redis,
    translated,
)
from shifter.errors import StoreError


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
    where: dict[str, Any] = {}
    if isinstance(client, RedisCluster):
        where["target_nodes"] = (await client.initialize()).get_default_node()
    info = await client.info(**where)
    seconds, microseconds = await client.time(**where)
    return RedisHealth(
        address=address(client),
        version=str(info.get("redis_version", "?")),
        role=str(info.get("role", "?")),
        eviction=str(info.get("maxmemory_policy", "?")),
        max_memory_bytes=int(info.get("maxmemory", 0)),
        persistence=_persistence(info),
        epoch_ms=int(seconds) * 1_000 + int(microseconds) // 1_000,
    )


def _persistence(info: dict[str, Any]) -> str:
    if "aof_enabled" not in info:
        return "?"
    if int(info["aof_enabled"]):
        return "aof"
    # Without CONFIG, which a worker has no right to, a server that saves is known by
    # having saved, or by counting what it has not saved yet.
    return "rdb" if int(info.get("rdb_saves", 0)) else "none"
