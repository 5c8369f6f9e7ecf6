"""Files of this machine that hold a log or a shared state, and Kafka's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shifter.config import Secret, Settings
from shifter.config.endpoint import sqlite_path
from shifter.ports import LaneLog

if TYPE_CHECKING:
    from shifter.adapters.kafka.url import KafkaConfig
    from shifter.adapters.sqlite.database import Database
    from shifter.adapters.sqlite.log import SqliteLaneLog


def is_sqlite(url: Secret | None) -> bool:
    """Whether a URL names a file on this machine."""
    return url is not None and url.reveal().startswith("sqlite:")


def open_database(field: str, url: Secret | None) -> Database:
    """The file that a setting names.

    Raises:
        ConfigError: Its URL is wrong.
    """
    from shifter.adapters.sqlite.database import Database  # noqa: PLC0415

    return Database(sqlite_path(field, "" if url is None else url.reveal()))


def sqlite_log(log: LaneLog) -> SqliteLaneLog:
    """A log that was opened as one in a file.

    Raises:
        TypeError: It is none.
    """
    from shifter.adapters.sqlite.log import SqliteLaneLog  # noqa: PLC0415

    if not isinstance(log, SqliteLaneLog):
        raise TypeError(log)
    return log


def kafka_config(settings: Settings) -> KafkaConfig:
    """What the client library is told."""
    from shifter.adapters.kafka.url import KafkaConfig  # noqa: PLC0415

    return KafkaConfig.from_client(settings.kafka_client())
