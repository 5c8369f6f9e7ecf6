"""Topics as they are and as they should be: the plan and its execution.

Nothing is deleted or narrowed. What needs a person (too many partitions, too few
replicas) is a warning, and what only the brokers' owner can change is a note. Settings
that may not be read are unknown, and an unknown setting is left alone. A topic without
a setting of its own has its broker's default, which counts like one of its own.
Everything here blocks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # has no __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)
from confluent_kafka.admin._metadata import ClusterMetadata

from shifter.adapters.kafka.errors import LastError, kafka_error, store_error
from shifter.adapters.kafka.topic_ids import describe_ids
from shifter.config.option import duration_text
from shifter.errors import StoreUnavailableError
from shifter.model.lane import parse_lane
from shifter.ports import Clock, TopicChange, TopicSpec

_Wanted = TypeVar("_Wanted")
CALL_S: Final = 20.0
"""How long one administrative call may take, seconds."""

_REPLICAS: Final = 3
# Three brokers show a new topic, with leaders, after 0.5 to 1.1 s (measured on 4.3).
_SHOWN_S: Final = 30.0
_MAY_BE_UNKNOWN: Final = re.compile(".*AUTHORIZATION_FAILED|UNKNOWN_TOPIC_OR_PART")
_LOOK_AGAIN_S: Final = 0.05
_MINUTE_MS: Final = 60_000
_ROLL_MS: Final = 7 * 86_400_000
_OFFSETS_TOPIC: Final = "__consumer_offsets"
_OFFSETS_KEPT: Final = "offsets.retention.minutes"
_EXACT: Final = MappingProxyType(
    {
        # Compaction would delete jobs that share a key.
        "cleanup.policy": "delete",
        # A bound in bytes would delete accepted jobs as soon as enough others wait.
        "retention.bytes": "-1",
        # The broker dates records, not the producer. A producer's clock that is more
        # than an hour ahead would be refused (message.timestamp.after.max.ms), and one
        # that is far behind would date its records past their retention. Retention,
        # the age of what waits and the delay topics' order then go by one clock.
        "message.timestamp.type": "LogAppendTime",
    }
)
# Not given to a new topic, since some hosted clusters refuse to be asked for it; its
# default is right everywhere. A leader that lacks acknowledged records would lose them.
_UNSET: Final = MappingProxyType({"unclean.leader.election.enable": "false"})
# A broker's limit is for a whole batch, and a producer fills batches up to a megabyte:
# a topic below that would refuse small records for being in good company.
_LEAST_BATCH_BYTES: Final = 1_048_588
_BATCH_OVERHEAD_BYTES: Final = 65_536


class TopicState(NamedTuple):
    """A topic as it is.

    Attributes:
        partitions: How many.
        replicas: Fewest replicas of any partition.
        config: Its settings; empty when they may not be read.
    """

    partitions: int
    replicas: int
    config: Mapping[str, str]


class PlannedChange(NamedTuple):
    """One change, and the setting it writes if it is one."""

    change: TopicChange
    setting: tuple[str, str] | None = None


def settings(spec: TopicSpec, *, replicas: int) -> dict[str, str]:
    """The settings of a new topic: those that must be so, and the least of the others.

    They are written into the topic, whatever its broker's defaults are.
    """
    found = {**_EXACT, **least(spec, replicas=replicas)}
    if spec.retention_ms < _ROLL_MS:
        # A broker deletes whole segments, and begins one a week by default.
        found["segment.ms"] = str(max(_MINUTE_MS, spec.retention_ms // 24))
    return found


def least(spec: TopicSpec, *, replicas: int) -> dict[str, str]:
    """What those of a topic's settings that are numbers must at least be."""
    return {
        "retention.ms": str(spec.retention_ms),
        "max.message.bytes": str(
            max(_LEAST_BATCH_BYTES, spec.max_record_bytes + _BATCH_OVERHEAD_BYTES)
        ),
        # With three replicas two must have a record before it counts as written.
        "min.insync.replicas": "2" if replicas >= _REPLICAS else "1",
    }


