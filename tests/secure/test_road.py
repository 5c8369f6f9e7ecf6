"""The whole road, and each way to be kept off it, on servers that let few in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.secure.shell import CANARY, TARGET, assert_clear

pytestmark = [
    pytest.mark.secure,
    pytest.mark.kafka,
    pytest.mark.redis,
    pytest.mark.timeout(300),
]

NOTE = ("submit", TARGET, "note", "--json", '{"number": 1}')
BURST = ("work", TARGET, "--burst", "--concurrency", "4")


STATE = ("job", "show", "018f0000-0000-7000-8000-000000000001")
START = {"status": ("status",), "submit": NOTE, "work": BURST}
PASSWORD_FILE = "SHIFTER_KAFKA__SASL_PASSWORD_FILE"


def test_a_job_travels_with_only_the_rights_of_a_service(shell):
    applied = shell.ok("topics", "apply", TARGET, "--json").json()
    job_id = shell.ok(*NOTE).out.strip()
    worked = shell.ok(*BURST)
    status = shell.ok("job", "show", job_id, "--json").json()

    assert f"{shell.namespace}.default.normal" in {row["topic"] for row in applied}
    assert status["state"] == "done", worked.err
    assert shell.effects() == ["note 1"]


@pytest.fixture(params=START)
def verb(request) -> tuple[str, ...]:
    """Each verb that talks to the log."""
    return START[request.param]


def test_a_bad_password_is_named_at_the_start(ready, verb):
    wrong = ready.secret_file(f"{CANARY}-wrong")

    done = ready.run(*verb, **{PASSWORD_FILE: wrong})

    assert_clear(done, 77, "invalid credentials", "sasl_password")


def test_a_certificate_of_another_authority_is_named_at_the_start(
    ready, verb, other_ca
):
    done = ready.run(*verb, SHIFTER_LOG=ready.log_url(ssl_ca_location=str(other_ca)))

    assert_clear(done, 77, "certificate verify failed", "ssl_ca_location")


def test_an_authority_that_is_not_there_is_a_wrong_setting(ready, verb):
    done = ready.run(*verb, SHIFTER_LOG=ready.log_url(ssl_ca_location="/none.crt"))

    assert_clear(done, 78, "ssl.ca.location", "/none.crt")


def test_an_unknown_mechanism_gets_an_error_with_those_of_the_broker(ready):
    done = ready.run("status", SHIFTER_LOG=ready.log_url(sasl_mechanism="PLAIN"))

    assert_clear(done, 77, "sasl_mechanism", "SCRAM-SHA-512")


def test_a_plaintext_client_on_the_tls_port_gets_an_error_about_the_protocol(
    ready, verb
):
    url = f"kafka://{ready.world.kafka.bootstrap}"

    done = ready.run(*verb, SHIFTER_LOG=url, **{PASSWORD_FILE: None})

    assert_clear(done, 69, "security_protocol", "TLS port")


def test_tls_without_a_login_gets_an_error_about_the_protocol(ready):
    url = ready.log_url(
        security_protocol="SSL", sasl_mechanism=None, sasl_username=None
    )

    done = ready.run("status", SHIFTER_LOG=url, **{PASSWORD_FILE: None})

    assert_clear(done, 69, "security_protocol")


def test_a_publisher_without_write_is_refused_for_certain(ready):
    done = ready.run(*NOTE, user="reader")

    assert_clear(done, 77, "nothing was written", "AUTHORIZATION_FAILED", "grant WRITE")


def test_a_publisher_that_may_not_even_see_the_topic_is_refused(shell, ready):
    hidden = {"TEST_NAMESPACE": "other", "SHIFTER_NAMESPACE": "other"}

    done = shell.run(*NOTE, **hidden)

    assert_clear(
        done, 77, "TOPIC_AUTHORIZATION_FAILED", "grant a publisher DESCRIBE and WRITE"
    )


@pytest.mark.parametrize("more", [(), ("--burst",)])
def test_a_worker_without_its_group_ends_at_the_start(ready, more):
    done = ready.run("work", TARGET, *more, user="nogroup")

    assert_clear(done, 77, "GROUP_AUTHORIZATION_FAILED", "grant READ on the group")


def test_a_worker_that_may_not_read_waiting_jobs_ends_at_the_start(ready):
    ready.ok(*NOTE)

    done = ready.run("work", TARGET, "--burst", user="noread")

    assert_clear(done, 77, "TOPIC_AUTHORIZATION_FAILED", "a worker READ")


def test_a_worker_that_may_not_read_an_empty_lane_ends_too(shell):
    shell.ok("topics", "apply", TARGET)

    done = shell.run("work", TARGET, user="noread")

    assert done.code == 77, done.err
    assert "worker cannot start" in done.err
    assert "TOPIC_AUTHORIZATION_FAILED" in done.err
    assert "Traceback" not in done.err
    assert done.seconds < 60


def test_applying_topics_without_the_right_names_it(shell):
    done = shell.run("topics", "apply", TARGET, user="reader")

    assert_clear(done, 77, "AUTHORIZATION_FAILED", "CREATE")


# --- the state store ----------------------------------------------------------------


@pytest.fixture(params=["job", "work"])
def state_verb(request) -> tuple[str, ...]:
    """Each verb that cannot go on when the state store says no."""
    return {"job": STATE, "work": BURST}[request.param]


def test_a_bad_password_of_redis_is_named_at_the_start(ready, state_verb):
    url = ready.state_url(password=f"{CANARY}-no")

    done = ready.run(*state_verb, SHIFTER_STATE=url)

    assert_clear(done, 77, "redis 127.0.0.1", "WRONGPASS")


def test_another_authority_of_redis_is_named_at_the_start(ready, state_verb, other_ca):
    done = ready.run(*state_verb, SHIFTER_STATE=ready.state_url(ca=other_ca))

    assert_clear(done, 77, "redis 127.0.0.1", "certificate verify failed")


def test_an_authority_of_redis_that_is_not_there_is_a_wrong_setting(ready, state_verb):
    url = ready.state_url(ca=Path("/none.crt"))

    done = ready.run(*state_verb, SHIFTER_STATE=url)

    assert_clear(done, 78, "ssl_ca_certs", "/none.crt")


def test_a_plaintext_client_of_a_tls_redis_gets_an_error_with_the_address(ready):
    url = ready.state_url().replace("rediss:", "redis:").partition("?")[0]

    done = ready.run(*STATE, SHIFTER_STATE=url)

    assert_clear(done, 69, f"redis 127.0.0.1:{ready.world.redis.port}")


def test_a_right_taken_away_from_a_running_worker_degrades_it(shell):
    """Claims are refused, jobs run as their ``claims=`` says, nothing falls over."""
    shell.ok("topics", "apply", TARGET)
    shell.ok(*NOTE)
    with Redis.from_url(shell.state_url()) as redis, limited(redis) as login:
        done = shell.ok(*BURST, SHIFTER_STATE=shell.state_url().replace(*login))

    assert shell.effects() == ["note 1"]
    assert "Traceback" not in done.err
    assert CANARY not in done.err


@contextlib.contextmanager
def limited(redis: Redis) -> Iterator[tuple[str, str]]:
    """A user that may be there and do nothing; yields what to replace in a URL."""
    name, secret = redis.acl_whoami(), redis.connection_pool.connection_kwargs
    redis.acl_setuser(
        "limited",
        enabled=True,
        passwords=[f"+{secret['password']}"],
        commands=["+ping", "+info"],
    )
    try:
        yield f"//{name}:", "//limited:"
    finally:
        redis.acl_deluser("limited")
