"""The published contract as files, generated from the types that read the wire.

`generate` gives the JSON Schemas, the AsyncAPI document and the golden records that
stand in ``schemas/``; a test compares them byte for byte. What a field means is said
once, in the docstring of its type. Not imported by anything that runs jobs.
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any, Final

import msgspec

from shifter.model.reason import Reason
from shifter.wire.asyncapi import asyncapi
from shifter.wire.dead_letter import (
    HEADERS_DROPPED,
    OPTIONAL_FIELDS,
    TEXT_LIMITS,
    VALUE_DROPPED,
    DeadLetterInfo,
    header_name,
)
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.golden import golden_records

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_FIELD: Final = re.compile(r" {4}(\w+): (.*)")


def generate() -> dict[str, bytes]:
    """The contract's files: name under ``schemas/`` to content, UTF-8 JSON.

    Equal input, equal bytes: names and fields keep one order.
    """
    envelope = envelope_schema()
    documents: dict[str, Any] = {
        "envelope-v1.schema.json": envelope,
        "dead-letter-v1.schema.json": dead_letter_schema(),
        "asyncapi.json": asyncapi(envelope, dead_letter_schema()),
    }
    for record in golden_records():
        documents[f"golden/{record['name']}.json"] = record
    return {name: _encoded(document) for name, document in documents.items()}


def envelope_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of the ``shifter`` header's JSON."""
    (found,), types = msgspec.json.schema_components([EnvelopeV1])
    schema = types.pop("EnvelopeV1")
    documented = _attributes(EnvelopeV1)
    properties = {
        field: {"description": documented[field], **_inlined(shape, types)}
        for field, shape in schema["properties"].items()
    }
    properties["v"] = {"description": documented["v"], "const": 1}
    return {
        "$schema": _DIALECT,
        "$id": "urn:shifter:schema:envelope-v1",
        "title": found["$ref"].rpartition("/")[2],
        "description": _first_lines(EnvelopeV1),
        "type": "object",
        "properties": properties,
        "required": schema["required"],
        "additionalProperties": True,
    }


def dead_letter_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of a dead letter's headers, as an object of texts."""
    fields = DeadLetterInfo.__struct_fields__
    documented = _attributes(DeadLetterInfo)
    properties: dict[str, Any] = {
        header_name(field): {"description": documented[field], **_header_shape(field)}
        for field in fields
    }
    examples = [reason.value for reason in _DEAD_LETTER_REASONS]
    properties[header_name("reason")]["examples"] = examples
    for name, description in (
        (HEADERS_DROPPED, "How many original headers found no room."),
        (VALUE_DROPPED, "How many bytes the value had; it found no room."),
    ):
        properties[name] = {
            "description": description,
            "type": "string",
            "pattern": "^[0-9]{1,18}$",
        }
    return {
        "$schema": _DIALECT,
        "$id": "urn:shifter:schema:dead-letter-v1",
        "title": "DeadLetterHeadersV1",
        "description": (
            "Headers added to a dead letter, all UTF-8 text; the original headers, key "
            f"and value stay as they were, where the topic has room for them. "
            f"{_first_lines(DeadLetterInfo)}"
        ),
        "type": "object",
        "properties": properties,
        "required": [header_name(f) for f in fields if f not in OPTIONAL_FIELDS],
        "additionalProperties": True,
    }


_DEAD_LETTER_REASONS: Final = (
    Reason.UNDECODABLE_ENVELOPE,
    Reason.UNDECODABLE_PAYLOAD,
    Reason.UNSUPPORTED_VERSION,
    Reason.UNKNOWN_JOB,
    Reason.WRONG_LANE,
    Reason.TOO_LARGE,
    Reason.ATTEMPTS_EXHAUSTED,
    Reason.DEAD_LETTERED,
    Reason.WORKER_LOST,
    Reason.BLOCKED_TOO_LONG,
    Reason.PUT_OFF_TOO_LONG,
    Reason.BUDGET_EXHAUSTED,
)


def _header_shape(field: str) -> dict[str, Any]:
    if field in TEXT_LIMITS:
        return {"type": "string", "maxLength": TEXT_LIMITS[field]}
    return {"type": "string", "pattern": "^[0-9]{1,18}$"}


def _inlined(shape: dict[str, Any], types: dict[str, Any]) -> dict[str, Any]:
    """``shape`` with references to ``types`` written out."""
    if "$ref" in shape:
        named: dict[str, Any] = types[shape["$ref"].rpartition("/")[2]]
        return {"enum": named["enum"]}
    if "anyOf" in shape:
        return {**shape, "anyOf": [_inlined(one, types) for one in shape["anyOf"]]}
    return shape


def _attributes(documented: type) -> dict[str, str]:
    """The docstring of each attribute of a type, as plain text."""
    found: dict[str, str] = {}
    name = ""
    _, _, section = _docstring(documented).partition("Attributes:\n")
    for line in section.splitlines():
        start = _FIELD.fullmatch(line)
        if start is not None:
            name = start[1]
            found[name] = start[2]
        else:
            found[name] += " " + line.strip()
    return {name: _plain(text) for name, text in found.items()}


def _first_lines(documented: type) -> str:
    text, _, _ = _docstring(documented).partition("\n\nAttributes:")
    return _plain(text)


def _plain(text: str) -> str:
    return " ".join(text.replace("``None``", "null").replace("``", "").split())


def _docstring(documented: type) -> str:
    text = documented.__doc__
    # Python's -OO leaves docstrings out; a contract without words is of no use.
    if text is None:
        raise RuntimeError(f"{documented.__name__} has no docstring")
    return inspect.cleandoc(text)


def _encoded(document: object) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
