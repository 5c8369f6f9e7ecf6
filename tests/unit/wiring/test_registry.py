from __future__ import annotations

import pytest

from shifter.adapters.kafka.opening import KafkaLogs
from shifter.adapters.redis.opening import RedisStates
from shifter.adapters.sqlite.opening import SqliteLogs, SqliteStates
from shifter.config import Secret, Settings
from shifter.config.endpoint import LOG_SCHEMES, STATE_SCHEMES
from shifter.errors import ConfigError
from shifter.wiring import registry
from shifter.wiring.registry import log_adapter, state_adapter


def settings(log: str | None = None, state: str | None = None) -> Settings:
    return Settings(
        namespace="shop",
        log_url=None if log is None else Secret(log),
        state_url=None if state is None else Secret(state),
    )


@pytest.mark.parametrize(
    ("url", "adapter"),
    [("kafka://h1:9092,h2", KafkaLogs), ("sqlite:///var/lib/shop.db", SqliteLogs)],
)
def test_the_scheme_of_a_log_chooses_its_adapter(url, adapter):
    assert type(log_adapter(settings(url))) is adapter


@pytest.mark.parametrize(
    ("url", "adapter"),
    [
        ("redis://h:6379/0", RedisStates),
        ("rediss://h:6379/0", RedisStates),
        ("redis+sentinel://h1,h2/shop", RedisStates),
        ("redis+cluster://h1,h2", RedisStates),
        ("unix:///run/redis.sock", RedisStates),
        ("sqlite:///var/lib/shop.db", SqliteStates),
    ],
)
def test_the_scheme_of_a_state_chooses_its_adapter(url, adapter):
    assert type(state_adapter(settings(state=url))) is adapter


def test_every_scheme_that_a_url_may_have_is_served_or_is_memory():
    assert set(LOG_SCHEMES) - registry._LOGS.keys() == {"memory"}
    assert set(STATE_SCHEMES) - registry._STATES.keys() == {"memory"}


@pytest.mark.parametrize(
    ("opened", "field"), [(log_adapter, "log"), (state_adapter, "state")]
)
def test_memory_is_refused_with_what_to_use_instead(opened, field):
    with pytest.raises(ConfigError, match=r"one process only.*sqlite:///") as caught:
        opened(settings("memory://", "memory://"))

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("opened", "name"), [(log_adapter, "SHIFTER_LOG"), (state_adapter, "SHIFTER_STATE")]
)
def test_a_missing_url_is_answered_with_the_setting_that_names_it(opened, name):
    with pytest.raises(ConfigError, match=name):
        opened(settings())


def test_a_state_in_the_file_of_the_log_shares_its_database(tmp_path):
    both = settings(f"sqlite://{tmp_path / 'shop.db'}")
    log = log_adapter(both).open_log(both)
    claims = state_adapter(both).open_claims(both, log)

    assert claims._database is log.database
    assert log.close(timeout_s=1) == 0
