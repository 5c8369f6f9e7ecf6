"""Rows of cells as lines of text that fit a width, also a narrow one.

Where a table is too wide, its names become shorter first, then its least important
columns go. Widths are those of a terminal, where a character may take two columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from rich.cells import cell_len, set_cell_size

from shifter.cli.output import escape

_GAP: Final = 2
_LEAST_NAME: Final = 16
"""Columns that a name keeps before another column goes."""
_LIMIT: Final = 200
"""Characters of a cell."""


class Look(StrEnum):
    """How a piece of text looks; colours support words, and never replace them."""

    PLAIN = "plain"
    TITLE = "title"
    FAINT = "faint"
    KEY = "key"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    UNKNOWN = "unknown"


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    look: Look = Look.PLAIN


Line: TypeAlias = list[Span]


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        heading: Its title.
        rank: Importance; the column with the largest number goes first.
        is_name: Whether it may become shorter, and stands on the left; a number
            stands on the right.
    """

    heading: str
    rank: int
    is_name: bool = False


class Row(NamedTuple):
    """A row of a table; its cells are escaped here."""

    cells: Sequence[object]
    look: Look = Look.PLAIN


def clean(value: object) -> str:
    """A cell's text; ``None`` shows as ``-``."""
    return "-" if value is None else escape(value, _LIMIT)


def fit(text: str, width: int) -> str:
    """Text cut to so many columns of a terminal; a cut one ends in ``~``.

    >>> fit("abcdef", 4), fit("abc", 4), fit("日本語", 4), fit("abc", 0)
    ('abc~', 'abc', '日~', '')
    """
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "~" if width > 0 else ""


def crop(line: Line, width: int) -> Line:
    """A line cut to so many columns."""
    kept: Line = []
    for span in line:
        text = fit(span.text, width)
        width -= cell_len(text)
        if text:
            kept.append(span._replace(text=text))
        if text != span.text:
            break
    return kept


def lines_of(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[Line]:
    """The heading and a line for each row.

    Args:
        columns: Left to right.
        rows: A cell for each column.
        width: Columns of the terminal.
    """
    cells = [[clean(cell) for cell in row.cells] for row in rows]
    widths = [
        max(cell_len(text) for text in (column.heading, *(row[at] for row in cells)))
        for at, column in enumerate(columns)
    ]
    shown = _fitted(columns, widths, width)
    heading = [column.heading for column in columns]
    return [
        crop([Span(_joined(columns, texts, shown), look)], width)
        for texts, look in (
            (heading, Look.TITLE),
            *zip(cells, (row.look for row in rows), strict=True),
        )
    ]


def _fitted(
    columns: Sequence[Column], widths: Sequence[int], width: int
) -> dict[int, int]:
    """The columns that there is room for, by their places, with their widths."""
    left = list(range(len(columns)))
    while True:
        shown = {at: widths[at] for at in left}
        over = sum(shown.values()) + _GAP * (len(shown) - 1) - width
        names = [at for at in left if columns[at].is_name]
        for at in sorted(names, key=lambda at: -widths[at]):
            cut = max(0, min(over, widths[at] - _LEAST_NAME))
            shown[at] -= cut
            over -= cut
        if over <= 0 or len(left) == 1:
            return shown
        left.remove(max(left, key=lambda at: columns[at].rank))


def _joined(
    columns: Sequence[Column], texts: Sequence[str], shown: dict[int, int]
) -> str:
    parts = []
    for at, width in shown.items():
        text = fit(texts[at], width)
        space = " " * (width - cell_len(text))
        parts.append(text + space if columns[at].is_name else space + text)
    return (" " * _GAP).join(parts).rstrip()
