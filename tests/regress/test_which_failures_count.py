"""Mistakes of one's own opened the circuit of a healthy dependency.

Whatever a handler or a block raised was a failure of the dependency: a few
``ValueError``s kept everybody from it. Python's own types for mistakes say nothing about
it by default, ``failures=`` and ``ignore=`` decide otherwise, and a refusal in a handler
with ``isolate="process"`` is no failure of its job.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import threading

import msgspec
import pytest

from shifter import ConfigError, Priority, Quality, Retry
from shifter.errors import (
    CircuitOpenError,
    DeadlineExceededError,
    JobCancelledError,
    RejectedError,
)
from shifter.fleet.calls import CUT, FAILURE, IGNORED, verdict_of
from shifter.policy.protection.circuit.evidence import CallOutcome
from shifter.policy.protection.circuit.states import Closed, Open
from shifter.policy.protection.dependency import Dependency
from shifter.protection import EjectionPolicy, EvidencePolicy
from shifter.work.isolated_child import (
    ContextFacts,
    IsolatedCall,
    IsolatedReady,
    IsolatedReply,
    raise_reply,
    serve_calls,
)
from tests.integration.drain_world import World

IN_A_ROW, HOUR = 3, 4 * 10**12
EVIDENCE = EvidencePolicy(consecutive_failures=IN_A_ROW)


class LibraryError(ValueError):
    """As libraries make them."""


def of_status(error):
    return getattr(error, "status", 0) >= 500


def with_status(status):
    error = OSError("said no")
    error.status = status
    return error


def from_cause(cause):
    error = Retry("1s")
    error.__cause__ = cause
    return error


def never(_):
    raise RuntimeError("my own function is wrong")


BAD_JSON = json.JSONDecodeError("not here", "<html>", 0)
CASES = [
    ({}, OSError(), True),
    ({}, RuntimeError(), True),
    ({}, TimeoutError(), True),
    ({}, LibraryError(), True),
    ({}, BAD_JSON, True),
    ({}, ValueError(), False),
    ({}, TypeError(), False),
    ({}, KeyError("id"), False),
    ({}, AssertionError(), False),
    ({}, from_cause(ValueError()), False),
    ({}, from_cause(OSError()), True),
    ({}, Retry("1s"), True),
    ({}, ExceptionGroup("", [ValueError(), OSError()]), True),
    ({}, ExceptionGroup("", [ValueError(), KeyError()]), False),
    ({"failures": ValueError}, ValueError(), True),
    ({"failures": ValueError}, OSError(), False),
    ({"failures": (ConnectionError, TimeoutError)}, ConnectionResetError(), True),
    ({"failures": (ConnectionError, TimeoutError)}, PermissionError(), False),
    ({"failures": of_status}, with_status(503), True),
    ({"failures": of_status}, with_status(404), False),
    ({"failures": never}, OSError(), True),
    ({"ignore": PermissionError}, PermissionError(), False),
    ({"ignore": PermissionError}, OSError(), True),
    ({"ignore": PermissionError}, ValueError(), False),
    ({"ignore": (LibraryError, LookupError)}, LibraryError(), False),
    ({"ignore": lambda error: not of_status(error)}, with_status(404), False),
    ({"failures": OSError, "ignore": FileNotFoundError}, FileNotFoundError(), False),
    ({"failures": OSError, "ignore": FileNotFoundError}, OSError(), True),
]


@pytest.mark.parametrize(("options", "error", "counts"), CASES)
def test_what_was_raised_counts_as_the_dependency_declares(options, error, counts):
    bank = Dependency("bank", **options)

    verdict = verdict_of(error, bank)

    assert verdict._replace(cause=None) == (FAILURE if counts else IGNORED)
    assert (verdict.cause is not None) is counts


def test_a_cancelled_call_is_ignored_and_an_expired_one_is_judged_by_its_time():
    bank = Dependency("bank", failures=BaseException)

    assert verdict_of(JobCancelledError("1"), bank) == IGNORED
    assert verdict_of(DeadlineExceededError("1", 0.1), bank) == CUT
    assert verdict_of(asyncio.CancelledError(), bank) == CUT


@pytest.mark.parametrize("field", ["failures", "ignore"])
@pytest.mark.parametrize("kinds", ["OSError", 5, int, (OSError, "TimeoutError"), []])
def test_what_is_neither_types_nor_a_function_is_refused(field, kinds):
    with pytest.raises(ConfigError, match="exception type") as refused:
        World().app.dependency("bank", **{field: kinds})

    assert refused.value.field == field


# Wherever a call is made.


async def blocks(world, bank, error):
    for _ in range(IN_A_ROW):
        with contextlib.suppress(type(error)):
            async with bank:
                raise error
    return world.app._guard.replica


async def sync_blocks(world, bank, error):
    for _ in range(IN_A_ROW):
        with contextlib.suppress(type(error)), bank:
            raise error
    return world.app._guard.replica


async def submits(world, bank, error):
    @world.app.job(uses=bank)
    async def pay() -> None:
        raise error

    await world.open()
    for _ in range(IN_A_ROW):
        with contextlib.suppress(type(error)):
            await pay.submit()
    return world.app._guard.replica


async def jobs(world, bank, error):
    ran = []

    @world.app.job(uses=bank, attempts=1)
    async def pay() -> None:
        ran.append(1)
        raise error

    return await worked(world, pay, ran)


async def jobs_in_threads(world, bank, error):
    ran = []

    @world.app.job(uses=bank, attempts=1)
    def pay() -> None:
        ran.append(1)
        raise error

    return await worked(world, pay, ran)


async def jobs_with_blocks(world, bank, error):
    ran = []

    @world.app.job(attempts=1)
    async def pay() -> None:
        ran.append(1)
        async with bank:
            raise error

    return await worked(world, pay, ran)


async def worked(world, job, ran):
    await world.open()
    async with world.working() as drain:
        for _ in range(IN_A_ROW):
            await job.defer()
        await world.until(lambda: len(ran) >= IN_A_ROW and not drain.running)
    return drain.replica


PLACES = [blocks, sync_blocks, submits, jobs, jobs_in_threads, jobs_with_blocks]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("options", "error", "opens"),
    [
        ({}, ValueError("mine"), False),
        ({}, OSError("its own"), True),
        ({"failures": (ValueError,)}, ValueError("its own"), True),
        ({"ignore": OSError}, OSError("mine"), False),
    ],
    ids=["a mistake", "an error", "failures=", "ignore="],
)
async def test_the_circuit_opens_for_what_counts_wherever_it_is_raised(
    place, options, error, opens
):
    world = World()
    bank = world.app.dependency("bank", evidence=EVIDENCE, **options)
    with world.app.served_by(world.publisher, world.claims):
        replica = await place(world, bank, error)
        state = replica.protections["bank"].breaker.own.state

    assert isinstance(state, Open if opens else Closed)


@pytest.mark.parametrize("is_async", [True, False], ids=["run", "run_sync"])
@pytest.mark.parametrize(
    ("options", "error", "counts"),
    [
        ({}, ValueError("mine"), False),
        ({}, OSError("its own"), True),
        ({"failures": (ValueError,)}, ValueError("its own"), True),
        ({"failures": of_status}, with_status(404), False),
        ({"failures": of_status}, with_status(503), True),
        ({"ignore": OSError}, OSError("mine"), False),
        ({"ignore": lambda error: not of_status(error)}, with_status(404), False),
    ],
)
async def test_what_counts_is_tried_again_and_ejects_and_what_does_not_is_raised_at_once(
    is_async, options, error, counts
):
    world, told, called = World(), [], []
    patient = EvidencePolicy(consecutive_failures=10**6, min_calls=10**6)
    bank = world.app.dependency(
        "bank",
        evidence=patient,
        endpoints=["a:1", "b:1", "c:1"],
        on_change=lambda name, state, cause: told.append((state, cause)),
        **options,
    )

    def fetch(endpoint):
        called.append(endpoint.url)
        raise error

    async def fetch_async(endpoint):
        fetch(endpoint)

    with world.app.served_by(world.publisher, world.claims):
        for _ in range(2 * EjectionPolicy().consecutive_failures):
            with pytest.raises(type(error)):
                if is_async:
                    await bank.run(fetch_async, retries=1)
                else:
                    bank.run_sync(fetch, retries=1)
        counted = world.app._guard.replica.protections["bank"].take_ejected()

    calls = 2 * EjectionPolicy().consecutive_failures
    assert len(called) == (2 * calls if counts else calls)
    # Of three endpoints one may be ejected.
    ejected = [cause for state, cause in told if state == "ejected"]
    assert [cause.endpoint in called for cause in ejected] == [True] * counts
    assert counted == ({type(error).__name__: 1} if counts else {})
    if counts:
        [cause] = ejected
        assert (cause.kind, cause.count) == (type(error).__name__, 5)
        assert cause.message == str(error)
        views = {view.endpoint.url: view for view in bank.endpoint_views()}
        assert views[cause.endpoint].why == f"5 failures in a row; {cause.text[:99]}"


def child_says(error, **options):
    """What a process of its own replies about a handler that raises."""
    world = World()
    bank = world.app.dependency("bank", **options)

    @world.app.job(uses=bank, isolate="process")
    def pay() -> None:
        raise error

    ours, theirs = multiprocessing.Pipe()
    facts = ContextFacts("1", "pay", 1, 1, HOUR, None, "1", None, Quality.FULL)
    call = IsolatedCall(
        job="pay",
        content_type="application/json",
        payload=b"{}",
        context=facts,
        deadline_ms=None,
        priority=Priority.NORMAL,
        is_extra=False,
        holds="bank",
        is_cancelled=False,
        trace=[],
    )
    ours.send_bytes(msgspec.msgpack.encode(call))
    child = threading.Thread(
        target=serve_calls, args=(theirs, world.app.jobs, world.clock)
    )
    child.start()
    msgspec.msgpack.decode(ours.recv_bytes(), type=IsolatedReady)
    reply = msgspec.msgpack.decode(ours.recv_bytes(), type=IsolatedReply)
    ours.close()
    child.join()
    return reply


@pytest.mark.parametrize(
    ("options", "error", "outcome"),
    [
        ({}, ValueError("mine"), CallOutcome.IGNORED),
        ({}, OSError("its own"), CallOutcome.FAILURE),
        ({"failures": of_status}, with_status(404), CallOutcome.IGNORED),
        ({"failures": of_status}, with_status(503), CallOutcome.FAILURE),
        ({"ignore": OSError}, OSError("mine"), CallOutcome.IGNORED),
    ],
)
def test_a_process_of_its_own_reports_which_failures_count(options, error, outcome):
    """No exception crosses the pipe, so the process that has it judges it."""
    assert child_says(error, **options).verdict.outcome is outcome


def test_a_refusal_in_a_process_of_its_own_is_a_refusal_and_no_failure():
    reply = child_says(CircuitOpenError("mailer", 2.5))

    assert reply.verdict.outcome is CallOutcome.IGNORED
    with pytest.raises(RejectedError) as refused:
        raise_reply(reply, "1")
    assert (refused.value.dependency, refused.value.retry_in_s) == ("mailer", 2.5)
