"""The configuration of the clients: a cluster's address, and librdkafka's properties.

The properties that shifter sets stand here, each with its reason. `shifter.config`
reads a log's URL, and lists the properties that a setting may not change; both checks
are repeated here, for a configuration that was not read from a URL. Whether a property
exists at all is decided by librdkafka when a client is made. Sources: librdkafka's
CONFIGURATION.md, and measurements on a real broker.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from shifter.config.endpoint import check_server, property_name
from shifter.errors import ConfigError

Property = str | int | float | bool | Callable[..., object] | None
"""What a librdkafka client's configuration may hold."""

_PORT: Final = 9092
# Asked of a client of the other kind, librdkafka prints a warning for each of these.
_PRODUCER_ONLY: Final = (
    "batch.",
    "compression.",
    "linger.ms",
    "max.in.flight",
    "message.send.max.retries",
    "queue.buffering.",
    "request.timeout.ms",
    "retries",
    "sticky.partitioning.",
)
_CONSUMER_ONLY: Final = (
    "auto.commit.",
    "fetch.",
    "group.",
    "heartbeat.",
    "max.partition.fetch.bytes",
    "max.poll.",
    "queued.",
    "session.",
)
# For the hint beside an unknown name, with the names that are set below.
_OTHER_NAMES: Final = """
    api.version.request broker.address.family client.dns.lookup client.rack
    compression.level connections.max.idle.ms debug fetch.min.bytes
    fetch.wait.max.ms group.instance.id group.protocol log.level
    max.poll.interval.ms metadata.max.age.ms sasl.mechanism
    sasl.oauthbearer.client.id sasl.oauthbearer.client.secret sasl.password
    sasl.username security.protocol ssl.ca.location ssl.ca.pem
    ssl.certificate.location ssl.certificate.pem
    ssl.endpoint.identification.algorithm ssl.key.location ssl.key.password
    ssl.key.pem ssl.keystore.location ssl.keystore.password
""".split()  # noqa: SIM905  # one name a line would fill a page
_SHOWN: Final = frozenset({"client.id", "sasl.mechanism", "security.protocol"})
# librdkafka's few names that are written with an underscore.
_UNDERSCORED: Final = MappingProxyType({"log.level": "log_level"})


_CLIENT: Final = MappingProxyType[str, Property](
    {
        "client.id": "shifter",
        # A frozen broker holds its partitions until a request to it times out.
        "socket.timeout.ms": 10_000,
        "socket.keepalive.enable": True,
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 2_000,
        # How soon a client sees partitions that were added, and a topic that was made
        # again; librdkafka's default is 5 min. One small request a client.
        "topic.metadata.refresh.interval.ms": 2_000,
        # Client telemetry goes to the broker's owner, who was not asked.
        "enable.metrics.push": False,
        "allow.auto.create.topics": False,
        # Errors come by callback; librdkafka would also print them to stderr.
        "log_level": 0,
    }
)
_PRODUCER: Final = MappingProxyType[str, Property](
    {
        "enable.idempotence": True,
        "acks": "all",
        # Batches form by themselves under concurrency; lingering only adds latency.
        "linger.ms": 0,
        # Below the longest fail-over, a timeout makes librdkafka send again under a
        # new producer epoch, and acknowledged records are duplicated.
        "message.timeout.ms": 30_000,
        # As Java's, so that a key goes to one partition from every language.
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "queue.buffering.max.messages": 50_000,
        "queue.buffering.max.kbytes": 65_536,
        # How soon a produce to a topic that does not exist is answered.
        "topic.metadata.propagation.max.ms": 5_000,
    }
)
_CONSUMER: Final = MappingProxyType[str, Property](
    {
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # Records lost to retention must be seen, not skipped.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 1_000,
        "check.crcs": True,
        # Lowered only together: with the back-off's default of 1 s a small prefetch
        # costs thirty times the throughput.
        "queued.min.messages": 1_000,
        # Of each consumer: a worker has one a priority, and one for delayed records.
        "queued.max.messages.kbytes": 4_096,
        "fetch.max.bytes": 4_194_304,
        # What a broker sends is compressed, and the queue's limit is looked at only
        # between two answers: an answer must be small for what it may unpack to. A
        # record that is larger comes all the same, alone.
        "max.partition.fetch.bytes": 65_536,
        "fetch.queue.backoff.ms": 10,
    }
)
_CLASSIC_ONLY: Final = (
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
    "session.timeout.ms",
)
"""What the constructor refuses when ``group.protocol`` is ``consumer``."""


