"""Bad settings, rows 39 to 52: one error that names the setting, and nothing is opened.

There are no ratios (46), probes or transactions (47) among the settings; a retry waits on
topics of the namespace, so that queues cannot share one by mistake (52): what could make
two names one is refused where it is declared.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from shifter import Shifter
from shifter.config import Settings, load_settings
from shifter.config.endpoint import property_name
from shifter.config.settings import OPTIONS
from shifter.errors import ConfigError

CANARY = "c4n4ry-h7nt3r2"
SECURE = "kafka://b1/?security_protocol=SASL_SSL"
DENIED = [
    "plugin.library.paths",
    "ssl.engine.location",
    "sasl.kerberos.kinit.cmd",
    "sasl.oauthbearer.token.endpoint.url",
    "enable.idempotence",
    "acks",
    "group.id",
    "transactional.id",
    "bootstrap.servers",
    "message.timeout.ms",
    "test.mock.num.brokers",
]


class Row(NamedTuple):
    """Sources of settings, and what is said of them.

    Attributes:
        files: Content by name, in the current directory; ``None`` for a directory.
        more: Further arguments of `load_settings`.
        said: In the error, its field or value.
    """

    number: int
    text: str
    files: dict[str, bytes | None]
    more: dict[str, Any]
    said: str


def file(number: int, text: str, content: bytes, said: str) -> Row:
    return Row(number, text, {"shifter.toml": content}, {}, said)


def toml(number: int, line: str, said: str = "shifter.toml") -> Row:
    return Row(number, line, {"shifter.toml": line.encode()}, {}, said)


def flag(number: int, name: str, text: str, said: str = "") -> Row:
    label = f"{name}={text[:40]!r}"
    return Row(number, label, {}, {"flags": {name: text}}, said or name)


def env(number: int, said: str, **values: str) -> Row:
    variables = {f"SHIFTER_{name}": text for name, text in values.items()}
    label = " ".join(f"{name}={text[:40]}" for name, text in values.items())
    return Row(number, label, {}, {"environ": variables}, said)


ROWS = [
    flag(39, "config", "nope.toml", "No such file"),
    flag(39, "config", "a\0b", "cannot be read"),
    flag(39, "config", "x" * 300, "cannot be read"),
    flag(40, "config", ".", "not a regular file"),
    Row(40, "folder", {"shifter.toml": None}, {}, "not a regular file"),
    file(41, "UTF-16", b"\xff\xfe", "not UTF-8"),
    file(42, "no TOML", b"lease = ", "not TOML"),
    file(42, "YAML", b"lease: 3s", "not TOML"),
    file(42, "5,000 deep", b"a = " + b"[" * 5_000, "not TOML"),
    file(42, "large", b"x" * 1_048_577, "larger than 64 KiB"),
    toml(43, 'laese = "1s"', "'lease'"),
    toml(43, "concurency = 1", "'concurrency'"),
    toml(43, "[kafak]\nx = 1", "'kafka'"),
    Row(
        *(43, "pyproject", {"pyproject.toml": b"[tool.shifter]\npartition = 1"}),
        *({}, "'partitions'"),
    ),
    env(43, "SHIFTER_LEASE", LAESE="1s"),
    env(43, "SHIFTER_LOG", LOGS="x"),
    env(43, "SHIFTER_LEASE?", LEASE_MS="1"),
    flag(43, "leas", "1s", "'lease'"),
    toml(44, 'concurrency = "3"'),
    toml(44, "concurrency = 1.5"),
    toml(44, "concurrency = true"),
    toml(44, "lease = true"),
    toml(44, "lease = []"),
    toml(44, "lease = 1979-05-27"),
    toml(44, "log = 7"),
    toml(44, "log = {a = 1}"),
    toml(44, "log_level = 3"),
    toml(44, 'log_level = "loud"'),
    toml(44, "namespace = 3")._replace(more={"namespace": None}),
    toml(44, 'kafka = "x"'),
    toml(44, '[kafka]\nsasl_username = ["a"]'),
    toml(44, "[kafka.sasl]\nusername = 'a'"),
    *(
        env(45, "SHIFTER_LEASE", LEASE=text)
        for text in ("10", "-5s", "1e9h", "5 minutes", "∞", "5S", "1_0s")
    ),
    *(
        env(46, option.name.upper(), **{option.name.upper(): text})
        for option in OPTIONS
        if option.name != "app_version"  # any short text
        for text in ("1.1", "-0.1", "NaN", "-1", "1e9", "٣", "0x10", "999999999999")
    ),
    env(46, "APP_VERSION", APP_VERSION="1" * 65),
    env(47, "LEASE", LEASE="1s", CLAIM_TIMEOUT="500ms"),
    env(47, "PROCESSES", PROCESSES="2", LOG="memory://"),
    env(47, "PROCESSES", PROCESSES="2", STATE="memory://"),
    env(47, "KAFKA", KAFKA__CLIENT_ID="x", LOG="memory://"),
    env(47, "sasl", LOG=f"kafka://u:{CANARY}@b1"),
    env(47, "sasl", LOG="kafka://b1", KAFKA__SASL_USERNAME="u"),
    env(47, "client.id", LOG=f"{SECURE}&client_id=a", KAFKA__CLIENT_ID="b"),
    env(47, "SHIFTER_LOG", LOG="kafka://b1", LOG_FILE="/dev/null"),
    env(47, "RETENTION", RETENTION="1h"),
    env(47, "COMMIT_INTERVAL", COMMIT_INTERVAL="2m"),
    *(
        Row(48, f"namespace {name[:9]!r}", {}, {"namespace": name}, "namespace")
        for name in (
            "",
            ".",
            "..",
            "a.b",
            "a_b",
            "A",
            "a b",
            "a/b",
            "ä",
            "a" * 250,
            "-a",
        )
    ),
    *(
        flag(49, "log", url)
        for url in (
            *("", "b1", "b1:9092", "kafka:", "kafka://", "kafka://,", "kafka://b1,"),
            *("kafka://b1:1:2", "kafka://::1", "kafka://[::1", "kafka://b1:0"),
            *("kafka://b1:99999", "kafka://b1:\uff19\uff10", "kafka://b 1"),
            *("kafka://b1\n", "kafka://bö", "kafka://b1/topic", "kafka://b1#x"),
            *("kafka://b1?x", "kafka://b1?client_id=a&client_id=b"),
            *("kafka://" + "b" * 9_000, "http://b1", "kafak://b1", "redis://b1"),
        )
    ),
    flag(49, "log", "kafka://b1?security_protocol=tls", "security.protocol"),
    *(
        flag(49, "state", url)
        for url in (
            *("localhost:6379", "redis://", "redis://a,b", "redis://a:x"),
            *("redis://a/db0", "rediz://a", "kafka://a", f"redis://:{CANARY}/x@a"),
        )
    ),
    *(
        Row(50, f"secret file {text!r}", {"s": text}, {"environ": {name: "s"}}, name)
        for name in ("SHIFTER_LOG_FILE", "SHIFTER_STATE_FILE")
        for text in (b"", b"\n", b"a\nb\n", b"\xff", None)
    ),
    env(50, "SHIFTER_LOG_FILE", LOG_FILE="missing"),
    *(
        env(51, "refused", **{f"KAFKA__{name.upper().replace('.', '_')}": "x"})
        for name in DENIED
    ),
    *(toml(51, f'[kafka]\n"{name}" = "x"', "refused") for name in DENIED),
    *(
        flag(51, "log", f"kafka://b1/?{name.replace('.', '_')}=x", "refused")
        for name in DENIED
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.number}-{row.text}" for row in ROWS])
def test_a_bad_setting_is_one_error_that_names_it(tmp_path, monkeypatch, row):
    monkeypatch.chdir(tmp_path)
    for name, content in row.files.items():
        if content is None:
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name).write_bytes(content)
    given = {"namespace": "shop", "environ": {}, **row.more}

    with pytest.raises(ConfigError) as caught:
        load_settings(given.pop("namespace"), cwd=tmp_path, **given)

    error = caught.value
    assert row.said.lower() in f"{error.field} {error.value} {error.want}".lower()
    assert CANARY not in f"{error!r} {error}"
    assert str(error).isprintable()


@pytest.mark.parametrize("name", ["", "a b", "a\n", "ä", "a..b", ".a", "1a"])
def test_51_what_is_no_property_is_refused(name):
    with pytest.raises(ConfigError):
        property_name("kafka", name)


@pytest.mark.parametrize(
    "queue",
    ["", ".", "..", "a.b", "a_b", "A", "a b", "a/b", "ä", "q" * 250, "-a", "delay"],
)
def test_48_52_a_queue_whose_topics_could_be_anothers_is_refused(queue):
    app = Shifter("shop", settings=Settings(namespace="shop"))

    with pytest.raises(ConfigError, match="queue"):

        @app.job(queue=queue)
        async def job() -> None: ...


def test_every_row_of_settings_is_there():
    assert {row.number for row in ROWS} | {52} == set(range(39, 53))
