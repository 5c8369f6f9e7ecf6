"""What every presence store must do.

Derive from `PresenceStoreConformance` and give it the fixture ``presence_bench``, a
`PresenceBench`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final, Protocol

import pytest

from shifter.ports import PresenceStore, SlowestJob, WorkerReport

KEEP_MS: Final = 10_000


class PresenceBench(Protocol):
    """Access of the suite to the store under test."""

    def open(self) -> PresenceStore:
        """Another process's handle to the same reports; the bench closes it."""

    async def advance(self, ms: int) -> None:
        """Move the store's clock forward, > 0."""


def report_of(worker_id: str, *, reported_ms: int = 2) -> WorkerReport:
    """A report with a value in every field."""
    return WorkerReport(
        worker_id=worker_id,
        host="h1",
        pid=42,
        started_ms=1,
        reported_ms=reported_ms,
        concurrency=100,
        running={"shop.mail.low": 3},
        rate_per_s={"shop.mail.low": 12.5},
        uses={"send": "mailer"},
        version="0.5.0",
        app_version="2026.11.3",
        slowest=SlowestJob("j1", "send", 1.5),
        progress_ms=1,
        is_draining=True,
        crons={"digest": "0 3 * * *"},
    )


class PresenceStoreConformance:
    """Reports appear, are replaced, and expire; needs ``presence_bench``."""

    bench: PresenceBench

    @pytest.fixture(autouse=True)
    def _take_bench(self, presence_bench: PresenceBench) -> None:
        self.bench = presence_bench

    @cached_property
    def store(self) -> PresenceStore:
        """The handle of a test that needs one only."""
        return self.bench.open()

    async def _ids(self) -> list[str]:
        return [report.worker_id for report in await self.store.workers()]

    async def test_a_new_store_has_no_workers(self) -> None:
        assert await self.bench.open().workers() == []

    async def test_reports_come_back_whole_and_by_worker_id(self) -> None:
        store, other = self.bench.open(), self.bench.open()
        names = ["w2", "w1", "é ;{}", "x" * 300]
        for name in names:
            await store.report(report_of(name), keep_ms=KEEP_MS)

        assert await other.workers() == [report_of(name) for name in sorted(names)]

    async def test_a_newer_report_replaces_the_older(self) -> None:
        await self.store.report(report_of("w1", reported_ms=2), keep_ms=KEEP_MS)
        await self.store.report(report_of("w1", reported_ms=9), keep_ms=KEEP_MS)

        assert await self.store.workers() == [report_of("w1", reported_ms=9)]

    async def test_a_report_expires_unless_it_is_renewed(self) -> None:
        await self.store.report(report_of("silent"), keep_ms=KEEP_MS)
        await self.store.report(report_of("alive"), keep_ms=KEEP_MS)
        await self.bench.advance(KEEP_MS - 5_000)
        await self.store.report(report_of("alive"), keep_ms=KEEP_MS)
        assert len(await self.store.workers()) == 2

        await self.bench.advance(5_000)

        assert await self._ids() == ["alive"]
        await self.bench.advance(KEEP_MS)
        assert await self.store.workers() == []

    async def test_a_long_report_outlives_a_later_short_one(self) -> None:
        await self.store.report(report_of("long"), keep_ms=10 * KEEP_MS)
        await self.store.report(report_of("short"), keep_ms=KEEP_MS)

        await self.bench.advance(2 * KEEP_MS)

        assert await self._ids() == ["long"]

    async def test_a_worker_may_withdraw_twice_and_is_gone_at_once(self) -> None:
        await self.store.report(report_of("w1"), keep_ms=KEEP_MS)
        await self.store.report(report_of("w2"), keep_ms=KEEP_MS)

        await self.store.withdraw("w1")
        await self.store.withdraw("w1")

        assert await self._ids() == ["w2"]

    async def test_a_report_outlives_its_handle_which_may_be_closed_twice(self) -> None:
        store, other = self.bench.open(), self.bench.open()
        await store.report(report_of("w1"), keep_ms=KEEP_MS)

        await store.close()
        await store.close()

        assert await other.workers() == [report_of("w1")]
