"""Configuration and secret files: read whole, bounded, and never executed."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from shifter.errors import ConfigError

_MAX_BYTES: Final = 65_536
_MAX_PYPROJECT_BYTES: Final = 1_048_576
_MAX_DOTS: Final = 300
"""Dots in one line of TOML: the parser takes a time that grows with their square."""


class ConfigFile(NamedTuple):
    """One file's settings.

    Attributes:
        name: What to call it in errors and origins.
        table: The settings it holds.
        is_open: Whether every user of this machine may read it.
    """

    name: str
    table: dict[str, Any]
    is_open: bool


def find_files(
    explicit: str | None, environ: Mapping[str, str], cwd: Path
) -> Iterator[ConfigFile]:
    """Configuration files that apply, the weakest first.

    An explicit file must exist and is the only one. Otherwise the user's own file
    comes first, then ``shifter.toml``, or without it ``[tool.shifter]`` of
    ``pyproject.toml``, of the current directory.

    Raises:
        ConfigError: A file cannot be read, is not UTF-8, or is not TOML.
    """
    if explicit is not None:
        yield _read(explicit, cwd / explicit)
        return
    home = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '')}/.config"
    user = Path(home) / "shifter" / "config.toml"
    if user.is_absolute() and user.exists():
        yield _read(str(user), user)
    if (cwd / "shifter.toml").exists():
        yield _read("shifter.toml", cwd / "shifter.toml")
    elif (cwd / "pyproject.toml").is_file():
        yield from _pyproject(cwd / "pyproject.toml")


def read_secret(label: str, path: str) -> tuple[str, bool]:
    """The text of a secret file without its last line break, and whether it is open.

    Raises:
        ConfigError: It cannot be read, is empty, or is not one line of UTF-8.
    """
    content, is_open = _bytes(label, path, Path(path))
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError(label, path, "the file is not UTF-8 text") from None
    if not text or "\n" in text:
        raise ConfigError(label, path, "the file must hold one line, not empty")
    return text, is_open


def _pyproject(path: Path) -> Iterator[ConfigFile]:
    # Somebody else's pyproject.toml is none of our business, not even a broken one.
    with path.open("rb") as file:
        if b"tool.shifter" not in file.read(_MAX_PYPROJECT_BYTES):
            return
    name = "pyproject.toml"
    found = _read(name, path)
    table = found.table.get("tool", {}).get("shifter")
    if isinstance(table, dict):
        yield found._replace(name="pyproject.toml [tool.shifter]", table=table)


def _read(name: str, path: Path) -> ConfigFile:
    content, is_open = _bytes("config file", name, path)
    for number, line in enumerate(content.splitlines(), 1):
        if line.count(b".") > _MAX_DOTS:
            want = f"line {number} has more than {_MAX_DOTS} dots"
            raise ConfigError("config file", name, want)
    try:
        return ConfigFile(name, tomllib.loads(content.decode()), is_open)
    except UnicodeDecodeError:
        raise ConfigError("config file", name, "it is not UTF-8 text") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        # The parser's own words name the line; they never quote a value.
        raise ConfigError("config file", name, f"not TOML: {error}") from None


def _bytes(label: str, shown: str, path: Path) -> tuple[bytes, bool]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(label, shown, "it is not a regular file")
        if status.st_size > _MAX_BYTES:
            want = f"it is larger than {_MAX_BYTES >> 10} KiB"
            raise ConfigError(label, shown, want)
        return path.read_bytes(), bool(status.st_mode & stat.S_IROTH)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ConfigError(label, shown, f"cannot be read: {reason}") from None


def state_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where this user's programs keep what they need again: XDG's state folder.

    Source: XDG Base Directory Specification, ``XDG_STATE_HOME``.
    """
    environ = os.environ if environ is None else environ
    home = Path(environ.get("HOME") or Path.home())
    base = environ.get("XDG_STATE_HOME")
    return (Path(base) if base else home / ".local" / "state") / "shifter"
