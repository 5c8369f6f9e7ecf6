"""Administration of the log on Kafka: what waits, what is kept, which topics exist.

librdkafka's calls block, so each runs on a thread of its own while the loop goes on;
one at a time, since they share a client and a reader.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final, TypeVar

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.kafka.depth import DepthGauge
from shifter.adapters.kafka.errors import LastError, make_client, store_error
from shifter.adapters.kafka.peek import peek
from shifter.adapters.kafka.reader import TopicReader, delivery
from shifter.adapters.kafka.topics import TopicKeeper
from shifter.adapters.system import SystemClock
from shifter.ports import (
    Clock,
    DelayTier,
    Delivery,
    LaneDepth,
    LanePeek,
    Span,
    Spans,
    TopicChange,
    TopicSpec,
)
from shifter.runtime.threads import in_thread

_Answer = TypeVar("_Answer")
# A wrong password is reported after 0.35 s, a wrong certificate after 0.02 s (measured
# on 4.3): the slices are longer than that, and the whole is what an operator waits.
_PROBE_S: Final = 5.0
_SLICE_S: Final = 0.5


class KafkaLogAdmin:
    """`shifter.ports.LogAdmin` on Kafka.

    Args:
        config: The cluster.
        namespace: Owner of the delay topics that are counted.
        group: The workers' group, ``<namespace>.workers`` unless given; the group of a
            lane is this with the lane's priority behind a dot.

    Raises:
        ConfigError: librdkafka refuses a property.
    """

    def __init__(
        self, config: KafkaConfig, namespace: str, group: str | None = None
    ) -> None:
        self._config, self._clock = config, SystemClock()
        self._reader_group = KafkaConfig.group(namespace, "admin")
        last = LastError()
        # A client that the garbage collector ends may do so on a thread of its own,
        # while the interpreter shuts down.
        self._held = contextlib.ExitStack()
        client = self._held.enter_context(
            make_client(AdminClient, config.admin_config(), last)
        )
        self._keeper = TopicKeeper(client, last, self._clock)
        group = KafkaConfig.group(namespace, "workers") if group is None else group
        self._gauge = DepthGauge(self._keeper, config, namespace=namespace, group=group)
        self._held.callback(self._gauge.close)
        self._turn = asyncio.Lock()

    async def _call(self, function: Callable[..., _Answer], *args: object) -> _Answer:
        async with self._turn:
            return await in_thread(function, *args)

    async def depths(self, topics: Sequence[str]) -> list[LaneDepth]:
        """What waits on each lane, in the order asked; 0 for a topic not there.

        Raises:
            StoreUnavailableError, StoreRefusedError: With the client's last error.
        """
        return await self._call(self._gauge.measure, topics)

    async def count(self, topic: str) -> int:
        """Records kept in a topic; 0 for a topic not there.

        Raises:
            StoreUnavailableError, StoreRefusedError: With the client's last error.
        """
        spans = await self._call(self._gauge.spans, [topic])
        return sum(span.end - span.first for span in spans.values())

    async def diff(self, specs: Sequence[TopicSpec]) -> list[TopicChange]:
        """What `apply` would change.

        Raises:
            StoreUnavailableError, StoreRefusedError: With the client's last error.
        """
        return await self._call(self._keeper.diff, specs)

    async def apply(self, specs: Sequence[TopicSpec]) -> list[TopicChange]:
        """Create and widen topics; returns what was done, warnings among it.

        Raises:
            StoreUnavailableError, StoreRefusedError: A step failed; the next `apply`
                goes on from there.
        """
        return await self._call(self._keeper.apply, specs)

    async def topics(self) -> list[str]:
        """Names of all visible topics but Kafka's own, ascending.

        Raises:
            StoreUnavailableError, StoreRefusedError: With the client's last error.
        """
        metadata = await self._call(self._keeper.metadata)
        return sorted(name for name in metadata.topics if not name.startswith("__"))

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Ids by topic, of those that exist; none of a broker before Kafka 2.8.

        Raises:
            StoreUnavailableError, StoreRefusedError: With the client's last error.
        """
        return await self._call(self._keeper.ids, topics)

    async def kept(self, topics: Sequence[str]) -> dict[str, dict[int, Span]]:
        """The offsets topics hold now, in one question; absent ones are left out.

        Raises:
            StoreUnavailableError, StoreRefusedError: With the client's last error.
        """
        found: dict[str, dict[int, Span]] = {}
        for (topic, part), span in (
            await self._call(self._gauge.spans, topics)
        ).items():
            found.setdefault(topic, {})[part] = span
        return found

    async def spans(
        self, topic: str, *, since_ms: int | None = None, until_ms: int | None = None
    ) -> dict[int, Span]:
        """The offsets a topic holds now; empty for a topic not there.

        Raises:
            StoreUnavailableError, StoreRefusedError: With the client's last error.
        """
        return await self._call(self._gauge.between, topic, since_ms, until_ms)

    async def scan(
        self, topic: str, spans: Spans | None = None
    ) -> AsyncGenerator[list[Delivery]]:
        """Records of a topic, in batches, each partition in order.

        Raises:
            StoreUnavailableError, StoreRefusedError: With the client's last error.
        """
        if spans is None:
            spans = await self.spans(topic)
        if not any(span.first < span.end for span in spans.values()):
            return
        reader = TopicReader(self._config, self._reader_group, self._clock)
        try:
            batches = reader.read({(topic, at): span for at, span in spans.items()})
            while True:
                batch = await in_thread(next, batches, None)
                if batch is None:
                    return
                if batch:
                    yield [delivery(message) for message in batch]
        finally:
            await in_thread(reader.close)

    async def peek(self, topic: str, most: int) -> LanePeek:
        """The first records of a lane; joins no group and commits nothing.

        Raises:
            StoreUnavailableError, StoreRefusedError: With the client's last error.
        """
        return await self._call(peek, self._gauge, topic, most, self._clock)

    async def delay_tiers(self, topics: Sequence[str]) -> list[DelayTier] | None:
        """The delayed records of lanes by tier, as the last `depths` counted them.

        Raises:
            StoreUnavailableError, StoreRefusedError: With the client's last error.
        """
        return await self._call(self._gauge.delay_tiers, topics)

    async def ping(self) -> str:
        """One line that describes the cluster.

        Raises:
            StoreUnavailableError, StoreRefusedError: With the client's last error.
        """
        return await in_thread(
            probe, self._config, timeout_s=_PROBE_S, clock=self._clock
        )

    async def close(self) -> None:
        """Free everything; closing twice is harmless."""
        await self._call(self._held.close)


