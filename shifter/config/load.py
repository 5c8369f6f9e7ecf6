"""Reads settings: a flag beats the environment, that a file, that the default.

Environment: ``SHIFTER_<NAME>``, librdkafka properties as ``SHIFTER_KAFKA__<NAME>``; a
variable that may hold a secret is also read from the file named by ``…_FILE``. An
empty variable counts as unset, which is how compose files pass on what is missing.
Nothing in a value is expanded or executed. Files are read whole and are bounded.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from shifter.config.endpoint import MASK, Secret, property_name
from shifter.config.option import Option, read_text
from shifter.config.settings import DEFAULT_ORIGIN, OPTIONS, Settings
from shifter.errors import ConfigError
from shifter.model.advice import nearest

_PREFIX: Final = "SHIFTER_"
_KAFKA: Final = "SHIFTER_KAFKA__"
_FILE: Final = "_FILE"
_TABLE: Final = "kafka."
_BY_NAME: Final[dict[str, Option]] = {option.name: option for option in OPTIONS}
_NAMES: Final = ("namespace", *_BY_NAME)
# A reader of the code may try SHIFTER_LEASE_MS.
_ALIASES: Final = {option.field: option.name for option in OPTIONS} | {
    name: name for name in _NAMES
}
_SECRETS: Final = tuple(option.name for option in OPTIONS if option.is_secret)
# Read elsewhere: by `load_settings` itself, and by the command line.
_OTHERS: Final = ("config", "traceback")
# Kubernetes sets such variables in every pod where a service is called "shifter…".
_KUBERNETES: Final = re.compile(r"_?(?:SERVICE_HOST|SERVICE_PORT|PORT)(?:_|\Z)")
# Two letters swapped in a name of five give 0.8.
_TYPO_RATIO: Final = 0.8


_MAX_BYTES: Final = 65_536
_MAX_PYPROJECT_BYTES: Final = 1_048_576
# Dots in one line of TOML: the parser takes a time that grows with their square.
_MAX_DOTS: Final = 300


class ConfigFile(NamedTuple):
    """One file's settings.

    Attributes:
        name: Its name in errors and origins.
        table: The settings it holds.
        is_open: Whether every user of this machine may read it.
    """

    name: str
    table: dict[str, Any]
    is_open: bool


class Found(NamedTuple):
    """A raw value.

    Attributes:
        name: ``namespace``, an option's name, or ``kafka.<property>``.
        label: Its name in an error: ``SHIFTER_LEASE``, ``--lease`` …
        origin: Answer of `Settings.origin`.
        value: Text, or the value of a TOML file.
        is_text: Whether digits mean a number, as outside of TOML.
    """

    name: str
    label: str
    origin: str
    value: object
    is_text: bool


def load_settings(
    namespace: str | None = None,
    *,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Settings:
    """Read and check all settings once.

    Args:
        namespace: As given in code, ``Shifter("shop")``; it takes precedence over
            environment and files, and must agree with a flag.
        flags: Public name to value, from a command line; ``None`` values are skipped.
        environ: By default the process's.
        cwd: Where project files are looked for; by default the current directory.

    Raises:
        ConfigError: A value, name or file is wrong; nothing was opened.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    path = given.pop("config", None) or environ.get("SHIFTER_CONFIG") or None
    warnings: list[str] = []
    files = find_files(
        None if path is None else str(path), environ, Path.cwd() if cwd is None else cwd
    )
    sources = itertools.chain(
        *(_from_file(file, warnings) for file in files),
        _from_environ(environ, warnings),
        _from_flags(given),
    )
    # The last value of a name wins, so the strongest source comes last.
    found = {item.name: item for item in sources}
    if namespace is not None:
        flag = given.get("namespace", namespace)
        if flag != namespace:
            want = f"the app's namespace is {namespace!r}: leave the flag out"
            raise ConfigError("--namespace", flag, want)
        found["namespace"] = Found("namespace", "namespace", "code", namespace, True)
    return _build(found | _embedded(found, environ), tuple(warnings))


def _embedded(
    found: Mapping[str, Found], environ: Mapping[str, str]
) -> dict[str, Found]:
    """Without a log: a file of this user on this machine."""
    name = found["namespace"].value if "namespace" in found else None
    if "log" in found or not isinstance(name, str):
        return {}
    url = f"sqlite://{quote(str(state_folder(environ) / f'{name}.db'))}"
    return {"log": Found("log", "log", DEFAULT_ORIGIN, url, is_text=True)}


def _build(found: Mapping[str, Found], warnings: tuple[str, ...]) -> Settings:
    fields: dict[str, Any] = {}
    origins: dict[str, str] = {}
    kafka: dict[str, Secret] = {}
    for item in found.values():
        if item.name.startswith(_TABLE):
            kafka[item.name.removeprefix(_TABLE)] = _kafka_value(item)
            origins[item.name] = item.origin
        else:
            field, value = _read(item)
            fields[field], origins[field] = value, item.origin
    if "namespace" not in fields:
        want = "set SHIFTER_NAMESPACE, --namespace, or namespace in shifter.toml"
        raise ConfigError("namespace", None, want)
    return Settings(**fields, kafka=kafka, origins=origins, warnings=warnings)


def _read(item: Found) -> tuple[str, object]:
    if item.name == "namespace":
        return "namespace", read_text(item.label, item.value)
    option, raw = _BY_NAME[item.name], item.value
    # Outside of TOML a number comes as text; of more digits no bound allows it.
    is_digits = item.is_text and re.fullmatch(r"-?[0-9]{1,12}", str(raw))
    if option.is_integer and is_digits:
        raw = int(str(raw))
    value = option.read(item.label, raw)
    option.check(item.label, value)
    return option.field, value


