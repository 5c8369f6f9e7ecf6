"""The picture of `shifter top`, and what each key changes."""

from __future__ import annotations

import msgspec
import pytest
from rich.cells import cell_len

from shifter.cli.top.keyboard import keys_of
from shifter.cli.top.screen import Size, lines_for
from shifter.cli.top.state import ORDERS, Action, Choices
from shifter.cli.top.table import Column, Row, crop, lines_of
from shifter.errors import ShifterError
from shifter.fleet.view import BudgetRow, CircuitRow, OverrideRow, QualityRow
from shifter.ops.reading import Reading
from shifter.ops.status import DeadLetterRow, LaneRow, Overview
from shifter.ports import SlowestJob, WorkerReport

HOSTILE = "[red]x\x1b[2J\u202e\ud800日本" + "y" * 300
HAND = OverrideRow("open", HOSTILE, HOSTILE, 60.0)
QUEUES = ("mail", "orders", "reports", "search")
PRIORITIES = ("CRITICAL", "HIGH", "NORMAL", "LOW")


def a_lane(queue: str, priority: str, **facts) -> LaneRow:
    empty = LaneRow(queue, priority, 0, 0, 0, None, 0.0, None)
    return msgspec.structs.replace(empty, **facts)


def an_overview(name: str = "mail", **facts) -> Overview:
    lanes = [
        a_lane(queue, priority)
        for queue in (name, *QUEUES[1:])
        for priority in PRIORITIES
    ]
    late = {"waiting": 1_200, "due": 1_250, "eta_s": 600.0, "rate_per_s": 2.0}
    lanes[2] = a_lane(
        name, "NORMAL", **late, oldest_age_s=90.0, tightest_deadline_s=-12.0
    )
    lanes[6] = a_lane("orders", "NORMAL", waiting=7, oldest_age_s=4_000.0)
    circuits = [
        CircuitRow("backend", "closed", None, 0, None, 2, 0.1, 9, 0, 1, 8, {}, {}),
        CircuitRow(
            name, "open", 3.0, 0, HAND, 2, 0.1, 9, 8, 0, None, {"circuit": 4}, {}
        ),
    ]
    budget = BudgetRow(name, 0.1, 1, 10.0, 2, 0.1, 5.0, 1.0, 14.0, 0, 0)
    workers = [
        WorkerReport(f"{name}-{number}", name, 100 + number, 0, 500, 10, {}, {})
        for number in range(12)
    ]
    found = Overview(
        *(1_000, lanes, [DeadLetterRow(name, 4), DeadLetterRow("orders", 0)]),
        *(circuits, [budget], workers),
        quality=QualityRow("REDUCED", "REDUCED", None, 0.93, 2),
    )
    return msgspec.structs.replace(found, **facts)


def drawn(
    overview: Overview | None,
    choices: Choices | None = None,
    *,
    width: int = 80,
    height: int = 24,
    age_s: float = 0.0,
    **reading: object,
) -> list[str]:
    """The lines of a picture."""
    choices = Choices() if choices is None else choices
    size = Size(width, height)
    found = Reading(overview=overview, **reading)
    lines = lines_for("shop", found, choices, size, age_s)
    return ["".join(span.text for span in line) for line in lines]


def pressed(*keys: str) -> Choices:
    choices = Choices()
    for key in keys:
        choices.press(key)
    return choices


def test_a_reading_that_ends_after_the_pause_is_not_shown():
    choices = Choices()
    before, late, later = Reading(1), Reading(2), Reading(3)

    seen = [choices.shown(before)]
    choices.press("p")
    seen.append(choices.shown(late))
    choices.press("p")
    seen.append(choices.shown(later))

    assert [reading.number for reading in seen] == [1, 1, 3]


def lanes_in(lines: list[str]) -> list[str]:
    """Names of the lanes that are shown, in order."""
    start = next(at for at, line in enumerate(lines) if line.startswith("LANE"))
    rows = lines[start + 1 :]
    return [line.split()[0] for line in rows[: rows.index("")]]


def test_a_picture_has_all_parts_of_the_page():
    lines = drawn(an_overview(), width=120, height=50)
    text = "\n".join(lines)

    assert lines[0].startswith("DEGRADED shop at 00:00:01 UTC")
    assert lines[1].startswith("Are users safe?")
    assert lines[2].startswith("Is deferred work safe?  Some will be late")
    assert lines[3].startswith("When will it be done?")
    [row] = [line.split() for line in lines if line.startswith("mail/normal")]
    assert row[1:4] == ["1,200", "1,250", "0"]
    assert row[5:] == ["1m30s", "2.0/s", "10m0s", "-12.0s", "late"]
    assert "Dependencies 2  quality REDUCED, load 0.93" in text
    assert "Dead letters 4  mail 4" in text
    assert "Workers 12" in text
    assert "mail-11" in text
    assert lines[-1].startswith("q quit  s sort")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 300])
