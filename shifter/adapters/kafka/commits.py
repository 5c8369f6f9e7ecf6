"""What groups committed, asked without joining them. Everything here blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.kafka.errors import LastError, make_client
from shifter.ports import Clock

# How long a group's commits are asked for, and in slices of what length: the reason of
# a refusal comes between two of them.
_ASK_S: Final = 20.0
_SLICE_S: Final = 1.0
_KEPT_OUT: Final = "GROUP_AUTHORIZATION_FAILED"


class CommitReader:
    """Reads what groups committed, by a consumer of each that never joins its group.

    The administrative client has a call for this, and it ends the process: while a
    group's coordinator is looked up it follows a pointer that only consumers have
    (librdkafka issue 5040, seen with 2.16). Every method blocks; the consumers are kept
    until `close`.

    Args:
        config: The cluster.
        last: Called with the clients' errors.
        clock: For the time limit.
    """

    def __init__(self, config: KafkaConfig, last: LastError, clock: Clock) -> None:
        self._config, self._last, self._clock = config, last, clock
        self._consumers: dict[str, Consumer] = {}

    def ask(
        self, of_group: Mapping[str, Sequence[TopicPartition]]
    ) -> dict[str, list[TopicPartition]]:
        """Offset and metadata of each group's partitions; all groups at once.

        Raises:
            KafkaException: The first that was not answered, or a partition's error.
        """
        for group in of_group:
            if group not in self._consumers:
                config = self._config.consumer_config(group)
                self._consumers[group] = make_client(Consumer, config, self._last)
        # Each call blocks for its own group; a thread a group asks all at once.
        with ThreadPoolExecutor(max(1, len(of_group))) as pool:
            answers = pool.map(self._ask, of_group, of_group.values())
            return dict(zip(of_group, answers, strict=True))

    def _ask(
        self, group: str, wanted: Sequence[TopicPartition]
    ) -> list[TopicPartition]:
        consumer, until = self._consumers[group], self._clock.monotonic() + _ASK_S
        while True:
            try:
                found = consumer.committed(list(wanted), timeout=_SLICE_S)
            except KafkaException:
                # The reason reaches only a caller of `poll`.
                event = consumer.poll(0)
                error = None if event is None else event.error()
                if error is not None and error.name() == _KEPT_OUT:
                    raise KafkaException(error) from None
                if self._clock.monotonic() > until:
                    raise
                continue
            for at in found:
                if at.error is not None:
                    raise KafkaException(at.error)
            return found

    def close(self) -> None:
        """Free the consumers."""
        while self._consumers:
            self._consumers.popitem()[1].close()
