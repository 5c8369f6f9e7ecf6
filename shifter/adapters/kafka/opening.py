"""Opens the parts of a log on Kafka, from the settings: this folder's entry."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.errors import StoreError
from shifter.model.advice import Finding
from shifter.model.lane import Priority
from shifter.ports import AtomicLog, DelayMover, LaneFeed, LaneLog, LogAdmin

if TYPE_CHECKING:
    from shifter.adapters.kafka.member_name import MemberName
    from shifter.adapters.kafka.topic_ids import TopicIds
    from shifter.adapters.kafka.url import KafkaConfig

_PROBE_S: Final = 2.0


class KafkaLogs:
    """`shifter.wiring.registry.LogAdapter` for ``kafka://``.

    The parts are imported when they are opened: a command that only looks at a log
    does not pay for the transactional producer.
    """

    is_embedded = False

    def import_parts(self) -> None:
        """Import what background threads use, in the calling thread."""
        import shifter.adapters.kafka.admin  # noqa: F401, PLC0415

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
        from shifter.adapters.kafka.probe import probe  # noqa: PLC0415

        try:
            probe(_config(settings), timeout_s=_PROBE_S, clock=SystemClock())
        except StoreError:
            return False
        return True

    def check_transport(self, settings: Settings) -> list[Finding]:
        """Whether the connection is encrypted and authenticated."""
        from shifter.adapters.kafka.doctor import check_transport  # noqa: PLC0415

        return check_transport(settings)

    def path(self, settings: Settings) -> Path | None:  # noqa: ARG002  # the protocol's
        """``None``: the records lie on the brokers."""
        return None


class KafkaMember:
    """What the consumers of one worker process have in common.

    Attributes:
        name: The member name of this process in its groups; ``None`` without one.
    """

    def __init__(self, settings: Settings, log: LaneLog) -> None:
        from shifter.adapters.kafka.member_name import claim_name  # noqa: PLC0415
        from shifter.adapters.kafka.topic_ids import TopicIds  # noqa: PLC0415

        self._settings, self._log = settings, log
        self._ids: TopicIds = TopicIds(_config(settings), SystemClock())
        self.name: MemberName | None = claim_name(settings.namespace)

    def open_feed(self, priority: Priority, topics: Iterable[str]) -> LaneFeed:
        """The lanes of one priority, as a member of the priority's group."""
        from shifter.adapters.kafka.feed import KafkaLaneFeed  # noqa: PLC0415

        settings = self._settings
        return KafkaLaneFeed(
            self._config(),
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
            self._config(),
            self._settings.namespace,
            self._log,
            SystemClock(),
            ids=self._ids,
            without_commits=self._settings.without_commits,
        )

    def _config(self) -> KafkaConfig:
        config = _config(self._settings)
        return config if self.name is None else config.named(self.name.text)


def _config(settings: Settings) -> KafkaConfig:
    from shifter.adapters.kafka.url import KafkaConfig  # noqa: PLC0415

    return KafkaConfig.from_client(settings.kafka_client())
