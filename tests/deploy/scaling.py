"""Rules of our own for what follows the number of the scaler."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Manifest = dict[str, Any]

SCALERS = ("ScaledObject", "HorizontalPodAutoscaler")
GROUP = "default"
METRIC = "shifter_scale_desired_workers"
_PLACES = {
    "external-push": (
        "scalerAddress",
        r"^shifter-scaler\.(?P<namespace>[\w-]+)\.svc:9090$",
    ),
    "metrics-api": (
        "url",
        r"^http://shifter-scaler\.(?P<namespace>[\w-]+)\.svc:9000/scale$",
    ),
    "prometheus": ("query", rf'{METRIC}\{{namespace="(?P<namespace>[\w-]+)"'),
}


def faults_of_scaling(manifests: list[Manifest]) -> Iterator[str]:
    """What would scale wrongly, or not at all; a line each."""
    for manifest in manifests:
        if manifest["kind"] in SCALERS:
            name = f"{manifest['kind']}/{manifest['metadata']['name']}"
            for text in _faults_of(manifest, manifests):
                yield f"{name}: {text}"


def _faults_of(scaler: Manifest, manifests: list[Manifest]) -> Iterator[str]:
    yield from _faults_of_target(scaler["spec"], manifests)
    [settings] = [one["data"] for one in manifests if one["kind"] == "ConfigMap"]
    yield from _faults_of_bounds(scaler["spec"], settings)
    if scaler["kind"] == "ScaledObject":
        for trigger in scaler["spec"]["triggers"]:
            yield from _faults_of_trigger(trigger, scaler["metadata"].get("namespace"))
    else:
        for metric in scaler["spec"]["metrics"]:
            yield from _faults_of_metric(metric["external"])


def _faults_of_target(spec: Manifest, manifests: list[Manifest]) -> Iterator[str]:
    wanted = spec["scaleTargetRef"]["name"]
    targets = [
        one
        for one in manifests
        if one["kind"] == "Deployment" and one["metadata"]["name"] == wanted
    ]
    if not targets:
        yield f"there is no Deployment {wanted}"
    if any("replicas" in target["spec"] for target in targets):
        yield "each apply would set the number of workers back"


def _faults_of_bounds(spec: Manifest, settings: dict[str, str]) -> Iterator[str]:
    floor = spec.get("minReplicas", spec.get("minReplicaCount"))
    ceiling = spec.get("maxReplicas", spec.get("maxReplicaCount"))
    if str(floor) != settings.get("SHIFTER_SCALE_FLOOR", "0"):
        yield f"its least number is not the floor ({floor})"
    if str(ceiling) != settings.get("SHIFTER_SCALE_CEILING", "100"):
        yield f"its largest number is not the ceiling ({ceiling})"
    own = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", spec)
    behavior = own.get("behavior", {})
    for way in ("scaleUp", "scaleDown"):
        # That of Kubernetes holds for 300 s, after the scaler has done so.
        if behavior.get(way, {}).get("stabilizationWindowSeconds") != 0:
            yield f"{way} holds the number once more"
    if max((p["value"] for p in _ups(behavior)), default=0) < ceiling:
        yield "workers are added by and by"


def _ups(behavior: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = behavior.get("scaleUp", {}).get("policies", [])
    return found


def _faults_of_trigger(trigger: dict[str, Any], namespace: str | None) -> Iterator[str]:
    metadata = trigger["metadata"]
    field, pattern = _PLACES[trigger["type"]]
    found = re.search(pattern, metadata[field])
    if found is None:
        yield f"{field} is not that of the scaler"
    elif found["namespace"] != namespace:
        yield f"asks a scaler in the namespace {found['namespace']}"
    target = metadata.get("targetValue", metadata.get("threshold", "1"))
    if target != "1":
        yield "a worker stands for more than one of the number"
    if trigger["type"] == "prometheus" and metadata.get("ignoreNullValues") != "false":
        yield "takes a gauge that is missing for 0"
    if trigger["type"] != "external-push" and f'"{GROUP}"' not in str(metadata):
        yield "names no group"


def _faults_of_metric(external: dict[str, Any]) -> Iterator[str]:
    if external["metric"]["name"] != METRIC:
        yield "follows another metric"
    if external["metric"].get("selector", {}).get("matchLabels") != {"group": GROUP}:
        yield "names no group"
    if external["target"] != {"type": "AverageValue", "averageValue": "1"}:
        yield "a worker stands for more than one of the number"
