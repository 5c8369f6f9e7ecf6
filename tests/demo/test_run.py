"""Scripts, and how a run is cut short."""

from __future__ import annotations

import pytest

from shifter.demo.run import Cue, Ending, parse_script
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
