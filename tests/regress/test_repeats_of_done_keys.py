"""A repeat of an idempotency key that was done got an answer that was not true.

It was ``Deferred`` with a new id and the reason ``accepted``, was written to the log,
and was settled there without an effect; the state of the new id said so only after a
worker had come to it. Right: the answer is ``Deferred`` with the reason ``duplicate``
and the id of the job that had the effect, and nothing is written. A job without such a
key asks nobody, and a store that does not answer costs a bounded time.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from uuid_utils import uuid7

from shifter import Reason, Shifter
from shifter.adapters.system import SystemClock
from shifter.config import Secret, Settings
from shifter.errors import StoreUnavailableError
from shifter.model.claim import ClaimRequest, ClaimUpdate, Granted, JobState
from shifter.produce.job_states import StoredJobStates
from shifter.testing import TestApp

HOUR_MS = 3_600_000


@pytest.fixture
def file_url(tmp_path):
    return f"sqlite:///{tmp_path}/fleet.db"


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def state_url(request, file_url):
    if request.param == "sqlite":
        return file_url
    return request.getfixturevalue("redis_url")


def app_on(log, state):
    settings = Settings(
        namespace="shop",
        log_url=Secret.of_url(log),
        state_url=Secret.of_url(state),
    )
    app = Shifter("shop", settings=settings)

    @app.job
    async def mail(to: str) -> None:
        """Never run here."""

    return app, mail


async def end(app, answer, key, state=JobState.DONE):
    """What a worker records of a job."""
    async with app._claims() as claims:
        request = ClaimRequest(f"mail:{key}", answer.job_id, 1, 1)
        (granted,) = await claims.claim([request], owner="w", lease_ms=60_000)
        assert isinstance(granted, Granted)
        update = ClaimUpdate(request.identity, granted.fence, state, 1, 1, HOUR_MS)
        assert await claims.finish([update]) == [True]


async def test_a_repeat_of_a_done_key_is_answered_with_the_job_that_had_the_effect():
    app, runs = Shifter("shop"), []

    @app.job
    async def mail(to: str) -> None:
        runs.append(to)

    async with TestApp(app) as test:
        keyed = mail.options(idempotency_key="k")
        first = await keyed.defer("ann")
        waiting = await keyed.defer("ann")
        await test.drain()
        repeats = [await keyed.defer("ann"), await keyed.submit("ann")]
        other = await mail.options(idempotency_key="l").defer("ann")
        plain = await mail.defer("ann")

    assert waiting.reason is Reason.ACCEPTED
    assert {(one.job_id, one.reason) for one in repeats} == {
        (first.job_id, Reason.DUPLICATE)
    }
    assert other.reason is plain.reason is Reason.ACCEPTED
    assert runs == ["ann"]


async def test_repeats_are_known_on_servers(file_url, state_url):
    app, mail = app_on(file_url, state_url)
    async with app:
        key = str(uuid7())
        keyed = mail.options(idempotency_key=key)
        first = await keyed.defer("ann")
        await end(app, first, key)
        answers = [await keyed.defer("ann"), keyed.defer_sync("ann")]
        later = await mail.options(idempotency_key=key, delay="1h").defer("ann")

    assert {(one.job_id, one.reason) for one in answers} == {
        (first.job_id, Reason.DUPLICATE)
    }
    # Its key may be forgotten when it is due.
    assert later.reason is Reason.ACCEPTED


@pytest.mark.parametrize("state", [JobState.DEAD, JobState.EXPIRED])
async def test_a_key_without_an_effect_admits_the_next_job(file_url, state):
    app, mail = app_on(file_url, file_url)
    async with app:
        keyed = mail.options(idempotency_key="k")
        first = await keyed.defer("ann")
        await end(app, first, "k", state)
        answer = await keyed.defer("ann")

    assert answer.reason is Reason.ACCEPTED


class SlowStore:
    """A claim store that never answers."""

    def __init__(self, error=None):
        self.asked, self.error = 0, error

    async def done_by(self, identity):
        self.asked += 1
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()

    async def close(self):
        """Nothing to free."""


@pytest.mark.parametrize(
    "error", [None, StoreUnavailableError("redis", "claim.done_by", "away")]
)
async def test_a_store_that_does_not_answer_costs_a_bounded_time_once(error):
    store = SlowStore(error)
    keys = StoredJobStates(lambda: store, SystemClock())
    began = time.monotonic()
    for _ in range(50):
        assert await keys.done_by("mail:k") is None
        assert keys.done_by_sync("mail:k") is None
    passed = time.monotonic() - began
    keys.close()

    assert store.asked == 1
    # Each of the hundred questions would have waited on its own.
    assert passed < 20
