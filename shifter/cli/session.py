"""The session of a command line: its settings, its app, and its operator."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

from shifter.api.app import Shifter
from shifter.api.load import load_app
from shifter.cli.output import is_terminal, note, warn
from shifter.cli.problem import Exit, ProblemError, missing, usage
from shifter.config import Settings, load_settings
from shifter.config.endpoint import mask_url
from shifter.errors import ConfigError

_VARIABLES: Final = {
    "log": "SHIFTER_LOG",
    "state": "SHIFTER_STATE",
    "config": "SHIFTER_CONFIG",
}
# Places of a traceback that are shown: the line at fault and how it was reached.
_FRAMES: Final = 3
_WANT: Final = "use MODULE:APP with dots, such as shop.jobs:app for shop/jobs.py"
# Frames of the import system and of this package do not help to mend a user's module.
_NOT_THEIRS: Final = ("<frozen ", str(Path(__file__).parents[1]), importlib.__file__)


class Session:
    """The global options of one command line.

    Args:
        flags: Public setting name to value; ``None`` where not given.
    """

    def __init__(self, flags: Mapping[str, str | None]) -> None:
        self._flags = {name: text for name, text in flags.items() if text is not None}
        self._warned: set[str] = set()

    def settings(self, namespace: str | None = None) -> Settings:
        """The settings of this command line; warnings are shown once.

        Raises:
            ConfigError: One is wrong.
        """
        settings = load_settings(namespace, flags=self._flags)
        self._warn(settings)
        return settings

    def export(self) -> None:
        """Write the flags into the environment, for modules and other processes.

        The user's module reads the environment, and so do worker processes: that is
        how a flag reaches an app that makes its settings by itself.
        """
        for name, variable in _VARIABLES.items():
            if name in self._flags:
                os.environ[variable] = self._flags[name]
                os.environ.pop(f"{variable}_FILE", None)

    def flag(self, name: str) -> str | None:
        """The value of a global option; ``None`` where it is not given."""
        return self._flags.get(name)

    def app(self, target: str) -> Shifter:
        """The app that ``MODULE:APP`` names, under this command line's settings.

        Raises:
            ConfigError: It does not exist, or a flag contradicts it.
            ProblemError: Its module raised.
        """
        self.export()
        app = _find_app(target)
        namespace = self._flags.get("namespace")
        if namespace not in (None, app.namespace):
            want = f"the app's namespace is {app.namespace!r}: leave the flag out"
            raise ConfigError("--namespace", namespace, want)
        self._check_taken(app.settings)
        self._warn(app.settings)
        return app

    def _check_taken(self, settings: Settings) -> None:
        for name, url in (("log", settings.log_url), ("state", settings.state_url)):
            flag = self._flags.get(name)
            if flag is not None and (url is None or url.reveal() != flag):
                want = "the app brings settings of its own: leave the flag out"
                raise ConfigError(f"--{name}", mask_url(flag), want)

    def _warn(self, settings: Settings) -> None:
        for warning in settings.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                warn(warning)


InSession: TypeAlias = Annotated[Session, Parameter(parse=False)]
"""A verb's parameter that the command line fills in."""


def need_log(settings: Settings) -> Settings:
    """Return the settings, if they name a log.

    Raises:
        ProblemError: They do not.
    """
    if settings.log_url is None:
        raise ProblemError(*missing("log"))
    return settings


def need_state(settings: Settings) -> Settings:
    """Return the settings, if they name a state store.

    Raises:
        ProblemError: They do not.
    """
    if settings.state_url is None:
        raise ProblemError(*missing("state"))
    return settings


def consent(question: str, *, yes: bool) -> None:
    """Return if the operator confirms.

    Args:
        question: The step, as a sentence without its full stop.
        yes: Whether the command line confirms it already.

    Raises:
        ProblemError: There is no terminal to ask on, or the answer was not yes.
    """
    if yes:
        return
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        fix = "look with --dry-run first, then add --yes"
        raise usage(
            "the command is not confirmed", "there is no terminal to ask on", fix
        )
    note(f"{question}. Type yes to go on:")
    if sys.stdin.readline().strip() != "yes":
        why = "the answer was not yes"
        raise ProblemError(
            "declined", "nothing was done", why, "run it again", Exit.FAILURE
        )


def _find_app(target: str) -> Shifter:
    """The app that ``MODULE:APP`` names; the current directory is on the path.

    Raises:
        ConfigError: The module or attribute does not exist, or is no `Shifter`.
        ProblemError: The user's module raised while it was imported.
    """
    module_name = target.partition(":")[0]
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise ConfigError("MODULE:APP", target, _WANT)
    try:
        return load_app(target)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise _broken(target, error) from error


def _broken(target: str, error: BaseException) -> ProblemError:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_NOT_THEIRS)]
    where = " > ".join(f"{frame.filename}:{frame.lineno}" for frame in own[-_FRAMES:])
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}"
    name, text = type(error).__name__, str(error).partition("\n")[0]
    return ProblemError(
        "app",
        f"{target} cannot be imported",
        f"{name}: {text}" if text else name,
        f"mend {where}; python -c 'import {target.partition(':')[0]}' shows all",
        Exit.CONFIG,
    )
