"""``shifter schemas``: the published wire contracts."""

from __future__ import annotations

from pathlib import Path

from shifter.cli.output import write_line
from shifter.cli.problem import Exit, Problem, ProblemError, usage
from shifter.wire.schemas import generate


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
    files = generate()
    if write is not None:
        _write(files, write)
    elif check is not None:
        _check(files, check)
    else:
        for name in sorted(files):
            write_line(name)


def _write(files: dict[str, bytes], folder: Path) -> None:
    try:
        for name, content in sorted(files.items()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            write_line(str(path))
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
        fix = "choose a folder that can be written to"
        what = "the contracts cannot be written"
        problem = Problem("cannot_create", what, why, fix, Exit.CANNOT_CREATE)
        raise ProblemError(problem) from error


def _check(files: dict[str, bytes], folder: Path) -> None:
    stale = [
        name
        for name, content in sorted(files.items())
        if not _holds(folder / name, content)
    ]
    if stale:
        what = f"{folder} does not hold the current contracts"
        fix = f"shifter schemas --write {folder}"
        why = f"missing or different: {', '.join(stale)}"
        raise ProblemError(Problem("stale", what, why, fix, Exit.FAILURE))


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
