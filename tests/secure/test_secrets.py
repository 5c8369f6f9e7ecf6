"""Where secrets may come from, what may not be set, and that nobody ever sees one."""

from __future__ import annotations

import os
import shlex
import stat
from urllib.parse import quote

import pytest

from tests.secure.shell import CANARY, Shell, assert_clear

pytestmark = [
    pytest.mark.secure,
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.timeout(300),
]

PASSWORD = "SHIFTER_KAFKA__SASL_PASSWORD"


def from_url(shell: Shell) -> dict[str, str | None]:
    url = shell.log_url(sasl_password=shell.world.security.users["shop"])
    return {"SHIFTER_LOG": url, f"{PASSWORD}_FILE": None}


def from_login(shell: Shell) -> dict[str, str | None]:
    users, kafka = shell.world.security.users, shell.world.kafka
    login = f"shop:{quote(users['shop'], safe='')}"
    url = shell.log_url(sasl_username=None).replace("://", f"://{login}@")
    assert kafka.bootstrap in url
    return {"SHIFTER_LOG": url, f"{PASSWORD}_FILE": None}


def from_environment(shell: Shell) -> dict[str, str | None]:
    return {PASSWORD: shell.world.security.users["shop"], f"{PASSWORD}_FILE": None}


def from_secret_files(shell: Shell) -> dict[str, str | None]:
    return {
        "SHIFTER_LOG": None,
        "SHIFTER_LOG_FILE": shell.secret_file(shell.log_url(), "log"),
        "SHIFTER_STATE": None,
        "SHIFTER_STATE_FILE": shell.secret_file(shell.state_url(), "state"),
    }


def from_config_file(shell: Shell) -> dict[str, str | None]:
    password = shell.world.security.users["shop"]
    table = f"state = '{shell.state_url()}'\n[kafka]\nsasl_password = '{password}'\n"
    path = shell.secret_file(table, "shop.toml")
    return {
        "SHIFTER_CONFIG": path,
        "SHIFTER_STATE": None,
        f"{PASSWORD}_FILE": None,
    }


@pytest.mark.parametrize(
    "source",
    [from_url, from_login, from_environment, from_secret_files, from_config_file],
)
def test_credentials_are_taken_to_the_letter_from(ready, source):
    found = ready.ok("doctor", "--json", **source(ready)).json()["findings"]

    status = {row["name"]: row["status"] for row in found}
    assert (status["log"], status["state"]) == ("ok", "ok")
    assert CANARY not in str(found)


REFUSED = [
    "plugin_library_paths",
    "sasl_kerberos_kinit_cmd",
    "sasl_oauthbearer_token_endpoint_url",
    "ssl_engine_location",
    "ssl_providers",
]


@pytest.mark.parametrize("name", REFUSED)
def test_a_property_that_becomes_code_is_refused_by_name_from_anywhere(shell, name):
    marker = shell.folder / "ran"
    value = f"/bin/touch {marker} {CANARY}"
    toml = shell.secret_file(f"[kafka]\n{name} = '{value}'\n", "bad.toml")
    sources = [
        {"SHIFTER_LOG": f"{shell.log_url()}&{name}={quote(value, safe='')}"},
        {f"SHIFTER_KAFKA__{name.upper()}": value},
        {f"SHIFTER_KAFKA__{name.upper()}_FILE": shell.secret_file(value, "value")},
        {"SHIFTER_CONFIG": toml},
    ]

    for source in sources:
        done = shell.run("status", **source)
        assert_clear(done, 78, name.replace("_", "."), "load or run code")
    assert not marker.exists()


# --- nobody ever sees one -----------------------------------------------------------

LEAKY = '''
"""An app whose job fails with what a careless author may put into an error."""

from __future__ import annotations

import os

from shifter import Shifter

app = Shifter(os.environ["TEST_NAMESPACE"])


@app.job(attempts=1)
async def fail(number: int) -> None:
    raise ValueError(f"no luck with {app.settings} {app!r}")


@app.job(attempts=1, isolate="process", timeout="10s")
def crash(number: int) -> None:
    raise ValueError(f"no luck with {app.settings}")
'''
JOB = "018f0000-0000-7000-8000-000000000001"
GOOD = [
    "config show --origin",
    "config show --json",
    "doctor leaky:app --json",
    "doctor leaky:app",
    "topics diff leaky:app",
    "topics apply leaky:app --json",
    "status",
    "status --json",
    "submit leaky:app fail --json '{\"number\": 1}'",
    "submit leaky:app crash --json '{\"number\": 1}'",
    "work leaky:app --burst",
    "dlt list default",
    "dlt show default 0/0",
    "dlt show default 0/0 --json",
    f"job show {JOB}",
    f"job cancel {JOB} --json",
    "version --json",
    "--help",
    "work --help",
]
"""A session of one user; those of the app's topics come first."""


