"""What a cluster's answers mean: the one place that reads librdkafka's error codes.

No code proves whether a record is in the log, except a short list: any other delivery
error means *unknown*, because librdkafka reports a message timeout both for records
that never left and for records that arrived. Authentication and TLS trouble never
reaches a record at all: only ``error_cb`` gets it, so the last error is kept and shown
beside every timeout.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException

from shifter.adapters.kafka.config import Property, unknown_property
from shifter.config import Secret
from shifter.errors import (
    ConfigError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from shifter.model.reason import Reason
from shifter.ports import Refused, Unknown

_Client = TypeVar("_Client")

# The record is certainly not in the log. ``_PURGE_QUEUE`` is not here: a purged record
# may be waiting for its second try after a first one that did arrive.
_CERTAIN: Final = MappingProxyType(
    {
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
)
# Asking again changes nothing until a person does something.
_VAIN: Final = re.compile(
    r".*AUTHORIZATION_FAILED|_?SASL.*|_AUTHENTICATION|_SSL|.*UNKNOWN_TOPIC.*|_NOENT"
    r"|_?UNSUPPORTED.*|_?INVALID.*|TOPIC_EXCEPTION|POLICY_VIOLATION|SECURITY_DISABLED"
    r"|TOPIC_ALREADY_EXISTS"
)
_ADDRESS: Final = (
    "check the address and security_protocol (a plaintext client on a TLS port looks "
    "like this)"
)
_HELP: Final = MappingProxyType(
    {
        "CLUSTER_AUTHORIZATION_FAILED": "grant WRITE on the lanes' topics to a "
        "publisher, CREATE and ALTER to the user that applies topics",
        "GROUP_AUTHORIZATION_FAILED": "grant READ on the group",
        "INVALID_TIMESTAMP": "the clock of this machine is too far from the brokers'; "
        "synchronise it by NTP, and let `shifter topics apply` set "
        "message.timestamp.type=LogAppendTime",
        "MSG_SIZE_TOO_LARGE": "raise the topic's max.message.bytes, or send less",
        "SASL_AUTHENTICATION_FAILED": "check sasl_username and sasl_password",
        "TOPIC_AUTHORIZATION_FAILED": "on the topic, grant a publisher DESCRIBE and "
        "WRITE, a worker READ too, CREATE to the user that applies topics",
        "TOPIC_EXCEPTION": "the topic's name is not allowed",
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": "grant WRITE and DESCRIBE on the "
        "transactional ids <namespace>.replays.*",
        "UNKNOWN_TOPIC_OR_PART": "create it with `shifter topics apply`",
        "UNSUPPORTED_VERSION": "the broker is too old for this; try "
        "group_protocol=classic",
        "_ALL_BROKERS_DOWN": _ADDRESS,
        "_AUTHENTICATION": "check sasl_username, sasl_password and sasl_mechanism",
        "_MSG_TIMED_OUT": "the cluster did not take it in time",
        "_NOENT": "not there, or not visible to this user",
        "_PURGE_INFLIGHT": "the client gave up before the cluster answered",
        "_PURGE_QUEUE": "the client gave up before the cluster answered",
        "_RESOLVE": "check the host names",
        "_SSL": "check ssl_ca_location, and that the port speaks TLS",
        "_TRANSPORT": _ADDRESS,
        "_UNKNOWN_TOPIC": "create it with `shifter topics apply`",
    }
)
# These name a cause; "all brokers down" follows them and names none.
_CAUSES: Final = frozenset({"SASL_AUTHENTICATION_FAILED", "_AUTHENTICATION", "_SSL"})
# While a cause lasts it is reported two or three times a second (measured on 4.3), each
# time followed by a few consequences: ten of them alone mean that it has ended.
_CAUSE_OUTLIVES: Final = 10
# Only the text of the error names the property.
_NO_SUCH: Final = re.compile(r'No such configuration property: "([^"]*)"')
_PROPERTY: Final = re.compile(r'(?:property "|: )((?:[a-z]+\.)+[a-z]+)(?:"| failed:)')


class LastError:
    """An ``error_cb`` that keeps the client's last error.

    A cause (bad credentials, a wrong certificate) is kept over the next few errors,
    which are its consequences. librdkafka calls it at any time, on any thread.

    Attributes:
        error: The last error; ``None`` if there was none.
        is_let_in: Whether the cluster acknowledged a record.
        is_kept_out: Whether the client died before it was let in: nothing was sent.
    """

    def __init__(self) -> None:
        self.error: KafkaError | None = None
        self.is_let_in = False
        self.is_kept_out = False
        self._since_cause = 0

    def __call__(self, error: KafkaError) -> None:
        """Remember ``error`` unless it only follows from the one remembered."""
        is_consequence = self.is_cause and error.name() not in _CAUSES
        self._since_cause = self._since_cause + 1 if is_consequence else 0
        if self._since_cause == 0 or self._since_cause > _CAUSE_OUTLIVES:
            self.error = error

    @property
    def is_cause(self) -> bool:
        """Whether waiting longer would not help."""
        return self.error is not None and self.error.name() in _CAUSES

    def beside(self, text: str) -> str:
        """``text``, followed by the last error if there was one."""
        if self.error is None:
            return text
        return f"{text}; last client error: {describe(self.error)}"

    def unanswered(self, text: str) -> Refused | Unknown:
        """The answer for a record without a report: unknown, or why it was refused."""
        if self.is_kept_out:
            return Refused(Reason.REFUSED_BY_LOG, self.beside(text))
        return Unknown(self.beside(text))


def describe(error: KafkaError) -> str:
    """Name, text and what to do about it, in one line without secrets."""
    text = f"{error.name()}: {error.str()}"
    help_text = _HELP.get(error.name())
    return text if help_text is None else f"{text}; {help_text}"


def kafka_error(exc: BaseException) -> KafkaError | None:
    """The vendor's error inside an exception, if it carries one."""
    found = exc.args[0] if isinstance(exc, KafkaException) and exc.args else None
    return found if isinstance(found, KafkaError) else None