def steps(
    spec: TopicSpec, found: TopicState | None, *, replicas: int
) -> list[PlannedChange]:
    """From a topic as it is to the topic as it should be. Pure.

    Args:
        spec: As it should be.
        found: As it is; ``None`` when it does not exist.
        replicas: How many a new topic gets here.
    """
    name = spec.name
    if found is None:
        detail = f"{spec.partitions} partitions, {replicas} replicas"
        return [PlannedChange(TopicChange(name, "create", detail))]
    plan = []
    if found.partitions != spec.partitions:
        grows = found.partitions < spec.partitions
        action = "add_partitions" if grows else "warn"
        detail = f"partitions: {found.partitions} to {spec.partitions}"
        plan.append(PlannedChange(TopicChange(name, action, detail)))
    if found.replicas < replicas:
        detail = f"replicas: {found.replicas}; {replicas} survive the loss of a broker"
        plan.append(PlannedChange(TopicChange(name, "warn", detail)))
    for key, value in {**_EXACT, **_UNSET}.items():
        have = found.config.get(key)
        if have is not None and have.lower() != value.lower():
            plan.append(_set(name, key, have, value))
    for key, value in least(spec, replicas=found.replicas).items():
        have = found.config.get(key)
        # A negative retention means for ever.
        if have is not None and 0 <= int(have) < int(value):
            plan.append(_set(name, key, have, value))
    return plan


def _set(name: str, key: str, have: str, value: str) -> PlannedChange:
    return PlannedChange(
        TopicChange(name, "set", f"{key}: {have} to {value}"), (key, value)
    )


