"""``python -m tests.torture.harness.producer NAME SEED PER_S MIX``.

Offers jobs of many kinds, as the seed says, and writes down each question and its
answer. Offers until SIGTERM; then all answers are awaited.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
import uuid
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from shifter import Deferred, OutcomeUnknownError, PayloadError, ShifterError
from shifter.api.job import BoundJob
from shifter.ports import Appended, Record
from shifter.wiring import open_log
from tests.torture.harness.event import History
from tests.torture.harness.jobs import FOLDER, app, digest_of

MIXES: Final = {
    "all": {
        "plain": 40,
        "once": 16,
        "keyed": 18,
        "flaky": 6,
        "hopeless": 1,
        "exhausted": 1,
        "shifted": 8,
        "timely": 4,
        "cancelled": 1,
        "twice": 3,
        "garbage": 1,
        "slow": 1,
    },
    "short": {"plain": 60, "once": 20, "keyed": 15, "flaky": 3, "hopeless": 2},
    "slow": {"plain": 60, "slow": 20, "keyed": 20},
    "overtime": {"plain": 60, "keyed": 15, "overtime": 25},
    "crowd": {"crowd": 50, "brief": 45, "aside": 5},
    "paid": {"paid": 50, "plain": 50},
    "deadly": {"plain": 400, "once": 399, "deadly": 1},
}
"""How often each kind is offered, by name of the mix."""
KEYS: Final = 12
_WORDS = "abcdefghijklmnopqrstuvwxyz0123456789 "
_PENDING_MOST = 2_000
_TICK_S = 0.005


class Producer:
    """One service that defers jobs.

    Args:
        name: Of its history.
        seed: Decides which kinds, payloads and times.
        mix: A name of `MIXES`.
    """

    def __init__(self, name: str, seed: int, mix: str) -> None:
        self._name, self._seed = name, seed
        self._draw = random.Random(f"{seed}/{name}")  # repeatable
        self._history = History(Path(os.environ[FOLDER]), name)
        self._kinds, self._weights = zip(*MIXES[mix].items(), strict=True)
        self._number = 0
        self._kseq: dict[str, int] = defaultdict(int)
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._log = open_log(app.settings)
        self._pending = 0

    async def run(self, per_s: float) -> None:
        """Offer at a steady rate; a service that is held up does not catch up."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        self._history.note("phase", kind="offering")
        owed, before = 0.0, time.monotonic()
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                now = time.monotonic()
                owed, before = min(per_s, owed + (now - before) * per_s), now
                while owed >= 1 and self._pending < _PENDING_MOST:
                    owed -= 1
                    self._pending += 1
                    group.create_task(self._offer(self._one()))
                await asyncio.sleep(_TICK_S)
        self._history.note("phase", kind="offered")
        self._history.close()
        self._log.close(timeout_s=10)

    def _one(self) -> tuple[str, str, str, float]:
        """The next kind, job id, body and number in [0, 1), as the seed says."""
        self._number += 1
        [kind] = self._draw.choices(self._kinds, self._weights)
        job_id = uuid.UUID(int=self._draw.getrandbits(128), version=4)
        size = self._draw.randrange(16, 160)
        body = "".join(self._draw.choices(_WORDS, k=size))
        return kind, str(job_id), body, self._draw.random()

    async def _offer(self, one: tuple[str, str, str, float]) -> None:
        kind, job_id, body, u = one
        try:
            if kind in ("keyed", "overtime"):
                await self._keyed(kind, job_id, body, f"k{int(u * KEYS)}-{self._name}")
            elif kind == "garbage":
                await asyncio.to_thread(self._garbage, job_id, body)
            elif kind == "twice":
                await self._twice(job_id, body)
            elif kind == "cancelled":
                await self._cancelled(job_id, body, 2 + 3 * u)
            else:
                await self._defer(kind, job_id, body, u)
        finally:
            self._pending -= 1

    async def _defer(self, kind: str, job_id: str, body: str, u: float) -> None:
        facts: dict[str, Any] = {}
        options: dict[str, Any] = {"job_id": job_id}
        arguments: tuple[Any, ...] = (body,)
        if kind == "shifted":
            at_ms = time.time_ns() // 1_000_000 + 300 + int(6_000 * u)
            options["due_at"] = datetime.fromtimestamp(at_ms / 1_000, UTC)
            facts["due_ms"] = at_ms
        elif kind == "timely":
            options["deadline"] = f"{50 + int(4_000 * u)}ms"
            # The product adds it to a later reading of the clock.
            facts["deadline_ms"] = time.time_ns() // 1_000_000 + 50 + int(4_000 * u)
        elif kind == "slow":
            arguments = (0.5 + 3 * u, body)
        bound = app.jobs[kind].options(**options)
        await self._ask(bound, arguments, kind, job_id, body, **facts)

    async def _keyed(self, kind: str, job_id: str, body: str, key: str) -> None:
        async with self._locks[key]:
            self._kseq[key] += 1
            kseq = self._kseq[key]
            bound = app.jobs[kind].options(job_id=job_id, key=key)
            facts = {"key": key, "kseq": kseq}
            await self._ask(bound, (key, kseq, body), kind, job_id, body, **facts)

    async def _twice(self, job_id: str, body: str) -> None:
        """Two jobs with one idempotency key, one a while after the other."""
        other = str(uuid.uuid5(uuid.UUID(job_id), "other"))
        for each in (job_id, other):
            bound = app.jobs["once"].options(job_id=each, idempotency_key=job_id)
            identity = f"once:{job_id}"
            await self._ask(bound, (body,), "once", each, body, identity=identity)
            await asyncio.sleep(0.5)

    async def _cancelled(self, job_id: str, body: str, delay_s: float) -> None:
        bound = app.jobs["once"].options(job_id=job_id, delay=f"{int(delay_s * 1e3)}ms")
        await self._ask(bound, (body,), "once", job_id, body, reason="cancelled")
        try:
            status = await app.cancel(job_id)
        except ShifterError as error:
            self._history.note("cancel", "info", job=job_id, reason=str(error)[:200])
        else:
            self._history.note("cancel", "ok", job=job_id, reason=status.state.value)

    async def _ask(
        self,
        bound: BoundJob[..., Any],
        arguments: tuple[Any, ...],
        kind: str,
        job_id: str,
        body: str,
        **facts: Any,
    ) -> None:
        facts = {"job": job_id, "kind": kind, "digest": digest_of(body), **facts}
        self._history.note("accept", "invoke", **facts)
        try:
            answer = await bound.defer(*arguments)
        except OutcomeUnknownError as error:
            self._history.note("accept", "info", **facts | {"reason": str(error)[:200]})
        except PayloadError as error:
            self._history.note("accept", "fail", **facts | {"reason": str(error)[:200]})
        else:
            outcome = "ok" if isinstance(answer, Deferred) else "fail"
            reason = answer.reason.value
            self._history.note("accept", outcome, **facts | {"reason": reason})

    def _garbage(self, name: str, body: str) -> None:
        """A record that nobody can read, put past the door."""
        raw = b"\xff" + name.encode() + body.encode()
        facts = {"job": name, "kind": "garbage", "digest": digest_of(raw)}
        self._history.note("put", "invoke", **facts)
        topic = f"{app.namespace}.work.normal"
        [answer] = self._log.append_sync([Record(topic, raw, [])], timeout_s=10)
        ok = isinstance(answer, Appended)
        self._history.note("put", "ok" if ok else "info", **facts)


async def main(name: str, seed: int, per_s: float, mix: str) -> None:
    """Offer, and flush in the end."""
    async with app:
        await Producer(name, seed, mix).run(per_s)


if __name__ == "__main__":
    own, given, rate, kinds = sys.argv[1:]
    asyncio.run(main(own, int(given), float(rate), kinds))
