"""The state of a namespace at one moment, as ``shifter status --json`` prints it.

The field names are a published contract (design, section 13).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import NamedTuple

import msgspec

from shifter import wiring
from shifter.config import Settings
from shifter.deadletter.journal import Journal
from shifter.deadletter.open_counts import OpenCounts
from shifter.errors import StoreError, StoreRefusedError
from shifter.fleet.endpoint_view import EndpointRow
from shifter.fleet.service_reports import AdmissionRow, ServiceRow
from shifter.fleet.view import (
    BudgetRow,
    CircuitRow,
    Fleet,
    QualityRow,
    WindowRow,
    look,
)
from shifter.model.lane import Lane, dead_letter_topic, parking_topic, parse_lane
from shifter.ports import (
    Clock,
    DelayTier,
    FleetStore,
    LaneDepth,
    LogAdmin,
    PresenceStore,
    WorkerReport,
)


class LaneRow(msgspec.Struct, frozen=True):
    """One lane.

    Attributes:
        queue: Queue name.
        priority: ``CRITICAL`` … ``LOW``.
        waiting: Records appended and not settled.
        delayed: Records that wait for their due time; ``None`` when not counted.
        running: Attempts running now; ``None`` when the state store is away.
        oldest_age_s: Seconds the oldest waiting record has waited.
        rate_per_s: Jobs ended a second; ``None`` when the state store is away.
        eta_s: Seconds until the lane is empty at that rate; ``None`` when not known.
        due: Records that are due and not settled: ``waiting``, and those of ``delayed``
            whose due time has come. The last second of a delay is not counted as delay
            where the log moves records in steps of a second (Kafka).
        due_backlog_s: Seconds of work that is due: ``due`` divided by the rate;
            ``None`` without a rate.
        tightest_deadline_s: Seconds until the earliest deadline of the first records
            that wait (`shifter.ports.LaneDepth`), below 0 once it has passed; ``None``
            where none of them has a deadline.
        partitions: Partitions of the lane's topic; ``None`` where a log has none.
    """

    queue: str
    priority: str
    waiting: int
    delayed: int | None
    running: int | None
    oldest_age_s: float | None
    rate_per_s: float | None
    eta_s: float | None
    due: int = 0
    due_backlog_s: float | None = None
    tightest_deadline_s: float | None = None
    partitions: int | None = None


class DeadLetterRow(msgspec.Struct, frozen=True):
    """How many dead letters are still to be handled.

    Attributes:
        queue: Queue name; of letters that were replayed too often, their topic.
        count: Those that no run has replayed, parked, discarded or edited.
    """

    queue: str
    count: int


class DelayTierRow(msgspec.Struct, frozen=True):
    """Jobs that wait for their due time in one place of the log.

    Attributes:
        tier_s: Seconds that a record stays there before it is moved on; ``None`` for
            the only place of a log that has no tiers (a file).
        delayed: How many there are.
        next_due_s: Seconds until the first one is due; below 0 once it is.
    """

    tier_s: int | None
    delayed: int
    next_due_s: float


class Overview(msgspec.Struct, frozen=True):
    """The state of a namespace, as ``shifter status`` shows it.

    Attributes:
        as_of_ms: When it was read, epoch milliseconds.
        lanes: By queue, then most urgent first.
        dead_letters: By queue; of parking topics only those that hold some.
        circuits: Dependencies; empty when the state store is away.
        budgets: Retry budgets of the same dependencies.
        quality: Of the fleet; ``None`` when the state store is away.
        workers: Live worker processes.
        admission: What services shed; ``None`` when the state store is away.
        windows: Overrides of execution windows.
        endpoints: Endpoints of dependencies; empty when the state store is away.
        services: Live service processes; empty when the state store is away.
        delay_tiers: Delayed jobs by tier, the shortest first, without empty tiers;
            ``None`` where counting them took too long.
    """

    as_of_ms: int
    lanes: list[LaneRow]
    dead_letters: list[DeadLetterRow]
    circuits: list[CircuitRow]
    budgets: list[BudgetRow]
    workers: list[WorkerReport]
    quality: QualityRow | None = None
    admission: AdmissionRow | None = None
    windows: list[WindowRow] = []
    endpoints: list[EndpointRow] = []
    services: list[ServiceRow] = []
    delay_tiers: list[DelayTierRow] | None = None


class StatusSources(NamedTuple):
    """The stores that an overview is read from.

    Attributes:
        namespace: Of the lanes.
        admin: Reads the log.
        presence: Reads live workers; ``None`` without a state store.
        fleet: Reads circuits and budgets; ``None`` without a state store.
        clock: Wall clock.
        letters: Counts dead letters; each overview reads only new entries of the
            journal, and counts only topics that have changed.
        warn: Called with each part that could not be read, and why.
    """

    namespace: str
    admin: LogAdmin
    presence: PresenceStore | None
    fleet: FleetStore | None
    clock: Clock
    letters: OpenCounts
    warn: Callable[[str], None]


@contextlib.asynccontextmanager
async def open_sources(
    settings: Settings, clock: Clock, warn: Callable[[str], None]
) -> AsyncGenerator[StatusSources]:
    """Open the log's and the state store's readers, and close them at the end.

    Args:
        settings: Name the log, and the state store if there is one.
        clock: Wall clock.
        warn: Called with each part of an overview that could not be read, and why.

    Raises:
        StoreUnavailableError, StoreRefusedError: The log does not answer.
    """
    presence = fleet = None
    if settings.state_url is not None:
        presence, fleet = wiring.open_presence(settings), wiring.open_fleet(settings)
    try:
        async with wiring.opened_admin(settings) as admin:
            yield StatusSources(
                settings.namespace, admin, presence, fleet, clock, OpenCounts(), warn
            )
    finally:
        if fleet is not None:
            await fleet.close()
        if presence is not None:
            await presence.close()


async def read_overview(sources: StatusSources) -> Overview:
    """Read everything once.

    While the state store is away, its columns are empty and the rest is read.

    Raises:
        StoreError: The log does not answer.
    """
    topics = await sources.admin.topics()
    lanes = lanes_of(sources.namespace, topics)
    names = [lane.name for lane in lanes]
    depths = await sources.admin.depths(names)
    tiers = await sources.admin.delay_tiers(names)
    workers = await _workers(sources)
    fleet = await _fleet(sources)
    now_ms = sources.clock.epoch_ms()
    return Overview(
        as_of_ms=now_ms,
        lanes=lane_rows(lanes, depths, workers, now_ms),
        dead_letters=await _dead_letters(sources, topics),
        circuits=[] if fleet is None else fleet.circuits,
        budgets=[] if fleet is None else fleet.budgets,
        workers=workers or [],
        quality=None if fleet is None else fleet.quality,
        admission=None if fleet is None else fleet.admission,
        windows=[] if fleet is None else fleet.windows,
        endpoints=[] if fleet is None else fleet.endpoints,
        services=[] if fleet is None else fleet.services,
        delay_tiers=None
        if tiers is None
        else [_tier_row(tier, now_ms) for tier in tiers],
    )


def lane_rows(
    lanes: Sequence[Lane],
    depths: Sequence[LaneDepth],
    workers: list[WorkerReport] | None,
    now_ms: int,
) -> list[LaneRow]:
    """What is known of lanes.

    Args:
        lanes: The lanes.
        depths: What waits on each of them.
        workers: Live workers; ``None`` while the state store is away.
        now_ms: Wall clock.

    Pure.
    """
    work = _work(workers)
    return [
        _row(lane, depth, work, now_ms)
        for lane, depth in zip(lanes, depths, strict=True)
    ]


def lanes_of(namespace: str, topics: Sequence[str]) -> list[Lane]:
    """The lanes of a namespace, by queue, then most urgent first. Pure."""
    lanes = [lane for topic in topics if (lane := parse_lane(topic)) is not None]
    own = [lane for lane in lanes if lane.namespace == namespace]
    return sorted(own, key=lambda lane: (lane.queue, -lane.priority.rank))


async def _dead_letters(
    sources: StatusSources, topics: Sequence[str]
) -> list[DeadLetterRow]:
    journal = Journal(sources.admin, sources.namespace)
    try:
        await journal.load(sources.letters.history)
    except StoreRefusedError as error:
        sources.warn(f"handled dead letters are counted too: {error}")
    known, names = set(topics), dict[str, str]()
    for queue, topic in _dead_letter_topics(sources.namespace, topics):
        names[topic] = queue
        if (parking := parking_topic(topic)) in known:
            names[parking] = parking
    counts = await sources.letters.count(sources.admin, list(names))
    return [
        DeadLetterRow(name, counts[topic])
        for topic, name in names.items()
        if counts[topic] or topic != name
    ]


def _dead_letter_topics(namespace: str, topics: Sequence[str]) -> list[tuple[str, str]]:
    queues = [topic.split(".")[1] for topic in topics if topic.count(".") == 2]
    known = set(topics)
    named = [(queue, dead_letter_topic(namespace, queue)) for queue in set(queues)]
    return sorted(pair for pair in named if pair[1] in known)


async def _workers(sources: StatusSources) -> list[WorkerReport] | None:
    if sources.presence is None:
        return None
    try:
        return await sources.presence.workers()
    except StoreError as error:
        sources.warn(f"workers are not shown: {error}")
        return None


async def _fleet(sources: StatusSources) -> Fleet | None:
    if sources.fleet is None:
        return None
    try:
        return await look(sources.fleet, wiring.new_worker_id())
    except StoreError as error:
        sources.warn(f"circuits are not shown: {error}")
        return None


class _Work(NamedTuple):
    """What all workers together do, by the name of a lane."""

    running: dict[str, int]
    rate_per_s: dict[str, float]


def _work(workers: list[WorkerReport] | None) -> _Work | None:
    """Summed up once: each of a thousand lanes asks for it."""
    if workers is None:
        return None
    work = _Work({}, {})
    for worker in workers:
        for name, count in worker.running.items():
            work.running[name] = work.running.get(name, 0) + count
        for name, rate in worker.rate_per_s.items():
            work.rate_per_s[name] = work.rate_per_s.get(name, 0.0) + rate
    return work


def _row(lane: Lane, depth: LaneDepth, work: _Work | None, now_ms: int) -> LaneRow:
    running = rate_per_s = None
    if work is not None:
        running = work.running.get(lane.name, 0)
        rate_per_s = work.rate_per_s.get(lane.name, 0.0)
    oldest_age_s = None
    if depth.oldest_ms is not None:
        oldest_age_s = max(0.0, (now_ms - depth.oldest_ms) / 1_000)
    return LaneRow(
        queue=lane.queue,
        priority=lane.priority.value,
        waiting=depth.waiting,
        delayed=depth.delayed,
        running=running,
        oldest_age_s=oldest_age_s,
        rate_per_s=None if rate_per_s is None else round(rate_per_s, 3),
        eta_s=_seconds_of(depth.waiting, rate_per_s),
        due=(due := depth.waiting + (depth.overdue or 0)),
        due_backlog_s=_seconds_of(due, rate_per_s),
        tightest_deadline_s=None
        if depth.deadline_ms is None
        else round((depth.deadline_ms - now_ms) / 1_000, 3),
        partitions=depth.partitions,
    )


def _tier_row(tier: DelayTier, now_ms: int) -> DelayTierRow:
    next_due_s = round((tier.next_due_ms - now_ms) / 1_000, 3)
    return DelayTierRow(tier.tier_s, tier.records, next_due_s)


def _seconds_of(records: int, rate_per_s: float | None) -> float | None:
    return round(records / rate_per_s, 1) if rate_per_s else None
