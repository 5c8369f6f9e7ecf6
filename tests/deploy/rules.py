"""The published rules, their runbook and their tests, as the tests read them."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.documents.blocks import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
CONFIG = FOLDER / "prometheus.yml"
RULES = FOLDER / "shifter.rules.yml"
RULE_TESTS = FOLDER / "tests" / "shifter.test.yml"
RUNBOOK = "docs/operations.md"

_ALERT = re.compile(r"^ {6}- alert: (\w+)\n(?:(?! {6}- |\S).*\n|\n)*", re.MULTILINE)


class Alert(NamedTuple):
    """One rule.

    Attributes:
        name: Of the alert.
        text: Its lines of YAML, from ``- alert:`` on.
    """

    name: str
    text: str

    def field(self, name: str) -> str:
        """A field that stands on one line."""
        [value] = re.findall(rf"^ +{name}: (.+)$", self.text, re.MULTILINE)
        return value


def alerts() -> list[Alert]:
    """All rules of the published file."""
    text = RULES.read_text("utf-8")
    return [Alert(found[1], found[0]) for found in _ALERT.finditer(text)]


def recorded() -> dict[str, str]:
    """Expressions that are recorded, by the name of the series."""
    return dict(
        re.findall(
            r"^ {6}- record: (\S+)\n((?: {8}.*\n)+)",
            RULES.read_text("utf-8"),
            re.MULTILINE,
        )
    )


def with_recorded(text: str) -> str:
    """PromQL with the expressions of what it names as recorded."""
    return "\n".join([text, *(e for name, e in recorded().items() if name in text)])


def metrics_in(text: str) -> set[str]:
    """Names of metrics in PromQL, without the suffixes of a histogram's parts."""
    names = re.findall(r"\bshifter_\w+", text)
    return {re.sub(r"_(?:bucket|sum|count)$", "", name) for name in names}


def anchor(heading: str) -> str:
    """The anchor of a heading of one word, on the site and in a repository's page."""
    return heading.lower()
