"""Which Pythons are supported, and where one is found."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from stack import pythons
from stack.errors import Missing

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_versions_that_are_tested_are_those_that_are_declared():
    marks = "\n".join(PROJECT["classifiers"])

    declared = re.findall(r":: Python :: (3\.\d+)$", marks, re.MULTILINE)

    assert declared == [*pythons.VERSIONS]
    assert PROJECT["requires-python"] == f">={pythons.VERSIONS[0]}"
    assert set(pythons.SUITES) <= set(pythons.VERSIONS)


def test_tests_run_on_a_version_that_is_declared():
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in pythons.VERSIONS


def test_interpreter_of_this_version_is_found():
    here = f"{sys.version_info.major}.{sys.version_info.minor}"

    assert pythons.interpreter(here) == Path(sys.executable)
    assert pythons.interpreter("2.6") is None


def test_version_that_cannot_be_had_is_said_in_one_line(monkeypatch, capsys):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(Missing, match=r"no Python 2\.6"):
        pythons.run("2.6", [])

    assert pythons.main(["2.6"]) == 0
    monkeypatch.setenv("CI", "1")
    assert pythons.main(["2.6"]) == 1
    assert capsys.readouterr().out.count("no Python 2.6") == 2
