"""What each answer of a real HTTP server means for the job."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

import httpcore
import pytest

from shifter import Context, DeadLetter, Retry, Throttled
from shifter.adapters.system import SystemClock
from shifter.model.time import EpochMs
from workers import http_relay
from workers.http_courier import Courier, DeliveryError, Reply
from workers.http_fields import retry_after_s
from workers.http_target import TargetPolicy

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"


class Asked(NamedTuple):
    """One request as the server saw it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    peer: int


class Server(http.server.ThreadingHTTPServer):
    """Answers what it is told to; keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.status, self.headers = 204, dict[str, str]()
        self.write: Callable[[Any], None] = lambda _wfile: None
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what some tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _answer(self) -> None:
        length = int(self.headers.get("content-length", "0"))
        body, lower = self.rfile.read(length), dict[str, str]()
        for name, value in self.headers.items():
            lower[name.lower()] = value
        peer = self.client_address[1]
        self.server.asked.append(Asked(self.command, self.path, lower, body, peer))
        if self.server.status == 0:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(self.server.status)
        for name, value in {"content-length": "0", **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.server.write(self.wfile)

    do_DELETE = do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Keep stderr clean."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
async def courier(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Courier]:
    pair = ("127.0.0.1", server.server_port)
    courier = Courier(TargetPolicy(allow_hosts=frozenset({pair})))
    monkeypatch.setattr(http_relay, "courier", courier)
    yield courier
    await courier.close()


def context(*, remaining_s: float = 30, key: str | None = None) -> Context:
    clock = SystemClock()
    return Context(
        job_id="01890f3e-0000-7000-8000-000000000001",
        job_type="deliver",
        attempt=2,
        fence=7,
        limit_ms=EpochMs(clock.epoch_ms() + int(remaining_s * 1_000)),
        clock=clock,
        idempotency_key=key,
        traceparent=TRACE,
    )


async def deliver(server: Server, **arguments: Any) -> None:
    arguments = {"url": server.url, **arguments}
    await http_relay.deliver(arguments.pop("ctx", context()), **arguments)


async def test_delivery_carries_payload_key_time_and_trace(server: Server) -> None:
    ctx = context(remaining_s=12, key='order "7"')

    await deliver(server, ctx=ctx, headers={"X-Custom": "yes"}, body={"a": [1, "ü"]})

    asked = server.asked[0]
    assert (asked.method, asked.path) == ("POST", "/hook")
    assert json.loads(asked.body) == {"a": [1, "ü"]}
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["idempotency-key"] == r'"order \"7\""'
    assert 5 < float(asked.headers["x-request-timeout"]) <= 12
    assert asked.headers["traceparent"] == TRACE
    assert asked.headers["x-custom"] == "yes"
    assert asked.headers["host"] == f"127.0.0.1:{server.server_port}"


async def test_job_id_is_the_key_where_none_was_given(server: Server) -> None:
    await deliver(server)

    key = server.asked[0].headers["idempotency-key"]
    assert key == '"01890f3e-0000-7000-8000-000000000001"'


@pytest.mark.parametrize("method", ["DELETE", "GET", "HEAD", "patch", "POST", "PUT"])
async def test_method_is_sent(server: Server, method: str) -> None:
    await deliver(server, method=method)

    assert server.asked[0].method == method.upper()


async def test_text_is_sent_as_it_is(server: Server) -> None:
    await deliver(server, body="grün\n")
    await deliver(server, body="<a/>", headers={"Content-Type": "text/xml"})

    plain, xml = server.asked
    assert plain.body == "grün\n".encode()
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    assert xml.headers["content-type"] == "text/xml"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_2xx_is_done(server: Server, status: int) -> None:
    server.status = status

    await deliver(server)

    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "status", [301, 302, 303, 304, 307, 308, 400, 401, 404, 410, 422]
)
async def test_3xx_and_4xx_are_dead_letters_that_say_the_status(
    server: Server, status: int
) -> None:
    server.status = status
    server.headers = {"location": "http://169.254.169.254/"}

    with pytest.raises(DeadLetter) as caught:
        await deliver(server)

    assert caught.value.reason == f"HTTP {status} from 127.0.0.1"
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [408, 425])
async def test_408_and_425_are_tried_again_by_the_jobs_backoff(
    server: Server, status: int
) -> None:
    server.status = status

    with pytest.raises(Retry) as caught:
        await deliver(server)

    assert caught.value.after is None


@pytest.mark.parametrize(
    ("field", "after_s"),
    [
        ("7", 7.0),
        ("0", 1.0),
        ("99999", 3_600.0),
        ("-5", 5.0),
        ("soon", 5.0),
        ("\u0667", 5.0),
        (EPOCH, 1.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3_600.0),
    ],
)
async def test_429_waits_as_asked_within_bounds(
    server: Server, field: str, after_s: float
) -> None:
    server.status = 429
    server.headers = {"retry-after": field.encode().decode("latin-1")}

    with pytest.raises(Throttled) as caught:
        await deliver(server)

    assert caught.value.after == after_s


async def test_429_without_a_time_waits_a_default(server: Server) -> None:
    server.status = 429

    with pytest.raises(Throttled) as caught:
        await deliver(server)

    assert caught.value.after == 5.0


async def test_503_with_a_time_is_tried_again_then(server: Server) -> None:
    server.status, server.headers = 503, {"retry-after": "9"}

    with pytest.raises(Retry) as caught:
        await deliver(server)

    assert caught.value.after == 9.0


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
async def test_other_5xx_is_a_failure(server: Server, status: int) -> None:
    server.status = status

    with pytest.raises(DeliveryError, match=f"HTTP {status} from"):
        await deliver(server)


async def test_broken_connection_is_a_failure(server: Server) -> None:
    server.status = 0

    with pytest.raises(httpcore.RemoteProtocolError):
        await deliver(server)


async def test_closed_port_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    courier = Courier(TargetPolicy(allow_private=True))
    monkeypatch.setattr(http_relay, "courier", courier)

    with pytest.raises(httpcore.ConnectError):
        await http_relay.deliver(context(), url=f"http://127.0.0.1:{port}/")

    await courier.close()


async def test_refused_target_is_a_dead_letter_with_its_reason(server: Server) -> None:
    with pytest.raises(DeadLetter, match=r"refused: .*127\.0\.0\.1") as caught:
        await deliver(server, url="http://127.0.0.1/")

    assert caught.value.__cause__ is not None
    assert server.asked == []


async def test_connection_is_used_again(server: Server) -> None:
    server.status, server.headers = 200, {"content-length": "2"}
    server.write = lambda wfile: wfile.write(b"ok")

    await deliver(server)
    await deliver(server)

    assert len({asked.peer for asked in server.asked}) == 1


async def test_endless_body_is_not_read_to_its_end(server: Server) -> None:
    written = []

    def endless(wfile: Any) -> None:
        for _ in range(100_000):
            wfile.write(b"a" * 65_536)
            written.append(65_536)

    server.status, server.write = 200, endless
    server.headers = {"content-length": str(10**12)}

    await deliver(server)

    assert sum(written) < 50_000_000


async def test_endless_head_is_a_failure(server: Server) -> None:
    server.status = 200
    server.headers = {f"x-{number}": "a" * 8_000 for number in range(50)}

    with pytest.raises(httpcore.RemoteProtocolError):
        await deliver(server)


async def test_cookies_of_one_job_do_not_reach_another(server: Server) -> None:
    server.headers = {"set-cookie": "session=secret"}

    await deliver(server)
    await deliver(server)

    assert "cookie" not in server.asked[1].headers


async def test_proxy_and_netrc_of_the_environment_are_not_used(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    await deliver(server)

    assert "authorization" not in server.asked[0].headers


class TlsServer(NamedTuple):
    """A server whose certificate is for ``hooks.example`` alone."""

    port: int
    asked: list[Asked]


@pytest.fixture
def tls_server(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> TlsServer:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc"),
            *("-subj", "/CN=test", "-addext", "subjectAltName=DNS:hooks.example"),
            *("-days", "2", "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    return TlsServer(server.server_port, server.asked)


async def test_certificate_must_be_for_the_name_though_the_address_is_dialled(
    tls_server: TlsServer,
) -> None:
    async def here(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    courier = Courier(TargetPolicy(allow_private=True), here)
    port = tls_server.port

    reply = await courier.send("POST", f"https://hooks.example:{port}/a", {}, 1, {})
    with pytest.raises(httpcore.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        await courier.send("POST", f"https://other.example:{port}/b", {}, 1, {})
    await courier.close()

    assert reply.status == 204
    assert [asked.path for asked in tls_server.asked] == ["/a"]
    assert tls_server.asked[0].headers["host"] == f"hooks.example:{port}"


def test_date_counts_from_the_targets_own_clock() -> None:
    reply = Reply("h", 429, formatdate(1_000_030, usegmt=True), formatdate(1_000_000))

    assert retry_after_s(reply, now_s=5.0) == 30.0
    assert retry_after_s(reply._replace(date=None), now_s=1_000_010.0) == 20.0
    assert retry_after_s(reply._replace(date="noon"), now_s=1_000_010.0) == 20.0
