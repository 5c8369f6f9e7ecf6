"""Plays one scenario from warm-up to verdict.

Warm-up, faults, heal, drain within a bound, final reads, checkers: safety is asked for
all the time, liveness after the faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from shifter import wiring
from shifter.telemetry.series import Bars
from shifter.work.heartbeat import Heartbeat
from tests.torture.harness import jobs
from tests.torture.harness.checkers import check, progress, recovery_s
from tests.torture.harness.crew import Crew, Service
from tests.torture.harness.event import History, read_histories, write_history
from tests.torture.harness.evidence import Evidence
from tests.torture.harness.final import is_drained, read_all
from tests.torture.harness.nemesis import Nemesis
from tests.torture.harness.place import SPOOL, Place
from tests.torture.harness.sampler import Sampler
from tests.torture.harness.scenario import (
    RECOVERY_S,
    WINDOW_S,
    Scenario,
    Stand,
    schedule,
)
from tests.torture.harness.share_checkers import (
    asides,
    budget_excess,
    slot_shares,
)
from tests.torture.harness.timeline import write_timeline
from tests.torture.harness.violation import Violation

_WARM_EFFECTS: Final = 60
_WARM_S: Final = 90.0
_SPOOL_S: Final = 45.0
_HEAL_S: Final = 120.0

Say = Callable[[str], None]


class Verdict(msgspec.Struct):
    """What a run showed.

    Attributes:
        scenario: Its name.
        log: On which log.
        seed: What it was drawn from.
        seconds: How long faults were played.
        accepted: Jobs that were promised to run.
        faults: How often something was broken.
        deaths: Workers that died of it.
        asked: Workers that were asked to leave, and did.
        ends: Accepted jobs by their end; ``lost`` for none.
        doubled: Identities with more than one effect taken.
        absorbed: Effects offered again and not taken.
        stale: Effects refused by their fence.
        early: Starts before the due time.
        late: Starts after the deadline.
        recovery_s: From the last heal until what was accepted before it took effect.
        bound_s: What that may be.
        least_per_s: Effects a second in the worst 15 s of the faults; ``None`` where
            they did not last so long.
        floor_per_s: What that must be; 0 where nothing can go on.
        lateness_ms: p50, p99 and maximum of starts after their due time.
        violations: What must not be.
        aside_ms: p50, p99 and maximum of how long jobs of an idle queue waited beside
            full ones.
        shares: Of the slot time of queues that share slots, by name.
        excess: Retries of the worst window over what their budget allows; below 0 where
            it was never spent. ``None`` where no budget is asked.
    """

    scenario: str
    log: str
    seed: int
    seconds: float
    accepted: int
    faults: int
    deaths: int
    asked: int
    ends: dict[str, int]
    doubled: int
    absorbed: int
    stale: int
    early: int
    late: int
    recovery_s: float
    bound_s: float
    least_per_s: float | None
    floor_per_s: float
    lateness_ms: tuple[int, int, int]
    violations: list[Violation]
    aside_ms: tuple[int, int, int] = (0, 0, 0)
    shares: dict[str, float] = {}
    excess: float | None = None


class Order(NamedTuple):
    """What is to be played.

    Attributes:
        name: Of the scenario.
        scenario: Itself.
        log: One of its logs.
        seed: For nemesis and producers.
        seconds: Of faults.
        jobs: Go on offering until so many were accepted; 0 for no such aim.
        drain_s: How long the drain may take after the last job.
    """

    name: str
    scenario: Scenario
    log: str
    seed: int
    seconds: float
    jobs: int = 0
    drain_s: float = 75.0


def play(order: Order, folder: Path, say: Say) -> Verdict:
    """Play a scenario in an empty folder and judge it."""
    scenario = order.scenario
    place = Place(
        folder,
        order.log,
        dict(scenario.settings),
        is_behind=scenario.is_behind,
        has_power=scenario.loses_unsynced,
    )
    history = History(place.histories, "conductor")
    stage = Stage(order, place, history, say)
    try:
        place.start()
        stage.run()
    finally:
        stage.close()
        place.stop()
    history.close()
    return judge(order, folder, read_histories(place.histories))


class Stage:
    """The processes of a run, and its phases."""

    def __init__(self, order: Order, place: Place, history: History, say: Say) -> None:
        self._order, self._place, self._history = order, place, history
        self._say = say
        self._crew: Crew | None = None
        self._witness: subprocess.Popen[bytes] | None = None
        self._service: Service | None = None
        self._sampler: Sampler | None = None

    def run(self) -> None:
        """From the first process to the last read."""
        order, place = self._order, self._place
        environment = place.environment
        if order.scenario.die:
            environment[jobs.DIE] = order.scenario.die
        asyncio.run(self._make_topics())
        crew = self._crew = Crew(
            place.folder,
            environment,
            members=order.scenario.members,
            concurrency=order.scenario.concurrency,
            is_supervised=order.scenario.is_supervised,
            is_static=order.scenario.is_static and order.log != "sqlite",
        )
        self._start_witness(crew)
        crew.refill()
        service = self._service = Service(self._start_producer)
        self._phase("warm-up")
        self._warm_up()
        self._sampler = Sampler(crew, place, self._history)
        self._sampler.start()
        self._play_faults(crew)
        (self._place.histories / jobs.HEALED).touch()
        self._phase("healed")
        self._await_jobs(crew)
        self._hold(crew, self._order.scenario.after_s)
        self._await_spool(crew)
        service.end()
        self._phase("draining")
        self._drain(crew)
        self._sampler.stop()
        self._sampler = None
        self._phase("reading")
        codes = crew.stop()
        for pid, pulse in crew.listen().items():
            self._history.note("metrics", pids=[pid], facts=_counted(pulse))
        self._phase(f"workers left with {codes}")
        asyncio.run(self._read())

    async def _make_topics(self) -> None:
        settings = self._place.settings
        admin = wiring.open_admin(settings)
        await admin.apply(wiring.topic_specs(settings, jobs.app.queues))
        await admin.close()

    def _start_witness(self, crew: Crew) -> None:
        place = self._place
        name = "tests.torture.harness.witness"
        self._witness = crew.run(
            "witness", name, str(place.histories), str(place.socket)
        )
        self._until(place.socket.exists, 30, "the witness does not listen")

    def _start_producer(self, number: int) -> subprocess.Popen[bytes]:
        order, crew, name = self._order, self._crew, f"producer-{number}"
        assert crew is not None, "the crew comes first"
        power = self._place.power
        return crew.run(
            name,
            "tests.torture.harness.producer",
            name,
            str(order.seed),
            str(order.scenario.per_s),
            order.scenario.mix,
            **({} if power is None else power.environment),
        )

    def _warm_up(self) -> None:
        """Until work flows: what breaks before that shows nothing."""
        witness = self._place.histories / "witness.jsonl"

        def has_begun() -> bool:
            return witness.exists() and witness.read_bytes().count(b'"effect"') > (
                _WARM_EFFECTS
            )

        self._until(has_begun, _WARM_S, "work does not begin")

    def _play_faults(self, crew: Crew) -> None:
        order = self._order
        acts = schedule(order.scenario, order.seed, order.seconds)
        self._phase("faults")
        history = History(self._place.histories, "nemesis")
        assert self._service is not None, "the service comes first"
        nemesis = Nemesis(acts, Stand(crew, self._service, self._place), history)
        nemesis.start()
        until = time.monotonic() + order.seconds
        while nemesis.is_alive():
            left_s = until - time.monotonic()
            self._say(
                f"{order.name}: {nemesis.count} faults, {max(0, left_s):.0f} s left"
            )
            nemesis.join(1.0)
            crew.refill()
            assert left_s > -_HEAL_S, "the faults do not end"
        nemesis.healed(timeout_s=_HEAL_S)
        history.close()

    def _await_jobs(self, crew: Crew) -> None:
        """Offer until there are enough jobs for the order."""
        if not self._order.jobs:
            return
        folder, until = self._place.histories, time.monotonic() + 3_600
        told = b'"f":"accept","outcome":"ok"'

        def enough() -> bool:
            files = folder.glob("producer-*.jsonl")
            count = sum(file.read_bytes().count(told) for file in files)
            return count >= self._order.jobs

        while not enough() and time.monotonic() < until:
            self._hold(crew, 5.0)

    def _hold(self, crew: Crew, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            crew.refill()
            time.sleep(0.2)

    def _await_spool(self, crew: Crew) -> None:
        """Until the service has forwarded what it kept; C1 speaks of what is left."""
        path = next(self._place.folder.rglob(f"*{SPOOL}"), None)
        until = time.monotonic() + _SPOOL_S
        while path is not None and time.monotonic() < until:
            spool = wiring.open_spool(self._place.settings, path)
            with contextlib.closing(spool):
                if spool.depth().first is None:
                    return
            self._hold(crew, 0.5)

    def _drain(self, crew: Crew) -> None:
        """Until the log says thrice that it is empty; C14 speaks of what is left."""
        settings, empty = self._place.settings, 0
        until = time.monotonic() + self._order.drain_s
        while empty < 3 and time.monotonic() < until:
            empty = empty + 1 if asyncio.run(is_drained(settings)) else 0
            self._hold(crew, 0.5)
        self._phase("drained" if empty >= 3 else "not drained")

    async def _read(self) -> None:
        events = read_histories(self._place.histories)
        asked = {e.job for e in events if e.f == "accept" and e.outcome == "invoke"}
        redis = self._place.redis
        await read_all(
            self._place.settings,
            self._history,
            sorted(asked),
            None if redis is None else redis.url,
        )

    def _phase(self, name: str) -> None:
        self._history.note("phase", kind=name)
        self._say(f"{self._order.name}: {name}")

    def _until(self, holds: Callable[[], bool], timeout_s: float, what: str) -> None:
        end = time.monotonic() + timeout_s
        while not holds():
            said = "" if self._crew is None else self._crew.said()
            assert time.monotonic() < end, f"{what}\n{said}"
            time.sleep(0.1)

    def close(self) -> None:
        """End all processes."""
        if self._sampler is not None:
            self._sampler.stop()
        if self._crew is not None:
            self._crew.stop()
        if self._service is not None:
            self._service.close()
        if self._witness is not None:
            self._witness.kill()
            self._witness.wait()


def _counted(pulse: Heartbeat) -> dict[str, float]:
    """Each series by name and labels, with slashes between; histograms by count."""
    return {
        "/".join((name, *labels)): (
            sum(reading.counts) if isinstance(reading, Bars) else reading
        )
        for name, series in pulse.metrics.items()
        for labels, reading in series.items()
    }


def judge(order: Order, folder: Path, events: list) -> Verdict:
    """Check a history; writes it in one file, the verdict and the timeline beside it."""
    ev = Evidence(events, order.scenario, order.log)
    violations = check(ev)
    verdict = _summed(order, ev, violations)
    write_history(folder / "history.jsonl", events)
    report = msgspec.json.format(msgspec.json.encode(verdict), indent=2)
    (folder / "verdict.json").write_bytes(report)
    write_timeline(folder / "timeline.html", order.name, ev, violations)
    return verdict


def _summed(order: Order, ev: Evidence, violations: list[Violation]) -> Verdict:
    by = {name: sum(v.checker == name for v in violations) for name in ("C7", "C8")}
    reasons = [effect.reason for effect in ev.by["effect"]]
    return Verdict(
        scenario=order.name,
        log=order.log,
        seed=order.seed,
        seconds=order.seconds,
        accepted=len(ev.accepted),
        faults=len(ev.faults),
        deaths=ev.deaths,
        asked=ev.asked,
        ends=dict(ev.counts),
        doubled=sum(len(taken) > 1 for taken in ev.applied.values()),
        absorbed=reasons.count("again"),
        stale=reasons.count("stale"),
        early=by["C8"],
        late=by["C7"],
        recovery_s=round(recovery_s(ev), 2),
        bound_s=RECOVERY_S,
        least_per_s=_least_per_s(ev),
        floor_per_s=order.scenario.floor_per_s,
        lateness_ms=_lateness(ev),
        violations=violations,
        aside_ms=_spread([int(one.wait_s * 1_000) for one in asides(ev)]),
        shares={name: round(share, 3) for name, share in slot_shares(ev).items()},
        excess=budget_excess(ev),
    )


def _least_per_s(ev: Evidence) -> float | None:
    counts = [count for _, count in progress(ev)]
    return round(min(counts) / WINDOW_S, 1) if counts else None


def _lateness(ev: Evidence) -> tuple[int, int, int]:
    late = sorted(
        runs[0].start.wall_ms - asked.due_ms
        for job, runs in ev.runs.items()
        if (asked := ev.invoked.get(job)) is not None and asked.due_ms
    )
    return _spread(late)


def _spread(found: list[int]) -> tuple[int, int, int]:
    """p50, p99 and maximum."""
    if not found:
        return (0, 0, 0)
    found = sorted(found)
    return found[len(found) // 2], found[int(len(found) * 0.99)], found[-1]


def say(line: str) -> None:
    """Progress for people: one line, rewritten where there is a terminal."""
    end = "\r" if sys.stderr.isatty() else "\n"
    sys.stderr.write(f"{line:<78}{end}")
    sys.stderr.flush()
