"""The manifests of ``deploy/kubernetes``: what a cluster would refuse, and our own rules."""

from __future__ import annotations

import json

import jsonschema
import kubernetes_validate
import pytest
import yaml

from shifter.grpc.scaler import SERVICE as SCALER
from shifter.supervise.probes import ProbeServer
from shifter.supervise.supervisor import ProcessHealth
from shifter.telemetry.metric import FLEET_SPECS
from shifter.testing.clock import FakeClock
from tests.deploy.crds import SPECS
from tests.deploy.kubernetes import (
    FOLDER,
    PROBES,
    SCALINGS,
    faults,
    pod_of,
    rendered,
    scaled,
)
from tests.deploy.scaling import METRIC, SCALERS

NAMES = ("base", "overlays/example", "overlays/scaled", *SCALINGS)
VERSIONS = ("1.33", "1.35", "1.37")


@pytest.fixture(params=NAMES)
def manifests(request):
    if request.param in SCALINGS:
        return scaled(request.param)
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
    manifests = rendered("base")
    worker = deployment(manifests, "shifter-worker")

    set_in(worker, path, value)

    [fault] = faults(manifests)
    assert text in fault


def scaler_of(manifests):
    [found] = [one for one in manifests if one["kind"] in SCALERS]
    return found


TRIGGER = ("spec", "triggers", 0, "metadata")
BEHAVIOR = ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior")
METRIC_OF_HPA = ("spec", "metrics", 0, "external")
WRONG_SCALING = [
    (
        "scale-keda",
        ("spec", "scaleTargetRef", "name"),
        "worker",
        "no Deployment worker",
    ),
    ("scale-keda", ("spec", "minReplicaCount"), 1, "is not the floor"),
    ("scale-keda", ("spec", "maxReplicaCount"), 19, "is not the ceiling"),
    ("scale-keda", (*BEHAVIOR, "scaleDown"), None, "holds the number once more"),
    ("scale-keda", (*BEHAVIOR, "scaleUp", "policies", 0, "value"), 4, "by and by"),
    ("scale-keda", (*TRIGGER, "scalerAddress"), "other.shop.svc:9090", "not that of"),
    (
        "scale-keda",
        (*TRIGGER, "scalerAddress"),
        "shifter-scaler.mail.svc:9090",
        "in the namespace mail",
    ),
    ("scale-keda-page", (*TRIGGER, "targetValue"), "2", "more than one"),
    ("scale-keda-page", (*TRIGGER, "valueLocation"), "groups.0.desired", "no group"),
    (
        "scale-keda-page",
        (*TRIGGER, "url"),
        "http://shifter-scaler/scale",
        "not that of",
    ),
    ("scale-keda-prometheus", (*TRIGGER, "ignoreNullValues"), None, "missing for 0"),
    ("scale-keda-prometheus", (*TRIGGER, "threshold"), "4", "more than one"),
    ("scale-hpa", ("spec", "minReplicas"), 2, "is not the floor"),
    ("scale-hpa", (*METRIC_OF_HPA, "metric", "name"), "other", "another metric"),
    ("scale-hpa", (*METRIC_OF_HPA, "metric", "selector"), None, "names no group"),
    ("scale-hpa", (*METRIC_OF_HPA, "target", "averageValue"), "2", "more than one"),
]


@pytest.mark.parametrize(("name", "path", "value", "text"), WRONG_SCALING)
def test_an_autoscaler_that_breaks_a_rule_is_found(name, path, value, text):
    manifests = scaled(name)

    set_in(scaler_of(manifests), path, value)

    [fault] = faults(manifests)
    assert text in fault


def test_a_number_of_workers_that_each_apply_sets_back_is_found():
    manifests = scaled("scale-keda")
    [worker] = [
        one
        for one in manifests
        if one["metadata"]["name"] == "shifter-worker" and one["kind"] == "Deployment"
    ]

    worker["spec"]["replicas"] = 3

    assert [
        text for text in faults(manifests) if "set the number of workers back" in text
    ]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "minReplicas"), 0),
        (("spec", "triggers", 0, "type"), "external-pull"),
        ((*TRIGGER, "targetValue"), 1),
        ((*TRIGGER, "scalerAddress"), None),
        (("spec", "cooldownPeriod"), "0s"),
        ((*BEHAVIOR, "scaleDown", "stabilisationWindowSeconds"), 0),
    ],
)
def test_a_scaled_object_that_keda_would_refuse_is_found(path, value):
    found = scaler_of(scaled("scale-keda"))

    set_in(found, path, value)

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found["spec"], SPECS["ScaledObject"])


