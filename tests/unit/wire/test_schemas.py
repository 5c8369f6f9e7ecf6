from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from shifter.adapters.kafka.ladder import DUE_HEADER, LANE_HEADER
from shifter.errors import DecodeError, UnsupportedVersionError
from shifter.model.lane import Priority, parse_lane
from shifter.model.reason import Reason
from shifter.policy.delivery.delay import TIERS_S
from shifter.wire.dead_letter import (
    DeadLetterInfo,
    dead_letter_headers as bury,
    read_dead_letter,
)
from shifter.wire.envelope import EnvelopeV1, decode_envelope
from shifter.wire.headers import Headers, build_headers, read_headers
from shifter.wire.payload import PayloadCodec
from shifter.wire.schemas import (
    DELAY_HEADERS,
    dead_letter_schema,
    envelope_schema,
    generate,
)

SCHEMAS = Path(__file__).parents[3] / "schemas"
GOLDEN = sorted((SCHEMAS / "golden").glob("*.json"))
ANSWERS = {
    *(Reason.ACCEPTED, Reason.QUEUE_FULL, Reason.TOO_LARGE, Reason.EXPIRED),
    *(Reason.REFUSED_BY_LOG, Reason.CLOSED, Reason.SPOOLED, Reason.SPOOL_FULL),
    *(Reason.LOG_AWAY, Reason.NOT_INLINE, Reason.NOT_DUE, Reason.WINDOW_CLOSED),
    *(Reason.CIRCUIT_OPEN, Reason.LIMIT_REACHED, Reason.RATE_LIMITED),
    *(Reason.OVERLOADED, Reason.QUALITY_REDUCED, Reason.RETRY_ASKED),
    *(Reason.CLOCK_REFUSED, Reason.DUPLICATE),
}


class Context: ...


def send_receipt(order_id: int, email: str) -> None: ...


CODEC = PayloadCodec(send_receipt, name="send_receipt", context_type=Context)


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes())


def content(written: dict[str, str] | None) -> bytes | None:
    if written is None:
        return None
    if "text" in written:
        return written["text"].encode()
    return base64.b64decode(written["base64"])


def headers_of(written: list[dict[str, Any]]) -> Headers:
    return [(one["name"], content(one["value"])) for one in written]


def outcome(record: dict[str, Any]) -> dict[str, Any]:
    """What this version reads in a record, in the words of a golden file."""
    headers = headers_of(record["headers"])
    if record["topic"].endswith(".dlt"):
        return {"ok": True, "dead_letter": msgspec.structs.asdict(_dead(headers))}
    try:
        read = read_headers(headers)
        arguments = CODEC.decode(content(record["value"]), read.content_type)
    except DecodeError as error:
        return {"ok": False, "reason": error.reason}
    except UnsupportedVersionError:
        return {"ok": False, "reason": Reason.UNSUPPORTED_VERSION}
    return {
        "ok": True,
        "envelope": msgspec.to_builtins(read.envelope),
        "content_type": read.content_type,
        "traceparent": read.traceparent,
        "extra": read.extra,
        "arguments": arguments,
    }


def _dead(headers: Headers) -> DeadLetterInfo:
    info = read_dead_letter(headers)
    assert info is not None
    return info


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_golden_record_ever_published_is_read_as_recorded(path):
    record = load(path)

    expected = dict(record["expect"])
    if "extra" in expected:
        expected["extra"] = headers_of(expected["extra"])
    assert outcome(record) == expected


def test_the_folder_holds_what_the_code_generates():
    files = generate()

    for name, written in files.items():
        assert (SCHEMAS / name).read_bytes() == written, f"{name}: run `make schemas`"
    assert len(files) >= 35


def test_generated_files_are_the_same_every_time():
    assert list(generate().items()) == list(generate().items())


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_an_envelope_that_is_read_fits_its_schema(path):
    raw = dict(headers_of(load(path)["headers"])).get("shifter")
    try:
        decode_envelope(raw or b"")
    except (DecodeError, UnsupportedVersionError):
        return

    jsonschema.validate(
        json.loads(raw), envelope_schema(), jsonschema.Draft202012Validator
    )


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"v": 2},
        {"id": "7"},
        {"type": ""},
        {"priority": "URGENT"},
        {"attempt": 0},
        {"attempt": "1"},
        {"due_ms": -1},
        {"level": 400},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(bad):
    good = {"v": 1, "id": "0199c9a2-8f6b-7c3e-9d41-5b2f7a6e0c11", "type": "t"}
    jsonschema.validate(good, envelope_schema())

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**good, **bad} if bad else {}, envelope_schema())


def test_a_contract_without_words_is_not_generated(monkeypatch):
    """Python drops docstrings under -OO."""
    monkeypatch.setattr(EnvelopeV1, "__doc__", None)

    with pytest.raises(RuntimeError, match="EnvelopeV1 has no docstring"):
        envelope_schema()


def test_schemas_are_schemas():
    for schema in (envelope_schema(), dead_letter_schema()):
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_field_of_the_envelope_is_published_and_described():
    properties = envelope_schema()["properties"]

    assert list(properties) == list(EnvelopeV1.__struct_fields__)
    assert all(shape["description"] for shape in properties.values())
    assert "$ref" not in json.dumps(properties)


def test_headers_of_a_dead_letter_fit_their_schema():
    info = msgspec.convert(
        load(SCHEMAS / "golden" / "v1-dead-letter.json")["expect"]["dead_letter"],
        DeadLetterInfo,
    )

    for headers in (bury(info, []), bury(info, [("x", b"x" * 90_000)])):
        texts = {name: value.decode() for name, value in headers}
        jsonschema.validate(texts, dead_letter_schema())
        assert set(texts) <= set(dead_letter_schema()["properties"])


def test_every_reason_of_a_dead_letter_is_published():
    examples = dead_letter_schema()["properties"]["shifter-reason"]["examples"]

    reasons = (set(Reason) - ANSWERS) | {Reason.TOO_LARGE}
    assert set(examples) == {reason.value for reason in reasons}


def test_the_full_golden_record_is_what_we_write():
    record = load(SCHEMAS / "golden" / "v1-full.json")
    expected = record["expect"]

    headers = build_headers(
        msgspec.convert(expected["envelope"], EnvelopeV1),
        content_type=expected["content_type"],
        traceparent=expected["traceparent"],
        extra=headers_of(expected["extra"]),
    )

    assert headers == headers_of(record["headers"])
    assert CODEC.encode((), expected["arguments"]) == content(record["value"])


def test_asyncapi_references_resolve():
    document = json.loads(generate()["asyncapi.json"])

    references = re.findall(
        r'"\$ref": "#/([^"]+)"', generate()["asyncapi.json"].decode()
    )

    assert len(references) > 10
    for reference in references:
        found = document
        for step in reference.split("/"):
            found = found[step]


def test_asyncapi_lists_the_topics_and_headers_of_the_log():
    document = json.loads(generate()["asyncapi.json"])
    parameters = document["components"]["parameters"]

    tiers = [int(tier) for tier in parameters["tier"]["enum"]]
    address = document["channels"]["lane"]["address"]
    for priority in parameters["priority"]["enum"]:
        lane = parse_lane(address.format(namespace="a", queue="b", priority=priority))
        assert lane.priority is Priority[priority.upper()]
    assert tuple(tiers) == TIERS_S
    assert DELAY_HEADERS == (LANE_HEADER, DUE_HEADER)
