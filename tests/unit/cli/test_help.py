"""`--help` of every verb explains it, gives one example, and lists its exit codes."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
from dataclasses import fields, is_dataclass

import pytest

from shifter.cli.entry import build
from shifter.cli.problem import Exit
from shifter.cli.verbs import VERBS

TABLE = {verb.words: verb for verb in VERBS}
EVERY = {
    *(Exit.OK, Exit.FAILURE, Exit.USAGE, Exit.SOFTWARE, Exit.OUTPUT),
    *(Exit.INTERRUPTED, Exit.BROKEN_PIPE),
}


def function_of(verb):
    module, _, name = verb.path.partition(":")
    return getattr(importlib.import_module(f"shifter.cli.{module}"), name)


@pytest.mark.parametrize("words", TABLE, ids=" ".join)
def test_help_of_a_verb_has_its_summary_an_example_and_its_exit_codes(
    world, monkeypatch, words
):
    monkeypatch.setenv("COLUMNS", "200")

    out = world.run(*words, "--help").out

    assert TABLE[words].summary in out
    assert f"Example: shifter {' '.join(words)}" in out
    codes = {int(code) for code in re.findall(r"(\d+) ", out.split("Exit codes: ")[1])}
    assert codes == EVERY | set(TABLE[words].codes)


@pytest.mark.parametrize("words", TABLE, ids=" ".join)
def test_summary_of_a_verb_is_the_first_line_of_its_function(words):
    doc = inspect.getdoc(function_of(TABLE[words]))

    assert doc.splitlines()[0] == TABLE[words].summary


@pytest.mark.parametrize("words", TABLE, ids=" ".join)
def test_example_of_a_verb_is_a_command_line_that_it_accepts(words):
    doc = inspect.getdoc(function_of(TABLE[words]))
    [line] = re.findall(r"^Example: shifter (.*)$", doc, re.MULTILINE)

    app = build().meta
    # The launcher takes the global options out; the verb binds what is left.
    _, bound, _ = app.parse_args(shlex.split(line), exit_on_error=False)
    verb, _, ignored = build().parse_args(bound.args, exit_on_error=False)

    assert verb is function_of(TABLE[words])
    assert set(ignored) <= {"session"}


def options_of(verb) -> list[tuple[str, list[str]]]:
    """Docstrings that describe options, each with the options that it must describe."""
    function = function_of(verb)
    given = inspect.signature(function, eval_str=True).parameters
    shared = [
        (inspect.getdoc(each.annotation), [f.name for f in fields(each.annotation)])
        for each in given.values()
        if is_dataclass(each.annotation)
    ]
    return [(inspect.getdoc(function), list(given)), *shared]


@pytest.mark.parametrize("words", TABLE, ids=" ".join)
def test_every_option_of_a_verb_is_described_by_a_sentence(words):
    for doc, given in options_of(TABLE[words]):
        described = re.findall(
            r"^    (\w+): (.+)", re.split("Args:|Attributes:", doc)[-1], re.MULTILINE
        )

        assert [name for name, _ in described] == given
        assert [text for _, text in described if text.startswith("Whose")] == []


def test_help_of_one_verb_imports_no_other(world, monkeypatch):
    asked = []
    real = importlib.import_module

    def noted(name, *rest):
        asked.append(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", noted)

    world.run("topics", "plan", "--help")

    assert {name for name in asked if name.startswith("shifter.cli.")} == {
        "shifter.cli.deployment"
    }
