"""A circuit at work in the drain, by the evidence of one worker, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from uuid import UUID

import pytest

from shifter import (
    ConfigError,
    DeadLetter,
    Deferred,
    Priority,
    Ran,
    Reason,
    Shifter,
    Throttled,
)
from shifter.model.job import JobSpec
from shifter.policy.admission.input import DependencyNeeds
from shifter.policy.delivery.failure_burst import FailureBurstPolicy
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.limit import LimitMode, LimitPolicy
from shifter.policy.protection.quality import QualityPolicy
from shifter.policy.protection.rate import RatePolicy
from shifter.policy.protection.throttle import ThrottlePolicy
from shifter.policy.sliding_window import WindowPolicy
from shifter.ports import Record
from shifter.protection import CircuitPolicy, EvidencePolicy
from shifter.telemetry import Event, Log
from shifter.testing import TestApp
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import build_headers
from shifter.work.dependency_gate import DependencyGate
from shifter.work.job_observer import JobObserver
from tests.integration.drain_world import World

EVIDENCE = EvidencePolicy(consecutive_failures=3)


class Mailer:
    """A dependency that can be switched off, and counts its calls."""

    def __init__(self, **settings):
        self.is_up, self.calls = True, 0
        self.answer: Exception = OSError("refused")
        self.app = Shifter("shop")
        settings.setdefault("evidence", EVIDENCE)
        mailer = self.app.dependency("mailer", **settings)

        @self.app.job(uses=mailer, attempts=4, backoff="1s", max_backoff="1s")
        async def send(number: int) -> None:
            self.calls += 1
            if not self.is_up:
                raise self.answer

        self.send = send

    async def drained(self, test, *, jobs=0, advance=0):
        for number in range(jobs):
            await self.send.defer(number)
        before = self.calls
        report = await test.drain(advance=advance)
        return self.calls - before, report


async def test_an_outage_stops_the_calls_and_spends_no_attempts():
    mailer = Mailer()
    async with TestApp(mailer.app) as test:
        mailer.is_up = False
        calls, _ = await mailer.drained(test, jobs=50, advance="2s")
        assert calls == 3

        probes, _ = await mailer.drained(test, advance="2m")
        assert 2 <= probes <= 12
        assert test.dead_letters() == []

        mailer.is_up = True
        _, report = await mailer.drained(test, advance="10m")
        assert report.done == 50


async def test_a_dependency_that_asks_for_rest_gets_it():
    evidence = EvidencePolicy(min_calls=2)
    mailer = Mailer(evidence=evidence)
    async with TestApp(mailer.app) as test:
        mailer.is_up, mailer.answer = False, Throttled("4m")
        calls, _ = await mailer.drained(test, jobs=20, advance="3m")

        assert calls == 2


async def test_time_that_moves_on_without_a_start_is_not_taken_for_a_hung_handler():
    mailer = Mailer(evidence=EvidencePolicy(min_calls=2))
    async with TestApp(mailer.app, patience="1s") as test:
        mailer.is_up, mailer.answer = False, Throttled("4m")
        calls, _ = await mailer.drained(test, jobs=20, advance="3m")

        assert calls == 2


async def test_in_the_dark_nothing_is_refused():
    mailer = Mailer(dark=["circuit"])
    async with TestApp(mailer.app) as test:
        mailer.is_up = False
        calls, _ = await mailer.drained(test, jobs=10, advance="1h")

        assert calls == 40
        assert len(test.dead_letters()) == 10


async def test_what_is_held_back_is_counted(monkeypatch):
    counted = []
    count = JobObserver.held_back

    def held_back(observer, dependency, by):
        count(observer, dependency, by)
        counted.append(observer.metrics.snapshot()["shifter_held_back_total"])

    monkeypatch.setattr(JobObserver, "held_back", held_back)
    mailer = Mailer()
    async with TestApp(mailer.app) as test:
        mailer.is_up = False
        await mailer.drained(test, jobs=10)

    assert len(counted) >= 7
    assert counted[-1] == {("mailer", "circuit"): len(counted)}


async def test_room_in_a_dependency_is_judged_by_the_priority_of_the_call():
    mailer = Mailer(limit=LimitPolicy(initial=10, mode=LimitMode.FIXED))
    async with TestApp(mailer.app):
        admission, calls = mailer.app.admission, contextlib.ExitStack()
        plan = mailer.send.plan
        with calls:
            for _ in range(6):
                calls.enter_context(admission.views.calling(plan.spec, Priority.LOW))

            low = await mailer.send.options(priority=Priority.LOW).submit(1)
            high = await mailer.send.options(priority=Priority.HIGH).submit(1)

    assert isinstance(low, Deferred)
    assert low.reason is Reason.LIMIT_REACHED
    assert isinstance(high, Ran)


async def test_a_request_that_is_no_job_has_no_dependency_whatever_its_name():
    mailer = Mailer()
    async with TestApp(mailer.app):
        views = mailer.app.admission.views
        stranger = JobSpec(name=mailer.send.spec.name)
        with views.calling(mailer.send.spec, Priority.HIGH):
            pass

        assert views.needs(stranger, Priority.HIGH, False) == DependencyNeeds()
        assert (
            views.needs(JobSpec(name="http"), Priority.HIGH, False) == DependencyNeeds()
        )


async def test_a_healthy_dependency_is_called_by_every_job():
    mailer = Mailer()
    async with TestApp(mailer.app) as test:
        calls, report = await mailer.drained(test, jobs=100)

        assert (calls, report.done) == (100, 100)


async def test_replays_are_paid_from_the_retry_budget_and_fresh_jobs_are_not():
    mailer = Mailer(budget=BudgetPolicy(ratio=0, floor_per_s=1))
    async with TestApp(mailer.app) as test:
        replays = [replay(number) for number in range(50)]
        await mailer.drained(test)
        test._backend.log.append(replays, 10**6)

        at_once, _ = await mailer.drained(test)
        fresh, _ = await mailer.drained(test, jobs=100)
        later, _ = await mailer.drained(test, advance="15s")

    # The floor of ten seconds may be spent at once.
    assert 1 <= at_once <= 10
    assert fresh == 100
    assert 5 <= later <= 25


def replay(number: int) -> Record:
    job = EnvelopeV1(
        v=1, id=str(UUID(int=number)), type="send", replay_of=str(UUID(int=10**6))
    )
    headers = build_headers(job, content_type="application/json", extra=[])
    return Record("shop.default.normal", b'{"number": %d}' % number, headers)


def test_a_job_that_may_outlive_its_probe_is_refused():
    app = Shifter("shop")
    mailer = app.dependency("mailer", circuit=CircuitPolicy(probe_lease_ms=1_000))

    with pytest.raises(ConfigError, match="probe_lease_ms"):

        @app.job(uses=mailer, timeout="2s")
        async def send() -> None: ...


@pytest.mark.parametrize("name", ["", "Mailer", "a.b"])
def test_a_name_that_cannot_be_a_key_is_refused(name):
    with pytest.raises(ConfigError, match="dependency"):
        Shifter("shop").dependency(name)


def test_a_name_is_taken_once_and_a_job_uses_what_was_declared():
    app = Shifter("shop")
    app.dependency("mailer")

    with pytest.raises(ConfigError, match="mailer"):
        app.dependency("mailer")
    with pytest.raises(ConfigError, match="uses"):
        app.job(uses="mailer")(lambda: None)  # type: ignore[typeddict-item]


async def test_a_job_that_waits_for_room_is_queued_once(monkeypatch):
    asked, longest, world = 0, 0, World()
    admit = DependencyGate.admit

    def counted(guards, item):
        nonlocal asked, longest
        held = admit(guards, item)
        asked += held is not None
        longest = max([longest, *map(len, guards.queues.values())])
        return held

    monkeypatch.setattr(DependencyGate, "admit", counted)
    one = LimitPolicy(mode=LimitMode.FIXED, initial=1, maximum=1)
    mailer, done = world.app.dependency("mailer", limit=one), asyncio.Event()
    sent = []

    @world.app.job(uses=mailer)
    async def send(number: int) -> None:
        await done.wait()
        sent.append(number)

    await world.open()
    await send.defer_many([(n,) for n in range(5)])
    async with world.working():
        # Four ask again and again while the fifth has the only room.
        await world.until(lambda: asked >= 12)
        done.set()
        await world.until(lambda: len(sent) == 5)

    assert longest == 4


async def test_a_callback_that_fails_stops_no_work(caplog):
    heard = []

    def on_change(name, state):
        heard.append((name, state))
        raise ValueError("no pager")

    mailer = Mailer(on_change=on_change)
    async with TestApp(mailer.app) as test:
        mailer.is_up = False
        await mailer.drained(test, jobs=10, advance="2s")
        mailer.is_up = True
        _, report = await mailer.drained(test, advance="10m")

    assert report.done == 10
    assert heard[0] == ("mailer", "open")
    assert heard[-1] == ("mailer", "closed")


class Heard:
    """Log lines and metrics of a worker, as its observer wrote them."""

    def __init__(self, monkeypatch):
        self.lines, self.metrics = [], {}
        changed = JobObserver.circuit_changed

        def circuit_changed(observer, change):
            changed(observer, change)
            self.metrics = observer.metrics.snapshot()

        monkeypatch.setattr(JobObserver, "circuit_changed", circuit_changed)
        monkeypatch.setattr(
            Log,
            "warning",
            lambda log, event, **facts: self.lines.append((event, facts)),
        )


async def test_every_change_is_logged_counted_and_passed_to_the_callback(monkeypatch):
    heard, told = Heard(monkeypatch), []
    mailer = Mailer(on_change=lambda name, state: told.append((name, state)))
    async with TestApp(mailer.app) as test:
        mailer.is_up = False
        await mailer.drained(test, jobs=4, advance="1s")
        mailer.is_up = True
        await mailer.drained(test, advance="20s")

    assert told[0] == ("mailer", "open")
    assert told[-1] == ("mailer", "closed")
    events = [event for event, facts in heard.lines if facts.get("scope") == "process"]
    assert events[0] is Event.CIRCUIT_OPENED
    assert events[-1] is Event.CIRCUIT_CLOSED
    assert len(events) == len(told)
    counts = heard.metrics["shifter_circuit_changes_total"]
    assert sum(counts.values()) == len(told)
    openings = heard.metrics["shifter_circuit_openings_total"]
    assert {kind for (*_, kind), n in openings.items() if n} == {"OSError"}
    opened = [facts for event, facts in heard.lines if event is Event.CIRCUIT_OPENED]
    assert {facts["kind"] for facts in opened} == {"OSError"}
    states = heard.metrics["shifter_circuit_state"]
    assert [state for (*_, state), n in states.items() if n] == ["closed"]


async def test_many_dead_letters_of_one_kind_park_the_rest():
    """The handler says of each that it cannot succeed; a fix would let them."""
    app, is_fixed, ran = Shifter("shop"), [], []
    policy = FailureBurstPolicy(min_dead=5, ratio=0.5)
    bank = app.dependency(
        "bank", letters=policy, circuit=CircuitPolicy(max_cooldown_ms=5_000)
    )

    @app.job(uses=bank, attempts=1)
    async def pay(number: int) -> None:
        ran.append(number)
        if not is_fixed:
            raise DeadLetter("account unknown")

    async with TestApp(app) as test:
        for number in range(40):
            await pay.defer(number)
        await test.drain(advance="10s")
        assert len(test.dead_letters()) == 4  # the fifth is one too many
        assert len(ran) < 30

        is_fixed.append(True)
        report = await test.drain(advance="30s")
        dead = len(test.dead_letters())

    assert report.done == 40 - dead


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("probes", lambda: CircuitPolicy(probes=0)),
        ("probe_successes", lambda: CircuitPolicy(probe_successes=0)),
        ("cooldown_ms", lambda: CircuitPolicy(cooldown_ms=0)),
        ("max_cooldown_ms", lambda: CircuitPolicy(cooldown_ms=9, max_cooldown_ms=8)),
        ("probe_lease_ms", lambda: CircuitPolicy(probe_lease_ms=0)),
        ("failure_ratio", lambda: EvidencePolicy(failure_ratio=float("nan"))),
        ("failure_ratio", lambda: EvidencePolicy(failure_ratio=-0.1)),
        ("quorum_ratio", lambda: EvidencePolicy(quorum_ratio=0)),
        ("weight_ratio", lambda: EvidencePolicy(weight_ratio=1.1)),
        ("length_ms", lambda: WindowPolicy(length_ms=0)),
        ("buckets", lambda: WindowPolicy(buckets=0)),
        ("ratio", lambda: BudgetPolicy(ratio=float("nan"))),
        ("ratio", lambda: BudgetPolicy(ratio=-1)),
        ("ratio", lambda: BudgetPolicy(ratio=float("inf"))),
        ("floor_per_s", lambda: BudgetPolicy(floor_per_s=-1)),
        ("ttl_ms", lambda: BudgetPolicy(ttl_ms=0)),
        ("lease_ms", lambda: BudgetPolicy(lease_ms=20_000)),
        ("per_s", lambda: RatePolicy(per_s=0)),
        ("per_s", lambda: RatePolicy(per_s=float("nan"))),
        ("burst", lambda: RatePolicy(per_s=1, burst=0)),
        ("minimum", lambda: LimitPolicy(minimum=0)),
        ("initial", lambda: LimitPolicy(initial=9, maximum=8)),
        ("ratio", lambda: FailureBurstPolicy(ratio=float("nan"))),
        ("min_dead", lambda: FailureBurstPolicy(min_dead=0)),
        ("raise_at", lambda: QualityPolicy(lower_at=0.5, raise_at=0.6)),
        ("token_ratio", lambda: ThrottlePolicy(token_ratio=0)),
        ("dark", lambda: Shifter("shop").dependency("mailer", dark=["circut"])),
    ],
)
def test_settings_that_contradict_are_refused_with_their_field(field, make):
    with pytest.raises(ConfigError) as refused:
        make()

    assert refused.value.field == field
