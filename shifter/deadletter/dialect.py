"""Reads the headers of dead letters, of shifter and of other systems.

Each system that parks records writes headers of its own. The header that holds the
origin shows which system it was; the others are read into one `LetterFacts`. All of
them are untrusted: any client may write to a dead-letter topic.

Sources: Spring Kafka's ``DeadLetterPublishingRecoverer`` and ``KafkaHeaders``, Kafka
Connect's ``DeadLetterQueueReporter``, Kafka Streams' ``ExceptionHandlerUtils``
(KIP-1034), KIP-1191 for share groups, Karafka's documentation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from shifter.model.fleet import MAX_INSTANT_MS
from shifter.model.job import canonical_id
from shifter.wire.dead_letter import DeadLetterInfo, header_name, read_dead_letter
from shifter.wire.failure import (
    MAX_LINE_CHARS,
    MAX_MESSAGE_CHARS,
    MAX_TYPE_CHARS,
    fingerprint as fingerprint_of,
)
from shifter.wire.headers import Headers
from shifter.wire.untrusted import printable

SHIFTER: Final = "shifter"
FOREIGN: Final = "foreign"
"""Dialect of a record without any known header."""

_MAX_STACK_BYTES: Final = 65_536
_MAX_STACK_LINES: Final = 200
_MAX_TOPIC: Final = 249
_OURS: Final = header_name("origin_topic")
_ATTEMPTS: Final = header_name("attempts")
# A frame may name its loader and module before the class, a slash behind each.
_JAVA_FRAME: Final = re.compile(r"\s*at (?:[^\s(]*/)?([\w.$<>-]{1,300})\(")
# Proxies, lambdas and inner classes are numbered anew by every build.
_NUMBERED: Final = re.compile(r"\$+\d+|\$\$\w+|0x[0-9a-f]+")


class LetterFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The facts in a dead letter's headers; all texts are printable.

    Attributes:
        dialect: System that wrote it: ``shifter``, ``spring``, ``connect``,
            ``streams``, ``share_group``, ``karafka`` or ``foreign``.
        reason: Why it was parked: a `Reason` value; of other systems, the dialect.
        origin_topic: Topic of the original record; ``None`` if no header has it.
        origin_partition: Partition of the original record.
        origin_offset: Offset of the original record.
        origin_timestamp_ms: When the original record was appended.
        error_type: Class of the failure, or the reason.
        error_message: Message of the failure, one line.
        error_stack: Stack of the failure, one frame a line.
        fingerprint: Equal for failures of one kind.
        attempts: Attempts made; ``None`` if no header has their number.
        first_failed_ms: When the first attempt failed.
        last_failed_ms: When the record was parked.
        job_id: Id of the job; ``None`` for records of other systems.
        job_type: Type of the job; ``None`` for records of other systems.
        queue: Queue of the job; ``None`` for records of other systems.
        worker: Worker, consumer group or connector that gave the record up.
    """

    dialect: str
    reason: str
    origin_topic: str | None = None
    origin_partition: int | None = None
    origin_offset: int | None = None
    origin_timestamp_ms: int | None = None
    error_type: str = ""
    error_message: str = ""
    error_stack: str = ""
    fingerprint: str = FOREIGN
    attempts: int | None = None
    first_failed_ms: int | None = None
    last_failed_ms: int
    job_id: str | None = None
    job_type: str | None = None
    queue: str | None = None
    worker: str | None = None


def _text_number(raw: bytes) -> int | None:
    # 18 digits always fit 64 bits.
    return int(raw) if raw.isdigit() and len(raw) <= 18 else None


def _binary_number(raw: bytes) -> int | None:
    # Java writes numbers with ByteBuffer.putInt and putLong.
    return int.from_bytes(raw, signed=True) if len(raw) in (4, 8) else None


class Dialect(NamedTuple):
    """The headers of one system.

    Attributes:
        name: Name of the dialect.
        fields: Header of each field of a `LetterFacts`; that of ``origin_topic`` shows
            that a record is of this system.
        drops: Prefixes of the system's own headers, which a replay leaves out.
        number: Reads a number from a header's value.
    """

    name: str
    fields: Mapping[str, str]
    drops: tuple[str, ...]
    number: Callable[[bytes], int | None] = _text_number


