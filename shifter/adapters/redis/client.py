"""Opens Redis clients that answer soon or fail soon, and translates their errors.

The client's own defaults (10 retries with backoff, 5 s a try) make a call to a stopped
server last a minute, and its retry sends a command again whose answer was only late:
one INCR counted twice. Here each call has one try, and the caller may ask again.

An error becomes one of the two store errors of the ports. *Refused* is what an operator
must mend (a credential, a right, a full or read-only server) and every unknown answer;
what passes by itself is *unavailable*. The text is the beginning of the server's
message. Server and client put neither passwords nor values in it. What a pipeline adds
(the command with its keys) and what Sentinel's client adds (itself) is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Generator
from typing import Any, Final, TypeAlias

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    ConnectionPool,
    Redis,
    RedisCluster,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    ClusterError,
    ConnectionError as RedisConnectionError,
    DataError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError as RedisTimeoutError,
)
from redis.maint_notifications import MaintNotificationsConfig

from shifter.adapters.redis.url import RedisUrl, parse_redis_url
from shifter.errors import StoreError, StoreRefusedError, StoreUnavailableError

RedisClient: TypeAlias = Redis | RedisCluster

# Calls are batches, so few are on their way at once; while the server is away this
# also bounds how many connections are tried at the same time.
_CONNECTIONS: Final = 16
# A connection that was idle for longer is tested first: a firewall may have dropped it.
_HEALTH_CHECK_S: Final = 15

_MAX_DETAIL: Final = 200
_REFUSING: Final = (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)
_PASSING: Final = (
    RedisConnectionError,
    RedisTimeoutError,
    ClusterError,
    RedisClusterException,
    NoScriptError,
    OSError,
    TimeoutError,
)
# Inside a script an old server buries the code in the text of a plain error, and the
# client hides the error of each sentinel in "no master found".
_REFUSED_CODE: Final = re.compile(
    r"\b(NOAUTH|WRONGPASS|NOPERM|OOM|READONLY|MISCONF|DENIED|WRONGTYPE)\b"
    r"|\b[Uu]nknown (Redis )?command\b"
    r"|AuthenticationError\(|\bThe user executing the script can't\b"
)
_PASSING_CODE: Final = re.compile(
    r"\b(LOADING|BUSY|UNKILLABLE|CLUSTERDOWN|MASTERDOWN|TRYAGAIN|NOREPLICAS)\b"
)
# Python raises a plain connection error with this text; a second try cannot help.
_UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"
_PIPELINE: Final = re.compile(
    r"Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL
)
_CLIENT: Final = re.compile(r"<redis\..*?> - ", re.DOTALL)

CAUGHT: Final = (RedisError, RedisClusterException, OSError, TimeoutError)
"""What a call may raise that `store_error` can judge."""


def open_redis(
    url: str, *, timeout_s: float = 0.5, is_anonymous: bool = False
) -> RedisClient:
    """A client for a URL (`shifter.adapters.redis.url`); connects at the first call.

    Args:
        url: Credentials and TLS options included; never logged.
        timeout_s: Longest wait for an answer, > 0; connecting may take as long again.
        is_anonymous: Whether to leave the URL's credentials out.

    Raises:
        ConfigError: The URL is wrong.
    """
    parsed = parse_redis_url(url)
    if is_anonymous:
        parsed.options.pop("username", None)
        parsed.options.pop("password", None)
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "health_check_interval": _HEALTH_CHECK_S,
        "legacy_responses": False,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "retry": Retry(NoBackoff(), 0),
        # Two round trips less to connect, and a right less to be granted.
        "driver_info": None,
        **parsed.options,
    }
    if parsed.kind == "unix":
        return _pooled(UnixDomainSocketConnection, {**options, "path": parsed.path})
    options["socket_connect_timeout"] = timeout_s
    options["socket_keepalive"] = True
    if parsed.kind == "sentinel":
        return _by_sentinel(parsed, options)
    if parsed.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in parsed.servers]
        return RedisCluster(startup_nodes=nodes, ssl=parsed.is_tls, **options)
    host, port = parsed.servers[0]
    kind = SSLConnection if parsed.is_tls else Connection
    return _pooled(kind, {**options, "host": host, "port": port})


async def close_redis(client: RedisClient) -> None:
    """Close a client and what it asks for addresses; closing twice is harmless."""
    await client.aclose()
    if isinstance(client, Redis):
        pool = client.connection_pool
        if isinstance(pool, SentinelConnectionPool):
            await pool.sentinel_manager.aclose()


def address(client: RedisClient) -> str:
    """Where a client goes, for people; without credentials.

    >>> address(open_redis("redis://user:secret@db1:7000/2"))
    'redis db1:7000/2'
    """
    if isinstance(client, RedisCluster):
        nodes = (f"{node.host}:{node.port}" for node in client.startup_nodes)
        return f"redis cluster {','.join(nodes)}"
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        return f"redis by sentinel {pool.service_name!r}"
    options = pool.connection_kwargs
    if "path" in options:
        return f"redis {options['path']}"
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    return f"redis {host}:{port}/{options.get('db', 0)}"


async def one_server(client: RedisClient) -> dict[str, Any]:
    """Arguments that send a command without a key to one server, also in a cluster."""
    if isinstance(client, RedisCluster):
        return {"target_nodes": (await client.initialize()).get_default_node()}
    return {}


def call_limit_s(client: RedisClient) -> float | None:
    """Longest a call may take in all: connecting, then one answer."""
    if isinstance(client, RedisCluster):
        options = client.connection_kwargs
    else:
        options = client.connection_pool.connection_kwargs
    timeout_s = options.get("socket_timeout")
    if timeout_s is None:
        return None
    connect_s = options.get("socket_connect_timeout")
    return float(timeout_s) + float(timeout_s if connect_s is None else connect_s)


@contextlib.contextmanager
def translated(store: str, op: str) -> Generator[None]:
    """Turn the client's errors into the product's; unknown ones pass untouched.

    The client sends within ``asyncio.wait_for``, which before Python 3.12 forgets a
    cancellation that meets it just when it is done. Here it is raised again; otherwise
    the cancelled task would go on for ever.

    Raises:
        StoreUnavailableError: The outcome is unknown.
        StoreRefusedError: A person must mend something.
    """
    task = asyncio.current_task()
    asked = 0 if task is None else task.cancelling()
    try:
        yield
    except CAUGHT as error:
        if task is not None and task.cancelling() > asked:
            raise asyncio.CancelledError from error
        known = store_error(error, store=store, op=op)
        if known is None:
            raise
        raise known from error
    if task is not None and task.cancelling() > asked:
        raise asyncio.CancelledError


def _pooled(connection: type[Any], options: dict[str, Any]) -> Redis:
    pool: ConnectionPool = BlockingConnectionPool(
        connection_class=connection,
        max_connections=options.pop("max_connections", _CONNECTIONS),
        timeout=options["socket_timeout"],
        **options,
    )
    return Redis.from_pool(pool)


def _by_sentinel(parsed: RedisUrl, options: dict[str, Any]) -> Redis:
    shared = ("ssl_", "socket_", "retry", "maint", "legacy", "driver")
    own = {name: v for name, v in options.items() if name.startswith(shared)}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # the client's own
        list(parsed.servers),
        sentinel_kwargs={**own, "ssl": parsed.is_tls, **parsed.sentinel},
        **{**options, "ssl": parsed.is_tls},
    )
    client: Redis = sentinel.master_for(parsed.path)
    return client


def store_error(error: BaseException, *, store: str, op: str) -> StoreError | None:
    """The store error for this one; ``None`` if this one should pass unchanged.

    Args:
        error: One of `CAUGHT`.
        store: The store with its address, without credentials.
        op: What was asked of it.
    """
    detail = _detail(error)
    speaks = isinstance(error, ResponseError | MasterNotFoundError)
    if isinstance(error, _REFUSING) or _UNTRUSTED in detail:
        return StoreRefusedError(store, op, detail)
    if speaks and _REFUSED_CODE.search(detail):
        return StoreRefusedError(store, op, detail)
    if isinstance(error, _PASSING) or (speaks and _PASSING_CODE.search(detail)):
        return StoreUnavailableError(store, op, detail)
    # A script that fails met values of other programs under our keys. Of all other
    # answers, only an argument that the client cannot send is a fault of this package.
    return (
        None if isinstance(error, DataError) else StoreRefusedError(store, op, detail)
    )


def _detail(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    words = _CLIENT.sub("", _PIPELINE.sub("", str(error))) or type(error).__name__
    code = getattr(error, "status_code", None)
    if isinstance(code, str) and code.isupper() and not words.startswith(code):
        words = f"{code} {words}"
    words = " ".join(words.split())
    return words[:_MAX_DETAIL]
