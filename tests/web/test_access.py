"""Who is let in, with which role, and from where."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shifter.errors import ConfigError
from shifter.web import Access
from tests.web.conftest import OPERATE, READ

pytestmark = pytest.mark.usefixtures("lanes")
TOKENS = Access(operate_token=OPERATE, read_token=READ)
PROXY = Access(
    user_header="X-User", proxies=("10.0.0.0/8", "fd00::/8"), operators=("ann",)
)


@pytest.mark.parametrize(
    ("peer", "host", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8080", 200),
        ("::1", "[::1]:8080", 200),
        ("::ffff:127.0.0.1", "localhost", 200),
        ("10.0.0.7", "127.0.0.1:8080", 403),
        ("127.0.0.1", "shop.example", 403),
        ("127.0.0.1", "localhost.evil.example", 403),
        ("", "localhost", 403),
    ],
)
async def test_an_open_page_answers_only_this_machine_by_its_local_name(
    opened, peer, host, status
):
    async with opened(peer=peer) as client:
        answer = await client.get("/", headers={"host": host})

    assert answer.status_code == status


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded", "via"])
async def test_an_open_page_refuses_what_came_through_a_proxy(opened, name):
    async with opened() as client:
        answer = await client.get("/", headers={name: "10.0.0.1"})

    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/", "/api/status", "/metrics", "/events", "/lanes"])
async def test_without_a_token_nothing_of_the_namespace_is_shown(opened, path):
    async with opened(TOKENS) as client:
        answer = await client.get(path)

    assert answer.status_code == 401
    assert "mail" not in answer.text


@pytest.mark.parametrize(
    ("token", "status"), [(READ, 200), (OPERATE, 200), ("x" * 18, 401), ("", 401)]
)
async def test_a_bearer_token_opens_the_status(opened, token, status):
    async with opened(TOKENS, peer="10.9.9.9", base="https://ops.example") as client:
        headers = {"authorization": f"Bearer {token}"}
        answer = await client.get("/api/status", headers=headers)

    assert answer.status_code == status


async def test_a_browser_is_sent_to_the_login_and_comes_back_with_its_role(opened):
    async with opened(TOKENS, base="https://ops.example") as client:
        first = await client.get("/lanes", headers={"accept": "text/html"})
        assert first.headers["location"] == "/login?next=/lanes"
        form = await client.get(first.headers["location"])
        answer = await _log_in(client, form.text, READ)
        assert (answer.status_code, answer.headers["location"]) == (303, "/lanes")
        page = await client.get("/lanes")

    assert "HttpOnly; SameSite=Strict; Secure" in answer.headers["set-cookie"]
    assert 'Ann <span class="role">read</span>' in page.text


async def test_a_wrong_token_is_no_login(opened):
    async with opened(TOKENS) as client:
        form = await client.get("/login")
        answer = await _log_in(client, form.text, "w" * 20)
        page = await client.get("/lanes")

    assert (answer.status_code, page.status_code) == (401, 401)


@pytest.mark.parametrize("back", ["https://evil.example", "//evil.example", "x"])
async def test_a_login_leads_to_no_other_host(opened, back):
    async with opened(TOKENS) as client:
        form = await client.get("/login")
        answer = await _log_in(client, form.text, READ, back=back)

    assert answer.headers["location"] == "/"


async def test_a_cookie_that_this_process_did_not_sign_opens_nothing(opened):
    async with opened(TOKENS) as client:
        form = await client.get("/login")
        answer = await _log_in(client, form.text, OPERATE)
        cookie = client.cookies["shifter_web"]
        assert answer.status_code == 303
    body, _, signature = cookie.rpartition(".")
    forged = bytes.fromhex(body).replace(b"Ann", b"Bob").hex()
    for text in (f"{forged}.{signature}", cookie, f"{body}.", body, "."):
        async with opened(TOKENS) as client:  # another process, with another key
            answer = await client.get(
                "/lanes", headers={"cookie": f"shifter_web={text}"}
            )
            assert answer.status_code == 401


@pytest.mark.parametrize(
    ("peer", "headers", "status", "role"),
    [
        ("10.1.2.3", [("X-User", "ann")], 200, "operate"),
        ("fd00::1", [("x-user", "bob")], 200, "read"),
        ("192.0.2.1", [("X-User", "ann")], 401, ""),
        ("10.1.2.3", [], 401, ""),
        ("10.1.2.3", [("X-User", "ann"), ("X-User", "bob")], 401, ""),
        ("10.1.2.3", [("X-User", "bob, ann")], 401, ""),
    ],
)
async def test_a_header_is_believed_from_the_proxy_alone(
    opened, peer, headers, status, role
):
    async with opened(PROXY, peer=peer) as client:
        answer = await client.get("/lanes", headers=headers)

    assert answer.status_code == status
    assert f'<span class="role">{role}</span>' in answer.text or not role


@pytest.mark.parametrize(
    "given",
    [
        {"operate_token": "short"},
        {"operate_token": OPERATE, "read_token": OPERATE},
        {"user_header": "X-User"},
        {"proxies": ("10.0.0.1",)},
        {"user_header": "X-User", "proxies": ("everywhere",)},
    ],
)
def test_access_that_would_be_no_protection_is_refused(given):
    with pytest.raises(ConfigError):
        Access(**given)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "203.0.113.7:0"])
def test_another_address_is_refused_without_authentication(listen, tmp_path):
    command = [sys.executable, "-m", "shifter.cli", "web", "any:app", "--listen"]
    done = subprocess.run(
        [*command, listen], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "--listen cannot be used" in done.stderr
    assert "--operate-token" in done.stderr


async def _log_in(client, page, token, *, back=None):
    csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
    fields = {"csrf": csrf, "name": "Ann", "token": token}
    action = page.partition('action="')[2].partition('"')[0].replace("&amp;", "&")
    url = action if back is None else f"/login?next={back}"
    origin = str(client.base_url).rstrip("/")
    return await client.post(url, data=fields, headers={"origin": origin})
