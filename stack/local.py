"""The pair that stays: Kafka and Redis of ``make stack``, and how it is found again.

A file holds the two URLs and each process by pid and mark. A stack of which a part is
gone, or that is of another kind than asked, is taken down and made anew: its data are
for trying things out.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from typing import Any

from stack.archive import make_archive
from stack.errors import StackError
from stack.home import HOME, locked
from stack.install import redis_server, say
from stack.kafka import KafkaCluster
from stack.process import end_detached, is_listening, mark_of
from stack.properties import Security
from stack.redis import RedisServer


def install() -> None:
    """Get both servers, and what makes Kafka start quickly."""
    redis_server()
    make_archive()


class LocalStack:
    """Kafka and Redis that outlive the process that started them.

    Args:
        name: Tells apart stacks that run side by side: letters, digits, ``-``.
    """

    def __init__(self, name: str = "default") -> None:
        if not name.replace("-", "").isalnum():
            raise StackError(f"{name!r} is no name of a stack: letters, digits, '-'")
        self._file = HOME / f"stack-{name}.json"
        self._data = HOME / f"stack-{name}"

    def up(self, *, brokers: int = 1, secure: bool = False) -> dict[str, Any]:
        """Start the pair unless it runs.

        Returns:
            What is noted of it: the URLs ``log`` and ``state``, ``processes``,
            ``kind``.
        """
        install()
        kind = [brokers, secure]
        with locked("stack"):
            state = self.running()
            if state is None or state["kind"] != kind:
                self._end()
                state = self._start(brokers, secure=secure) | {"kind": kind}
                self._file.touch(mode=0o600)  # the URLs may hold passwords
                self._file.write_text(json.dumps(state))
            return state

    def down(self) -> bool:
        """End the pair; whether there was one."""
        with locked("stack"):
            return self._end()

    def running(self) -> dict[str, Any] | None:
        """What is noted of the pair, if every process of it runs and listens."""
        if not self._file.exists():
            return None
        state: dict[str, Any] = json.loads(self._file.read_text())
        for one in state["processes"]:
            if mark_of(one["pid"]) != one["mark"] or not is_listening(one["port"]):
                return None
        return state

    def _end(self) -> bool:
        if not self._file.exists():
            return False
        for one in reversed(json.loads(self._file.read_text())["processes"]):
            end_detached(one["pid"], one["mark"])
        self._file.unlink()
        shutil.rmtree(self._data, ignore_errors=True)
        return True

    def _start(self, brokers: int, *, secure: bool) -> dict[str, Any]:
        begun = time.monotonic()
        redis, kafka = self._servers(brokers, secure=secure)
        redis.start()
        try:
            kafka.start()
        except BaseException:
            redis.stop()
            raise
        processes = [
            {"pid": pid, "mark": mark_of(pid), "port": port}
            for pid, port in ((redis.pid, redis.port), *kafka.processes)
        ]
        passed_s = time.monotonic() - begun
        say(f"{brokers} broker(s) and Redis up in {passed_s:.1f} s")
        return {"log": kafka.url, "state": redis.url, "processes": processes}

    def _servers(
        self, brokers: int, *, secure: bool
    ) -> tuple[RedisServer, KafkaCluster]:
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(mode=0o700)
        security = None
        if secure:
            users = {name: secrets.token_urlsafe(18) for name in ("admin", "alice")}
            security = Security.make(self._data / "tls", users)
        redis = RedisServer(
            self._data / "redis",
            attached=False,
            certificates=None if security is None else security.certificates,
            user=None if security is None else ("alice", security.users["alice"]),
        )
        kafka = KafkaCluster(
            brokers, self._data / "kafka", attached=False, security=security
        )
        return redis, kafka
