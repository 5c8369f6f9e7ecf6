"""Where a run takes place: its own servers, proxies before them, and one namespace."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from typing import Final, Self

from shifter.config import Settings, load_settings
from stack.kafka import KafkaCluster
from stack.redis import RedisServer
from tests.torture.faults.power import Power
from tests.torture.faults.proxy import Proxy
from tests.torture.harness import jobs
from tests.torture.harness.crew import ROOT
from tests.torture.harness.witness import SOCKET

LOGS: Final = ("sqlite", "kafka", "kafka3")
PARTITIONS: Final = 6
SPOOL: Final = ".spool.db"
"""How the path of a spool ends."""
_FILE: Final = "log.db"
"""Log and state, embedded."""


class Place:
    """Servers and settings of one run.

    Args:
        folder: For everything.
        log: ``sqlite``, ``kafka`` (one broker) or ``kafka3``.
        settings: Further settings, by name without ``SHIFTER_``.
        is_behind: Whether clients reach the broker and Redis through proxies.
        has_power: Whether a machine may lose its power.

    Attributes:
        power: ``None`` where the machine does not lose it.
        cluster: ``None`` on SQLite.
        redis: ``None`` on SQLite.
        log_proxy: Before the broker, if any.
        redis_proxy: Before Redis, if any.
    """

    def __init__(
        self,
        folder: Path,
        log: str,
        settings: dict[str, str],
        *,
        is_behind: bool = False,
        has_power: bool = False,
    ) -> None:
        self.folder, self.log = folder, log
        self.namespace = f"t{uuid.uuid4().hex[:10]}"
        self.histories = folder / "history"
        self.histories.mkdir()
        self.cluster: KafkaCluster | None = None
        self.redis: RedisServer | None = None
        self.log_proxy: Proxy | None = None
        self.redis_proxy: Proxy | None = None
        watched = _FILE if log == "sqlite" else SPOOL
        self.power = Power(folder, watched) if has_power else None
        self._settings, self._is_behind = settings, is_behind
        self._held = contextlib.ExitStack()

    @property
    def socket(self) -> Path:
        """Of the witness."""
        return self.folder / SOCKET

    def start(self) -> Self:
        """Start the servers."""
        if self.log == "sqlite":
            return self
        behind = None
        if self._is_behind:
            proxy = self.log_proxy = self._held.enter_context(Proxy(0))

            def behind(port: int) -> int:
                proxy.target = port
                return proxy.port

        brokers = 3 if self.log == "kafka3" else 1
        self.cluster = KafkaCluster(brokers, behind=behind)
        self._held.enter_context(self.cluster)
        self.cluster.warm()
        self.redis = RedisServer().start()
        self._held.callback(self.redis.stop)
        if self._is_behind:
            self.redis_proxy = self._held.enter_context(Proxy(self.redis.port))
        return self

    @property
    def environment(self) -> dict[str, str]:
        """Of every process of the run."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
        chosen = {f"SHIFTER_{name}": value for name, value in self._settings.items()}
        if jobs.BUG in os.environ:
            chosen[jobs.BUG] = os.environ[jobs.BUG]
        return {
            **kept,
            "SHIFTER_LOG": self._log_url,
            "SHIFTER_STATE": self._state_url,
            "SHIFTER_NAMESPACE": self.namespace,
            "SHIFTER_PARTITIONS": str(PARTITIONS),
            "XDG_STATE_HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            jobs.NAMESPACE: self.namespace,
            jobs.FOLDER: str(self.histories),
            jobs.SOCKET: str(self.socket),
            **({} if self.power is None else self.power.environment),
            **chosen,
        }

    @property
    def settings(self) -> Settings:
        """What the run's own questions are asked with: past the proxies' faults."""
        return load_settings(self.namespace, environ=self.environment)

    @property
    def _log_url(self) -> str:
        if self.cluster is None:
            return f"sqlite://{self.folder}/{_FILE}"
        return self.cluster.url

    @property
    def _state_url(self) -> str:
        if self.redis is None:
            return self._log_url
        if self.redis_proxy is None:
            return self.redis.url
        return self.redis.url.replace(str(self.redis.port), str(self.redis_proxy.port))

    def stop(self) -> None:
        """Stop the servers."""
        self._held.close()
