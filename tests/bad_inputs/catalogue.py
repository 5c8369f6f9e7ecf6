"""The catalogue of bad messages and headers: each row one record, and how it ends.

A record ends in the reason of its dead letter, by being run, as expired, or by never
getting into a log at all. Rows are numbered as in the catalogue. 19, 20 and 37 ask for
codecs and signatures, 26 for tenants, which this wire does not have: a payload that says
it is encoded once more is undecodable, a signature is a header like any other, and a
record of another queue is on the wrong lane.
"""

from __future__ import annotations

import gzip
import json
import pickle
import uuid
import zlib
from enum import Enum, auto
from typing import NamedTuple, TypeAlias

from shifter.model.reason import Reason
from shifter.wire.headers import Headers
from shifter.wire.payload import DEFAULT_MAX_PAYLOAD_BYTES


class Other(Enum):
    """How a record ends that does not become a dead letter."""

    RUN = auto()
    EXPIRED = auto()
    TOO_LARGE = auto()  # for any log; by hand it is an undecodable payload


End: TypeAlias = Reason | Other


class Row(NamedTuple):
    """One record.

    Attributes:
        number: In the catalogue.
        text: What is wrong with it.
        headers: As written; the id in the envelope is `ID`.
        value: As written.
        end: How it ends.
    """

    number: int
    text: str
    headers: Headers
    value: bytes | None
    end: End

    @property
    def name(self) -> str:
        """For a test's id."""
        return f"{self.number:02}-{self.text}"

    @property
    def job_id(self) -> str:
        """Of its own, and always the same."""
        return str(uuid.uuid5(uuid.UUID(ID), self.name))

    def own_headers(self) -> Headers:
        """Its headers with an id of its own."""
        return with_id(self.headers, self.job_id)


def with_id(headers: Headers, job_id: str) -> Headers:
    """Headers with `ID` replaced."""
    return [
        (name, None if value is None else value.replace(ID.encode(), job_id.encode()))
        for name, value in headers
    ]


NOW = 1_760_000_000_000
ID = "0199c9a2-8f6b-7c3e-9d41-5b2f7a6e0c11"
BAD_ENVELOPE = Reason.UNDECODABLE_ENVELOPE
BAD_PAYLOAD = Reason.UNDECODABLE_PAYLOAD
BAD_VERSION = Reason.UNSUPPORTED_VERSION
RUN, EXPIRED, TOO_LARGE = Other.RUN, Other.EXPIRED, Other.TOO_LARGE
MAX = DEFAULT_MAX_PAYLOAD_BYTES
MSGPACK: Headers = [("content-type", b"application/msgpack")]


def envelope(**fields: object) -> bytes:
    return json.dumps({"v": 1, "id": ID, "type": "handler", **fields}).encode()


def raw_envelope(more: bytes) -> bytes:
    return envelope()[:-1] + b"," + more + b"}"


def payload(value: bytes) -> bytes:
    return b'{"number":%s}' % value


def items(value: bytes) -> bytes:
    return b'{"number":1,"items":%s}' % value


def nested(depth: int, opens: bytes = b"[", closes: bytes = b"]") -> bytes:
    return opens * depth + b"0" * (opens != b"[") + closes * depth


def padded(size: int) -> bytes:
    return b'{"number":1,"text":"' + b"x" * (size - 22) + b'"}'


def bomb() -> bytes:
    return gzip.compress(b'{"number":1,"text":"' + b" " * 10_000_000 + b'"}')


def coded(name: bytes) -> Headers:
    return [("content-encoding", name)]


GOOD = payload(b"1")

