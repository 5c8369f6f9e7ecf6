"""What may happen to a Redis, from a crash to a forgotten right."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

from redis import Redis
from redis.exceptions import RedisError

from stack.install import redis_server
from stack.process import Server, free_port
from stack.redis import RedisServer
from tests.torture.faults.fault import Deed, Healing, Repeated
from tests.torture.faults.proxy import Proxy, Refuse

_ANSWER_S: Final = 30.0


class RedisKilled(Healing):
    """kill -9; healed, it is back on its port, and empty unless it is durable."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__("redis killed")
        self._server = server

    def _begin(self) -> None:
        self._server.kill()

    def _end(self) -> None:
        self._server.start()


class RedisPaused(Healing):
    """SIGSTOP: it takes connections and never answers; healed, it answers them all."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__("redis paused")
        self._server = server

    def _begin(self) -> None:
        self._server.pause()

    def _end(self) -> None:
        self._server.resume()


class RedisFull(Healing):
    """Its memory limit is below what it holds, and it evicts nothing."""

    def __init__(self, url: str) -> None:
        super().__init__("redis full")
        self._url = url

    def _begin(self) -> None:
        ask(self._url, lambda client: client.config_set("maxmemory", "1"))

    def _end(self) -> None:
        ask(self._url, lambda client: client.config_set("maxmemory", "0"))


class RedisAsleep(Healing):
    """``DEBUG SLEEP``: it does nothing at all; over by itself.

    Args:
        url: Of a server with ``enable-debug-command``.
        seconds: > 0.
    """

    def __init__(self, url: str, seconds: float) -> None:
        super().__init__(f"redis asleep {seconds:g} s")
        self._url, self._seconds = url, seconds
        self._thread = threading.Thread()

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._sleep, daemon=True)
        self._thread.start()

    def _sleep(self) -> None:
        with _client(self._url) as client, contextlib.suppress(RedisError):
            client.execute_command("DEBUG", "SLEEP", str(self._seconds))

    def _end(self) -> None:
        self._thread.join(_ANSWER_S)


class RedisBusy(Healing):
    """A script that does not end: every other call is answered BUSY."""

    def __init__(self, url: str) -> None:
        super().__init__("redis busy")
        self._url, self._thread = url, threading.Thread()

    def _begin(self) -> None:
        ask(self._url, lambda client: client.config_set("busy-reply-threshold", "20"))
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()
        until = time.monotonic() + _ANSWER_S
        with _client(self._url) as client:
            while time.monotonic() < until:
                try:
                    client.ping()
                except RedisError as error:
                    if "BUSY" in str(error):
                        return
                    raise
        raise AssertionError("the script did not make it busy")

    def _loop(self) -> None:
        with _client(self._url) as client, contextlib.suppress(RedisError):
            client.eval("while true do end", 0)

    def _end(self) -> None:
        with contextlib.suppress(RedisError):
            ask(self._url, lambda client: client.script_kill())
        self._thread.join(_ANSWER_S)


class RedisHolding(Healing):
    """``CLIENT PAUSE ALL``: calls wait, at most so long."""

    def __init__(self, url: str, seconds: float) -> None:
        super().__init__(f"redis holds clients {seconds:g} s")
        self._url, self._ms = url, int(seconds * 1_000)

    def _begin(self) -> None:
        ask(self._url, lambda client: client.client_pause(self._ms))

    def _end(self) -> None:
        ask(self._url, lambda client: client.client_unpause())


class RedisReadOnly(Healing):
    """It is made a replica of a server that is not there: it refuses every write."""

    def __init__(self, url: str) -> None:
        super().__init__("redis read-only")
        self._url = url

    def _begin(self) -> None:
        ask(self._url, lambda client: client.replicaof("127.0.0.1", free_port()))

    def _end(self) -> None:
        ask(self._url, lambda client: client.replicaof("NO", "ONE"))


class ScriptsFlushed(Repeated):
    """Its scripts are forgotten again and again."""

    def __init__(self, url: str, *, every_s: float = 0.02) -> None:
        super().__init__(
            "scripts flushed",
            lambda _: ask(url, lambda client: client.script_flush()),
            every_s=every_s,
        )


class RightsRevoked(Healing):
    """A user loses rights by these rules, and gets them back by others.

    Args:
        admin_url: Of a user that may change users.
        user: Whose rights.
        revoke: Such as ``-@all``.
        restore: Such as ``+@all``.
    """

    def __init__(
        self, admin_url: str, user: str, *, revoke: str = "-@all", restore: str
    ) -> None:
        super().__init__(f"redis rights {revoke}")
        self._url, self._user = admin_url, user
        self._revoke, self._restore = revoke, restore

    def _begin(self) -> None:
        self._set(self._revoke)

    def _end(self) -> None:
        self._set(self._restore)

    def _set(self, rule: str) -> None:
        ask(self._url, lambda c: c.execute_command("ACL", "SETUSER", self._user, rule))


class WrongTypes(Deed):
    """These keys hold a list, whatever they held; not undone."""

    def __init__(self, url: str, keys: Sequence[bytes | str]) -> None:
        def spoil(client: Redis) -> None:
            for key in keys:
                client.delete(key)
                client.rpush(key, "not what you expect")

        super().__init__("keys of a wrong type", lambda: ask(url, spoil))


class RedisPair:
    """A primary and its replica, with a sentinel that clients ask for the primary.

    The replica follows through a proxy, so that writes can be kept from it. Failing
    over is done by `FailedOver`, at an instant of the test's choice.
    """

    def __init__(self) -> None:
        self.primary, self.replica = RedisServer(), RedisServer()
        self.sentinel_port = free_port()
        self.link: Proxy | None = None
        self._sentinel: Server | None = None

    @property
    def url(self) -> str:
        """``SHIFTER_STATE``: by the sentinel."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel_port}/shop"

    def start(self) -> Self:
        """Start all three; returns when the replica has all that the primary has."""
        try:
            self.primary.start()
            self.replica.start()
            self.link = Proxy(self.primary.port)
            port = self.link.port
            ask(self.replica.url, lambda client: client.replicaof("127.0.0.1", port))
            self._start_sentinel()
            self.wait_in_sync()
        except BaseException:
            self.stop()
            raise
        return self

    def wait_in_sync(self) -> None:
        """Return when the replica follows."""

        def follows(client: Redis) -> bool:
            return client.info("replication").get("master_link_status") == "up"

        until(lambda: ask(self.replica.url, follows))

    def point_to(self, port: int) -> None:
        """Tell clients that this is the primary now."""

        def tell(client: Redis) -> None:
            client.execute_command("SENTINEL", "REMOVE", "shop")
            client.execute_command(
                "SENTINEL", "MONITOR", "shop", "127.0.0.1", str(port), "1"
            )

        ask(f"redis://127.0.0.1:{self.sentinel_port}", tell)

    def stop(self) -> None:
        """End all three."""
        if self._sentinel is not None:
            self._sentinel.stop()
        if self.link is not None:
            self.link.close()
        self.replica.stop()
        self.primary.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_sentinel(self) -> None:
        folder: Path = self.primary.folder
        config = folder / "sentinel.conf"
        config.write_text(
            f'port {self.sentinel_port}\nbind 127.0.0.1\ndir "{folder}"\n'
            f"sentinel monitor shop 127.0.0.1 {self.primary.port} 1\n"
        )
        command = [redis_server(), str(config), "--sentinel"]
        self._sentinel = Server(command, folder / "sentinel.log", attached=True)
        self._sentinel.wait_for_port(self.sentinel_port, timeout_s=_ANSWER_S)


class FailedOver(Healing):
    """The replica takes over without the last writes; the old primary is killed.

    Begins by cutting the replica off; `promote` is the failover itself. Not undone.
    """

    def __init__(self, pair: RedisPair) -> None:
        assert pair.link is not None
        super().__init__("redis failed over")
        self._pair, self._cut = pair, Refuse(pair.link)

    def _begin(self) -> None:
        self._cut.start()

    def promote(self) -> None:
        """Kill the primary and make the replica one."""
        self._pair.primary.kill()
        replica = self._pair.replica
        ask(replica.url, lambda client: client.replicaof("NO", "ONE"))
        self._pair.point_to(replica.port)


def ask(url: str, question: Callable[[Redis], Any]) -> Any:
    """One question over a connection of its own."""
    with _client(url) as client:
        return question(client)


def until(holds: Callable[[], bool], *, timeout_s: float = _ANSWER_S) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: It did not within the timeout.
    """
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s:g} s")
        time.sleep(0.02)


def _client(url: str) -> Redis:
    return Redis.from_url(url, socket_timeout=_ANSWER_S)
