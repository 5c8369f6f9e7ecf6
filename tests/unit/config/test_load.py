"""Settings: where they come from, and what every bad one is answered with."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from shifter.config import Secret, Settings, load_settings
from shifter.config.load import state_folder
from shifter.config.option import duration_text
from shifter.config.settings import OPTIONS
from shifter.errors import ConfigError

CANARY = "c4n4ry-h7nt3r2"
SECURE = "kafka://b1/?security_protocol=SASL_SSL"


EMBEDDED = Secret.of_url(f"sqlite://{state_folder({})}/shop.db")
DEFAULTS = Settings(namespace="shop", log_url=EMBEDDED, state_url=EMBEDDED)


@pytest.fixture
def load(tmp_path):
    def load(namespace="shop", *, toml=None, pyproject=None, env=None, flags=None):
        if toml is not None:
            (tmp_path / "shifter.toml").write_text(toml)
        if pyproject is not None:
            (tmp_path / "pyproject.toml").write_text(pyproject)
        return load_settings(namespace, flags=flags, environ=env or {}, cwd=tmp_path)

    return load


def refused(load, **sources) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(**sources)
    return caught.value


# --- precedence ---------------------------------------------------------------


def test_defaults_are_those_of_the_design(load):
    settings = load()

    assert settings == DEFAULTS
    assert settings.accept_timeout_ms == 10_000
    assert settings.lease_ms == 15_000
    assert settings.origin("log_url") == "default"
    assert settings.origin("lease_ms") == "default"


def test_flag_beats_environment_beats_file_beats_default(load):
    toml = 'lease = "20s"\nconcurrency = 20\npartitions = 20\n'
    env = {"SHIFTER_LEASE": "30s", "SHIFTER_CONCURRENCY": "30"}

    settings = load(toml=toml, env=env, flags={"lease": "40s", "log": None})

    assert (settings.lease_ms, settings.concurrency, settings.partitions) == (
        40_000,
        30,
        20,
    )
    assert settings.origin("lease_ms") == "flag --lease"
    assert settings.origin("concurrency") == "env SHIFTER_CONCURRENCY"
    assert settings.origin("partitions") == "file shifter.toml"
    assert settings.origin("processes") == "default"
    assert settings.origin("namespace") == "code"


def test_the_project_file_beats_the_users_own(tmp_path, load):
    home = tmp_path / "xdg" / "shifter"
    home.mkdir(parents=True)
    (home / "config.toml").write_text('lease = "20s"\npartitions = 20\n')
    env = {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}

    settings = load(toml='lease = "30s"', env=env)

    assert (settings.lease_ms, settings.partitions) == (30_000, 20)
    assert settings.origin("partitions") == f"file {home / 'config.toml'}"


def test_pyproject_serves_where_there_is_no_shifter_toml(load):
    settings = load(pyproject='[tool.shifter]\nlease = "30s"\n')

    assert settings.lease_ms == 30_000
    assert settings.origin("lease_ms") == "file pyproject.toml [tool.shifter]"


def test_a_broken_pyproject_of_another_program_is_ignored(load):
    assert load(pyproject="[tool.black\n") == DEFAULTS


def test_an_explicit_file_is_the_only_one(tmp_path, load):
    (tmp_path / "other.toml").write_text("partitions = 3")

    settings = load(toml="concurrency = 9", env={"SHIFTER_CONFIG": "other.toml"})

    assert (settings.partitions, settings.concurrency) == (3, 100)


def test_an_empty_variable_counts_as_unset(load):
    env = {"SHIFTER_LOG": "", "SHIFTER_LEASE": "", "SHIFTER_KAFKA__SASL_PASSWORD": ""}

    assert load(env=env) == DEFAULTS


def test_a_number_in_a_file_is_seconds(load):
    assert load(toml="lease = 20").lease_ms == 20_000


def test_the_codes_namespace_beats_environment_and_file(load):
    settings = load(toml='namespace = "a"', env={"SHIFTER_NAMESPACE": "b"})

    assert settings.namespace == "shop"


def test_a_flag_that_contradicts_the_codes_namespace_is_refused(load):
    error = refused(load, flags={"namespace": "other"})

    assert error.field == "--namespace"
    assert "shop" in error.want


def test_a_namespace_must_come_from_somewhere(load):
    error = refused(load, namespace=None)

    assert error.field == "namespace"
    assert "SHIFTER_NAMESPACE" in error.want


def test_kubernetes_service_variables_are_not_settings(load):
    env = {
        "SHIFTER_SERVICE_HOST": "10.0.0.1",
        "SHIFTER_PORT": "tcp://10.0.0.1:80",
        "SHIFTER_PORT_80_TCP": "x",
        "SHIFTER_LOG_PORT": "x",
        "SHIFTER_STATE_SERVICE_PORT": "x",
    }

    settings = load(env=env)

    assert settings == DEFAULTS
    assert settings.warnings == ()


def test_an_unknown_variable_far_from_any_setting_is_a_warning(load):
    assert load(env={"SHIFTER_TORTURE": "full"}).warnings == (
        "SHIFTER_TORTURE is not a setting of shifter",
    )


# --- values ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("kafka://b1", "b1"),
        ("kafka://b1:9092,b2:9093/", "b1:9092,b2:9093"),
        ("kafka://[::1]", "[::1]"),
        ("kafka://[::1]:9092", "[::1]:9092"),
    ],
)
def test_a_good_log_url_names_its_servers(load, url, servers):
    client = load(env={"SHIFTER_LOG": url}).kafka_client()

    assert client == {"bootstrap.servers": servers}


def test_properties_come_from_url_environment_and_file(load):
    settings = load(
        toml='[kafka]\nclient_id = "c"\n"linger.ms" = 3\nsocket_keepalive_enable = true',
        env={
            "SHIFTER_LOG": "kafka://me:p%40ss+w@b1/?security_protocol=SASL_SSL",
            "SHIFTER_KAFKA__SASL_MECHANISM": "PLAIN",
        },
    )

    assert settings.kafka_client() == {
        "bootstrap.servers": "b1",
        "client.id": "c",
        "linger.ms": "3",
        "socket.keepalive.enable": "true",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "me",
        "sasl.password": "p@ss+w",
        "security.protocol": "SASL_SSL",
    }
    assert settings.origin("kafka.client.id") == "file shifter.toml"


# --- secrets: S3, S22, row 50 ------------------------------------------------------


def canaries() -> dict[str, str]:
    return {
        "SHIFTER_LOG": f"kafka://me:{CANARY}1@b1/?security_protocol=SASL_SSL"
        f"&ssl_key_password={CANARY}2",
        "SHIFTER_STATE": f"redis://me:{CANARY}3@r1:6379/0?password={CANARY}4",
        "SHIFTER_KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET": f"{CANARY}5",
        "SHIFTER_KAFKA__SSL_KEY_PEM": f"{CANARY}6",
    }


def test_no_secret_is_seen_unless_revealed(load, caplog):
    settings = load(env=canaries())
    logging.getLogger("test").warning("%s %r", settings, settings.kafka)

    shown = [
        f"{settings}",
        f"{settings!r}",
        str(list(settings.shown())),
        repr(settings.kafka),
        str(settings.log_url),
        f"{settings.log_url!r:>80}",
        caplog.text,
    ]

    assert CANARY not in "".join(shown)
    assert settings.kafka_client()["sasl.password"] == f"{CANARY}1"
    assert settings.state_url.reveal() == canaries()["SHIFTER_STATE"]


@pytest.mark.parametrize("broken", ["lease", "namespace", "concurrency"])
def test_no_error_or_traceback_shows_a_secret(load, broken):
    env = {**canaries(), f"SHIFTER_{broken.upper()}": "?"}

    with pytest.raises(ConfigError) as caught:
        load(None if broken == "namespace" else "shop", env=env)

    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        f"kafka://u:{CANARY}@b1:x",
        f"kafka://u:{CANARY}/x@b1",
        f"kafka://u:{CANARY}?x@b1",
        f"kafka://u:{CANARY}#x@b1",
        f"kafka://u:{CANARY}@x@b1",
        f"kafka://u:{CANARY} @b1",
        f"kafka://b1/?sasl_password={CANARY}&security_protocol=x",
        f"kafka://b1/?{CANARY}",
        f"kafak://u:{CANARY}@b1",
        CANARY,
        f"{CANARY}@b1:9092",
    ],
)
def test_a_malformed_url_hides_what_may_be_a_password(load, url):
    error = refused(load, flags={"log": url})

    assert CANARY not in f"{error!r} {error} {error.value} {error.want}"


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_secret_file_is_read_and_an_open_one_warned_of(tmp_path, load, mode):
    path = tmp_path / "password"
    path.write_text(f"{CANARY}\n")
    path.chmod(mode)
    env = {"SHIFTER_LOG": SECURE, "SHIFTER_KAFKA__SASL_PASSWORD_FILE": str(path)}

    settings = load(env=env)

    assert settings.kafka_client()["sasl.password"] == CANARY
    variable = "SHIFTER_KAFKA__SASL_PASSWORD_FILE"
    assert settings.origin("kafka.sasl.password") == f"env {variable}"
    warned = (f"{variable}: all users may read {path}: chmod 600",)
    assert settings.warnings == (warned if mode == 0o644 else ())


def test_an_open_file_with_secrets_is_warned_of(tmp_path, load):
    (tmp_path / "shifter.toml").touch(mode=0o644)

    settings = load(toml=f'log = "{SECURE}"\n[kafka]\nsasl_password = "{CANARY}"\n')

    assert settings.warnings == (
        "shifter.toml holds secrets and all users may read it: chmod 600",
    )


def test_nothing_in_a_value_is_expanded(load):
    toml = "log = 'kafka://h'\n[kafka]\nclient_id = '${HOME}$(id)`id`'"

    settings = load(toml=toml)

    assert settings.kafka["client.id"].reveal() == "${HOME}$(id)`id`"


def test_settings_survive_the_way_to_another_process(load):
    settings = load(env=canaries())

    again = pickle.loads(pickle.dumps(settings))

    assert again == settings
    assert again.kafka_client() == settings.kafka_client()
    assert CANARY not in repr(copy.deepcopy(again))


# --- values of any kind -----------------------------------------------------------


VALID = st.fixed_dictionaries(
    {},
    optional={
        "lease": st.integers(3_000, 3_600_000).map(duration_text),
        "claim_timeout": st.integers(10, 1_000).map(duration_text),
        "drain_timeout": st.integers(0, 3_600_000).map(duration_text),
        "concurrency": st.integers(1, 100_000),
        "partitions": st.integers(1, 10_000),
        "log": st.sampled_from(["kafka://b1:9092", "kafka://[::1]:1,b2/"]),
        "log_level": st.sampled_from(["debug", "info", "warning", "error"]),
    },
)


@given(VALID)
def test_what_is_shown_can_be_loaded_again_as_the_same(values):
    nowhere = Path("/nonexistent")
    settings = load_settings("shop", flags=values, environ={}, cwd=nowhere)
    shown = {name: value for name, value, _ in settings.shown() if name != "namespace"}

    again = load_settings("shop", flags=shown, environ={}, cwd=nowhere)

    assert again == settings
    assert again.log_url == settings.log_url


@given(VALID, st.sampled_from([option.name for option in OPTIONS]))
def test_one_bad_value_among_good_ones_is_the_one_that_is_named(values, name):
    flags = {**values, name: "\x07"}

    with pytest.raises(ConfigError) as caught:
        load_settings("shop", flags=flags, environ={}, cwd=Path("/nonexistent"))

    assert caught.value.field.partition(" ")[0] in (f"--{name.replace('_', '-')}", name)


@pytest.mark.parametrize(
    ("given", "value", "shown"),
    [
        ("auto", None, "auto"),
        ("0.25", 0.25, "0.25"),
        (1, 1.0, "1.0"),
        ("0", 0.0, "0.0"),
    ],
)
def test_a_share_is_auto_or_a_number_from_0_to_1(given, value, shown):
    nowhere = Path("/nonexistent")
    settings = load_settings("shop", flags={"log_done": given}, environ={}, cwd=nowhere)

    assert settings.log_done == value
    assert ("log_done", shown) in [(name, text) for name, text, _ in settings.shown()]


@pytest.mark.parametrize("given", ["all", "1.01", "-0.1", "nan", True, ""])
def test_a_share_that_is_none_is_refused(given):
    with pytest.raises(ConfigError, match=r"log.done"):
        load_settings(
            "shop", flags={"log_done": given}, environ={}, cwd=Path("/nonexistent")
        )
