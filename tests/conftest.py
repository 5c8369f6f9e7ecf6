"""Servers for the tests: real ones, started once per session, ended with it.

A server that cannot be had is a skip on a laptop and a failure in CI.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from hypothesis import HealthCheck, settings

from shifter.runtime import threads
from stack.errors import Missing
from stack.kafka import KafkaCluster
from stack.prometheus import promtool as find_promtool
from stack.redis import RedisServer

# Suites and helpers are no test modules: without this, a failure in one shows no values.
# Here, since a module that was imported before cannot be rewritten.
pytest.register_assert_rewrite(
    "shifter.testing.conformance",
    *(
        f"tests.{each.name}"
        for each in Path(__file__).parent.iterdir()
        if each.is_dir()
    ),
)

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci",
    max_examples=300,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Of a shell's background job; what the tests start would inherit deaf ears.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _missing(reason: Missing) -> None:
    if os.environ.get("CI"):
        pytest.fail(str(reason), pytrace=False)
    pytest.skip(str(reason))


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaCluster]:
    """One broker; its group coordinator is warm."""
    try:
        cluster = KafkaCluster().start()
    except Missing as reason:
        _missing(reason)
    try:
        cluster.warm()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One redis-server; tests keep apart by namespace."""
    try:
        server = RedisServer().start()
    except Missing as reason:
        _missing(reason)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def promtool() -> str:
    """The path of promtool; where it is, Prometheus is too."""
    try:
        return find_promtool()
    except Missing as reason:
        _missing(reason)
        raise


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of the session's redis-server."""
    return redis_server.url


@pytest.fixture(autouse=True)
def _unconfigured_logging() -> Iterator[None]:
    """A command that a test ran in this process configured it for all later tests.

    All of it is undone, whoever undid a part before: a test that resets structlog alone
    would leave a root logger that drops warnings.
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    for handler in set(root.handlers) - set(handlers):
        if type(handler).__module__.startswith("shifter."):
            root.removeHandler(handler)
    structlog = sys.modules.get("structlog")
    if structlog is not None and structlog.is_configured():
        structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _background_loops_of_one_test() -> Iterator[None]:
    """An app that a test never closed would go on beside all later tests."""
    before = set(threads._running)
    yield
    for loop in set(threads._running) - before:
        loop.stop(0)


@pytest.fixture(autouse=True)
def _settings_of_one_test() -> Iterator[None]:
    """A command that a test ran in this process wrote its flags into the environment."""
    before = _settings()
    yield
    for name in _settings().keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _settings() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k.startswith("SHIFTER_")}


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def mock_broker() -> Iterator[str]:
    """Addresses of librdkafka's mock cluster, which lives as long as its client."""
    owner = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
    brokers = owner.list_topics(timeout=60).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    owner.flush(1)
