"""The page of all commands, made of the command itself."""

from __future__ import annotations

import re

from shifter.cli.entry import build
from shifter.cli.verbs import VERBS

_HEAD = """\
# Commands

Every verb with its arguments and options, made of the command itself (`make reference`). \
`shifter VERB --help` shows the same. Exit codes, settings and files: [the command](cli.md).

"""
_GLOBALS = re.compile(r"^\*\*Global options\*\*:\n\n(?:\* .*\n)+\n?", re.MULTILINE)


def page() -> str:
    """The page's text."""
    app = build([verb.words for verb in VERBS])
    text = app.generate_docs(recursive=True, heading_level=2, flatten_commands=True)
    text = re.sub(
        r"## Table of Contents\n.*?(?=^\*\*)", "", text, flags=re.DOTALL | re.MULTILINE
    )
    first = _GLOBALS.search(text)
    text = _GLOBALS.sub("", text)
    if first is not None:
        head, mark, rest = text.partition("\n## ")
        text = f"{head}\n{first[0].rstrip()}\n{mark}{rest}"
    # A usage line is no example to be run.
    return _HEAD + text.replace("```console\n", "```\n").rstrip() + "\n"