@dataclass(frozen=True, slots=True, repr=False)
class KafkaConfig:
    """A checked cluster address and the properties of its clients.

    Its text shows names of properties, never their values.

    Attributes:
        bootstrap: ``host:port``, separated by commas.
        properties: librdkafka properties by name; they may hold secrets.

    Raises:
        ConfigError: An address or a property is wrong or refused.
    """

    bootstrap: str
    properties: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        servers = ",".join(_server(text) for text in self.bootstrap.split(","))
        object.__setattr__(self, "bootstrap", servers)
        for name in self.properties:
            property_name("kafka property", name)

    @classmethod
    def from_client(cls, client: Mapping[str, str]) -> KafkaConfig:
        """Read librdkafka's own form, with ``bootstrap.servers`` inside."""
        rest = {k: v for k, v in client.items() if k != "bootstrap.servers"}
        return cls(client["bootstrap.servers"], rest)

    @staticmethod
    def group(namespace: str, *parts: str) -> str:
        """A group's name: ``shop.workers.low``, ``shop.delay``."""
        return ".".join((namespace, *parts))

    def producer_config(self) -> dict[str, Property]:
        """Settings of a producer: idempotent, acknowledged by all in-sync replicas."""
        return {**_CLIENT, **_PRODUCER, **self._given(without=_CONSUMER_ONLY)}

    def consumer_config(self, group: str) -> dict[str, Property]:
        """Settings of a member of ``group`` that commits by hand."""
        given = self._given(without=_PRODUCER_ONLY)
        found = {**_CLIENT, **_CONSUMER, "group.id": group, **given}
        if found.get("group.protocol") == "consumer":
            # The broker owns these then; the constructor refuses them.
            return {name: found[name] for name in found if name not in _CLASSIC_ONLY}
        return found

    def named(self, name: str) -> KafkaConfig:
        """These settings, with a name for members of groups that have none.

        Not with ``group.protocol=consumer``: a member of it that leaves in order keeps
        its partitions for a whole session if it has a name (librdkafka 2.16).
        """
        has_own = "group.instance.id" in self.properties
        if has_own or self.properties.get("group.protocol") == "consumer":
            return self
        properties = {**self.properties, "group.instance.id": name}
        return KafkaConfig(self.bootstrap, properties)

    def admin_config(self) -> dict[str, Property]:
        """Settings of an administrative client."""
        return {**_CLIENT, **self._given(without=_CONSUMER_ONLY + _PRODUCER_ONLY)}

    def _given(self, *, without: tuple[str, ...]) -> dict[str, Property]:
        given: dict[str, Property] = {"bootstrap.servers": self.bootstrap}
        for name, value in self.properties.items():
            if not name.startswith(without):
                given[_UNDERSCORED.get(name, name)] = value
        return given

    def __repr__(self) -> str:
        shown = (
            f"{name}={value if name in _SHOWN else '***'}"
            for name, value in sorted(self.properties.items())
        )
        return f"KafkaConfig({', '.join((self.bootstrap, *shown))})"


def _server(text: str) -> str:
    check_server("bootstrap", text, shown=text)
    has_port = ":" in text and not text.endswith("]")
    return text if has_port else f"{text}:{_PORT}"


def unknown_property(name: str) -> ConfigError:
    """The error for a property that librdkafka does not have."""
    names = {*_CLIENT, *_PRODUCER, *_CONSUMER, *_OTHER_NAMES}
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "see librdkafka's CONFIGURATION.md"
    return ConfigError("kafka property", name, f"no such property; {hint}")
