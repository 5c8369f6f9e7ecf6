"""One target cannot stop the relay's deliveries to others, or borrow its rights.

Names were looked up in asyncio's default threads, six on two cores, which the file log
reads with too: six jobs for one silent DNS server stopped every delivery and the log.
Lookups have bounded threads of their own, a host has a share of the requests, and what
is wanting on this side costs a job no attempt. Also: Azure's platform address is not
public, a malformed ``xn--`` name is refused before the request is sent and not after,
and a job sets the headers that are listed, and no other.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpcore
import pytest

from shifter import ConfigError, DeadLetter, Throttled
from tests.workers.test_http_relay import Server, context, deliver, server
from workers import http_relay
from workers.http_courier import Courier
from workers.http_resolver import LaterError, Resolver, domain_of
from workers.http_target import (
    RefusedTargetError,
    TargetPolicy,
    checked_headers,
    checked_url,
    is_public,
)

__all__ = ["server"]


class Lookup:
    """A resolver of which some domains never answer while it is silent."""

    def __init__(self, *silent: str) -> None:
        self.silent, self.asked, self.go_on = silent, [], threading.Event()

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if host.endswith(self.silent):
            self.go_on.wait(100)
            raise OSError(socket.EAI_AGAIN, "no answer")
        return ["127.0.0.1"]


@pytest.fixture
def lookup() -> Iterator[Lookup]:
    lookup = Lookup(".silent.example", ".mute.co.uk")
    yield lookup
    lookup.go_on.set()


async def asked(lookup: Lookup, count: int) -> None:
    """Until a thread has asked so many silent names."""
    async with asyncio.timeout(40):
        while len([host for host in lookup.asked if host.endswith(lookup.silent)]) < (
            count
        ):
            await asyncio.sleep(0.005)


async def patiently(resolver: Resolver, host: str, seconds: float = 0.2) -> list[str]:
    async with asyncio.timeout(seconds):
        return await resolver(host, 80)


# --- lookups --------------------------------------------------------------------------


async def test_silent_dns_server_stops_no_other_lookup(lookup):
    resolver = Resolver(lookup)
    stuck = [
        asyncio.create_task(resolver(f"h{number}.silent.example", 80))
        for number in range(200)
    ]
    await asked(lookup, 4)

    async with asyncio.timeout(40):
        found = await resolver("good.example.org", 80)

    assert found == ["127.0.0.1"]
    assert len([host for host in lookup.asked if "silent" in host]) == 4
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)


async def test_silent_dns_server_leaves_asyncios_threads_to_others(lookup):
    resolver = Resolver(lookup)
    stuck = [
        asyncio.create_task(resolver(f"h.{number}.silent.example", 80))
        for number in range(40)
    ]
    await asked(lookup, 4)

    async with asyncio.timeout(40):
        answer = await asyncio.to_thread(lambda: "read")

    assert answer == "read"
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)


async def test_requests_for_one_name_share_its_lookup(lookup):
    resolver = Resolver(lookup)

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await patiently(resolver, "a.silent.example", 0.05)
    await asked(lookup, 1)

    assert lookup.asked == ["a.silent.example"]


async def test_name_is_looked_up_anew_once_its_lookup_has_ended(lookup):
    resolver = Resolver(lookup)

    await resolver("good.example.org", 80)
    await resolver("good.example.org", 443)

    assert lookup.asked == ["good.example.org"] * 2


async def test_lookups_are_bounded_in_all_and_the_rest_comes_later(lookup):
    resolver = Resolver(lookup, most=3, per_domain=1)
    lookup.silent = (".example",)
    stuck = [
        asyncio.create_task(resolver(f"h.d{number}.example", 80)) for number in range(3)
    ]
    await asked(lookup, 3)

    with pytest.raises(LaterError, match="3 names are being looked up"):
        await resolver("h.d4.example", 80)

    lookup.go_on.set()
    await asyncio.gather(*stuck, return_exceptions=True)
    assert await resolver("good.example.org", 80) == ["127.0.0.1"]


async def test_room_of_a_domain_is_free_again_once_its_lookups_have_ended(lookup):
    resolver = Resolver(lookup, per_domain=1)
    first = asyncio.create_task(resolver("a.silent.example", 80))
    await asked(lookup, 1)
    second = asyncio.create_task(resolver("b.silent.example", 80))
    await asyncio.sleep(0.05)
    assert lookup.asked == ["a.silent.example"]

    lookup.go_on.set()
    ended = await asyncio.gather(first, second, return_exceptions=True)

    assert [type(error) for error in ended] == [OSError, OSError]
    assert lookup.asked == ["a.silent.example", "b.silent.example"]


@pytest.mark.parametrize("host", ["127.0.0.1", "93.184.215.14", "::1", "2606:2800::1"])
async def test_literal_address_needs_no_lookup(host, lookup):
    assert await Resolver(lookup)(host, 80) == [host]
    assert lookup.asked == []


@pytest.mark.parametrize(
    ("code", "domains", "is_ours"),
    [
        (socket.EAI_NONAME, 5, False),
        (socket.EAI_AGAIN, 1, False),
        (socket.EAI_AGAIN, 5, True),
        (socket.EAI_MEMORY, 1, True),
        (socket.EAI_SYSTEM, 1, True),
    ],
)
async def test_only_a_lookup_that_gives_no_evidence_of_its_name_is_ours(
    code, domains, is_ours
):
    def fail(host: str) -> list[str]:
        raise OSError(code, "as asked")

    resolver, errors = Resolver(fail), []
    for number in range(domains):
        with pytest.raises((LaterError, OSError)) as caught:
            await resolver(f"www.d{number}.example", 80)
        errors.append(caught.type)

    assert errors[-1] is (LaterError if is_ours else OSError)


def test_names_of_one_registrable_domain_share_their_room():
    assert domain_of("a.b.example.com") == domain_of("example.com.")
    assert domain_of("a.co.uk") != domain_of("b.co.uk")


# --- deliveries -----------------------------------------------------------------------


@pytest.fixture
def relay(monkeypatch):
    """Put another courier into the relay; it is closed by the test's loop."""

    def use(courier: Courier) -> Courier:
        monkeypatch.setattr(http_relay, "courier", courier)
        return courier

    return use


