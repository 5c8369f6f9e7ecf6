"""The ports: protocols of what this package needs from logs, stores and clocks.

Each port has an in-memory adapter in `shifter.adapters.memory` and, where users may
write an adapter, a public conformance suite in `shifter.testing.conformance`.
"""

from __future__ import annotations

from shifter.ports.clock import Clock, sleep_or_wake
from shifter.ports.log import (
    AtomicLog,
    DelayMover,
    Delivery,
    FeedCounts,
    LaneFeed,
    LaneLog,
    LanePeek,
    LogAdmin,
    LostRange,
    Rushed,
    Span,
    Spans,
)
from shifter.ports.record import (
    ANY_PARTITION,
    APPENDED,
    AppendAnswer,
    Appended,
    Record,
    Refused,
    Unknown,
)
from shifter.ports.stores import (
    NUMBER_SHIFT,
    ClaimCalls,
    ClaimStore,
    FleetStore,
    PresenceStore,
    SlowestJob,
    Spool,
    SpoolDepth,
    SpoolEntry,
    WorkerReport,
    decode_report,
    encode_report,
    understood,
)
from shifter.ports.topic import (
    HEAD,
    DelayTier,
    LaneDepth,
    TopicChange,
    TopicSpec,
    widening,
)

__all__ = [
    "ANY_PARTITION",
    "APPENDED",
    "HEAD",
    "NUMBER_SHIFT",
    "AppendAnswer",
    "Appended",
    "AtomicLog",
    "ClaimCalls",
    "ClaimStore",
    "Clock",
    "DelayMover",
    "DelayTier",
    "Delivery",
    "FeedCounts",
    "FleetStore",
    "LaneDepth",
    "LaneFeed",
    "LaneLog",
    "LanePeek",
    "LogAdmin",
    "LostRange",
    "PresenceStore",
    "Record",
    "Refused",
    "Rushed",
    "SlowestJob",
    "Span",
    "Spans",
    "Spool",
    "SpoolDepth",
    "SpoolEntry",
    "TopicChange",
    "TopicSpec",
    "Unknown",
    "WorkerReport",
    "decode_report",
    "encode_report",
    "sleep_or_wake",
    "understood",
    "widening",
]
