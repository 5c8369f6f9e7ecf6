"""What the relay refuses to reach or to send, before and at the connection."""

from __future__ import annotations

import ipaddress
from typing import Any

import httpcore
import httpx
import pytest
from hypothesis import given, strategies as st

from shifter import ConfigError
from workers.http_courier import Courier
from workers.http_resolver import Resolver
from workers.http_target import (
    RefusedTargetError,
    TargetPolicy,
    check_addresses,
    checked_headers,
    checked_url,
    is_public,
)

NAMES = {
    "metadata.google.internal": ["169.254.169.254"],
    "rebound.example": ["127.0.0.1"],
    "mixed.example": ["93.184.215.14", "10.0.0.1"],
    "mixed6.example": ["2606:2800:220:1::1", "::1"],
    "mapped.example": ["::ffff:10.0.0.1"],
    "nowhere.example": [],
    "localhost": ["127.0.0.1"],
    "localhost.": ["127.0.0.1"],
    "xn--bcher-kva.example": ["192.168.1.1"],
    "good.example": ["93.184.215.14"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "kubernetes.default.svc": ["10.96.0.1"],
}

REFUSED_URLS = [
    # loopback, in every spelling a resolver takes
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://127.255.255.254/",
    "http://2130706433/",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://0x7f.0x0.0x0.0x1/",
    "http://127.0.0.1./",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://127.0.0.1.nip.example/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://0.0.0.0/",
    "http://0/",
    "http://[::]/",
    # private, shared and link-local ranges
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.0.1/",
    "http://3232235521/",
    "http://100.64.0.1/",
    "http://100.127.255.255/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://[::ffff:169.254.169.254]/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fec0::1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:7f00:1::]/",
    "http://192.0.0.192/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[ff02::1]/",
    # names that lead there
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://rebound.example/",
    "http://mixed.example/",
    "http://mixed6.example/",
    "http://mapped.example/",
    "http://nowhere.example/",
    "http://kubernetes.default.svc/",
    "http://bücher.example/",
    # forms that two parsers read differently
    "http://good.example@127.0.0.1/",
    "http://user:password@good.example/",
    "http://@good.example/",
    "http://good.example\\@127.0.0.1/",
    "http://good.example#@127.0.0.1:22/",
    "http://127.0.0.1#.good.example/",
    "http://127.0.0.1?.good.example/",
    "http://good.example /",
    "http://good.example\r\nHost: other/",
    "http://good.example\t.evil/",
    "http://127.0.0.1\x00.good.example/",
    "http://[::1/",
    "http:///path",
    "http://",
    "//good.example/",
    "good.example/hook",
    "",
    "http://%31%32%37.0.0.1/",
    "http://①②⑦.0.0.1/",
    "http://good.example:99999/",
    "http://" + "a" * 64 + ".example/",
    "http://good.example/" + "a" * 9_000,
    # other schemes and ports
    "https://good.example:22/",
    "http://good.example:0/",
    "http://good.example:6379/",
    "http://good.example:9092/",
    "file:///etc/passwd",
    "ftp://good.example/",
    "gopher://good.example:70/_x",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
    "javascript:alert(1)",
    "data:text/plain,hello",
]


async def _resolve(host: str, port: int) -> list[str]:
    known = NAMES.get(host)
    return await Resolver()(host, port) if known is None else known


class _NoNetwork:
    """Notes where a connection would have gone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.connected: list[tuple[str, int]] = []
        monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", self._connect)

    async def _connect(self, address: str, port: int, *_: Any) -> Any:
        self.connected.append((address, port))
        raise httpcore.ConnectError("no network in this test")


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> _NoNetwork:
    return _NoNetwork(monkeypatch)


async def _send(courier: Courier, url: str) -> None:
    try:
        await courier.send("POST", url, {}, {"a": 1}, {})
    finally:
        await courier.close()


@pytest.mark.parametrize("url", REFUSED_URLS)
async def test_url_that_leads_inside_is_refused_before_any_connection(
    url: str, network: _NoNetwork
) -> None:
    with pytest.raises(RefusedTargetError):
        await _send(Courier(TargetPolicy(), _resolve), url)

    assert network.connected == []


async def test_name_that_changes_its_answer_is_reached_where_it_was_checked(
    network: _NoNetwork,
) -> None:
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])

    async def rebinding(_host: str, _port: int) -> list[str]:
        return next(answers)

    courier = Courier(TargetPolicy(), rebinding)
    with pytest.raises(httpcore.ConnectError):
        await courier.send("POST", "http://rebinds.example/", {}, None, {})
    with pytest.raises(RefusedTargetError, match=r"127\.0\.0\.1"):
        await _send(courier, "http://rebinds.example/")

    assert network.connected == [("93.184.215.14", 80)]


async def test_every_checked_address_is_tried_until_one_answers(
    network: _NoNetwork,
) -> None:
    async def two(_host: str, _port: int) -> list[str]:
        return ["93.184.215.14", "2606:2800:220:1::1"]

    with pytest.raises(httpcore.ConnectError):
        await _send(Courier(TargetPolicy(), two), "https://two.example/")

    assert network.connected == [("93.184.215.14", 443), ("2606:2800:220:1::1", 443)]


async def test_trusted_pair_is_reached_and_its_other_ports_are_not(
    network: _NoNetwork,
) -> None:
    policy = TargetPolicy.from_env(
        {"RELAY_ALLOW_HOSTS": "Hooks.Internal:8080,[::1]:81"}
    )

    async def inside(_host: str, _port: int) -> list[str]:
        return ["10.0.0.7"]

    with pytest.raises(httpcore.ConnectError):
        await _send(Courier(policy, inside), "http://hooks.internal.:8080/x")
    with pytest.raises(RefusedTargetError, match="port 8081"):
        await _send(Courier(policy, inside), "http://hooks.internal:8081/x")
    with pytest.raises(RefusedTargetError, match="not public"):
        await _send(Courier(policy, inside), "http://hooks.internal/x")
    with pytest.raises(httpcore.ConnectError):
        await _send(Courier(policy), "http://[::1]:81/")

    assert network.connected == [("10.0.0.7", 8080), ("::1", 81)]


async def test_resolver_failure_is_a_failure_and_no_refusal() -> None:
    async def away(_host: str, _port: int) -> list[str]:
        raise OSError("no answer from any server")

    with pytest.raises(httpcore.ConnectError, match="no answer"):
        await _send(Courier(TargetPolicy(), away), "http://good.example/")


@given(st.ip_addresses(v=4))
def test_public_ipv4_is_never_special_by_the_standard_librarys_table(
    address: ipaddress.IPv4Address,
) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=6))
def test_public_ipv6_is_never_special_by_the_standard_librarys_table(
    address: ipaddress.IPv6Address,
) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.215.14", "100.63.255.255", "2606:2800:220:1::1"]
)
def test_public_address_is_reached(address: str) -> None:
    check_addresses("good.example", [address])

    assert is_public(address)


def test_refusal_of_a_url_does_not_repeat_its_path() -> None:
    with pytest.raises(RefusedTargetError) as caught:
        checked_url(TargetPolicy(), "http://good.example:25/hook?token=canary")

    assert "canary" not in str(caught.value)
    assert "good.example" in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "other.example"},
        {"host": "other.example"},
        {"Content-Length": "5"},
        {"Transfer-Encoding": "chunked"},
        {"Connection": "close, x-secret"},
        {"Upgrade": "websocket"},
        {"TE": "trailers"},
        {"Proxy-Authorization": "Basic eA=="},
        {"X-Forwarded-For": "10.0.0.1"},
        {"Idempotency-Key": '"mine"'},
        {"X-Request-Timeout": "999"},
        {"traceparent": "00-1"},
        {"X-A": "one\r\nX-B: two"},
        {"X-A": "one\ntwo"},
        {"X-A": "nul\x00"},
        {"X-A": "ünicode"},
        {"X-A\r\nX-B": "two"},
        {"X A": "space"},
        {"X-A:": "colon"},
        {"": "empty"},
        {"X-" + "a" * 64: "long name"},
        {"X-A": "a" * 4_097},
        {f"X-{number}": "many" for number in range(65)},
        {f"X-{number}": "a" * 2_000 for number in range(10)},
    ],
    ids=lambda headers: repr(next(iter(headers.items())))[:40],
)
def test_header_that_is_not_a_jobs_to_set_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(RefusedTargetError, match="header"):
        checked_headers(headers)


def test_usual_headers_are_sent() -> None:
    headers = {"Authorization": "Bearer x", "X-Custom": "a\tb", "Content-Type": "a/b"}

    assert checked_headers(headers) == headers


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "OPTIONS", "BREW", "", "G ET"])
async def test_method_outside_the_list_is_refused(method: str) -> None:
    with pytest.raises(RefusedTargetError, match="method"):
        await Courier(TargetPolicy()).send(method, "http://good.example/", {}, None, {})


async def test_body_on_a_get_is_refused() -> None:
    with pytest.raises(RefusedTargetError, match="no body"):
        await Courier(TargetPolicy()).send("get", "http://good.example/", {}, "x", {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RELAY_ALLOW_PRIVATE", "yes"),
        ("RELAY_ALLOW_HOSTS", "hooks.internal"),
        ("RELAY_ALLOW_HOSTS", "a:1:2"),
        ("RELAY_ALLOW_HOSTS", "a:99999"),
        ("RELAY_ALLOW_HOSTS", "a:80, b"),
        ("RELAY_PORTS", "80-90"),
        ("RELAY_PORTS", "0"),
    ],
)
def test_wrong_setting_names_itself(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        TargetPolicy.from_env({name: value})


def test_settings_are_read() -> None:
    policy = TargetPolicy.from_env(
        {"RELAY_PORTS": "443, 8443", "RELAY_ALLOW_HOSTS": ""}
    )

    assert policy == TargetPolicy(ports=frozenset({443, 8443}))
    assert TargetPolicy.from_env({"RELAY_ALLOW_PRIVATE": "1"}).trusts("10.0.0.1", 22)
    assert isinstance(checked_url(policy, "https://a.example:8443/"), httpx.URL)
