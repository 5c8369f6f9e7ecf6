"""Asks before something is done that cannot be undone, and says who asked for it."""

from __future__ import annotations

import getpass
import os
import socket
import sys

from shifter.cli.output import is_terminal, note
from shifter.cli.problem import Exit, Problem, ProblemError, usage


def consent(question: str, *, yes: bool) -> None:
    """Return if somebody says yes.

    Args:
        question: What is going to be done.
        yes: Whether it was said on the command line.

    Raises:
        ProblemError: Nobody can be asked, or the answer was another one.
    """
    if yes:
        return
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        fix = "look with --dry-run first, then add --yes"
        raise usage("nobody said yes", "there is no terminal to ask on", fix)
    note(f"{question}. Type yes to go on:")
    if sys.stdin.readline().strip() != "yes":
        why = "the answer was not yes"
        raise ProblemError(
            Problem("declined", "nothing was done", why, "run it again", Exit.FAILURE)
        )


def who() -> str:
    """The person at this terminal, as far as the machine knows."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
