"""Scripts and keys: what is asked for is heard, and the terminal is left as it was."""

from __future__ import annotations

import asyncio
import os
import pty
import termios

import pytest

from shifter.demo.controls import KEYS, Cue, Ending, parse_script
from shifter.demo.keys import pressed_keys
from shifter.errors import ConfigError


def test_a_script_is_read_as_written():
    assert parse_script("5:break, 8.5:heal,") == [Cue(5.0, "break"), Cue(8.5, "heal")]
    assert parse_script("") == []


@pytest.mark.parametrize(
    "text", ["break", "5:", "x:break", "-1:break", "5:brake", "1e9:kill", "5;break"]
)
def test_a_script_that_cannot_be_read_is_refused_at_once(text):
    with pytest.raises(ConfigError) as raised:
        parse_script(text)

    assert "--script" in str(raised.value)


def test_asking_to_end_twice_means_not_to_wait():
    ending = Ending()

    ending.quit()
    assert (ending.ending.is_set(), ending.leaving.is_set()) == (True, False)
    ending.quit()
    assert ending.leaving.is_set()
    assert not ending.is_interrupted


def test_an_interrupt_ends_the_play_and_the_waiting():
    ending = Ending()

    ending.interrupt()

    assert ending.ending.is_set()
    assert ending.leaving.is_set()
    assert ending.is_interrupted


@pytest.fixture
def terminal(monkeypatch):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield ours, theirs
        monkeypatch.undo()
    os.close(ours)


async def test_keys_are_heard_and_others_ignored(terminal):
    ours, _ = terminal
    heard = asyncio.Queue()

    with pressed_keys(heard.put_nowait):
        os.write(ours, b"bx\x1b[AHpkq")
        actions = [await heard.get() for _ in KEYS]

    assert actions == ["break", "heal", "poison", "kill", "quit"]


async def test_the_terminal_is_left_as_it_was(terminal):
    _, theirs = terminal
    before = termios.tcgetattr(theirs)

    with pytest.raises(RuntimeError), pressed_keys(print):
        assert termios.tcgetattr(theirs) != before
        raise RuntimeError

    assert termios.tcgetattr(theirs) == before
