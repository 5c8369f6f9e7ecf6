"""Events of jobs: which are recorded, and that nothing waits for them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from shifter import DeadLetter, Retry, Shifter, Window
from shifter.adapters.memory.log import MemoryLogAdmin
from shifter.model.claim import JobState
from shifter.model.lane import events_topic
from shifter.ops.job_history import Entry
from shifter.ops.job_reader import JobReader
from shifter.ports import TopicSpec, Unknown
from shifter.protection import RatePolicy
from shifter.telemetry.job_events import JobEventStream
from shifter.testing import TestApp
from shifter.work.job_events import WorkerEvents
from tests.integration.drain_world import World, submit

TOPIC = events_topic("shop")


class RecordedWorld(World):
    """A world whose worker records events."""

    def __init__(self, events: str = "failures") -> None:
        super().__init__()
        self.counts = {"written": 0, "lost": 0}
        self.stream: JobEventStream | None = None
        if events != "none":
            self.stream = JobEventStream(
                self.lane_log,
                self.clock,
                topic=TOPIC,
                process="w1",
                counted=self.counted,
                is_all=events == "all",
            )

    def counted(self, outcome: str, count: int) -> None:
        self.counts[outcome] += count

    def drain(self, **options):
        drain = super().drain(**options)
        if self.stream is not None:
            drain.observer.events = WorkerEvents(self.stream, self.clock)
        return drain

    async def history(self, job_id: str) -> list[Entry]:
        if self.stream is not None:
            await self.stream.write()
        admin = MemoryLogAdmin(self.log)
        return (await JobReader(admin, "shop", self.clock).recorded(job_id)).story


def kinds(story: list[Entry]) -> list[str]:
    return [entry["event"] for entry in story]


@pytest.mark.parametrize(
    ("events", "of_done", "of_failed"),
    [
        ("none", [], []),
        ("failures", [], ["submitted", "started", "failed", "dead_lettered"]),
        (
            "all",
            ["submitted", "started", "done"],
            ["submitted", "started", "failed", "dead_lettered"],
        ),
    ],
)
async def test_what_each_setting_records(events, of_done, of_failed):
    world = RecordedWorld(events)

    @world.app.job
    async def good() -> None: ...

    @world.app.job
    async def bad() -> None:
        raise DeadLetter("no such customer")

    await world.open()
    async with world.working():
        good_id, bad_id = await submit(good), await submit(bad)
        await world.ended(good_id, JobState.DONE)
        await world.ended(bad_id, JobState.DEAD)

    assert kinds(await world.history(good_id)) == of_done
    assert kinds(await world.history(bad_id)) == of_failed


async def test_a_success_after_a_failure_is_recorded_to_its_end():
    world = RecordedWorld()

    @world.app.job(attempts=3)
    async def flaky(context_free: int = 0) -> None:
        if len(runs := world.__dict__.setdefault("runs", [])) == 0:
            runs.append(1)
            raise Retry(after="50ms")

    await world.open()
    async with world.working():
        job_id = await submit(flaky)
        await world.ended(job_id, JobState.DONE)

    story = await world.history(job_id)
    assert kinds(story) == [
        *("submitted", "started", "failed", "retrying", "started", "done")
    ]
    assert story[4]["waits_ms"]["retry"] > 0
    assert story[3]["until_ms"] >= story[3]["at_ms"]


async def test_a_log_that_is_away_stops_nothing_and_losses_are_counted():
    world = RecordedWorld()

    class Away:
        async def append(self, records, *, timeout_s):
            return [Unknown("nobody answers")] * len(records)

    world.stream._log = Away()

    @world.app.job
    async def bad() -> None:
        raise DeadLetter("no")

    await world.open()
    async with world.working(), asyncio.timeout(30):
        ids = [await submit(bad) for _ in range(50)]
        for job_id in ids:
            await world.ended(job_id, JobState.DEAD)
    await world.stream.close()

    assert world.counts == {"written": 0, "lost": 50}
    assert world.stream.queued == 0


async def test_a_topic_that_is_not_there_loses_events_only():
    world = RecordedWorld()
    stream = world.stream

    @world.app.job
    async def bad() -> None:
        raise DeadLetter("no")

    await world.open()
    del world.log._specs[TOPIC], world.log._parts[TOPIC]
    async with world.working():
        await world.ended(await submit(bad), JobState.DEAD)
    await stream.close()
    assert world.counts == {"written": 0, "lost": 1}

    world.log.create(TopicSpec(TOPIC, 1, 86_400_000, 1_000_000))
    stream._silent_until = 0.0
    async with world.working():
        job_id = await submit(bad)
        await world.ended(job_id, JobState.DEAD)
    assert "dead_lettered" in kinds(await world.history(job_id))


async def test_a_test_app_tells_the_history_of_each_job():
    app = Shifter("shop")

    @app.job(attempts=3, backoff="10s")
    async def send(number: int) -> None: ...

    async with TestApp(app) as test:
        test.fail_with(send, OSError("the mailer is away"))
        job_id = await submit(send, 1)
        late_id = await submit(send.options(delay="1h"), 2)
        await test.drain(advance="2h")
        story = await test.history(job_id.upper())
        late = await test.history(late_id)

    assert kinds(story) == [
        *("submitted", "started", "failed", "retrying", "started", "done")
    ]
    failed, done = story[2], story[-1]
    assert (failed["error"], failed["message"]) == ("OSError", "the mailer is away")
    assert (done["attempt"], story[0]["queue"]) == (2, "default")
    assert story[4]["waits_ms"]["retry"] <= 10_000
    assert kinds(late) == ["submitted", "started", "done"]
    assert late[1]["at_ms"] - late[0]["at_ms"] >= 3_600_000


async def test_waits_are_shown_by_their_cause():
    app = Shifter("shop")
    mailer = app.dependency("mailer", rate=RatePolicy(per_s=0.1, burst=1))

    @app.job(uses=mailer)
    async def send(number: int) -> None: ...

    @app.job
    async def step(number: int) -> None:
        await asyncio.sleep(60)

    async with TestApp(app, concurrency=10) as test:
        ids = [await submit(send, number) for number in range(2)]
        keyed = [await submit(step.options(key="k"), number) for number in range(2)]
        await test.drain(advance="10m")
        stories = [await test.history(job_id) for job_id in (*ids, *keyed)]

    waits = [
        entry.get("waits_ms", {})
        for story in stories
        for entry in story
        if entry["event"] == "started"
    ]
    assert kinds(stories[1]) == ["submitted", "waiting", "started", "done"]
    assert stories[1][1]["cause"] == "rate"
    assert 5_000 <= waits[1]["rate"] <= 20_000
    assert "rate" not in waits[0]
    assert 50_000 <= waits[3]["order"] <= 70_000
    assert "order" not in waits[2]


async def test_no_event_has_a_payload():
    world = RecordedWorld("all")

    @world.app.job(attempts=2, backoff="10ms")
    async def bad(secret: str) -> None:
        raise DeadLetter("no such customer")

    await world.open()
    async with world.working():
        job_id = await submit(bad, "4111-1111-1111-1111")
        await world.ended(job_id, JobState.DEAD)

    assert await world.history(job_id)
    entries = world.log.entries(TOPIC)
    assert entries
    assert not any(b"4111" in delivery.value for delivery in entries)


async def test_a_slow_success_is_recorded():
    app = Shifter("shop")

    @app.job(timeout="60s")
    async def work(seconds: int) -> None:
        await asyncio.sleep(seconds)

    test = TestApp(app)
    test._backend.events.is_all = False
    async with test:
        quick, slow = await submit(work, 20), await submit(work, 40)
        await test.drain(advance="10m")
        stories = [kinds(await test.history(job_id)) for job_id in (quick, slow)]

    assert "done" not in stories[0]
    assert stories[1][-2:] == ["started", "done"]


async def test_a_wait_for_a_window_or_a_deploy_is_told_with_its_end():
    app, newer = Shifter("shop"), Shifter("shop")

    @app.job(window=Window("22:00-06:00", tz="UTC"))
    async def nightly() -> None: ...

    @newer.job(name="coming")
    async def coming() -> None: ...

    async with TestApp(app, start=datetime(2026, 1, 1, 12, tzinfo=UTC)) as test:
        job_id = await submit(nightly)
        test.close_now(job="nightly", for_="12h")
        with test.beside(newer):
            stranger = await submit(coming)
        await test.drain(advance="13h")
        story, other = await test.history(job_id), await test.history(stranger)

    assert kinds(story)[-2:] == ["started", "done"]
    assert "window" in {entry.get("cause") for entry in story}
    waits = [entry for entry in other if entry["event"] == "waiting"]
    assert waits[0]["cause"] == "deploy"
    assert waits[0]["until_ms"] > waits[0]["at_ms"]
    assert waits[0]["reason"] == "unknown_job"
    assert kinds(other)[-1] == "dead_lettered"
