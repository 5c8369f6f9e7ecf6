"""The start-up check: is the cluster there, and does it let us in?

Wrong credentials and certificates make a call time out without a word; the word is in
``error_cb``. So the check asks in short slices, listens in between, and stops as soon
as a cause is heard.
"""

from __future__ import annotations

import contextlib
from typing import Final

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin._metadata import ClusterMetadata

from shifter.adapters.kafka.errors import LastError, make_client, store_error
from shifter.adapters.kafka.url import KafkaConfig
from shifter.ports import Clock

_SLICE_S: Final = 0.5


def probe(config: KafkaConfig, *, timeout_s: float, clock: Clock) -> str:
    """One line that describes the cluster. Blocks for at most about the timeout.

    Args:
        config: The cluster.
        timeout_s: Seconds, > 0.
        clock: For the timeout.

    Raises:
        ConfigError: librdkafka refuses a property.
        StoreRefusedError: The cluster does not let us in.
        StoreUnavailableError: Nobody answered in time.
    """
    metadata = fetch_metadata(config, timeout_s=timeout_s, clock=clock)
    brokers = len(metadata.brokers)
    plural = "" if brokers == 1 else "s"
    where = f"kafka at {config.bootstrap}: {brokers} broker{plural}"
    return f"{where}, cluster {metadata.cluster_id}"


def fetch_metadata(
    config: KafkaConfig, *, timeout_s: float, clock: Clock
) -> ClusterMetadata:
    """The cluster's topics and brokers, by a client made for this one question.

    Raises:
        ConfigError, StoreRefusedError, StoreUnavailableError: As `probe`.
    """
    last = LastError()
    until = clock.monotonic() + timeout_s
    with contextlib.closing(
        make_client(Producer, {**config.admin_config(), "error_cb": last})
    ) as client:
        while True:
            left_s = until - clock.monotonic()
            try:
                found: ClusterMetadata = client.list_topics(
                    timeout=max(0.05, min(left_s, _SLICE_S))
                )
            except KafkaException as exc:
                client.poll(0)
                if last.is_cause or clock.monotonic() >= until:
                    raise store_error(exc, "connect", last) from exc
            else:
                return found
