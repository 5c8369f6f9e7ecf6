"""What we use of the resources of KEDA and of the Prometheus operator.

After KEDA's "ScaledObject specification" and the pages of its scalers, and after the
operator's API reference.

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

_COUNT: Final = {"type": "integer", "minimum": 0}
_NUMBER: Final = {"type": "string", "pattern": r"^\d+(\.\d+)?$"}
_FLAG: Final = {"enum": ["true", "false"]}
_WINDOW: Final = {"type": "integer", "minimum": 0, "maximum": 3_600}
_PERIOD: Final = {"type": "integer", "minimum": 1, "maximum": 1_800}
_SCALING_RULES: Final = _closed(
    {
        "policies": _listed(
            _closed(
                {
                    "type": {"enum": ["Pods", "Percent"]},
                    "value": {"type": "integer", "minimum": 1},
                    "periodSeconds": _PERIOD,
                }
            )
        )
    },
    stabilizationWindowSeconds=_WINDOW,
)
_BEHAVIOR: Final = _closed({}, scaleUp=_SCALING_RULES, scaleDown=_SCALING_RULES)


def _trigger(kind: str, required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """Metadata are texts, numbers and flags too: KEDA refuses anything else."""
    return _closed({"type": {"const": kind}, "metadata": _closed(required, **optional)})


_TRIGGERS: Final = [
    # What the scaler itself asks for may be any text.
    _trigger("external-push", {"scalerAddress": _TEXT}, group=_TEXT),
    _trigger(
        "metrics-api",
        {"url": _TEXT, "valueLocation": _TEXT, "targetValue": _NUMBER},
        activationTargetValue=_NUMBER,
        unsafeSsl=_FLAG,
    ),
    _trigger(
        "prometheus",
        {"serverAddress": _TEXT, "query": _TEXT, "threshold": _NUMBER},
        activationThreshold=_NUMBER,
        ignoreNullValues=_FLAG,
        unsafeSsl=_FLAG,
    ),
]
_SCALED_OBJECT: Final = _closed(
    {
        "scaleTargetRef": _closed({"name": _TEXT}, kind=_TEXT, apiVersion=_TEXT),
        "triggers": _listed({"oneOf": _TRIGGERS}),
    },
    pollingInterval={"type": "integer", "minimum": 1},
    cooldownPeriod=_COUNT,
    initialCooldownPeriod=_COUNT,
    idleReplicaCount={"const": 0},
    minReplicaCount=_COUNT,
    maxReplicaCount={"type": "integer", "minimum": 1},
    fallback=_closed(
        {"failureThreshold": _COUNT, "replicas": _COUNT},
    ),
    advanced=_closed(
        {},
        restoreToOriginalReplicaCount={"type": "boolean"},
        horizontalPodAutoscalerConfig=_closed({}, name=_TEXT, behavior=_BEHAVIOR),
    ),
)

SPECS: Final = {
    "ScaledObject": _SCALED_OBJECT,
    "PodMonitor": _closed(
        {"selector": _SELECTOR, "podMetricsEndpoints": _listed(_ENDPOINT)}
    ),
    "PrometheusRule": _closed({"groups": _listed(_GROUP)}),
}
"""JSON Schemas of ``spec``, by kind."""
