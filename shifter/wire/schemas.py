"""The published contract as files, generated from the types that read the wire.

`generate` returns the JSON Schemas, the AsyncAPI document and the golden records that
stand in ``schemas/``; a test compares them byte for byte. The meaning of a field is
written once, in the docstring of its type. Nothing that runs jobs imports this module.

The AsyncAPI document has version 3.0.0, which more tools read than 3.1. Topics are
templates, since namespaces and queues are a user's; partitions, replicas and retention
are a cluster's, and ``shifter topics plan`` plans them. Delay tiers belong to the log;
they are described for people who look at a cluster, and are not for writing.
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any, Final

import msgspec

from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.wire.dead_letter import (
    HEADERS_DROPPED,
    OPTIONAL_FIELDS,
    TEXT_LIMITS,
    VALUE_DROPPED,
    DeadLetterInfo,
    header_name,
)
from shifter.wire.envelope import (
    CONTENT_TYPE_HEADER,
    ENVELOPE_HEADER,
    TRACEPARENT_HEADER,
    EnvelopeV1,
)
from shifter.wire.golden import golden_records
from shifter.wire.headers import JSON, MSGPACK
from shifter.wire.job_event import EventBatch, EventKind, JobEvent

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_FIELD: Final = re.compile(r" {4}(\w+): (.*)")
_DEAD_LETTER_REASONS: Final = (
    Reason.UNDECODABLE_ENVELOPE,
    Reason.UNDECODABLE_PAYLOAD,
    Reason.UNSUPPORTED_VERSION,
    Reason.UNKNOWN_JOB,
    Reason.WRONG_LANE,
    Reason.TOO_LARGE,
    Reason.ATTEMPTS_EXHAUSTED,
    Reason.DEAD_LETTERED,
    Reason.NOT_RETRIED,
    Reason.WORKER_LOST,
    Reason.BLOCKED_TOO_LONG,
    Reason.PUT_OFF_TOO_LONG,
    Reason.BUDGET_EXHAUSTED,
)
_BINDING: Final = "0.5.0"
_NAME_EXAMPLES: Final = {"namespace": ["shop"], "queue": ["mail"]}
TIERS_S: Final = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384)
DELAY_HEADERS: Final = ("shifter-lane", "shifter-due")


def generate() -> dict[str, bytes]:
    """The contract's files: name under ``schemas/`` to content, UTF-8 JSON.

    Equal input, equal bytes: names and fields keep one order.
    """
    envelope = envelope_schema()
    documents: dict[str, Any] = {
        "envelope-v1.schema.json": envelope,
        "dead-letter-v1.schema.json": dead_letter_schema(),
        "job-events-v1.schema.json": job_events_schema(),
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
    # For msgspec the version is a number with two equal bounds.
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


def job_events_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of a record's value on the topic of events."""
    _, types = msgspec.json.schema_components([EventBatch])
    batch, event = types["EventBatch"], types["JobEvent"]
    for kind, shape in ((EventBatch, batch), (JobEvent, event)):
        texts, parts = _attributes(kind), shape["properties"]
        shape |= {"description": _first_lines(kind), "additionalProperties": True}
        for field, part in parts.items():
            parts[field] = {"description": texts[field], **part}
    parts = batch["properties"]
    parts["v"] = {"description": parts["v"]["description"], "const": 1}
    parts["events"]["items"] = event
    event["properties"]["event"]["examples"] = [kind.value for kind in EventKind]
    return {"$schema": _DIALECT, "$id": "urn:shifter:schema:job-events-v1", **batch}


def asyncapi(envelope: dict[str, Any], dead_letter: dict[str, Any]) -> dict[str, Any]:
    """The AsyncAPI document: the topics, and what stands in their records.

    Args:
        envelope: JSON Schema of the envelope.
        dead_letter: JSON Schema of a dead letter's headers.
    """
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "shifter wire contract",
            "version": "1.0.0",
            "description": (
                "Jobs on Kafka. The value of a record is the payload alone: one "
                "object, the handler's parameters by name. Everything else is in "
                "headers. Ordering key: the Kafka key is the envelope's key."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON,
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": _messages(dead_letter),
            "parameters": _parameters(),
            "schemas": {"Envelope": _embedded(envelope)},
        },
    }


