"""What a submission decides, by the words of `submit` and of `submit_sync` alike."""

from __future__ import annotations

import asyncio
import threading

import pytest

from shifter import Context, Priority, Quality, Retry, Shifter, Throttled
from shifter.errors import DeadlineExceededError, OutcomeUnknownError, RejectedError
from shifter.model.answer import Deferred, Degraded, Ran, Shed
from shifter.model.reason import Reason
from shifter.policy.admission.admitter import AdmissionPolicy
from shifter.policy.admission.input import DEFER, DEGRADE, RUN, SHED, Decision
from shifter.produce.admission import Admission
from shifter.produce.submission import Submission
from shifter.testing.clock import FakeClock
from shifter.wire.envelope import repair_id

ASYNC = [True, False]


class Decided(Admission):
    """Admission that decides what a test says, and notes what it is told."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(AdmissionPolicy(), FakeClock(), limit=2)
        self.decision, self.held, self.full = decision, 0, []

    def decide(self, plan, **_):
        self.held += 1
        return self.decision

    def let_go(self, decision):
        assert decision is self.decision
        self.held -= 1

    def refused(self, plan):
        self.full.append(plan.lane)


class Bench:
    """One job, and a decision about it."""

    def __init__(self, decision: Decision, function, **options) -> None:
        self.app = Shifter("shop")
        self.job = self.app.job(queue="mail", **options)(function)
        self.admission = Decided(decision)

    def begin(self, *, deadline=None) -> Submission:
        plan = self.job.options(deadline=deadline).plan
        payload = self.job.codec.encode((), {})
        return Submission(self.admission, self.app.hours, self.job, plan, payload)

    async def carry_out(self, submission: Submission, *, is_async: bool):
        """Make the call as a shell does; returns the record that is asked for."""
        with submission.decided(can_run=True) as call:
            if call is not None and is_async:
                await submission.run(call)
            elif call is not None:
                await asyncio.to_thread(submission.run_sync, call)
        return submission.record()


def nothing() -> None: ...


def decided(verdict, reason=Reason.ACCEPTED, **facts) -> Decision:
    return Decision(verdict, reason, **facts)


@pytest.mark.parametrize("is_async", ASYNC)
async def test_a_job_that_runs_here_is_answered_with_its_value_and_frees_its_slot(
    is_async,
):
    bench = Bench(decided(RUN), lambda: 3, name="three")
    submission = bench.begin()

    record = await bench.carry_out(submission, is_async=is_async)

    assert record is None
    assert isinstance(submission.answer, Ran)
    assert submission.answer.value == 3
    assert bench.admission.held == 0


@pytest.mark.parametrize("is_async", ASYNC)
@pytest.mark.parametrize(
    ("error", "delay_ms"),
    [
        (Retry(), 1_000),
        (Retry(after=0), 0),
        (Throttled(after="5s"), 5_000),
        (RejectedError("bank", 0.25), 250),
    ],
)
async def test_a_handler_that_asks_for_another_attempt_is_put_on_its_lane(
    error, delay_ms, is_async
):
    def ask() -> None:
        raise error

    bench = Bench(decided(RUN), ask)
    submission = bench.begin()

    plan, payload, *_ = await bench.carry_out(submission, is_async=is_async)
    with submission.recording():
        submission.recorded(Deferred("id", plan.lane))

    assert (plan.lane, plan.delay_ms, payload) == (
        "shop.mail.normal",
        delay_ms,
        b"{}",
    )
    assert submission.answer.reason is Reason.RETRY_ASKED
    assert bench.admission.held == 0


@pytest.mark.parametrize("is_async", ASYNC)
async def test_an_error_of_the_handler_is_raised_and_frees_the_slot(is_async):
    def fail() -> None:
        raise LookupError("lost")

    bench = Bench(decided(RUN), fail)

    with pytest.raises(LookupError, match="lost"):
        await bench.carry_out(bench.begin(), is_async=is_async)

    assert bench.admission.held == 0


@pytest.mark.parametrize("is_async", ASYNC)
async def test_a_deadline_that_passes_in_the_handler_ends_a_job_that_has_one(is_async):
    def late() -> None:
        raise DeadlineExceededError("id", 0.5)

    bench = Bench(decided(RUN), late)
    with_deadline = bench.begin(deadline="5s")
    record = await bench.carry_out(with_deadline, is_async=is_async)

    with pytest.raises(DeadlineExceededError):
        await bench.carry_out(bench.begin(), is_async=is_async)

    assert record is None
    assert isinstance(with_deadline.answer, Shed)
    assert with_deadline.answer.reason is Reason.EXPIRED


async def test_a_call_past_its_deadline_is_cancelled_and_expires():
    async def wait() -> None:
        await asyncio.Event().wait()

    bench = Bench(decided(RUN), wait)
    submission = bench.begin(deadline="10ms")

    record = await bench.carry_out(submission, is_async=True)

    assert record is None
    assert submission.answer.reason is Reason.EXPIRED


async def test_a_call_past_its_timeout_raises_that():
    async def wait() -> None:
        await asyncio.Event().wait()

    bench = Bench(decided(RUN), wait, timeout="10ms")

    with pytest.raises(TimeoutError):
        await bench.carry_out(bench.begin(deadline="5s"), is_async=True)

    assert bench.admission.held == 0


async def test_a_thread_that_goes_on_after_its_limit_keeps_its_slot_until_it_ends():
    is_over, has_ended = threading.Event(), threading.Event()

    def work() -> None:
        is_over.wait(40)

    bench = Bench(decided(RUN), work, timeout="300ms")
    bench.admission.threads.submit(nothing).result()
    submission = bench.begin()
    with pytest.raises(TimeoutError):
        await bench.carry_out(submission, is_async=True)
    held = bench.admission.held

    submission._thread.add_done_callback(lambda _: has_ended.set())
    is_over.set()
    await asyncio.to_thread(has_ended.wait, 40)

    assert (held, bench.admission.held) == (1, 0)


@pytest.mark.parametrize("is_async", ASYNC)
async def test_a_refused_job_is_neither_called_nor_recorded(is_async):
    bench = Bench(decided(SHED, Reason.OVERLOADED, retry_after_s=2.5), nothing)
    submission = bench.begin()

    record = await bench.carry_out(submission, is_async=is_async)

    assert record is None
    assert (submission.answer.reason, submission.answer.retry_after_s) == (
        Reason.OVERLOADED,
        2.5,
    )


async def test_a_deferred_job_tells_why_and_when_it_is_expected():
    bench = Bench(decided(DEFER, Reason.LIMIT_REACHED, eta_s=4.0), nothing)
    submission = bench.begin()
    plan, *_ = await bench.carry_out(submission, is_async=True)

    with submission.recording():
        submission.recorded(Deferred("id", plan.lane))

    assert (submission.answer.reason, submission.answer.eta_s) == (
        Reason.LIMIT_REACHED,
        4.0,
    )


async def test_a_spooled_job_keeps_the_reason_of_the_log():
    bench = Bench(decided(DEFER, Reason.LIMIT_REACHED), nothing)
    submission = bench.begin()
    await bench.carry_out(submission, is_async=True)

    submission.recorded(Deferred("id", "shop.mail.normal", reason=Reason.SPOOLED))

    assert submission.answer.reason is Reason.SPOOLED


@pytest.mark.parametrize(
    ("reason", "noted"),
    [(Reason.LOG_AWAY, ["shop.mail.normal"]), (Reason.TOO_LARGE, [])],
)
async def test_only_a_refusal_that_passes_counts_against_the_load(reason, noted):
    bench = Bench(decided(DEFER), nothing)
    submission = bench.begin()
    await bench.carry_out(submission, is_async=True)

    submission.recorded(Shed(None, job_id="id", reason=reason))

    assert isinstance(submission.answer, Shed)
    assert bench.admission.full == noted


async def test_an_unknown_outcome_of_a_deferred_job_is_raised():
    bench = Bench(decided(DEFER), nothing)
    submission = bench.begin()
    await bench.carry_out(submission, is_async=True)

    with pytest.raises(OutcomeUnknownError), submission.recording():
        raise OutcomeUnknownError("id", 1.0, "no answer")


def degraded(**options) -> Bench:
    bench = Bench(decided(DEGRADE, Reason.CIRCUIT_OPEN), nothing, **options)
    bench.job.fallback(lambda: "cheap")
    return bench


@pytest.mark.parametrize("is_async", ASYNC)
async def test_a_cheaper_answer_is_at_a_lower_quality_and_needs_no_record(is_async):
    bench = degraded()
    submission = bench.begin()

    record = await bench.carry_out(submission, is_async=is_async)

    assert record is None
    assert isinstance(submission.answer, Degraded)
    assert (submission.answer.value, submission.answer.quality) == (
        "cheap",
        Quality.REDUCED,
    )


@pytest.mark.parametrize("is_async", ASYNC)
async def test_a_repair_is_the_job_itself_on_its_low_lane_without_a_deadline(is_async):
    bench = degraded(repair=True, deadline="5s")
    submission = bench.begin()
    plan, payload, *_ = await bench.carry_out(submission, is_async=is_async)
    answer = submission.answer

    repair = Deferred("repair", plan.lane)
    with submission.recording():
        submission.recorded(repair)

    assert (plan.priority, plan.lane) == (Priority.LOW, "shop.mail.low")
    assert (plan.deadline_ms, payload) == (None, b"{}")
    assert plan.job_id == repair_id(answer.job_id)
    assert submission.answer is answer
    assert answer.repair is repair


async def test_a_cheaper_answer_is_valid_without_its_repair():
    bench = degraded(repair=True)
    submission = bench.begin()
    await bench.carry_out(submission, is_async=True)

    with submission.recording():
        raise OutcomeUnknownError("id", 1.0, "no answer")

    assert submission.answer.repair is None


@pytest.mark.parametrize("is_async", ASYNC)
async def test_a_handler_sees_its_first_attempt_and_what_is_left_of_its_time(is_async):
    seen = []

    def work(ctx: Context) -> None:
        seen.append((ctx.attempt, ctx.fence, ctx.remaining_s, ctx.quality))

    bench = Bench(decided(RUN), work, timeout="1m")

    await bench.carry_out(bench.begin(deadline="20s"), is_async=is_async)
    await bench.carry_out(bench.begin(), is_async=is_async)

    assert seen == [(1, 0, 20.0, Quality.FULL), (1, 0, 60.0, Quality.FULL)]
