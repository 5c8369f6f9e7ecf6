"""Jobs of the relay that go to one of several servers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import pytest

from shifter import ConfigError, DeadLetter, Retry, Shifter, Throttled
from shifter.testing import TestApp
from tests.integration.http_servers import backends
from tests.workers.test_http_relay import context
from workers import http_relay
from workers.http_resolver import Resolver
from workers.http_target import TargetPolicy
from workers.http_upstreams import Upstreams

PUBLIC = "93.184.215.14"


class Names:
    """A resolver whose answers may be changed; some names are never answered."""

    def __init__(self, **known):
        self.known, self.asked = known, []
        self.silent, self.go_on = set(), threading.Event()

    def __call__(self, host):
        self.asked.append(host)
        if host in self.silent:
            self.go_on.wait(60)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.known[host]


class Relay:
    """The relay's job with upstreams, in an app of its own."""

    def __init__(self, monkeypatch, upstreams, *, trusted=(), names=None, **options):
        self.app = Shifter("relay")
        self.policy = TargetPolicy(allow_hosts=frozenset(trusted), **options)
        env = {"RELAY_UPSTREAMS": upstreams}
        self.upstreams = Upstreams(self.app, env, self.policy)
        for upstream in self.upstreams._by_name.values():
            if names is not None:
                upstream._resolve = upstream.courier._resolve = Resolver(names)
        self.test = TestApp(self.app)
        monkeypatch.setattr(http_relay, "upstreams", self.upstreams)

    async def __aenter__(self):
        await self.test.__aenter__()
        return self

    async def __aexit__(self, *exc):
        for upstream in self.upstreams._by_name.values():
            await upstream.courier.close()
        await self.test.__aexit__(*exc)

    async def send(self, url="http://render/hook", **arguments):
        await http_relay.deliver(context(), url, **arguments)

    def due(self):
        """Let the next job look the names up again."""
        for upstream in self.upstreams._by_name.values():
            upstream._due_at = 0.0

    def paused_s(self, name="render"):
        """For how long each server gets no requests."""
        dependency = self.upstreams._by_name[name]._dependency
        return [view.out_s for view in dependency.endpoint_views()]

    def urls(self, name="render"):
        return list(self.upstreams._by_name[name]._urls)


def listing(servers):
    return "render=" + "|".join(server.address for server in servers)


def pairs(servers):
    return [("127.0.0.1", server.server_port) for server in servers]


async def test_jobs_go_to_all_servers_of_an_upstream_and_keep_path_and_body(
    monkeypatch,
):
    with backends(3) as servers:
        members = "|".join(f"http://{server.address}/v1" for server in servers)
        relay = Relay(monkeypatch, f"render={members}", trusted=pairs(servers))
        async with relay:
            for _ in range(30):
                await relay.send("http://render/pages?of=7", body="all")
        seen = [server.requests for server in servers]
        hosts = {requests[0][2]["host"] for requests in seen}
        assert hosts == {server.address for server in servers}
    assert sum(map(len, seen)) == 30
    for method, path, headers, body in seen[0]:
        assert (method, path, body) == ("POST", "/v1/pages?of=7", b"all")
        assert headers["Idempotency-Key"]


@pytest.mark.parametrize("status", [500, 503, 408])
async def test_a_server_that_fails_is_hardly_noticed(monkeypatch, status):
    with backends(3) as servers:
        servers[0].statuses = [status]
        relay = Relay(monkeypatch, listing(servers), trusted=pairs(servers))
        async with relay:
            for _ in range(20):
                await relay.send()
        made = [len(server.requests) for server in servers]
    assert made[0] <= 5
    assert made[1] + made[2] == 20


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_asks_for_a_pause_gets_one_and_the_others_are_used(
    monkeypatch, status
):
    with backends(2) as servers:
        busy, fine = servers
        busy.statuses, busy.headers = [status], {"retry-after": "60"}
        relay = Relay(monkeypatch, listing(servers), trusted=pairs(servers))
        async with relay:
            for _ in range(10):
                await relay.send()
            assert len(busy.requests) == 1
            assert relay.paused_s() == [60, 0]
            fine.statuses, fine.headers = [status], {"retry-after": "7"}
            signal = Throttled if status == 429 else Retry
            with pytest.raises(signal) as raised:
                await relay.send()
    assert raised.value.after in (7, 60)


async def test_an_answer_that_each_server_would_give_is_a_dead_letter_at_once(
    monkeypatch,
):
    with backends(2) as servers:
        for server in servers:
            server.statuses = [404]
        relay = Relay(monkeypatch, listing(servers), trusted=pairs(servers))
        async with relay:
            with pytest.raises(DeadLetter, match="HTTP 404"):
                await relay.send()
        assert sum(len(server.requests) for server in servers) == 1


async def test_a_job_of_its_own_fault_is_refused_and_no_server_is_blamed(monkeypatch):
    with backends(1) as servers:
        relay = Relay(monkeypatch, listing(servers), trusted=pairs(servers))
        async with relay:
            for _ in range(8):
                with pytest.raises(DeadLetter, match="header"):
                    await relay.send(headers={"Host": "x"})
            await relay.send()
        assert len(servers[0].requests) == 1


async def test_a_server_has_its_share_of_requests_at_once(monkeypatch):
    """What is too much waits, uncharged, and no server is blamed for it."""
    with backends(1) as servers:
        servers[0].stalls = True
        options = {"trusted": pairs(servers), "per_host": 2}
        async with Relay(monkeypatch, listing(servers), **options) as relay:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(relay.send()) for _ in range(2)]
                while len(servers[0].requests) < 2:
                    await asyncio.sleep(0.01)
                with pytest.raises(Throttled) as raised:
                    await relay.send()
                assert relay.paused_s() == [0]
                for task in tasks:
                    task.cancel()
            servers[0].stalls = False
            await relay.send()
    assert 1 <= raised.value.after <= 5


