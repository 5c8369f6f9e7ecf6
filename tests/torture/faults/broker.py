"""What may happen to brokers, and to what they keep for us."""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from stack.kafka import KafkaCluster
from tests.conformance.mock_cluster import MockCluster
from tests.torture.faults.fault import Deed, Healing, Repeated

_ANSWER_S: Final = 20.0
PRODUCE: Final = 0
"""The request that carries records, by its number in the protocol."""

NOT_ENOUGH_REPLICAS: Final = 19
NOT_ENOUGH_REPLICAS_AFTER_APPEND: Final = 20
MSG_SIZE_TOO_LARGE: Final = 10
OUT_OF_ORDER_SEQUENCE_NUMBER: Final = 45


class BrokersDown(Healing):
    """All brokers are killed; healed, they are back with what they had.

    Args:
        cluster: Started.
        numbers: Which brokers; all by default.
    """

    def __init__(
        self, cluster: KafkaCluster, numbers: Sequence[int] | None = None
    ) -> None:
        self._cluster = cluster
        self._numbers = sorted(cluster.pids if numbers is None else numbers)
        super().__init__(f"brokers {self._numbers} killed")

    def _begin(self) -> None:
        for number in self._numbers:
            self._cluster.kill(number)

    def _end(self) -> None:
        for number in self._numbers:
            self._cluster.start_node(number)
        for number in self._numbers:
            self._cluster.wait_for(number)


class BrokersPaused(Healing):
    """Brokers take connections and never answer; all of them by default."""

    def __init__(
        self, cluster: KafkaCluster, numbers: Sequence[int] | None = None
    ) -> None:
        self._cluster = cluster
        self._numbers = sorted(cluster.pids if numbers is None else numbers)
        super().__init__(f"brokers {self._numbers} paused")

    def _begin(self) -> None:
        for number in self._numbers:
            self._cluster.pause(number)

    def _end(self) -> None:
        for number in self._numbers:
            self._cluster.resume(number)


class RollingBrokers(Repeated):
    """One broker after the other is ended in order and started again.

    Each leads nothing while it is away: leaders change twice a restart.
    """

    def __init__(
        self, cluster: KafkaCluster, *, times: int | None = None, every_s: float = 0.5
    ) -> None:
        numbers = sorted(cluster.pids)
        super().__init__(
            "rolling brokers",
            lambda n: cluster.restart(numbers[n % len(numbers)]),
            every_s=every_s,
            times=times,
        )


class TopicRightsRevoked(Healing):
    """A user may no longer do this with topics; healed, it may again.

    Args:
        admin: Properties of a client that may change access rules.
        user: Whose right.
        operation: Which one.
        prefix: Of the topics, as it was granted.
    """

    def __init__(
        self,
        admin: dict[str, str],
        user: str,
        operation: AclOperation,
        prefix: str,
        kind: ResourceType = ResourceType.TOPIC,
    ) -> None:
        super().__init__(f"{operation.name} revoked")
        self._admin = AdminClient(admin)
        self._rule = (
            kind,
            prefix,
            ResourcePatternType.PREFIXED,
            f"User:{user}",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )

    def _begin(self) -> None:
        for deleted in self._admin.delete_acls(
            [AclBindingFilter(*self._rule)]
        ).values():
            assert deleted.result(_ANSWER_S), f"{self._rule} was not granted"

    def _end(self) -> None:
        for created in self._admin.create_acls([AclBinding(*self._rule)]).values():
            created.result(_ANSWER_S)


class RecordsDeleted(Deed):
    """Retention passes the readers: all before an offset is gone, as with DeleteRecords.

    Args:
        client: Properties of a client.
        topic: Which.
        partition: Part of it.
        before: First offset that stays.
    """

    def __init__(
        self, client: dict[str, str], topic: str, partition: int, before: int
    ) -> None:
        admin = AdminClient(client)

        def delete() -> None:
            asked = [TopicPartition(topic, partition, before)]
            for deleted in admin.delete_records(asked).values():
                deleted.result(_ANSWER_S)

        super().__init__(f"{topic} lost all before {before}", delete)


