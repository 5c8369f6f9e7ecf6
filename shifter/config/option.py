"""How a setting is read, bounded and shown, by the kind of its value."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from shifter.config.endpoint import Secret
from shifter.errors import ConfigError
from shifter.model.advice import nearest
from shifter.model.time import duration_ms

DAY_MS: Final = 86_400_000

_MOST_WEIGHT: Final = 100
_MOST_CHARS: Final = 64
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
        ConfigError: The value is no such text.
    """
    if not isinstance(value, str):
        raise ConfigError(label, value, "use a text in quotes")
    if not value or not value.isprintable():
        raise ConfigError(label, value, "use printable characters, at least one")
    return value


def text_option(name: str, example: str) -> Option:
    """A short text, or none."""

    def check(label: str, value: str | None) -> None:
        if value is not None and len(read_text(label, value)) > _MOST_CHARS:
            raise ConfigError(label, value, f"allowed: 1 to {_MOST_CHARS} characters")

    return Option(name, name, read_text, check, _same, example)


def duration_option(
    name: str, minimum_ms: int, maximum_ms: int, example: str
) -> Option:
    """A duration, kept in milliseconds in the field ``<name>_ms``."""

    def check(label: str, ms: object) -> None:
        if _within(ms, minimum_ms, maximum_ms):
            return
        shown = duration_text(ms) if _within(ms, 0, 1 << 62) else ms  # type: ignore[arg-type]  # an int, by the test
        low, high = duration_text(minimum_ms), duration_text(maximum_ms)
        raise ConfigError(label, shown, f"allowed: {low} to {high}")

    return Option(name, f"{name}_ms", duration_ms, check, duration_text, example)


def integer_option(name: str, minimum: int, maximum: int, example: str) -> Option:
    """A whole number."""

    def read(label: str, raw: object) -> object:
        if isinstance(raw, int) and not isinstance(raw, bool):
            return raw
        raise ConfigError(label, raw, f"use a whole number, e.g. {example}")

    def check(label: str, value: object) -> None:
        if not _within(value, minimum, maximum):
            raise ConfigError(label, value, f"allowed: {minimum} to {maximum}")

    return Option(name, name, read, check, _same, example, is_integer=True)


def place_option(name: str, example: str) -> Option:
    """``auto``, ``off``, or the whole path of a file."""

    def check(label: str, value: object) -> None:
        if value not in ("auto", "off") and not str(value).startswith("/"):
            raise ConfigError(
                label, value, "use auto, off, or the whole path of a file"
            )

    return Option(name, name, read_text, check, _same, example)


def word_option(name: str, words: tuple[str, ...]) -> Option:
    """One of these words; the first is the example."""

    def check(label: str, value: object) -> None:
        if value not in words:
            raise ConfigError(label, value, nearest(str(value), words, "allowed"))

    return Option(name, name, read_text, check, _same, words[0])


def share_option(name: str, example: str) -> Option:
    """``auto``, which is read as ``None``, or a number from 0 to 1."""

    def read(label: str, raw: object) -> object:
        if raw == "auto":
            return None
        if isinstance(raw, str | int | float) and not isinstance(raw, bool):
            with contextlib.suppress(ValueError):
                return float(raw)
        raise ConfigError(label, raw, f"use auto, or a number such as {example}")

    def check(label: str, value: float | None) -> None:
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(label, value, "allowed: auto, or 0 to 1")

    def show(value: float | None) -> object:
        return "auto" if value is None else str(value)

    return Option(name, name, read, check, show, example)


def weights_option(name: str, example: str) -> Option:
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


def url_option(name: str, example: str) -> Option:
    """A URL, which may hold a password."""

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
