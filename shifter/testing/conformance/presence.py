"""What every presence store must do.

Derive from `PresenceStoreConformance` and give it the fixture ``presence_bench``, a
`PresenceBench`.
"""

from __future__ import annotations

from typing import Final, Protocol

from shifter.ports import PresenceStore, WorkerReport

KEEP_MS: Final = 10_000


class PresenceBench(Protocol):
    """What the suite needs of the store under test."""

    def open(self) -> PresenceStore:
        """Another process's handle to the same reports; the bench closes it."""

    async def advance(self, ms: int) -> None:
        """Let the store's clock go on, > 0."""


def report_of(worker_id: str, *, reported_ms: int = 2) -> WorkerReport:
    """A report with something in every field."""
    return WorkerReport(
        worker_id=worker_id,
        host="h1",
        pid=42,
        started_ms=1,
        reported_ms=reported_ms,
        concurrency=100,
        running={"shop.mail.low": 3},
        rate_per_s={"shop.mail.low": 12.5},
    )


class PresenceStoreConformance:
    """Reports appear, are replaced, and fade."""

    async def test_nobody_lives_at_first(self, presence_bench: PresenceBench) -> None:
        assert await presence_bench.open().workers() == []

    async def test_reports_come_back_whole_and_by_worker_id(
        self, presence_bench: PresenceBench
    ) -> None:
        store, other = presence_bench.open(), presence_bench.open()
        names = ["w2", "w1", "é ;{}", "x" * 300]
        for name in names:
            await store.report(report_of(name), keep_ms=KEEP_MS)

        assert await other.workers() == [report_of(name) for name in sorted(names)]

    async def test_a_newer_report_replaces_the_older(
        self, presence_bench: PresenceBench
    ) -> None:
        store = presence_bench.open()
        await store.report(report_of("w1", reported_ms=2), keep_ms=KEEP_MS)
        await store.report(report_of("w1", reported_ms=9), keep_ms=KEEP_MS)

        assert await store.workers() == [report_of("w1", reported_ms=9)]

    async def test_a_report_fades_unless_it_is_renewed(
        self, presence_bench: PresenceBench
    ) -> None:
        store = presence_bench.open()
        await store.report(report_of("silent"), keep_ms=KEEP_MS)
        await store.report(report_of("alive"), keep_ms=KEEP_MS)
        await presence_bench.advance(KEEP_MS - 5_000)
        await store.report(report_of("alive"), keep_ms=KEEP_MS)
        assert len(await store.workers()) == 2

        await presence_bench.advance(5_000)

        assert [report.worker_id for report in await store.workers()] == ["alive"]
        await presence_bench.advance(KEEP_MS)
        assert await store.workers() == []

    async def test_a_long_report_outlives_a_later_short_one(
        self, presence_bench: PresenceBench
    ) -> None:
        store = presence_bench.open()
        await store.report(report_of("long"), keep_ms=10 * KEEP_MS)
        await store.report(report_of("short"), keep_ms=KEEP_MS)

        await presence_bench.advance(2 * KEEP_MS)

        assert [report.worker_id for report in await store.workers()] == ["long"]

    async def test_who_leaves_is_gone_at_once_and_leaving_twice_is_harmless(
        self, presence_bench: PresenceBench
    ) -> None:
        store = presence_bench.open()
        await store.report(report_of("w1"), keep_ms=KEEP_MS)
        await store.report(report_of("w2"), keep_ms=KEEP_MS)

        await store.withdraw("w1")
        await store.withdraw("w1")

        assert [report.worker_id for report in await store.workers()] == ["w2"]

    async def test_a_report_outlives_the_handle_that_made_it_and_closing_is_repeatable(
        self, presence_bench: PresenceBench
    ) -> None:
        store, other = presence_bench.open(), presence_bench.open()
        await store.report(report_of("w1"), keep_ms=KEEP_MS)

        await store.close()
        await store.close()

        assert await other.workers() == [report_of("w1")]
