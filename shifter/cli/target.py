"""Loads the user's app, and tells the user's mistakes from ours."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path
from typing import Final

from shifter.api.app import Shifter
from shifter.api.load import load_app
from shifter.cli.problem import Exit, Problem, ProblemError
from shifter.errors import ConfigError

_FRAMES: Final = 3
_WANT: Final = "use MODULE:APP with dots, such as shop.jobs:app for shop/jobs.py"
_NOT_THEIRS: Final = ("<frozen ", str(Path(__file__).parents[1]), importlib.__file__)


def find_app(target: str) -> Shifter:
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
        Problem(
            "app",
            f"{target} cannot be imported",
            f"{name}: {text}" if text else name,
            f"mend {where}; python -c 'import {target.partition(':')[0]}' shows all",
            Exit.CONFIG,
        )
    )
