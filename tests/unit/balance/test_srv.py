"""SRV records and name servers, asked for over a real socket."""

from __future__ import annotations

import sys
import threading

import pytest

from shifter import Shifter
from shifter.balance import Dns, srv
from shifter.balance.balancer import Balancer
from shifter.balance.dns import DnsLookup
from shifter.errors import ConfigError
from shifter.protection import BalancePolicy
from tests.unit.balance.name_server import NameServer

SERVICE = "_http._tcp.render.test."
ZONE = {
    (SERVICE, "SRV"): [
        "10 60 8080 a.render.test.",
        "10 30 8081 b.render.test.",
        "20 0 8082 backup.render.test.",
    ],
    ("a.render.test.", "A"): ["10.0.0.1"],
    ("b.render.test.", "A"): ["10.0.0.2", "10.0.0.3"],
    ("b.render.test.", "AAAA"): ["fd00::2"],
    ("backup.render.test.", "A"): ["10.0.0.9"],
}


@pytest.fixture
def server():
    with NameServer(dict(ZONE)) as server:
        yield server


def found(server, name="_http._tcp.render.test", kind="srv"):
    """What one look-up finds: URL, weight, priority and name of each endpoint."""
    dns = Dns(name, kind=kind, nameserver=server.address)
    return [
        (one.url, round(one.weight, 3), one.priority, one.server_name)
        for one in srv.find(dns, None)
    ]


def looked_up(lookup, now):
    lookup.at(now)
    for thread in threading.enumerate():
        if thread.name.startswith("shifter-dns-"):
            thread.join(20)
    return [endpoint.host for endpoint in lookup.at(now)]


def test_records_have_port_weight_and_priority_and_addresses_share_the_weight(server):
    assert found(server) == [
        ("http://10.0.0.1:8080", 1.0, 10, "a.render.test"),
        ("http://10.0.0.2:8081", 0.167, 10, "b.render.test"),
        ("http://10.0.0.3:8081", 0.167, 10, "b.render.test"),
        ("http://[fd00::2]:8081", 0.167, 10, "b.render.test"),
        ("http://10.0.0.9:8082", 1.0, 20, "backup.render.test"),
    ]


def test_scheme_and_path_are_those_of_the_name(server):
    [first, *_] = found(server, "https://_http._tcp.render.test/v1")
    assert first[0] == "https://10.0.0.1:8080/v1"


def test_a_record_of_weight_0_gets_hardly_any_calls_and_none_if_it_is_not_alone(server):
    server.zone[SERVICE, "SRV"] = ["0 0 1 a.render.test.", "0 9 2 backup.render.test."]
    assert [(url, weight) for url, weight, *_ in found(server)] == [
        ("http://10.0.0.1:1", 0.001),
        ("http://10.0.0.9:2", 1.0),
    ]


def test_a_target_without_an_address_is_left_out(server):
    del server.zone["b.render.test.", "A"], server.zone["b.render.test.", "AAAA"]
    assert [url for url, *_ in found(server)] == [
        "http://10.0.0.1:8080",
        "http://10.0.0.9:8082",
    ]


@pytest.mark.parametrize("records", [["0 0 0 ."], ["0 0 80 gone.test."], None])
def test_a_service_that_is_not_there_keeps_its_last_endpoints(server, records):
    dns = Dns(SERVICE, kind="srv", nameserver=server.address, refresh="1s")
    lookup = DnsLookup(dns)
    before = looked_up(lookup, 10.0)
    assert "10.0.0.1" in before
    if records is None:
        del server.zone[SERVICE, "SRV"]
    else:
        server.zone[SERVICE, "SRV"] = records

    assert looked_up(lookup, 20.0) == before
    assert (lookup.failures, lookup.age_s(25.0)) == (1, 15.0)


def test_addresses_can_be_asked_of_a_name_server_too(server):
    assert found(server, "http://b.render.test:80", "address") == [
        ("http://10.0.0.2:80", 1.0, 0, "b.render.test"),
        ("http://10.0.0.3:80", 1.0, 0, "b.render.test"),
        ("http://[fd00::2]:80", 1.0, 0, "b.render.test"),
    ]


def test_without_a_name_server_the_system_is_asked_for_the_addresses_of_targets(
    server, monkeypatch
):
    """The records come from the servers of ``/etc/resolv.conf``: here ours."""
    made = srv.dns.resolver.Resolver

    def configured(*, configure):
        assert configure
        client = made(configure=False)
        host, _, port = server.address.partition(":")
        client.nameservers, client.port = [host], int(port)
        return client

    monkeypatch.setattr(srv.dns.resolver, "Resolver", configured)
    asked = []

    def resolve(host, port):
        asked.append(host)
        return [(None, None, None, "", ("10.9.9.9", port))]

    endpoints = srv.find(Dns(SERVICE, kind="srv"), resolve)

    assert {one.host for one in endpoints} == {"10.9.9.9"}
    assert asked == ["a.render.test", "b.render.test", "backup.render.test"]


def test_backups_are_called_when_all_others_were_tried_or_are_ill(server):
    dns = Dns(SERVICE, kind="srv", nameserver=server.address)
    balancer = Balancer("render", dns, BalancePolicy())
    looked_up(balancer._lookup, 10.0)
    tried = []
    for _ in range(5):
        lease = balancer.lease(10.0, tried=tried)
        tried.append(lease.endpoint.url)
    assert tried[-1] == "http://10.0.0.9:8082"
    assert len(set(tried)) == 5


@pytest.mark.parametrize(
    ("name", "options", "field"),
    [
        ("render:80", {"kind": "mx"}, "kind"),
        ("_http._tcp.render:80", {"kind": "srv"}, "endpoints"),
        ("http://_http._tcp.render:80/v1", {"kind": "srv"}, "endpoints"),
        (7, {"kind": "srv"}, "endpoints"),
        ("render:80", {"nameserver": "ns.test:53"}, "nameserver"),
        ("render:80", {"nameserver": "127.0.0.1"}, "nameserver"),
        ("render:80", {"nameserver": "http://127.0.0.1:53"}, "nameserver"),
        ("render:80", {"nameserver": 53}, "nameserver"),
    ],
)
def test_a_wrong_option_of_a_name_is_one_error_that_names_it(name, options, field):
    with pytest.raises(ConfigError) as raised:
        Dns(name, **options)
    assert raised.value.field == field


def test_a_missing_package_is_one_error_where_the_dependency_is_declared(monkeypatch):
    monkeypatch.setitem(sys.modules, "dns", None)
    app = Shifter("shop")
    with pytest.raises(ConfigError, match=r"shifter-queue\[dns\]"):
        app.dependency("render", endpoints=Dns("_http._tcp.render", kind="srv"))
    app.dependency("pages", endpoints=Dns("render:80"))
