"""A service that offers jobs, and workers that drain them, while something breaks.

The service lives in the test's own process, the workers are processes of their own.
What is promised is asked in the end: nothing accepted is lost, nothing happens that
nobody accepted, and all of it within `RECOVERY_S` of the healing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgspec
from confluent_kafka import Consumer, TopicPartition

from shifter import Deferred, OutcomeUnknownError, Shifter, wiring
from shifter.config import load_settings
from tests.torture.faults.app import register
from tests.torture.faults.fault import Fault

ROOT: Final = Path(__file__).parents[3]
TARGET: Final = "tests.torture.faults.app:app"
RECOVERY_S: Final = 60.0
"""How soon after the healing everything is as it was."""


class Told(NamedTuple):
    """What became of one call.

    Attributes:
        number: The job's.
        began: Monotonic seconds.
        took_s: Until the answer.
        answer: An `Answer`, or the `OutcomeUnknownError`.
    """

    number: int
    began: float
    took_s: float
    answer: Any


class Offer:
    """Calls at a steady rate, and what they were told."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    @property
    def accepted(self) -> set[int]:
        """Numbers that were promised to run."""
        return {one.number for one in self.told if isinstance(one.answer, Deferred)}

    @property
    def possible(self) -> set[int]:
        """Numbers that may run: accepted, or nobody knows."""
        unknown = {
            one.number
            for one in self.told
            if isinstance(one.answer, OutcomeUnknownError)
        }
        return self.accepted | unknown

    @property
    def slowest_s(self) -> float:
        """The longest wait for an answer."""
        return max(one.took_s for one in self.told)

    def reasons(self) -> Counter[str]:
        """How often each reason was given."""
        return Counter(
            str(one.answer.reason)
            if not isinstance(one.answer, OutcomeUnknownError)
            else "unknown"
            for one in self.told
        )


