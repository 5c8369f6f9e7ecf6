"""Opens and checks the parts of a log on Kafka, from the settings: this folder's entry.

A member with a name (``group.instance.id``) keeps its partitions for as long as its
session: one that is killed and started again within that time goes on with them, and
the other members are not disturbed. Two live members with one name would expel each
other. So a process owns a name while it has bound an address of the name's number,
which the kernel frees at the moment the process ends, however it ends. Addresses belong
to a network namespace: the name holds the machine's boot and the namespace, so that
containers and machines with the same host name never share one. Where that cannot be
read (no Linux), a member has no name, and its partitions wait out its session after a
kill.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.errors import StoreError
from shifter.model.advice import (
    FAIL,
    OK,
    WARN,
    Finding,
    is_loopback,
    unverified,
    version_numbers,
)
from shifter.model.lane import Priority
from shifter.ports import AtomicLog, DelayMover, LaneFeed, LaneLog, LogAdmin
from shifter.runtime.forking import renew_in_child

_PROBE_S: Final = 2.0
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_NETWORK: Final = Path("/proc/self/ns/net")
_MOST_NAMES: Final = 1_000
# Linux's limit on a host name; Kafka's limit on a member's name is 249.
_HOST_CHARS: Final = 64
# Below 2.15 librdkafka leaks a header list with each full queue and carries old
# OpenSSL and curl; the floor is a security floor.
_CONFLUENT: Final = (2, 15)
_UNVERIFIED: Final = {
    "enable.ssl.certificate.verification": ("false", "0", "f", "no"),
    "ssl.endpoint.identification.algorithm": ("none", ""),
    "https.endpoint.identification.algorithm": ("none", ""),
}


class KafkaLogs:
    """`shifter.wiring.registry.LogAdapter` for ``kafka://``.

    The parts are imported when they are opened: a command that only looks at a log
    does not pay for the transactional producer.
    """

    is_embedded = False

    def import_parts(self) -> None:
        """Import what background threads use, in the calling thread."""
        import shifter.adapters.kafka.admin  # noqa: F401, PLC0415

    def import_member(self) -> None:
        """Import the producer, the consumer and the mover of a worker process."""
        import shifter.adapters.kafka.feed  # noqa: PLC0415
        import shifter.adapters.kafka.mover  # noqa: PLC0415
        import shifter.adapters.kafka.topic_ids  # noqa: PLC0415
        import shifter.adapters.kafka.writer  # noqa: F401, PLC0415

    def open_log(self, settings: Settings) -> LaneLog:
        """Where records become durable."""
        from shifter.adapters.kafka.writer import KafkaLaneLog  # noqa: PLC0415

        return KafkaLaneLog(
            _config(settings),
            namespace=settings.namespace,
            clock=SystemClock(),
            max_record_bytes=settings.max_record_bytes,
        )

    def open_atomic_log(self, settings: Settings, name: str) -> AtomicLog:
        """A transactional producer; the name is the whole transactional id."""
        from shifter.adapters.kafka.atomic import KafkaAtomicLog  # noqa: PLC0415

        return KafkaAtomicLog(
            _config(settings),
            name,
            SystemClock(),
            max_record_bytes=settings.max_letter_bytes,
        )

    def open_admin(self, settings: Settings) -> LogAdmin:
        """Looks after the topics."""
        from shifter.adapters.kafka.admin import KafkaLogAdmin  # noqa: PLC0415

        return KafkaLogAdmin(_config(settings), settings.namespace)

    def open_member(self, settings: Settings, log: LaneLog) -> KafkaMember:
        """The consumers of one worker process, which share a name and topic ids."""
        return KafkaMember(settings, log)

    def is_up(self, settings: Settings) -> bool:
        """Whether a broker answers; blocks for a second or two."""
        from shifter.adapters.kafka.admin import probe  # noqa: PLC0415

        try:
            probe(_config(settings), timeout_s=_PROBE_S, clock=SystemClock())
        except StoreError:
            return False
        return True

    def check_transport(self, settings: Settings) -> list[Finding]:
        """Whether the connection is encrypted and authenticated."""
        client = settings.kafka_client()
        is_near = all(map(is_loopback, client["bootstrap.servers"].split(",")))
        given = {name: text.lower() for name, text in client.items()}
        protocol = given.get("security.protocol", "plaintext")
        detail = f"{protocol}: payloads and credentials cross the network in the clear"
        if not protocol.endswith("ssl") and not is_near:
            return [
                Finding("log.transport", WARN, detail, "security_protocol=SASL_SSL")
            ]
        # librdkafka verifies names by default; "none" switches that off.
        weak = [
            f"{name.replace('.', '_')}={given[name]}"
            for name, values in _UNVERIFIED.items()
            if given.get(name) in values
        ]
        if weak and protocol.endswith("ssl"):
            origins = {settings.origin(f"kafka.{name}") for name in _UNVERIFIED}
            files = sorted(origin for origin in origins if origin.startswith("file "))
            how = ", ".join(weak) + "".join(f" ({name})" for name in files)
            return [unverified("log.transport", how)]
        return [Finding("log.transport", OK, protocol)]

    def path(self, settings: Settings) -> Path | None:  # noqa: ARG002  # the protocol's
        """``None``: the records lie on the brokers."""
        return None


class KafkaMember:
    """What the consumers of one worker process have in common.

    Attributes:
        name: The member name of this process in its groups; ``None`` without one.
    """

    def __init__(self, settings: Settings, log: LaneLog) -> None:
        from shifter.adapters.kafka.topic_ids import TopicIds  # noqa: PLC0415

        config = _config(settings)
        self._settings, self._log = settings, log
        self._ids = TopicIds(config, SystemClock())
        self.name = claim_name(settings.namespace)
        self._config = config if self.name is None else config.named(self.name.text)

    def open_feed(self, priority: Priority, topics: Iterable[str]) -> LaneFeed:
        """The lanes of one priority, as a member of the priority's group."""
        from shifter.adapters.kafka.feed import KafkaLaneFeed  # noqa: PLC0415

        settings = self._settings
        return KafkaLaneFeed(
            self._config,
            sorted(topics),
            group=f"{settings.namespace}.workers.{priority.value.lower()}",
            writer=self._log,
            clock=SystemClock(),
            commit_interval_s=settings.commit_interval_ms / 1_000,
            ids=self._ids,
            without_commits=settings.without_commits,
        )

    def open_mover(self) -> DelayMover:
        """What moves records from the delay topics to their lanes."""
        from shifter.adapters.kafka.mover import KafkaDelayMover  # noqa: PLC0415

        return KafkaDelayMover(
            self._config,
            self._settings.namespace,
            self._log,
            SystemClock(),
            ids=self._ids,
            without_commits=self._settings.without_commits,
        )


