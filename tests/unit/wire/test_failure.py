from __future__ import annotations

import asyncio
import concurrent.futures

import pytest

from shifter.errors import DeadlineExceededError
from shifter.jobs.context import Context
from shifter.testing.clock import FakeClock
from shifter.wire.failure import ErrorFacts, describe_error, fingerprint


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even this")


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def call_mailer(text: str) -> None:
    raise ConnectionError(text)


def handler(text: str = "mailer is down") -> None:
    call_mailer(text)


def failure_of(function, *args) -> BaseException:
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError("did not raise")


def test_facts_name_the_error_and_where_it_came_from():
    facts = describe_error(failure_of(handler))

    assert facts.type == "ConnectionError"
    assert facts.message == "mailer is down"
    lines = facts.stack.splitlines()
    assert [line.partition(":")[2].split(" in ")[1] for line in lines] == [
        "failure_of",
        "handler",
        "call_mailer",
    ]
    assert all(line.split(":")[0].endswith("test_failure") for line in lines)


def test_an_errors_own_module_is_part_of_its_type():
    assert describe_error(DeadlineExceededError("id", 1.0)).type == (
        "shifter.errors.DeadlineExceededError"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\x1b[2J\u202e", r"a\nb\x1b[2J\u202e"),
        ("x" * 10_000_000, "x" * 999 + "…"),
        ("", ""),
    ],
    ids=["control characters", "10 MB", "empty"],
)
def test_a_message_is_one_printable_line_of_bounded_length(text, message):
    assert describe_error(ValueError(text)).message == message


def test_an_error_that_cannot_say_what_it_is_still_has_facts():
    facts = describe_error(raised(Broken()))

    assert facts.message == "(its __str__ raised RuntimeError)"
    assert facts.type.endswith("Broken")


def test_a_stack_is_cut_at_its_outer_end():
    def recurse(left: int) -> None:
        if not left:
            raise KeyError("deep")
        recurse(left - 1)

    lines = describe_error(failure_of(recurse, 200)).stack.splitlines()

    assert lines[0] == "… 182 more"
    assert len(lines) == 21


def test_causes_are_listed_but_a_circle_of_them_ends():
    first, second = ValueError("first"), ValueError("second\n")
    first.__cause__, second.__cause__ = second, first

    assert describe_error(first).stack == r"caused by ValueError: second\n"


@pytest.mark.parametrize(
    ("hidden", "told"), [(True, ""), (False, "caused by KeyError: 1")]
)
def test_a_context_counts_as_a_cause_unless_it_was_suppressed(hidden, told):
    error = ValueError("outer")
    error.__context__ = KeyError(1)
    error.__suppress_context__ = hidden

    assert describe_error(error).stack == told


def test_only_the_first_causes_are_listed():
    error = ValueError(0)
    last: BaseException = error
    for number in range(1, 10):
        last.__cause__ = ValueError(number)
        last = last.__cause__

    assert describe_error(error).stack.splitlines() == [
        f"caused by ValueError: {number}" for number in range(1, 5)
    ]


def test_a_task_groups_single_failure_is_described_as_itself():
    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(handler))

    facts = describe_error(failure_of(asyncio.run, run()))

    assert (facts.type, facts.message) == ("ConnectionError", "mailer is down")


def test_a_group_of_several_names_them():
    group = ExceptionGroup("all of them", [ValueError("a"), KeyError("b")])

    facts = describe_error(group)

    assert facts.type == "ExceptionGroup"
    assert facts.stack.splitlines() == [
        "together with ValueError: a",
        "together with KeyError: 'b'",
    ]


def test_one_failure_has_one_fingerprint_wherever_the_handler_ran():
    async def in_loop() -> None:
        handler()

    def in_thread() -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(handler).result()

    inline, looped, threaded = (
        _below(failure_of(handler), handler),
        _below(failure_of(asyncio.run, in_loop()), handler),
        _below(failure_of(in_thread), handler),
    )

    assert len({inline.fingerprint, looped.fingerprint, threaded.fingerprint}) == 1


def _below(error: BaseException, function) -> ErrorFacts:
    """Facts of what happened in ``function``, as if a worker had called it."""
    trace = error.__traceback__
    while trace.tb_frame.f_code is not function.__code__:
        trace = trace.tb_next
    return describe_error(error.with_traceback(trace))


def test_the_frames_that_lead_to_a_handler_are_left_out():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        error = pool.submit(handler).exception()

    assert describe_error(error).stack.split(" in ")[1].startswith("handler")


def test_our_own_frames_are_no_part_of_a_users_failure():
    clock = FakeClock()
    context = Context(
        job_id="id", job_type="t", attempt=1, fence=1, limit_ms=0, clock=clock
    )

    def slow() -> None:
        context.checkpoint()

    facts = describe_error(failure_of(slow))

    assert facts.stack.splitlines()[-1].endswith("slow")


def test_a_message_or_a_line_number_does_not_change_a_fingerprint():
    one, other = failure_of(handler, "id 1"), failure_of(handler, "id 2")
    moved = compile("\n" * 40 + "def handler():\n  call_mailer('x')", __file__, "exec")
    scope = {"call_mailer": call_mailer, "__name__": __name__}
    exec(moved, scope)

    prints = [
        describe_error(error).fingerprint
        for error in (one, other, failure_of(scope["handler"]))
    ]

    assert len(set(prints)) == 1


def test_another_error_or_another_place_is_another_fingerprint():
    frames = [("shop.jobs", "send"), ("smtplib", "connect")]

    prints = {
        fingerprint("OSError", frames),
        fingerprint("ValueError", frames),
        fingerprint("OSError", frames[:1]),
        fingerprint("OSError", frames[::-1]),
        fingerprint("OSError", [("shop", "jobs"), *frames]),
        fingerprint("OSError", []),
    }

    assert len(prints) == 6
    assert all(len(found) == 12 and int(found, 16) >= 0 for found in prints)


def test_fingerprints_stay_what_they_are():
    """They are stored in dead letters and grouped across versions."""
    assert fingerprint("undecodable_payload", ()) == "5252bfacfa65"
    assert fingerprint("OSError", [("shop.jobs", "send")]) == "6448ae1803dc"


def test_recursion_and_far_callers_do_not_split_a_fingerprint():
    deep = [("m", "walk")] * 990
    frames = [("m", f"f{number}") for number in range(8)]

    assert fingerprint("E", [("m", "top"), *deep]) == fingerprint(
        "E", [("m", "top"), ("m", "walk")]
    )
    assert fingerprint("E", [("a", "a"), *frames]) == fingerprint(
        "E", [("b", "b"), *frames]
    )


def test_a_program_run_as_a_script_is_named_by_its_file():
    code = compile("def job():\n  1 / 0", "/srv/app/nightly.py", "exec")
    scope = {"__name__": "__main__"}
    exec(code, scope)

    stack = describe_error(failure_of(scope["job"])).stack

    assert stack.splitlines()[-1] == "nightly:2 in job"


def test_strange_module_names_do_no_harm():
    code = compile("def job():\n  1 / 0", "/srv/a\nb.py", "exec")
    scope = {"__name__": None}
    exec(code, scope)

    facts = describe_error(failure_of(scope["job"]))

    assert facts.stack.splitlines()[-1] == r"a\nb:2 in job"
    assert len(facts.fingerprint) == 12