@pytest.mark.parametrize("height", [1, 5, 10, 24, 60])
@pytest.mark.parametrize("name", ["mail", HOSTILE])
def test_a_picture_fits_every_terminal_and_moves_no_cursor(width, height, name):
    away = {"error": ValueError(HOSTILE), "notes": (HOSTILE,)}
    for choices in (Choices(), pressed("?"), pressed("/", *HOSTILE)):
        lines = drawn(an_overview(name), choices, width=width, height=height, **away)

        assert len(lines) == height
        assert max(map(cell_len, lines)) <= width
        assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_keeps_names_and_the_important_columns(width):
    lines = drawn(an_overview(), width=width)
    [heading] = [line.split() for line in lines if line.startswith("LANE")]
    [late] = [line.split() for line in lines if line.startswith("mail/normal")]

    assert set(heading) >= {"WAITING", "OLDEST", "ETA", "DEADLINE"}
    assert ("RATE" in heading) is (width == 80)
    assert (late[0], late[-1]) == ("mail/normal", "late")


def test_a_name_is_shown_as_it_is():
    [line] = [
        line for line in drawn(an_overview(HOSTILE), width=200) if "late" in line
    ][1:2]

    assert line.startswith("[red]x\\x1b[2J\\u202e\\ud800日本yyy")


def test_each_section_has_rows_on_a_small_terminal():
    text = "\n".join(drawn(an_overview()))

    assert "Lanes 16, 1 to 4 shown" in text
    assert "backend" in text
    assert "Workers 12, 1 to 3 shown" in text


def test_without_the_state_store_the_lanes_are_shown():
    lanes = [a_lane("mail", "LOW", waiting=3, running=None, rate_per_s=None)]
    away = Overview(1_000, lanes, [], [], [], [])

    text = "\n".join(drawn(away, notes=("workers are not shown: redis is away",)))

    assert text.startswith("SHIFTING")
    assert "workers are not shown: redis is away" in text
    assert "mail/low" in text
    assert "Dependencies 0  not known: the state store is away" in text


def test_without_the_log_the_last_state_stays_with_its_age():
    lines = drawn(
        an_overview(), age_s=64.0, error=ShifterError("kafka did not answer topics")
    )

    assert "00:00:01 UTC, 1m4s old" in lines[0]
    assert (
        lines[4] == "The log is away; nothing is renewed: kafka did not answer topics"
    )
    assert "mail/normal" in "\n".join(lines)


def test_before_the_first_reading_nothing_is_claimed():
    assert "Reading ..." in drawn(None)
    assert "Nothing could be read yet." in drawn(None, error=ShifterError("away"))


def test_without_lanes_the_picture_names_the_command_that_makes_them():
    text = "\n".join(drawn(an_overview(lanes=[])))

    assert "Lanes 0  There are none: shifter topics apply" in text


def test_lanes_that_need_attention_come_first():
    assert lanes_in(drawn(an_overview()))[:2] == ["mail/normal", "orders/normal"]


def test_keys_choose_the_order():
    choices, seen = Choices(), []
    for _ in ORDERS:
        choices.press("s")
        lines = drawn(an_overview(), choices)
        title = next(line for line in lines if line.startswith("Lanes"))
        seen.append((title.rpartition("by ")[2], lanes_in(lines)[0]))

    assert dict(seen) == {
        "name": "mail/critical",
        "waiting": "mail/normal",
        "due": "mail/normal",
        "oldest": "orders/normal",
        "rate": "mail/normal",
        "eta": "mail/normal",
        "deadline": "mail/normal",
        "attention": "mail/normal",
    }
    choices.press("S")
    assert ORDERS[choices.order].name == "deadline"
    choices.press("r")
    reverse = lanes_in(drawn(an_overview(), choices))
    assert reverse[0] != "mail/normal"


