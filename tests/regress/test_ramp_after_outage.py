"""A process that never saw healthy traffic was starved for minutes after an outage.

The ramp let in a share of what was usual before, which was nothing, or a quiet hour's;
and `submit` paid twice for each call, since its decision took what its call then took
again. The rate doubles while calls succeed, whatever was usual, and is bounded by the
old peak for a few seconds only; workers, blocks and `submit` get the same.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from benchmarks.fleet_history import Plan
from benchmarks.fleet_play import play
from shifter import Ran
from shifter.errors import CircuitOpenError
from shifter.fleet.shared_state import circuit_text
from shifter.policy.protection.circuit.states import Closed, Open
from shifter.policy.protection.dependency import Dependency
from shifter.protection import CircuitPolicy
from tests.integration.drain_world import World

PER_S, RAMP_MS = 100, 800
CIRCUIT = CircuitPolicy(cooldown_ms=1_000, max_cooldown_ms=2_000, ramp_ms=2_000)


class Recovering(World):
    """An app whose dependency's circuit closes when the test begins."""

    def __init__(self):
        super().__init__()
        policy = CircuitPolicy(ramp_ms=RAMP_MS)
        self.bank = self.app.dependency("bank", circuit=policy)
        self.made = []

    async def call(self):
        self.made.append(self.clock.monotonic())
        await asyncio.sleep(0.005)

    def close_circuit(self, replica):
        circuit = replica.protections["bank"].circuit
        for state in (Open(1, 1, 0), Closed(2)):
            circuit.learn(circuit_text(state), int(self.clock.monotonic() * 1_000))

    async def offer(self, make):
        """Offer so many calls a second for three seconds; the share made in the last."""
        begin = self.clock.monotonic()
        async with asyncio.TaskGroup() as group:
            for n in range(3 * PER_S):
                at = begin + n / PER_S
                await asyncio.sleep(max(0.0, at - self.clock.monotonic()))
                group.create_task(make())
        last = sum(begin + 2 <= at < begin + 3 for at in self.made)
        first = sum(at < begin + 0.1 for at in self.made)
        assert first <= 3
        return last / PER_S


@pytest.mark.alone
async def test_blocks_are_all_let_in_soon():
    world = Recovering()

    async def block():
        with contextlib.suppress(CircuitOpenError):
            async with world.bank:
                await world.call()

    with world.app.served_by(world.publisher, world.claims):
        replica = world.app._caller().replica
        world.close_circuit(replica)
        assert await world.offer(block) >= 0.9


@pytest.mark.alone
async def test_submits_are_all_let_in_soon():
    world, answers = Recovering(), []

    @world.app.job(uses=world.bank)
    async def pay() -> None:
        await world.call()

    async def submit():
        answers.append(await pay.submit())

    await world.open()
    with world.app.served_by(world.publisher, world.claims):
        world.close_circuit(world.app._caller().replica)
        assert await world.offer(submit) >= 0.9

    assert sum(isinstance(answer, Ran) for answer in answers) == len(world.made)


async def test_a_decision_that_only_looks_takes_nothing_of_the_ramp():
    world = Recovering()
    with world.app.served_by(world.publisher, world.claims):
        replica = world.app._caller().replica
        world.close_circuit(replica)
        protection, now_ms = (
            replica.protections["bank"],
            int(world.clock.monotonic() * 1_000),
        )
        looks = [protection.shut_for_ms(now_ms) for _ in range(10)]

    assert looks == [None] * 10


@pytest.mark.alone
@pytest.mark.parametrize("is_block", [True, False], ids=["block", "uses"])
async def test_jobs_of_workers_are_all_let_in_soon(is_block):
    world = Recovering()

    async def in_block() -> None:
        async with world.bank:
            await world.call()

    options = {} if is_block else {"uses": world.bank}
    handler = in_block if is_block else world.call
    job = world.app.job(name="pay", **options)(handler)
    await world.open()
    async with world.working(concurrency=50) as drain:
        world.close_circuit(drain.replica)
        assert await world.offer(job.defer) >= 0.7


@pytest.mark.alone
@pytest.mark.redis
@pytest.mark.timeout(240)
def test_a_fleet_that_starts_during_an_outage_is_back_in_five_seconds(
    redis_url, namespace, tmp_path
):
    healed_s = 3.0
    plan = Plan(
        redis_url,
        namespace,
        processes=4,
        per_s=800,
        seconds=healed_s + 12,
        down=[(0.0, healed_s)],
    )

    played = play(plan, Dependency("bank", circuit=CIRCUIT), tmp_path)

    assert played.per_s(healed_s + 5, healed_s + 6) >= 0.7 * 800
    # All, but for what a busy machine makes late.
    assert played.per_s(healed_s + 10, healed_s + 12) >= 0.9 * 800
