"""Apache Kafka (KRaft) from its published jars: one broker, or three.

Settings are those of a small test broker: quick to start (class data sharing, no second
compiler), quick to come back after a kill (short broker sessions), little memory (small
log cleaner buffer). ``fast=True`` leaves the compiler alone, for benchmarks.

Each cluster has an id of its own, checked after the start, so that an orphan of an
earlier run is never taken for it.
"""

from __future__ import annotations

import base64
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import NamedTuple, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stack.install import HOME, kafka_libs
from stack.process import Server, free_port
from stack.tls import Certificates

_LOG4J = """status=error
rootLogger.level=warn
rootLogger.appenderRefs=c
rootLogger.appenderRef.c.ref=c
appender.c.type=Console
appender.c.name=c
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=%d{ISO8601} %p %c{1} %m%n
logger.r.name=kafka.server.KafkaRaftServer
logger.r.level=info
"""
_COMMON = """process.roles=broker,controller
controller.listener.names=CONTROLLER
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=2097152
num.network.threads=2
num.io.threads=2
background.threads=2
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
group.consumer.min.session.timeout.ms=3000
group.consumer.min.heartbeat.interval.ms=500
group.min.session.timeout.ms=1000
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=4
"""


class Security(NamedTuple):
    """SASL_SSL with SCRAM-SHA-512 and ACLs.

    Attributes:
        certificates: The broker's.
        users: Name to password; ``admin`` is a super user and must be there.
    """

    certificates: Certificates
    users: dict[str, str]


class _Node(NamedTuple):
    number: int
    folder: Path
    port: int
    controller_port: int