class MemberName:
    """A name, for as long as it is held.

    Attributes:
        text: The name.
    """

    def __init__(self, text: str, held: socket.socket) -> None:
        self.text, self._held = text, held
        renew_in_child(self.release)

    def release(self) -> None:
        """Let another process have it; the end of this process does so by itself."""
        self._held.close()


def claim_name(namespace: str) -> MemberName | None:
    """The lowest name of this machine that no live process of the namespace has.

    Args:
        namespace: Of the groups that it is a name in.

    Returns:
        ``None`` where names cannot be had: not on Linux, or all are taken.
    """
    try:
        place = f"{_BOOT.read_text()} {_NETWORK.readlink()}"
    except OSError:
        return None
    mark = hashlib.sha256(place.encode()).hexdigest()[:10]
    host = socket.gethostname()[:_HOST_CHARS]
    for number in range(_MOST_NAMES):
        held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):
            held.bind(f"\0shifter/{namespace}/{number}")
            return MemberName(f"{host}-{mark}-{number}", held)
        held.close()
    return None


def check_client() -> Finding:
    """Whether the installed client library is new enough."""
    # Imported here, since a service that opens a log does not need it.
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        found = version("confluent-kafka")
    except PackageNotFoundError:
        found = "not installed"
    if version_numbers(found)[:2] >= _CONFLUENT:
        return Finding("kafka_client", OK, f"confluent-kafka {found}")
    floor = ".".join(map(str, _CONFLUENT))
    fix = f"pip install 'confluent-kafka>={floor}'"
    return Finding("kafka_client", FAIL, f"confluent-kafka {found}", fix)


def _config(settings: Settings) -> KafkaConfig:
    return KafkaConfig.from_client(settings.kafka_client())
