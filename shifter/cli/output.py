"""Writes everything that reaches a terminal or a pipe, and the texts of its cells.

Data goes to stdout, the rest to stderr. Foreign text is escaped, so that a dead letter
cannot move the cursor; nothing is cut where a program may be reading.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

import msgspec

from shifter.cli.problem import Problem
from shifter.wire.untrusted import encode_line, printable

# Characters of one cell or line: a payload or a stack may have millions.
_LIMIT = 2_000
_GAP = "  "


def write_json(value: object) -> None:
    """One JSON value on one line of stdout."""
    write_line(encode_line(value).decode())


def write_line(text: str = "") -> None:
    """One line of stdout; the caller has escaped what is not its own."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """One line of stderr."""
    sys.stderr.write(f"{escape(text)}\n")


def warn(text: str) -> None:
    """A warning, as one line of stderr."""
    note(f"warning: {text}")


def escape(value: object, limit: int = _LIMIT) -> str:
    """Text without control characters, so that it cannot move a cursor."""
    return printable(str(value), limit)


def report(problem: Problem, *, as_json: bool) -> None:
    """Show a problem: three lines on stderr, and an object on stdout if asked."""
    if as_json:
        write_json(problem.as_json())
    for name, text in zip(
        ("error: ", "  why: ", "  fix: "),
        (problem.what, problem.why, problem.fix),
        strict=True,
    ):
        sys.stderr.write(f"{name}{escape(text)}\n")


def write_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str
) -> None:
    """A table on stdout: aligned, or one block a row where it would not fit.

    Args:
        columns: Headings.
        rows: Cells, one for each heading; ``None`` shows as ``-``.
        empty: Text for stderr when there are no rows.
    """
    if not rows:
        note(empty)
        return
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max(len(heading), *(len(row[place]) for row in cells))
        for place, heading in enumerate(columns)
    ]
    if is_terminal(sys.stdout) and sum(widths) + 2 * len(widths) > terminal_width():
        _write_blocks(columns, cells)
        return
    for row in ([heading.upper() for heading in columns], *cells):
        padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        write_line(_GAP.join(padded).rstrip())


def write_rows(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    facts: object,
    *,
    as_json: bool,
    empty: str,
) -> None:
    """Rows as a table, or, where JSON is asked for, the same facts as one value.

    Args:
        columns: Headings.
        rows: Cells, one for each heading; ``None`` shows as ``-``.
        facts: The value that JSON shows; structs become objects.
        as_json: Whether JSON is asked for.
        empty: Text for stderr when there are no rows.
    """
    if as_json:
        write_json(msgspec.to_builtins(facts))
    else:
        write_table(columns, rows, empty=empty)


def is_terminal(stream: TextIO) -> bool:
    """Whether this stream is a terminal."""
    return stream.isatty()


def blocks_are_shown() -> bool:
    """Whether standard output can write block characters."""
    try:
        "▁█".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def terminal_width() -> int:
    """Columns of the terminal; 80 where there is none."""
    return shutil.get_terminal_size().columns


def _write_blocks(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for number, row in enumerate(rows):
        if number:
            write_line()
        for heading, text in zip(columns, row, strict=True):
            write_line(f"{heading}: {text}")


def _cell(value: object) -> str:
    return "-" if value is None else escape(value)
