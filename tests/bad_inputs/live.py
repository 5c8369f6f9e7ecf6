"""One run of a live worker over bad records among good ones, and what became of each.

Records are written past the door of this package, each after a good one, into one part
of one lane: a record that is in the way of others keeps the good ones behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from shifter.config.load import load_settings
from shifter.model.lane import Lane, Priority, dead_letter_topic
from shifter.ports import Delivery
from shifter.wire.dead_letter import DeadLetterInfo, read_dead_letter
from shifter.wire.headers import Headers
from shifter.wiring import open_admin
from tests.acceptance.fleet import Fleet
from tests.bad_inputs.catalogue import GOOD, OURS, with_id
from tests.bad_inputs.writers import Place, writer_of

TARGET = "tests.bad_inputs.jobs:app"
_QUEUE = "default"
_SLICE = 5_000


class Input(NamedTuple):
    """A record to be written; ``job_id`` is what it says it is."""

    job_id: str
    headers: Headers
    value: bytes | None


class Letter(NamedTuple):
    """A dead letter."""

    info: DeadLetterInfo
    record: Delivery


class Life(NamedTuple):
    """What became of a record.

    Attributes:
        place: Where the log put it, or why it did not.
        runs: What the handler was given, once a run.
        letters: Dead letters made of it.
    """

    place: Place | str
    runs: list[str]
    letters: list[Letter]


class Live:
    """A lane, a worker, and the lives of all records that were fed to it.

    Attributes:
        good: Ids of the good jobs.
        said: What the worker wrote.
        code: How it ended; ``None`` if it went on for too long.
    """

    code: int | None

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        # What no version of the app knows would wait for one that does.
        fleet.environment["SHIFTER_DEPLOY_GRACE"] = "0s"
        self.settings = load_settings(fleet.namespace, environ=fleet.environment)
        self.lane = Lane(fleet.namespace, _QUEUE, Priority.NORMAL).name
        self.good: list[str] = []
        self.said, self.code = "", None
        self._places: dict[str, Place | str] = {}
        self._runs: dict[str, list[str]] = {}
        self._letters: dict[Place, list[Letter]] = {}

    def feed(self, inputs: Sequence[Input]) -> None:
        """Write records on an empty lane, a good one before each."""
        with writer_of(self.settings, self.lane) as writer:
            for start in range(0, len(inputs), _SLICE):
                for one in inputs[start : start + _SLICE]:
                    good = str(uuid.uuid4())
                    self.good.append(good)
                    writer.put(good, with_id(OURS, good), GOOD)
                    writer.put(one.job_id, one.headers, one.value)
                self._places |= writer.flush()

    def work(self, timeout_s: float = 60) -> None:
        """Run a worker until nothing is left or the time is up; collect what came."""
        worker = self.fleet.work("--burst", target=TARGET)
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(timeout_s)
        self.said, self.code = self.fleet.said(most=10**9), worker.poll()
        for job_id, argument in self.fleet.effects():
            self._runs.setdefault(job_id, []).append(argument)
        asyncio.run(self._collect())

    def life(self, job_id: str) -> Life:
        """What became of a record that was fed."""
        place = self._places[job_id]
        letters = [] if isinstance(place, str) else self._letters.get(place, [])
        return Life(place, self._runs.get(job_id, []), letters)

    def waiting(self) -> int:
        """Records left on the lane."""
        return asyncio.run(self._waiting())

    async def _waiting(self) -> int:
        admin = open_admin(self.settings)
        try:
            [depth] = await admin.depths([self.lane])
        finally:
            await admin.close()
        return depth.waiting

    async def _collect(self) -> None:
        admin = open_admin(self.settings)
        topic = dead_letter_topic(self.fleet.namespace, _QUEUE)
        try:
            async for batch in admin.scan(topic):
                for record in batch:
                    info = read_dead_letter(record.headers)
                    assert info is not None
                    place = Place(info.origin_partition, info.origin_offset)
                    self._letters.setdefault(place, []).append(Letter(info, record))
        finally:
            await admin.close()


def opened(log: str, state: str, namespace: str, folder: Path) -> Iterator[Live]:
    """A lane with its topics; ends with everything that was started."""
    fleet = Fleet(log, state, namespace, folder)
    try:
        fleet.run("topics", "apply", TARGET)
        yield Live(fleet)
    finally:
        fleet.close()
