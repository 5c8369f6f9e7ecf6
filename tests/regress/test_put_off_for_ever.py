"""A dependency that says `Retry-After: 0` for ever kept a job going for ever.

After 100,000 turns the record could not be read any more, so that its dead letter had
lost its id. Right: what is put off without being charged is put off a number of times and
for a time; then it is a dead letter with a reason of its own, that can be replayed.
"""

from __future__ import annotations

import json
import uuid

import pytest

from shifter import Context, Shifter, Throttled
from shifter.config import Settings
from shifter.errors import CircuitOpenError
from shifter.policy.delivery import job_limits
from shifter.policy.delivery.job_limits import is_put_off_too_long
from shifter.ports import Record
from shifter.testing import TestApp
from shifter.wire.headers import read_headers


def app_of() -> Shifter:
    name = f"p{uuid.uuid4().hex[:8]}"
    return Shifter(name, settings=Settings(namespace=name))


def test_the_bounds_are_a_number_and_a_time():
    week_ms = 7 * 86_400_000

    assert not is_put_off_too_long(10_000, week_ms)
    assert is_put_off_too_long(10_001, 0)
    assert is_put_off_too_long(1, week_ms + 1)


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("error", [Throttled(0), CircuitOpenError("smtp", 0.0)])
async def test_a_job_that_is_throttled_at_once_ends_after_a_number(
    monkeypatch, key, error
):
    monkeypatch.setattr(job_limits, "MAX_PUT_OFF", 300)
    app, runs = app_of(), []

    @app.job(attempts=1, on_block="hold")
    async def mail(to: str) -> None:
        runs.append(to)
        raise error

    async with TestApp(app) as test:
        answer = await mail.options(key=key).defer("ann")
        report = await test.drain("1h")
        [letter] = test.dead_letters()

    assert (len(runs), report.dead, report.waiting) == (301, 1, 0)
    assert letter.reason == "put_off_too_long"
    assert (letter.job_id, letter.job, letter.attempts) == (answer.job_id, "mail", 1)
    assert letter.arguments == {"to": "ann"}


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_job_that_is_throttled_for_long_ends_after_a_time(key):
    app, runs = app_of(), []

    @app.job(on_block="hold")
    async def mail() -> None:
        runs.append(1)
        raise Throttled("6h")

    async with TestApp(app) as test:
        await mail.options(key=key).defer()
        before = await test.drain("7d")
        after = await test.drain("1d")
        [letter] = test.dead_letters()

    assert (before.dead, after.dead) == (0, 1)
    assert letter.reason == "put_off_too_long"
    assert len(runs) == 30


async def test_what_is_charged_begins_the_time_anew():
    app, runs = app_of(), []

    @app.job(attempts=3, backoff="1s", max_backoff="1s")
    async def mail(ctx: Context) -> None:
        runs.append(ctx.attempt)
        # Five days of throttling around each failure.
        if len(runs) % 6 == 0:
            raise OSError("down")
        raise Throttled("1d")

    async with TestApp(app) as test:
        await mail.defer()
        report = await test.drain("20d")
        [letter] = test.dead_letters()

    assert report.dead == 1
    assert letter.reason == "attempts_exhausted"
    assert runs == [1] * 6 + [2] * 6 + [3] * 6


async def test_a_delay_of_its_own_is_not_counted():
    app = app_of()

    @app.job
    async def mail() -> None:
        if not mail.calls[1:]:
            raise Throttled("1s")

    async with TestApp(app) as test:
        await mail.options(delay="30d").defer()
        report = await test.drain("31d")

    assert (report.done, report.dead) == (1, 0)


@pytest.mark.parametrize("raised", [OSError("down"), Throttled(0)])
@pytest.mark.parametrize("turn", [100_000, 99_999])
async def test_a_letter_of_the_last_turn_can_be_read_and_has_its_id(raised, turn):
    app = app_of()

    @app.job(attempts=1_000, backoff="1ms", max_backoff="1ms")
    async def mail() -> None:
        raise raised

    job_id = str(uuid.uuid4())
    async with TestApp(app) as test:
        head = {"v": 1, "id": job_id, "type": "mail", "turn": turn}
        headers = [("shifter", json.dumps(head).encode())]
        lane = f"{app.namespace}.default.normal"
        test._backend.log.append([Record(lane, b"{}", headers)], 10**6)
        report = await test.drain("1m")
        [record] = test._backend.log.entries(f"{app.namespace}.default.dlt")
        [letter] = test.dead_letters()

    assert (report.dead, report.waiting) == (1, 0)
    assert (letter.job_id, letter.reason) == (job_id, "put_off_too_long")
    own = [header for header in record.headers if not header[0].startswith("shifter-")]
    assert read_headers(own).envelope.id == job_id


async def test_a_forged_begin_in_the_future_is_now():
    app = app_of()

    @app.job
    async def mail() -> None:
        raise Throttled("1d")

    async with TestApp(app) as test:
        head = {"v": 1, "id": str(uuid.uuid4()), "type": "mail"}
        head["put_off_since_ms"] = 253_402_300_799_999
        headers = [("shifter", json.dumps(head).encode())]
        lane = f"{app.namespace}.default.normal"
        test._backend.log.append([Record(lane, b"{}", headers)], 10**6)
        report = await test.drain("9d")

    assert (report.dead, report.waiting) == (1, 0)
