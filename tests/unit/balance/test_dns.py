"""Names that are looked up, by resolvers that answer, fail, or never answer."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from shifter import Shifter
from shifter.balance import Dns
from shifter.balance.balancer import Balancer
from shifter.balance.dns import DnsLookup, LookupThreads
from shifter.errors import ConfigError, NoEndpointError
from shifter.protection import BalancePolicy
from shifter.testing import TestApp

GENEROUS_S = 20


class Resolver:
    """What a resolver answers; it may be blocked."""

    def __init__(self, *addresses):
        self.addresses, self.asked = list(addresses), 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.answered = threading.Semaphore(0)

    def __call__(self, host, port, **_options):
        self.asked += 1
        self.may_answer.wait(GENEROUS_S)
        self.host, self.port = host, port
        if self.addresses is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(None, None, None, "", (one, port)) for one in self.addresses]


def looked_up(lookup, now):
    """The addresses after the look-up that is begun now, if one is."""
    lookup.at(now)
    for thread in threading.enumerate():
        if thread.name.startswith("shifter-dns-"):
            thread.join(GENEROUS_S)
    return [endpoint.host for endpoint in lookup.at(now)]


@contextlib.contextmanager
def blocked(resolver):
    resolver.may_answer.clear()
    try:
        yield
    finally:
        resolver.may_answer.set()
        for thread in threading.enumerate():
            if thread.name.startswith("shifter-dns-"):
                thread.join(GENEROUS_S)


def test_each_address_is_one_endpoint_that_knows_its_name():
    resolver = Resolver("10.0.0.2", "10.0.0.1", "10.0.0.2", "fe80::1")
    lookup = DnsLookup(Dns("https://Render.internal/v1", refresh="30s"), resolver)

    assert looked_up(lookup, 10.0) == ["10.0.0.1", "10.0.0.2", "fe80::1"]

    assert (resolver.host, resolver.port) == ("render.internal", 443)
    *_, last = lookup.at(10.0)
    assert last.url == "https://[fe80::1]:443/v1"
    assert {one.server_name for one in lookup.at(10.0)} == {"render.internal"}


def test_a_name_is_looked_up_again_when_it_is_due():
    resolver = Resolver("10.0.0.1")
    lookup = DnsLookup(Dns("render:80", refresh="30s"), resolver)
    for now in (10.0, 11.0, 39.9):
        looked_up(lookup, now)
    assert resolver.asked == 1
    resolver.addresses = ["10.0.0.2", "10.0.0.3"]
    assert looked_up(lookup, 40.0) == ["10.0.0.2", "10.0.0.3"]
    assert resolver.asked == 2


@pytest.mark.parametrize("answer", [None, []])
def test_a_name_that_vanishes_keeps_its_last_addresses(answer):
    resolver = Resolver("10.0.0.1")
    lookup = DnsLookup(Dns("render:80"), resolver)
    looked_up(lookup, 10.0)
    resolver.addresses = answer
    assert looked_up(lookup, 50.0) == ["10.0.0.1"]
    assert lookup.failures == 1
    resolver.addresses = ["10.0.0.9"]
    assert looked_up(lookup, 90.0) == ["10.0.0.9"]


def test_a_resolver_that_never_answers_is_asked_once_and_the_last_addresses_hold():
    resolver = Resolver("10.0.0.1")
    lookup = DnsLookup(Dns("render:80"), resolver)
    looked_up(lookup, 10.0)
    with blocked(resolver):
        for now in range(50, 500, 10):
            assert [one.host for one in lookup.at(float(now))] == ["10.0.0.1"]
        assert resolver.asked == 2


def test_resolvers_that_never_answer_take_a_bounded_number_of_threads():
    silent, threads = Resolver("10.0.0.1"), LookupThreads(most=2)
    with blocked(silent):
        for number in range(5):
            DnsLookup(Dns(f"silent{number}:80"), silent, threads).at(10.0)
        lookup = DnsLookup(Dns("render:80"), Resolver("10.0.0.2"), threads)
        for now in (10.0, 11.0, 99.0):
            assert lookup.at(now) == ()
        assert silent.asked == 2
        assert not lookup.first.is_set()
    assert looked_up(lookup, 100.0) == ["10.0.0.2"]


def test_a_name_that_is_not_found_is_asked_for_again_after_1_2_4_seconds():
    resolver = Resolver()
    lookup = DnsLookup(Dns("render:80", refresh="5s"), resolver)
    due = []
    for now in range(10, 40):
        before = resolver.asked
        looked_up(lookup, float(now))
        due += [now] * (resolver.asked > before)
    assert due == [10, 11, 13, 17, 22, 27, 32, 37]


def test_the_age_of_an_answer_grows_while_look_ups_fail_and_a_log_line_says_why(
    caplog,
):
    resolver = Resolver("10.0.0.1")
    lookup = DnsLookup(Dns("render:80", refresh="30s"), resolver)
    assert lookup.age_s(5.0) is None
    looked_up(lookup, 10.0)
    assert lookup.age_s(15.0) == 5
    resolver.addresses = None
    for now in (40.0, 42.0, 44.0):
        looked_up(lookup, now)
    assert lookup.age_s(45.0) == 35
    resolver.addresses = ["10.0.0.2"]
    looked_up(lookup, 80.0)
    assert lookup.age_s(81.0) == 1
    failed, found = [record.getMessage() for record in caplog.records]
    assert failed == (
        "endpoints.lookup_failed name=render:80 "
        "why=gaierror: [Errno -2] Name or service not known age_s=30.0"
    )
    assert found == "endpoints.found name=render:80"


async def test_a_dependency_states_the_age_of_its_endpoints(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", Resolver("10.0.0.1"))
    app = Shifter("shop")
    by_name = app.dependency("by-name", endpoints=Dns("d:80"))
    answers = iter([["a:1"]])
    by_function = app.dependency("by-function", endpoints=lambda: next(answers))
    by_list = app.dependency("by-list", endpoints=["a:1"])
    plain = app.dependency("plain")

    @app.job
    async def nothing():
        """So that there is a queue."""

    async with TestApp(app) as test:
        for dependency in (by_name, by_function, by_list):
            dependency.run_sync(lambda endpoint: endpoint.host)
        await test.drain(advance="20s")
        assert by_name.endpoints_age_s() == pytest.approx(20, abs=1)
        assert by_function.endpoints_age_s() == pytest.approx(20, abs=1)
        assert by_list.endpoints_age_s() is None
        assert plain.endpoints_age_s() is None


def test_an_address_is_its_own_only_address():
    lookup = DnsLookup(Dns("[::1]:8080"))
    assert looked_up(lookup, 10.0) == ["::1"]


def test_what_is_known_of_addresses_that_stay_is_kept(monkeypatch):
    resolver = Resolver("10.0.0.1", "10.0.0.2")
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    balancer = Balancer("render", Dns("render:80"), BalancePolicy())
    looked_up(balancer._lookup, 10.0)
    lease = balancer.lease(10.0, tried=["http://10.0.0.2:80"])

    resolver.addresses = ["10.0.0.1", "10.0.0.3"]
    looked_up(balancer._lookup, 50.0)

    views = balancer.views(50.0)
    assert [(view.endpoint.host, view.inflight) for view in views] == [
        ("10.0.0.1", 1),
        ("10.0.0.3", 0),
    ]
    assert lease.endpoint.host == "10.0.0.1"
    assert balancer.first_lookup(50.0) is None


async def test_the_first_call_waits_for_the_first_look_up(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", Resolver("10.0.0.1"))
    app = Shifter("shop")
    dependencies = [app.dependency(f"d{n}", endpoints=Dns("d:80")) for n in range(4)]

    async def host(endpoint):
        return endpoint.host

    async with TestApp(app):
        first, second, third, fourth = dependencies
        assert await first.run(host) == "10.0.0.1"
        assert second.run_sync(lambda endpoint: endpoint.host) == "10.0.0.1"
        async with third.call() as call:
            assert call.endpoint.host == "10.0.0.1"
        with fourth.call() as call:
            assert call.endpoint.host == "10.0.0.1"


async def test_a_call_waits_no_longer_for_a_look_up_than_its_timeout(monkeypatch):
    resolver = Resolver("10.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    app = Shifter("shop")
    render = app.dependency("render", endpoints=Dns("render:80"))

    async def host(endpoint):
        return endpoint.host

    async with TestApp(app):
        with blocked(resolver):
            with pytest.raises(NoEndpointError):
                await render.run(host, timeout="20ms", retries=3)
            assert await render.run(host, timeout="20ms", default="none") == "none"
            with pytest.raises(NoEndpointError), render.call(timeout="20ms"):
                raise AssertionError("not reached")
        assert await render.run(host) == "10.0.0.1"


async def test_a_name_that_does_not_exist_has_no_endpoint(monkeypatch):
    resolver = Resolver()
    resolver.addresses = None
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    app = Shifter("shop")
    render = app.dependency("render", endpoints=Dns("render:80"))
    async with TestApp(app):
        with pytest.raises(NoEndpointError, match="no endpoint of 'render'"):
            render.run_sync(lambda endpoint: endpoint.host, retries=2)
    assert resolver.asked == 1


@pytest.mark.parametrize(
    ("name", "options", "field"),
    [
        ("render", {}, "endpoints"),
        (7, {}, "endpoints"),
        ("render:80", {"refresh": "10ms"}, "refresh"),
        ("render:80", {"refresh": "often"}, "refresh"),
    ],
)
def test_a_wrong_name_or_option_is_one_error_that_names_it(name, options, field):
    with pytest.raises(ConfigError) as raised:
        Dns(name, **options)
    assert raised.value.field == field