def _kafka_value(item: Found) -> Secret:
    value = item.value
    if not isinstance(value, bool | str | int | float):
        raise ConfigError(item.label, MASK, "use a text, a number or a boolean")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return Secret.of_property(item.name.removeprefix(_TABLE), text)


def _from_flags(flags: Mapping[str, object]) -> Iterator[Found]:
    for name, value in flags.items():
        label = f"--{name.replace('_', '-')}"
        if name not in _NAMES:
            raise ConfigError("flag", name, nearest(name, _NAMES, "known"))
        yield Found(name, label, f"flag {label}", value, is_text=True)


def _from_file(file: ConfigFile, warnings: list[str]) -> Iterator[Found]:
    holds_secret = False
    for name, value in file.table.items():
        if name == "kafka" and isinstance(value, dict):
            holds_secret = True
            yield from _kafka_table(file, value)
        elif name in _NAMES:
            holds_secret |= name in _SECRETS and "@" in str(value)
            label, origin = f"{name} ({file.name})", f"file {file.name}"
            yield Found(name, label, origin, value, is_text=False)
        else:
            want = nearest(name, (*_NAMES, "kafka"), "known settings")
            raise ConfigError(f"setting in {file.name}", name, want)
    if holds_secret and file.is_open:
        warnings.append(
            f"{file.name} holds secrets and all users may read it: chmod 600"
        )


def _kafka_table(file: ConfigFile, table: Mapping[str, object]) -> Iterator[Found]:
    for key, value in table.items():
        label = f"kafka.{key} ({file.name})"
        name = f"{_TABLE}{property_name(label, key)}"
        yield Found(name, label, f"file {file.name}", value, is_text=False)


def _from_environ(environ: Mapping[str, str], warnings: list[str]) -> Iterator[Found]:
    for variable, text in sorted(environ.items()):
        if not variable.startswith(_PREFIX) or not text:
            continue
        name = _setting_of(variable)
        if name is not None:
            yield Found(name, variable, f"env {variable}", text, is_text=True)
            continue
        name = _setting_of(variable.removesuffix(_FILE))
        if variable.endswith(_FILE) and name is not None and _may_be_secret(name):
            yield _from_secret_file(variable, name, text, environ, warnings)
        else:
            _warn_of_unknown(variable, warnings)


def _setting_of(variable: str) -> str | None:
    if variable.startswith(_KAFKA):
        name = variable.removeprefix(_KAFKA)
        if name.endswith(_FILE):
            return None
        return f"{_TABLE}{property_name(variable, name)}"
    name = variable.removeprefix(_PREFIX).lower()
    return name if name in _NAMES and variable.isupper() else None


def _may_be_secret(name: str) -> bool:
    return name in _SECRETS or name.startswith(_TABLE)


def _from_secret_file(
    variable: str,
    name: str,
    path: str,
    environ: Mapping[str, str],
    warnings: list[str],
) -> Found:
    if environ.get(variable.removesuffix(_FILE)):
        want = f"{variable.removesuffix(_FILE)} is set too: keep one of them"
        raise ConfigError(variable, path, want)
    text, is_open = read_secret(variable, path)
    if is_open:
        warnings.append(f"{variable}: all users may read {path}: chmod 600")
    return Found(name, variable, f"env {variable}", text, is_text=True)


def _warn_of_unknown(variable: str, warnings: list[str]) -> None:
    name = variable.removeprefix(_PREFIX).lower()
    if name in _OTHERS or _KUBERNETES.search(variable.removeprefix(_PREFIX)):
        return
    close = difflib.get_close_matches(name, _ALIASES, n=1, cutoff=_TYPO_RATIO)
    if close:
        want = f"did you mean {_PREFIX}{_ALIASES[close[0]].upper()}?"
        raise ConfigError("environment variable", variable, want)
    warnings.append(f"{variable} is not a setting of shifter")


def find_files(
    explicit: str | None, environ: Mapping[str, str], cwd: Path
) -> Iterator[ConfigFile]:
    """Configuration files that apply, the weakest first.

    An explicit file must exist and is the only one. Otherwise the user's own file
    comes first, then ``shifter.toml``, or without it ``[tool.shifter]`` of
    ``pyproject.toml``, of the current directory.

    Args:
        explicit: Path of an explicit file, relative to ``cwd``; ``None`` without one.
        environ: The environment: where the user's own files lie.
        cwd: The current directory.

    Raises:
        ConfigError: A file cannot be read, is not UTF-8, or is not TOML.
    """
    if explicit is not None:
        yield _read_file(explicit, cwd / explicit)
        return
    home = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '')}/.config"
    user = Path(home) / "shifter" / "config.toml"
    if user.is_absolute() and user.exists():
        yield _read_file(str(user), user)
    if (cwd / "shifter.toml").exists():
        yield _read_file("shifter.toml", cwd / "shifter.toml")
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
    # A pyproject.toml without this table is another program's file: even a broken one
    # must not be an error here.
    with path.open("rb") as file:
        if b"tool.shifter" not in file.read(_MAX_PYPROJECT_BYTES):
            return
    name = "pyproject.toml"
    found = _read_file(name, path)
    table = found.table.get("tool", {}).get("shifter")
    if isinstance(table, dict):
        yield found._replace(name="pyproject.toml [tool.shifter]", table=table)


def _read_file(name: str, path: Path) -> ConfigFile:
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
        # The parser's message names the line and never quotes a value.
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
