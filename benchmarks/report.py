"""What a benchmark found, as a table and as build/bench.json."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table


class Finding(NamedTuple):
    """One number against its target.

    Attributes:
        name: What was measured.
        value: Its value.
        unit: ``jobs/s``, ``ms``, ``MiB`` …
        against: What it is compared with, measured in the same run; or ``None``.
        against_value: That one's value.
        target: Least ratio, or largest value when ``against`` is ``None``.
        at_most: Whether the target is an upper bound.
    """

    name: str
    value: float
    unit: str
    against: str | None
    against_value: float | None
    target: float
    at_most: bool = False

    @property
    def ratio(self) -> float | None:
        """Value by reference."""
        return self.value / self.against_value if self.against_value else None

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        figure = self.value if self.ratio is None else self.ratio
        return figure <= self.target if self.at_most else figure >= self.target

    def as_json(self) -> dict[str, object]:
        """The published shape."""
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
            "against": self.against,
            "against_value": self.against_value and round(self.against_value, 3),
            "ratio": self.ratio and round(self.ratio, 3),
            "target": self.target,
            "met": self.met,
        }


def publish(findings: list[Finding], path: Path) -> None:
    """Print the table and write the file."""
    table = Table(title="shifter against raw clients, this run")
    for column in ("what", "value", "unit", "against", "its value", "ratio", "target"):
        table.add_column(
            column, justify="left" if column in ("what", "unit", "against") else "right"
        )
    table.add_column("met")
    for finding in findings:
        sign = "≤" if finding.at_most else "≥"
        table.add_row(
            finding.name,
            f"{finding.value:,.1f}",
            finding.unit,
            finding.against or "",
            f"{finding.against_value:,.0f}" if finding.against_value else "",
            f"{finding.ratio:.2f}" if finding.ratio else "",
            f"{sign} {finding.target:g}",
            "yes" if finding.met else "NO",
        )
    Console(width=130).print(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    found = msgspec.json.encode([finding.as_json() for finding in findings])
    path.write_bytes(msgspec.json.format(found, indent=1))
