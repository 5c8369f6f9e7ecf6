"""Each sentence of the README has a test, or a command that measures it.

`claims.toml` says which. A sentence that is in none of its lists fails: it is given a
test, or it goes. What is listed stands in the page, and what it names exists.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from shifter.adapters.kafka.url import KafkaConfig
from shifter.errors import ConfigError

ROOT = Path(__file__).parents[2]
PAGE = re.sub(
    r"^```.*?^```$",
    "",
    (ROOT / "README.md").read_text("utf-8"),
    flags=re.MULTILINE | re.DOTALL,
)
LISTS = tomllib.loads((Path(__file__).parent / "claims.toml").read_text("utf-8"))
SAID = [*LISTS["plain"], *LISTS["tested"], *LISTS["measured"]]


def sentences() -> list[str]:
    """Sentences and table rows of the page, without headings and blocks."""
    lines = [
        line
        for line in PAGE.splitlines()
        if line.strip() and not line.startswith(("#", "|---", "| promise"))
    ]
    return [
        part.strip()
        for line in lines
        for part in (
            [line]
            if line.startswith("|")
            else re.split(r"(?<=[.!?])\s+(?=[A-Z`*\[])", line)
        )
    ]


def named(file: str) -> set[str]:
    """Tests of a file, those in classes included."""
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


@pytest.mark.parametrize("sentence", sentences(), ids=lambda text: text[:60])
def test_sentence_of_the_readme_is_tested_measured_or_plain(sentence):
    assert [piece for piece in SAID if piece in sentence] != []


@pytest.mark.parametrize("piece", SAID, ids=lambda text: text[:60])
def test_piece_that_is_listed_stands_in_the_page(piece):
    assert piece in PAGE


@pytest.mark.parametrize("piece", LISTS["tested"], ids=lambda text: text[:60])
def test_tests_of_a_piece_exist(piece):
    for test in LISTS["tested"][piece]:
        file, _, name = test.partition("::")
        assert name in named(file), test


@pytest.mark.parametrize("piece", LISTS["measured"], ids=lambda text: text[:60])
def test_command_that_measures_a_piece_exists(piece):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    [target] = re.findall(r"^make ([a-z-]+)", LISTS["measured"][piece])

    assert f"\n{target}:" in makefile


def test_kafka_producer_is_idempotent_and_no_setting_lowers_its_acks():
    """librdkafka: an idempotent producer has acks=all, and refuses another value."""
    config = KafkaConfig("localhost:9092").producer_config()

    assert config["enable.idempotence"] is True
    assert config.get("acks", "all") == "all"
    for name in ("acks", "enable.idempotence", "request.required.acks"):
        with pytest.raises(ConfigError):
            KafkaConfig("localhost:9092", {name: "1"})
