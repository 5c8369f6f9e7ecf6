"""What can go wrong with a server: it cannot be had, or it does not behave."""

from __future__ import annotations


class StackError(RuntimeError):
    """A server that should run does not, or is not ours. The text is for a person."""


class Missing(StackError):
    """A server cannot be had here; the message says why, in one line."""
