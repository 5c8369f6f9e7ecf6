"""The Kubernetes manifests as `kubectl kustomize` gives them, and what each must have."""

from __future__ import annotations

import copy
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from shifter.config.settings import OPTIONS
from tests.deploy.scaling import faults_of_scaling
from tests.documents.blocks import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
KINDS_WITH_PODS = ("Deployment", "StatefulSet", "Job")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
SECRET_WORDS = ("password", "secret", "token", "credential")
LEFT_S = 20
"""What a supervisor needs after the drain timeout: 15 s, and 5 s to hand back jobs."""

Manifest = dict[str, Any]


SCALINGS = {
    "scale-keda": ("scalerAddress", "."),
    "scale-keda-page": ("url", "."),
    "scale-keda-prometheus": ("query", '"'),
    "scale-hpa": None,
}
"""What follows the scaler's number; the field that names the namespace, and what parts
the namespace from the rest of it."""


def scaled(name: str, namespace: str = "shop") -> list[Manifest]:
    """`overlays/scaled` in a namespace, with the component of this name.

    Args:
        name: One of `SCALINGS`.
        namespace: Where the workers run.
    """
    return copy.deepcopy(_scaled(name, namespace))


def rendered(name: str) -> list[Manifest]:
    """The resources of a kustomization; skipped where there is no kubectl."""
    return copy.deepcopy(_rendered(FOLDER / name))


@cache
def _scaled(name: str, namespace: str) -> list[Manifest]:
    """The manifests are copied, and the overlay is changed as a reader changes it."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "kubernetes"
        shutil.copytree(FOLDER, folder)
        file = folder / "overlays" / "scaled" / "kustomization.yaml"
        own = yaml.safe_load(file.read_text("utf-8"))
        own["namespace"] = namespace
        own["components"][-1] = f"../../components/{name}"
        place = SCALINGS[name]
        if place is None:
            del own["replacements"]
        else:
            [replacement] = own["replacements"]
            [target] = replacement["targets"]
            target["fieldPaths"] = [f"spec.triggers.0.metadata.{place[0]}"]
            target["options"]["delimiter"] = place[1]
        file.write_text(yaml.safe_dump(own), "utf-8")
        return _rendered(file.parent)


@cache
def _rendered(folder: Path) -> list[Manifest]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl on the path")
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def pod_of(manifest: Manifest) -> Manifest:
    """The specification of the pods that a resource makes."""
    pod: Manifest = manifest["spec"]["template"]["spec"]
    return pod


def faults(manifests: list[Manifest]) -> list[str]:
    """What breaks a rule of ours; a line each."""
    found = [
        *_faults_of_settings(manifests),
        *_faults_of_selectors(manifests),
        *faults_of_scaling(manifests),
    ]
    for manifest in manifests:
        if manifest["kind"] in KINDS_WITH_PODS:
            found += [f"{_name(manifest)}: {text}" for text in _faults_of_pod(manifest)]
        if manifest["kind"] == "Secret":
            found.append(f"{_name(manifest)}: a secret stands in the repository")
    return found


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def _verb(manifest: Manifest) -> str | None:
    """The command of `shifter` that a resource's pods run; ``None`` without one."""
    if manifest["kind"] not in KINDS_WITH_PODS:
        return None
    arguments = pod_of(manifest)["containers"][0].get("args", [None])
    return arguments[0]


def _faults_of_pod(manifest: Manifest) -> Iterator[str]:
    pod = pod_of(manifest)
    if pod.get("automountServiceAccountToken") is not False:
        yield "has a token for the Kubernetes API"
    own = pod.get("securityContext", {})
    if own.get("runAsNonRoot") is not True or not own.get("runAsUser"):
        yield "may run as root"
    if own.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "shares a namespace of its node"
    for container in pod["containers"]:
        yield from _faults_of_container(container, manifest["kind"] != "Job")
    is_one = manifest["spec"].get("replicas") == 1 or manifest["kind"] == "Job"
    if not is_one and "topologySpreadConstraints" not in pod:
        yield "may stand on one node"


def _faults_of_container(container: Manifest, is_long: bool) -> Iterator[str]:
    _, _, tag = container["image"].rpartition("/")[2].partition(":")
    if tag in ("", "latest"):
        yield f"image {container['image']} has no version"
    yield from _faults_of_rights(container.get("securityContext", {}))
    for which in ("requests", "limits"):
        if set(container.get("resources", {}).get(which, {})) < {"cpu", "memory"}:
            yield f"states no {which}"
    for one in container.get("env", []):
        if "value" in one and any(word in one["name"].lower() for word in SECRET_WORDS):
            yield f"has the secret {one['name']} in its environment"
    for probe in PROBES if is_long else ():
        if probe not in container:
            yield f"has no {probe}"


def _faults_of_rights(own: Manifest) -> Iterator[str]:
    if own.get("readOnlyRootFilesystem") is not True:
        yield "may write to its root file system"
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "may gain rights"
    if own.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "keeps capabilities"


def _faults_of_settings(manifests: list[Manifest]) -> Iterator[str]:
    known = {f"SHIFTER_{option.name.upper()}" for option in OPTIONS}
    known |= {f"{name}_FILE" for name in known} | {"SHIFTER_NAMESPACE"}
    for manifest in manifests:
        if manifest["kind"] != "ConfigMap":
            continue
        for name in set(manifest["data"]) - known:
            yield f"{_name(manifest)}: {name} is no setting"
        drain_s = int(manifest["data"]["SHIFTER_DRAIN_TIMEOUT"].removesuffix("s"))
        for other in manifests:
            if _verb(other) == "work":
                grace_s = pod_of(other).get("terminationGracePeriodSeconds", 30)
                if grace_s < drain_s + LEFT_S:
                    yield f"{_name(other)}: is killed before its drain ends"


def _faults_of_selectors(manifests: list[Manifest]) -> Iterator[str]:
    pods = [
        manifest["spec"]["template"]["metadata"]["labels"]
        for manifest in manifests
        if manifest["kind"] in KINDS_WITH_PODS
    ]
    for manifest in manifests:
        spec = manifest.get("spec", {})
        chosen = spec.get("podSelector", spec.get("selector", {}))
        labels = chosen.get("matchLabels", {}) if "matchLabels" in chosen else chosen
        if labels and not any(labels.items() <= pod.items() for pod in pods):
            yield f"{_name(manifest)}: selects no pod"
