"""Health checks over TLS: certificates and names are verified."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import threading
from concurrent import futures

import grpc
import pytest

from stack.tls import make_certificates
from tests.integration.http_servers import Backend

CHECKS = ("http", "tcp", "grpc")


class Health(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda *_: b"\x08\x01")


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("theirs"), name="another-ca")


@pytest.fixture(scope="module")
def ports(ours):
    """Of a server with TLS, by what it speaks."""
    web = Backend()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours.server_cert, ours.server_key)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    rpc = grpc.server(futures.ThreadPoolExecutor(2))
    rpc.add_generic_rpc_handlers((Health(),))
    pair = (ours.server_key.read_bytes(), ours.server_cert.read_bytes())
    port = rpc.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    rpc.start()
    yield {"http": web.server_port, "tcp": web.server_port, "grpc": port}
    rpc.stop(None)
    web.shutdown()
    web.server_close()


def checked(kind, url, *name, trusts):
    """What a check finds in a process that trusts one authority."""
    trusted = str(trusts.ca_cert)
    names = ("SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
    ended = subprocess.run(
        [sys.executable, "-m", "tests.integration.tls_probe", kind, url, *name],
        env=os.environ | dict.fromkeys(names, trusted),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return ended.stdout.strip()


@pytest.mark.parametrize("kind", CHECKS)
def test_a_server_with_a_trusted_certificate_is_well(kind, ports, ours):
    url = f"https://127.0.0.1:{ports[kind]}"
    assert checked(kind, url, trusts=ours) == "well"
    assert checked(kind, url, "localhost", trusts=ours) == "well"


@pytest.mark.parametrize("kind", CHECKS)
def test_a_server_with_a_certificate_of_somebody_else_is_ill(kind, ports, theirs):
    found = checked(kind, f"https://127.0.0.1:{ports[kind]}", trusts=theirs)
    assert "certificate verify failed" in found.lower().replace("_", " ") or (
        kind == "grpc" and found.startswith("UNAVAILABLE")
    )


@pytest.mark.parametrize("kind", CHECKS)
def test_a_server_with_another_name_is_ill(kind, ports, ours):
    url = f"https://127.0.0.1:{ports[kind]}"
    assert checked(kind, url, "render.internal", trusts=ours) != "well"


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_server_with_tls_that_is_checked_without_is_ill(kind, ports, ours):
    assert checked(kind, f"http://127.0.0.1:{ports[kind]}", trusts=ours) != "well"
