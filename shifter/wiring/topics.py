"""The topics that an app needs, and how large their records may be."""

from __future__ import annotations

from collections.abc import Iterable

from shifter.config import Settings
from shifter.model.lane import Lane, dead_letter_topic, delay_topic
from shifter.model.priority import Priority
from shifter.policy.delivery.delay import TIERS_S
from shifter.ports import TopicSpec
from shifter.wiring.files import is_sqlite

_HEADROOM_BYTES = 100_000
"""What headers, and the diagnostics of a dead letter, add to the largest payload."""


def topic_specs(settings: Settings, queues: Iterable[str]) -> list[TopicSpec]:
    """Every topic an app with these queues needs."""
    from shifter.deadletter.journal import letter_specs  # noqa: PLC0415

    namespace = settings.namespace
    names = [
        Lane(namespace, queue, priority).name
        for queue in sorted(queues)
        for priority in Priority
    ]
    letters = [dead_letter_topic(namespace, queue) for queue in sorted(queues)]
    is_embedded = is_sqlite(settings.log_url)
    if not is_embedded:
        names += [delay_topic(namespace, tier_s) for tier_s in TIERS_S]
    partitions = 1 if is_embedded else settings.partitions
    limits = partitions, settings.retention_ms, largest_record_bytes(settings)
    found = [TopicSpec(name, *limits) for name in names + letters]
    return found + letter_specs(namespace, letters, limits[-1])


def max_record_bytes(settings: Settings) -> int:
    """The largest record a lane takes, with room for a dead letter's headers."""
    return settings.max_payload_bytes + _HEADROOM_BYTES


def largest_record_bytes(settings: Settings) -> int:
    """The largest record of any topic: a dead letter is larger than its source."""
    return max_record_bytes(settings) + _HEADROOM_BYTES
