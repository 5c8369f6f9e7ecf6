"""Reads single keys of a terminal, and restores its settings."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Generator

from shifter.demo.controls import KEYS


@contextlib.contextmanager
def pressed_keys(press: Callable[[str], None]) -> Generator[None]:
    """Hand over the action of every key pressed while the block runs.

    Ctrl-C stays a signal. Keys without an action are ignored. The terminal's settings
    are restored on every way out.
    """
    source = sys.stdin.fileno()
    before = termios.tcgetattr(source)
    loop = asyncio.get_running_loop()

    def on_key() -> None:
        pressed = os.read(source, 64)
        if not pressed:
            # The terminal is gone: it would be readable for ever.
            loop.remove_reader(source)
        for key in pressed.decode("ascii", "ignore").lower():
            if key in KEYS:
                press(KEYS[key])

    tty.setcbreak(source)
    loop.add_reader(source, on_key)
    try:
        yield
    finally:
        loop.remove_reader(source)
        # TCSADRAIN would wait for the output of a terminal that is stopped.
        termios.tcsetattr(source, termios.TCSANOW, before)
