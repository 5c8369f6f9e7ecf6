"""What we use of the Prometheus operator's resources, after its API reference.

Only the fields that our manifests have: any other is refused, so a misspelt one is found.
"""

from __future__ import annotations

from typing import Any, Final

_TEXT: Final = {"type": "string", "minLength": 1}
_TEXTS: Final = {"type": "object", "additionalProperties": _TEXT}
_DURATION: Final = {"type": "string", "pattern": r"^(\d+(ms|s|m|h|d))+$"}


def _closed(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


def _listed(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


_SELECTOR: Final = _closed({"matchLabels": _TEXTS})
_RELABELING: Final = _closed({"targetLabel": _TEXT}, replacement=_TEXT)
_ENDPOINT: Final = _closed(
    {"port": _TEXT},
    path={"type": "string", "pattern": "^/"},
    interval=_DURATION,
    relabelings=_listed(_RELABELING),
)
_ALERT: Final = _closed(
    {"alert": _TEXT, "expr": _TEXT, "labels": _TEXTS, "annotations": _TEXTS},
    **{"for": _DURATION},
)
_RECORD: Final = _closed({"record": _TEXT, "expr": _TEXT})
_GROUP: Final = _closed({"name": _TEXT, "rules": _listed({"oneOf": [_ALERT, _RECORD]})})

SPECS: Final = {
    "PodMonitor": _closed(
        {"selector": _SELECTOR, "podMetricsEndpoints": _listed(_ENDPOINT)}
    ),
    "PrometheusRule": _closed({"groups": _listed(_GROUP)}),
}
"""JSON Schemas of ``spec``, by kind."""
