"""The ports: protocols of what this package needs from logs, stores and clocks.

Each port has an in-memory adapter in `shifter.adapters.memory` and, where users may
write an adapter, a public conformance suite in `shifter.testing.conformance`.
"""

from __future__ import annotations

from shifter.ports.clock import (
    Clock,
    sleep_or_wake,
)
from shifter.ports.fleet import (
    FleetStore,
)
from shifter.ports.log import (
    AppendAnswer,
    Appended,
    AtomicLog,
    DelayMover,
    Delivery,
    LaneDepth,
    LaneFeed,
    LaneLog,
    LogAdmin,
    LostRange,
    Record,
    Refused,
    Rushed,
    Span,
    Spans,
    TopicChange,
    TopicSpec,
    Unknown,
    widening,
)
from shifter.ports.reading import understood
from shifter.ports.spool import (
    NUMBER_SHIFT,
    Spool,
    SpoolDepth,
    SpoolEntry,
)
from shifter.ports.state import (
    ClaimStore,
    PresenceStore,
    WorkerReport,
)

__all__ = [
    "NUMBER_SHIFT",
    "AppendAnswer",
    "Appended",
    "AtomicLog",
    "ClaimStore",
    "Clock",
    "DelayMover",
    "Delivery",
    "FleetStore",
    "LaneDepth",
    "LaneFeed",
    "LaneLog",
    "LogAdmin",
    "LostRange",
    "PresenceStore",
    "Record",
    "Refused",
    "Rushed",
    "Span",
    "Spans",
    "Spool",
    "SpoolDepth",
    "SpoolEntry",
    "TopicChange",
    "TopicSpec",
    "Unknown",
    "WorkerReport",
    "sleep_or_wake",
    "understood",
    "widening",
]
