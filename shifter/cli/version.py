"""`shifter version` and `schemas`: this release and the wire contracts it publishes.

A health check may ask for the version every second, so this module imports nothing of
the product that `version` does not need.
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version as installed
from pathlib import Path
from typing import Final

from shifter.cli.output import write_json, write_line
from shifter.cli.problem import Exit, ProblemError, usage

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


def schemas(*, write: Path | None = None, check: Path | None = None) -> None:
    """List the published wire contracts, write them, or check a folder of them.

    Example: shifter schemas --check schemas

    Args:
        write: Folder to write them to; made if it is not there.
        check: Folder to compare with; ends with 1 where it differs.
    """
    if write is not None and check is not None:
        raise usage(
            "too many options", "--write and --check exclude each other", "keep one"
        )
    from shifter.wire.schemas import generate  # noqa: PLC0415  # msgspec, for this verb only

    files = generate()
    if write is not None:
        _write(files, write)
    elif check is not None:
        _check(files, check)
    else:
        for name in sorted(files):
            write_line(name)


def version_of(distribution: str) -> str:
    """The installed version of a distribution; ``unknown`` if it is not installed."""
    try:
        return installed(distribution)
    except PackageNotFoundError:
        return "unknown"


def _write(files: dict[str, bytes], folder: Path) -> None:
    try:
        for name, content in sorted(files.items()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            write_line(str(path))
    except OSError as error:
        raise ProblemError(
            "cannot_create",
            "the contracts cannot be written",
            f"{error.filename}: {error.strerror}",
            "choose a folder that can be written to",
            Exit.CANNOT_CREATE,
        ) from error


def _check(files: dict[str, bytes], folder: Path) -> None:
    stale = [
        name
        for name, content in sorted(files.items())
        if not _holds(folder / name, content)
    ]
    if stale:
        raise ProblemError(
            "stale",
            f"{folder} does not hold the current contracts",
            f"missing or different: {', '.join(stale)}",
            f"shifter schemas --write {folder}",
            Exit.FAILURE,
        )


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
