from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from shifter.adapters.kafka.errors import (
    LastError,
    delivery_answer,
    describe,
    store_error,
)
from shifter.errors import StoreRefusedError, StoreUnavailableError
from shifter.model.reason import Reason
from shifter.ports import Refused, Unknown

ALL_CODES = sorted(
    {
        code
        for name, code in vars(KafkaError).items()
        if isinstance(code, int) and name.lstrip("_").isupper()
    }
)
CERTAIN = {
    "INVALID_RECORD": Reason.REFUSED_BY_LOG,
    "INVALID_TIMESTAMP": Reason.CLOCK_REFUSED,
    "MSG_SIZE_TOO_LARGE": Reason.TOO_LARGE,
    "RECORD_LIST_TOO_LARGE": Reason.TOO_LARGE,
    "TOPIC_AUTHORIZATION_FAILED": Reason.REFUSED_BY_LOG,
    "TOPIC_EXCEPTION": Reason.REFUSED_BY_LOG,
    "UNKNOWN_TOPIC_OR_PART": Reason.REFUSED_BY_LOG,
    "_QUEUE_FULL": Reason.QUEUE_FULL,
    "_UNKNOWN_PARTITION": Reason.REFUSED_BY_LOG,
    "_UNKNOWN_TOPIC": Reason.REFUSED_BY_LOG,
}


def error(name, text="what happened"):
    return KafkaError(getattr(KafkaError, name), text)


@pytest.mark.parametrize("code", ALL_CODES)
def test_only_the_allow_list_is_certain(code):
    failed = KafkaError(code)

    answer = delivery_answer(failed, LastError())

    if failed.name() in CERTAIN:
        assert isinstance(answer, Refused)
        assert answer.reason == CERTAIN[failed.name()]
    else:
        assert isinstance(answer, Unknown)
    assert failed.name() in answer.detail


@pytest.mark.parametrize(
    "name", ["_MSG_TIMED_OUT", "_PURGE_QUEUE", "_TRANSPORT", "_TIMED_OUT"]
)
def test_what_may_have_arrived_is_unknown(name):
    assert isinstance(delivery_answer(error(name), LastError()), Unknown)


def test_an_unknown_answer_carries_the_clients_last_words():
    last = LastError()
    last(error("_AUTHENTICATION", "invalid credentials"))

    answer = delivery_answer(error("_MSG_TIMED_OUT"), last)

    assert "invalid credentials" in answer.detail
    assert "sasl_password" in answer.detail


def test_a_cause_outlives_its_consequences():
    last = LastError()
    last(error("_SSL", "certificate verify failed"))
    for _ in range(5):
        last(error("_ALL_BROKERS_DOWN", "1/1 brokers are down"))

    assert last.is_cause
    assert "certificate verify failed" in last.beside("waited")


def test_an_old_cause_gives_way_to_other_troubles():
    last = LastError()
    last(error("_AUTHENTICATION"))
    for _ in range(20):
        last(error("_TRANSPORT", "connection refused"))

    assert not last.is_cause
    assert "connection refused" in last.beside("waited")


def test_a_newer_cause_replaces_an_older_one():
    last = LastError()
    last(error("_AUTHENTICATION", "first"))
    last(error("_SSL", "second"))

    assert "second" in last.beside("")


def test_without_a_complaint_a_text_stays_as_it_is():
    assert LastError().beside("no answer") == "no answer"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("TOPIC_AUTHORIZATION_FAILED", StoreRefusedError),
        ("GROUP_AUTHORIZATION_FAILED", StoreRefusedError),
        ("CLUSTER_AUTHORIZATION_FAILED", StoreRefusedError),
        ("SASL_AUTHENTICATION_FAILED", StoreRefusedError),
        ("_AUTHENTICATION", StoreRefusedError),
        ("_SSL", StoreRefusedError),
        ("_UNKNOWN_TOPIC", StoreRefusedError),
        ("UNKNOWN_TOPIC_OR_PART", StoreRefusedError),
        ("INVALID_REPLICATION_FACTOR", StoreRefusedError),
        ("POLICY_VIOLATION", StoreRefusedError),
        ("UNSUPPORTED_VERSION", StoreRefusedError),
        ("_TIMED_OUT", StoreUnavailableError),
        ("_TRANSPORT", StoreUnavailableError),
        ("_ALL_BROKERS_DOWN", StoreUnavailableError),
        ("NOT_CONTROLLER", StoreUnavailableError),
        ("REQUEST_TIMED_OUT", StoreUnavailableError),
    ],
)
def test_the_type_shows_whether_to_try_again(name, kind):
    for found in (error(name), KafkaException(error(name))):
        raised = store_error(found, "depths")
        assert type(raised) is kind
        assert (raised.store, raised.op) == ("kafka", "depths")
        assert name in raised.detail


def test_a_cause_turns_a_timeout_into_a_refusal():
    last = LastError()
    last(error("_AUTHENTICATION", "invalid credentials"))

    raised = store_error(KafkaException(error("_TIMED_OUT")), "connect", last)

    assert isinstance(raised, StoreRefusedError)
    assert "invalid credentials" in str(raised)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("_ALL_BROKERS_DOWN", "security_protocol"),
        ("_SSL", "ssl_ca_location"),
        ("TOPIC_AUTHORIZATION_FAILED", "grant"),
        ("GROUP_AUTHORIZATION_FAILED", "grant READ"),
        ("UNKNOWN_TOPIC_OR_PART", "shifter topics apply"),
    ],
)
def test_common_mistakes_come_with_help(name, hint):
    assert hint in describe(error(name))
