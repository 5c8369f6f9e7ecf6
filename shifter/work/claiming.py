"""Asks for the right to run what is about to start, and keeps that right alive.

Once a store did not answer, it is not asked for the next batches: each of them would
wait for it and hold slots meanwhile. Until it grants a claim again, each job proceeds
or is parked, as its declaration chooses. A store that answers and refuses to write (a
replica, a full memory, a missing right) is treated as away; only an operator can
repair it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from shifter.errors import StoreError, StoreRefusedError
from shifter.model.claim import (
    Busy,
    Cancelled,
    ClaimAnswer,
    ClaimRequest,
    ClaimUpdate,
    Finished,
    Granted,
    HandedOver,
    JobState,
)
from shifter.model.job import ClaimsMode
from shifter.ports import ClaimStore, Clock
from shifter.work.attempt import Attempt, Stop
from shifter.work.item import Item
from shifter.work.job_observer import JobObserver

_DUPLICATE_WAIT_S: Final = 0.2
"""How long a second record of a job waits whose claim an item of this process holds."""
_AWAY_WAIT_S: Final = 1.0
"""How long a job that parks waits before it asks again, while the store is away."""
_PROBE_EVERY_S: Final = 0.2
_PROBE_KEEP_MS: Final = 60_000
_PROBE_PREFIX: Final = "-"
"""Begins the identity of a probe; no job's identity begins with it."""


class Claimed(NamedTuple):
    """The answers for a batch of items.

    Attributes:
        run: Items that were granted, or may run unclaimed.
        settle: Items whose job has ended, was handed over or cancelled; not run again.
        wait: Items to ask for again, each after so many seconds.
    """

    run: list[Item]
    settle: list[tuple[Item, Finished | HandedOver | Cancelled]]
    wait: list[tuple[Item, float]]