# Rows about the value: (row, value, further headers, outcome).
VALUES: list[tuple[str, bytes | None, Headers, End]] = [
    ("1 empty", b"", [], BAD_PAYLOAD),
    ("2 null", None, [], BAD_PAYLOAD),
    ("3 zero byte", b"\x00", [], BAD_PAYLOAD),
    ("4 0xFF", b"\xff", [], BAD_PAYLOAD),
    ("4 0xFF as msgpack", b"\xff", MSGPACK, BAD_PAYLOAD),
    ("5 byte order mark", b"\xef\xbb\xbf" + GOOD, [], BAD_PAYLOAD),
    ("6 UTF-16", GOOD.decode().encode("utf-16"), [], BAD_PAYLOAD),
    ("7 truncated", GOOD[:-1], [], BAD_PAYLOAD),
    ("8 trailing", GOOD + b"}", [], BAD_PAYLOAD),
    ("8 trailing spaces", GOOD + b" \n", [], RUN),
    ("9 repeated field", b'{"number":"x","number":1}', [], BAD_PAYLOAD),
    ("9 repeated, both fit", b'{"number":1,"number":2}', [], RUN),
    ("10 unknown field", b'{"number":1,"colour":1}', [], BAD_PAYLOAD),
    ("14 NaN", payload(b"NaN"), [], BAD_PAYLOAD),
    ("14 Infinity", payload(b"-Infinity"), [], BAD_PAYLOAD),
    ("14 1e999", payload(b"1e999"), [], BAD_PAYLOAD),
    ("14 -0.0", payload(b"-0.0"), [], RUN),
    ("15 10^5 digits", payload(b"9" * 100_000), [], BAD_PAYLOAD),
    ("15 10^5 digits anywhere", items(b"9" * 100_000), [], BAD_PAYLOAD),
    ("16 depth 64", items(nested(63)), [], RUN),
    ("16 depth 65", items(nested(64)), [], BAD_PAYLOAD),
    ("16 depth 1,000", items(nested(1_000)), [], BAD_PAYLOAD),
    ("16 depth 100,000", items(nested(100_000)), [], BAD_PAYLOAD),
    ("16 objects", items(nested(100_000, b'{"a":', b"}")), [], BAD_PAYLOAD),
    ("16 unknown", b'{"x":%s,"number":1}' % nested(900), [], BAD_PAYLOAD),
    ("16 msgpack", b"\x91" * 100_000, MSGPACK, BAD_PAYLOAD),
    ("17 10^5 keys", items(b'{%s"a":1}' % (b'"a":1,' * 10**5)), [], RUN),
    ("17 10^6 keys", items(b'{%s"a":1}' % (b'"a":1,' * 10**6)), [], TOO_LARGE),
    ("18 max", padded(MAX), [], RUN),
    ("18 max+1", padded(MAX + 1), [], BAD_PAYLOAD),
    ("18 1.1 max", padded(MAX * 11 // 10), [], BAD_PAYLOAD),
    ("19 zip bomb", bomb(), [], BAD_PAYLOAD),
    ("19 nested bomb", gzip.compress(bomb()), [], BAD_PAYLOAD),
    ("19 bomb that says so", bomb(), coded(b"gzip"), BAD_PAYLOAD),
    ("20 unknown coding", GOOD, coded(b"br"), BAD_PAYLOAD),
    ("20 no coding, said", GOOD, coded(b"identity"), RUN),
    ("20 unknown type", GOOD, [("content-type", b"application/avro")], BAD_PAYLOAD),
    ("20 wrong codec", zlib.compress(GOOD), [], BAD_PAYLOAD),
    ("20 truncated codec", gzip.compress(GOOD)[:-4], [], BAD_PAYLOAD),
    ("21 JSON said to be msgpack", GOOD, MSGPACK, BAD_PAYLOAD),
    ("21 msgpack said to be JSON", b"\x81\xa6number\x01", [], BAD_PAYLOAD),
    ("23 array of 2^32-1", b"\xdd\xff\xff\xff\xff", MSGPACK, BAD_PAYLOAD),
    ("23 map of 2^32-1", b"\xdf\xff\xff\xff\xff", MSGPACK, BAD_PAYLOAD),
    ("23 text of 2^32-1", b"\x81\xdb\xff\xff\xff\xff", MSGPACK, BAD_PAYLOAD),
    ("24 pickle", pickle.dumps({"number": 1}), [], BAD_PAYLOAD),
    ("24 pickle as msgpack", pickle.dumps(print), MSGPACK, BAD_PAYLOAD),
    ("25 same id, other payload", payload(b"2"), [], RUN),
    ("36 not UTF-8", b'{"number":1,"text":"\xff"}', [], BAD_PAYLOAD),
]

# Rows about the envelope: (row, envelope, outcome).
ENVELOPES: list[tuple[str, bytes | None, End]] = [
    ("1 empty", b"", BAD_ENVELOPE),
    ("3 zero byte", b"\x00", BAD_ENVELOPE),
    ("4 0xFF", b"\xff", BAD_ENVELOPE),
    ("5 byte order mark", b"\xef\xbb\xbf" + envelope(), BAD_ENVELOPE),
    ("6 UTF-16", envelope().decode().encode("utf-16"), BAD_ENVELOPE),
    ("7 truncated", envelope()[:-1], BAD_ENVELOPE),
    ("8 trailing", envelope() + b"x", BAD_ENVELOPE),
    ("9 repeated id, last counts", raw_envelope(b'"id":"x"'), BAD_ENVELOPE),
    ("9 repeated id, both fit", raw_envelope(b'"id":"%s"' % ID.encode()), RUN),
    ("10 unknown field", envelope(colour="red"), RUN),
    ("11 missing id", b'{"v":1,"type":"handler"}', BAD_ENVELOPE),
    ("12 id empty", envelope(id=""), BAD_ENVELOPE),
    ("12 id of 10 kB", envelope(id="a" * 10_000), BAD_ENVELOPE),
    ("12 id with NUL", envelope(id=ID[:-1] + "\0"), BAD_ENVELOPE),
    ("12 id with newline", envelope(id=ID[:-1] + "\n"), BAD_ENVELOPE),
    ("12 id ../", envelope(id="../" * 12), BAD_ENVELOPE),
    ("12 id emoji", envelope(id="🎉" * 36), BAD_ENVELOPE),
    ("12 id override", envelope(id="\u202e" + ID[1:]), BAD_ENVELOPE),
    *(
        (f"13 priority {bad!r}", envelope(priority=bad), BAD_ENVELOPE)
        for bad in (-1, 2**63, 2**64, 1.5, "1", "low", "", True, [])
    ),
    ("13 priority null", envelope(priority=None), RUN),
    *(
        (f"13 level {bad!r}", envelope(level=bad), BAD_ENVELOPE)
        for bad in (-1, 400, 2**63, 2**64, 1.5, "1", True)
    ),
    ("14 NaN", raw_envelope(b'"level":NaN'), BAD_ENVELOPE),
    ("14 Infinity", raw_envelope(b'"level":Infinity'), BAD_ENVELOPE),
    ("14 1e999", raw_envelope(b'"x":1e999'), RUN),
    ("14 -0.0", raw_envelope(b'"level":-0.0'), BAD_ENVELOPE),
    ("15 5,000 digits", raw_envelope(b'"level":' + b"9" * 5_000), BAD_ENVELOPE),
    ("15 10^5 digits", raw_envelope(b'"level":' + b"9" * 100_000), BAD_ENVELOPE),
    ("15 v of 5,000 digits", b'{"v":%s}' % (b"9" * 5_000), BAD_ENVELOPE),
    ("16 depth 64", raw_envelope(b'"x":' + nested(63)), RUN),
    ("16 depth 65", raw_envelope(b'"x":' + nested(64)), BAD_ENVELOPE),
    ("16 depth 1,000", raw_envelope(b'"x":' + nested(1_000)), BAD_ENVELOPE),
    ("16 depth 4,000", nested(4_000), BAD_ENVELOPE),
    ("16 depth 100,000", nested(100_000), BAD_ENVELOPE),
    ("17 many keys", raw_envelope(b'"a":1,' * 1_300 + b'"a":1'), RUN),
    ("18 8 KiB", envelope(x="y" * (8_192 - len(envelope(x="")))), RUN),
    ("18 8 KiB + 1", envelope(x="y" * (8_193 - len(envelope(x="")))), BAD_ENVELOPE),
    ("22 v 0", envelope(v=0), BAD_VERSION),
    ("22 v 2", envelope(v=2), BAD_VERSION),
    ("22 v 2^31", envelope(v=2**31), BAD_VERSION),
    ("24 pickle", pickle.dumps({"v": 1}), BAD_ENVELOPE),
    ("26 another queue", envelope(queue="other"), Reason.WRONG_LANE),
    ("26 another priority", envelope(priority="LOW"), Reason.WRONG_LANE),
    ("26 another app", envelope(type="send_receipt"), Reason.UNKNOWN_JOB),
    ("26 another tenant", envelope(tenant="other"), RUN),
    *(
        (f"27 attempt {bad!r}", envelope(attempt=bad), BAD_ENVELOPE)
        for bad in (-1, 0, 1_001, 2**31, "x")
    ),
    *(
        (f"27 turn {bad!r}", envelope(turn=bad), BAD_ENVELOPE)
        for bad in (-1, 0, 100_001, 2**31, "x")
    ),
    ("28 due in the year 9999", envelope(due_ms=253_402_300_799_999), BAD_ENVELOPE),
    ("28 due after it", envelope(due_ms=253_402_300_800_000), BAD_ENVELOPE),
    ("28 due negative", envelope(due_ms=-1), BAD_ENVELOPE),
    ("28 due ten years ago", envelope(due_ms=NOW - 315_360_000_000), RUN),
    ("29 deadline < due", envelope(due_ms=NOW + 2, deadline_ms=NOW + 1), EXPIRED),
    ("35 null", None, BAD_ENVELOPE),
    ("36 not UTF-8", raw_envelope(b'"key":"\xff"'), BAD_ENVELOPE),
    ("36 overlong UTF-8 where nobody looks", raw_envelope(b'"x":"\xc0\xaf"'), RUN),
    ("36 lone surrogate", raw_envelope(b'"key":"\\ud800"'), BAD_ENVELOPE),
    ("37 tampered", envelope()[:-1] + b"~}", BAD_ENVELOPE),
]

OURS: Headers = [("shifter", envelope())]

# Rows about the other headers: (row, headers, outcome).
HEADERS: list[tuple[str, Headers, End]] = [
    ("27 forged by a header", [*OURS, ("shifter-attempts", b"-1")], RUN),
    ("30 two envelopes", [*OURS, *OURS], BAD_ENVELOPE),
    (
        "30 two content types",
        [*OURS, *[("content-type", b"application/json")] * 2],
        RUN,
    ),
    ("30 two traces", [*OURS, *[("traceparent", b"x")] * 2], RUN),
    ("31 no envelope", [("x", b"1")], BAD_ENVELOPE),
    ("31 no content type", OURS, RUN),
    ("32 10,000 headers", OURS + [(f"x{n}", b"") for n in range(9_999)], RUN),
    ("32 the envelope last", [*[(f"x{n}", b"") for n in range(9_999)], *OURS], RUN),
    ("33 name of 40 kB", [*OURS, ("x" * 40_000, b"")], RUN),
    ("33 value of 40 kB", [*OURS, ("x", b"x" * 40_000)], RUN),
    ("33 our name, 40 kB", [*OURS, ("shifter-x", b"x" * 40_000)], RUN),
    ("33 40 kB in all", OURS + [(f"x{n}", b"x" * 4_000) for n in range(10)], RUN),
    ("33 no name", [*OURS, ("", b"x")], RUN),
    ("34 line break in a name", [*OURS, ("a\r\nb", b"")], RUN),
    ("34 line break in a value", [*OURS, ("a", b"a\r\nb")], RUN),
    ("34 line break in a type", [*OURS, ("content-type", b"a\r\nb")], BAD_PAYLOAD),
    ("35 null of a user", [*OURS, ("x", None)], RUN),
    ("35 null content type", [*OURS, ("content-type", None)], RUN),
    ("35 null trace", [*OURS, ("traceparent", None)], RUN),
    ("36 value not UTF-8", [*OURS, ("x", b"\xff")], RUN),
    ("36 name of UTF-8", [*OURS, ("größe", b"1")], RUN),
    ("36 type not UTF-8", [*OURS, ("content-type", b"\xff")], BAD_PAYLOAD),
    # Bytes of a name that are no text stand here as the interpreter escapes them.
    ("36 name not UTF-8", [*OURS, ("\udcff\udcfe", b"x")], BAD_ENVELOPE),
    ("37 signed by nobody", [*OURS, ("shifter-signature", b"x")], RUN),
    ("37 cut signature", [*OURS, ("signature", b"")], RUN),
    ("38 injected trace", [*OURS, ("traceparent", b"00-x\r\nset-cookie: a")], RUN),
]


def _row(text: str, headers: Headers, value: bytes | None, end: End) -> Row:
    number, _, rest = text.partition(" ")
    return Row(int(number), rest, headers, value, end)


ROWS = [
    *(_row(row, OURS + more, value, end) for row, value, more, end in VALUES),
    *(
        _row(f"{row} (envelope)", [("shifter", raw)], GOOD, end)
        for row, raw, end in ENVELOPES
    ),
    *(_row(row, headers, GOOD, end) for row, headers, end in HEADERS),
]
MESSAGES = [row for row in ROWS if row.number <= 26]
HEADER_ROWS = [row for row in ROWS if row.number > 26]
