from __future__ import annotations

import inspect

import pytest

from shifter import errors

RENDERED = [
    (
        errors.ConfigError("delay", "10", "use a duration"),
        "delay is '10'; use a duration",
    ),
    (
        errors.UnknownSourceError(
            "dead letters", "mial", "did you mean mail?", namespace="shop"
        ),
        "dead letters is 'mial'; did you mean mail?",
    ),
    (
        errors.UnknownNameError("worker", "w-9", "use one of: w-1"),
        "worker is 'w-9'; use one of: w-1",
    ),
    (
        errors.AlreadyAskedError("a run of digest", owner="ann"),
        "a run of digest was asked for by ann and is not done yet",
    ),
    (
        errors.NotTakenError("a run of digest", waited_s=15.0, detail="ask again"),
        "no worker took a run of digest within 15 s; ask again",
    ),
    (
        errors.PayloadError("mail", "expected int at $.order_id"),
        "payload of job 'mail': expected int at $.order_id",
    ),
    (
        errors.DecodeError("undecodable_payload", "truncated at byte 7"),
        "undecodable_payload: truncated at byte 7",
    ),
    (
        errors.UnsupportedVersionError(3, supported=1),
        "envelope version 3; this program reads 1",
    ),
    (
        errors.OutcomeUnknownError("id-1", 5.04, "broker gone"),
        "job 'id-1' may or may not be written after 5.0 s: broker gone",
    ),
    (
        errors.DeadlineExceededError("id-1", 0.25),
        "deadline of job 'id-1' passed 0.250 s ago",
    ),
    (errors.JobCancelledError("id-1"), "job 'id-1' was cancelled"),
    (
        errors.StoreUnavailableError("redis h:6379", "claim", "timed out"),
        "redis h:6379 did not answer claim: timed out",
    ),
    (
        errors.StoreRefusedError("kafka", "append", "no such topic"),
        "kafka refused append: no such topic",
    ),
    (
        errors.FilterError("a = 1", 2, "'=' means nothing here", "use =="),
        "filter, character 3: '=' means nothing here; use ==",
    ),
    (
        errors.HeldElsewhereError("shop.mail.dlt"),
        "another run works on 'shop.mail.dlt' now",
    ),
    (
        errors.CircuitOpenError("bank", 4.25),
        "circuit 'bank' is open; next probe in 4.2 s",
    ),
    (
        errors.NoEndpointError("bank", 1.0),
        "no endpoint of 'bank' is known; retry in 1.0 s",
    ),
    (
        errors.BudgetExhaustedError("bank", 1.0),
        "retry budget of 'bank' is exhausted; retry in 1.0 s",
    ),
    (
        errors.LimitReachedError("bank", 0.25),
        "concurrency limit of 'bank' is reached; retry in 0.2 s",
    ),
    (
        errors.RateLimitedError("bank", 0.5),
        "rate limit of 'bank' is reached; retry in 0.5 s",
    ),
    (errors.Retry("30s"), "retry after '30s'"),
    (errors.Retry(), "retry after None"),
    (errors.Throttled(5), "throttled for 5"),
    (errors.Discard("sold out"), "sold out"),
    (errors.DeadLetter("no such user"), "no such user"),
]
ABSTRACT = {
    errors.ShifterError,
    errors.WireError,
    errors.RejectedError,
    errors.StoreError,
}
SIGNALS = {errors.Retry, errors.Throttled, errors.Discard, errors.DeadLetter}


def classes() -> set[type[Exception]]:
    return {
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if found.__module__ == errors.__name__
    }


@pytest.mark.parametrize(
    ("error", "text"), RENDERED, ids=[type(error).__name__ for error, _ in RENDERED]
)
def test_the_text_carries_the_facts(error, text):
    assert str(error) == text


def test_every_class_is_rendered_here():
    assert {type(error) for error, _ in RENDERED} == classes() - ABSTRACT


@pytest.mark.parametrize("error", [error for error, _ in RENDERED], ids=repr)
def test_every_argument_is_an_attribute_of_the_same_name(error):
    names = set(inspect.signature(type(error).__init__).parameters) - {"self"}

    assert set(vars(error)) == names


@pytest.mark.parametrize("error", [error for error, _ in RENDERED], ids=repr)
def test_messages_begin_in_lower_case_and_have_no_full_stop(error):
    text = str(error)

    assert not text[0].isupper()
    assert not text.endswith(".")


def test_faults_have_one_root_and_signals_stand_outside():
    for found in classes():
        assert issubclass(found, errors.ShifterError) is (found not in SIGNALS)


def test_the_type_shows_whether_asking_again_makes_sense():
    assert not issubclass(errors.StoreUnavailableError, errors.StoreRefusedError)
    assert issubclass(errors.StoreUnavailableError, errors.StoreError)
    assert issubclass(errors.DecodeError, errors.WireError)
