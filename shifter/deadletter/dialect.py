"""What a dead letter says of itself, whoever wrote it.

Each system that parks records has headers of its own. They are told apart by the header
that names the origin, and read into one `LetterFacts`. Nothing of them is trusted:
anybody may write to a dead-letter topic.

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

from shifter.model.job import canonical_id
from shifter.wire.dead_letter import DeadLetterInfo, header_name, read_dead_letter
from shifter.wire.envelope import MAX_INSTANT_MS
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
"""Of a record without any header that we know."""

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
    """What is known of a dead letter; all texts are printable.

    Attributes:
        dialect: Who wrote it: ``shifter``, ``spring``, ``connect``, ``streams``,
            ``share_group``, ``karafka`` or ``foreign``.
        reason: Why it is there; of a stranger, the dialect.
        origin_topic: Where the record came from; ``None`` if nobody says.
        origin_partition: Part of that topic.
        origin_offset: Position there.
        origin_timestamp_ms: When the log took the original record.
        error_type: Class of the failure, or the reason.
        error_message: Its message, one line.
        error_stack: Its stack, lines.
        fingerprint: Equal for failures of one kind.
        attempts: Attempts made, where somebody counted.
        first_failed_ms: When it failed for the first time.
        last_failed_ms: When it ended here.
        job_id: Of a job of ours.
        job_type: Likewise.
        queue: Likewise.
        worker: Who gave it up: a worker, a consumer group, a connector.
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
    return int(raw) if raw.isdigit() and len(raw) <= 18 else None


def _binary_number(raw: bytes) -> int | None:
    # Java's ByteBuffer.putInt and putLong.
    return int.from_bytes(raw, signed=True) if len(raw) in (4, 8) else None


class Dialect(NamedTuple):
    """The headers of one system.

    Attributes:
        name: What we call it.
        origin: The header that names the origin; it tells the system, too.
        fields: Header of each field of a `LetterFacts`.
        drops: Beginnings of header names that are the system's own, and go when the
            record goes back.
        number: Reads its numbers.
    """

    name: str
    origin: str
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
        f"{_SPRING}original-topic",
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
        f"{_CONNECT}topic",
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
        f"{_STREAMS}topic",
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
        f"{_SHARE}topic",
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
            f"{word}_topic",
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
        # Karafka before 2.5 says "original".
        for word in ("source", "original")
    ),
)
_BY_ORIGIN: Final = {dialect.origin: dialect for dialect in DIALECTS}
# Of these, Spring appends a value at each failure: the last one counts.
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


def read_story(headers: Headers, appended_ms: int) -> LetterFacts:
    """What the headers of a dead letter tell; never raises.

    Args:
        headers: As written.
        appended_ms: When the log took the dead letter.
    """
    dialect: Dialect | None = None
    for name, value in headers:
        if name == _OURS:
            info = read_dead_letter(headers)
            if info is not None:
                return _ours(info)
        elif dialect is None and value is not None:
            dialect = _BY_ORIGIN.get(name)
    if dialect is None:
        return LetterFacts(dialect=FOREIGN, reason=FOREIGN, last_failed_ms=appended_ms)
    return _theirs(dialect, headers, appended_ms)


def read_origin(headers: Headers, appended_ms: int) -> tuple[str | None, int | None]:
    """Origin and attempts made, the latter of our own letters only; never raises.

    The same as `read_story` says, without reading all the rest.
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
    story = read_story(headers, appended_ms)
    return story.origin_topic, story.attempts if story.dialect == SHIFTER else None


def foreign_dialect(headers: Headers) -> Dialect | None:
    """The system that parked this record; ``None`` for ours and for strangers."""
    for name, value in headers:
        if value is not None and name in _BY_ORIGIN:
            return _BY_ORIGIN[name]
    return None


def without_story(
    dialect: Dialect | None, headers: Iterable[tuple[str, bytes | None]]
) -> Headers:
    """The headers a record had before it was parked: its user's own."""
    drops = ("shifter",) if dialect is None else (*dialect.drops, "shifter")
    return [header for header in headers if not header[0].startswith(drops)]


def _ours(info: DeadLetterInfo) -> LetterFacts:
    return LetterFacts(
        dialect=SHIFTER,
        reason=info.reason,
        origin_topic=info.origin_topic,
        origin_partition=info.origin_partition,
        origin_offset=info.origin_offset,
        origin_timestamp_ms=info.origin_timestamp_ms,
        error_type=info.error_type,
        error_message=info.error_message,
        error_stack=info.error_stack,
        fingerprint=info.fingerprint,
        attempts=info.attempts,
        first_failed_ms=info.first_failed_ms,
        last_failed_ms=info.last_failed_ms,
        job_id=canonical_id(info.job_id) or info.job_id,
        job_type=info.job_type,
        queue=info.queue,
        worker=info.worker,
    )


def _theirs(dialect: Dialect, headers: Headers, appended_ms: int) -> LetterFacts:
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
    return _told(dialect, facts, found.get("error_stack", b""), appended_ms)


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
        # Without a cause, the exception itself.
        own = raw.get(f"{_SPRING}exception-fqcn")
        if own:
            found["error_type"] = own[-1]
    return found


def _told(
    dialect: Dialect, facts: dict[str, str | int], stack: bytes, appended_ms: int
) -> LetterFacts:
    error = str(facts.get("error_type", "")).partition(": ")[0] or dialect.name
    topic, message = facts.get("origin_topic"), str(facts.get("error_message", ""))
    place = (str(topic), "" if stack else message[:100])
    return LetterFacts(
        dialect=dialect.name,
        reason=dialect.name,
        **{
            **facts,  # type: ignore[arg-type]  # by field, checked above
            "error_type": error,
            "fingerprint": _java_fingerprint(error, stack[:_MAX_STACK_BYTES], place),
            "last_failed_ms": appended_ms,
        },
    )


@functools.lru_cache(maxsize=1_024)
def _java_fingerprint(error: str, stack: bytes, place: tuple[str, str]) -> str:
    """A fingerprint of what a JVM printed; of the place where it printed nothing."""
    frames = []
    for line in stack.decode("utf-8", "replace").splitlines()[:_MAX_STACK_LINES]:
        match = _JAVA_FRAME.match(line[:400])
        if match is not None:
            owner, _, method = _NUMBERED.sub("", match[1]).rpartition(".")
            frames.append((owner, method))
        elif frames:
            break
    # A JVM prints the innermost frame first; ours is last.
    return fingerprint_of(error, frames[:8][::-1] or [place])


def _stack(raw: bytes) -> str:
    text = raw[:_MAX_STACK_BYTES].decode("utf-8", "replace").replace("\t", "    ")
    lines = text.splitlines()[:_MAX_STACK_LINES]
    return "\n".join(printable(line, MAX_LINE_CHARS) for line in lines)


def _text(raw: bytes, limit: int) -> str:
    return printable(raw[: 4 * limit].decode("utf-8", "replace"), limit)
