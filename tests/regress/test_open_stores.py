"""A store that lets anybody in, and a connection that verifies nobody, passed as ok.

``shifter doctor`` said nothing of a Redis without a password, of certificates that are
not verified (also by a ``shifter.toml`` of the current folder), or of a state store across
the network in the clear; and a URL with a forgotten ``@`` showed its password. Right is: a
warning with its fix for each, and no text of a URL that may be a password.
"""

from __future__ import annotations

import pytest

from shifter.adapters.redis.url import parse_redis_url
from shifter.adapters.system import SystemClock
from shifter.config import Settings, load_settings
from shifter.config.endpoint import Secret, mask_url
from shifter.errors import ConfigError
from shifter.ops.doctor import check_state
from shifter.wiring.registry import log_adapter
from stack.redis import RedisServer

PASSWORD = "hunter2secret"


def named(findings, name):
    return [finding for finding in findings if finding.name == name]


@pytest.mark.redis
async def test_the_doctor_warns_of_a_redis_without_a_login(redis_url, namespace):
    settings = Settings(namespace=namespace, state_url=Secret.of_url(redis_url))

    [access] = named(await check_state(settings, SystemClock(), 0.0), "state.access")

    assert access.status == "warn"
    assert "asks for no password" in access.detail
    assert "requirepass" in access.fix


@pytest.mark.redis
async def test_a_redis_that_asks_for_a_password_is_ok(namespace):
    with RedisServer(user=("worker", PASSWORD)) as server:
        settings = Settings(namespace=namespace, state_url=Secret.of_url(server.url))
        found = await check_state(settings, SystemClock(), 0.0)

    assert [f.status for f in named(found, "state.access")] == ["ok"]
    assert [f.status for f in named(found, "state.write")] == ["ok"]


@pytest.mark.parametrize(
    ("query", "is_well"),
    [
        ("security_protocol=SSL", True),
        ("security_protocol=SSL&enable_ssl_certificate_verification=false", False),
        ("security_protocol=SSL&enable_ssl_certificate_verification=False", False),
        ("security_protocol=SSL&enable_ssl_certificate_verification=0", False),
        ("security_protocol=SSL&ssl_endpoint_identification_algorithm=none", False),
        ("security_protocol=SSL&ssl_endpoint_identification_algorithm=https", True),
    ],
)
@pytest.mark.parametrize("host", ["broker.example", "localhost"])
def test_the_doctor_warns_of_a_broker_that_is_not_verified(query, is_well, host):
    url = Secret.of_url(f"kafka://{host}/?{query}")
    settings = Settings(namespace="shop", log_url=url)

    found = log_adapter(settings).check_transport(settings)

    [transport] = named(found, "log.transport")
    assert transport.status == ("ok" if is_well else "warn"), transport
    assert is_well or "not verified" in transport.detail


def test_a_file_of_the_current_folder_that_switches_verification_off_is_seen(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shifter.toml").write_text(
        'log = "kafka://broker.example"\n'
        '[kafka]\nsecurity_protocol = "SSL"\n'
        "enable_ssl_certificate_verification = false\n"
    )
    settings = load_settings("shop", environ={})

    [transport] = named(
        log_adapter(settings).check_transport(settings), "log.transport"
    )

    assert transport.status == "warn"
    assert "shifter.toml" in transport.detail


@pytest.mark.parametrize(
    ("url", "status", "word"),
    [
        ("rediss://cache.example/0", "ok", "tls"),
        ("rediss://cache.example/0?ssl_cert_reqs=none", "warn", "not verified"),
        ("rediss://cache.example/0?ssl_check_hostname=false", "warn", "not verified"),
        ("rediss://localhost/0?ssl_cert_reqs=none", "warn", "not verified"),
        ("redis://cache.example/0", "warn", "in the clear"),
        ("redis+cluster://c1.example,localhost", "warn", "in the clear"),
        ("redis://127.0.0.1/0", "ok", "this machine"),
        ("redis://[::1]:6379/0", "ok", "this machine"),
        ("unix:///run/redis.sock", "ok", "this machine"),
    ],
)
def test_the_way_to_the_state_store_is_judged(url, status, word):
    from shifter.adapters.redis.doctor import check_transport

    [finding] = check_transport(url)

    assert (finding.status, word in finding.detail) == (status, True), finding


URLS = [
    f"redis://:{PASSWORD}cache.example:6379/0",
    f"redis://:{PASSWORD}",
    f"redis://user:{PASSWORD}",
    f"redis://user:{PASSWORD}cache:6379/0",
    f"redis://{PASSWORD}@cache.example",
    f"redis://user:{PASSWORD}@cache.example",
    f"redis://user:{PASSWORD},other",
    f"rediss://:{PASSWORD}@cache@example",
    f"redis+sentinel://user:{PASSWORD}/main",
    f"redis+cluster://:{PASSWORD}h1,h2",
    f"kafka://user:{PASSWORD}",
    f"kafka://:{PASSWORD}broker:9092",
    f"kafka://{PASSWORD}@broker:9092",
    f"redis://cache.example:{PASSWORD}/0",
    f"redis://cache.example/{PASSWORD}#x",
]


@pytest.mark.parametrize("url", URLS)
def test_no_text_that_may_be_a_password_is_shown(url):
    assert PASSWORD not in mask_url(url)
    shown = ""
    try:
        parse_redis_url(url)
    except ConfigError as error:
        shown = str(error)
    assert PASSWORD not in shown


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("name", ["STATE", "LOG"])
def test_no_command_shows_what_may_be_a_password(url, name, monkeypatch):
    environ = {f"SHIFTER_{name}": url}
    try:
        settings = load_settings("shop", environ=environ)
    except ConfigError as error:
        shown = str(error)
    else:
        shown = " ".join(map(str, settings.shown()))
    assert PASSWORD not in shown
