"""The table of settings: public names, how each is read, bounded and shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from shifter.config.secret import Secret
from shifter.errors import ConfigError
from shifter.model.advice import nearest
from shifter.model.time import duration_ms
from shifter.policy.delivery.delay import MAX_DELAY_MS

DAY_MS: Final = 86_400_000
# A record must outlive the longest delay a job may ask for (30 days), and then a week
# without a worker that drains it: a holiday, or an outage that was noticed late.
RETENTION_MS: Final = MAX_DELAY_MS + 7 * DAY_MS

_MOST_WEIGHT: Final = 100
_UNITS: Final = ((DAY_MS, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"))


class Option(NamedTuple):
    """One setting, as users write it.

    Attributes:
        name: Public name, without a unit of time; ``SHIFTER_<NAME>`` in upper case.
        field: The `Settings` field.
        read: From (label for errors, raw value) to the field's value.
        check: Bounds of (label, field's value); raises `ConfigError`.
        show: From the field's value to what a user writes, secrets masked.
        example: A value that is allowed.
        is_secret: Whether it may hold a password: ``…_FILE`` is read too.
        is_integer: Whether text of digits means a number.
    """

    name: str
    field: str
    read: Callable[[str, object], object]
    check: Callable[[str, Any], None]
    show: Callable[[Any], object]
    example: str
    is_secret: bool = False
    is_integer: bool = False


def duration_text(ms: int) -> str:
    """The shortest text that `duration_ms` reads back as the same.

    >>> duration_text(15_000), duration_text(1_500), duration_text(0)
    ('15s', '1500ms', '0s')
    """
    for size, unit in _UNITS:
        if ms % size == 0 and ms > 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms" if ms else "0s"


def read_text(label: str, value: object) -> str:
    """A text, not empty, without control characters.

    Raises:
        ConfigError: It is none.
    """
    if not isinstance(value, str):
        raise ConfigError(label, value, "use a text in quotes")
    if not value or not value.isprintable():
        raise ConfigError(label, value, "use printable characters, at least one")
    return value


def read_kafka_value(name: str, value: object) -> Secret | None:
    """A librdkafka value as text, masked unless harmless; ``None`` if it is not one."""
    if isinstance(value, bool):
        return Secret.of_property(name, str(value).lower())
    if isinstance(value, str | int | float):
        return Secret.of_property(name, str(value))
    return None


def _duration(name: str, minimum_ms: int, maximum_ms: int, example: str) -> Option:
    def check(label: str, ms: object) -> None:
        if _within(ms, minimum_ms, maximum_ms):
            return
        shown = duration_text(ms) if _within(ms, 0, 1 << 62) else ms  # type: ignore[arg-type]  # an int, by the test
        low, high = duration_text(minimum_ms), duration_text(maximum_ms)
        raise ConfigError(label, shown, f"allowed: {low} to {high}")

    return Option(name, f"{name}_ms", duration_ms, check, duration_text, example)


def _integer(name: str, minimum: int, maximum: int, example: str) -> Option:
    def read(label: str, raw: object) -> object:
        if isinstance(raw, int) and not isinstance(raw, bool):
            return raw
        raise ConfigError(label, raw, f"use a whole number, e.g. {example}")

    def check(label: str, value: object) -> None:
        if not _within(value, minimum, maximum):
            raise ConfigError(label, value, f"allowed: {minimum} to {maximum}")

    return Option(name, name, read, check, _same, example, is_integer=True)


def _place(name: str, example: str) -> Option:
    def check(label: str, value: object) -> None:
        if value not in ("auto", "off") and not str(value).startswith("/"):
            raise ConfigError(
                label, value, "use auto, off, or the whole path of a file"
            )

    return Option(name, name, read_text, check, _same, example)


def _word(name: str, words: tuple[str, ...]) -> Option:
    def check(label: str, value: object) -> None:
        if value not in words:
            raise ConfigError(label, value, nearest(str(value), words, "allowed"))

    return Option(name, name, read_text, check, _same, words[0])


def _weights(name: str, example: str) -> Option:
    """Whole numbers by name: ``mail=3,reports=1``."""

    def read(label: str, raw: object) -> object:
        found: dict[str, int] = {}
        for pair in read_text(label, raw).split(","):
            key, equals, number = (part.strip() for part in pair.partition("="))
            if not equals or not number.isdecimal() or key in found:
                raise ConfigError(label, raw, f"use name=number, as in {example}")
            found[key] = int(number)
        return found

    def check(label: str, value: Mapping[str, int]) -> None:
        for key, number in value.items():
            if not _within(number, 1, _MOST_WEIGHT):
                raise ConfigError(
                    label, f"{key}={number}", f"allowed: 1 to {_MOST_WEIGHT}"
                )

    def show(value: Mapping[str, int]) -> str | None:
        return ",".join(f"{key}={number}" for key, number in value.items()) or None

    return Option(name, name, read, check, show, example)


def _url(name: str, example: str) -> Option:
    def read(label: str, raw: object) -> Secret:
        if isinstance(raw, str) and raw:
            return Secret.of_url(raw)
        raise ConfigError(label, type(raw).__name__, f"use a URL such as {example}")

    def check(label: str, value: object) -> None:
        if value is not None and not isinstance(value, Secret):
            kind = type(value).__name__
            raise ConfigError(label, kind, "use shifter.config.Secret.of_url(…)")

    def show(value: Secret | None) -> str | None:
        return None if value is None else str(value)

    return Option(name, f"{name}_url", read, check, show, example, is_secret=True)


def _within(value: object, minimum: int, maximum: int) -> bool:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return is_int and minimum <= value <= maximum  # type: ignore[operator]  # an int here


def _same(value: object) -> object:
    return value


OPTIONS: Final = (
    _url("log", "kafka://127.0.0.1:9092"),
    _url("state", "redis://127.0.0.1:6379/0"),
    _duration("accept_timeout", 10, 600_000, "10s"),
    _duration("lease", 1_000, 3_600_000, "15s"),
    _duration("drain_timeout", 0, 3_600_000, "30s"),
    _duration("deploy_grace", 0, DAY_MS, "15m"),
    # Claims of ended jobs are kept for 5 minutes and must outlive a redelivery.
    _duration("commit_interval", 10, 60_000, "500ms"),
    _duration("claim_timeout", 10, 60_000, "500ms"),
    _duration("retention", DAY_MS, 366 * DAY_MS, "37d"),
    _integer("concurrency", 1, 100_000, "100"),
    _integer("waiting_bytes", 1_000_000, 100_000_000_000, "67108864"),
    _weights("queue_weights", "mail=3,reports=1"),
    _integer("processes", 1, 1_024, "4"),
    _integer("max_payload_bytes", 1, 8_000_000, "900000"),
    _integer("partitions", 1, 10_000, "6"),
    _word("without_commits", ("earliest", "latest", "refuse")),
    _place("spool", "auto"),
    _integer("spool_max_bytes", 1_000_000, 100_000_000_000, "1073741824"),
    _word("waiting_states", ("on", "off")),
    _word("log_level", ("info", "debug", "warning", "error")),
    _word("log_format", ("auto", "json", "console")),
)