@pytest.mark.parametrize("name", [name for name, at in SCALINGS.items() if at])
def test_keda_asks_the_scaler_of_the_namespace_that_the_overlay_names(name):
    manifests = scaled(name, namespace="mail")

    assert faults(manifests) == []
    assert scaler_of(manifests)["metadata"]["namespace"] == "mail"


def deployment(manifests, name):
    [found] = [
        one
        for one in manifests
        if one["kind"] == "Deployment" and one["metadata"]["name"] == name
    ]
    return found


def test_probes_of_the_scaler_ask_for_services_that_it_has():
    """The health service answers about these names: `tests/integration/test_scaler.py`."""
    manifests = scaled("scale-keda")
    [container] = pod_of(deployment(manifests, "shifter-scaler"))["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    asked = [container[probe]["grpc"] for probe in PROBES]

    assert [probe["port"] for probe in asked] == [ports["grpc"]] * 3
    assert [probe.get("service", "") for probe in asked] == ["", "", SCALER]
    arguments = container["args"]
    assert arguments[arguments.index("--listen") + 1] == f"0.0.0.0:{ports['grpc']}"
    assert arguments[arguments.index("--health") + 1] == f"0.0.0.0:{ports['health']}"


def test_the_service_and_the_network_lead_keda_to_the_ports_of_the_scaler():
    manifests = scaled("scale-keda")
    [container] = pod_of(deployment(manifests, "shifter-scaler"))["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    [service] = [one for one in manifests if one["kind"] == "Service"]
    [policy] = [
        one
        for one in manifests
        if one["kind"] == "NetworkPolicy"
        and one["metadata"]["name"] == "shifter-scaler"
    ]

    led = {port["port"]: ports[port["targetPort"]] for port in service["spec"]["ports"]}
    [rule] = policy["spec"]["ingress"]
    assert led == {9090: 9090, 9000: 9000}
    assert {port["port"] for port in rule["ports"]} == set(led)


def test_there_is_one_scaler_and_never_a_second_one():
    spec = deployment(scaled("scale-keda"), "shifter-scaler")["spec"]

    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")


def test_the_adapter_gives_the_metric_that_the_autoscaler_asks_for():
    adapter = yaml.safe_load(
        (FOLDER / "components" / "scale-hpa" / "adapter.yaml").read_text("utf-8")
    )
    [rule] = adapter["rules"]["external"]

    # Without a name of its own, the metric has that of the series.
    assert rule["seriesQuery"].startswith(METRIC + "{")
    assert METRIC in FLEET_SPECS
    assert rule["resources"]["overrides"] == {"namespace": {"resource": "namespace"}}


def queries():
    """What Prometheus is asked: by KEDA, and by the adapter for the autoscaler."""
    keda = scaler_of(scaled("scale-keda-prometheus"))
    [trigger] = keda["spec"]["triggers"]
    adapter = yaml.safe_load(
        (FOLDER / "components" / "scale-hpa" / "adapter.yaml").read_text("utf-8")
    )
    [rule] = adapter["rules"]["external"]
    asked = rule["metricsQuery"].replace("<<.Series>>", METRIC)
    matchers = 'namespace="shop",group="default"'
    return trigger["metadata"]["query"], asked.replace("<<.LabelMatchers>>", matchers)


def test_queries_give_the_number_of_the_scaler_and_hold_it_for_a_minute(
    check, tmp_path
):
    labels = 'namespace="shop",job="shifter-scaler",group="default",instance="a"'
    other = labels.replace("scaler", "workers", 1)
    series = [
        # Every 15 s; the scaler starts again in between, and then it is gone.
        {"series": f"{METRIC}{{{labels}}}", "values": "3 3 7 stale _ 5 stale _x30"},
        {"series": f"{METRIC}{{{other}}}", "values": "99x36"},
        {
            "series": f"{METRIC}{{{labels.replace('default', 'mail')}}}",
            "values": "9x36",
        },
    ]
    found = [
        {
            "expr": query,
            "eval_time": at,
            "exp_samples": [{"labels": "{}", "value": number}] if number else [],
        }
        for query in queries()
        for at, number in (("15s", 3), ("30s", 7), ("45s", 7), ("75s", 5), ("5m", None))
    ]
    plan = {
        "evaluation_interval": "15s",
        "tests": [
            {"interval": "15s", "input_series": series, "promql_expr_test": found}
        ],
    }
    file = tmp_path / "scaling.test.yml"
    file.write_text(json.dumps(plan), "utf-8")

    done = check("test", "rules", file)

    assert done.returncode == 0, done.stdout + done.stderr


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
    worker = deployment(manifests, "shifter-worker")
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
