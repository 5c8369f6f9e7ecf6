"""Each sentence of the pages in `claims/` has a test, or a command that measures it.

A file of `claims/` names its page and sorts its sentences into three lists: ``tested``
by tests that `make test` or `make torture-all` runs, ``measured`` by a command, and
``plain``, which claims nothing. A sentence that is in none of them fails: it is given a
test, or it goes. What is listed stands in the page, and what it names exists.

Rows of a table that has a column ``shown by`` name what shows them themselves: a file
of tests, a checker (C1), or a scenario of the torture harness (F01, R01).
"""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from typing import Any, NamedTuple

import pytest

from shifter.adapters.kafka.config import KafkaConfig
from shifter.errors import ConfigError
from tests.documents.blocks import ROOT

_WRAPPED = re.compile(r"\n  (?=[^\s-])")
_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`*\[])")
_SHOWN_BY = "shown by"
_EVIDENCE = re.compile(r"`(tests/[\w./-]+)`|\b([CFR]\d+m?)\b")
_TABLE_HEAD = re.compile(r"^\|[^\n]*\|\n(?=\|[-|]+\|$)", re.MULTILINE)


class Claims(NamedTuple):
    """A page, and what its file in `claims/` says of it."""

    page: str
    text: str
    lists: dict[str, Any]

    @property
    def listed(self) -> list[str]:
        return [*self.lists["plain"], *self.lists["tested"], *self.lists["measured"]]

    def shown(self) -> dict[str, str]:
        """Table rows that say what shows them, and what that is."""
        found: dict[str, str] = {}
        at = None
        for line in self.text.splitlines():
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not cells:
                at = None
            elif _SHOWN_BY in cells:
                at = cells.index(_SHOWN_BY)
            elif at is not None and set(line) - set("|- "):
                found[line] = cells[at]
        return found

    def sentences(self) -> list[str]:
        """Sentences and table rows, without headings, blocks and table heads."""
        text = "\n".join(
            line for line in self.text.splitlines() if line not in self.shown()
        )
        text = _TABLE_HEAD.sub("", text + "\n")
        lines = [
            re.sub(r"^\s*(?:- |\d+\. )", "", line)
            for line in text.splitlines()
            if line.strip() and not line.startswith(("#", "|---", "<!--"))
        ]
        return [
            part.strip()
            for line in lines
            for part in ([line] if line.startswith("|") else _SENTENCE.split(line))
        ]


def read(name: str) -> Claims:
    path = ROOT / "tests" / "documents" / "claims" / name
    lists = tomllib.loads(path.read_text("utf-8"))
    text = (ROOT / lists["page"]).read_text("utf-8")
    text = _WRAPPED.sub(" ", _BLOCK.sub("", text))
    return Claims(lists["page"], text, lists)


ALL = [
    read(path.name) for path in sorted((ROOT / "tests/documents/claims").glob("*.toml"))
]
SENTENCES = [(claims, text) for claims in ALL for text in claims.sentences()]
ROWS = [(claims, row) for claims in ALL for row in claims.shown()]
PIECES = [(claims, text) for claims in ALL for text in claims.listed]
TESTED = [(claims, text) for claims in ALL for text in claims.lists["tested"]]
MEASURED = [(claims, text) for claims in ALL for text in claims.lists["measured"]]


def label(value: Claims | str) -> str:
    return value[:60] if isinstance(value, str) else value.page


@cache
def named(file: str) -> set[str]:
    """Tests of a file, those in classes included."""
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


@pytest.mark.parametrize(("claims", "sentence"), SENTENCES, ids=label)
def test_sentence_of_a_page_is_tested_measured_or_plain(claims, sentence):
    assert [piece for piece in claims.listed if piece in sentence] != [], sentence


@pytest.mark.parametrize(("claims", "piece"), PIECES, ids=label)
def test_piece_that_is_listed_stands_in_the_page(claims, piece):
    assert piece in claims.text


@pytest.mark.parametrize(("claims", "piece"), TESTED, ids=label)
def test_tests_of_a_piece_exist(claims, piece):
    assert claims.lists["tested"][piece] != []
    for test in claims.lists["tested"][piece]:
        file, _, name = test.partition("::")
        assert (ROOT / file).is_file(), test
        assert not name or name in named(file), test


@pytest.mark.parametrize(("claims", "piece"), MEASURED, ids=label)
def test_command_that_measures_a_piece_exists(claims, piece):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    command = claims.lists["measured"][piece]

    if match := re.match(r"make ([a-z-]+)", command):
        assert f"\n{match[1]}:" in makefile
        return
    module = re.match(r"python -m ([\w.]+)", command)
    assert module is not None, command
    path = ROOT / module[1].replace(".", "/")
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()


@cache
def torture() -> str:
    """The source of all that breaks and checks whole fleets."""
    folders = ("tests/torture", "tests/acceptance")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    return "\n".join(file.read_text("utf-8") for file in files)


@pytest.mark.parametrize(("claims", "row"), ROWS, ids=label)
def test_row_of_a_table_is_shown_by_tests_that_exist(claims, row):
    evidence = _EVIDENCE.findall(claims.shown()[row])

    assert evidence != []
    for file, code in evidence:
        if file:
            assert (ROOT / file).exists(), file
        else:
            assert re.search(rf"\b{code}\b", torture()), code


def test_row_that_names_nothing_would_be_seen():
    page = "| promise | shown by |\n|---|---|\n| **A** | F01 |\n| **B** | us |\n"
    shown = Claims("x", page, {}).shown()

    assert [_EVIDENCE.findall(cell) != [] for cell in shown.values()] == [True, False]


def test_the_promises_and_the_first_page_are_among_the_pages():
    pages = {claims.page for claims in ALL}

    assert {"README.md", "CHANGELOG.md", "docs/reference/guarantees.md"} <= pages


def test_kafka_producer_is_idempotent_and_no_setting_lowers_its_acks():
    """librdkafka: an idempotent producer has acks=all, and refuses another value."""
    config = KafkaConfig("localhost:9092").producer_config()

    assert config["enable.idempotence"] is True
    assert config.get("acks", "all") == "all"
    for name in ("acks", "enable.idempotence", "request.required.acks"):
        with pytest.raises(ConfigError):
            KafkaConfig("localhost:9092", {name: "1"})