def test_a_filter_is_typed_kept_and_removed():
    choices = pressed("/", "O", "R", "q", "backspace", "d")
    lines = drawn(an_overview(), choices)
    assert lines[-1].startswith("filter: ORd_")
    assert lanes_in(lines)[0] == "orders/normal"
    assert "Lanes 4 of 16" in "\n".join(lines)

    choices.press("enter")
    assert drawn(an_overview(), choices)[-1].startswith("filter ORd  q quit")
    choices.press("escape")
    assert "Lanes 16" in "\n".join(drawn(an_overview(), choices))


def test_a_filter_holds_for_every_section():
    text = "\n".join(drawn(an_overview(), pressed("/", *"backend", "enter")))

    assert "Lanes 0 of 16" in text
    assert "Dependencies 1" in text
    assert "Dead letters 0" in text
    assert "Workers 0" in text


def test_scrolling_ends_at_the_last_lane():
    choices = Choices()
    every = lanes_in(drawn(an_overview(), choices, height=80))
    shown = lanes_in(drawn(an_overview(), choices))

    choices.press("j")
    assert lanes_in(drawn(an_overview(), choices)) == every[1 : len(shown) + 1]
    choices.press("pagedown")
    choices.press("end")
    assert lanes_in(drawn(an_overview(), choices)) == every[-len(shown) :]
    choices.press("up")
    assert lanes_in(drawn(an_overview(), choices))[0] == every[-len(shown) - 1]
    choices.press("home")
    assert lanes_in(drawn(an_overview(), choices)) == shown


@pytest.mark.parametrize("key", ["p", " "])
def test_a_pause_is_shown_until_it_ends(key):
    choices = Choices()

    assert choices.press(key) is Action.PAUSE
    assert "PAUSED" in drawn(an_overview(), choices)[0]
    assert choices.press(key) is Action.PAUSE
    assert "PAUSED" not in drawn(an_overview(), choices)[0]


def test_help_explains_every_key_on_sixty_columns():
    choices = pressed("?")
    lines = drawn(an_overview(), choices, width=60)

    explained = {line.split()[0] for line in lines[6:13]}
    assert explained == {"q", "s", "r", "/", "p", "?", "j"}
    assert not any(line.endswith("~") for line in lines[5:])
    assert choices.press("x") is Action.NONE
    assert lanes_in(drawn(an_overview(), choices))


def test_q_quits_but_not_while_a_filter_is_typed():
    assert pressed("/").press("q") is Action.NONE
    assert Choices().press("q") is Action.QUIT
    assert pressed("h").press("q") is Action.QUIT
    assert Choices().press("é") is Action.NONE


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("\x1b[A\x1bOBjk", ["up", "down", "j", "k"]),
        ("\x1b[1~\x1b[4~\x1b[H\x1b[F", ["home", "end", "home", "end"]),
        ("\r\n\x7f\b\x1b", ["enter", "enter", "backspace", "backspace", "escape"]),
        ("\x1b[<0;1;1M\x01\x00q", ["q"]),
        ("日", ["日"]),
    ],
)
def test_keys_of_a_terminal_have_names(text, keys):
    assert keys_of(text) == keys


COLUMNS = (Column("NAME", 0, is_name=True), Column("A", 1), Column("B", 2))


def table(width: int, *rows: tuple[object, ...]) -> list[str]:
    lines = lines_of(COLUMNS, [Row(row) for row in rows], width)
    return ["".join(span.text for span in line) for line in lines]


def test_names_become_shorter_before_columns_go():
    row = ("n" * 30, 12_345, None)

    assert table(60, row)[1] == f"{'n' * 30}  12345  -"
    assert table(30, row)[1] == f"{'n' * 19}~  12345  -"
    assert table(24, row)[1] == f"{'n' * 16}~  12345"
    assert table(10, row)[1] == "n" * 9 + "~"


def test_a_wide_character_is_never_cut_in_two():
    line = table(40, ("日本語" * 10, 1, 2))[1]

    assert cell_len(line) <= 40
    assert "日本語" in line
    assert crop([], 0) == []


def test_a_worker_has_its_state_its_slowest_job_and_its_version():
    report = WorkerReport(
        *("w1", "host", 7, 0, 500, 10, {}, {}),
        version="0.5.0",
        app_version="2026.11.3",
        slowest=SlowestJob("j1", "send\x1b[2J", 61.0),
        progress_ms=1,
        is_draining=True,
    )

    lines = drawn(an_overview(workers=[report]), width=200, height=60)

    [line] = [line for line in lines if line.startswith("w1")]
    assert "draining" in line
    assert "send\\x1b[2J for 1m1s, j1" in line
    assert "0.5.0, app 2026.11.3" in line