class Claiming:
    """The claims of one worker process.

    Args:
        store: Where "once" is decided.
        clock: For trust in leases.
        observer: Called for each failed call, and when the store grants claims again.
        owner: This worker's id.
        lease_ms: Lease of a claim, > 0.

    Attributes:
        refusal: Why the store refuses to write; empty while it does not.
    """

    def __init__(
        self,
        store: ClaimStore,
        clock: Clock,
        observer: JobObserver,
        *,
        owner: str,
        lease_ms: int,
    ) -> None:
        self._store, self._clock, self._observer = store, clock, observer
        self.refusal = ""
        self._owner, self._lease_ms = owner, lease_ms
        self._held: dict[str, Item] = {}
        self._is_away = asyncio.Event()

    def forget(self, item: Item) -> None:
        """Stop renewing the claim of an item that ended, waits or left."""
        if self._held.get(item.identity) is item:
            del self._held[item.identity]
            item.fence = 0

    async def ask(self, items: Sequence[Item]) -> Claimed:
        """Ask for a batch in one round trip; nothing is raised."""
        claimed = Claimed([], [], [])
        asked: list[Item] = []
        held = self._held
        for item in items:
            if held.setdefault(item.identity, item) is item:
                asked.append(item)
            else:
                claimed.wait.append((item, _DUPLICATE_WAIT_S))
        if asked:
            await self._ask(asked, claimed)
        return claimed

    async def _ask(self, items: Sequence[Item], claimed: Claimed) -> None:
        if self._is_away.is_set():
            self._unclaimed(items, claimed)
            return
        asked_at = self._clock.monotonic()
        try:
            answers = await self._first_answers([_request(item) for item in items])
        except StoreError as error:
            self._failed(error)
            self._is_away.set()
            self._unclaimed(items, claimed)
            return
        self._observer.claims.add(answers, self._clock.monotonic() - asked_at)
        for item, answer in zip(items, answers, strict=True):
            if type(answer) is Granted:
                item.fence, item.losses = answer.fence, answer.losses
                claimed.run.append(item)
            else:
                self._refused(item, answer, claimed)

    async def _first_answers(
        self, requests: Sequence[ClaimRequest]
    ) -> list[ClaimAnswer]:
        """Claim; if the call outlasted a lease, claim once more.

        This process was probably suspended, and another worker may have run the jobs
        since.
        """
        asked_at = self._clock.monotonic()
        try:
            return await self._claim(requests)
        except StoreError:
            if self._clock.monotonic() < asked_at + self._lease_ms / 1_000:
                raise
            return await self._claim(requests)

    def _refused(self, item: Item, answer: ClaimAnswer, claimed: Claimed) -> None:
        self.forget(item)
        if isinstance(answer, Busy):
            claimed.wait.append((item, answer.retry_in_ms / 1_000))
        elif not isinstance(answer, Granted):
            claimed.settle.append((item, answer))

    def _unclaimed(self, items: Iterable[Item], claimed: Claimed) -> None:
        for item in items:
            if item.job is None or item.job.spec.claims is ClaimsMode.PROCEED:
                claimed.run.append(item)
            else:
                self.forget(item)
                claimed.wait.append((item, _AWAY_WAIT_S))

    async def keep(self, running: set[Attempt]) -> None:
        """Renew the leases of running attempts every third of a lease, until cancelled.

        An attempt whose lease may have expired is stopped: another worker may have been
        granted its job.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._await_return())
            await self._keep(running)

    async def _await_return(self) -> None:
        """Probe the store at the start, and while it is away."""
        while True:
            try:
                await self._probe()
            except StoreError as error:
                self._failed(error)
                self._is_away.set()
            else:
                if self._is_away.is_set():
                    self.refusal = ""
                    self._is_away.clear()
                    self._observer.claims_recovered()
                await self._is_away.wait()
            await self._clock.sleep(_PROBE_EVERY_S)

    async def _probe(self) -> None:
        """Claim an identity of this worker's own, and let it expire.

        A read would not do: a store that cannot write answers reads.
        """
        name = f"{_PROBE_PREFIX}{self._owner}"
        request = ClaimRequest(name, name, 1, 1)
        [answer] = await self._store.claim([request], owner=self._owner, lease_ms=1)
        if isinstance(answer, Granted):
            end = ClaimUpdate(
                name, answer.fence, JobState.WAITING, 1, 1, _PROBE_KEEP_MS
            )
            await self._store.finish([end])

    def _failed(self, error: StoreError) -> None:
        self.refusal = str(error) if isinstance(error, StoreRefusedError) else ""
        self._observer.claims_failed(error)

    async def _keep(self, running: set[Attempt]) -> None:
        trusted_until = self._clock.monotonic() + self._lease_ms / 1_000
        while True:
            await self._clock.sleep(self._lease_ms / 3_000)
            attempts = [a for a in running if a.item.fence]
            asked_at = self._clock.monotonic()
            if await self._renew(attempts):
                trusted_until = asked_at + self._lease_ms / 1_000
            elif self._clock.monotonic() >= trusted_until - self._lease_ms / 10_000:
                _stop_parked(attempts)

    async def _renew(self, attempts: Sequence[Attempt]) -> bool:
        if not attempts:
            return True
        held = [(attempt.item.identity, attempt.item.fence) for attempt in attempts]
        try:
            answers = await self._store.renew(held, lease_ms=self._lease_ms)
        except StoreError as error:
            self._failed(error)
            return False
        gone: list[Attempt] = []
        for attempt, answer in zip(attempts, answers, strict=True):
            if answer.cancel_requested:
                attempt.cancel_job()
            if not answer.held and attempt.item.fence:
                gone.append(attempt)
        return not gone or await self._ask_again(gone)

    async def _ask_again(self, attempts: Sequence[Attempt]) -> bool:
        """Claim again what the store forgot; stop what another worker was granted."""
        requests = [_request(attempt.item) for attempt in attempts]
        try:
            answers = await self._claim(requests)
        except StoreError as error:
            self._failed(error)
            return False
        for attempt, answer in zip(attempts, answers, strict=True):
            if not attempt.item.fence:
                continue  # it ended meanwhile
            if isinstance(answer, Granted):
                attempt.item.fence = answer.fence
            else:
                attempt.stop(Stop.LEASE_LOST)
        return True

    async def _claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimAnswer]:
        return await self._store.claim(
            requests, owner=self._owner, lease_ms=self._lease_ms
        )


def _request(item: Item) -> ClaimRequest:
    return ClaimRequest(item.identity, item.envelope.id, item.turn, item.attempt)


def _stop_parked(attempts: Iterable[Attempt]) -> None:
    for attempt in attempts:
        job = attempt.item.job
        if job is not None and job.spec.claims is ClaimsMode.PARK:
            attempt.stop(Stop.LEASE_LOST)
