"""Asks for confirmation before a step that cannot be undone; names the operator."""

from __future__ import annotations

import getpass
import os
import socket
import sys

from shifter.cli.output import is_terminal, note
from shifter.cli.problem import Exit, Problem, ProblemError, usage


def consent(question: str, *, yes: bool) -> None:
    """Return if the operator confirms.

    Args:
        question: What is going to be done.
        yes: Whether the command line confirms it already.

    Raises:
        ProblemError: There is no terminal to ask on, or the answer was not yes.
    """
    if yes:
        return
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        fix = "look with --dry-run first, then add --yes"
        raise usage(
            "the command is not confirmed", "there is no terminal to ask on", fix
        )
    note(f"{question}. Type yes to go on:")
    if sys.stdin.readline().strip() != "yes":
        why = "the answer was not yes"
        raise ProblemError(
            Problem("declined", "nothing was done", why, "run it again", Exit.FAILURE)
        )


def who() -> str:
    """The operator: user and host name of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
