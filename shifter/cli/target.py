"""Loads the user's app, and tells the user's mistakes from ours."""

from __future__ import annotations

import traceback

from shifter.app import Shifter
from shifter.cli.problem import Exit, Problem, ProblemError
from shifter.errors import ConfigError
from shifter.target import load_app

_FRAMES = 3


def find_app(target: str) -> Shifter:
    """The app that ``MODULE:APP`` names; the current directory is on the path.

    Raises:
        ConfigError: The module or attribute does not exist, or is no `Shifter`.
        ProblemError: The user's module raised while it was imported.
    """
    try:
        return load_app(target)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise _broken(target, error) from error


def _broken(target: str, error: BaseException) -> ProblemError:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename]
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