_CONNECT: Final = "__connect.errors."
_STREAMS: Final = "__streams.errors."
_SHARE: Final = "__dlq.errors."
_SPRING: Final = "kafka_dlt-"

DIALECTS: Final = (
    Dialect(
        "spring",
        {
            "origin_topic": f"{_SPRING}original-topic",
            "origin_partition": f"{_SPRING}original-partition",
            "origin_offset": f"{_SPRING}original-offset",
            "origin_timestamp_ms": f"{_SPRING}original-timestamp",
            "worker": f"{_SPRING}original-consumer-group",
            "error_type": f"{_SPRING}exception-cause-fqcn",
            "error_message": f"{_SPRING}exception-message",
            "error_stack": f"{_SPRING}exception-stacktrace",
            "attempts": "retry_topic-attempts",
        },
        (
            *(_SPRING, "kafka_original-", "kafka_exception-", "kafka_key-exception-"),
            *("retry_topic", "springDeserializerException", "kafka_deliveryAttempt"),
        ),
        _binary_number,
    ),
    Dialect(
        "connect",
        {
            "origin_topic": f"{_CONNECT}topic",
            "origin_partition": f"{_CONNECT}partition",
            "origin_offset": f"{_CONNECT}offset",
            "worker": f"{_CONNECT}connector.name",
            "error_type": f"{_CONNECT}exception.class.name",
            "error_message": f"{_CONNECT}exception.message",
            "error_stack": f"{_CONNECT}exception.stacktrace",
        },
        (_CONNECT,),
    ),
    Dialect(
        "streams",
        {
            "origin_topic": f"{_STREAMS}topic",
            "origin_partition": f"{_STREAMS}partition",
            "origin_offset": f"{_STREAMS}offset",
            "error_type": f"{_STREAMS}exception",
            "error_message": f"{_STREAMS}message",
            "error_stack": f"{_STREAMS}stacktrace",
        },
        (_STREAMS,),
    ),
    Dialect(
        "share_group",
        {
            "origin_topic": f"{_SHARE}topic",
            "origin_partition": f"{_SHARE}partition",
            "origin_offset": f"{_SHARE}offset",
            "worker": f"{_SHARE}group",
            "attempts": f"{_SHARE}delivery.count",
            "error_message": f"{_SHARE}message",
        },
        (_SHARE,),
    ),
    *(
        Dialect(
            "karafka",
            {
                "origin_topic": f"{word}_topic",
                "origin_partition": f"{word}_partition",
                "origin_offset": f"{word}_offset",
                "worker": f"{word}_consumer_group",
                "attempts": f"{word}_attempts",
            },
            tuple(
                f"{word}_{name}"
                for name in (
                    *("topic", "partition", "offset", "consumer_group"),
                    *("attempts", "trace_id", "key"),
                )
            ),
        )
        # Karafka before 2.5 writes "original".
        for word in ("source", "original")
    ),
)
_BY_ORIGIN: Final = {dialect.fields["origin_topic"]: dialect for dialect in DIALECTS}
# Spring appends another header of these names at each failure: the last one counts.
_LAST_COUNTS: Final = ("error_type", "error_message", "error_stack", "attempts")
_NUMBERS: Final = frozenset(
    {"origin_partition", "origin_offset", "origin_timestamp_ms", "attempts"}
)
_LIMITS: Final = {
    "origin_topic": _MAX_TOPIC,
    "error_type": MAX_TYPE_CHARS,
    "error_message": MAX_MESSAGE_CHARS,
    "worker": 255,
}


def read_facts(headers: Headers, appended_ms: int) -> LetterFacts:
    """The facts in the headers of a dead letter; never raises.

    Args:
        headers: Headers of the dead letter.
        appended_ms: When the dead letter was appended, epoch milliseconds.
    """
    dialect: Dialect | None = None
    for name, value in headers:
        if name == _OURS:
            info = read_dead_letter(headers)
            if info is not None:
                return _of_shifter(info)
        elif dialect is None and value is not None:
            dialect = _BY_ORIGIN.get(name)
    if dialect is None:
        return LetterFacts(dialect=FOREIGN, reason=FOREIGN, last_failed_ms=appended_ms)
    return _of_other(dialect, headers, appended_ms)


