"""A cluster of three servers: claims are spread over all, a fleet's state is on one."""

from __future__ import annotations

import contextlib
import time
import uuid

import pytest
from redis import Redis

from shifter.adapters.redis.claims import RedisClaimStore
from shifter.adapters.redis.client import open_redis
from shifter.adapters.redis.fleet import RedisFleetStore, RedisPresenceStore
from shifter.model.claim import ClaimRequest, ClaimUpdate, Finished, Granted, JobState
from shifter.model.fleet import Proposal
from shifter.testing.conformance.fleet import fleet_report
from shifter.testing.conformance.presence import report_of
from stack.process import free_port
from stack.redis import RedisServer

pytestmark = pytest.mark.redis

SLOTS = 16_384
NODES = 3


@pytest.fixture(scope="module")
def nodes():
    """Servers that have a third of the hash slots each, and know each other."""
    with contextlib.ExitStack() as held:
        servers, buses = [], []
        for _ in range(NODES):
            # By default the bus has the port plus 10,000, which may not exist.
            buses.append(free_port())
            lines = ["cluster-enabled yes", f"cluster-port {buses[-1]}"]
            servers.append(held.enter_context(RedisServer(further=lines)))
        clients = [
            held.enter_context(Redis(port=server.port, socket_timeout=20))
            for server in servers
        ]
        for number, client in enumerate(clients):
            first, end = number * SLOTS // NODES, (number + 1) * SLOTS // NODES
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            where = "127.0.0.1", servers[0].port, buses[0]
            if number:
                client.execute_command("CLUSTER", "MEET", *where)
        until = time.monotonic() + 60
        for client in clients:
            while not is_whole(client):
                assert time.monotonic() < until
                time.sleep(0.05)
        yield clients
        for client in clients:
            assert "errorstat_CROSSSLOT" not in client.info("errorstats")


def is_whole(client):
    info = client.execute_command("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info


@pytest.fixture
async def opened(nodes):
    port = nodes[0].connection_pool.connection_kwargs["port"]
    client = open_redis(f"redis+cluster://127.0.0.1:{port}", timeout_s=20)
    yield client
    await client.aclose()


def keys(nodes, namespace, room):
    return [
        list(node.scan_iter(f"shifter:{{{namespace}:*}}:{room}:*")) for node in nodes
    ]


async def test_claims_are_spread_over_all_nodes_and_are_exclusive(
    nodes, opened, namespace
):
    store = RedisClaimStore(opened, namespace)
    ids = [str(uuid.uuid4()) for _ in range(300)]
    asked = [ClaimRequest(job_id, job_id, 1, 1) for job_id in ids]
    granted = await store.claim(asked, owner="w1", lease_ms=60_000)
    ends = [
        ClaimUpdate(job_id, answer.fence, JobState.DONE, 1, 1, 60_000)
        for job_id, answer in zip(ids, granted, strict=True)
    ]
    ended = await store.finish(ends)
    again = await store.claim(asked, owner="w2", lease_ms=60_000)

    assert {type(answer) for answer in granted} == {Granted}
    assert all(ended)
    assert set(again) == {Finished(JobState.DONE)}
    held = [len(found) for found in keys(nodes, namespace, "claim")]
    assert sum(held) == 300
    # Sixteen hash tags: each node has some of them.
    assert min(held) > 0


async def test_the_state_of_a_fleet_is_on_one_node(nodes, opened, namespace):
    fleet = RedisFleetStore(opened, namespace)
    presence = RedisPresenceStore(opened, namespace)
    for number in range(40):
        await fleet.sync(fleet_report(f"p{number:02d}"))
        await presence.report(report_of(f"w{number:02d}"), keep_ms=60_000)
    change = Proposal("c", b"", b"1")
    view = await fleet.sync(fleet_report("p07", proposals=[change]))
    other = await fleet.sync(fleet_report("p08"))

    assert (list(view.accepted), other.cells) == ([True], {"c": b"1"})
    assert view.load.processes >= 17
    assert view.place == 7
    assert len(await presence.workers()) == 40
    assert sorted(bool(found) for found in keys(nodes, namespace, "fleet")) == [
        *(False, False, True)
    ]
