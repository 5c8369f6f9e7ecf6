"""One broker with SASL_SSL, SCRAM and access rules, and one Redis with TLS and a user.

Users of the broker: ``admin`` may do everything; ``shop`` what a service and a worker
need; ``reader`` may not write, ``nogroup`` not join, ``noread`` not read.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from stack.errors import Missing
from stack.kafka import KafkaCluster, Security
from stack.redis import RedisServer
from stack.tls import make_certificates
from tests.secure.shell import CANARY, HARD, PREFIX, Shell, World

_READ, _WRITE = AclOperation.READ, AclOperation.WRITE
_DESCRIBE, _CREATE = AclOperation.DESCRIBE, AclOperation.CREATE
# User to what it may do with topics, and with groups.
_RIGHTS = {
    "shop": ((_READ, _WRITE, _DESCRIBE, _CREATE), (_READ,)),
    "reader": ((_READ, _DESCRIBE), (_READ,)),
    "nogroup": ((_READ, _WRITE, _DESCRIBE), ()),
    "noread": ((_WRITE, _DESCRIBE), (_READ,)),
}


def _secret(of: str, hard: str = HARD) -> str:
    return f"{CANARY}-{of}{hard}-{CANARY}"


def _missing(reason: Missing) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(str(reason), pytrace=False)
    pytest.skip(str(reason))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The servers; their group coordinator is warm."""
    # The broker's own settings take the password of admin, and have no escape.
    users = {"admin": _secret("admin", "")} | {name: _secret(name) for name in _RIGHTS}
    security = Security.make(tmp_path_factory.mktemp("tls"), users)
    login = ("shop", _secret("redis"))
    redis = RedisServer(certificates=security.certificates, user=login)
    kafka = KafkaCluster(security=security)
    try:
        kafka.start()
        redis.start()
        kafka.warm()
        _grant(kafka)
        yield World(kafka, security, redis, login)
    except Missing as reason:
        _missing(reason)
    finally:
        redis.stop()
        kafka.stop()


@pytest.fixture(scope="session")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority that signed nothing here."""
    return make_certificates(tmp_path_factory.mktemp("other"), name="other-ca").ca_cert


@pytest.fixture
def shell(world: World, tmp_path: Path) -> Shell:
    """A user in an empty directory, with a namespace of its own."""
    return Shell(world, f"{PREFIX}{uuid.uuid4().hex[:10]}", tmp_path)


@pytest.fixture(scope="module")
def ready(world: World, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """The topics are there; the tests of a module share them."""
    name = f"{PREFIX}{uuid.uuid4().hex[:10]}"
    shell = Shell(world, name, tmp_path_factory.mktemp("ready"))
    shell.ok("topics", "apply", "tests.acceptance.jobs:app")
    return shell


def _grant(kafka: KafkaCluster) -> None:
    admin = AdminClient(kafka.client("admin"))
    rules = [
        _rule(user, kind, operation)
        for user, rights in _RIGHTS.items()
        for kind, operations in zip(
            (ResourceType.TOPIC, ResourceType.GROUP), rights, strict=True
        )
        for operation in operations
    ]
    for created in admin.create_acls(rules).values():
        created.result(timeout=20)


def _rule(user: str, kind: ResourceType, operation: AclOperation) -> AclBinding:
    return AclBinding(
        kind,
        PREFIX,
        ResourcePatternType.PREFIXED,
        f"User:{user}",
        "*",
        operation,
        AclPermissionType.ALLOW,
    )