async def test_an_address_that_is_not_public_is_left_out(monkeypatch):
    """However it comes: written down, or as one address of a name among public ones."""
    names = Names(mixed=[PUBLIC, "10.0.0.7", "169.254.169.254", "::1"])
    upstreams = "render=mixed:80|127.0.0.1:80|[::1]:80"
    async with Relay(monkeypatch, upstreams, names=names) as relay:
        await relay.upstreams._by_name["render"]._renew()
        assert relay.urls() == [f"http://{PUBLIC}:80"]


async def test_an_upstream_without_an_allowed_address_is_refused(monkeypatch):
    names = Names(inside=["10.0.0.7"])
    async with Relay(monkeypatch, "render=inside:80", names=names) as relay:
        with pytest.raises(DeadLetter, match=r"refused: 10\.0\.0\.7"):
            await relay.send()
        assert relay.urls() == []


async def test_a_name_that_turns_to_a_refused_address_keeps_its_last_one(monkeypatch):
    names = Names(hooks=[PUBLIC])
    async with Relay(monkeypatch, "render=hooks:80", names=names) as relay:
        upstream = relay.upstreams._by_name["render"]
        await upstream._renew()
        names.known["hooks"] = ["169.254.169.254"]
        relay.due()
        await upstream._renew()
        assert names.asked == ["hooks", "hooks"]
        assert relay.urls() == [f"http://{PUBLIC}:80"]


async def test_the_connection_checks_the_address_again(monkeypatch):
    """Whatever came into the list."""
    with backends(1) as servers:
        relay = Relay(monkeypatch, "render=hooks:80", names=Names(hooks=[PUBLIC]))
        async with relay:
            upstream = relay.upstreams._by_name["render"]
            await upstream._renew()
            target = next(iter(upstream._targets.values()))
            upstream._targets = dict.fromkeys(
                upstream._targets, target._replace(url=f"http://{servers[0].address}")
            )
            with pytest.raises(DeadLetter, match=r"127\.0\.0\.1, which is not public"):
                await relay.send()
        assert servers[0].requests == []


async def test_a_trusted_name_is_reached_and_gives_its_address_to_nobody_else(
    monkeypatch,
):
    with backends(1) as servers:
        port = servers[0].server_port
        relay = Relay(
            monkeypatch,
            f"render=inside:{port}",
            trusted=[("inside", port)],
            names=Names(inside=["127.0.0.1"]),
            ports=frozenset({80, port}),
        )
        courier = http_relay.Courier(relay.policy)
        monkeypatch.setattr(http_relay, "courier", courier)
        async with relay:
            await relay.send()
            with pytest.raises(DeadLetter, match="not public"):
                await relay.send(f"http://127.0.0.1:{port}/hook")
        await courier.close()
        [(_, _, headers, _)] = servers[0].requests
    assert headers["host"] == f"inside:{port}"


async def test_a_resolver_that_never_answers_holds_no_job_once_there_is_a_list(
    monkeypatch,
):
    monkeypatch.setattr("workers.http_upstreams._RENEW_S", 60.0)
    names = Names(inside=["127.0.0.1"])
    with backends(1) as servers, contextlib.ExitStack() as stack:
        stack.callback(names.go_on.set)
        port = servers[0].server_port
        upstreams, trusted = f"render=inside:{port}", [("inside", port)]
        options = {"trusted": trusted, "names": names}
        async with Relay(monkeypatch, upstreams, **options) as relay:
            await relay.send()
            names.silent.add("inside")
            relay.due()
            async with asyncio.TaskGroup() as group:
                slow = group.create_task(relay.send())
                await asyncio.sleep(0)
                for _ in range(5):
                    await relay.send()
                assert not slow.done()
                names.go_on.set()
        assert len(servers[0].requests) == 7


async def test_a_name_that_does_not_exist_costs_a_job_no_attempt(monkeypatch):
    async with Relay(monkeypatch, "render=gone:80", names=Names()) as relay:
        with pytest.raises(Throttled):
            await relay.send()


async def test_all_servers_down_is_the_failure_of_the_job(monkeypatch):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        trusted = [("127.0.0.1", port)]
        async with Relay(
            monkeypatch, f"render=127.0.0.1:{port}", trusted=trusted
        ) as relay:
            with pytest.raises(Exception, match="connection") as raised:
                await relay.send()
    assert not isinstance(raised.value, DeadLetter | Throttled)


@pytest.mark.parametrize(
    "text",
    [
        *("render", "render=", "=a:1", "Render=a:1", "render=a", "render=ftp://a:1"),
        *("render=a:0", "render=a:99999", "render=http://u:p@a", "render=http://a/?q"),
        "render=a:1,render=b:1",
    ],
)
def test_a_wrong_list_of_upstreams_is_one_error_that_names_the_variable(text):
    with pytest.raises(ConfigError) as raised:
        Upstreams(Shifter("relay"), {"RELAY_UPSTREAMS": text}, TargetPolicy())
    assert raised.value.field == "RELAY_UPSTREAMS"


def test_only_the_name_alone_is_an_upstream():
    env = {"RELAY_UPSTREAMS": "render=a:1|https://b/v1, hooks=[::1]:8080"}
    upstreams = Upstreams(Shifter("relay"), env, TargetPolicy())
    assert upstreams.of("http://render/x") is upstreams.of("http://render?q=1")
    assert upstreams.of("http://hooks") is not None
    for url in (
        "https://render/",
        "http://render:80/",
        "http://render.test/",
        "render",
    ):
        assert upstreams.of(url) is None
