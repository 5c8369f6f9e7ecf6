"""The manifests of ``deploy/kubernetes``: what a cluster would refuse, and our own rules."""

from __future__ import annotations

import copy

import jsonschema
import kubernetes_validate
import pytest
import yaml

from shifter.supervise.probes import ProbeServer
from shifter.supervise.supervisor import ProcessHealth
from shifter.testing.clock import FakeClock
from tests.deploy.crds import SPECS
from tests.deploy.kubernetes import FOLDER, PROBES, faults, pod_of, rendered

NAMES = ("base", "overlays/example")
VERSIONS = ("1.33", "1.35", "1.37")


@pytest.fixture(params=NAMES)
def manifests(request):
    return rendered(request.param)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_resource_fits_the_schema_of_its_version(manifests, version):
    for manifest in manifests:
        if manifest["kind"] in SPECS:
            jsonschema.validate(manifest["spec"], SPECS[manifest["kind"]])
        else:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_no_resource_breaks_a_rule(manifests):
    assert faults(manifests) == []


def set_in(manifest, path, value):
    *parents, last = path
    for part in parents:
        manifest = manifest[part]
    if value is None:
        del manifest[last]
    else:
        manifest[last] = value


POD = ("spec", "template", "spec")
FIRST = (*POD, "containers", 0)
WRONG = [
    ((*FIRST, "image"), "shifter:latest", "has no version"),
    ((*FIRST, "image"), "registry.example:5000/shifter", "has no version"),
    ((*FIRST, "resources", "limits"), None, "states no limits"),
    ((*FIRST, "resources", "requests", "memory"), None, "states no requests"),
    ((*FIRST, "livenessProbe"), None, "has no livenessProbe"),
    ((*FIRST, "securityContext", "readOnlyRootFilesystem"), False, "root file system"),
    ((*FIRST, "securityContext", "capabilities"), None, "keeps capabilities"),
    ((*FIRST, "securityContext", "allowPrivilegeEscalation"), None, "gain rights"),
    (
        (*FIRST, "env"),
        [{"name": "SHIFTER_KAFKA__SASL_PASSWORD", "value": "x"}],
        "has the secret",
    ),
    ((*POD, "securityContext", "runAsNonRoot"), None, "run as root"),
    ((*POD, "securityContext", "seccompProfile"), None, "no seccomp"),
    ((*POD, "automountServiceAccountToken"), None, "has a token"),
    ((*POD, "hostNetwork"), True, "namespace of its node"),
    ((*POD, "topologySpreadConstraints"), None, "on one node"),
    ((*POD, "terminationGracePeriodSeconds"), 49, "before its drain ends"),
    (("spec", "selector", "matchLabels", "app"), "other", "selects no pod"),
]


@pytest.mark.parametrize(("path", "value", "text"), WRONG)
def test_a_worker_that_breaks_a_rule_is_found(path, value, text):
    manifests = copy.deepcopy(rendered("base"))
    [worker] = [found for found in manifests if found["kind"] == "Deployment"]

    set_in(worker, path, value)

    [fault] = faults(manifests)
    assert text in fault


def test_a_misspelt_setting_is_found():
    manifests = rendered("base")
    [settings] = [found for found in manifests if found["kind"] == "ConfigMap"]

    settings["data"]["SHIFTER_DRAIN_TIME"] = "30s"

    assert faults(manifests) == [
        "ConfigMap/shifter-settings: SHIFTER_DRAIN_TIME is no setting"
    ]


def test_a_misspelt_field_of_an_operator_is_found():
    wrong = {"groups": [{"name": "a", "rules": [{"record": "b", "exp": "1"}]}]}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SPECS["PrometheusRule"])


def test_probes_and_scrapes_ask_for_pages_that_a_worker_has():
    manifests = rendered("overlays/example")
    [worker] = [found for found in manifests if found["kind"] == "Deployment"]
    [scrape] = [found for found in manifests if found["kind"] == "PodMonitor"]
    [container] = pod_of(worker)["containers"]
    [endpoint] = scrape["spec"]["podMetricsEndpoints"]
    [port] = container["ports"]
    asked = [container[probe]["httpGet"] for probe in PROBES]

    server = ProbeServer(ProcessHealth(1, FakeClock()), version="0")
    paths = [probe["path"] for probe in asked] + [endpoint["path"]]
    assert paths == ["/startupz", "/livez", "/readyz", "/metrics"]
    assert all(server.page(path).status != 404 for path in paths)
    assert {probe["port"] for probe in asked} | {endpoint["port"]} == {port["name"]}
    assert f"0.0.0.0:{port['containerPort']}" in container["args"]


def test_the_network_lets_scrapes_in_and_servers_out():
    manifests = rendered("base")
    [policy] = [found for found in manifests if found["kind"] == "NetworkPolicy"]

    [scrape] = policy["spec"]["ingress"]
    ports = {p["port"] for rule in policy["spec"]["egress"] for p in rule["ports"]}

    assert [port["port"] for port in scrape["ports"]] == [9000]
    assert ports == {53, 9092, 9093, 6379, 6380, 80, 443}


def test_alerts_of_the_operator_are_the_published_ones():
    plain = FOLDER.parent / "prometheus" / "shifter.rules.yml"
    made = FOLDER / "components" / "monitoring" / "rules.yaml"

    groups = yaml.safe_load(plain.read_text("utf-8"))["groups"]

    assert yaml.safe_load(made.read_text("utf-8"))["spec"]["groups"] == groups
