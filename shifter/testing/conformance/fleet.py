"""What every fleet store must do.

Derive from `FleetStoreConformance` and give it the fixture ``fleet_bench``, a
`FleetBench`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final, Protocol

import pytest

from shifter.model.fleet import (
    MAX_CELL_BYTES,
    MAX_EVIDENCE_BYTES,
    BudgetWish,
    FleetLoad,
    FleetReport,
    Proposal,
    RateGrant,
    RateWish,
)
from shifter.policy.protection.budget import BudgetPolicy
from shifter.ports import FleetStore

KEEP_MS: Final = 60_000
_NO_WANTS: Final = (0, 0, 0, 0)


class FleetBench(Protocol):
    """Access of the suite to the store under test."""

    def open(self) -> FleetStore:
        """Another process's handle to the same fleet; the bench closes it."""

    async def forget(self) -> None:
        """Lose everything, as a store does that restarts empty."""


def fleet_report(process: str = "a", **changes: Any) -> FleetReport:
    """A report of a process, empty but for the given fields."""
    usual = {"evidence": b"", "is_alarmed": False, "version": 0, **changes}
    return FleetReport(process, usual.pop("load", 0.5), keep_ms=KEEP_MS, **usual)


def retries(*, firsts: int = 0, wants: tuple[int, int, int, int]) -> BudgetWish:
    """A wish to a budget of 100 retries, which earns one with five first attempts."""
    policy = BudgetPolicy()
    earned_milli = firsts * policy.deposit_milli
    return policy.wish("mailer", earned_milli, wants)


