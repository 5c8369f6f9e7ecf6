"""The ways to a server: TLS, users, sockets."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest

from shifter.adapters.redis.client import open_redis
from shifter.adapters.redis.scripts import ScriptRunner
from shifter.errors import ConfigError, StoreRefusedError, StoreUnavailableError
from shifter.model.claim import Granted
from shifter.testing.conformance.claim_bench import ask
from stack.redis import RedisServer
from stack.tls import make_certificates

pytestmark = pytest.mark.redis

PASSWORD = "c4nary:/?#@+%"


def own_url(secure, ca_cert):
    server, _ = secure
    login = f"ann:{quote(PASSWORD, safe='')}"
    return f"rediss://{login}@localhost:{server.port}/0?ssl_ca_certs={ca_cert}"


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A server with TLS and one user, and what its clients trust."""
    folder = tmp_path_factory.mktemp("tls")
    certificates = make_certificates(folder)
    server = RedisServer(certificates=certificates, user=("ann", PASSWORD)).start()
    yield server, certificates
    server.stop()


async def test_tls_with_a_user_and_a_trusted_certificate(secure, stores):
    store = stores(own_url(secure, secure[1].ca_cert), timeout_s=5)

    assert isinstance(await ask(store), Granted)
    assert PASSWORD not in await store.ping()


async def test_a_certificate_of_an_unknown_issuer_is_not_trusted(
    secure, stores, tmp_path
):
    other = make_certificates(tmp_path, name="other-ca")
    store = stores(own_url(secure, other.ca_cert), timeout_s=5)

    with pytest.raises(StoreRefusedError, match="certificate verify failed"):
        await ask(store)


async def test_a_certificate_file_that_is_not_there_is_found_before_connecting(
    secure, stores, tmp_path
):
    with pytest.raises(ConfigError, match="ssl_ca_certs"):
        stores(own_url(secure, tmp_path / "none.pem"))


async def test_plain_text_to_a_tls_port_fails_in_time(secure, stores):
    server, _ = secure

    with pytest.raises(StoreUnavailableError):
        await ask(stores(f"redis://127.0.0.1:{server.port}/0", timeout_s=0.5))


async def test_ping_names_version_mode_and_address(stores, redis_url):
    line = await stores(redis_url).ping()

    assert line.startswith("redis 127.0.0.1:")
    assert "standalone" in line
    assert "evicts" not in line


async def test_ping_warns_of_eviction(server, stores):
    store = stores(server.url)
    await store._runner.client.config_set("maxmemory-policy", "allkeys-lru")

    assert "allkeys-lru" in await store.ping()


async def test_a_cancellation_that_meets_a_call_just_sent_is_not_forgotten(
    redis_url, namespace
):
    """The client's `wait_for` forgets one that comes in the tick in which it ends."""
    client = open_redis(redis_url, timeout_s=5)
    runner = ScriptRunner(client, ())
    for ticks in range(40):
        task = asyncio.ensure_future(
            runner.send("set", ("SET", f"{namespace}:x", b"v" * 300_000))
        )
        for _ in range(ticks):
            await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
    await runner.close()