def probe(config: KafkaConfig, *, timeout_s: float, clock: Clock) -> str:
    """One line that describes the cluster, by a client made for this one question.

    Wrong credentials and certificates make a call time out without a reason; the reason
    comes to ``error_cb``. So the call is made in short slices, and ends as soon as
    ``error_cb`` names a cause. Blocks for at most about the timeout.

    Args:
        config: The cluster.
        timeout_s: Seconds, > 0.
        clock: For the timeout.

    Raises:
        ConfigError: librdkafka refuses a property.
        StoreRefusedError: The cluster does not let us in.
        StoreUnavailableError: No broker answered in time.
    """
    last, until = LastError(), clock.monotonic() + timeout_s
    with contextlib.closing(
        make_client(Producer, config.admin_config(), last)
    ) as client:
        while True:
            left_s = until - clock.monotonic()
            try:
                found = client.list_topics(timeout=max(0.05, min(left_s, _SLICE_S)))
            except KafkaException as exc:
                # Calls `error_cb`.
                client.poll(0)
                if last.is_cause or clock.monotonic() >= until:
                    raise store_error(exc, "connect", last) from exc
            else:
                brokers = len(found.brokers)
                count = f"{brokers} broker{'' if brokers == 1 else 's'}"
                return (
                    f"kafka at {config.bootstrap}: {count}, cluster {found.cluster_id}"
                )
