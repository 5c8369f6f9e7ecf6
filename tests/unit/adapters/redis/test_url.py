"""Addresses of the state store, good and bad."""

from __future__ import annotations

import ssl

import pytest

from shifter.adapters.redis.client import address, call_limit_s, open_redis
from shifter.adapters.redis.url import parse_redis_url
from shifter.errors import ConfigError

SECRET = "c4nary"


@pytest.mark.parametrize(
    ("url", "kind", "servers", "path"),
    [
        ("redis://db1", "server", [("db1", 6379)], ""),
        ("redis://db1:7000/2", "server", [("db1", 7000)], ""),
        ("rediss://[::1]:7000", "server", [("::1", 7000)], ""),
        ("unix:///run/redis.sock", "unix", [], "/run/redis.sock"),
        (
            "redis+sentinel://s1,s2:27000/main/3",
            "sentinel",
            [("s1", 26379), ("s2", 27000)],
            "main",
        ),
        ("rediss+cluster://a,b:7001", "cluster", [("a", 6379), ("b", 7001)], ""),
    ],
)
def test_an_address_is_taken_apart(url, kind, servers, path):
    found = parse_redis_url(url)

    assert (found.kind, list(found.servers), found.path) == (kind, servers, path)
    assert found.is_tls == url.startswith("rediss")


def test_credentials_are_decoded_and_a_plus_stays_a_plus():
    found = parse_redis_url("redis://us%40er:p%2F+%3A@h/1?client_name=a+b")

    assert found.options == {
        "username": "us@er",
        "password": "p/+:",
        "db": 1,
        "client_name": "a+b",
    }


def test_tls_options_are_passed_on():
    query = f"ssl_ca_certs={__file__}&ssl_check_hostname=false&ssl_min_version=1.3"
    found = parse_redis_url(f"rediss://h?{query}&ssl_cert_reqs=required")

    assert found.options == {
        "ssl_ca_certs": __file__,
        "ssl_check_hostname": False,
        "ssl_min_version": ssl.TLSVersion.TLSv1_3,
        "ssl_cert_reqs": "required",
    }


def test_sentinels_have_credentials_of_their_own():
    found = parse_redis_url("redis+sentinel://u:p@s1/main?sentinel_password=q")

    assert found.options == {"username": "u", "password": "p"}
    assert found.sentinel == {"password": "q"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis",
        "http://h",
        f"redis://:{SECRET}@",
        f"redis://:{SECRET}@h:0",
        f"redis://:{SECRET}@h:99999",
        f"redis://:{SECRET}@h:port",
        f"redis://:{SECRET}@h:1:2",
        f"redis://:{SECRET}@::1",
        f"redis://:{SECRET}@h1,h2",
        f"redis://:{SECRET}@h/x",
        f"redis://:{SECRET}@h/1#2",
        f"redis://h?password={SECRET}&password={SECRET}",
        f"redis://h?passwort={SECRET}",
        f"redis://h?ssl_password={SECRET}",
        f"redis://h?password={SECRET}@h",
        f"redis://h?password=%0a{SECRET}",
        f"rediss+cluster://h?ssl_password={SECRET}",
        "redis+cluster://h/1",
        "redis+cluster://h?db=1",
        "redis+sentinel://h",
        "redis+sentinel://h/",
        "redis://h?sentinel_password=x",
        "redis://h?db",
        "redis://h?db=-1",
        "redis://h?db=٣",
        "rediss://h?ssl_check_hostname=maybe",
        "rediss://h?ssl_cert_reqs=maybe",
        "rediss://h?ssl_ca_certs=/nowhere/ca.pem",
        "rediss://h?ssl_min_version=1.0",
        "unix://relative",
    ],
)
def test_a_wrong_address_is_refused_without_its_secrets(url):
    with pytest.raises(ConfigError) as caught:
        parse_redis_url(url)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://u:{SECRET}@db1:7000/2", "redis db1:7000/2"),
        (f"unix://:{SECRET}@/run/r.sock", "redis /run/r.sock"),
        (
            f"redis+sentinel://:{SECRET}@s1/main?sentinel_password={SECRET}",
            "redis by sentinel 'main'",
        ),
        (f"redis+cluster://:{SECRET}@a,b:7001", "redis cluster a:6379,b:7001"),
    ],
)
async def test_a_client_shows_where_it_goes_and_no_secret(url, shown):
    client = open_redis(url, timeout_s=0.2)

    assert address(client) == shown
    assert SECRET not in repr(client)
    assert call_limit_s(client) == pytest.approx(0.4)
    await client.aclose()
