"""The AsyncAPI document: which topics there are and what stands in them.

Version 3.0.0, which more tools read than 3.1. Topics are templates, since namespaces
and queues are a user's; partitions, replicas and retention are a cluster's and are
planned by ``shifter topics plan``. Delay tiers belong to the log and are described for
people who look at a cluster, not for writing.
"""

from __future__ import annotations

from typing import Any, Final

from shifter.model.lane import Priority
from shifter.wire.envelope import (
    CONTENT_TYPE_HEADER,
    ENVELOPE_HEADER,
    TRACEPARENT_HEADER,
)
from shifter.wire.headers import JSON, MSGPACK

_BINDING: Final = "0.5.0"
_NAME_EXAMPLES: Final = {"namespace": ["shop"], "queue": ["mail"]}
TIERS_S: Final = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384)
DELAY_HEADERS: Final = ("shifter-lane", "shifter-due")


def asyncapi(envelope: dict[str, Any], dead_letter: dict[str, Any]) -> dict[str, Any]:
    """The document.

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
            "description": "W3C trace context of whoever handed the job over.",
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
