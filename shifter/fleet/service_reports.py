"""What services report about themselves, and what operators see of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, TypeAlias

import msgspec

from shifter.policy.protection.budget import URGENT_FIRST
from shifter.wire.untrusted import Count, InstantMs, printable

_NAME_CHARS: Final = 200
_VERSION_CHARS: Final = 64

PriorityCounts: TypeAlias = tuple[Count, Count, Count, Count]
"""Counts by priority, most urgent first."""

NO_COUNTS: Final = (0, 0, 0, 0)


class RecentAnswers(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a service answered within the last minute, each by priority.

    Attributes:
        offered: Calls of submit, and requests.
        ran: Those that ran in the service.
        deferred: Those that were put on a lane.
        degraded: Those that got a cheaper answer.
        shed: Those that were refused.
    """

    offered: PriorityCounts = NO_COUNTS
    ran: PriorityCounts = NO_COUNTS
    deferred: PriorityCounts = NO_COUNTS
    degraded: PriorityCounts = NO_COUNTS
    shed: PriorityCounts = NO_COUNTS


class ServiceReport(msgspec.Struct, array_like=True, frozen=True):
    """What a service reports about itself; a worker leaves it empty.

    Attributes:
        started_ms: When it began, epoch milliseconds; 0 if it is not given.
        version: The version of its app; empty if it has none.
        last_minute: What it answered lately.
        shedding_ms: Since when it sheds, with pauses of less than a minute, epoch
            milliseconds; 0 while it has shed nothing for a minute.
    """

    started_ms: InstantMs = 0
    version: Annotated[str, msgspec.Meta(max_length=_VERSION_CHARS)] = ""
    last_minute: RecentAnswers = RecentAnswers()
    shedding_ms: InstantMs = 0


class FlowRow(msgspec.Struct, frozen=True):
    """What all services answered to one priority within the last minute.

    Attributes:
        priority: ``CRITICAL`` … ``LOW``.
        offered: Calls of submit, and requests.
        ran: Those that ran in a service.
        deferred: Those that were put on a lane.
        degraded: Those that got a cheaper answer.
        shed: Those that were refused.
    """

    priority: str
    offered: int
    ran: int
    deferred: int
    degraded: int
    shed: int


class AdmissionRow(msgspec.Struct, frozen=True):
    """What services refused since they began, and what they answered lately.

    Attributes:
        shed: Jobs shed, by priority; those of none are left out.
        would_shed: The same in the dark.
        last_minute: What was answered within the last minute, by priority; those of
            which nothing was offered are left out.
        shedding_ms: Since when a service sheds, epoch milliseconds; ``None`` while
            none has shed for a minute.
    """

    shed: dict[str, int]
    would_shed: dict[str, int]
    last_minute: list[FlowRow] = []
    shedding_ms: int | None = None


class ServiceRow(msgspec.Struct, frozen=True):
    """One service process.

    Attributes:
        process: Its name, unique per start.
        started_ms: When it began, epoch milliseconds.
        version: The version of its app; empty if it has none.
    """

    process: str
    started_ms: int
    version: str


def admission_row(
    shed: dict[str, int],
    would_shed: dict[str, int],
    reports: Mapping[str, ServiceReport],
    now_ms: int,
) -> AdmissionRow:
    """What services refused, and what they answered lately.

    Args:
        shed: Jobs shed since they began, by priority.
        would_shed: The same in the dark.
        reports: What processes report, by name.
        now_ms: The time, by the store's clock.
    """
    found = list(reports.values())
    since_ms = shedding_since_ms(found, now_ms)
    return AdmissionRow(shed, would_shed, flow_rows(found), since_ms)


def flow_rows(reports: Sequence[ServiceReport]) -> list[FlowRow]:
    """The sums of all services, a row for each priority that was offered, if any.

    >>> one = ServiceReport(last_minute=RecentAnswers((0, 3, 0, 0), (0, 1, 0, 0)))
    >>> flow_rows([one, one])[0].offered, len(flow_rows([ServiceReport()]))
    (6, 0)
    """
    recent = [one.last_minute for one in reports]
    return [
        FlowRow(
            priority.value,
            sum(one.offered[place] for one in recent),
            sum(one.ran[place] for one in recent),
            sum(one.deferred[place] for one in recent),
            sum(one.degraded[place] for one in recent),
            sum(one.shed[place] for one in recent),
        )
        for place, priority in enumerate(URGENT_FIRST)
        if any(one.offered[place] for one in recent)
    ]


def shedding_since_ms(reports: Sequence[ServiceReport], now_ms: int) -> int | None:
    """Since when a service sheds, at most now; ``None`` while none does."""
    began_ms = [one.shedding_ms for one in reports if one.shedding_ms]
    return min(*began_ms, now_ms) if began_ms else None


def service_rows(reports: Mapping[str, ServiceReport]) -> list[ServiceRow]:
    """The services among the processes, by name; their texts are made printable."""
    return [
        ServiceRow(
            printable(name, _NAME_CHARS),
            one.started_ms,
            printable(one.version, _VERSION_CHARS),
        )
        for name, one in sorted(reports.items())
        if one.started_ms
    ]
