"""Turns values into HTML: templates that escape everything, and texts of cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from shifter.ops.texts import age_text, instant_text, tier_text
from shifter.wire.untrusted import printable

_NONE: Final = "\u2013"
"""A dash, for what is not known."""
_CELL: Final = 300
"""Characters of one cell; a message or a name may have millions."""


def environment() -> Environment:
    """The templates; each value is escaped, and an unknown one is an error."""
    found = Environment(
        loader=PackageLoader("shifter.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        age=lambda value: age_text(value) or _NONE,
        instant=instant_text,
        clock=lambda value: instant_text(value)[11:19],
        cell=lambda value: _NONE if value is None else printable(str(value), _CELL),
        number=_number,
        rate=lambda value: _NONE if value is None else f"{value:.1f}/s",
        counts=_counts,
        tier=tier_text,
    )
    return found


def _number(value: float | None) -> str:
    r"""A count with spaces between thousands; a dash where it is not known.

    >>> ascii(_number(12345)), _number(None) == _NONE
    ("'12\\u202f345'", True)
    """
    return _NONE if value is None else f"{value:,}".replace(",", "\u202f")


def _counts(value: Mapping[str, Any]) -> str:
    """Counts by name, those of zero left out.

    >>> _counts({"sent": 3, "parked": 0})
    '3 sent'
    """
    found = [
        f"{count} {printable(name, _CELL)}" for name, count in value.items() if count
    ]
    return ", ".join(found) or _NONE
