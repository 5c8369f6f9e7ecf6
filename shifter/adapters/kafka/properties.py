"""librdkafka's properties: the values that shifter sets, each with its reason.

The properties that a setting may not change are listed in `shifter.config.endpoint`.
Whether a name exists at all is decided by librdkafka when a client is made. Sources:
librdkafka's CONFIGURATION.md, and measurements on a real broker.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from shifter.errors import ConfigError

Property = str | int | float | bool | Callable[..., object] | None
"""What a librdkafka client's configuration may hold."""

# Asked of a client of the other kind, librdkafka prints a warning for each of these.
PRODUCER_ONLY: Final = (
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
CONSUMER_ONLY: Final = (
    "auto.commit.",
    "fetch.",
    "group.",
    "heartbeat.",
    "max.partition.fetch.bytes",
    "max.poll.",
    "queued.",
    "session.",
)
# For the hint beside an unknown name; whether a name exists, librdkafka decides.
_COMMON_NAMES: Final = (
    "api.version.request",
    "broker.address.family",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "debug",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "group.instance.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "linger.ms",
    "log.level",
    "max.poll.interval.ms",
    "metadata.max.age.ms",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "sasl.mechanism",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "topic.metadata.refresh.interval.ms",
)
SHOWN: Final = frozenset({"client.id", "sasl.mechanism", "security.protocol"})
# librdkafka's few names that are written with an underscore.
UNDERSCORED: Final = MappingProxyType({"log.level": "log_level"})


CLIENT: Final = MappingProxyType[str, Property](
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
        # Errors reach us by callback; librdkafka would also print them to stderr.
        "log_level": 0,
    }
)
PRODUCER: Final = MappingProxyType[str, Property](
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
CONSUMER: Final = MappingProxyType[str, Property](
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
CLASSIC_ONLY: Final = (
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
    "session.timeout.ms",
)
"""What the constructor refuses when ``group.protocol`` is ``consumer``."""


def unknown_property(name: str) -> ConfigError:
    """The error for a name that librdkafka does not know."""
    near = difflib.get_close_matches(name, _COMMON_NAMES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "see librdkafka's CONFIGURATION.md"
    return ConfigError("kafka property", name, f"no such property; {hint}")