def test_no_verb_shows_a_secret_not_even_in_a_debug_log_or_a_dead_letter(shell):
    (shell.folder / "leaky.py").write_text(LEAKY)
    everywhere = from_url(shell) | {
        "SHIFTER_LOG_LEVEL": "debug",
        "SHIFTER_LOG_FORMAT": "json",
        "SHIFTER_TRACEBACK": "1",
        "SHIFTER_KAFKA__SSL_KEY_PASSWORD": f"{CANARY}-key",
        "PYTHONPATH": f"{shell.environ()['PYTHONPATH']}{os.pathsep}{shell.folder}",
    }

    codes = {
        verb: shell.run(*shlex.split(verb), **everywhere).code
        for verb in [GOOD[5], *GOOD]
    }

    group = shell.letters()
    assert sum(found["count"] for found in group) == 2
    assert "no luck with" in group[0]["message"]
    assert_unseen(shell)
    assert codes["work leaky:app --burst"] == 0
    assert 70 not in codes.values()


# Every verb in a way that fails, and what is changed for it.
def bad_ways(shell: Shell) -> list[tuple[str, dict[str, str | None]]]:
    users = shell.world.security.users
    password = users["shop"]
    url = shell.log_url(sasl_password=password)
    wrong = {f"{PASSWORD}_FILE": shell.secret_file(f"{CANARY}-x")}
    raw = f"kafka://shop:{password}@{shell.world.kafka.bootstrap}/"
    return [
        # the URL itself is wrong
        ("status", {"SHIFTER_LOG": raw}),
        ("status", {"SHIFTER_LOG": url.replace("kafka://", "kafak://")}),
        ("status", {"SHIFTER_LOG": f"{url}&sasl_password={CANARY}"}),
        ("status", {"SHIFTER_LOG": url + "&sasl_paswsord=" + CANARY}),
        ("config show", {"SHIFTER_STATE": f"redis://shop:{password}@h:x/y"}),
        ("config show", {"SHIFTER_STATE": f"reddis://shop:{CANARY}@h"}),
        ("config show", {"SHIFTER_STATE": CANARY, "SHIFTER_LOG": CANARY}),
        (f"job show {JOB} --state rediss://shop:{CANARY}/{CANARY}@h/0", {}),
        (f"--log {CANARY} status", {}),
        (f"status --log {shlex.quote(raw)}", {}),
        # given twice, or beside
        ("status", {PASSWORD: password, f"{PASSWORD}_FILE": "/none"}),
        ("status", {PASSWORD: f"{CANARY}-another", "SHIFTER_LOG": url}),
        ("status", {"SHIFTER_KAFKA__SASL_PASWORD": CANARY}),
        ("status", {"SHIFTER_KAFKA__SSL_KEY_PEM": CANARY}),
        # a secret that is not needed, beside one that is wrong
        ("status", {"SHIFTER_KAFKA__SSL_KEYSTORE_PASSWORD": CANARY, **wrong}),
        ("status", {"SHIFTER_KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET": CANARY, **wrong}),
        ("status", {"SHIFTER_CONFIG": shell.secret_file(f"state = {CANARY}", "t")}),
        # the servers say no
        ("doctor --json", wrong),
        ("doctor", {"SHIFTER_STATE": shell.state_url(password=f"{CANARY}-x")}),
        (f"job show {JOB}", {"SHIFTER_STATE": shell.state_url(password=CANARY)}),
        # misuse
        ("submit leaky:app fail --json [1]", {}),
        ("submit leaky:app fial", {}),
        ("work nowhere:app", {}),
    ]


def test_no_error_shows_a_secret(shell):
    (shell.folder / "leaky.py").write_text(LEAKY)

    codes = [
        (number, shell.run(*shlex.split(verb), SHIFTER_TRACEBACK="1", **changes).code)
        for number, (verb, changes) in enumerate(bad_ways(shell))
    ]

    assert_unseen(shell)
    assert [(number, code) for number, code in codes if code in (0, 70)] == []


def assert_unseen(shell: Shell) -> None:
    """Nothing the user's commands said or left in a file holds a secret."""
    __tracebackhide__ = True
    for text in shell.said:
        assert CANARY not in text, text
    secrets = ("shop", "secret", "t", "leaky.py")
    for path in shell.folder.rglob("*"):
        if path.is_file() and path.name not in secrets:
            assert CANARY.encode() not in path.read_bytes(), path


def test_a_secret_file_that_others_may_read_is_warned_about(shell):
    path = shell.folder / "shop"
    environ = shell.environ()
    path.chmod(0o644)

    done = shell.ok("config", "show", SHIFTER_LOG=environ["SHIFTER_LOG"])

    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert "all users may read" in done.err