class GroupForgotten(Deed):
    """The commits of a group without members are deleted, as after their expiry."""

    def __init__(self, client: dict[str, str], group: str) -> None:
        admin = AdminClient(client)

        def delete() -> None:
            end = time.monotonic() + _ANSWER_S
            while True:
                try:
                    for deleted in admin.delete_consumer_groups([group]).values():
                        deleted.result(_ANSWER_S)
                except KafkaException as error:
                    # its last member may still be leaving
                    if "NON_EMPTY" not in str(error) or time.monotonic() > end:
                        raise
                    time.sleep(0.1)
                else:
                    return

        super().__init__(f"group {group} forgotten", delete)


class TopicMadeAgain(Deed):
    """A topic is deleted and made again under its name."""

    def __init__(self, client: dict[str, str], topic: str, partitions: int = 1) -> None:
        admin = AdminClient(client)

        def make() -> None:
            for deleted in admin.delete_topics([topic]).values():
                deleted.result(_ANSWER_S)
            end = time.monotonic() + _ANSWER_S
            while topic in admin.list_topics(timeout=_ANSWER_S).topics:
                assert time.monotonic() < end, f"{topic} is still there"
                time.sleep(0.05)
            for made in admin.create_topics([NewTopic(topic, partitions)]).values():
                made.result(_ANSWER_S)

        super().__init__(f"{topic} made again", make)


class FaultyCluster(MockCluster):
    """Mock brokers that answer with any error on demand."""

    def push_errors(self, request: int, *codes: int) -> None:
        """Answer the next requests of a kind with these errors, 0 for none."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._lib.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(request), ctypes.c_size_t(len(codes)), array
        )

    def clear_errors(self, request: int) -> None:
        """Answer requests of a kind as they deserve again."""
        self._lib.rd_kafka_mock_clear_request_errors(
            self._cluster, ctypes.c_int16(request)
        )

    def set_leader(self, topic: str, partition: int, broker: int) -> None:
        """Move a partition's leadership, 1-based broker."""
        code = self._lib.rd_kafka_mock_partition_set_leader(
            self._cluster, topic.encode(), partition, broker
        )
        assert code == 0, code

    def set_round_trip(self, broker: int, milliseconds: int) -> None:
        """How long each answer of a broker takes at least."""
        code = self._lib.rd_kafka_mock_broker_set_rtt(
            self._cluster, broker, milliseconds
        )
        assert code == 0, code


class BrokerErrors(Healing):
    """Requests of a kind fail; those left over are taken back.

    Args:
        cluster: Of mock brokers.
        codes: One a request, in turn.
        request: Its number in the protocol.
        times: How often all the codes.
    """

    def __init__(
        self,
        cluster: FaultyCluster,
        *codes: int,
        request: int = PRODUCE,
        times: int = 1,
    ) -> None:
        super().__init__(f"errors {codes}, {times} times")
        self._cluster, self._request = cluster, request
        self._codes = [*itertools.chain(*itertools.repeat(codes, times))]

    def _begin(self) -> None:
        self._cluster.push_errors(self._request, *self._codes)

    def _end(self) -> None:
        self._cluster.clear_errors(self._request)


class LeaderChanges(Repeated):
    """Leadership of a partition goes from mock broker to mock broker."""

    def __init__(
        self,
        cluster: FaultyCluster,
        topic: str,
        brokers: int,
        *,
        partition: int = 0,
        every_s: float = 3.0,
    ) -> None:
        super().__init__(
            f"leader change every {every_s:g} s",
            lambda n: cluster.set_leader(topic, partition, n % brokers + 1),
            every_s=every_s,
        )


def client_of(cluster: KafkaCluster) -> dict[str, Any]:
    """Properties of a client that goes past whatever stands before the brokers."""
    return {**cluster.client(), "bootstrap.servers": cluster.direct}