class Trial:
    """One namespace on servers that are about to break.

    Args:
        log: ``SHIFTER_LOG``.
        state: ``SHIFTER_STATE``.
        namespace: Of this test alone.
        folder: For effects, the spool and what workers say.
        settings: Further settings, by their environment names without ``SHIFTER_``.
    """

    def __init__(
        self, log: str, state: str, namespace: str, folder: Path, **settings: str
    ) -> None:
        self._folder = folder
        self._effects = folder / "effects"
        self._effects.touch()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
        further = {f"SHIFTER_{name}": value for name, value in settings.items()}
        self.environment = {
            **kept,
            "SHIFTER_LOG": log,
            "SHIFTER_STATE": state,
            "SHIFTER_NAMESPACE": namespace,
            "SHIFTER_PARTITIONS": "2",
            "TEST_NAMESPACE": namespace,
            "EFFECTS": str(self._effects),
            "XDG_STATE_HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            **further,
        }
        self.settings = load_settings(namespace, environ=self.environment)
        self.app = register(Shifter(namespace, settings=self.settings))
        self.lane = f"{namespace}.default.normal"
        self._workers: list[subprocess.Popen[bytes]] = []
        self._number, self._all = 0, Offer()

    async def open(self) -> Self:
        """Make the topics."""
        admin = wiring.open_admin(self.settings)
        await admin.apply(wiring.topic_specs(self.settings, self.app.queues))
        await admin.close()
        return self

    def work(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a supervisor with its worker processes, in the background."""
        log = self._folder / f"worker-{len(self._workers)}.log"
        with log.open("wb") as out:
            worker = subprocess.Popen(
                [sys.executable, "-m", "shifter.cli", "work", TARGET, *arguments],
                env=self.environment | environment,
                cwd=ROOT,
                stdout=out,
                stderr=out,
            )
        self._workers.append(worker)
        return worker

    def worker_pids(self, worker: subprocess.Popen[bytes]) -> list[int]:
        """Worker processes of a supervisor, without Python's own helpers."""
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text()
        return [
            int(pid)
            for pid in children.split()
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    @contextlib.asynccontextmanager
    async def offering(
        self, job: str = "note", *arguments: Any, per_s: float = 50
    ) -> AsyncGenerator[Offer]:
        """Defer jobs at a steady rate while the block runs; waits for all answers."""
        offer, stop = Offer(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._offer(offer, job, arguments, per_s, stop))
            try:
                yield offer
            finally:
                stop.set()

    async def _offer(
        self,
        offer: Offer,
        job: str,
        arguments: tuple[Any, ...],
        per_s: float,
        stop: asyncio.Event,
    ) -> None:
        began, count = time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                while count < (time.monotonic() - began) * per_s:
                    group.create_task(self.call(offer, job, *arguments))
                    count += 1
                await asyncio.sleep(0.01)

    async def call(self, offer: Offer, job: str = "note", *arguments: Any) -> None:
        """Defer one job with the next number."""
        self._number += 1
        number, began = self._number, time.monotonic()
        answer: Any
        try:
            answer = await self.app.jobs[job].defer(number, *arguments)
        except OutcomeUnknownError as unknown:
            answer = unknown
        told = Told(number, began, time.monotonic() - began, answer)
        offer.told.append(told)
        self._all.told.append(told)

    def effects(self) -> Counter[int]:
        """How often each number took effect."""
        lines = self._effects.read_text().splitlines()
        return Counter(int(line.split()[0]) for line in lines)

    async def progress(self, count: int, *, within_s: float) -> None:
        """Wait until so many more effects were seen."""
        goal = self.effects().total() + count
        await self.until(lambda: self.effects().total() >= goal, timeout_s=within_s)

    async def recovered(self, offer: Offer, *, within_s: float = RECOVERY_S) -> None:
        """Wait until all that was accepted took effect; nothing else may have.

        Raises:
            AssertionError: It did not in time; says what is missing.
        """
        try:
            await self.until(
                lambda: offer.accepted <= self.effects().keys(), timeout_s=within_s
            )
        except AssertionError as late:
            missing = sorted(offer.accepted - self.effects().keys())
            raise AssertionError(
                f"{len(missing)} of {len(offer.accepted)} lost or late, "
                f"{missing[:5]}; {late}"
            ) from None
        assert self.effects().keys() <= self._all.possible

    def doubled(self) -> dict[int, int]:
        """Numbers that took effect more than once."""
        return {number: n for number, n in self.effects().items() if n > 1}

    async def until(self, holds: Callable[[], bool], *, timeout_s: float) -> None:
        """Wait until something holds.

        Raises:
            AssertionError: It did not within the timeout; shows what workers said.
        """
        end = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > end:
                raise AssertionError(f"not within {timeout_s:g} s\n{self.said()}")
            await asyncio.sleep(0.05)

    def said(self, *, most: int = 3_000) -> str:
        """The last words of each worker."""
        logs = sorted(self._folder.glob("worker-*.log"))
        return "\n".join(log.read_text(errors="replace")[-most:] for log in logs)

    def close(self) -> None:
        """End every worker that still runs, with all its processes."""
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.terminate()
                try:
                    worker.wait(15)
                except subprocess.TimeoutExpired:
                    for pid in self.worker_pids(worker):
                        os.kill(pid, signal.SIGKILL)
                    worker.kill()
            worker.wait()


@contextlib.asynccontextmanager
async def during(fault: Fault) -> AsyncGenerator[None]:
    """Start a fault and heal it in the end, without holding the event loop up."""
    try:
        await asyncio.to_thread(fault.start)
        yield
    finally:
        await asyncio.to_thread(fault.heal)


def written(client: dict[str, Any], topic: str, *, partitions: int = 1) -> Counter[int]:
    """How often the job of each number is in a topic."""
    consumer = Consumer({**client, "group.id": "written", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, n, 0) for n in range(partitions)])
    found: Counter[int] = Counter()
    ended: set[int] = set()
    until = time.monotonic() + RECOVERY_S
    while len(ended) < partitions:
        assert time.monotonic() < until, f"{topic} could not be read"
        for message in consumer.consume(1_000, 0.5):
            error = message.error()
            if error is None:
                found[msgspec.json.decode(message.value())["number"]] += 1
            elif error.name() == "_PARTITION_EOF":
                ended.add(message.partition())
    consumer.close()
    return found
