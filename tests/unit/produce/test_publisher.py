"""What a publisher refuses, writes and records, with an event loop and without one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from shifter import Shifter
from shifter.errors import ConfigError, OutcomeUnknownError
from shifter.model.answer import Deferred, Shed
from shifter.model.claim import WaitingJobs, claim_identity
from shifter.model.job import JobSpec
from shifter.model.reason import Reason
from shifter.policy.delivery.claim_state import WAITING_KEEP_MS
from shifter.ports import Appended, Refused, Unknown
from shifter.produce.options import CallOptions, plan_call
from shifter.produce.publisher import Publisher
from shifter.testing import TestApp
from shifter.testing.clock import FakeClock

app = Shifter("shop")


@app.job(queue="mail")
def send(number: int) -> None:
    pass


def test_due_time_beyond_thirty_days_is_refused():
    start = datetime(2026, 1, 1, tzinfo=UTC)

    with TestApp(app, start=start):
        send.options(due_at=start + timedelta(days=29)).defer_sync(1)
        with pytest.raises(ConfigError, match="the longest delay is 30 days"):
            send.options(due_at=start + timedelta(days=31)).defer_sync(2)


SPEC = JobSpec(name="send", queue="mail")
PLAN = plan_call("shop", SPEC, CallOptions())
KEYED = plan_call("shop", SPEC, CallOptions(idempotency_key="k"))
IDENTITY = claim_identity("send", "", "k")
ASYNC = [True, False]
APPENDED = Appended()


class ScriptedLog:
    """A log that answers each record as a test says."""

    def __init__(self, answer) -> None:
        self.answer, self.records, self.bulks = answer, [], []

    def append_sync(self, records, *, timeout_s):
        self.records += records
        self.bulks.append(len(records))
        return [self.answer] * len(records)

    async def append(self, records, *, timeout_s):
        return self.append_sync(records, timeout_s=timeout_s)

    def close(self, *, timeout_s):
        return 7


class States:
    """States of jobs, noted."""

    def __init__(self, first=None) -> None:
        self.first, self.plain, self.added, self.asked = first, [], [], []
        self.is_closed = False

    def add(self, jobs):
        self.added.append(jobs)

    def add_plain(self, job_id):
        self.plain.append(job_id)

    def holds(self, job_id):
        return job_id in self.plain

    def done_by_sync(self, identity):
        self.asked.append(identity)
        return self.first

    async def done_by(self, identity):
        return self.done_by_sync(identity)

    def close(self):
        self.is_closed = True


class Bench:
    """A publisher over a log that a test writes."""

    def __init__(self, answer=APPENDED, states=None, **options) -> None:
        self.log, self.states = ScriptedLog(answer), states
        self.publisher = Publisher(
            self.log, FakeClock(), timeout_s=2.0, states=states, **options
        )

    async def defer(self, plan, *, is_async):
        if is_async:
            return await self.publisher.defer(plan, b"{}", "application/json")
        return self.publisher.defer_sync(plan, b"{}", "application/json")


@pytest.mark.parametrize("is_async", ASYNC)
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Appended(), Reason.ACCEPTED),
        (Appended(is_spooled=True), Reason.SPOOLED),
    ],
)
async def test_an_acknowledged_record_is_a_deferred_job(answer, reason, is_async):
    bench = Bench(answer)

    deferred = await bench.defer(PLAN, is_async=is_async)

    assert isinstance(deferred, Deferred)
    assert (deferred.lane, deferred.reason) == ("shop.mail.normal", reason)
    assert [record.topic for record in bench.log.records] == ["shop.mail.normal"]


@pytest.mark.parametrize("is_async", ASYNC)
@pytest.mark.parametrize(
    ("reason", "retry_after_s"), [(Reason.LOG_AWAY, 1.0), (Reason.TOO_LARGE, None)]
)
async def test_a_refused_record_is_shed_with_a_time_to_come_back_if_it_passes(
    reason, retry_after_s, is_async
):
    shed = await Bench(Refused(reason, "why")).defer(PLAN, is_async=is_async)

    assert isinstance(shed, Shed)
    assert (shed.reason, shed.retry_after_s, shed.detail) == (
        reason,
        retry_after_s,
        "why",
    )


@pytest.mark.parametrize("is_async", ASYNC)
async def test_an_unknown_outcome_is_raised_with_the_id_of_the_job(is_async):
    bench, job_id = Bench(Unknown("no answer"), States()), str(uuid4())
    plan = plan_call("shop", SPEC, CallOptions(job_id=job_id))

    with pytest.raises(OutcomeUnknownError) as caught:
        await bench.defer(plan, is_async=is_async)

    assert caught.value.job_id == job_id
    assert (bench.states.plain, bench.states.added) == ([], [])


@pytest.mark.parametrize("is_async", ASYNC)
async def test_a_job_due_at_its_deadline_is_not_written(is_async):
    bench = Bench()
    opens_ms = bench.publisher.clock.epoch_ms() + 5_000
    plan = plan_call("shop", SPEC, CallOptions(deadline="5s"))

    late = await bench.defer(plan._replace(opens_ms=opens_ms), is_async=is_async)
    early = await bench.defer(plan._replace(opens_ms=opens_ms - 1), is_async=is_async)

    assert (late.reason, early.reason) == (Reason.EXPIRED, Reason.ACCEPTED)
    assert len(bench.log.records) == 1


@pytest.mark.parametrize("is_async", ASYNC)
async def test_a_repeat_of_a_done_key_names_the_first_job_and_is_not_written(is_async):
    bench = Bench(states=States("first"))

    answer = await bench.defer(KEYED, is_async=is_async)

    assert (answer.job_id, answer.reason) == ("first", Reason.DUPLICATE)
    assert bench.states.asked == [IDENTITY]
    assert bench.log.records == []


@pytest.mark.parametrize("is_async", ASYNC)
async def test_a_key_is_not_asked_about_for_a_job_due_later_or_without_one(is_async):
    bench = Bench(states=States("first"))
    later = plan_call("shop", SPEC, CallOptions(delay="1h", idempotency_key="k"))

    answers = [await bench.defer(plan, is_async=is_async) for plan in (later, PLAN)]

    assert [one.reason for one in answers] == [Reason.ACCEPTED] * 2
    assert bench.states.asked == []


@pytest.mark.parametrize("is_async", ASYNC)
async def test_an_accepted_job_is_recorded_for_as_long_as_it_may_wait(is_async):
    bench = Bench(states=States())
    later = plan_call("shop", SPEC, CallOptions(delay="90m"))

    plain = await bench.defer(PLAN, is_async=is_async)
    keyed = await bench.defer(KEYED, is_async=is_async)
    delayed = await bench.defer(later, is_async=is_async)

    assert bench.states.plain == [plain.job_id]
    assert bench.publisher.is_unrecorded(plain.job_id)
    assert bench.states.added == [
        WaitingJobs((keyed.job_id,), WAITING_KEEP_MS, IDENTITY),
        WaitingJobs((delayed.job_id,), WAITING_KEEP_MS + 2 * 3_600_000, None),
    ]


@pytest.mark.parametrize("is_async", ASYNC)
async def test_where_the_log_finds_waiting_jobs_only_others_are_recorded(is_async):
    bench = Bench(states=States(), finds_plain=True)
    named = plan_call("shop", SPEC, CallOptions(job_id=str(uuid4())))

    await bench.defer(PLAN, is_async=is_async)
    known = await bench.defer(named, is_async=is_async)

    assert bench.states.plain == [known.job_id]


async def test_many_jobs_are_written_in_bulks_and_answered_in_order():
    bench = Bench(states=States())

    answers = await bench.publisher.defer_many(PLAN, [b"{}"] * 4_500, "text/plain")

    assert bench.log.bulks == [2_000, 2_000, 500]
    assert [one.job_id for one in answers] == [
        job_id for jobs in bench.states.added for job_id in jobs.job_ids
    ]


async def test_an_unknown_outcome_among_many_stands_in_the_list():
    bench = Bench(Unknown("no answer"), States())

    answers = await bench.publisher.defer_many(PLAN, [b"{}"] * 3, "text/plain")

    assert [type(one) for one in answers] == [OutcomeUnknownError] * 3
    assert bench.states.added == []


def test_a_close_ends_the_states_and_tells_what_the_log_did_not_answer():
    bench = Bench(states=States())

    assert bench.publisher.close(timeout_s=1.0) == 7
    assert bench.states.is_closed