def forgotten_commits(
    specs: Iterable[TopicSpec], kept_minutes: int | None
) -> list[TopicChange]:
    """A note, if brokers drop a group's commits before its records. Pure.

    Args:
        specs: Topics as they should be.
        kept_minutes: The brokers' ``offsets.retention.minutes``; ``None`` if unknown.

    >>> spec = TopicSpec("shop.mail.low", 6, 37 * 86_400_000, 1_000)
    >>> forgotten_commits([spec], 53_280), forgotten_commits([spec], None)
    ([], [])
    >>> forgotten_commits([spec], 10_080)[0].detail[:45]
    'offsets.retention.minutes: 10080 (7d) is less'
    """
    longest_ms = max(
        (spec.retention_ms for spec in specs if parse_lane(spec.name)), default=0
    )
    if kept_minutes is None or kept_minutes * _MINUTE_MS >= longest_ms:
        return []
    kept, wanted = duration_text(kept_minutes * _MINUTE_MS), duration_text(longest_ms)
    needed = -(-longest_ms // _MINUTE_MS)
    detail = (
        f"offsets.retention.minutes: {kept_minutes} ({kept}) is less than the lanes' "
        f"retention ({wanted}): once no worker has run for {kept}, its group's commits "
        "are gone, and the setting without_commits decides what becomes of the records "
        f"that are kept; set it to {needed} on the brokers"
    )
    return [TopicChange(_OFFSETS_TOPIC, "note", detail)]


class TopicKeeper:
    """Plans and applies topic changes over one administrative client.

    Attributes:
        client: The client.
        last: The last error that the client reported.
        clock: For time limits.
    """

    def __init__(self, client: AdminClient, last: LastError, clock: Clock) -> None:
        self.client, self.last, self.clock = client, last, clock

    def metadata(self) -> ClusterMetadata:
        """Topics and brokers now.

        Raises:
            StoreUnavailableError, StoreRefusedError: With the client's last error.
        """
        try:
            return self.client.list_topics(timeout=CALL_S)
        except KafkaException as exc:
            # Calls `error_cb`, which may name the cause.
            self.client.poll(0)
            raise store_error(exc, "metadata", self.last) from exc

    def ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Ids of topics now; a topic that does not exist is left out.

        Raises:
            StoreUnavailableError, StoreRefusedError: With the client's last error.
        """
        try:
            return describe_ids(self.client, topics)
        except KafkaException as exc:
            self.client.poll(0)
            raise store_error(exc, "describe_topics", self.last) from exc

    def diff(self, specs: Sequence[TopicSpec]) -> list[TopicChange]:
        """What `apply` would change, in the order of the specs."""
        _, plan = self._plan(specs)
        return [*(step.change for step in plan), *self._notes(specs)]

    def apply(self, specs: Sequence[TopicSpec]) -> list[TopicChange]:
        """Create, widen and set; returns once the brokers show it.

        Raises:
            StoreUnavailableError, StoreRefusedError: A step failed; what was done
                before it stays, and the next `apply` goes on from there.
        """
        replicas, plan = self._plan(specs)
        actions = {(step.change.topic, step.change.action) for step in plan}
        created = [
            NewTopic(
                spec.name,
                num_partitions=spec.partitions,
                replication_factor=replicas,
                config=settings(spec, replicas=replicas),
            )
            for spec in specs
            if (spec.name, "create") in actions
        ]
        widened = [
            NewPartitions(spec.name, spec.partitions)
            for spec in specs
            if (spec.name, "add_partitions") in actions
        ]
        self._finish("create_topics", self.client.create_topics, created)
        self._finish("create_partitions", self.client.create_partitions, widened)
        ask = self.client.incremental_alter_configs
        self._finish("alter_configs", ask, _new_settings(plan))
        self._await(specs)
        return [*(step.change for step in plan), *self._notes(specs)]

    def _notes(self, specs: Sequence[TopicSpec]) -> list[TopicChange]:
        brokers = [str(broker) for broker in self.metadata().brokers][:1]
        config = self._configs(brokers, ResourceType.BROKER)
        kept = next(iter(config.values()), {}).get(_OFFSETS_KEPT)
        return forgotten_commits(specs, None if kept is None else int(kept))

    def _plan(self, specs: Sequence[TopicSpec]) -> tuple[int, list[PlannedChange]]:
        metadata = self.metadata()
        names = [spec.name for spec in specs if spec.name in metadata.topics]
        configs = self._configs(names)
        replicas = min(_REPLICAS, len(metadata.brokers))
        plan: list[PlannedChange] = []
        for spec in specs:
            topic = metadata.topics.get(spec.name)
            state = None
            if topic is not None:
                parts = topic.partitions.values()
                fewest = min((len(part.replicas) for part in parts), default=0)
                state = TopicState(len(parts), fewest, configs[spec.name])
            plan += steps(spec, state, replicas=replicas)
        return replicas, plan

    def _configs(
        self, names: Sequence[str], kind: ResourceType = ResourceType.TOPIC
    ) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {name: {} for name in names}
        if not names:
            return found
        asked = self.client.describe_configs(
            [ConfigResource(kind, name) for name in names], request_timeout=CALL_S
        )
        for resource, future in asked.items():
            try:
                entries = future.result()
            except KafkaException as exc:
                error = kafka_error(exc)
                # This user may not read it, or this broker does not have the topic yet.
                if error is None or not _MAY_BE_UNKNOWN.fullmatch(error.name()):
                    raise store_error(exc, "describe_configs", self.last) from exc
                continue
            values = {entry.name: entry.value for entry in entries.values()}
            found[resource.name] = {k: v for k, v in values.items() if v is not None}
        return found

    def _finish(
        self,
        op: str,
        ask: Callable[[list[_Wanted]], Mapping[Any, Future[Any]]],
        wanted: list[_Wanted],
    ) -> None:
        """Ask for changes, if there are any, and wait until all are made."""
        for future in ask(wanted).values() if wanted else ():
            try:
                future.result(timeout=2 * CALL_S)
            except KafkaException as exc:
                error = kafka_error(exc)
                # Another process applied the same plan a moment ago.
                if error is None or error.name() != "TOPIC_ALREADY_EXISTS":
                    raise store_error(exc, op, self.last) from exc

    def _await(self, specs: Sequence[TopicSpec]) -> None:
        """Return once brokers show what was done, and every partition has a leader."""
        until = self.clock.monotonic() + _SHOWN_S
        while (missing := self._missing(specs)) is not None:
            if self.clock.monotonic() > until:
                detail = f"{missing} after {_SHOWN_S:.0f} s"
                raise StoreUnavailableError("kafka", "apply", detail)
            self.client.poll(_LOOK_AGAIN_S)

    def _missing(self, specs: Sequence[TopicSpec]) -> str | None:
        _, plan = self._plan(specs)
        for step in plan:
            if step.change.action != "warn":
                return f"{step.change.topic}: {step.change.detail}"
        topics = self.metadata().topics
        for spec in specs:
            if any(part.leader < 0 for part in topics[spec.name].partitions.values()):
                return f"{spec.name}: no leader"
        return None


def _new_settings(plan: Sequence[PlannedChange]) -> list[ConfigResource]:
    entries: dict[str, list[ConfigEntry]] = {}
    for step in plan:
        if step.setting is not None:
            entry = ConfigEntry(
                *step.setting, incremental_operation=AlterConfigOpType.SET
            )
            entries.setdefault(step.change.topic, []).append(entry)
    return [
        ConfigResource(ResourceType.TOPIC, name, incremental_configs=changes)
        for name, changes in entries.items()
    ]
