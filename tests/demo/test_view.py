"""The picture of a run, drawn to text, and the keys of the terminal that shows it."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import termios

import pytest
from hypothesis import given, strategies as st
from rich.console import Console

from shifter.demo.run import KEYS
from shifter.demo.view import picture, pressed_keys
from shifter.demo.watch import Frame, Phase, PriorityFrame
from shifter.model.lane import Priority
from shifter.ops.sparkline import condense, meter, sparkline

MANY = tuple(range(60))


def frame(**changes):
    rows = tuple(
        PriorityFrame(p, 12_345, 12_000, 345, 99.9, 4, MANY, MANY[::-1])
        for p in Priority
    )
    events = tuple((float(n), f"event {n}") for n in range(30))
    usual = Frame(
        phase=Phase.PLAYING,
        elapsed_s=30.0,
        length_s=60.0,
        speed=10.0,
        rows=rows,
        is_down=False,
        running=14,
        slots=20,
        workers=(1_234_567, 1_234_568),
        dead_letters=16,
        events=events,
    )
    return usual._replace(**changes)


def drawn(shown, *, width=80, height=24, **options):
    """The picture as lines of text, as a terminal of that size would show it."""
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, **options
    )
    ascii_only = console.options.ascii_only
    with console.capture() as capture:
        console.print(picture(shown, width=width, ascii_only=ascii_only), end="")
    return capture.get().removesuffix("\n").split("\n")


def plain(shown, **options):
    return drawn(shown, color_system=None, **options)


def test_everything_is_seen_on_a_terminal_of_80_by_24():
    lines = plain(frame())

    text = "\n".join(lines)
    assert len(lines) == 24
    assert max(map(len, lines)) <= 80
    for word in ("CRITICAL", "HIGH", "NORMAL", "LOW", "OFFERED", "OLDEST", "DEAD"):
        assert word in text
    assert text.count(" 12345    12000      345   99.9 s        4 ") == 4
    assert text.count("99.9 s") == 4
    assert "14/20 slots busy" in text
    assert "2 of 2 alive pid 1234567 pid 1234568" in text
    assert "dead-letter topic  16" in text
    assert "…" not in text


@pytest.mark.parametrize("size", [(80, 24), (80, 18), (200, 60), (80, 8)])
def test_the_keys_are_always_the_last_line(size):
    width, height = size

    last = plain(frame(), width=width, height=height)[-1]

    for key in ("b", "h", "p", "k", "q"):
        assert f" {key} " in last
    assert "kill -9 a worker" in last


def test_the_newest_event_is_the_first_one_shown():
    shown = [line for line in plain(frame()) if "event" in line]

    assert shown[0].strip() == "29.0 s  event 29"
    assert len(shown) >= 5


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"is_down": True, "running": 0}, "DOWN"),
        ({"is_down": False, "running": 19}, "UP"),
        ({"is_down": False, "running": 20}, "BUSY"),
        ({"is_down": None}, "backend  -"),
    ],
)
def test_the_backend_is_up_busy_or_down(changes, word):
    [line] = [line for line in plain(frame(**changes)) if line.startswith("backend")]

    assert word in line


def test_a_missing_worker_is_counted():
    text = "\n".join(plain(frame(workers=(7,))))

    assert "1 of 2 alive pid 7" in text


def test_before_anything_has_started_it_shows_what_it_waits_for():
    empty = tuple(PriorityFrame(p, 0, 0, 0, None, 0, (0,), (0,)) for p in Priority)
    shown = frame(phase=Phase.STARTING, rows=empty, events=(), workers=(), slots=0)

    text = "\n".join(plain(shown))

    assert "starting the backend and two worker processes" in text


def test_no_colour_is_used_where_none_is_wanted(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    colours = ("\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[36m", ";5;")

    without = "".join(drawn(frame(is_down=True), color_system="256"))
    monkeypatch.delenv("NO_COLOR")
    with_them = "".join(drawn(frame(is_down=True), color_system="256"))

    assert not any(colour in without for colour in colours)
    assert any(colour in with_them for colour in colours)


def test_a_terminal_of_ascii_only_gets_ascii_only():
    console = Console(file=io.StringIO(), width=80, height=24, color_system=None)

    with console.capture() as capture:
        console.print(picture(frame(), width=80, ascii_only=True))

    assert capture.get().isascii()


@given(
    st.lists(st.integers(0, 500), max_size=200),
    st.integers(1, 120),
    st.integers(1, 400),
    st.booleans(),
)
def test_a_sparkline_shows_every_value_that_is_not_zero(values, width, most, plain_):
    line = sparkline(values, width, most=most, ascii_only=plain_)

    shown = values[-width:]
    assert len(line) == len(shown)
    assert [mark == " " for mark in line] == [value == 0 for value in shown]


@given(
    st.lists(st.integers(0, 500), max_size=200), st.integers(1, 60), st.integers(1, 90)
)
def test_the_whole_run_fits_its_columns_and_nothing_vanishes(values, width, length):
    columns = condense(values, width, length=length)

    assert len(columns) <= width
    assert any(columns) == any(values)
    assert max(columns, default=0) <= max(values, default=0)


@given(st.integers(1, 60), st.integers(1, 90))
def test_a_column_keeps_its_seconds_while_a_run_goes_on(width, length):
    values = list(range(length))

    whole = condense(values, width, length=length)

    for count in range(length):
        # All but the last column, which is still filling.
        so_far = condense(values[:count], width, length=length)[:-1]
        assert whole[: len(so_far)] == so_far


@given(st.floats(-1, 2), st.integers(1, 200), st.booleans())
def test_a_meter_is_as_wide_as_asked(share, width, plain_):
    assert len(meter(share, width, ascii_only=plain_)) == width


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
