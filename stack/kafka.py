"""Apache Kafka (KRaft) from its published jars: one broker, or three.

Each cluster has an id of its own, checked after the start, so that an orphan of an
earlier run is never taken for it.
"""

from __future__ import annotations

import base64
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from stack.errors import StackError
from stack.home import make_run_dir
from stack.jvm import broker_options, copy_data, format_data, jvm_env, template
from stack.process import Server, free_port
from stack.properties import Detour, Node, Security, node_properties

__all__ = ["KafkaCluster", "Security"]

_START_S: Final = 60.0


class KafkaCluster:
    """A cluster on free ports of 127.0.0.1. Start it, or use it in ``with``.

    Args:
        brokers: 1 or 3.
        folder: Where data and logs go, kept after `stop`; a temporary one by default.
        attached: Whether the brokers die with this process.
        fast: Full compilation and 512 MiB of heap, for benchmarks.
        security: Require SASL_SSL; ``None`` for plaintext.
        behind: From a broker's port to the one that clients are told instead, such as
            a proxy's; brokers speak with each other past it. Plaintext only.

    Attributes:
        folder: Where data and logs are.
        cluster_id: Its own, new for each cluster.
        jvm_options: How each broker's JVM is started from now on.
    """

    def __init__(
        self,
        brokers: int = 1,
        folder: Path | None = None,
        *,
        attached: bool = True,
        fast: bool = False,
        security: Security | None = None,
        behind: Callable[[int], int] | None = None,
    ) -> None:
        self._temporary = folder is None
        self.jvm_options = broker_options(fast=fast)
        self.folder = make_run_dir("kafka") if folder is None else folder
        self.cluster_id = _new_id()
        self._attached, self._security = attached, security
        self._nodes = [self._node(n, behind) for n in range(1, brokers + 1)]
        self._servers: dict[int, Server] = {}

    @property
    def bootstrap(self) -> str:
        """Addresses of all brokers, ``host:port`` separated by commas."""
        return _addresses(
            node.port if node.detour is None else node.detour.port
            for node in self._nodes
        )

    @property
    def direct(self) -> str:
        """The same past whatever stands before the brokers."""
        return _addresses(
            node.port if node.detour is None else node.detour.inner_port
            for node in self._nodes
        )

    @property
    def url(self) -> str:
        """``SHIFTER_LOG``; of a secure cluster with the rights of ``admin``."""
        return self.url_for("admin")

    def url_for(self, user: str) -> str:
        """``SHIFTER_LOG`` for one user of a secure cluster."""
        address = f"kafka://{self.bootstrap}"
        if self._security is None:
            return address
        pairs = self._security.client(user).items()
        query = "&".join(f"{k.replace('.', '_')}={quote(v)}" for k, v in pairs)
        return f"{address}/?{query}"

    def client(self, user: str = "admin") -> dict[str, str]:
        """Properties of a librdkafka client: where, and who where that is asked."""
        address = {"bootstrap.servers": self.bootstrap}
        if self._security is None:
            return address
        return address | self._security.client(user)

    @property
    def pids(self) -> dict[int, int]:
        """Process ids by node number."""
        return {number: server.pid for number, server in self._servers.items()}

    @property
    def processes(self) -> list[tuple[int, int]]:
        """Process id and client port of each started broker."""
        return [
            (self._servers[node.number].pid, node.port)
            for node in self._nodes
            if node.number in self._servers
        ]

    def start(self) -> Self:
        """Start all brokers and wait until the cluster answers.

        Raises:
            Missing: Kafka cannot be had here.
            StackError: A broker ended, or the cluster did not come up, or is another.
        """
        for node in self._nodes:
            node.folder.mkdir(parents=True, exist_ok=True)
            text = node_properties(node, self._nodes, self._security)
            node.properties.write_text(text)
            node.properties.chmod(0o600)  # may hold a password
            self._make_data(node)
        try:
            for node in self._nodes:
                self.start_node(node.number)
            for node in self._nodes:
                self.wait_for(node.number)
        except BaseException:
            self.stop()
            raise
        return self

    def start_node(self, number: int) -> None:
        """Start one broker, e.g. again after a `kill`; does not wait."""
        node = self._nodes[number - 1]
        self._servers[number] = Server(
            ["java", *self.jvm_options, "kafka.Kafka", str(node.properties)],
            node.folder / "broker.log",
            attached=self._attached,
            env=jvm_env(),
        )

    def wait_for(self, number: int, *, timeout_s: float = _START_S) -> None:
        """Return once one broker accepts connections and the cluster counts it in."""
        until = time.monotonic() + timeout_s
        port = self._nodes[number - 1].port
        self._servers[number].wait_for_port(port, timeout_s=timeout_s)
        # a quick reconnect: the other brokers may still be starting
        quick = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 50}
        config = {**self.client(), "bootstrap.servers": self.direct}
        admin = AdminClient({**config, **quick, "log_level": 0})
        while not self._counts_in(admin, number):
            if time.monotonic() > until:
                raise StackError(
                    f"broker {number} of {self.cluster_id} did not come up"
                )
            time.sleep(0.02)

    def restart(self, number: int = 1) -> None:
        """Start one broker on its old data and port, ended first if it runs; waits."""
        self._servers[number].stop()
        self.start_node(number)
        self.wait_for(number)

    def warm(self, *, timeout_s: float = _START_S) -> None:
        """Make the group coordinator; else the first group of a broker waits 3 s."""
        until = time.monotonic() + timeout_s
        config = {**self.client(), "bootstrap.servers": self.direct}
        consumer = Consumer({**config, "group.id": "warm-up", "log_level": 0})
        try:
            while not _has_coordinator(consumer):
                if time.monotonic() > until:
                    raise StackError(f"no group coordinator at {self.bootstrap}")
                time.sleep(0.05)
        finally:
            consumer.close()

    def stop(self, *, timeout_s: float = 15.0) -> None:
        """End all brokers in order and remove a temporary folder."""
        for server in self._servers.values():
            server.signal(signal.SIGCONT)
            server.signal(signal.SIGTERM)
        for server in self._servers.values():
            server.stop(timeout_s=timeout_s)
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self, number: int = 1) -> None:
        """Crash one broker."""
        self._servers[number].kill()

    def pause(self, number: int = 1) -> None:
        """Freeze one broker: it accepts connections and never answers."""
        self._servers[number].signal(signal.SIGSTOP)

    def resume(self, number: int = 1) -> None:
        """Let a frozen broker go on."""
        self._servers[number].signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _node(self, number: int, behind: Callable[[int], int] | None) -> Node:
        folder, port = self.folder / f"node-{number}", free_port()
        detour = None if behind is None else Detour(behind(port), free_port())
        return Node(number, folder, port, free_port(), detour)

    def _make_data(self, node: Node) -> None:
        if node.data.exists():
            return
        first = self._nodes[0]
        if self._security is not None and node is first:
            # the users are among the records that a format writes
            format_data(node.properties, self.cluster_id, self._security.users)
            return
        formatted = template() if self._security is None else first.data
        ids = {"cluster.id": self.cluster_id, "node.id": str(node.number)}
        copy_data(formatted, node.data, ids | {"directory.id": _new_id()})

    def _counts_in(self, admin: AdminClient, number: int) -> bool:
        """Whether the cluster that answers is ours and has this broker."""
        try:
            metadata = admin.list_topics(timeout=0.5)
        except KafkaException:
            return False
        if metadata.cluster_id not in (None, self.cluster_id):
            raise StackError(
                f"cluster {metadata.cluster_id} answers at {self.bootstrap}, "
                f"not {self.cluster_id}: another broker has the port"
            )
        return number in metadata.brokers


def _addresses(ports: Iterable[int]) -> str:
    return ",".join(f"127.0.0.1:{port}" for port in ports)


def _has_coordinator(consumer: Consumer) -> bool:
    try:
        consumer.committed([TopicPartition("none", 0)], timeout=5)
    except KafkaException:
        return False  # still being elected, or loading
    return True


def _new_id() -> str:
    text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # Kafka's tools take a first "-" for an option.
    return f"k{text[1:]}"