def _channels() -> dict[str, Any]:
    return {
        "lane": _channel(
            "{namespace}.{queue}.{priority}",
            "Jobs of one queue at one priority, waiting for a worker.",
            ("namespace", "queue", "priority"),
            "job",
        ),
        "delayTier": _channel(
            "{namespace}.delay.{tier}s",
            "Jobs that are not due yet; each waits the tier's seconds and moves on. "
            "Owned by the log: do not write here.",
            ("namespace", "tier"),
            "delayedJob",
        ),
        "deadLetters": _channel(
            "{namespace}.{queue}.dlt",
            "Records that will not succeed, as they were, with the reason.",
            ("namespace", "queue"),
            "deadLetter",
        ),
        "jobEvents": _channel(
            "{namespace}.events",
            "What happened to jobs, without their payloads; kept for a day by default.",
            ("namespace",),
            "jobEvents",
        ),
    }


def _channel(
    address: str, description: str, parameters: tuple[str, ...], message: str
) -> dict[str, Any]:
    return {
        "address": address,
        "description": description,
        "parameters": {
            name: {"$ref": f"#/components/parameters/{name}"} for name in parameters
        },
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {
            "kafka": {
                "topicConfiguration": {"cleanup.policy": ["delete"]},
                "bindingVersion": _BINDING,
            }
        },
    }


def _operations() -> dict[str, Any]:
    return {
        "defer": _operation("send", "lane", "A service hands over a job."),
        "drain": _operation("receive", "lane", "A worker takes jobs."),
        "delay": _operation("send", "delayTier", "The log delays a job."),
        "move": _operation("receive", "delayTier", "The log moves a job on."),
        "bury": _operation("send", "deadLetters", "A worker gives a record up."),
        "triage": _operation("receive", "deadLetters", "A person looks at it."),
        "record": _operation("send", "jobEvents", "A process records what happened."),
        "follow": _operation("receive", "jobEvents", "A person follows a job."),
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
    }


def _messages(dead_letter: dict[str, Any]) -> dict[str, Any]:
    job = _job_headers()
    lane, due = DELAY_HEADERS
    delayed = {
        **job,
        lane: {"type": "string", "description": "The lane it moves on to."},
        due: {"type": "string", "description": "When it is due, epoch milliseconds."},
    }
    return {
        "job": _message("A job", job, [ENVELOPE_HEADER]),
        "delayedJob": _message("A delayed job", delayed, [ENVELOPE_HEADER, lane, due]),
        "deadLetter": _message(
            "A dead letter",
            {**job, **dead_letter["properties"]},
            dead_letter["required"],
        ),
        "jobEvents": {
            "title": "Events of jobs",
            "contentType": JSON,
            "payload": _embedded(job_events_schema()),
        },
    }


def _message(
    title: str, headers: dict[str, Any], required: list[str]
) -> dict[str, Any]:
    return {
        "title": title,
        "contentType": JSON,
        "headers": {"type": "object", "properties": headers, "required": required},
        "payload": {
            "type": "object",
            "description": "The handler's parameters by name.",
        },
        "bindings": {
            "kafka": {
                "key": {
                    "type": "string",
                    "description": "The envelope's key, UTF-8; none without one.",
                },
                "bindingVersion": _BINDING,
            }
        },
    }


def _job_headers() -> dict[str, Any]:
    return {
        ENVELOPE_HEADER: {
            "type": "string",
            "description": "The envelope, compact JSON, at most 8 KiB.",
            "contentMediaType": JSON,
            "contentSchema": {"$ref": "#/components/schemas/Envelope"},
        },
        CONTENT_TYPE_HEADER: {
            "type": "string",
            "description": "How the payload is written; JSON if absent.",
            "examples": [JSON, MSGPACK],
        },
        TRACEPARENT_HEADER: {
            "type": "string",
            "description": "W3C trace context of the job's producer.",
        },
    }


def _parameters() -> dict[str, Any]:
    names = {
        name: {
            "description": f"A {name}: lower-case letters, digits, inner hyphens.",
            "examples": examples,
        }
        for name, examples in _NAME_EXAMPLES.items()
    }
    return {
        **names,
        "priority": {
            "description": "The job's priority, in lower case.",
            "enum": [priority.value.lower() for priority in Priority],
        },
        "tier": {
            "description": "Seconds a record waits in the tier.",
            "enum": [str(tier_s) for tier_s in TIERS_S],
        },
    }


def _embedded(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in schema.items() if not name.startswith("$")}


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
