"""Health checks go on in the child of a fork."""

from __future__ import annotations

import subprocess
import sys
from concurrent import futures

import grpc
import pytest

from tests.integration.http_servers import backends


class Health(grpc.GenericRpcHandler):
    def __init__(self):
        self.answer = b"\x08\x01"

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda *_: self.answer)


@pytest.fixture
def http():
    with backends(3) as servers:

        def becomes_ill():
            servers[0].statuses = [503]

        yield [server.address for server in servers], becomes_ill


@pytest.fixture
def rpc():
    healths, servers, addresses = [Health() for _ in range(3)], [], []
    for health in healths:
        server = grpc.server(futures.ThreadPoolExecutor(2))
        server.add_generic_rpc_handlers((health,))
        addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        server.start()
        servers.append(server)

    def becomes_ill():
        healths[0].answer = b"\x08\x02"

    yield addresses, becomes_ill
    for server in servers:
        server.stop(None)


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_both_sides_of_a_fork_check_their_endpoints(kind, request, tmp_path):
    addresses, becomes_ill = request.getfixturevalue({"grpc": "rpc"}.get(kind, kind))
    log = f"sqlite:///{tmp_path}/log.db"
    command = [sys.executable, "-m", "tests.integration.forked_checks", kind, log]
    service = subprocess.Popen(
        [*command, *addresses, "127.0.0.1:1"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert service.stdout.readline() == "forked\n"
        becomes_ill()
        said, _ = service.communicate(timeout=200)
    finally:
        service.kill()
        service.wait()

    assert sorted(said.split()) == ["child", "parent"]
    assert service.returncode == 0
