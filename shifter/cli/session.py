"""What a verb is given: the settings, the app, the namespace of this command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

from shifter.api.app import Shifter
from shifter.cli.output import note
from shifter.cli.problem import ProblemError, missing
from shifter.cli.target import find_app
from shifter.config import Settings, load_settings
from shifter.config.secret import mask_url
from shifter.errors import ConfigError

_VARIABLES: Final = {
    "log": "SHIFTER_LOG",
    "state": "SHIFTER_STATE",
    "config": "SHIFTER_CONFIG",
}


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

    def flag(self, name: str) -> str | None:
        """What a global option was given as; ``None`` where it was not."""
        return self._flags.get(name)

    def app(self, target: str) -> Shifter:
        """The app that ``MODULE:APP`` names, under this command line's settings.

        Raises:
            ConfigError: It does not exist, or a flag contradicts it.
            ProblemError: Its module raised.
        """
        # The user's module, and worker processes after it, read the environment: that
        # is how a flag reaches an app that makes its settings by itself.
        for name, variable in _VARIABLES.items():
            if name in self._flags:
                os.environ[variable] = self._flags[name]
                os.environ.pop(f"{variable}_FILE", None)
        app = find_app(target)
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
                note(f"warning: {warning}")


InSession: TypeAlias = Annotated[Session, Parameter(parse=False)]
"""A verb's parameter that the command line fills in."""


def need_log(settings: Settings) -> Settings:
    """The same settings, if they name a log.

    Raises:
        ProblemError: They do not.
    """
    if settings.log_url is None:
        raise ProblemError(missing("log"))
    return settings


def need_state(settings: Settings) -> Settings:
    """The same settings, if they name a state store.

    Raises:
        ProblemError: They do not.
    """
    if settings.state_url is None:
        raise ProblemError(missing("state"))
    return settings
