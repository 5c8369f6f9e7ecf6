"""The address of a cluster and the configuration of its clients.

`shifter.config.endpoint` reads the URL, and refuses properties that would run code,
fetch foreign addresses or break what the product promises. The same check is repeated
here, for configurations that were not read from a URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from shifter.adapters.kafka.properties import (
    CLASSIC_ONLY,
    CLIENT,
    CONSUMER,
    CONSUMER_ONLY,
    PRODUCER,
    PRODUCER_ONLY,
    SHOWN,
    UNDERSCORED,
    Property,
)
from shifter.config.endpoint import property_name
from shifter.errors import ConfigError

_PORT: Final = 9092
_MAX_PORT: Final = 65_535
_HOST: Final = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})\Z|\[[0-9A-Fa-f:.]+\]\Z"
)


@dataclass(frozen=True, slots=True, repr=False)
class KafkaConfig:
    """A checked cluster address and the properties of its clients.

    Its text shows names of properties, never their values.

    Attributes:
        bootstrap: ``host:port``, separated by commas.
        properties: librdkafka properties by name; they may hold secrets.

    Raises:
        ConfigError: An address or a property is wrong or refused.
    """

    bootstrap: str
    properties: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        servers = ",".join(_server(text) for text in self.bootstrap.split(","))
        object.__setattr__(self, "bootstrap", servers)
        for name in self.properties:
            property_name("kafka property", name)

    @classmethod
    def from_client(cls, client: Mapping[str, str]) -> KafkaConfig:
        """Read librdkafka's own form, with ``bootstrap.servers`` inside."""
        rest = {k: v for k, v in client.items() if k != "bootstrap.servers"}
        return cls(client["bootstrap.servers"], rest)

    @staticmethod
    def group(namespace: str, *parts: str) -> str:
        """A group's name: ``shop.workers.low``, ``shop.delay``."""
        return ".".join((namespace, *parts))

    def producer_config(self) -> dict[str, Property]:
        """Settings of a producer: idempotent, acknowledged by all in-sync replicas."""
        return {
            **CLIENT,
            **PRODUCER,
            **self._given(without=CONSUMER_ONLY),
        }

    def consumer_config(self, group: str) -> dict[str, Property]:
        """Settings of a member of ``group`` that commits by hand."""
        given = self._given(without=PRODUCER_ONLY)
        house = {**CLIENT, **CONSUMER, "group.id": group}
        if given.get("group.protocol") == "consumer":
            # The broker owns these then; the constructor refuses them.
            for name in CLASSIC_ONLY:
                house.pop(name, None)
                given.pop(name, None)
        return {**house, **given}

    def named(self, name: str) -> KafkaConfig:
        """The same, its group members with a name, unless a setting gives them one.

        Not with ``group.protocol=consumer``: a member of it that leaves in order keeps
        its partitions for a whole session if it has a name (librdkafka 2.16).
        """
        has_own = "group.instance.id" in self.properties
        if has_own or self.properties.get("group.protocol") == "consumer":
            return self
        properties = {**self.properties, "group.instance.id": name}
        return KafkaConfig(self.bootstrap, properties)

    def admin_config(self) -> dict[str, Property]:
        """Settings of an administrative client."""
        return {**CLIENT, **self._given(without=CONSUMER_ONLY + PRODUCER_ONLY)}

    def _given(self, *, without: tuple[str, ...]) -> dict[str, Property]:
        given: dict[str, Property] = {"bootstrap.servers": self.bootstrap}
        for name, value in self.properties.items():
            if not name.startswith(without):
                given[UNDERSCORED.get(name, name)] = value
        return given

    def __repr__(self) -> str:
        shown = (
            f"{name}={value if name in SHOWN else '***'}"
            for name, value in sorted(self.properties.items())
        )
        return f"KafkaConfig({', '.join((self.bootstrap, *shown))})"


def _server(text: str) -> str:
    host, colon, port = text, "", ""
    if not text.endswith("]"):
        host, colon, port = text.rpartition(":")
        host = host if colon else port
    is_port = port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= _MAX_PORT
    if not _HOST.match(host) or (colon and not is_port):
        want = "each server is host, host:port or [ipv6]:port, separated by commas"
        raise ConfigError("bootstrap", text, want)
    return f"{host}:{port}" if colon else f"{host}:{_PORT}"
