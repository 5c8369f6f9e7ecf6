"""What every fleet store must do.

Derive from `FleetStoreConformance` and give it the fixture ``fleet_bench``, a
`FleetBench`.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from shifter.model.fleet import (
    MAX_CELL_BYTES,
    MAX_EVIDENCE_BYTES,
    BudgetWish,
    FleetReport,
    Proposal,
    RateGrant,
    RateWish,
)
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.shared_budget import wish
from shifter.ports import FleetStore

KEEP_MS: Final = 60_000
_NO_WANTS: Final = (0, 0, 0, 0)


class FleetBench(Protocol):
    """What the suite needs of the store under test."""

    def open(self) -> FleetStore:
        """Another process's handle to the same fleet; the bench closes it."""

    async def forget(self) -> None:
        """Let the store lose everything."""


def said(process: str = "a", **changes: Any) -> FleetReport:
    """A report of a process that has nothing to say but what is given."""
    usual = {"evidence": b"", "is_alarmed": False, "version": 0, **changes}
    return FleetReport(process, usual.pop("load", 0.5), keep_ms=KEEP_MS, **usual)


def retries(*, firsts: int = 0, wants: tuple[int, int, int, int]) -> BudgetWish:
    """A wish to a budget of 100 retries that earns one with five first attempts."""
    policy = BudgetPolicy()
    earned_milli = firsts * policy.deposit_milli
    return wish("mailer", policy, earned_milli=earned_milli, wants=wants)


class FleetStoreConformance:
    """The suite. Derive and provide ``fleet_bench``."""

    async def test_a_cell_is_set_once_and_everybody_is_told(
        self, fleet_bench: FleetBench
    ) -> None:
        """Of two that expect the same, one is accepted."""
        one, other = fleet_bench.open(), fleet_bench.open()
        first = await one.sync(said(proposals=[Proposal("c", b"", b"1")]))
        again = await other.sync(said("b", proposals=[Proposal("c", b"", b"2")]))

        assert list(first.accepted) == [True]
        assert list(again.accepted) == [False]
        assert again.cells == {"c": b"1"}

    async def test_whoever_knows_the_version_is_told_no_cells(
        self, fleet_bench: FleetBench
    ) -> None:
        """Until one changes."""
        store = fleet_bench.open()
        first = await store.sync(said(proposals=[Proposal("c", b"", b"1")]))
        known = await store.sync(said(version=first.version))
        change = [Proposal("c", b"1", b"2")]
        news = await store.sync(said("b", version=first.version, proposals=change))

        assert known.cells is None
        assert known.version == first.version
        assert news.cells == {"c": b"2"}

    async def test_a_store_that_forgot_is_noticed(
        self, fleet_bench: FleetBench
    ) -> None:
        """Its version is another one, and what is proposed as new is accepted."""
        store = fleet_bench.open()
        first = await store.sync(said(proposals=[Proposal("c", b"", b"1")]))
        await fleet_bench.forget()
        after = await store.sync(said(version=first.version))
        again = await store.sync(said(proposals=[Proposal("c", b"", b"1")]))

        assert after.cells == {}
        assert list(again.accepted) == [True]

    async def test_a_cell_can_be_removed_and_has_a_bound(
        self, fleet_bench: FleetBench
    ) -> None:
        """An empty value removes; a large one is refused."""
        store = fleet_bench.open()
        large = b"x" * (MAX_CELL_BYTES + 1)
        view = await store.sync(
            said(
                proposals=[
                    Proposal("c", b"", b"\x00\xff"),
                    Proposal("d", b"", large),
                    Proposal("e", b"", b""),
                ]
            )
        )
        gone = await store.sync(said(proposals=[Proposal("c", b"\x00\xff", b"")]))

        assert list(view.accepted) == [True, False, False]
        assert view.cells == {"c": b"\x00\xff"}
        assert list(gone.accepted) == [True]
        assert gone.cells == {}

    async def test_evidence_is_told_while_somebody_is_alarmed(
        self, fleet_bench: FleetBench
    ) -> None:
        """Every answer carries the loads."""
        one, other = fleet_bench.open(), fleet_bench.open()
        await one.sync(said("a", evidence=b"\x00one", load=0.25))
        calm = await other.sync(said("b", evidence=b"two"))
        alarmed = await other.sync(said("b", evidence=b"two", is_alarmed=True))
        told = await one.sync(said("a", evidence=b"\x00one"))

        assert calm.evidence == {}
        assert sorted(calm.loads) == [0.25, 0.5]
        assert alarmed.evidence == {"a": b"\x00one", "b": b"two"}
        assert told.evidence == alarmed.evidence

    async def test_what_a_process_said_fades(self, fleet_bench: FleetBench) -> None:
        """With the time it gave itself."""
        store = fleet_bench.open()
        brief = said("gone", is_alarmed=True)._replace(keep_ms=1)
        await store.sync(brief)
        view = await store.sync(said("here"))
        while len(view.loads) > 1:
            view = await store.sync(said("here"))

        assert list(view.loads) == [0.5]
        assert view.evidence == {}

    async def test_who_only_asks_is_told_everything_and_is_no_process(
        self, fleet_bench: FleetBench
    ) -> None:
        """As an operator does: nothing of it stays."""
        store = fleet_bench.open()
        await store.sync(said("a", evidence=b"one"))
        asking = said("operator", load=0.0, is_alarmed=True)._replace(keep_ms=0)
        view = await store.sync(asking)
        after = await store.sync(said("a", evidence=b"one"))

        assert view.evidence == {"a": b"one"}
        assert list(view.loads) == list(after.loads) == [0.5]
        assert after.evidence == {}

    async def test_evidence_that_is_too_large_is_left_out(
        self, fleet_bench: FleetBench
    ) -> None:
        """The rest of the report counts all the same."""
        store = fleet_bench.open()
        large = b"x" * (MAX_EVIDENCE_BYTES + 1)
        view = await store.sync(said(evidence=large, is_alarmed=True))

        assert view.evidence == {"a": b""}

    async def test_retries_are_shared_and_low_starves_first(
        self, fleet_bench: FleetBench
    ) -> None:
        """What one process earned, another one may spend."""
        one, other = fleet_bench.open(), fleet_bench.open()
        earned = retries(firsts=500, wants=_NO_WANTS)
        await one.sync(said("a", budgets=[earned]))
        low = await other.sync(said("b", budgets=[retries(wants=(0, 0, 0, 999))]))
        urgent = await other.sync(said("b", budgets=[retries(wants=(999, 0, 0, 9))]))

        assert [tuple(row) for row in low.granted] == [(0, 0, 0, 100)]
        assert [tuple(row) for row in urgent.granted] == [(100, 0, 0, 0)]

    async def test_calls_are_shared_by_their_rate(
        self, fleet_bench: FleetBench
    ) -> None:
        """The burst, and then none before its time."""
        one, other = fleet_bench.open(), fleet_bench.open()
        asked = RateWish("mailer", 3_600_000_000, 5, 3)
        first = await one.sync(said("a", rates=[asked]))
        second = await other.sync(said("b", rates=[asked]))
        third = await one.sync(said("a", rates=[asked]))

        assert list(first.rates) == [RateGrant(3, 0)]
        assert list(second.rates) == [RateGrant(2, 0)]
        assert third.rates[0].calls == 0
        assert 3_500_000_000 < third.rates[0].wait_us <= 3_600_000_000