def delivery_answer(error: KafkaError, last: LastError) -> Refused | Unknown:
    """The answer for a record whose delivery report is an error."""
    reason = _CERTAIN.get(error.name())
    if reason is not None:
        return Refused(reason, describe(error))
    return last.unanswered(describe(error))


def store_error(
    found: KafkaError | KafkaException, op: str, last: LastError | None = None
) -> StoreError:
    """The error to raise for a failed call.

    Args:
        found: What the client raised or returned.
        op: Name of the call.
        last: The same client's last error; if it is a cause, it decides.
    """
    error = found if isinstance(found, KafkaError) else kafka_error(found)
    if error is None:
        return StoreUnavailableError("kafka", op, str(found))
    detail = describe(error)
    if last is not None and last.error is not None and last.error != error:
        detail = last.beside(f"{error.name()}: {error.str()}")
    is_vain = _VAIN.fullmatch(error.name()) or (last is not None and last.is_cause)
    kind = StoreRefusedError if is_vain else StoreUnavailableError
    return kind("kafka", op, detail)


def unheard() -> Any:
    """A logger for a producer.

    librdkafka prints a fatal error on stderr at any ``log_level``, unless it has a
    logger; the caller of an append gets the error as its answer.
    """
    return logging.Logger("shifter.kafka", 99)  # noqa: LOG001  # not configurable


def make_client(
    kind: Callable[[dict[str, Any]], _Client],
    config: dict[str, Property],
    last: LastError | None = None,
) -> _Client:
    """Construct a client.

    Args:
        kind: The client's class.
        config: Its properties.
        last: Its ``error_cb``, if it has one.

    Raises:
        ConfigError: librdkafka refuses a property or its value.
    """
    try:
        return kind(config if last is None else {**config, "error_cb": last})
    except KafkaException as exc:
        error = kafka_error(exc)
        text = error.str() if error is not None else str(exc)
        unknown = _NO_SUCH.search(text)
        if unknown is not None:
            raise unknown_property(unknown[1]) from None
        named = _PROPERTY.search(text)
        field = named[1] if named is not None else "kafka property"
        shown = Secret.of_property(field, str(config.get(field, "")))
        raise ConfigError(field, str(shown), text) from None
