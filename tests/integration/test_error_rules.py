"""Rules of errors hold wherever a handler runs: loop, thread, process, `TestApp`."""

from __future__ import annotations

import pytest

from shifter import Backoff
from shifter.model.claim import JobState
from shifter.policy.delivery.backoff import BackoffPolicy
from shifter.policy.delivery.error_rules import RETRIED, Ruling
from shifter.supervise.entrypoint import _spawn_isolated
from shifter.testing import TestApp
from shifter.wire.dead_letter import read_dead_letter
from shifter.work.isolated import IsolatedProcesses
from tests.integration.drain_world import World, submit
from tests.regress.handler_jobs import app as process_app
from tests.regress.run_alone import ended_alone

pytestmark = pytest.mark.timeout(240)

RULES = {"give_up_on": LookupError, "retry": {OSError: Backoff("30s", most="1m")}}
RAISED = {"key": KeyError, "net": ConnectionError, "other": RuntimeError}


def in_loop(world: World):
    @world.app.job(attempts=3, **RULES)
    async def fails(kind: str) -> None:
        raise RAISED[kind](kind)

    return fails


def in_thread(world: World):
    @world.app.job(attempts=3, **RULES)
    def fails(kind: str) -> None:
        raise RAISED[kind](kind)

    return fails


@pytest.mark.parametrize("place", [in_loop, in_thread])
async def test_a_failure_that_is_given_up_is_a_dead_letter_at_once(place):
    world = World()
    fails = place(world)
    await world.open()

    async with world.working(concurrency=1):
        job_id = await submit(fails, kind="key")
        await world.ended(job_id, JobState.DEAD, timeout_s=60)

    [letter] = await world.dead_letters()
    info = read_dead_letter(letter.headers)
    assert (info.reason, info.attempts) == ("not_retried", 1)
    assert info.error_type == "KeyError"


@pytest.mark.parametrize("place", [in_loop, in_thread])
async def test_attempts_and_waits_of_each_kind_in_a_test_app(place):
    world = World()
    fails = place(world)

    async with TestApp(world.app, patience="60s") as test:
        for kind in RAISED:
            await fails.defer(kind=kind)
        report = await test.drain(advance="10m")

    assert report.dead == 3
    ran = [call.arguments["kind"] for call in fails.calls]
    assert {kind: ran.count(kind) for kind in RAISED} == {
        "key": 1,
        "net": 3,
        "other": 3,
    }
    other, net = (
        [call.at for call in fails.calls if call.arguments["kind"] == kind]
        for kind in ("other", "net")
    )
    # At most 1 s and 2 s by the job's own backoff; up to 90 s by that of the type.
    assert (other[-1] - other[0]).total_seconds() <= 3
    assert 3 < (net[-1] - net[0]).total_seconds() <= 90


@pytest.fixture(scope="module")
def processes():
    def spawn():
        return _spawn_isolated("tests.regress.handler_jobs:app")

    found = IsolatedProcesses(spawn, size=1)
    yield found
    found.close()


async def test_a_process_of_its_own_judges_the_exception(processes):
    world = World()
    world.app.jobs.update(process_app.jobs)
    await world.open()
    drain = world.drain(processes=processes)
    job = process_app.jobs["fails_by_kind"]

    found = {
        kind: (await ended_alone(drain, world, job, kind=kind))[1].ruling
        for kind in ("key", "net", "other", "dies")
    }

    backoff = BackoffPolicy(base_ms=30_000, cap_ms=60_000)
    assert found == {
        "key": Ruling(gives_up=True),
        "net": Ruling(backoff=backoff),
        "other": RETRIED,
        "dies": Ruling(backoff=backoff),
    }
