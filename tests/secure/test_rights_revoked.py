"""A right is taken away from a service or worker at work, and given back."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from tests.secure.shell import PREFIX
from tests.torture.faults.broker import TopicRightsRevoked
from tests.torture.faults.trial import RECOVERY_S, Trial, during

pytestmark = [
    pytest.mark.secure,
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.timeout(240),
]


@pytest.fixture
async def trial(shell, world, tmp_path):
    environment = shell.environ("shop")
    trial = Trial(
        environment["SHIFTER_LOG"],
        environment["SHIFTER_STATE"],
        shell.namespace,
        tmp_path,
        KAFKA__SASL_PASSWORD_FILE=environment["SHIFTER_KAFKA__SASL_PASSWORD_FILE"],
        ACCEPT_TIMEOUT="3s",
    )
    await trial.open()
    try:
        async with trial.app:
            trial.worker = trial.work()
            async with trial.offering(per_s=5) as offer:
                await trial.progress(5, within_s=60)
            await trial.recovered(offer)
            yield trial
    finally:
        trial.close()


REVOKED = {
    "read": (AclOperation.READ, ResourceType.TOPIC),
    "group": (AclOperation.READ, ResourceType.GROUP),
    "write": (AclOperation.WRITE, ResourceType.TOPIC),
}


@pytest.mark.parametrize(
    "right",
    [
        pytest.param(
            right, id=name, marks=pytest.mark.torture if name == "group" else ()
        )
        for name, right in REVOKED.items()
    ],
)
async def test_a_right_that_comes_back_is_used_again(trial, world, right):
    operation, kind = right
    fault = TopicRightsRevoked(
        world.kafka.client("admin"), "shop", operation, PREFIX, kind
    )

    async with trial.offering(per_s=10) as offer:
        await trial.progress(10, within_s=RECOVERY_S)
        async with during(fault):
            await asyncio.sleep(6)
        await trial.progress(10, within_s=RECOVERY_S)

    await trial.recovered(offer)
    assert trial.worker.poll() is None, trial.said()
    assert trial.said(most=10**9).count("Traceback") == 0
