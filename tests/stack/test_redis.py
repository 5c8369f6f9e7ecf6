"""redis-server as the tests and `make stack` start it."""

from __future__ import annotations

import pytest
from redis import Redis
from redis.exceptions import (
    AuthenticationError,
    ConnectionError as NoConnectionError,
    TimeoutError as NoAnswerError,
)

from stack.errors import StackError
from stack.redis import RedisServer
from stack.tls import make_certificates

pytestmark = pytest.mark.redis


@pytest.fixture
def server(redis_url):  # asked for only to skip where there is no Redis
    with RedisServer(durable=True) as server:
        yield server


def test_a_durable_server_that_was_killed_has_its_data_again(server):
    with Redis.from_url(server.url) as client:
        client.set("k", "v")
    # orderly first: what a crash keeps is a matter of the last second

    server.kill()
    server.restart()

    with Redis.from_url(server.url) as client:
        assert client.get("k") == b"v"


def test_a_frozen_server_accepts_and_does_not_answer(server):
    server.pause()
    impatient = Redis.from_url(server.url, socket_timeout=0.2, retry=None)
    with impatient as client, pytest.raises(NoAnswerError):
        client.ping()

    server.resume()

    with Redis.from_url(server.url) as client:
        assert client.ping()


def test_nothing_is_evicted_and_only_this_machine_gets_in(server):
    with Redis.from_url(server.url) as client:
        config = client.config_get("*")

    assert config["maxmemory-policy"] == "noeviction"
    assert config["bind"] == "127.0.0.1"


def test_another_server_on_the_port_is_not_taken_for_ours(server):
    second = RedisServer()
    second.port = server.port

    with pytest.raises(StackError):
        second.start()

    with Redis.from_url(server.url) as client:
        assert client.ping()


def test_a_stopped_server_leaves_nothing_behind(redis_url):
    with RedisServer() as server:
        folder = server.folder
        assert folder.exists()

    assert not folder.exists()


@pytest.mark.secure
class TestSecure:
    """TLS and one ACL user."""

    @pytest.fixture
    def secure(self, redis_url, tmp_path):
        files = make_certificates(tmp_path)
        with RedisServer(certificates=files, user=("alice", "p@ss/1")) as server:
            yield server

    def test_the_user_gets_in(self, secure):
        with Redis.from_url(secure.url) as client:
            assert client.ping()

    def test_nobody_else_does(self, secure):
        anonymous = secure.url.replace("alice:p%40ss%2F1@", "")

        with Redis.from_url(anonymous) as client, pytest.raises(AuthenticationError):
            client.ping()

    def test_plaintext_is_refused(self, secure):
        plain = f"redis://127.0.0.1:{secure.port}/0"

        stranger = Redis.from_url(plain, retry=None)
        with stranger as client, pytest.raises(NoConnectionError):
            client.ping()
