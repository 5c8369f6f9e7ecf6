"""A broker's settings as text: small, and quick to come back after a kill.

- The log cleaner takes 128 MB at start unless its buffer is made small.
- A killed broker cannot come back before its old session has expired, and until then
  writes to all replicated topics stall: 1.5 s here instead of 9.
- The minimum session times are low, so that tests of a lost worker are short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from stack.tls import Certificates, make_certificates

_COMMON: Final = """process.roles=broker,controller
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
_LOGIN: Final = "org.apache.kafka.common.security.scram.ScramLoginModule required"


class Security(NamedTuple):
    """SASL_SSL with SCRAM-SHA-512 and ACLs.

    Attributes:
        certificates: The broker's.
        users: Name to password; ``admin`` is a super user and must be there. Passwords
            without ``"``, ``,`` and ``]``: the tools that take them have no escape.
    """

    certificates: Certificates
    users: Mapping[str, str]

    @classmethod
    def make(cls, folder: Path, users: Mapping[str, str]) -> Self:
        """With new certificates in ``folder``, which may be missing."""
        return cls(make_certificates(folder), users)

    def client(self, user: str) -> dict[str, str]:
        """Properties of a librdkafka client with which ``user`` gets in."""
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": self.users[user],
            "ssl.ca.location": str(self.certificates.ca_cert),
        }


class Detour(NamedTuple):
    """Clients go round by a proxy, brokers among themselves do not.

    Attributes:
        port: The port that clients get; a listener there leads them to the broker.
        inner_port: Where the other brokers, and the stack itself, connect.
    """

    port: int
    inner_port: int


class Node(NamedTuple):
    """One broker that is also a controller.

    Attributes:
        number: 1-based.
        folder: Settings, log, and the data in ``data/``.
        port: Where clients connect.
        controller_port: Where the other nodes connect.
        detour: Where clients are told to connect instead, if anywhere: a proxy's port,
            and the port on which brokers then speak with each other.
    """

    number: int
    folder: Path
    port: int
    controller_port: int
    detour: Detour | None = None

    @property
    def properties(self) -> Path:
        """The file with its settings."""
        return self.folder / "server.properties"

    @property
    def data(self) -> Path:
        """The folder with its records."""
        return self.folder / "data"


def node_properties(
    node: Node, nodes: Sequence[Node], security: Security | None
) -> str:
    """The text of one node's ``server.properties``."""
    voters = ",".join(f"{n.number}@127.0.0.1:{n.controller_port}" for n in nodes)
    return (
        f"{_COMMON}node.id={node.number}\n"
        f"log.dirs={node.data}\n"
        f"controller.quorum.voters={voters}\n"
        f"{_replication(len(nodes))}{_listeners(node, security)}"
        f"{'' if security is None else _security(security)}"
    )


def _replication(brokers: int) -> str:
    in_sync = max(1, brokers - 1)
    return (
        f"offsets.topic.replication.factor={brokers}\n"
        f"transaction.state.log.replication.factor={brokers}\n"
        f"transaction.state.log.min.isr={in_sync}\n"
        f"share.coordinator.state.topic.replication.factor={brokers}\n"
        f"share.coordinator.state.topic.min.isr={in_sync}\n"
    )


def _listeners(node: Node, security: Security | None) -> str:
    name, protocol = "PLAINTEXT", "PLAINTEXT"
    if security is not None:
        name, protocol = "SECURE", "SASL_SSL"
    own, told = f"{name}://127.0.0.1:{node.port}", f"{name}://127.0.0.1:{node.port}"
    protocols, inner = f"CONTROLLER:PLAINTEXT,{name}:{protocol}", name
    if node.detour is not None:
        inner = "INNER"
        address = f"{inner}://127.0.0.1:{node.detour.inner_port}"
        own, told = (
            f"{own},{address}",
            f"{name}://127.0.0.1:{node.detour.port},{address}",
        )
        protocols += f",{inner}:{protocol}"
    return (
        f"listeners={own},CONTROLLER://127.0.0.1:{node.controller_port}\n"
        f"advertised.listeners={told}\n"
        f"listener.security.protocol.map={protocols}\n"
        f"inter.broker.listener.name={inner}\n"
    )


def _security(security: Security) -> str:
    files, password = security.certificates, security.users["admin"]
    return (
        "sasl.enabled.mechanisms=SCRAM-SHA-512\n"
        "sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512\n"
        "listener.name.secure.scram-sha-512.sasl.jaas.config="
        f'{_LOGIN} username="admin" password="{password}";\n'
        f"ssl.keystore.type=PEM\nssl.keystore.location={files.server_pem}\n"
        f"ssl.truststore.type=PEM\nssl.truststore.location={files.ca_cert}\n"
        "authorizer.class.name="
        "org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
        # ANONYMOUS is the plain controller listener: for tests only
        "super.users=User:admin;User:ANONYMOUS\n"
    )
