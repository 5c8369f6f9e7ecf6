"""``python -m tests.torture.harness.table FILE…``: verdicts as rows of Markdown."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from tests.torture.harness.conductor import Verdict
from tests.torture.harness.scenario import SCENARIOS

HEAD = (
    "| scenario | on | jobs | faults | deaths, asked to leave | lost | doubled "
    "| absorbed, stale | early, late | least progress (floor) | recovery "
    "| seed, seconds |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def row(verdict: Verdict) -> str:
    """One verdict; what was violated stands in the place of the title."""
    title = SCENARIOS[verdict.scenario].title
    if verdict.violations:
        title = f"**{verdict.violations[0].checker}: {verdict.violations[0].text}**"
    cells = (
        f"{verdict.scenario} {title}",
        verdict.log,
        f"{verdict.accepted:,}",
        f"{verdict.faults:,}",
        f"{verdict.deaths:,}, {verdict.asked}",
        verdict.ends.get("lost", 0),
        verdict.doubled,
        f"{verdict.absorbed}, {verdict.stale}",
        f"{verdict.early}, {verdict.late}",
        f"{_least(verdict)} ({verdict.floor_per_s:g})",
        f"{verdict.recovery_s:.1f} s",
        f"{verdict.seed}, {verdict.seconds:g}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _least(verdict: Verdict) -> str:
    """In effects a second, of the worst window."""
    return "-" if verdict.least_per_s is None else f"{verdict.least_per_s:g}/s"


if __name__ == "__main__":
    print(HEAD)
    for name in sys.argv[1:]:
        for line in Path(name).read_bytes().splitlines():
            print(row(msgspec.json.decode(line, type=Verdict)))