class FleetStoreConformance:
    """Reports, cells and shared budgets of a fleet; needs ``fleet_bench``."""

    bench: FleetBench

    @pytest.fixture(autouse=True)
    def _take_bench(self, fleet_bench: FleetBench) -> None:
        self.bench = fleet_bench

    @cached_property
    def store(self) -> FleetStore:
        """The handle of a test that needs one only."""
        return self.bench.open()

    async def test_a_cell_is_set_once_and_every_process_receives_it(self) -> None:
        """Of two proposals that expect the same value, one is accepted."""
        one, other = self.bench.open(), self.bench.open()
        first = await one.sync(fleet_report(proposals=[Proposal("c", b"", b"1")]))
        again = await other.sync(
            fleet_report("b", proposals=[Proposal("c", b"", b"2")])
        )

        assert list(first.accepted) == [True]
        assert list(again.accepted) == [False]
        assert again.cells == {"c": b"1"}

    async def test_a_process_at_the_current_version_receives_no_cells(self) -> None:
        """It receives all of them once one changes."""
        first = await self.store.sync(
            fleet_report(proposals=[Proposal("c", b"", b"1")])
        )
        known = await self.store.sync(fleet_report(version=first.version))
        change = [Proposal("c", b"1", b"2")]
        news = await self.store.sync(
            fleet_report("b", version=first.version, proposals=change)
        )

        assert known.cells is None
        assert known.version == first.version
        assert news.cells == {"c": b"2"}

    async def test_a_store_that_lost_its_data_has_another_version(self) -> None:
        """So its cells are sent again, and a proposal of a new cell is accepted."""
        first = await self.store.sync(
            fleet_report(proposals=[Proposal("c", b"", b"1")])
        )
        await self.bench.forget()
        after = await self.store.sync(fleet_report(version=first.version))
        again = await self.store.sync(
            fleet_report(proposals=[Proposal("c", b"", b"1")])
        )

        assert after.cells == {}
        assert list(again.accepted) == [True]

    async def test_a_cell_can_be_removed_and_has_a_bound(self) -> None:
        """An empty value removes a cell; a value beyond the bound is refused."""
        large = b"x" * (MAX_CELL_BYTES + 1)
        view = await self.store.sync(
            fleet_report(
                proposals=[
                    Proposal("c", b"", b"\x00\xff"),
                    Proposal("d", b"", large),
                    Proposal("e", b"", b""),
                ]
            )
        )
        gone = await self.store.sync(
            fleet_report(proposals=[Proposal("c", b"\x00\xff", b"")])
        )

        assert list(view.accepted) == [True, False, False]
        assert view.cells == {"c": b"\x00\xff"}
        assert list(gone.accepted) == [True]
        assert gone.cells == {}

    async def test_evidence_is_returned_while_a_process_is_alarmed(self) -> None:
        """The load is returned in every answer."""
        one, other = self.bench.open(), self.bench.open()
        await one.sync(fleet_report("a", evidence=b"\x00one", load=0.25))
        calm = await other.sync(fleet_report("b", evidence=b"two"))
        alarmed = await other.sync(fleet_report("b", evidence=b"two", is_alarmed=True))
        later = await one.sync(fleet_report("a", evidence=b"\x00one"))

        assert calm.evidence == {}
        assert calm.load == FleetLoad(2, 0.375, 0.5)
        assert alarmed.evidence == {"a": b"\x00one", "b": b"two"}
        assert later.evidence == alarmed.evidence

    async def test_each_live_process_has_a_place_by_its_id(self) -> None:
        """One that only reads has none."""
        first = [
            await self.store.sync(fleet_report(process)) for process in ("b", "a", "c")
        ]
        reader = await self.store.sync(fleet_report("aa")._replace(keep_ms=0))
        again = await self.store.sync(fleet_report("b"))

        assert [view.place for view in first] == [0, 0, 2]
        assert (reader.place, again.place) == (None, 1)

    async def test_a_report_expires_after_its_keep_time(self) -> None:
        brief = fleet_report("gone", is_alarmed=True)._replace(keep_ms=1)
        await self.store.sync(brief)
        view = await self.store.sync(fleet_report("here"))
        while view.load.processes > 1:
            view = await self.store.sync(fleet_report("here"))

        assert view.load == FleetLoad(1, 0.5, 0.5)
        assert view.evidence == {}

    async def test_a_report_without_keep_time_reads_all_and_leaves_nothing(
        self,
    ) -> None:
        """The commands of an operator read the fleet with such a report."""
        await self.store.sync(fleet_report("a", evidence=b"one"))
        asking = fleet_report("operator", load=0.0, is_alarmed=True)._replace(keep_ms=0)
        view = await self.store.sync(asking)
        after = await self.store.sync(fleet_report("a", evidence=b"one"))

        assert view.evidence == {"a": b"one"}
        assert view.load == after.load == FleetLoad(1, 0.5, 0.5)
        assert after.evidence == {}

    async def test_evidence_beyond_its_bound_is_left_out(self) -> None:
        """The rest of the report counts."""
        large = b"x" * (MAX_EVIDENCE_BYTES + 1)
        view = await self.store.sync(fleet_report(evidence=large, is_alarmed=True))

        assert view.evidence == {"a": b""}

    async def test_retries_are_shared_and_low_goes_without_first(self) -> None:
        """One process may spend the retries that another one earned."""
        one, other = self.bench.open(), self.bench.open()
        earned = retries(firsts=500, wants=_NO_WANTS)
        await one.sync(fleet_report("a", budgets=[earned]))
        low = await other.sync(
            fleet_report("b", budgets=[retries(wants=(0, 0, 0, 999))])
        )
        urgent = await other.sync(
            fleet_report("b", budgets=[retries(wants=(999, 0, 0, 9))])
        )

        assert [tuple(row) for row in low.granted] == [(0, 0, 0, 100)]
        assert [tuple(row) for row in urgent.granted] == [(100, 0, 0, 0)]

    async def test_calls_are_shared_within_their_rate(self) -> None:
        """The burst is granted at once, the next call only after its interval."""
        one, other = self.bench.open(), self.bench.open()
        asked = RateWish("mailer", 3_600_000_000, 5, 3)
        first = await one.sync(fleet_report("a", rates=[asked]))
        second = await other.sync(fleet_report("b", rates=[asked]))
        third = await one.sync(fleet_report("a", rates=[asked]))

        assert list(first.rates) == [RateGrant(3, 0)]
        assert list(second.rates) == [RateGrant(2, 0)]
        assert third.rates[0].calls == 0
        assert 3_500_000_000 < third.rates[0].wait_us <= 3_600_000_000