async def test_full_resolver_charges_no_attempt(relay, lookup, server: Server):
    policy = TargetPolicy(allow_private=True)
    courier = relay(Courier(policy, Resolver(lookup, most=1)))
    stuck = asyncio.create_task(
        http_relay.deliver(context(), "http://a.silent.example/")
    )
    await asked(lookup, 1)

    with pytest.raises(Throttled):
        await deliver(server, url="http://www.other.example/")
    await deliver(server)

    assert len(server.asked) == 1
    stuck.cancel()
    await asyncio.gather(stuck, return_exceptions=True)
    await courier.close()


async def test_host_that_hangs_gets_its_share_of_requests_and_no_more(
    relay, server: Server
):
    held = threading.Event()
    server.write = lambda _: held.wait(100)
    server.status, server.headers = 200, {"content-length": "5"}
    policy = TargetPolicy(allow_private=True, per_host=3)
    courier = relay(Courier(policy, seed=1))
    running = [asyncio.create_task(deliver(server)) for _ in range(3)]
    while len(server.asked) < 3:
        await asyncio.sleep(0.01)

    with pytest.raises(Throttled) as caught:
        await deliver(server)
    other = Server()
    threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
    # Another host, though at the same address.
    await deliver(other, url=f"http://localhost:{other.server_port}/hook")

    assert 1 <= caught.value.after <= 5
    assert len(server.asked) == 3
    assert len(other.asked) == 1
    held.set()
    await asyncio.gather(*running, return_exceptions=True)
    server.write = lambda _: None
    server.status, server.headers = 204, {}
    await deliver(server)
    other.shutdown()
    other.server_close()
    await courier.close()


@pytest.mark.parametrize(
    "code", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENETDOWN]
)
async def test_what_this_machine_lacks_charges_no_attempt(
    code, relay, server: Server, monkeypatch
):
    async def connect(*_: Any, **__: Any) -> Any:
        try:
            raise OSError(code, "this machine")
        except OSError as error:
            raise httpcore.ConnectError("all attempts failed") from error

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect)
    relay(Courier(TargetPolicy(allow_private=True)))

    with pytest.raises(Throttled):
        await deliver(server)


async def test_target_that_refuses_connections_is_charged(relay, server: Server):
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    relay(Courier(TargetPolicy(allow_private=True)))

    with pytest.raises(httpcore.ConnectError):
        await deliver(server, url=f"http://127.0.0.1:{port}/")


