"""``shifter version``."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version as installed
from typing import Final

from shifter.cli.output import write_json, write_line

DISTRIBUTION: Final = "shifter-queue"
_PARTS: Final = ("confluent-kafka", "redis", "msgspec")


def version(*, json: bool = False) -> None:
    """Show the version.

    Example: shifter version --json

    Args:
        json: Print one JSON object, with the versions of the libraries underneath.
    """
    if not json:
        write_line(f"shifter {version_of(DISTRIBUTION)}")
        return
    parts = {name: version_of(name) for name in _PARTS}
    own = {"shifter": version_of(DISTRIBUTION), "python": platform.python_version()}
    write_json({**own, **parts})


def version_of(distribution: str) -> str:
    """The installed version of a distribution; ``unknown`` if it is not installed."""
    try:
        return installed(distribution)
    except PackageNotFoundError:
        return "unknown"
