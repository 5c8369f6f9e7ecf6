"""Finds the app that ``MODULE:APP`` names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from shifter.api.app import Shifter
from shifter.errors import ConfigError
from shifter.model.advice import nearest

_WANT = "use MODULE:APP, such as 'shop.jobs:app'"


def load_app(target: str) -> Shifter:
    """Import the app; the current directory counts as a place to look.

    An exception of the user's own module passes through untouched.

    Raises:
        ConfigError: The module or the attribute does not exist, or is no `Shifter`.
    """
    module_name, colon, attribute = target.partition(":")
    if not colon or not module_name or not attribute.isidentifier():
        raise ConfigError("MODULE:APP", target, _WANT)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        want = f"there is no module {error.name!r} in {here} or on the path"
        raise ConfigError("MODULE:APP", target, want) from error
    found = getattr(module, attribute, None)
    if isinstance(found, Shifter):
        return found
    apps = [name for name, value in vars(module).items() if isinstance(value, Shifter)]
    if found is None:
        want = nearest(attribute, apps, f"apps in {module_name}")
        raise ConfigError("MODULE:APP", target, want)
    want = f"{attribute!r} is a {type(found).__name__}, not a shifter.Shifter"
    raise ConfigError("MODULE:APP", target, want)