# --- targets and headers --------------------------------------------------------------


@pytest.mark.parametrize("address", ["168.63.129.16", "161.26.0.10", "166.9.14.1"])
def test_address_inside_a_cloud_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "xn--a",
        "xn--zzzzz-",
        "xn--99zzz9999999999",
        "xn--",
        "www.xn--0.example",
        "xn--i-7iq.example",
    ],
)
async def test_malformed_xn_name_is_refused_before_anything_is_sent(
    host, relay, server: Server
):
    asked = []

    async def resolve(name: str, port: int) -> list[str]:
        asked.append(name)
        return ["127.0.0.1"]

    courier = relay(Courier(TargetPolicy(allow_private=True), resolve))
    url = f"http://{host}:{server.server_port}/hook"

    with pytest.raises(DeadLetter, match="refused: the URL cannot be read"):
        await deliver(server, url=url)

    assert asked == []
    assert server.asked == []
    await courier.close()


@pytest.mark.parametrize(
    ("host", "raw"),
    [
        ("bücher.example", b"xn--bcher-kva.example"),
        ("xn--bcher-kva.example", b"xn--bcher-kva.example"),
        ("www.xn--ls8h.example", b"www.xn--ls8h.example"),
    ],
)
async def test_international_name_is_delivered_to(host, raw, relay, server: Server):
    async def resolve(name: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    courier = relay(Courier(TargetPolicy(allow_private=True), resolve))

    await deliver(server, url=f"http://{host}:{server.server_port}/hook")

    assert checked_url(TargetPolicy(), f"https://{host}/").raw_host == raw
    assert server.asked[0].headers["host"].startswith(raw.decode())
    await courier.close()


@pytest.mark.parametrize(
    "name",
    [
        *("Forwarded", "Via", "Metadata", "Metadata-Flavor", "Cookie", "Origin"),
        *("X-Original-URL", "X-Rewrite-URL", "X-Real-IP", "X-Forwarded-Host"),
        *("X-HTTP-Method-Override", "X-Aws-Ec2-Metadata-Token", "X-Remote-User"),
        *("True-Client-IP", "CF-Connecting-IP", "X-Shop", "Proxy-Authorization"),
        *("Range", "Max-Forwards", "Alt-Used", "Sec-Fetch-Site", "X-Accel-Redirect"),
    ],
)
def test_header_that_is_not_listed_is_refused(name):
    with pytest.raises(RefusedTargetError, match="header"):
        checked_headers({name: "1"})


@pytest.mark.parametrize(
    "name", ["Authorization", "content-TYPE", "Webhook-Id", "ce-type", "X-Event-Kind"]
)
def test_header_that_is_listed_is_sent(name):
    assert checked_headers({name: "1"}) == {name: "1"}


def test_operator_lists_more_headers_and_never_the_connections():
    policy = TargetPolicy.from_env({"RELAY_ALLOW_HEADERS": "X-Shop, x-shop-*"})

    sent = checked_headers({"x-shop": "1", "X-Shop-Id": "2"}, policy.allow_headers)

    assert sent == {"x-shop": "1", "X-Shop-Id": "2"}
    with pytest.raises(RefusedTargetError):
        checked_headers({"X-Shops": "1"}, policy.allow_headers)


@pytest.mark.parametrize(
    "env",
    [
        {"RELAY_ALLOW_HEADERS": "*"},
        {"RELAY_ALLOW_HEADERS": "x-*"},
        {"RELAY_ALLOW_HEADERS": "Host"},
        {"RELAY_ALLOW_HEADERS": "X Shop"},
        {"RELAY_ALLOW_HEADERS": "x-*-id"},
        {"RELAY_PER_HOST": "0"},
        {"RELAY_PER_HOST": "many"},
        {"RELAY_PER_HOST": "-1"},
    ],
)
def test_setting_of_the_relay_that_cannot_be_is_refused(env):
    with pytest.raises(ConfigError):
        TargetPolicy.from_env(env)


def test_requests_of_a_host_are_set_by_the_operator():
    assert TargetPolicy.from_env({"RELAY_PER_HOST": "7"}).per_host == 7
    assert TargetPolicy.from_env({}).per_host == 25
