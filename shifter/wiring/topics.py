"""The topics that an app needs."""

from __future__ import annotations

from collections.abc import Iterable

from shifter.config import Settings
from shifter.model.lane import Lane, Priority, dead_letter_topic, delay_topic
from shifter.policy.delivery.delay import TIERS_S
from shifter.ports import TopicSpec
from shifter.wiring.log import is_embedded


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
    partitions = settings.partitions
    if is_embedded(settings):
        partitions = 1
    else:
        names += [delay_topic(namespace, tier_s) for tier_s in TIERS_S]
    limits = partitions, settings.retention_ms, settings.max_letter_bytes
    found = [TopicSpec(name, *limits) for name in names + letters]
    return found + letter_specs(namespace, letters, limits[-1])
