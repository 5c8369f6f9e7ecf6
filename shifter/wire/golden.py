"""Golden records: whole Kafka records with what they must be read as.

Written out by hand, never by the encoder of this package, so that they do not follow a
change of the code: an entry is added, never edited. Their job type is
``send_receipt(order_id: int, email: str)``. Other languages test their producers and
consumers with the same files.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from shifter.model.reason import Reason

_ID: Final = "0199c9a2-8f6b-7c3e-9d41-5b2f7a6e0c11"
_OTHER_ID: Final = "3f333df6-90a4-4fda-8dd3-9485d27cee36"
_TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_OTHER_TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
_MINIMAL: Final = f'{{"v":1,"id":"{_ID}","type":"send_receipt"}}'
_PAYLOAD: Final = '{"order_id":7,"email":"ada@example.com"}'
_ARGUMENTS: Final = {"order_id": 7, "email": "ada@example.com"}
_FULL: Final = (
    f'{{"v":1,"id":"{_ID}","type":"send_receipt","queue":"mail","priority":"LOW",'
    '"level":42,"created_ms":1760000000000,"deadline_ms":1760021600000,'
    '"timeout_ms":30000,"due_ms":1760000300000,"attempt":3,"turn":5,'
    '"key":"customer-17","idempotency_key":"receipt-7","origin":"checkout",'
    f'"replay_of":"{_OTHER_ID}","first_failed_ms":1760000100000}}'
)

_Header = tuple[str, str | bytes | None]


def golden_records() -> list[dict[str, Any]]:
    """All golden records of version 1, in a fixed order."""
    return [*_good(), *_dead_letters(), *_bad()]


def _good() -> list[dict[str, Any]]:
    minimal, full = json.loads(_MINIMAL), json.loads(_FULL)
    upper = f'{{"v":1,"id":"{_OTHER_ID.upper()}","type":"send_receipt"}}'
    bare = f'{{"v":1,"id":"{_OTHER_ID.replace("-", "")}","type":"send_receipt"}}'
    unknown = _MINIMAL[:-1] + ',"colour":{"of":["money"]}}'
    spaced = f'{{ "type": "send_receipt",\n  "id": "{_ID}",\n  "v": 1 }}'
    nulls = _MINIMAL[:-1] + ',"queue":null,"priority":null,"due_ms":null}'
    twice = f'{{"v":1,"id":"{_OTHER_ID}","type":"send_receipt","id":"{_ID}"}}'
    other: dict[str, Any] = {"envelope": {**minimal, "id": _OTHER_ID}}
    return [
        _readable("v1-minimal", "three fields are enough", [("shifter", _MINIMAL)]),
        _readable(
            "v1-full",
            "every field, with trace context and a header of the user's own",
            [
                ("shifter", _FULL),
                ("content-type", "application/json"),
                ("traceparent", _TRACE),
                ("x-tenant", "acme"),
            ],
            key="customer-17",
            envelope=full,
            traceparent=_TRACE,
            extra=[_header("x-tenant", "acme")],
        ),
        _readable(
            "v1-id-upper-case", "kept in lower case", [("shifter", upper)], **other
        ),
        _readable("v1-id-bare", "hyphens are put in", [("shifter", bare)], **other),
        _readable("v1-unknown-field", "is ignored", [("shifter", unknown)]),
        _readable("v1-any-order", "order and spaces are free", [("shifter", spaced)]),
        _readable("v1-nulls", "null says nothing", [("shifter", nulls)]),
        _readable("v1-repeated-field", "the last one counts", [("shifter", twice)]),
        _readable(
            "v1-msgpack",
            "payload by content type",
            [("shifter", _MINIMAL), ("content-type", "application/msgpack")],
            value=b"\x82\xa8order_id\x07\xa5email\xafada@example.com",
            content_type="application/msgpack",
        ),
        _readable(
            "v1-stranger-headers",
            "binary and null headers travel along; names in our name do not",
            [
                ("shifter", _MINIMAL),
                ("x-binary", b"\x00\xff"),
                ("x-null", None),
                ("shifter-attempts", "99"),
            ],
            extra=[_header("x-binary", b"\x00\xff"), _header("x-null", None)],
        ),
        _readable(
            "v1-broken-trace",
            "tracing never stops a job",
            [("shifter", _MINIMAL), ("traceparent", "00-oops\r\n-01")],
        ),
        _readable(
            "v1-repeated-trace",
            "the first that is well-formed counts; instrumentation appends others",
            [
                ("traceparent", None),
                ("shifter", _MINIMAL),
                ("traceparent", _TRACE),
                ("traceparent", _OTHER_TRACE),
            ],
            traceparent=_TRACE,
        ),
        _readable(
            "v1-odd-headers",
            "a header that is too large or unprintable is dropped; UTF-8 travels along",
            [
                ("shifter", _MINIMAL),
                ("content-type", None),
                ("größe", "7"),
                ("line\r\nbreak", "7"),
                ("x-large", "x" * 4_097),
            ],
            extra=[_header("größe", "7")],
        ),
    ]


def _dead_letters() -> list[dict[str, Any]]:
    told = {
        "job_id": _ID,
        "job_type": "send_receipt",
        "queue": "mail",
        "reason": Reason.ATTEMPTS_EXHAUSTED.value,
        "origin_topic": "shop.mail.low",
        "origin_partition": 3,
        "origin_offset": 1_234,
        "origin_timestamp_ms": 1_760_000_000_120,
        "attempts": 5,
        "first_failed_ms": 1_760_000_100_000,
        "last_failed_ms": 1_760_003_000_000,
        "error_type": "smtplib.SMTPServerDisconnected",
        "error_message": "Connection unexpectedly closed",
        "error_stack": "shop.jobs:41 in send_receipt\nsmtplib:405 in getreply",
        "fingerprint": "5f0c7d1b2a94",
        "worker": "host-1:4242:0199c9a0",
    }
    unreadable = {
        **told,
        "job_id": None,
        "job_type": None,
        "reason": Reason.UNDECODABLE_ENVELOPE.value,
        "attempts": 0,
        "first_failed_ms": None,
        "error_type": Reason.UNDECODABLE_ENVELOPE.value,
        "error_message": "Input data was truncated",
        "error_stack": "",
    }
    return [
        _dead_letter("v1-dead-letter", "gave up after five attempts", _MINIMAL, told),
        _dead_letter(
            "v1-dead-letter-unreadable",
            "the envelope is kept as it was",
            _MINIMAL[:-9],
            unreadable,
        ),
    ]


def _bad() -> list[dict[str, Any]]:
    envelope = Reason.UNDECODABLE_ENVELOPE
    payload = Reason.UNDECODABLE_PAYLOAD
    due = _MINIMAL[:-1] + ',"due_ms":-1}'
    attempt = _MINIMAL[:-1] + ',"attempt":0}'
    urgent = _MINIMAL[:-1] + ',"priority":"URGENT"}'
    control = _MINIMAL[:-1] + ',"key":"a\\u0000b"}'
    twice: list[_Header] = [("shifter", _MINIMAL), ("shifter", _MINIMAL)]
    deep = f'{{"order_id":7,"email":{"[" * 64}{"]" * 64}}}'
    return [
        _unreadable("v1-bad-no-envelope", envelope, [("x-tenant", "acme")]),
        _unreadable("v1-bad-null-envelope", envelope, [("shifter", None)]),
        _unreadable("v1-bad-two-envelopes", envelope, twice),
        _unreadable("v1-bad-truncated", envelope, [("shifter", _MINIMAL[:-9])]),
        _unreadable("v1-bad-not-utf8", envelope, [("shifter", b'{"v":1,"id":"\xff"}')]),
        _unreadable("v1-bad-id", envelope, [("shifter", _MINIMAL.replace(_ID, "7"))]),
        _unreadable("v1-bad-due", envelope, [("shifter", due)]),
        _unreadable("v1-bad-attempt", envelope, [("shifter", attempt)]),
        _unreadable("v1-bad-priority", envelope, [("shifter", urgent)]),
        _unreadable("v1-bad-control-character", envelope, [("shifter", control)]),
        _unreadable(
            "v1-bad-version",
            Reason.UNSUPPORTED_VERSION,
            [("shifter", _MINIMAL.replace('"v":1', '"v":2'))],
        ),
        _unreadable("v1-bad-payload-null", payload, value=None),
        _unreadable("v1-bad-payload-empty", payload, value=""),
        _unreadable("v1-bad-payload-mark", payload, value="\ufeff" + _PAYLOAD),
        _unreadable("v1-bad-payload-missing", payload, value='{"order_id":7}'),
        _unreadable(
            "v1-bad-payload-unknown", payload, value=_PAYLOAD[:-1] + ',"cc":"a"}'
        ),
        _unreadable("v1-bad-payload-type", payload, value=_PAYLOAD.replace("7", '"7"')),
        _unreadable("v1-bad-payload-nan", payload, value=_PAYLOAD.replace("7", "NaN")),
        _unreadable("v1-bad-payload-deep", payload, value=deep),
        _unreadable("v1-bad-payload-pickle", payload, value=b"\x80\x04N."),
        _unreadable(
            "v1-bad-content-type",
            payload,
            [("shifter", _MINIMAL), ("content-type", "application/x-pickle")],
        ),
    ]


def _readable(
    name: str,
    says: str,
    headers: list[_Header],
    *,
    key: str | None = None,
    value: str | bytes = _PAYLOAD,
    **expected: Any,
) -> dict[str, Any]:
    wanted = {
        "ok": True,
        "envelope": {"v": 1, "id": _ID, "type": "send_receipt"},
        "content_type": "application/json",
        "traceparent": None,
        "extra": [],
        "arguments": _ARGUMENTS,
        **expected,
    }
    return _record(name, says, headers, key=key, value=value, expect=wanted)


def _dead_letter(
    name: str, says: str, envelope: str, told: dict[str, Any]
) -> dict[str, Any]:
    headers: list[_Header] = [("shifter", envelope)]
    headers += [
        ("shifter-" + field.replace("_", "-"), str(value))
        for field, value in told.items()
        if value is not None
    ]
    return _record(
        name,
        says,
        headers,
        topic="shop.mail.dlt",
        expect={"ok": True, "dead_letter": told},
    )


def _unreadable(
    name: str,
    reason: Reason,
    headers: list[_Header] | None = None,
    *,
    value: str | bytes | None = _PAYLOAD,
) -> dict[str, Any]:
    return _record(
        name,
        f"goes to the dead letters as {reason.value}",
        [("shifter", _MINIMAL)] if headers is None else headers,
        value=value,
        expect={"ok": False, "reason": reason.value},
    )


def _record(
    name: str,
    says: str,
    headers: list[_Header],
    *,
    expect: dict[str, Any],
    value: str | bytes | None = _PAYLOAD,
    **place: str | None,
) -> dict[str, Any]:
    return {
        "name": name,
        "says": says,
        "topic": place.get("topic", "shop.mail.low"),
        "key": _content(place.get("key")),
        "headers": [_header(*header) for header in headers],
        "value": _content(value),
        "expect": expect,
    }


def _header(name: str, value: str | bytes | None) -> dict[str, Any]:
    return {"name": name, "value": _content(value)}


def _content(value: str | bytes | None) -> dict[str, str] | None:
    """Content as text, or as base64 for bytes; ``None`` stays."""
    if value is None:
        return None
    if isinstance(value, str):
        return {"text": value}
    return {"base64": base64.b64encode(value).decode("ascii")}
