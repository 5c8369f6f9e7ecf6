from __future__ import annotations

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.kafka.errors import make_client
from shifter.config import Secret, Settings
from shifter.errors import ConfigError

SECRET = "s3cr3t+/=?"


def read(url: str) -> KafkaConfig:
    """The configuration that a log of this URL gets."""
    settings = Settings(namespace="shop", log_url=Secret(url))
    return KafkaConfig.from_client(settings.kafka_client())


@pytest.mark.parametrize(
    ("url", "bootstrap"),
    [
        ("kafka://host", "host:9092"),
        ("kafka://host/", "host:9092"),
        ("kafka://h1:1,h2:65535/", "h1:1,h2:65535"),
        ("kafka://[::1]:9093,10.0.0.1", "[::1]:9093,10.0.0.1:9092"),
        ("kafka://[::1]", "[::1]:9092"),
        ("kafka://a_b.example-1.org:9092?client_id=x", "a_b.example-1.org:9092"),
    ],
)
def test_servers_are_read(url, bootstrap):
    assert read(url).bootstrap == bootstrap


@pytest.mark.parametrize(
    "url",
    [
        "kafka://",
        "kafka:///",
        "kafka://h1,",
        "kafka://,h1",
        "kafka://h1,,h2",
        "kafka://host:port",
        "kafka://host:1:2",
        "kafka://host:",
        "kafka://host:0",
        "kafka://host:65536",
        "kafka://host:99999999999999999999",
        "kafka://host:-1",
        "kafka://host:٣",
        "kafka://ho st",
        "kafka://::1",
        "kafka://[::1",
        "kafka://host/topic",
        "kafka://host#x",
        "http://host",
        "host:9092",
        "",
    ],
)
def test_a_wrong_address_is_refused(url):
    with pytest.raises(ConfigError):
        read(url)


def test_properties_are_written_with_underscores_and_decoded_once():
    config = read(
        "kafka://h/?security_protocol=SASL_SSL&sasl_username=a%26b&sasl_password=p+q%2B1"
    )

    assert config.properties == {
        "security.protocol": "SASL_SSL",
        "sasl.username": "a&b",
        "sasl.password": "p+q+1",
    }


def test_a_login_before_the_hosts_is_sasl():
    config = read(
        "kafka://ann:p%40ss%3A@h1,h2/?sasl_mechanism=PLAIN&security_protocol=SASL_SSL"
    )

    assert config.bootstrap == "h1:9092,h2:9092"
    assert config.properties["sasl.username"] == "ann"
    assert config.properties["sasl.password"] == "p@ss:"


@pytest.mark.parametrize("query", ["client_id", "client_id=a&client_id=b", "=x"])
def test_a_malformed_query_is_refused(query):
    with pytest.raises(ConfigError):
        read(f"kafka://h/?{query}")


@pytest.mark.parametrize(
    "name",
    [
        "plugin.library.paths",
        "sasl.kerberos.kinit.cmd",
        "sasl.oauthbearer.token.endpoint.url",
        "sasl.oauthbearer.assertion.file",
        "ssl.engine.location",
        "ssl.providers",
        "acks",
        "allow.auto.create.topics",
        "auto.offset.reset",
        "bootstrap.servers",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "group.id",
        "message.timeout.ms",
        "metadata.broker.list",
        "partitioner",
        "test.mock.num.brokers",
        "transactional.id",
    ],
)
def test_a_dangerous_or_owned_property_is_refused_by_name(name):
    for refused in (name, name.replace(".", "_"), name.upper()):
        with pytest.raises(ConfigError, match=name):
            read(f"kafka://h/?{refused}=x")
    with pytest.raises(ConfigError, match=name):
        KafkaConfig("h", {name: "x"})


@pytest.mark.parametrize("kind", [Producer, Consumer, AdminClient])
def test_an_unknown_property_is_answered_with_the_nearest_name(kind):
    config = read("kafka://h/?sasl_pasword=x")
    settings = {**config.admin_config(), "group.id": "g"}

    with pytest.raises(ConfigError, match=r"did you mean 'sasl\.password'"):
        make_client(kind, settings)


def test_a_wrong_value_is_answered_without_showing_it():
    config = read("kafka://h/?ssl_ca_location=/not/there&security_protocol=ssl")

    with pytest.raises(ConfigError) as caught:
        make_client(Producer, config.producer_config())

    assert "ssl.ca.location" in str(caught.value)


def test_no_text_shows_a_secret():
    config = read(
        f"kafka://ann:{SECRET.replace('/', '%2F').replace('?', '%3F')}@h/"
        "?ssl_key_pem=PEM&security_protocol=SASL_SSL"
    )

    for text in (repr(config), str(config), f"{config}", f"{[config]}"):
        assert SECRET not in text
        assert "PEM" not in text
        assert "ann" not in text
        assert "SASL_SSL" in text
    assert config.properties["sasl.password"] == SECRET


@pytest.mark.parametrize(
    "url",
    [
        "kafka://ann:zq?ss@host",
        "kafka://ann:zq#ss@host",
        "kafka://host/?sasl_password=zqss&plugin_library_paths=zqss",
    ],
)
def test_no_error_shows_a_secret(url):
    with pytest.raises(ConfigError) as caught:
        read(url)

    assert "zq" not in str(caught.value)


def test_the_house_settings_make_clients():
    config = read(
        "kafka://127.0.0.1:1/?linger_ms=1&session_timeout_ms=8000&log_level=0"
        "&queued_min_messages=1000"
    )

    producer, consumer = config.producer_config(), config.consumer_config("g")

    assert producer["enable.idempotence"] is True
    assert producer["acks"] == "all"
    assert producer["linger.ms"] == "1"
    assert consumer["session.timeout.ms"] == "8000"
    assert consumer["auto.offset.reset"] == "error"
    assert "session.timeout.ms" not in producer
    assert "linger.ms" not in consumer
    for kind, settings in (
        (Producer, producer),
        (Consumer, consumer),
        (AdminClient, config.admin_config()),
    ):
        make_client(kind, settings)


def test_the_newer_group_protocol_leaves_timers_to_the_broker():
    config = read("kafka://h/?group_protocol=consumer&session_timeout_ms=1")

    settings = config.consumer_config("g")

    assert settings["group.protocol"] == "consumer"
    assert not {"session.timeout.ms", "heartbeat.interval.ms"} & settings.keys()
    assert "partition.assignment.strategy" not in settings


def test_group_names_are_joined_by_dots():
    assert KafkaConfig.group("shop", "workers", "low") == "shop.workers.low"
    assert KafkaConfig.group("shop", "delay") == "shop.delay"


def test_the_clients_own_form_is_read():
    config = KafkaConfig.from_client({"bootstrap.servers": "h1,h2:1", "client.id": "x"})

    assert config.bootstrap == "h1:9092,h2:1"
    assert config.properties == {"client.id": "x"}
