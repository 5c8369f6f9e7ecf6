"""One dead letter, and what a filter can ask of it: its fields and their types."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from shifter.deadletter.dialect import LetterFacts, read_facts
from shifter.errors import DecodeError, UnsupportedVersionError
from shifter.ports import Delivery
from shifter.wire.envelope import ENVELOPE_HEADER, MAX_REPLAYS
from shifter.wire.headers import Headers, ReadHeaders, read_headers
from shifter.wire.untrusted import check_depth

Value: TypeAlias = str | int | float | Decimal | bool | None
Path: TypeAlias = tuple[str | int, ...]

_MAX_PAYLOAD_BYTES: Final = 2_000_000
_MISSING: Final = object()

REPLAYS_HEADER: Final = "shifter-replays"
"""Header: how often a record that is no job was replayed."""

REPLAY_ID_HEADER: Final = "shifter-replay-id"
"""Header: the replay that brought a record that is no job."""

_MARK: Final = b'"replay'
_FACTS: Final = "shifter-"


class ValueType(Enum):
    """The type of a field; the value is the advice for a person who errs."""

    TEXT = 'write a text, such as "SMTPError"'
    ID = "write a job's id, a UUID"
    NUMBER = "write a number, such as 10"
    DURATION = "write a span with its unit, such as 6h"
    INSTANT = 'write an instant, such as "2026-01-31T12:00:00Z"'
    ANY = 'write a text, a number, true, false or null, such as "x"'

    def takes(self, value: Value, *, is_duration: bool) -> bool:
        """Whether a constant may be compared with a field of this type."""
        if value is None:
            return True
        if self is ValueType.DURATION:
            return is_duration
        if is_duration:
            return False
        if self in (ValueType.TEXT, ValueType.ID):
            return isinstance(value, str)
        if self is ValueType.ANY:
            return True
        return not isinstance(value, str | bool)


class ClassName(str):
    """A class with its module: equal to its whole name, and to its last part.

    >>> ClassName("smtplib.SMTPError") == "SMTPError", ClassName("a.B") == "a.B"
    (True, True)
    >>> ClassName("a.B") == "a", ClassName("a.B") != "B"
    (False, False)
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) is True or (
            isinstance(other, str)
            and bool(other)
            and str.endswith(self, (f".{other}", f"${other}"))
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    # A filter compares with == only, so equal names may have different hashes.
    __hash__ = str.__hash__


class Letter:
    """One dead letter; its headers and payload are read when they are first used.

    Args:
        delivery: The record.
        now_ms: Instant that ages are measured at, epoch milliseconds.
    """

    __slots__ = ("_payload", "_story", "delivery", "now_ms")

    def __init__(self, delivery: Delivery, now_ms: int) -> None:
        self.delivery, self.now_ms = delivery, now_ms
        self._story: LetterFacts | None = None
        self._payload: Any = _MISSING

    @property
    def story(self) -> LetterFacts:
        """The facts in its headers."""
        story = self._story
        if story is None:
            story = read_facts(self.delivery.headers, self.delivery.appended_ms)
            self._story = story
        return story

    @property
    def payload(self) -> Any:
        """Its payload as JSON; ``None`` if it is no JSON, or larger than 2 MB.

        A number with a fraction or an exponent is a `Decimal`: no digit is lost.
        """
        if self._payload is _MISSING:
            self._payload = _json(self.delivery.value, _COMPARED)
        return self._payload

    @property
    def shown_payload(self) -> Any:
        """The payload to be written as JSON again, each number as it is written."""
        return _json(self.delivery.value, _SHOWN)


class Field(NamedTuple):
    """One name of the filter language.

    Attributes:
        type: What it may be compared with.
        get: Returns its value in a letter.
        about: Its meaning.
    """

    type: ValueType
    get: Callable[[Letter], Value]
    about: str


def replays_of(headers: Headers) -> int:
    """How often a dead letter was replayed, by its own headers; never raises."""
    for name, value in headers:
        if value is None:
            continue
        if name == ENVELOPE_HEADER and _MARK in value:
            read = read_job(headers)
            return 0 if read is None else read.envelope.replays
        if name == REPLAYS_HEADER and value.isdigit() and len(value) <= 4:
            return min(int(value), MAX_REPLAYS)
    return 0


def read_job(headers: Headers) -> ReadHeaders | None:
    """The job in a record; ``None`` if it is none, or cannot be read."""
    # Most headers describe the dead letter; without them there is less to check.
    own = [header for header in headers if not header[0].startswith(_FACTS)]
    try:
        return read_headers(own)
    except (DecodeError, UnsupportedVersionError):
        return None


def payload_field(path: Path) -> Callable[[Letter], Value]:
    """A function that returns the value at a path of a payload, or ``None``."""

    def get(letter: Letter) -> Value:
        found = letter.payload
        for step in path:
            found = _step(found, step)
        is_one = isinstance(found, str | int | Decimal)
        return found if is_one else _about(found)

    return get


def header_field(name: str) -> Callable[[Letter], Value]:
    """A function that returns the last header of a name, as text."""

    def get(letter: Letter) -> Value:
        for found, value in reversed(letter.delivery.headers):
            if found == name and value is not None:
                return value.decode("utf-8", "replace")
        return None

    return get


def _age_s(letter: Letter) -> float:
    return (letter.now_ms - letter.story.last_failed_ms) / 1_000


def _key(letter: Letter) -> str | None:
    key = letter.delivery.key
    return None if key is None else key.decode("utf-8", "replace")


_T, _N = ValueType.TEXT, ValueType.NUMBER
FIELDS: Final = {
    "error": Field(_T, lambda x: ClassName(x.story.error_type), "the error's class"),
    "message": Field(_T, lambda x: x.story.error_message, "its message"),
    "stack": Field(_T, lambda x: x.story.error_stack, "its stack, lines"),
    "reason": Field(_T, lambda x: x.story.reason, "why it was given up"),
    "fingerprint": Field(_T, lambda x: x.story.fingerprint, "its group in `dlt list`"),
    "dialect": Field(_T, lambda x: x.story.dialect, "the system that parked it"),
    "job": Field(_T, lambda x: x.story.job_type, "the job type's name"),
    "id": Field(ValueType.ID, lambda x: x.story.job_id, "the job's id"),
    "queue": Field(_T, lambda x: x.story.queue, "the queue it came from"),
    "topic": Field(_T, lambda x: x.story.origin_topic, "the topic it came from"),
    "worker": Field(_T, lambda x: x.story.worker, "the worker that gave it up"),
    "key": Field(_T, _key, "its ordering key"),
    "attempts": Field(_N, lambda x: x.story.attempts, "attempts made"),
    "replays": Field(_N, lambda x: replays_of(x.delivery.headers), "times replayed"),
    "partition": Field(_N, lambda x: x.delivery.partition, "its partition"),
    "offset": Field(_N, lambda x: x.delivery.offset, "its offset"),
    "size": Field(_N, lambda x: len(x.delivery.value or b""), "bytes of its payload"),
    "age": Field(ValueType.DURATION, _age_s, "time since it was given up"),
    "failed": Field(
        ValueType.INSTANT, lambda x: x.story.last_failed_ms, "when it was given up"
    ),
    "first_failed": Field(
        ValueType.INSTANT, lambda x: x.story.first_failed_ms, "when it failed first"
    ),
}
"""All names except ``payload`` and ``header``, which take a path or a name."""


_COMPARED: Final = msgspec.json.Decoder(float_hook=Decimal)
_SHOWN: Final = msgspec.json.Decoder(float_hook=lambda text: msgspec.Raw(text.encode()))


def shown_json(value: bytes) -> Any:
    """JSON to be written as JSON again, each number as it is written.

    Raises:
        DecodeError, ValueError, RecursionError: The bytes are no JSON.
    """
    check_depth(value)
    return _SHOWN.decode(value)


def _json(value: bytes | None, decoder: msgspec.json.Decoder[Any]) -> Any:
    if value is None or len(value) > _MAX_PAYLOAD_BYTES:
        return None
    try:
        check_depth(value)
        return decoder.decode(value)
    except (DecodeError, ValueError, RecursionError):
        return None


def _step(found: Any, step: str | int) -> Any:
    if isinstance(found, dict):
        return found.get(str(step))
    # A negative number counts from the end, as in Python.
    if isinstance(found, list) and isinstance(step, int):
        return found[step] if -len(found) <= step < len(found) else None
    return None


def _about(found: Any) -> Value:
    # An array or object exists, but equals no value that a filter can write.
    return None if found is None else f"({type(found).__name__})"
