"""Where settings come from: flag > environment > file > default.

Environment: ``SHIFTER_<NAME>``, librdkafka properties as ``SHIFTER_KAFKA__<NAME>``; a
variable that may hold a secret is also read from the file named by ``…_FILE``. An
empty variable counts as unset, which is how compose files pass on what is missing.
Nothing in a value is expanded or executed.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from shifter.config.endpoint import property_name
from shifter.config.files import ConfigFile, find_files, read_secret, state_folder
from shifter.config.options import OPTIONS, Option, read_kafka_value, read_text
from shifter.config.secret import MASK, Secret
from shifter.config.settings import DEFAULT_ORIGIN, Settings
from shifter.errors import ConfigError
from shifter.model.advice import nearest

_PREFIX: Final = "SHIFTER_"
_KAFKA: Final = "SHIFTER_KAFKA__"
_FILE: Final = "_FILE"
_TABLE: Final = "kafka."
_BY_NAME: Final[dict[str, Option]] = {option.name: option for option in OPTIONS}
_NAMES: Final = ("namespace", *_BY_NAME)
# Somebody who has read the code may try SHIFTER_LEASE_MS.
_ALIASES: Final = {option.field: option.name for option in OPTIONS} | {
    name: name for name in _NAMES
}
_SECRETS: Final = tuple(option.name for option in OPTIONS if option.is_secret)
# Read elsewhere: by `load_settings` itself, and by the command line.
_OTHERS: Final = ("config", "traceback")
# A Kubernetes service called "shifter…" plants such variables into every pod.
_KUBERNETES: Final = re.compile(r"_?(?:SERVICE_HOST|SERVICE_PORT|PORT)(?:_|\Z)")
# Two letters swapped in a name of five give 0.8.
_TYPO_RATIO: Final = 0.8


class Found(NamedTuple):
    """A raw value.

    Attributes:
        name: ``namespace``, an option's name, or ``kafka.<property>``.
        label: What to call it in an error: ``SHIFTER_LEASE``, ``--lease`` …
        origin: What `Settings.origin` answers.
        value: Text, or what TOML made of it.
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
    found: dict[str, Found] = {}
    for file in files:
        found |= {item.name: item for item in _from_file(file, warnings)}
    found |= {item.name: item for item in _from_environ(environ, warnings)}
    found |= {item.name: item for item in _from_flags(given)}
    if namespace is not None:
        _check_agreement(namespace, given.get("namespace"))
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
    option = _BY_NAME[item.name]
    value = option.read(item.label, _raw(option, item))
    option.check(item.label, value)
    return option.field, value


def _kafka_value(item: Found) -> Secret:
    secret = read_kafka_value(item.name.removeprefix(_TABLE), item.value)
    if secret is None:
        raise ConfigError(item.label, MASK, "use a text, a number or a boolean")
    return secret


def _raw(option: Option, item: Found) -> object:
    text = item.value
    if item.is_text and option.is_integer and isinstance(text, str):
        return int(text) if re.fullmatch(r"-?[0-9]{1,12}", text) else text
    return text


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
            yield Found(
                name, f"{name} ({file.name})", f"file {file.name}", value, False
            )
        else:
            want = nearest(name, (*_NAMES, "kafka"), "known settings")
            raise ConfigError(f"setting in {file.name}", name, want)
    if holds_secret and file.is_open:
        warnings.append(
            f"{file.name} holds secrets and everybody may read it: chmod 600"
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
        warnings.append(f"{variable}: everybody may read {path}: chmod 600")
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


def _check_agreement(namespace: str, flag: object) -> None:
    if flag is not None and flag != namespace:
        want = f"the app's namespace is {namespace!r}: leave the flag out"
        raise ConfigError("--namespace", flag, want)
