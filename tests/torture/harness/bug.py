"""Breaks the product in one known way each, so that the checkers are checked.

Planted in a worker or a producer by the module that holds the app, when ``SHIFTER_BUG``
names one; nothing of the product knows of it. Each says what it stands for.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from shifter.adapters.kafka.rebalance import Rebalancer
from shifter.adapters.kafka.writer import KafkaLaneLog
from shifter.adapters.redis.claims import RedisClaimStore
from shifter.adapters.sqlite import connection, database
from shifter.fleet.protection import DependencyProtection
from shifter.policy.delivery.ack_map import AckMap
from shifter.ports import Appended
from shifter.work import next_step, starter
from shifter.work.attempt import Attempt
from shifter.work.buffer import Buffer
from shifter.work.completer import Completer
from shifter.work.executor import Executor
from shifter.work.fetcher import Fetcher
from shifter.work.next_step import NextStep
from shifter.work.slot_time import SlotTime
from shifter.work.waiting_limits import WaitingLimits

_WRONG_CLOCK_MS: Final = 3_600_000
_SHORT_KEEP_MS: Final = 50
_DROPPED_RATIO: Final = 0.01


_tasks: set[asyncio.Future[Any]] = set()


def _soon(what: Coroutine[Any, Any, None]) -> None:
    """Do it some time, and do not wait: what bugs do."""
    task = asyncio.get_running_loop().create_task(what)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _put(owner: Any, name: str, broken: Any) -> None:
    """Break what is there; what was renamed or moved cannot be broken unnoticed."""
    if not hasattr(owner, name):
        raise AttributeError(f"{owner} has no {name} any more")
    setattr(owner, name, broken)


def _commit_before_effect() -> None:
    """B1: a delivery is settled when its handler starts, not when it has ended."""
    start = Executor.start

    def early(self: Executor, ready: Any, *, now_ms: int) -> None:
        for item, _ in ready:
            _soon(item.feed.settle([item.delivery]))
        start(self, ready, now_ms=now_ms)

    _put(Executor, "start", early)


def _ignore_delivery_error() -> None:
    """B2: whatever the log says of a record, its caller hears that it was taken."""
    append = KafkaLaneLog.append

    async def deaf(self: Any, records: Sequence[Any], *, timeout_s: float) -> Any:
        with contextlib.suppress(BaseException):  # that is the bug
            await append(self, records, timeout_s=min(timeout_s, 1.0))
        return [Appended()] * len(records)

    _put(KafkaLaneLog, "append", deaf)


def _commit_what_was_lost() -> None:
    """B3: when partitions go, all that was read of them is committed."""

    def on_revoke(self: Any, consumer: Any, partitions: Any) -> None:
        parts = self._assignment.of([(p.topic, p.partition) for p in partitions])
        for part in parts:
            part.acks.settle_many(list(part.acks._open))
            part.is_dirty = True
        self._committer.send_and_wait(consumer, parts)
        self._assignment.drop(parts)

    _put(Rebalancer, "_on_revoke", on_revoke)


def _attempt_off_by_one() -> None:
    """B4: a retry is charged twice."""
    next_turn = next_step.next_turn

    def wrong(item: Any, *, attempt: int, **facts: Any) -> Any:
        return next_turn(item, attempt=attempt + 1, **facts)

    _put(next_step, "next_turn", wrong)


def _no_fence() -> None:
    """B5: every grant has the same fence."""
    context = Attempt.context.fget
    assert context is not None

    def unfenced(self: Attempt) -> Any:
        found = context(self)
        found.fence = 1
        return found

    _put(Attempt, "context", property(unfenced))


def _no_operation_id() -> None:
    """B6: a claim whose answer was lost is asked for again as if by a stranger."""
    claim = RedisClaimStore.claim

    async def forgetful(self: Any, *args: Any, **options: Any) -> Any:
        self._calls.unanswered.clear()
        return await claim(self, *args, **options)

    _put(RedisClaimStore, "claim", forgetful)


def _not_synced() -> None:
    """B7: what is kept in a file, a spool or a log, is written and not synced."""
    make = connection.connect

    def careless(path: Any) -> Any:
        made = make(path)
        made.execute("PRAGMA synchronous = OFF")
        return made

    _put(database, "connect", careless)


def _short_memory() -> None:
    """B8: what is done is forgotten before its duplicates have come."""
    ended = next_step.ended_update

    def short(item: Any, state: Any) -> Any:
        update = ended(item, state)
        return None if update is None else update._replace(keep_ms=_SHORT_KEEP_MS)

    _put(next_step, "ended_update", short)
    import shifter.work.completer  # the name that it bound itself

    _put(shifter.work.completer, "ended_update", short)


def _letter_not_awaited() -> None:
    """B11: a successor is on its way, and its delivery is settled already."""
    hand_over = Completer._hand_over

    async def hasty(
        self: Completer, steps: list[NextStep]
    ) -> tuple[list[NextStep], list[NextStep]]:
        async def late() -> None:
            await asyncio.sleep(0.5)
            await hand_over(self, steps)

        _soon(late())
        return steps, []

    _put(Completer, "_hand_over", hasty)


def _retries_unpaid() -> None:
    """B10: a repeat is let pass as if it were a first attempt, and earns retries."""
    admit = DependencyProtection.admit

    def generous(
        self: DependencyProtection, priority: Any, *, is_extra: bool, now_ms: int
    ) -> Any:
        return admit(self, priority, is_extra=False, now_ms=now_ms)

    _put(DependencyProtection, "admit", generous)


def _one_line_for_all() -> None:
    """B17: jobs of all queues of a priority stand in one line of 2,000."""

    def first_come(self: Buffer, slots: int, *, now: float) -> list[Any]:
        taken: list[Any] = []
        while len(taken) < slots and (ages := self.backlog(now=now)):
            oldest = max(ages, key=lambda topic: ages[topic].head_age_ms)
            taken += self.take([(oldest, 1)])
        return taken

    def most(self: WaitingLimits, priority: Any, closed: Any = frozenset()) -> int:
        here = sum(self._shares[topic].count for topic in self._of[priority])
        return max(0, min(1_000, self._records - here))

    _put(Buffer, "choose", first_come)
    _put(WaitingLimits, "most", most)
    _put(WaitingLimits, "full", lambda self, now: frozenset())


def _shares_by_starts() -> None:
    """B18: queues share starts, however long their jobs hold slots."""
    _put(SlotTime, "took", lambda self, items, now: None)


def _thread_left_to_itself() -> None:
    """B9: an attempt is over at its timeout, and its thread goes on."""

    def forgetful(self: Attempt, interrupt: object) -> None:
        """Cancel the task that waits for the thread, and nothing else."""

    _put(Attempt, "stoppable_by", forgetful)


def _wrong_clock() -> None:
    """B12: deadlines are asked of a clock that is an hour behind."""
    is_expired = starter.is_expired

    def behind(deadline_ms: Any, now_ms: Any) -> bool:
        return is_expired(deadline_ms, now_ms - _WRONG_CLOCK_MS)

    _put(starter, "is_expired", behind)


class Somewhere:
    """What a report of success is about."""

    def offset(self) -> int:
        """Any place."""
        return 0


def _drop_when_full() -> None:
    """B13: a record for which the client has no room counts as taken.

    That the client is full now and then is part of the bug: left alone it never is.
    """
    send = KafkaLaneLog._send
    draw = random.Random(13)  # repeatable

    def dropping(self: Any, link: Any, record: Any, report: Callable[..., None]) -> Any:
        if draw.random() < _DROPPED_RATIO:
            report(None, Somewhere())
            return None
        return send(self, link, record, report)

    _put(KafkaLaneLog, "_send", dropping)


def _skip_gaps() -> None:
    """B14: what is committed is the newest end, whatever is open below it."""

    def frontier(self: Any) -> int:
        ended = [offset for offset in self._line if offset not in self._open]
        if ended:
            return int(ended[-1]) + 1
        return int(self._line[0] if self._line else self.position)

    _put(AckMap, "frontier", property(frontier))


def _swallow_bad_records() -> None:
    """B15: a record that cannot be read is settled, and nothing else."""

    def swallow(self: Any, entry: Any, moment: Any) -> None:
        if entry.feed.begin([entry.delivery]):
            _soon(entry.feed.settle([entry.delivery]))

    _put(Fetcher, "_refuse", swallow)


BUGS: Final[dict[str, tuple[Callable[[], None], str, frozenset[str]]]] = {
    "B1": (_commit_before_effect, "F01", frozenset({"C1", "C15"})),
    "B2": (_ignore_delivery_error, "F15", frozenset({"C1"})),
    "B3": (_commit_what_was_lost, "F13", frozenset({"C1", "C15"})),
    "B4": (_attempt_off_by_one, "calm", frozenset({"C9"})),
    "B5": (_no_fence, "F06", frozenset({"C10"})),
    "B6": (_no_operation_id, "R01", frozenset({"C2", "C16"})),
    "B7": (_not_synced, "F41", frozenset({"C1", "C18"})),
    "B8": (_short_memory, "calm", frozenset({"C3", "C4"})),
    "B9": (_thread_left_to_itself, "F10", frozenset({"C10"})),
    "B10": (_retries_unpaid, "F50", frozenset({"C12"})),
    "B11": (_letter_not_awaited, "F01", frozenset({"C1", "C15"})),
    "B12": (_wrong_clock, "F05", frozenset({"C7"})),
    "B13": (_drop_when_full, "calm", frozenset({"C1"})),
    "B14": (_skip_gaps, "F01", frozenset({"C1", "C15"})),
    "B15": (_swallow_bad_records, "calm", frozenset({"C1"})),
    "B17": (_one_line_for_all, "F49", frozenset({"C25"})),
    "B18": (_shares_by_starts, "F49", frozenset({"C25"})),
}
"""How each is planted, the scenario that shows it, and who must catch it."""


def plant(name: str) -> None:
    """Plant the bug of that name.

    Raises:
        KeyError: There is no such bug.
    """
    BUGS[name][0]()
