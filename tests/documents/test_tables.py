"""The tables of the pages say what the code does."""

from __future__ import annotations

import re

import pytest

from shifter.cli.problem import Exit
from shifter.config import Settings
from shifter.config.settings import OPTIONS
from tests.documents.blocks import ROOT


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the table of a page whose first heading is this."""
    lines = iter((ROOT / page).read_text("utf-8").splitlines())
    for line in lines:
        if line.startswith(f"| {heading} |"):
            next(lines)
            break
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


def test_every_exit_code_is_in_the_table_and_no_other():
    told = {
        (int(code), name) for code, name, _ in rows("docs/reference/cli.md", "code")
    }

    assert told == {(int(code), code.name) for code in Exit}


def test_every_setting_is_in_the_table_with_its_default():
    told = {
        name.strip("`"): default
        for name, default, _ in rows("docs/reference/cli.md", "setting")
    }
    plain = Settings(namespace="shop")

    defaults = {"namespace": ""}
    for option in OPTIONS:
        shown = option.show(getattr(plain, option.field))
        defaults[option.name] = "" if shown in (None, "None") else str(shown)
    assert told == defaults


@pytest.mark.parametrize("name", ["RELAY_ALLOW_HOSTS", "RELAY_PORTS", "RELAY_PER_HOST"])
def test_settings_of_the_relay_are_in_its_table(name):
    told = [row[0].strip("`") for row in rows("workers/README.md", "environment")]
    sources = ("http_target.py", "http_upstreams.py")
    source = "".join((ROOT / "workers" / one).read_text("utf-8") for one in sources)

    read = set(re.findall(r'"(RELAY_[A-Z_]+)"', source))
    assert {cell.partition("=")[0] for cell in told} == read | {"SSL_CERT_FILE"}
    assert name in read
