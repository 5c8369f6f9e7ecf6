"""How far a scan is: a bar for eyes, lines for a log, nothing for what is quick."""

from __future__ import annotations

import gc
import io

import pytest

from shifter.cli.progress import scan_progress
from shifter.deadletter.reader import ScanProgress


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def play(monkeypatch, stream, *instants: float) -> str:
    monkeypatch.setattr("sys.stderr", stream)
    clock = Clock()
    with scan_progress("reading", clock) as bar:
        for count, instant in enumerate(instants, 1):
            clock.now = 100.0 + instant
            bar(ScanProgress(count * 10, 100, {"sent": count}))
    return stream.getvalue()


def test_what_ends_within_a_second_shows_nothing(monkeypatch):
    assert play(monkeypatch, io.StringIO(), 0.1, 0.9) == ""
    assert play(monkeypatch, Terminal(), 0.1, 0.9) == ""


def test_a_log_gets_a_line_every_five_seconds(monkeypatch):
    lines = play(monkeypatch, io.StringIO(), 0.5, 1.5, 2.0, 6.0, 6.6, 7.0).splitlines()

    assert lines == [
        "reading: 20 of 100, 2 sent",
        "reading: 50 of 100, 5 sent",
    ]


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")

    shown = play(monkeypatch, Terminal(), 1.5, 3.0)

    assert "reading" in shown
    assert "20/100" in shown


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_the_collector_is_as_before_at_the_end(monkeypatch, error):
    before = gc.get_threshold()
    monkeypatch.setattr("sys.stderr", io.StringIO())

    try:
        with scan_progress("reading", Clock()):
            assert gc.get_threshold() != before
            if error is not None:
                raise error
    except RuntimeError:
        pass

    assert gc.get_threshold() == before
