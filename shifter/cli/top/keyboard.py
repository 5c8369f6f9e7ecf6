"""Keys of a terminal, one by one, without waiting for Enter.

A terminal in cbreak mode gives each character at once and shows none; Ctrl-C and Ctrl-Z
keep their meaning. The mode is the terminal's and outlives the process, so it must be
put back on every way out.

Source: termios(3), and the sequences of xterm and VT220 for keys without a character.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import termios
import tty
from collections.abc import Generator
from typing import Final

_NAMES: Final = {
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "pageup",
    "\x1b[6~": "pagedown",
    "\x1b[H": "home",
    "\x1bOH": "home",
    "\x1b[1~": "home",
    "\x1b[F": "end",
    "\x1bOF": "end",
    "\x1b[4~": "end",
}
# A sequence of a key, whole; else one character. An escape alone is the key itself.
_TOKEN: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO.|.", re.DOTALL)
_BYTES: Final = 1_024


class Keyboard:
    """Reads the keys that were pressed on a terminal.

    Args:
        descriptor: Of the terminal.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @contextlib.contextmanager
    def listening(self) -> Generator[None]:
        """Give keys one by one while the block runs; then put the mode back."""
        before = termios.tcgetattr(self.descriptor)
        try:
            tty.setcbreak(self.descriptor, termios.TCSADRAIN)
            yield
        finally:
            # A terminal that is gone has no mode to be put back.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self.descriptor, termios.TCSADRAIN, before)

    def read(self) -> list[str] | None:
        """The keys that were pressed; ``None`` once the terminal is gone.

        Blocks until there is one. A key is its character, or one of ``up``, ``down``,
        ``pageup``, ``pagedown``, ``home``, ``end``, ``enter``, ``escape`` and
        ``backspace``; other keys are passed over.
        """
        try:
            raw = os.read(self.descriptor, _BYTES)
        except OSError:
            return None
        return keys_of(self._decoder.decode(raw)) if raw else None


def keys_of(text: str) -> list[str]:
    r"""The names of the keys that a terminal's text stands for.

    >>> keys_of("s\x1b[Aä\x1b[5~\x7f")
    ['s', 'up', 'ä', 'pageup', 'backspace']
    >>> keys_of("\x1b"), keys_of("\x1b[200~\x01")
    (['escape'], [])
    """
    found = [_NAMES.get(token, token) for token in _TOKEN.findall(text)]
    return [key for key in found if key.isprintable()]