def read_origin(headers: Headers, appended_ms: int) -> tuple[str | None, int | None]:
    """The origin's topic, and the attempts made; never raises.

    Attempts are ``None`` for letters of other systems. A run needs nothing else of a
    letter, so this reads two headers, and all of them only if one is missing.
    """
    origin: bytes | None = None
    attempts: bytes | None = None
    for name, value in headers:
        if name == _OURS:
            origin = value
        elif name == _ATTEMPTS:
            attempts = value
    if origin and attempts and attempts.isdigit() and len(attempts) <= 4:
        return _text(origin, _MAX_TOPIC), int(attempts)
    facts = read_facts(headers, appended_ms)
    return facts.origin_topic, facts.attempts if facts.dialect == SHIFTER else None


def foreign_dialect(headers: Headers) -> Dialect | None:
    """The other system that parked a record; ``None`` for shifter and unknown ones."""
    for name, value in headers:
        if value is not None and name in _BY_ORIGIN:
            return _BY_ORIGIN[name]
    return None


def original_headers(
    dialect: Dialect | None, headers: Iterable[tuple[str, bytes | None]]
) -> Headers:
    """The headers that a record had before it was parked."""
    drops = ("shifter",) if dialect is None else (*dialect.drops, "shifter")
    return [header for header in headers if not header[0].startswith(drops)]


def _of_shifter(info: DeadLetterInfo) -> LetterFacts:
    facts = msgspec.structs.asdict(info)
    facts["job_id"] = canonical_id(info.job_id) or info.job_id
    return LetterFacts(dialect=SHIFTER, **facts)


def _of_other(dialect: Dialect, headers: Headers, appended_ms: int) -> LetterFacts:
    found = _found(dialect, headers)
    facts: dict[str, str | int] = {}
    for field, raw in found.items():
        if field in _NUMBERS:
            number = dialect.number(raw)
            if number is None and field == "attempts":
                number = _text_number(raw)
            if number is not None and 0 <= number <= MAX_INSTANT_MS:
                facts[field] = number
        elif field == "error_stack":
            facts[field] = _stack(raw)
        else:
            facts[field] = _text(raw, _LIMITS[field])
    stack = found.get("error_stack", b"")[:_MAX_STACK_BYTES]
    error = str(facts.get("error_type", "")).partition(": ")[0] or dialect.name
    message = "" if stack else str(facts.get("error_message", ""))[:100]
    place = (str(facts.get("origin_topic")), message)
    facts["error_type"] = error
    facts["fingerprint"] = _java_fingerprint(error, stack, place)
    facts["last_failed_ms"] = appended_ms
    # Each value was read by its field's kind above.
    return LetterFacts(dialect=dialect.name, reason=dialect.name, **facts)  # type: ignore[arg-type]


def _found(dialect: Dialect, headers: Headers) -> dict[str, bytes]:
    raw: dict[str, list[bytes]] = {}
    for name, value in headers:
        if value is not None:
            raw.setdefault(name, []).append(value)
    found = {
        field: values[-1 if field in _LAST_COUNTS else 0]
        for field, name in dialect.fields.items()
        if (values := raw.get(name))
    }
    if dialect.name == "spring" and "error_type" not in found:
        # An exception without a cause has no header of the cause.
        own = raw.get(f"{_SPRING}exception-fqcn")
        if own:
            found["error_type"] = own[-1]
    return found


@functools.lru_cache(maxsize=1_024)
def _java_fingerprint(error: str, stack: bytes, place: tuple[str, str]) -> str:
    """Fingerprint of a JVM's stack trace; of the place where there is no frame."""
    frames = []
    for line in stack.decode("utf-8", "replace").splitlines()[:_MAX_STACK_LINES]:
        match = _JAVA_FRAME.match(line[:400])
        if match is not None:
            owner, _, method = _NUMBERED.sub("", match[1]).rpartition(".")
            frames.append((owner, method))
        elif frames:
            break
    # A JVM prints the innermost frame first, a fingerprint takes it last.
    return fingerprint_of(error, frames[:8][::-1] or [place])


def _stack(raw: bytes) -> str:
    text = raw[:_MAX_STACK_BYTES].decode("utf-8", "replace").replace("\t", "    ")
    lines = text.splitlines()[:_MAX_STACK_LINES]
    return "\n".join(printable(line, MAX_LINE_CHARS) for line in lines)


def _text(raw: bytes, limit: int) -> str:
    return printable(raw[: 4 * limit].decode("utf-8", "replace"), limit)