class KafkaCluster:
    """A cluster on free ports of 127.0.0.1.

    Args:
        brokers: 1 or 3.
        folder: Where data and logs go; a temporary one by default.
        attached: Whether the brokers die with this process.
        fast: Full compilation and 512 MiB of heap, for benchmarks.
        security: Require SASL_SSL; ``None`` for plaintext.
    """

    def __init__(
        self,
        brokers: int = 1,
        folder: Path | None = None,
        *,
        attached: bool = True,
        fast: bool = False,
        security: Security | None = None,
    ) -> None:
        self._temporary = folder is None
        self.folder = (
            Path(tempfile.mkdtemp(prefix="kafka-")) if folder is None else folder
        )
        self._attached, self._fast, self._security = attached, fast, security
        self.cluster_id = _new_cluster_id()
        self._nodes = [
            _Node(number, self.folder / f"node-{number}", free_port(), free_port())
            for number in range(1, brokers + 1)
        ]
        self._servers: dict[int, Server] = {}

    @property
    def bootstrap(self) -> str:
        """Addresses of all brokers, ``host:port`` separated by commas."""
        return ",".join(f"{self._host}:{node.port}" for node in self._nodes)

    @property
    def url(self) -> str:
        """``SHIFTER_LOG`` of a plaintext cluster."""
        return f"kafka://{self.bootstrap}"

    @property
    def pids(self) -> dict[int, int]:
        """Process ids by node number."""
        return {number: server.pid for number, server in self._servers.items()}

    def start(self) -> Self:
        """Start all brokers and wait until the cluster answers."""
        libs = kafka_libs()
        self._write_config()
        self._format(libs)
        for node in self._nodes:
            self.start_node(node.number)
        for node in self._nodes:
            self._servers[node.number].wait_for_port(node.port)
        self._check_own()
        return self

    def start_node(self, number: int) -> None:
        """Start one broker, e.g. again after a `kill`; does not wait."""
        node = self._nodes[number - 1]
        command = [
            "java",
            *self._java_options(),
            *("-cp", f"{kafka_libs()}/*", "kafka.Kafka"),
            str(node.folder / "server.properties"),
        ]
        log = node.folder / "broker.log"
        self._servers[number] = Server(command, log, attached=self._attached)

    def wait_for(self, number: int, *, timeout_s: float = 60.0) -> None:
        """Return once one broker accepts connections."""
        node = self._nodes[number - 1]
        self._servers[number].wait_for_port(node.port, timeout_s=timeout_s)

    def stop(self) -> None:
        """End all brokers in order and remove a temporary folder."""
        for server in self._servers.values():
            server.signal(signal.SIGCONT)
            server.signal(signal.SIGTERM)
        for server in self._servers.values():
            server.stop()
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

    @property
    def _host(self) -> str:
        return "127.0.0.1" if self._security is None else "localhost"

    def _java_options(self) -> list[str]:
        log4j = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        if self._fast:
            return ["-Xms512m", "-Xmx512m", "-XX:+UseSerialGC", log4j]
        archive = HOME / "kafka.jsa"
        return [
            *("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *([f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []),
            *("-Xlog:cds=off", "-Xlog:cds+dynamic=off", log4j),
        ]

    def _write_config(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j2.properties").write_text(_LOG4J)
        voters = ",".join(
            f"{node.number}@127.0.0.1:{node.controller_port}" for node in self._nodes
        )
        factor = len(self._nodes)
        for node in self._nodes:
            node.folder.mkdir(parents=True, exist_ok=True)
            lines = [
                _COMMON + self._listener_lines(node),
                f"node.id={node.number}",
                f"log.dirs={node.folder / 'data'}",
                f"controller.quorum.voters={voters}",
            ]
            for topic in ("offsets.topic", "transaction.state.log"):
                lines.append(f"{topic}.replication.factor={factor}")
            lines += [
                f"share.coordinator.state.topic.replication.factor={factor}",
                f"transaction.state.log.min.isr={max(1, factor - 1)}",
                f"share.coordinator.state.topic.min.isr={max(1, factor - 1)}",
            ]
            (node.folder / "server.properties").write_text("\n".join(lines) + "\n")

    def _listener_lines(self, node: _Node) -> str:
        name = "PLAINTEXT" if self._security is None else "SECURE"
        protocol = "PLAINTEXT" if self._security is None else "SASL_SSL"
        lines = (
            f"listeners={name}://127.0.0.1:{node.port},"
            f"CONTROLLER://127.0.0.1:{node.controller_port}\n"
            f"advertised.listeners={name}://{self._host}:{node.port}\n"
            f"listener.security.protocol.map=CONTROLLER:PLAINTEXT,{name}:{protocol}\n"
            f"inter.broker.listener.name={name}\n"
        )
        if self._security is None:
            return lines
        files, password = self._security.certificates, self._security.users["admin"]
        return lines + (
            "sasl.enabled.mechanisms=SCRAM-SHA-512\n"
            "sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512\n"
            "listener.name.secure.scram-sha-512.sasl.jaas.config="
            "org.apache.kafka.common.security.scram.ScramLoginModule required "
            f'username="admin" password="{password}";\n'
            f"ssl.keystore.type=PEM\nssl.keystore.location={files.server_pem}\n"
            f"ssl.truststore.type=PEM\nssl.truststore.location={files.ca_cert}\n"
            "authorizer.class.name="
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
            "super.users=User:admin;User:ANONYMOUS\n"
        )

    def _format(self, libs: Path) -> None:
        formatting = [
            subprocess.Popen(
                self._format_command(node, libs),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for node in self._nodes
            if not (node.folder / "data").exists()
        ]
        if any(process.wait() for process in formatting):
            raise RuntimeError(f"could not format the data folders in {self.folder}")

    def _format_command(self, node: _Node, libs: Path) -> list[str]:
        users = {} if self._security is None else self._security.users
        scram = [
            part
            for name, password in users.items()
            for part in (
                "--add-scram",
                f"SCRAM-SHA-512=[name={name},password={password}]",
            )
        ]
        return [
            *("java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
            *("-cp", f"{libs}/*", "kafka.tools.StorageTool", "format"),
            *("-t", self.cluster_id, "-c"),
            str(node.folder / "server.properties"),
            *scram,
        ]

    def _check_own(self) -> None:
        """Whether the cluster that answers is this one, complete and with leaders."""
        if self._security is not None:
            return
        admin = AdminClient(
            {
                "bootstrap.servers": self.bootstrap,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 50,
            }
        )
        until = time.monotonic() + 30
        while time.monotonic() < until:
            time.sleep(0.02)
            try:
                metadata = admin.list_topics(timeout=0.5)
            except KafkaException:
                continue
            if metadata.cluster_id != self.cluster_id:
                raise RuntimeError("another broker answers on this port")
            if len(metadata.brokers) == len(self._nodes):
                return
        raise RuntimeError(f"cluster {self.cluster_id} did not come up")


def _new_cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
