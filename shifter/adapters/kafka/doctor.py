"""Checks the Kafka client and its connection for `shifter doctor`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from shifter.config import Settings
from shifter.config.endpoint import check_kafka, servers
from shifter.model.advice import (
    FAIL,
    OK,
    WARN,
    Finding,
    is_loopback,
    unverified,
    version_numbers,
)

# Below 2.15 librdkafka leaks a header list with each full queue and carries old
# OpenSSL and curl; the floor is a security floor.
_CONFLUENT: Final = (2, 15)
_OFF: Final = ("false", "0", "f", "no")
_UNVERIFIED: Final = {
    "enable.ssl.certificate.verification": _OFF,
    "ssl.endpoint.identification.algorithm": ("none", ""),
    "https.endpoint.identification.algorithm": ("none", ""),
}


def check_client() -> Finding:
    """Whether the installed client library is new enough."""
    try:
        found = version("confluent-kafka")
    except PackageNotFoundError:
        found = "not installed"
    if version_numbers(found)[:2] >= _CONFLUENT:
        return Finding("kafka_client", OK, f"confluent-kafka {found}")
    floor = ".".join(map(str, _CONFLUENT))
    fix = f"pip install 'confluent-kafka>={floor}'"
    return Finding("kafka_client", FAIL, f"confluent-kafka {found}", fix)


def check_transport(settings: Settings) -> list[Finding]:
    """Whether the connection to the brokers is safe; empty if the log is not Kafka."""
    url = settings.log_url
    if url is None or not url.reveal().startswith("kafka://"):
        return []
    properties = {
        name: secret.reveal().lower()
        for name, secret in check_kafka("log", url.reveal(), settings.kafka).items()
    }
    protocol = properties.get("security.protocol", "plaintext")
    hosts = servers(url).split(",")
    is_near = all(is_loopback(host) for host in hosts)
    found: list[Finding] = []
    if not protocol.endswith("ssl") and not is_near:
        detail = f"{protocol}: payloads and credentials cross the network in the clear"
        found.append(
            Finding("log.transport", WARN, detail, "security_protocol=SASL_SSL")
        )
    if protocol.endswith("ssl"):
        # librdkafka checks names by default; "none" switches that off.
        weak = [
            f"{name.replace('.', '_')}={properties[name]}"
            for name, values in _UNVERIFIED.items()
            if properties.get(name) in values
        ]
        origins = {settings.origin(f"kafka.{name}") for name in _UNVERIFIED}
        files = sorted(origin for origin in origins if origin.startswith("file "))
        how = ", ".join(weak) + "".join(f" ({name})" for name in files)
        found += [unverified("log.transport", how)] if weak else []
    return found or [Finding("log.transport", OK, protocol)]
